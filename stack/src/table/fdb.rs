//! The forwarding database of a network: which MAC address was last seen on which port
//! (IEEE 802.1D-2004 section 7.9).
//!
//! All workers read and write one table without locks: a slot is a key word and a value word. A
//! writer that replaces a key clears it first and sets it last, and a reader looks at the key before
//! and after the value, so that it never pairs one address with another's port.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize, fence};
use std::time::Duration;

use crate::MacAddr;
use crate::config::PortId;
use crate::time::Instant;

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
    Moved,
    /// There is no room; frames to it will be flooded.
    Full,
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
                let value = slot.value.load(Relaxed);
                fence(Acquire);
                if slot.key.load(Relaxed) == key && !expired(now, ageing, value) {
                    return Some(port_of(value));
                }
            }
        }
        None
    }

    /// Notes that `mac` was seen on `port`.
    pub fn learn(&self, now: Instant, ageing: Duration, vlan: u16, mac: MacAddr, port: PortId) -> Learned {
        let key = key(vlan, mac);
        let bucket = bucket(self.slots.get_or_init(|| make_slots(self.capacity)), key);
        let value = value(now, port);
        if let Some(slot) = bucket.iter().find(|slot| slot.key.load(Acquire) == key) {
            let old = slot.value.load(Relaxed);
            if old != value {
                slot.value.store(value, Release);
            }
            let moved = port_of(old) != port && !expired(now, ageing, old);
            return if moved { Learned::Moved } else { Learned::Known };
        }
        self.insert(now, ageing, bucket, key, value)
    }

    fn insert(&self, now: Instant, ageing: Duration, bucket: &[Slot; WAYS], key: u64, value: u64) -> Learned {
        for slot in bucket {
            let old = slot.key.load(Acquire);
            let reusable = old & PRESENT != 0 && expired(now, ageing, slot.value.load(Relaxed));
            if !reusable && (old != EMPTY || !self.reserve(now, ageing)) {
                continue;
            }
            if slot.key.compare_exchange(old, BUSY, AcqRel, Relaxed).is_ok() {
                slot.value.store(value, Release);
                slot.key.store(key, Release);
                return Learned::New;
            }
            if !reusable {
                self.used.fetch_sub(1, Relaxed);
            }
        }
        Learned::Full
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
            self.remove_where(|value| expired(now, ageing, value));
        }
        take().is_ok()
    }

    /// Forgets everything seen on `port`.
    pub fn forget_port(&self, port: PortId) {
        self.remove_where(|value| port_of(value) == port);
    }

    fn remove_where(&self, condition: impl Fn(u64) -> bool) {
        for slot in self.slots.get().into_iter().flatten().flatten() {
            let key = slot.key.load(Acquire);
            if key & PRESENT != 0
                && condition(slot.value.load(Relaxed))
                && slot.key.compare_exchange(key, EMPTY, AcqRel, Relaxed).is_ok()
            {
                self.used.fetch_sub(1, Relaxed);
            }
        }
    }

    /// How many addresses are known now.
    pub fn len(&self, now: Instant, ageing: Duration) -> usize {
        let slots = self.slots.get().into_iter().flatten().flatten();
        slots
            .filter(|slot| slot.key.load(Relaxed) & PRESENT != 0)
            .filter(|slot| !expired(now, ageing, slot.value.load(Relaxed)))
            .count()
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

fn value(now: Instant, port: PortId) -> u64 {
    u64::from(port.to_u32()) << 32 | u64::from(now.as_secs() as u32)
}

fn port_of(value: u64) -> PortId {
    PortId::from_u32((value >> 32) as u32)
}

fn expired(now: Instant, ageing: Duration, value: u64) -> bool {
    // Signed: another worker's clock may be a little ahead of this one's.
    let age = (now.as_secs() as u32).wrapping_sub(value as u32) as i32;
    i64::from(age) >= i64::try_from(ageing.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const AGEING: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn mac(number: u32) -> MacAddr {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddr([2, 0, a, b, c, d])
    }

    fn port(number: u32) -> PortId {
        PortId::from_u32(number)
    }

    #[test]
    fn an_address_ages_out_and_moves() {
        let fdb = Fdb::new(16);
        assert_eq!(fdb.learn(at(1), AGEING, 0, mac(1), port(1)), Learned::New);
        assert_eq!(fdb.learn(at(2), AGEING, 0, mac(1), port(2)), Learned::Moved);
        assert_eq!(fdb.lookup(at(301), AGEING, 0, mac(1)), Some(port(2)));
        assert_eq!(fdb.lookup(at(302), AGEING, 0, mac(1)), None);
    }

    #[test]
    fn an_address_heard_a_moment_ahead_is_not_old() {
        let fdb = Fdb::new(16);
        fdb.learn(at(8), AGEING, 0, mac(1), port(1));
        assert_eq!(fdb.lookup(at(7), AGEING, 0, mac(1)), Some(port(1)));
    }

    #[test]
    fn vlans_learn_apart() {
        let fdb = Fdb::new(16);
        fdb.learn(at(1), AGEING, 7, mac(1), port(1));
        assert_eq!(fdb.lookup(at(1), AGEING, 8, mac(1)), None);
    }

    #[test]
    fn a_full_table_keeps_what_it_has_until_something_ages() {
        let fdb = Fdb::new(64);
        let learned =
            (0..1000).filter(|n| fdb.learn(at(1), AGEING, 0, mac(*n), port(1)) == Learned::New).count();
        assert_eq!((learned, fdb.len(at(1), AGEING)), (64, 64));
        assert_eq!(fdb.learn(at(400), AGEING, 0, mac(5000), port(2)), Learned::New);
        assert_eq!(fdb.len(at(400), AGEING), 1);
    }

    #[test]
    fn a_port_that_goes_takes_its_addresses_along() {
        let fdb = Fdb::new(64);
        fdb.learn(at(1), AGEING, 0, mac(1), port(1));
        fdb.learn(at(1), AGEING, 0, mac(2), port(2));
        fdb.forget_port(port(1));
        assert_eq!(fdb.lookup(at(1), AGEING, 0, mac(1)), None);
        assert_eq!(fdb.lookup(at(1), AGEING, 0, mac(2)), Some(port(2)));
    }

    #[test]
    fn workers_that_learn_at_once_agree_in_the_end() {
        let fdb = Fdb::new(4096);
        std::thread::scope(|scope| {
            for worker in 0..2 {
                let fdb = &fdb;
                scope.spawn(move || {
                    for round in 0..20u32 {
                        for n in 0..1000 {
                            fdb.learn(at(u64::from(round)), AGEING, 0, mac(n * 2 + worker), port(n));
                            if let Some(found) = fdb.lookup(at(20), AGEING, 0, mac(n * 2 + 1 - worker)) {
                                assert_eq!(found, port(n));
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(fdb.len(at(20), AGEING), 2000);
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map_with_times(steps in proptest::collection::vec((0u64..50, 0u32..30, 0u32..4), 1..200)) {
            let fdb = Fdb::new(1024);
            let ageing = Duration::from_secs(60);
            let mut model: HashMap<u32, (u64, u32)> = HashMap::new();
            let mut now = 0;
            for (pause, station, on) in steps {
                now += pause;
                let expected = model.get(&station).filter(|(seen, _)| now - seen < 60).map(|(_, p)| port(*p));
                prop_assert_eq!(fdb.lookup(at(now), ageing, 0, mac(station)), expected);
                fdb.learn(at(now), ageing, 0, mac(station), port(on));
                model.insert(station, (now, on));
            }
        }
    }
}
