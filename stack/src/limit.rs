//! Rate limits: a token bucket, and a table of them keyed by destination.

use std::hash::BuildHasher;
use std::net::IpAddr;
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
    /// Refusals of TCP connections to a gateway.
    pub resets: TokenBucket,
}

impl Limits {
    pub fn new() -> Limits {
        Limits {
            all_errors: TokenBucket::new(2_000, 400),
            by_destination: vec![TokenBucket::new(100, 50); DESTINATIONS].into(),
            hash: FixedState::default(),
            solicitations: TokenBucket::new(2_000, 400),
            resets: TokenBucket::new(2_000, 400),
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
    fn one_destination_does_not_use_up_the_share_of_others() {
        let mut limits = Limits::new();
        let now = Instant::from_nanos(1_000_000_000);
        let greedy = (0..1000).filter(|_| limits.allow_error(now, IpAddr::from([198, 18, 0, 1]))).count();
        assert_eq!(greedy, 50);
        assert!(limits.allow_error(now, IpAddr::from([198, 18, 0, 2])));
    }
}
