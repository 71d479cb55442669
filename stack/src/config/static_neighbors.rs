//! Neighbours that the user gave: where they are is known for good, and nobody is asked.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use crate::MacAddr;

/// The MAC addresses of neighbours by their IP address. Descriptions and pictures share it while it stays the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StaticNeighbors(HashMap<IpAddr, MacAddr, RandomState>);

impl StaticNeighbors {
    /// Where this neighbour is; `None`: it has to be asked for.
    #[inline]
    pub fn get(&self, address: IpAddr) -> Option<MacAddr> {
        if self.0.is_empty() { None } else { self.0.get(&address).copied() }
    }

    /// Who they are, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.0.keys().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(IpAddr, MacAddr)> for StaticNeighbors {
    fn from_iter<I: IntoIterator<Item = (IpAddr, MacAddr)>>(neighbors: I) -> StaticNeighbors {
        StaticNeighbors(neighbors.into_iter().collect())
    }
}
