//! From one picture and a request to the next picture: no disk, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use weft_proto::v1;

use super::{Adoptable, Picture, Rotation, Wish, has_labels, keys, records};
use crate::error::{Error, Result};
use crate::model::parse::{self, Resources};
use crate::model::{Fabric, GivenKeys, Kind, Name, Namespace, ObjectRef, TunnelKeys, Violation, check};

/// The most earlier keys of a Tunnel by which peers are let in: each is one more that a handshake is tried with.
const MAX_PREVIOUS_KEYS: usize = 3;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// Its spec or labels changed.
    Updated,
    /// It was like this already.
    Unchanged,
    /// It is being taken down.
    Deleted,
}

/// What an Apply did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// In the order of the request, pruned objects last.
    pub changes: Vec<(ObjectRef, Change)>,
    /// The store's revision afterwards.
    pub revision: u64,
}

/// A picture to come.
#[derive(Debug)]
pub(super) struct Outcome {
    pub resources: Resources,
    pub fabric: Fabric,
    pub changes: Vec<(ObjectRef, Change)>,
    /// The objects whose record differs, or is gone.
    pub written: BTreeSet<ObjectRef>,
    /// The Tunnels whose keys differ.
    pub keys_written: BTreeSet<Name>,
}

/// The next picture while it is worked out.
pub(super) struct Draft {
    resources: Resources,
    revision: u64,
    now: SystemTime,
    changes: Vec<(ObjectRef, Change)>,
    written: BTreeSet<ObjectRef>,
    keys: BTreeMap<Name, Arc<TunnelKeys>>,
    keys_written: BTreeSet<Name>,
}

pub(super) fn apply(
    before: &Picture,
    wish: Wish,
    now: SystemTime,
    adoptable: Adoptable<'_>,
) -> Result<Outcome> {
    let named = identify(wish.resources)?;
    let mut draft = Draft::of(before, now);
    let touched: BTreeSet<ObjectRef> = named.iter().map(|(object, ..)| object.clone()).collect();
    for (object, resource, given) in named {
        draft.put(object, resource, given)?;
    }
    let mut pruned = Vec::new();
    if !wish.prune.is_empty() {
        let matching = before.resources.iter().filter(|(object, resource)| {
            !touched.contains(object) && !is_going(resource) && has_labels(resource, &wish.prune)
        });
        pruned.extend(matching.map(|(object, _)| object.clone()));
    }
    for object in &pruned {
        draft.bury(object);
    }
    let outcome = draft.finish(before)?;
    check_unused(&outcome.fabric, &pruned)?;
    let foreign = touched.iter().filter_map(|object| foreign_endpoint(before, &outcome.fabric, object));
    let foreign: Vec<_> = foreign.collect();
    if !foreign.is_empty() {
        return Err(Error::Refused(foreign));
    }
    check_outcome(before, &outcome, adoptable)?;
    Ok(outcome)
}

/// Judges what is new in an outcome.
pub(super) fn check_outcome(before: &Picture, outcome: &Outcome, adoptable: Adoptable<'_>) -> Result<()> {
    let touched = outcome.changes.iter().filter(|(_, change)| *change != Change::Deleted);
    let touched: BTreeSet<ObjectRef> = touched.map(|(object, _)| object.clone()).collect();
    let mut wrong = fixed_fields(before, &outcome.fabric)?;
    wrong.extend(check::fabric(&outcome.fabric, &touched));
    wrong.extend(missing_namespaces(outcome, adoptable));
    if wrong.is_empty() { Ok(()) } else { Err(Error::Refused(wrong)) }
}

/// A Port whose note of its container is not the one that Attach has made.
fn foreign_endpoint(before: &Picture, after: &Fabric, object: &ObjectRef) -> Option<Violation> {
    let port = after.ports.get(&object.name).filter(|_| object.kind == Kind::Port)?;
    let known = before.fabric.ports.get(&object.name).and_then(|port| port.spec.endpoint.as_ref());
    let description = match (known, &port.spec.endpoint) {
        (known, given) if known == given.as_ref() => return None,
        (Some(_), None) => "not given, but the Port is a container's: its runtime detaches it",
        _ => "given, but only Endpoints.Attach gives a Port to a container",
    };
    Some(Violation::new(object, "spec.endpoint", description))
}

pub(super) fn delete(
    before: &Picture,
    objects: &[ObjectRef],
    ignore_missing: bool,
    now: SystemTime,
) -> Result<Outcome> {
    let (there, missing): (BTreeSet<&ObjectRef>, BTreeSet<&ObjectRef>) =
        objects.iter().partition(|object| before.resources.contains_key(object));
    if !missing.is_empty() && !ignore_missing {
        return Err(Error::NotFound(missing.into_iter().cloned().collect()));
    }
    let mut draft = Draft::of(before, now);
    for object in &there {
        draft.bury(object);
    }
    let outcome = draft.finish(before)?;
    check_unused(&outcome.fabric, there)?;
    Ok(outcome)
}

