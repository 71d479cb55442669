//! What differs between two revisions of the objects of a kind.
//!
//! A revision shares with the one before what did not change, so that this costs a comparison of two pointers for most
//! objects, and no search for any.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Name, Object, Objects};

/// An object that is not in both as it is in one of them.
#[derive(Debug, PartialEq)]
pub struct Difference<'a, T> {
    /// Its name.
    pub name: &'a Name,
    /// As it was; `None`: it is new.
    pub old: Option<&'a Object<T>>,
    /// As it is; `None`: it is gone.
    pub new: Option<&'a Object<T>>,
}

/// The objects that differ, by name.
pub fn differences<'a, T: PartialEq>(
    old: &'a Objects<T>,
    new: &'a Objects<T>,
) -> impl Iterator<Item = Difference<'a, T>> {
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (olds.peek(), news.peek()) {
                (Some((_, was)), Some((_, is))) if Arc::ptr_eq(was, is) => Ordering::Equal,
                (Some((was, _)), Some((is, _))) => was.cmp(is),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            let was = if order.is_le() { olds.next() } else { None };
            let is = if order.is_ge() { news.next() } else { None };
            let (name, _) = was.or(is)?;
            let same = was.zip(is).is_some_and(|((_, was), (_, is))| Arc::ptr_eq(was, is) || was == is);
            if !same {
                let (old, new) = (was.map(|(_, was)| &**was), is.map(|(_, is)| &**is));
                return Some(Difference { name, old, new });
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Metadata;

    fn objects(specs: &[(u8, u8)]) -> Objects<u8> {
        let object = |(name, spec): &(u8, u8)| {
            let name = Name::new(&format!("o{name}")).unwrap();
            let metadata = Metadata {
                name: name.clone(),
                labels: BTreeMap::new(),
                uid: String::new(),
                generation: 1,
                revision: 1,
                created: SystemTime::UNIX_EPOCH,
                deleting: None,
            };
            (name, Arc::new(Object { metadata, spec: *spec }))
        };
        specs.iter().map(object).collect()
    }

    proptest! {
        #[test]
        fn the_differences_are_those_that_a_search_finds(
            old in proptest::collection::vec((0..12_u8, 0..3_u8), 0..12),
            new in proptest::collection::vec((0..12_u8, 0..3_u8), 0..12),
            shared in proptest::collection::vec(0..12_u8, 0..12),
        ) {
            let (old, mut new) = (objects(&old), objects(&new));
            for name in shared.iter().map(|name| format!("o{name}")) {
                if let Some((name, object)) = old.get_key_value(name.as_str()) {
                    new.insert(name.clone(), Arc::clone(object));
                }
            }
            let names: BTreeSet<&Name> = old.keys().chain(new.keys()).collect();
            let expected: Vec<_> = names
                .into_iter()
                .map(|name| Difference { name, old: old.get(name).map(|it| &**it), new: new.get(name).map(|it| &**it) })
                .filter(|it| it.old != it.new)
                .collect();
            prop_assert_eq!(differences(&old, &new).collect::<Vec<_>>(), expected);
        }
    }
}
