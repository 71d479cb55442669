//! Which block of a pool a node takes. Pure: claiming it, so that nobody else has it, is the keeper's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Pool;

/// Blocks that are given out of a pool, at most. In Kubernetes all of a pool's blocks are in the status of one object,
/// and etcd takes 1.5 MiB for an object at most: an entry has 6 octets beside the block, up to 43 octets, and the node's
/// name, 63 of a host name's usual most. So this many are below 0.9 MiB; Kubernetes itself is for 5,000 nodes. A cluster
/// that has more takes more pools.
pub const MOST_TAKEN: u128 = 8192;

/// The blocks of a pool that a node has, the lowest first.
pub fn owned(pool: &Pool, node: &str) -> Vec<IpNet> {
    pool.blocks.iter().filter(|(_, owner)| *owner == node).map(|(block, _)| *block).collect()
}

/// A block that nobody has, for one more node: the first after a place that `seed` says, so that nodes that come at once
/// seldom want the same. `None`: all are taken.
pub fn free(pool: &Pool, seed: u64) -> Option<IpNet> {
    let count = places(pool);
    let start = u128::from(seed) % count;
    // Of so many in a row, one at least is free or all are taken.
    let looked_at = count.min(pool.blocks.len() as u128 + 1);
    let mut blocks = (0..looked_at).filter_map(|step| nth_block(pool, (start + step) % count));
    blocks.find(|block| !overlaps_any(&pool.blocks, *block))
}

/// Whether a block is one of the pool's that nobody has.
pub fn is_free(pool: &Pool, block: IpNet) -> bool {
    let fits = pool.cidr.contains(&block) && block.prefix_len() == pool.block_size;
    fits && !overlaps_any(&pool.blocks, block)
}

/// A block whose node is not among those that are `alive`.
pub fn abandoned(pool: &Pool, alive: &BTreeSet<&str>) -> Option<IpNet> {
    pool.blocks.iter().find(|(_, owner)| !alive.contains(owner.as_str())).map(|(block, _)| *block)
}

/// Blocks that a pool has for nodes.
pub fn block_count(pool: &Pool) -> u128 {
    places(pool).min(MOST_TAKEN)
}

fn places(pool: &Pool) -> u128 {
    1 << pool.block_size.saturating_sub(pool.cidr.prefix_len()).min(127)
}

/// A name's number, the same on every machine (FNV-1a).
pub fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn overlaps_any(blocks: &BTreeMap<IpNet, String>, block: IpNet) -> bool {
    // A pool whose block size was changed has blocks of both sizes.
    let overlaps = |other: &IpNet| other.contains(&block) || block.contains(other);
    blocks.contains_key(&block)
        || blocks.keys().any(|other| other.prefix_len() != block.prefix_len() && overlaps(other))
}

fn nth_block(pool: &Pool, number: u128) -> Option<IpNet> {
    let size = pool.block_size;
    match pool.cidr.network() {
        IpAddr::V4(first) => {
            let offset = u32::try_from(number.checked_shl(32 - u32::from(size))?).ok()?;
            Ipv4Net::new((u32::from(first).checked_add(offset)?).into(), size).ok().map(IpNet::V4)
        }
        IpAddr::V6(first) => {
            let offset = number.checked_shl(128 - u32::from(size))?;
            Ipv6Net::new((u128::from(first).checked_add(offset)?).into(), size).ok().map(IpNet::V6)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cidr: &str, block_size: u8) -> Pool {
        Pool {
            name: "pods".into(),
            cidr: cidr.parse().unwrap(),
            block_size,
            network: String::new(),
            blocks: BTreeMap::new(),
        }
    }

    #[test]
    fn every_block_is_given_out_once_and_then_none() {
        for (cidr, size, count) in
            [("198.18.0.0/20", 24, 16), ("2001:db8::/60", 64, 16), ("198.18.0.0/24", 24, 1)]
        {
            let mut pool = pool(cidr, size);
            let names: Vec<String> = (0..count).map(|number| format!("node-{number}")).collect();
            for name in &names {
                let block = free(&pool, seed(name)).unwrap();
                assert!(pool.cidr.contains(&block));
                assert_eq!(pool.blocks.insert(block, name.clone()), None);
                assert_eq!(owned(&pool, name), [block]);
            }
            assert_eq!(free(&pool, 7), None, "{cidr}");
            let alive: BTreeSet<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(abandoned(&pool, &alive), None, "{cidr}");
        }
    }

    #[test]
    fn when_all_are_taken_a_node_that_is_gone_gives_its_own() {
        let mut pool = pool("198.18.0.0/23", 24);
        pool.blocks.insert("198.18.0.0/24".parse().unwrap(), "alive".into());
        pool.blocks.insert("198.18.1.0/24".parse().unwrap(), "gone".into());
        assert_eq!(free(&pool, 0), None);
        let block = abandoned(&pool, &BTreeSet::from(["alive", "new"]));
        assert_eq!(block, Some("198.18.1.0/24".parse().unwrap()));
    }

    #[test]
    fn blocks_of_another_size_are_not_given_out_again() {
        let mut pool = pool("198.18.0.0/23", 24);
        pool.blocks.insert("198.18.0.128/26".parse().unwrap(), "a".into());
        assert_eq!(free(&pool, 0), Some("198.18.1.0/24".parse().unwrap()));
    }

    #[test]
    fn a_block_is_free_that_is_the_pools_and_nobodys() {
        let mut pool = pool("198.18.0.0/23", 24);
        pool.blocks.insert("198.18.0.0/24".parse().unwrap(), "a".into());
        for (block, free) in [
            ("198.18.1.0/24", true),
            ("198.18.0.0/24", false),
            ("198.18.1.0/25", false),
            ("198.18.2.0/24", false),
            ("2001:db8::/24", false),
        ] {
            assert_eq!(is_free(&pool, block.parse().unwrap()), free, "{block}");
        }
    }

    #[test]
    fn a_pool_gives_out_no_more_than_one_object_holds() {
        assert_eq!(block_count(&pool("2001:db8::/48", 64)), MOST_TAKEN);
        assert_eq!(block_count(&pool("198.18.0.0/15", 24)), 512);
        let entry = format!("\"{}\":\"{}\",", "2001:db8:1111:2222:3333:4444:5555:6666/128", "n".repeat(63));
        assert!(entry.len() as u128 * MOST_TAKEN < 1 << 20);
    }

    #[test]
    fn the_largest_pools_have_a_first_block() {
        for (cidr, size) in [("0.0.0.0/0", 32), ("::/0", 64), ("2001:db8::/32", 128)] {
            assert!(free(&pool(cidr, size), u64::MAX).is_some(), "{cidr}");
        }
    }
}