pub(super) fn rotate(before: &Picture, object: &ObjectRef, rotation: Rotation) -> Result<Outcome> {
    let tunnel = before.fabric.tunnels.get(&object.name).filter(|_| object.kind == Kind::Tunnel);
    let tunnel = tunnel.ok_or_else(|| Error::NotFound(vec![object.clone()]))?;
    if tunnel.metadata.deleting.is_some() {
        return Err(Error::Going(object.clone()));
    }
    if tunnel.spec.wireguard().is_none() {
        return Err(Error::NoKeys(object.clone()));
    }
    let old = before.fabric.keys.get(&object.name);
    let new = match (rotation, old) {
        (Rotation::Finish, Some(old)) => old.finished(),
        (Rotation::Finish, None) => return Draft::of(before, SystemTime::UNIX_EPOCH).finish(before),
        (Rotation::Begin(given), Some(old)) => old.rotated(given.map_or_else(keys::made, Ok)?),
        (Rotation::Begin(private), None) => {
            GivenKeys { private, ..GivenKeys::default() }.merged(None, keys::made)?
        }
    };
    if new.previous().len() > MAX_PREVIOUS_KEYS {
        let count = new.previous().len() - 1;
        return Err(Error::TooManyKeys { object: object.clone(), count });
    }
    let mut draft = Draft::of(before, SystemTime::UNIX_EPOCH);
    if old.is_none_or(|old| **old != new) {
        draft.change_keys(object, new);
    }
    let outcome = draft.finish(before)?;
    let wrong = check::fabric(&outcome.fabric, &BTreeSet::from([object.clone()]));
    if wrong.is_empty() { Ok(outcome) } else { Err(Error::Refused(wrong)) }
}

pub(super) fn purge(before: &Picture, objects: &[ObjectRef]) -> Result<Outcome> {
    let mut draft = Draft::of(before, SystemTime::UNIX_EPOCH);
    for object in objects {
        if draft.resources.get(object).is_some_and(|resource| is_going(resource)) {
            draft.resources.remove(object);
            draft.written.insert(object.clone());
        }
    }
    draft.finish(before)
}

impl Draft {
    pub fn of(before: &Picture, now: SystemTime) -> Draft {
        Draft {
            resources: before.resources.clone(),
            revision: before.fabric.revision + 1,
            now,
            changes: Vec::new(),
            written: BTreeSet::new(),
            keys: before.fabric.keys.clone(),
            keys_written: BTreeSet::new(),
        }
    }

    /// Puts an object where it was, or as a new one. A tombstone comes to a new life.
    pub fn put(&mut self, object: ObjectRef, given: v1::Resource, secrets: Option<GivenKeys>) -> Result<()> {
        let before = self.resources.get(&object).filter(|resource| !is_going(resource));
        let known = self.keys.get(&object.name).filter(|_| before.is_some() && object.kind == Kind::Tunnel);
        let keys = secrets.map(|secrets| secrets.merged(known.map(Arc::as_ref), keys::made)).transpose()?;
        let new_keys = keys.filter(|keys| known.is_none_or(|known| **known != *keys));
        let (metadata, change) = match before.and_then(|old| Some((old, old.metadata.clone()?))) {
            Some((old, metadata)) => self.renewed(old, metadata, &given, new_keys.is_some()),
            None => (self.fresh(&object, &given)?, Change::Created),
        };
        if let Some(keys) = new_keys {
            self.keys.insert(object.name.clone(), Arc::new(keys));
            self.keys_written.insert(object.name.clone());
        }
        if change != Change::Unchanged {
            let resource = v1::Resource { metadata: Some(metadata), kind: given.kind };
            self.resources.insert(object.clone(), Arc::new(resource));
            self.written.insert(object.clone());
        }
        self.changes.push((object, change));
        Ok(())
    }

    fn renewed(
        &self,
        old: &v1::Resource,
        mut metadata: v1::Metadata,
        given: &v1::Resource,
        new_keys: bool,
    ) -> (v1::Metadata, Change) {
        let labels = given.metadata.as_ref().map(|given| given.labels.clone()).unwrap_or_default();
        // Keys are a part of the spec, though they are kept elsewhere.
        let same_spec = old.kind == given.kind && !new_keys;
        if same_spec && metadata.labels == labels {
            return (metadata, Change::Unchanged);
        }
        metadata.labels = labels;
        metadata.generation += u64::from(!same_spec);
        metadata.revision = self.revision;
        (metadata, Change::Updated)
    }

    fn fresh(&self, object: &ObjectRef, given: &v1::Resource) -> Result<v1::Metadata> {
        Ok(v1::Metadata {
            name: object.name.to_string(),
            labels: given.metadata.as_ref().map(|given| given.labels.clone()).unwrap_or_default(),
            uid: records::random_id()?,
            generation: 1,
            revision: self.revision,
            created: Some(self.now.into()),
            deleting: None,
        })
    }

    /// Gives a Tunnel that is there other keys.
    fn change_keys(&mut self, object: &ObjectRef, keys: TunnelKeys) {
        let Some(resource) = self.resources.get_mut(object) else { return };
        let metadata = Arc::make_mut(resource).metadata.get_or_insert_default();
        metadata.generation += 1;
        metadata.revision = self.revision;
        self.keys.insert(object.name.clone(), Arc::new(keys));
        self.keys_written.insert(object.name.clone());
        self.written.insert(object.clone());
        self.changes.push((object.clone(), Change::Updated));
    }

