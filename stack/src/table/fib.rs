//! The forwarding table of a router: longest prefix match, from a prefix to a number.
//!
//! What the numbers mean is the router's affair; the table knows prefixes only.
//!
//! A trie for each family: branches of 256 ways (`fib/branch.rs`) as long as there are many prefixes, then
//! buckets of up to 512 prefixes, each one block of memory (`fib/bucket.rs`). A lookup takes eight bits
//! of the address at a time and skips those by which no ways part, so its cost does not grow with the
//! number of routes, but for the memory that it waits for.
//!
//! The table is *persistent*: a clone is two pointers and shares all parts with its original, and a
//! change copies the branches between the root and its prefix only and makes one bucket anew. So the
//! control side changes a clone while workers read the original, without a lock.
//!
//! Memory is proportional to the prefixes: see [`Fib::memory`]. 500,000 v4 prefixes of the lengths
//! that the Internet has take about 32 octets each, 200,000 v6 prefixes about 80.

mod branch;
mod bucket;
mod key;
mod trie;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use self::branch::Part;
use self::key::Bits;
use self::trie::Trie;
use crate::Prefix;

/// A forwarding table.
#[derive(Debug, Clone, Default)]
pub struct Fib {
    v4: Trie<u32>,
    v6: Trie<u128>,
}

/// What a prefix leads to, as a number that the table's owner gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(u32);

impl TargetId {
    /// A number; `None` from 2^30 - 1 on.
    pub fn new(index: usize) -> Option<TargetId> {
        u32::try_from(index).ok().filter(|index| *index < bucket::NONE).map(TargetId)
    }

    /// The number.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A prefix in the trie of its family.
enum Entry {
    V4(Bits<u32>),
    V6(Bits<u128>),
}

impl From<Prefix> for Entry {
    fn from(prefix: Prefix) -> Entry {
        let length = prefix.length();
        match prefix.address() {
            IpAddr::V4(address) => Entry::V4(Bits { path: address.to_bits(), length }),
            IpAddr::V6(address) => Entry::V6(Bits { path: address.to_bits(), length }),
        }
    }
}

impl Fib {
    /// A table of these prefixes and their values. Of two values for one prefix the first stays. For
    /// many prefixes it is several times quicker than [`Fib::insert`] for each.
    pub fn new(prefixes: impl IntoIterator<Item = (Prefix, TargetId)>) -> Fib {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, value) in prefixes {
            match prefix.into() {
                Entry::V4(bits) => v4.push((bits, value.0)),
                Entry::V6(bits) => v6.push((bits, value.0)),
            }
        }
        Fib { v4: Trie::new(v4), v6: Trie::new(v6) }
    }

    /// Sets the value of a prefix. Returns the value that it had.
    pub fn insert(&mut self, prefix: Prefix, value: TargetId) -> Option<TargetId> {
        match prefix.into() {
            Entry::V4(bits) => self.v4.insert(bits, value.0),
            Entry::V6(bits) => self.v6.insert(bits, value.0),
        }
        .map(TargetId)
    }

    /// Forgets a prefix; what it covered falls to the next shorter one. Returns the value that it had.
    pub fn remove(&mut self, prefix: Prefix) -> Option<TargetId> {
        match prefix.into() {
            Entry::V4(bits) => self.v4.remove(bits),
            Entry::V6(bits) => self.v6.remove(bits),
        }
        .map(TargetId)
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: Prefix) -> Option<TargetId> {
        match prefix.into() {
            Entry::V4(bits) => self.v4.get(bits),
            Entry::V6(bits) => self.v6.get(bits),
        }
        .map(TargetId)
    }

    /// The value of the longest prefix that contains `address`.
    #[inline]
    pub fn lookup_v4(&self, address: Ipv4Addr) -> Option<TargetId> {
        self.v4.lookup(address.to_bits()).map(TargetId)
    }

    /// The value of the longest prefix that contains `address`.
    #[inline]
    pub fn lookup_v6(&self, address: Ipv6Addr) -> Option<TargetId> {
        self.v6.lookup(address.to_bits()).map(TargetId)
    }

    /// The value of the longest prefix that contains `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<TargetId> {
        match address {
            IpAddr::V4(a) => self.lookup_v4(a),
            IpAddr::V6(a) => self.lookup_v6(a),
        }
    }

    /// Every prefix and its value, in no order that means something.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, TargetId)> {
        let v4 = self
            .v4
            .entries()
            .map(|(bits, value)| (IpAddr::from(Ipv4Addr::from_bits(bits.path)), bits.length, value));
        let v6 = self
            .v6
            .entries()
            .map(|(bits, value)| (IpAddr::from(Ipv6Addr::from_bits(bits.path)), bits.length, value));
        // No prefix that was taken in is too long for its family, so none is left out here.
        v4.chain(v6).filter_map(|(address, length, value)| {
            Some((Prefix::containing(address, length).ok()?, TargetId(value)))
        })
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is the other in memory too: nothing was changed since one was cloned from the other.
    #[cfg(test)]
    pub(crate) fn is_shared_with(&self, other: &Fib) -> bool {
        self.parts_beside(other) == 0 && other.parts_beside(self) == 0
    }

    /// How many parts it does not share with the other.
    #[cfg(test)]
    pub(crate) fn parts_beside(&self, other: &Fib) -> usize {
        self.v4.parts_beside(&other.v4) + self.v6.parts_beside(&other.v6)
    }

    /// Octets on the heap that are asked of the allocator, those included that clones share.
    pub fn memory(&self) -> usize {
        self.v4.parts().map(Part::memory).sum::<usize>() + self.v6.parts().map(Part::memory).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
