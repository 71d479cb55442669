//! Which addresses this node's pods have, and which pools it wants a block of. Pure: claiming is the keeper's.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::cluster::{Pool, View, block};
use crate::config::AddressSource;
use crate::declared;

/// Prefixes of this node's pods.
pub fn prefixes(view: &View, source: AddressSource, node: &str) -> Vec<IpNet> {
    match source {
        AddressSource::Node => view.own.pods.clone(),
        AddressSource::Pools => of_pods(view).flat_map(|pool| block::owned(pool, node)).collect(),
    }
}

/// Pools that this node wants a block of: one of each family for its pods, which have `prefixes`, and one of each that
/// is for a Network.
pub fn claims(view: &View, source: AddressSource, node: &str, prefixes: &[IpNet]) -> BTreeSet<String> {
    let mut claims: BTreeSet<String> = declared::claims(view, node).collect();
    if source == AddressSource::Node {
        return claims;
    }
    for v4 in [true, false] {
        if prefixes.iter().any(|prefix| prefix.addr().is_ipv4() == v4) {
            continue;
        }
        let family: Vec<&Pool> = of_pods(view).filter(|pool| pool.cidr.addr().is_ipv4() == v4).collect();
        // Of one that is used up, a block is had when a node that is gone had it.
        let has_room = |pool: &&&Pool| block::block_count(pool) > pool.blocks.len() as u128;
        let best = family.iter().find(has_room).or(family.first());
        claims.extend(best.map(|pool| pool.name.clone()));
    }
    claims
}

/// The pools that are for no Network of the users'.
fn of_pods(view: &View) -> impl Iterator<Item = &Pool> {
    view.pools.values().filter(|pool| pool.network.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Event;

    fn pool(name: &str, cidr: &str, block_size: u8, owners: &[(&str, &str)]) -> Pool {
        let blocks = owners.iter().map(|(block, owner)| (block.parse().unwrap(), (*owner).to_owned()));
        let cidr = cidr.parse().unwrap();
        Pool { name: name.into(), cidr, block_size, network: String::new(), blocks: blocks.collect() }
    }

    fn claimed(pools: Vec<Pool>) -> Vec<String> {
        let mut view = View::default();
        view.take(Event::Pools(pools));
        let prefixes = prefixes(&view, AddressSource::Pools, "one");
        claims(&view, AddressSource::Pools, "one", &prefixes).into_iter().collect()
    }

    #[test]
    fn a_block_of_each_family_is_wanted_until_there_is_one() {
        let v4 = pool("v4", "198.18.0.0/23", 24, &[]);
        let v6 = pool("v6", "2001:db8::/63", 64, &[]);
        assert_eq!(claimed(vec![v4.clone(), v6.clone()]), ["v4", "v6"]);
        let had = pool("v4", "198.18.0.0/23", 24, &[("198.18.1.0/24", "one")]);
        assert_eq!(claimed(vec![had, v6]), ["v6"]);
        assert_eq!(claims(&View::default(), AddressSource::Node, "one", &[]).len(), 0);
    }

    #[test]
    fn a_pool_that_is_used_up_is_asked_only_when_no_other_has_room() {
        let full = pool("a", "198.18.0.0/24", 24, &[("198.18.0.0/24", "two")]);
        assert_eq!(claimed(vec![full.clone(), pool("b", "198.18.2.0/23", 24, &[])]), ["b"]);
        assert_eq!(claimed(vec![full]), ["a"]);
    }

    #[test]
    fn a_pool_of_a_network_gives_pods_no_addresses() {
        let of_blue = Pool { network: "blue".into(), ..pool("a", "198.18.0.0/23", 24, &[]) };
        assert_eq!(claimed(vec![of_blue]), Vec::<String>::new());
    }
}
