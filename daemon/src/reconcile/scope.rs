//! Which part of the fabric a pass looks at.
//!
//! Work is proportional to what changed: a scope is closed, so that a plan for it never needs to know
//! anything outside it. Who widens it is left to [`agenda`](super::agenda) and [`pass`](super::pass).

use std::collections::BTreeSet;

use super::place::{Place, is_veth};
use crate::model::{Fabric, Name};

/// Places to look at and Ports to judge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Looked at as a whole; devices there that no Port explains are removed.
    pub places: BTreeSet<Place>,
    /// Judged; every Port of `places` is among them.
    pub ports: BTreeSet<Name>,
}

impl Scope {
    /// All that `fabric` names.
    pub fn everything(fabric: &Fabric) -> Scope {
        let mut places = BTreeSet::from([Place::Own, Place::Ports]);
        places.extend(fabric.namespaces.keys().cloned().map(Place::Namespace));
        Scope::closed(fabric, places, fabric.ports.keys().cloned().collect())
    }

    /// The least closed scope with these places and Ports.
    pub fn closed(fabric: &Fabric, mut places: BTreeSet<Place>, mut ports: BTreeSet<Name>) -> Scope {
        if places.contains(&Place::Ports) {
            let pairs = fabric.ports.iter().filter(|(_, port)| is_veth(&port.spec));
            ports.extend(pairs.map(|(name, _)| name.clone()));
        }
        places
            .extend(ports.iter().filter_map(|name| fabric.ports.get(name)).map(|port| Place::of(&port.spec)));
        let there = fabric.ports.iter().filter(|(_, port)| places.contains(&Place::of(&port.spec)));
        ports.extend(there.map(|(name, _)| name.clone()));
        Scope { places, ports }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && self.ports.is_empty()
    }
}