    /// Makes a tombstone; one that is there already stays as it is.
    pub fn bury(&mut self, object: &ObjectRef) {
        self.changes.push((object.clone(), Change::Deleted));
        self.bury_silently(object);
    }

    /// Makes a tombstone of what goes along with something else.
    pub fn bury_silently(&mut self, object: &ObjectRef) {
        let Some(resource) = self.resources.get_mut(object).filter(|resource| !is_going(resource)) else {
            return;
        };
        let metadata = Arc::make_mut(resource).metadata.get_or_insert_default();
        metadata.deleting = Some(self.now.into());
        metadata.revision = self.revision;
        self.written.insert(object.clone());
    }

    /// Reads the whole as the model. Without a change the revision stays.
    pub fn finish(self, before: &Picture) -> Result<Outcome> {
        let revision = if self.written.is_empty() { before.fabric.revision } else { self.revision };
        let mut fabric = parse::follow(&before.fabric, &self.resources, &self.written, revision)
            .map_err(Error::Refused)?;
        let speaks = |name: &Name| fabric.tunnels.get(name).is_some_and(|it| it.spec.wireguard().is_some());
        fabric.survivors = Arc::clone(&before.fabric.survivors);
        fabric.keys = self.keys.into_iter().filter(|(name, _)| speaks(name)).collect();
        Ok(Outcome {
            resources: self.resources,
            fabric,
            changes: self.changes,
            written: self.written,
            keys_written: self.keys_written,
        })
    }
}

/// Whether a resource is a tombstone.
fn is_going(resource: &v1::Resource) -> bool {
    resource.metadata.as_ref().is_some_and(|metadata| metadata.deleting.is_some())
}

/// An object of a request, and the secrets that came with it.
type Named = (ObjectRef, v1::Resource, Option<GivenKeys>);

/// The objects of a request by name, their status and secrets taken out and an absent spec filled in.
fn identify(resources: Vec<v1::Resource>) -> Result<Vec<Named>> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let mut named = Vec::with_capacity(resources.len());
    for (index, mut resource) in resources.into_iter().enumerate() {
        match parse::identity(index, &resource) {
            Ok(object) => {
                if !seen.insert(object.clone()) {
                    wrong.push(Violation::new(&object, "metadata.name", "given twice in one request"));
                }
                strip(&mut resource);
                match parse::take_secrets(&object, &mut resource) {
                    Ok(given) => named.push((object, resource, given)),
                    Err(found) => wrong.extend(found),
                }
            }
            Err(found) => wrong.extend(found),
        }
    }
    if wrong.is_empty() { Ok(named) } else { Err(Error::Refused(wrong)) }
}

fn strip(resource: &mut v1::Resource) {
    match &mut resource.kind {
        Some(v1::resource::Kind::Namespace(it)) => {
            it.status = None;
            it.spec.get_or_insert_default();
        }
        Some(v1::resource::Kind::Network(it)) => {
            it.status = None;
            it.spec.get_or_insert_default();
        }
        Some(v1::resource::Kind::Port(it)) => {
            it.status = None;
            it.spec.get_or_insert_default();
        }
        Some(v1::resource::Kind::Router(it)) => {
            it.status = None;
            it.spec.get_or_insert_default();
        }
        Some(v1::resource::Kind::Tunnel(it)) => {
            it.status = None;
            it.spec.get_or_insert_default();
        }
        None => {}
    }
}

fn check_unused<'a>(after: &Fabric, gone: impl IntoIterator<Item = &'a ObjectRef>) -> Result<()> {
    for object in gone {
        let by = check::referrers(after, object);
        if !by.is_empty() {
            return Err(Error::InUse { object: object.clone(), by });
        }
    }
    Ok(())
}

/// What may not change. A tombstone in another place must be gone first.
fn fixed_fields(before: &Picture, after: &Fabric) -> Result<Vec<Violation>> {
    let mut wrong = Vec::new();
    for (object, violation) in check::fixed_fields(&before.fabric, after) {
        if before.resources.get(&object).is_some_and(|resource| is_going(resource)) {
            return Err(Error::Going(object));
        }
        wrong.push(violation);
    }
    Ok(wrong)
}

/// The namespaces that shall be adopted from now on, and cannot be.
fn missing_namespaces(outcome: &Outcome, adoptable: Adoptable<'_>) -> Vec<Violation> {
    let created = outcome.changes.iter().filter(|(_, change)| *change == Change::Created);
    created
        .filter(|(object, _)| object.kind == Kind::Namespace)
        .filter_map(|(object, _)| match &outcome.fabric.namespaces.get(&object.name)?.spec {
            Namespace::Make => None,
            Namespace::Adopt(path) => {
                let reason = adoptable(path).err()?;
                Some(Violation::new(object, "spec.path", reason))
            }
        })
        .collect()
}
