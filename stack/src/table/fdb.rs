//! The forwarding database of a network: which MAC address was last seen on which port
//! (IEEE 802.1D-2004 section 7.9), how many a port may have, and how often an address may move.
//!
//! All workers read and write one table without locks: a slot is a key word and a value word. A
//! writer that replaces a key clears it first and sets it last, and a reader looks at the key before
//! and after the value, so that it never pairs one address with another's port.

mod entry;
mod quota;

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize, fence};
use std::time::Duration;

use crate::MacAddr;
use crate::config::PortId;
use crate::time::Instant;
use entry::{Entry, Move};
pub use quota::Quota;

const WAYS: usize = 8;
const EMPTY: u64 = 0;
/// A slot that a writer is filling.
const BUSY: u64 = 1;
const PRESENT: u64 = 1 << 63;

/// What became of an address that was to be learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// It was known, on this port.
    Known,
    /// It is new.
    New,
    /// It was known on another port.
    Moved {
        /// Which one.
        from: PortId,
        /// It has moved so often that it stays here for a while.
        held: bool,
    },
    /// It moved too often lately: it stays where it was.
    Held,
    /// The port has as many addresses as it may have.
    Limited,
    /// There is no room; frames to it will be flooded.
    Full,
}

/// Who was seen where.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// The VLAN of the frame.
    pub vlan: u16,
    /// Its source.
    pub mac: MacAddr,
    /// Where it came in.
    pub port: PortId,
    /// How many addresses that port may have; `None`: as many as there is room for.
    pub quota: Option<&'a Quota>,
}

/// The table of one network.
#[derive(Debug)]
pub struct Fdb {
    capacity: usize,
    used: AtomicUsize,
    swept: AtomicU64,
    // Made when the first address is learned: most networks have only ports whose address is known.
    slots: OnceLock<Box<[[Slot; WAYS]]>>,
}

#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    value: AtomicU64,
}

impl Fdb {
    /// An empty table for at most `capacity` addresses.
    pub fn new(capacity: usize) -> Fdb {
        Fdb {
            capacity: capacity.max(1),
            used: AtomicUsize::new(0),
            swept: AtomicU64::new(0),
            slots: OnceLock::new(),
        }
    }

    /// The most addresses it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The port where this address was seen within the last `ageing`.
    pub fn lookup(&self, now: Instant, ageing: Duration, vlan: u16, mac: MacAddr) -> Option<PortId> {
        let key = key(vlan, mac);
        let bucket = bucket(self.slots.get()?, key);
        for slot in bucket {
            if slot.key.load(Acquire) == key {
                let entry = Entry(slot.value.load(Relaxed));
                fence(Acquire);
                if slot.key.load(Relaxed) == key && !entry.expired(now, ageing) {
                    return Some(entry.port());
                }
            }
        }
        None
    }

    /// Notes who was seen where.
    pub fn learn(&self, now: Instant, ageing: Duration, seen: Sighting) -> Learned {
        let key = key(seen.vlan, seen.mac);
        let bucket = bucket(self.slots.get_or_init(|| make_slots(self.capacity)), key);
        let Some(slot) = bucket.iter().find(|slot| slot.key.load(Acquire) == key) else {
            return self.insert(now, ageing, bucket, key, seen);
        };
        let old = Entry(slot.value.load(Relaxed));
        let expired = old.expired(now, ageing);
        if old.port() == seen.port && !expired {
            let fresh = old.refreshed(now);
            if fresh != old {
                // Somebody else may just have changed it: then that holds.
                let _ = slot.value.compare_exchange(old.0, fresh.0, Release, Relaxed);
            }
            return Learned::Known;
        }
        let (entry, held) = match old.moved(now, seen.port) {
            _ if expired => (Entry::new(now, seen.port), false),
            Move::Allowed(entry) => (entry, false),
            Move::Last(entry) => (entry, true),
            Move::Refused => return Learned::Held,
        };
        if !self.take(now, ageing, seen) {
            return Learned::Limited;
        }
        match slot.value.compare_exchange(old.0, entry.0, Release, Relaxed) {
            Ok(_) if expired => Learned::New,
            Ok(_) => Learned::Moved { from: old.port(), held },
            Err(_) => {
                seen.quota.inspect(|quota| quota.give_back());
                Learned::Known
            }
        }
    }

