//! Which objects belong to which, so that what belongs to nobody any more is collected.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::cluster::object::Object;
use crate::cluster::path::{Key, Resource};

/// The owners of objects by uid.
#[derive(Debug, Default)]
pub struct Ownership {
    owned: BTreeMap<String, BTreeSet<(Resource, Key)>>,
    departed: HashSet<String>,
}

impl Ownership {
    /// An object has changed, come (`before` is `None`) or gone (`after` is `None`).
    pub fn changed(&mut self, resource: &Resource, before: Option<&Object>, after: Option<&Object>) {
        let places = |object: &Object| (resource.clone(), object.key());
        for (object, owner) in
            before.iter().flat_map(|object| object.owners().map(move |owner| (object, owner)))
        {
            if let Some(set) = self.owned.get_mut(owner) {
                set.remove(&places(object));
            }
        }
        for (object, owner) in
            after.iter().flat_map(|object| object.owners().map(move |owner| (object, owner)))
        {
            self.owned.entry(owner.to_owned()).or_default().insert(places(object));
        }
    }

    /// An object is gone for good; what it owned.
    pub fn departed(&mut self, uid: &str) -> BTreeSet<(Resource, Key)> {
        self.departed.insert(uid.to_owned());
        self.owned.remove(uid).unwrap_or_default()
    }

    /// Whether an object had owners and all of them are gone.
    pub fn is_orphan(&self, object: &Object) -> bool {
        let mut owners = object.owners().peekable();
        owners.peek().is_some() && owners.all(|owner| self.departed.contains(owner))
    }
}
