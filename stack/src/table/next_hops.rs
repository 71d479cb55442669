//! The next hops of a route, and which of them a flow takes.
//!
//! Flows are spread over *buckets* by their hash, and each bucket belongs to a next hop: the one that
//! wins the weighted rendezvous for it (Thaler and Ravishankar 1998; with weights as in
//! draft-ietf-bess-weighted-hrw). Who wins depends on the bucket and on each hop by itself, so when a hop
//! goes, its buckets alone find a new owner, and when it comes back it gets the same ones again. Nothing
//! is remembered: whoever knows the hops and the seed comes to the same answer, after a restart too.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::quality::FixedState;

/// A next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// Its address.
    pub address: IpAddr,
    /// The interface on whose link it is (its position in the snapshot).
    pub interface: usize,
}

/// The next hops of a route: one or more.
#[derive(Debug, Clone)]
pub struct NextHops {
    first: NextHop,
    /// All of them, and who owns which bucket; `None` where there is one only.
    several: Option<(Box<[NextHop]>, Arc<Buckets>)>,
}

impl NextHops {
    /// The next hops with their weights (1 to 255); `None` for none. The buckets are taken over from
    /// `before` where that has the same hops.
    pub fn new(hops: &[(NextHop, u8)], seed: u64, before: Option<&NextHops>) -> Option<NextHops> {
        let (first, _) = *hops.first()?;
        if hops.len() == 1 {
            return Some(NextHops { first, several: None });
        }
        let members = hops.iter().map(|(hop, weight)| (hop.address, *weight));
        let known = before.and_then(|before| before.several.as_ref()).map(|(_, buckets)| buckets);
        let same = known
            .filter(|buckets| buckets.seed == seed && members.clone().eq(buckets.members.iter().copied()));
        let buckets = same.cloned().unwrap_or_else(|| Arc::new(Buckets::new(members.collect(), seed)));
        Some(NextHops { first, several: Some((hops.iter().map(|(hop, _)| *hop).collect(), buckets)) })
    }

    /// Whether all flows take the same.
    pub fn is_one(&self) -> bool {
        self.several.is_none()
    }

    /// The next hop of a flow. `hash` is asked for where there is a choice.
    #[inline]
    pub fn select(&self, hash: impl FnOnce() -> u64) -> NextHop {
        match &self.several {
            None => self.first,
            Some((hops, buckets)) => hops[buckets.owner(hash())],
        }
    }
}

/// How many buckets a route with several next hops has, two octets each. More spread flows more evenly:
/// with this many the share of each of 4 hops of one weight is a quarter within 3 % of it as a rule, and
/// that of each of 16 a sixteenth within 6 %.
const BUCKETS: usize = 4096;

/// Who owns which bucket.
#[derive(Debug)]
struct Buckets {
    seed: u64,
    members: Box<[(IpAddr, u8)]>,
    /// Positions in `members`.
    owners: Box<[u16; BUCKETS]>,
}

impl Buckets {
    fn new(members: Box<[(IpAddr, u8)]>, seed: u64) -> Buckets {
        let state = FixedState::with_seed(seed);
        let owners = std::array::from_fn(|bucket| {
            // A score of an exponential distribution whose rate is the weight: the least wins, each as
            // often as its weight says.
            let score = |(address, weight): &(IpAddr, u8)| {
                let share = (state.hash_one((bucket, address)) >> 11) as f64 + 0.5;
                -(share / (1u64 << 53) as f64).ln() / f64::from((*weight).max(1))
            };
            let scores = members.iter().map(score).enumerate();
            let winner = scores.min_by(|(_, a), (_, b)| a.total_cmp(b));
            winner.map_or(0, |(member, _)| member as u16)
        });
        Buckets { seed, members, owners: Box::new(owners) }
    }

    fn owner(&self, hash: u64) -> usize {
        // The upper bits, which are the best mixed.
        usize::from(self.owners[(hash >> (u64::BITS - BUCKETS.ilog2())) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(weights: &[(u8, u8)]) -> NextHops {
        hops_of(weights, 7)
    }

    /// 198.18.0.x with weight y.
    fn hops_of(weights: &[(u8, u8)], seed: u64) -> NextHops {
        let hop = |(host, weight): &(u8, u8)| {
            (NextHop { address: IpAddr::from([198, 18, 0, *host]), interface: usize::from(*host) }, *weight)
        };
        NextHops::new(&weights.iter().map(hop).collect::<Vec<_>>(), seed, None).unwrap()
    }

    /// The hosts that flows 0 to 99,999 go to.
    fn flows(hops: &NextHops) -> Vec<usize> {
        let state = FixedState::with_seed(1);
        (0..100_000).map(|flow: u32| hops.select(|| state.hash_one(flow)).interface).collect()
    }

    fn share(flows: &[usize], host: usize) -> f64 {
        flows.iter().filter(|flow| **flow == host).count() as f64 / flows.len() as f64
    }

    #[test]
    fn flows_are_spread_evenly() {
        for count in [2u8, 3, 4, 8, 16] {
            let flows = flows(&hops(&(1..=count).map(|host| (host, 1)).collect::<Vec<_>>()));
            for host in 1..=usize::from(count) {
                let deviation = share(&flows, host) * f64::from(count) - 1.0;
                assert!(deviation.abs() < 0.2, "host {host} of {count}: {deviation}");
            }
        }
    }

    #[test]
    fn weights_are_shares() {
        let flows = flows(&hops(&[(1, 1), (2, 2), (3, 5)]));
        for (host, weight) in [(1, 1.0), (2, 2.0), (3, 5.0)] {
            assert!((share(&flows, host) - weight / 8.0).abs() < 0.02, "{host}: {}", share(&flows, host));
        }
    }

    #[test]
    fn only_the_flows_of_a_hop_that_goes_move_and_they_come_back() {
        let all = flows(&hops(&[(1, 1), (2, 3), (3, 1), (4, 1)]));
        let fewer = flows(&hops(&[(1, 1), (2, 3), (4, 1)]));
        assert!(all.iter().zip(&fewer).all(|(before, after)| *before == 3 || before == after));
        let took_over = |host| all.iter().zip(&fewer).filter(|(a, b)| **a == 3 && **b == host).count();
        assert!([1, 2, 4].map(took_over).into_iter().all(|count| count > 2_000), "one hop got all");
        assert_eq!(flows(&hops(&[(1, 1), (2, 3), (3, 1), (4, 1)])), all);
    }

    #[test]
    fn the_order_of_the_hops_does_not_matter() {
        assert_eq!(flows(&hops(&[(1, 1), (2, 1), (3, 1)])), flows(&hops(&[(3, 1), (1, 1), (2, 1)])));
    }

    #[test]
    fn another_seed_gives_other_buckets() {
        let [a, b] = [7, 8].map(|seed| flows(&hops_of(&[(1, 1), (2, 1)], seed)));
        let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
        assert!((45_000..55_000).contains(&same), "{same}");
    }

    #[test]
    fn one_hop_takes_no_hash() {
        assert_eq!(hops(&[(9, 1)]).select(|| unreachable!()).interface, 9);
    }
}