    fn insert(
        &self,
        now: Instant,
        ageing: Duration,
        bucket: &[Slot; WAYS],
        key: u64,
        seen: Sighting,
    ) -> Learned {
        if !self.take(now, ageing, seen) {
            return Learned::Limited;
        }
        for slot in bucket {
            let old = slot.key.load(Acquire);
            let reusable = old & PRESENT != 0 && Entry(slot.value.load(Relaxed)).expired(now, ageing);
            if !reusable && (old != EMPTY || !self.reserve(now, ageing)) {
                continue;
            }
            if slot.key.compare_exchange(old, BUSY, AcqRel, Relaxed).is_ok() {
                slot.value.store(Entry::new(now, seen.port).0, Release);
                slot.key.store(key, Release);
                return Learned::New;
            }
            if !reusable {
                self.used.fetch_sub(1, Relaxed);
            }
        }
        seen.quota.inspect(|quota| quota.give_back());
        Learned::Full
    }

    /// Takes one of the addresses that the port may have.
    fn take(&self, now: Instant, ageing: Duration, seen: Sighting) -> bool {
        let Some(quota) = seen.quota else { return true };
        quota.take(now, || self.len_of(now, ageing, seen.port))
    }

    /// Takes one of the free places, after sweeping at most once a second when there is none.
    fn reserve(&self, now: Instant, ageing: Duration) -> bool {
        let take =
            || self.used.fetch_update(AcqRel, Relaxed, |used| (used < self.capacity).then_some(used + 1));
        if take().is_ok() {
            return true;
        }
        let second = now.as_secs();
        let last = self.swept.load(Relaxed);
        if last < second && self.swept.compare_exchange(last, second, Relaxed, Relaxed).is_ok() {
            self.sweep(now, ageing);
        }
        take().is_ok()
    }

    /// Forgets what was not seen for `ageing`.
    fn sweep(&self, now: Instant, ageing: Duration) {
        self.remove_where(|entry| entry.expired(now, ageing));
    }

    /// Forgets everything seen on `port`.
    pub fn forget_port(&self, port: PortId) {
        self.remove_where(|entry| entry.port() == port);
    }

    fn remove_where(&self, condition: impl Fn(Entry) -> bool) {
        for slot in self.slots.get().into_iter().flatten().flatten() {
            let key = slot.key.load(Acquire);
            if key & PRESENT != 0
                && condition(Entry(slot.value.load(Relaxed)))
                && slot.key.compare_exchange(key, EMPTY, AcqRel, Relaxed).is_ok()
            {
                self.used.fetch_sub(1, Relaxed);
            }
        }
    }

    /// How many addresses are known now.
    pub fn len(&self, now: Instant, ageing: Duration) -> usize {
        self.entries().filter(|entry| !entry.expired(now, ageing)).count()
    }

    fn len_of(&self, now: Instant, ageing: Duration, port: PortId) -> usize {
        self.entries().filter(|entry| entry.port() == port && !entry.expired(now, ageing)).count()
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let slots = self.slots.get().into_iter().flatten().flatten();
        let present = slots.filter(|slot| slot.key.load(Acquire) & PRESENT != 0);
        present.map(|slot| Entry(slot.value.load(Relaxed)))
    }
}

fn make_slots(capacity: usize) -> Box<[[Slot; WAYS]]> {
    // Twice the capacity, so that a bucket rarely overflows before the table is full.
    let buckets = (capacity * 2).div_ceil(WAYS).next_power_of_two();
    (0..buckets).map(|_| Default::default()).collect()
}

fn bucket(slots: &[[Slot; WAYS]], key: u64) -> &[Slot; WAYS] {
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    &slots[hash as usize & (slots.len() - 1)]
}

fn key(vlan: u16, mac: MacAddr) -> u64 {
    PRESENT | u64::from(vlan) << 48 | mac.to_u64()
}

#[cfg(test)]
mod tests;
