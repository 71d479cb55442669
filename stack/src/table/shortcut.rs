//! Shortcuts: where packets to a destination went last, as one worker remembers it.
//!
//! A shortcut stands for a look-up in the forwarding table, one of the next hop's neighbour entry, and one of that
//! neighbour's port. It holds in one picture (whoever takes another forgets them all), while the epoch of the
//! neighbour table is the same, and until the neighbour entry has to be looked at again.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use crate::MacAddr;
use crate::config::PortId;
use crate::time::Instant;

/// How many destinations are remembered: each has one place, and gives way to the next that belongs there.
const SLOTS: usize = 4096;

/// Where packets to a destination go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shortcut {
    /// The router that decided so (its position in the snapshot).
    pub router: usize,
    /// Where the packets are to go in the end.
    pub destination: IpAddr,
    /// The interface that they leave by (its position in the snapshot).
    pub interface: usize,
    /// The MAC address of the next hop.
    pub mac: MacAddr,
    /// The port where that is by configuration.
    pub port: PortId,
    /// Of the interface's neighbour table.
    pub epoch: u64,
    /// When the neighbour entry has to be looked at again.
    pub until: Instant,
}

/// What one worker remembers.
#[derive(Debug)]
pub(crate) struct Shortcuts {
    slots: Box<[Option<Shortcut>]>,
    hash: RandomState,
}

impl Default for Shortcuts {
    fn default() -> Self {
        Shortcuts { slots: vec![None; SLOTS].into(), hash: RandomState::default() }
    }
}

impl Shortcuts {
    /// The shortcut to `destination`, which may no longer hold.
    #[inline]
    pub fn find(&self, router: usize, destination: IpAddr) -> Option<&Shortcut> {
        let found = self.slots[self.slot(router, destination)].as_ref()?;
        (found.destination == destination && found.router == router).then_some(found)
    }

    /// Remembers a shortcut.
    pub fn insert(&mut self, shortcut: Shortcut) {
        self.slots[self.slot(shortcut.router, shortcut.destination)] = Some(shortcut);
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.slots.fill(None);
    }

    fn slot(&self, router: usize, destination: IpAddr) -> usize {
        // Numbers, not the types' own way of hashing: that goes octet by octet.
        let mut hasher = self.hash.build_hasher();
        match destination {
            IpAddr::V4(address) => hasher.write_u64((router as u64) << 32 | u64::from(address.to_bits())),
            IpAddr::V6(address) => hasher.write_u128(address.to_bits() ^ router as u128),
        }
        hasher.finish() as usize % SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortcut(router: usize, destination: &str) -> Shortcut {
        Shortcut {
            router,
            destination: destination.parse().unwrap(),
            interface: 0,
            mac: MacAddr::default(),
            port: PortId::new(0, 1),
            epoch: 0,
            until: Instant::default(),
        }
    }

    #[test]
    fn destinations_of_different_routers_are_different() {
        let mut known = Shortcuts::default();
        for destination in ["198.18.1.1", "2001:db8::1"] {
            known.insert(shortcut(1, destination));
            let destination = destination.parse().unwrap();
            assert!(known.find(1, destination).is_some() && known.find(2, destination).is_none());
        }
        known.clear();
        assert!(known.find(1, "198.18.1.1".parse().unwrap()).is_none());
    }

    #[test]
    fn a_destination_that_needs_the_place_gets_it() {
        let mut known = Shortcuts::default();
        for number in 0..3 * SLOTS as u32 {
            let destination = IpAddr::from(number.to_be_bytes());
            known.insert(Shortcut { destination, ..shortcut(0, "0.0.0.0") });
            assert!(known.find(0, destination).is_some());
        }
    }
}
