//! The forwarding table of a router: longest prefix match.
//!
//! One hash map per prefix length, tried from the longest on. It is built once for a snapshot and
//! never changed; a lookup costs one hash per length that occurs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::RandomState;

use crate::Prefix;

/// What a prefix leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The destination is on the link of this interface (its position in the snapshot).
    Connected(usize),
    /// By one of these.
    Via(Box<[NextHop]>),
}

/// A next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Its address.
    pub address: IpAddr,
    /// The interface on whose link it is (its position in the snapshot).
    pub interface: usize,
}

/// A forwarding table.
#[derive(Debug, Default)]
pub struct Fib {
    v4: Vec<(u32, HashMap<u32, Target, RandomState>)>,
    v6: Vec<(u128, HashMap<u128, Target, RandomState>)>,
    routes: usize,
}

impl Fib {
    /// A table of these routes. Of two for one prefix the first stays.
    pub fn new(routes: impl IntoIterator<Item = (Prefix, Target)>) -> Fib {
        let mut fib = Fib::default();
        for (prefix, target) in routes {
            fib.insert(prefix, target);
        }
        fib.v4.sort_unstable_by_key(|(mask, _)| std::cmp::Reverse(*mask));
        fib.v6.sort_unstable_by_key(|(mask, _)| std::cmp::Reverse(*mask));
        fib
    }

    fn insert(&mut self, prefix: Prefix, target: Target) {
        let length = u32::from(prefix.length());
        let added = match prefix.address() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                insert(&mut self.v4, mask, address.to_bits(), target)
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                insert(&mut self.v6, mask, address.to_bits(), target)
            }
        };
        self.routes += usize::from(added);
    }

    /// The target of the longest prefix that contains `address`.
    pub fn lookup_v4(&self, address: Ipv4Addr) -> Option<&Target> {
        let bits = address.to_bits();
        self.v4.iter().find_map(|(mask, routes)| routes.get(&(bits & mask)))
    }

    /// The target of the longest prefix that contains `address`.
    pub fn lookup_v6(&self, address: Ipv6Addr) -> Option<&Target> {
        let bits = address.to_bits();
        self.v6.iter().find_map(|(mask, routes)| routes.get(&(bits & mask)))
    }

    /// The target of the longest prefix that contains `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<&Target> {
        match address {
            IpAddr::V4(a) => self.lookup_v4(a),
            IpAddr::V6(a) => self.lookup_v6(a),
        }
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }
}

type Lengths<K> = Vec<(K, HashMap<K, Target, RandomState>)>;

fn insert<K: Copy + Eq + std::hash::Hash>(lengths: &mut Lengths<K>, mask: K, key: K, target: Target) -> bool {
    let at = lengths.iter().position(|(known, _)| *known == mask).unwrap_or_else(|| {
        lengths.push((mask, HashMap::default()));
        lengths.len() - 1
    });
    match lengths[at].1.entry(key) {
        std::collections::hash_map::Entry::Occupied(_) => false,
        std::collections::hash_map::Entry::Vacant(place) => {
            place.insert(target);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_families_stay_apart() {
        let fib = Fib::new([
            ("0.0.0.0/0".parse().unwrap(), Target::Connected(0)),
            ("198.18.0.0/15".parse().unwrap(), Target::Connected(1)),
            ("198.18.1.0/24".parse().unwrap(), Target::Connected(2)),
            ("198.18.1.1/32".parse().unwrap(), Target::Connected(3)),
        ]);
        let find = |text: &str| fib.lookup(text.parse().unwrap()).cloned();
        assert_eq!(find("203.0.113.1"), Some(Target::Connected(0)));
        assert_eq!(find("198.19.0.1"), Some(Target::Connected(1)));
        assert_eq!(find("198.18.1.2"), Some(Target::Connected(2)));
        assert_eq!(find("198.18.1.1"), Some(Target::Connected(3)));
        assert_eq!(find("2001:db8::1"), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_linear_search(
            routes in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..60), addresses in proptest::collection::vec(any::<u32>(), 1..60),
        ) {
            let routes: Vec<_> = routes.into_iter().enumerate().map(|(index, (bits, length))| {
                (Prefix::containing(Ipv4Addr::from_bits(bits).into(), length).unwrap(), Target::Connected(index))
            }).collect();
            let fib = Fib::new(routes.clone());
            for address in addresses.into_iter().map(Ipv4Addr::from_bits) {
                let mut best: Option<&(Prefix, Target)> = None;
                for route in routes.iter().filter(|route| route.0.contains(address.into())) {
                    if best.is_none_or(|b| route.0.length() > b.0.length()) { best = Some(route); }
                }
                prop_assert_eq!(fib.lookup_v4(address), best.map(|b| &b.1));
            }
        }
    }
}
