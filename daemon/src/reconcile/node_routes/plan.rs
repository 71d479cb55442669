//! The difference between the routes that there are and those that are wished for. A pure function.

use std::collections::{BTreeMap, BTreeSet};

use weft_stack::Prefix;

use crate::model::PortRoute;

/// One message to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is wished for, and there is none to its prefix.
    Add(PortRoute),
    /// The second in the place of the first, at once.
    Replace(PortRoute, PortRoute),
    /// Nobody wishes for it.
    Remove(PortRoute),
}

impl Step {
    /// What goes and what comes.
    pub fn routes(&self) -> (Option<PortRoute>, Option<PortRoute>) {
        match *self {
            Step::Add(new) => (None, Some(new)),
            Step::Replace(old, new) => (Some(old), Some(new)),
            Step::Remove(old) => (Some(old), None),
        }
    }
}

/// What makes `seen` as `wish` says, a message for each route that differs. Of `wish` no two have one prefix.
pub fn plan(seen: &BTreeMap<PortRoute, u32>, wish: &BTreeSet<PortRoute>) -> Vec<Step> {
    let mut gone: BTreeMap<Prefix, Vec<PortRoute>> = BTreeMap::new();
    for old in seen.keys().filter(|old| !wish.contains(old)) {
        gone.entry(old.prefix).or_default().push(*old);
    }
    let new = wish.iter().filter(|new| !seen.contains_key(new));
    let coming: Vec<Step> = new
        .map(|new| match gone.get_mut(&new.prefix).and_then(Vec::pop) {
            Some(old) => Step::Replace(old, *new),
            None => Step::Add(*new),
        })
        .collect();
    // First, so that what leads astray is not asked for longer than needed.
    let going = gone.into_values().flatten().map(Step::Remove);
    going.chain(coming).collect()
}
