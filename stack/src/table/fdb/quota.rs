//! How many addresses may be learned on a port.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use crate::time::Instant;

/// The addresses of one port, counted. All workers share it.
///
/// It follows new addresses and moves at once. Those that age are found when the port seems full: then they are
/// counted in the table, once a second at most, which is as exact as the table's own seconds.
#[derive(Debug)]
pub struct Quota {
    limit: u32,
    used: AtomicU64,
    counted: AtomicU64,
}

/// The table was never looked at.
const NEVER: u64 = u64::MAX;

impl Quota {
    /// At most `limit` addresses. The port may have some already: they are counted at the first use.
    pub fn new(limit: u32) -> Quota {
        Quota { limit, used: AtomicU64::new(u64::from(limit)), counted: AtomicU64::new(NEVER) }
    }

    /// The most addresses.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes one; `count` tells how many the table has in truth.
    pub(super) fn take(&self, now: Instant, count: impl FnOnce() -> usize) -> bool {
        if self.increment() {
            return true;
        }
        let (second, last) = (now.as_secs(), self.counted.load(Relaxed));
        if last == second || self.counted.compare_exchange(last, second, AcqRel, Relaxed).is_err() {
            return false;
        }
        let believed = self.used.load(Relaxed);
        let surplus = believed.saturating_sub(count() as u64);
        // Not a plain store: other workers take and give back meanwhile.
        self.decrement(surplus);
        self.increment()
    }

    /// One address has gone to another port.
    pub fn give_back(&self) {
        self.decrement(1);
    }

    fn increment(&self) -> bool {
        let limit = u64::from(self.limit);
        self.used.fetch_update(AcqRel, Relaxed, |used| (used < limit).then_some(used + 1)).is_ok()
    }

    fn decrement(&self, amount: u64) {
        // The closure always gives a value.
        let _ = self.used.fetch_update(AcqRel, Relaxed, |used| Some(used.saturating_sub(amount)));
    }
}
