//! Rate limits: a token bucket, a table of them keyed by destination, and one that workers share.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::time::Instant;

/// Lets `burst` events pass at once and one more every `interval` (the generic cell rate algorithm:
/// one moment says it all).
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenBucket {
    interval: Duration,
    burst: u32,
    full_at: Instant,
}

impl TokenBucket {
    pub const fn new(per_second: u32, burst: u32) -> TokenBucket {
        let interval = Duration::from_nanos(1_000_000_000 / per_second as u64);
        TokenBucket { interval, burst, full_at: Instant::from_nanos(0) }
    }

    /// Whether one more event may pass now.
    pub fn allow(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        if full_at.since(now) > self.interval * self.burst {
            return false;
        }
        self.full_at = full_at;
        true
    }

    /// Whether it is as if nothing had passed.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

/// The same for several workers at once.
#[derive(Debug)]
pub(crate) struct SharedBucket {
    /// Nanoseconds for one event; `None`: nothing passes.
    interval: Option<u64>,
    /// Nanoseconds' worth of events that may pass at once.
    burst: u64,
    full_at: AtomicU64,
}

impl SharedBucket {
    pub fn new(per_second: u32, burst: u32) -> SharedBucket {
        let interval = 1_000_000_000u64.checked_div(per_second.into());
        let burst = interval.unwrap_or(0) * u64::from(burst);
        SharedBucket { interval, burst, full_at: AtomicU64::new(0) }
    }

    /// Whether something that counts as `events` may pass now: it may if there is room for one, and all of it
    /// is counted. With 0 it is only asked.
    pub fn allow(&self, now: Instant, events: u32) -> bool {
        let Some(interval) = self.interval else { return false };
        let now = now.as_nanos();
        let pass = |full_at: u64| {
            let start = full_at.max(now);
            (start - now + interval <= self.burst).then(|| start + interval * u64::from(events))
        };
        self.full_at.fetch_update(Relaxed, Relaxed, pass).is_ok()
    }
}

const DESTINATIONS: usize = 256;

/// The limits of what a worker's stack sends by itself (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).
#[derive(Debug)]
pub(crate) struct Limits {
    all_errors: TokenBucket,
    by_destination: Box<[TokenBucket]>,
    hash: FixedState,
    /// Questions for neighbours that no port is known to have.
    pub solicitations: TokenBucket,
    /// First questions for addresses that a port is known to have: those are few, unless they push each other out.
    pub owner_solicitations: TokenBucket,
    /// Router advertisements to one host.
    pub advertisements: TokenBucket,
    /// Hosts that say that they leave a multicast group: each is followed by questions.
    pub leaves: TokenBucket,
    /// Refusals of TCP connections to a gateway.
    pub resets: TokenBucket,
    /// Words of routers on the way that a tunnel's path carries less than was thought.
    pub path_mtus: TokenBucket,
}

impl Limits {
    pub fn new() -> Limits {
        Limits {
            all_errors: TokenBucket::new(2_000, 400),
            by_destination: vec![TokenBucket::new(100, 50); DESTINATIONS].into(),
            hash: FixedState::default(),
            solicitations: TokenBucket::new(2_000, 400),
            owner_solicitations: TokenBucket::new(20_000, 4_000),
            advertisements: TokenBucket::new(50, 50),
            leaves: TokenBucket::new(50, 100),
            resets: TokenBucket::new(2_000, 400),
            path_mtus: TokenBucket::new(100, 100),
        }
    }

    /// Whether an ICMP error may go to `destination` now.
    pub fn allow_error(&mut self, now: Instant, destination: IpAddr) -> bool {
        let slot = self.hash.hash_one(destination) as usize % DESTINATIONS;
        self.by_destination[slot].allow(now) && self.all_errors.allow(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut bucket = TokenBucket::new(10, 5);
        let at = |milliseconds: u64| Instant::from_nanos(milliseconds * 1_000_000);
        assert_eq!((0..20).filter(|_| bucket.allow(at(1000))).count(), 5);
        assert_eq!((0..20).filter(|_| bucket.allow(at(1100))).count(), 1);
        assert_eq!((0..20).filter(|_| bucket.allow(at(9000))).count(), 5);
    }

    #[test]
    fn a_shared_bucket_counts_what_is_large_in_full() {
        let bucket = SharedBucket::new(100, 10);
        let at = |milliseconds: u64| Instant::from_nanos(milliseconds * 1_000_000);
        assert!(bucket.allow(at(1000), 0), "only asked");
        assert!(bucket.allow(at(1000), 45));
        assert!(!bucket.allow(at(1000), 1));
        assert!(!bucket.allow(at(1359), 1), "45 are paid for by 1,450 ms, and 10 may be owed");
        assert!(bucket.allow(at(1360), 1));
        assert!(!SharedBucket::new(0, 10).allow(at(2000), 1));
    }

    #[test]
    fn workers_that_share_a_bucket_get_its_rate_together() {
        let bucket = SharedBucket::new(1000, 100);
        let count = |worker: u64| {
            let moments = (0..1000).map(|n| Instant::from_nanos(1_000_000_000 + n * 1_000_000 + worker));
            moments.flat_map(|now| [now; 4]).filter(|now| bucket.allow(*now, 1)).count()
        };
        let passed: usize = std::thread::scope(|scope| {
            let workers = [scope.spawn(|| count(0)), scope.spawn(|| count(1))];
            workers.map(|worker| worker.join().unwrap()).into_iter().sum()
        });
        assert!((1000..=1100).contains(&passed), "{passed}");
    }

    #[test]
    fn one_destination_does_not_use_up_the_share_of_others() {
        let mut limits = Limits::new();
        let now = Instant::from_nanos(1_000_000_000);
        let greedy = (0..1000).filter(|_| limits.allow_error(now, IpAddr::from([198, 18, 0, 1]))).count();
        assert_eq!(greedy, 50);
        assert!(limits.allow_error(now, IpAddr::from([198, 18, 0, 2])));
    }
}
