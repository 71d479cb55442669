//! Which peer has something to do first.
//!
//! A peer stands in the queue once, for the earliest of its timers, or for an earlier time: timers that are put off or
//! cleared change nothing here, so that the packet path rarely takes the lock. Who comes up too early is asked again.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::time::Instant;

const NEVER: u64 = u64::MAX;

/// The queue of all peers of a device.
#[derive(Debug)]
pub(super) struct Schedule {
    queue: Mutex<BTreeSet<(u64, u64)>>,
    /// The first time in the queue.
    next: AtomicU64,
}

/// A peer's place in the queue.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    /// The time that it stands there for.
    at: AtomicU64,
}

impl Place {
    /// The place of the peer with this number, outside of the queue.
    pub fn new(id: u64) -> Place {
        Place { id, at: AtomicU64::new(NEVER) }
    }
}

impl Schedule {
    pub fn new() -> Schedule {
        Schedule { queue: Mutex::default(), next: AtomicU64::new(NEVER) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(u64, u64)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, queue: &BTreeSet<(u64, u64)>) {
        self.next.store(queue.first().map_or(NEVER, |(at, _)| *at), Relaxed);
    }

    /// Sees to it that the peer comes up at this time at the latest. The timer is set before: either this finds that the
    /// peer has just come up, or who took it up finds the timer.
    pub fn arm(&self, place: &Place, at: Instant) {
        let at = at.as_nanos().min(NEVER - 1);
        if at >= place.at.load(SeqCst) {
            return;
        }
        let mut queue = self.lock();
        let before = place.at.load(SeqCst);
        if at >= before {
            return;
        }
        queue.remove(&(before, place.id));
        queue.insert((at, place.id));
        place.at.store(at, SeqCst);
        self.announce(&queue);
    }

    /// Takes the peer out of the queue. Its timers are to be looked at after.
    pub fn release(&self, place: &Place) {
        let mut queue = self.lock();
        let before = place.at.swap(NEVER, SeqCst);
        if queue.remove(&(before, place.id)) {
            self.announce(&queue);
        }
    }

    /// The number of a peer that is due. It stays in the queue until it is released.
    pub fn due(&self, now: Instant) -> Option<u64> {
        if self.next.load(Relaxed) > now.as_nanos() {
            return None;
        }
        self.lock().first().filter(|(at, _)| *at <= now.as_nanos()).map(|(_, id)| *id)
    }

    /// Takes out a peer that is no more.
    pub fn forget(&self, id: u64) {
        let mut queue = self.lock();
        queue.retain(|(_, other)| *other != id);
        self.announce(&queue);
    }

    /// When somebody is due.
    pub fn next(&self) -> Option<Instant> {
        Some(self.next.load(Relaxed)).filter(|at| *at != NEVER).map(Instant::from_nanos)
    }
}
