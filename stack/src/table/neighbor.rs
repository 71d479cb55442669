//! The neighbours of a gateway: which MAC address has which IP address (RFC 826, RFC 4861 section 7), and whether
//! it can still be reached there: neighbour unreachability detection (RFC 4861 section 7.3), for IPv4 alike.
//!
//! One table per interface, behind a lock that is taken for moments, and only off the usual path: each
//! worker keeps what it looked up last beside the table's [`epoch`](Neighbors::epoch), and asks again
//! when that has moved on, or when what it was told is out of date. Whoever is told to set a timer calls
//! [`Neighbors::tick`] then. A neighbour has one timer at a time, however often its state changes.
//!
//! The router flag of an advertisement is not kept: it serves hosts, which choose routers by it.

mod entries;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::entries::{Entries, Entry, State};
use crate::MacAddr;
use crate::config::PortId;
use crate::jitter;
use crate::packet::Offload;
use crate::time::Instant;

/// How long an answer holds on the average (RFC 4861 section 10, REACHABLE_TIME).
pub const REACHABLE: Duration = Duration::from_secs(30);
/// How long a neighbour that may have gone is used before it is asked (DELAY_FIRST_PROBE_TIME).
pub const DELAY: Duration = Duration::from_secs(5);
/// Between two questions (RETRANS_TIMER).
pub const RETRANSMIT: Duration = Duration::from_secs(1);
/// Questions without an answer before a neighbour counts as gone (MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
pub const ATTEMPTS: u32 = 3;
/// How long nobody is asked again for who did not answer: as long as it was asked for.
pub const SILENCE: Duration = Duration::from_secs(3);
/// How long a neighbour is kept that nothing was sent to. RFC 4861 section 5.3 leaves it open; RFC 1122 section
/// 2.3.2.1 wants entries flushed that are out of date.
pub const UNUSED: Duration = Duration::from_secs(600);
/// Packets that wait for one neighbour.
pub const QUEUE_PACKETS: usize = 64;
/// Octets that wait for one neighbour, so that one silent address does not take the room of all.
pub const NEIGHBOR_OCTETS: usize = 256 << 10;
/// Octets that wait in one table.
pub const QUEUE_OCTETS: usize = 4 << 20;

/// A reachable time holds for so long; then another is drawn (RFC 4861 section 6.3.4: "at least every few hours").
const DRAW: u64 = 2 * 3600;

/// A packet that waits for its next hop's MAC address.
#[derive(Debug)]
pub struct Waiting {
    /// The frame as it came.
    pub frame: Box<[u8]>,
    /// Its offload state.
    pub offload: Offload,
    /// Where it came from.
    pub from: PortId,
    /// The VLAN that it came on.
    pub vlan: u16,
    /// The router made it, about a packet that came from there.
    pub own: bool,
}

/// How much is known of a neighbour: the states of RFC 4861 section 7.3.2, and one for who did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// The question is out.
    Incomplete,
    /// It answered lately.
    Reachable,
    /// It was there once.
    Stale,
    /// Something was sent to it after it had become stale; it is asked soon.
    Delay,
    /// It is being asked whether it is still there.
    Probe,
    /// It did not answer.
    Failed,
}

/// What a look-up found.
#[derive(Debug)]
pub enum Lookup {
    /// The address, good until this moment.
    Found(MacAddr, Instant),
    /// The address, good until this moment, when the neighbour is to be asked: set a timer.
    Delay(MacAddr, Instant),
    /// Nobody knows; nobody asked yet: send a question to all and set a timer, in [`RETRANSMIT`].
    Start(Evicted),
    /// Nobody knows; the question is out.
    Pending,
    /// Nobody answered, a moment ago.
    Silent,
    /// Nobody knows, and nobody may be asked now.
    Refused,
}

/// What somebody tells about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The neighbour's own address, in a question of its own or in a word to all: a solicitation (RFC 4861
    /// section 7.2.3), an ARP request, a gratuitous ARP (RFC 5227 section 3).
    Told {
        /// Where it is.
        mac: MacAddr,
        /// It makes an entry where there is none.
        create: bool,
    },
    /// An ARP reply to the gateway. It does not say whether it was asked for: it was where a question is out.
    Reply {
        /// Where it is.
        mac: MacAddr,
    },
    /// A neighbour advertisement (RFC 4861 section 7.2.5).
    Advertised {
        /// Where it is; `None`: where it was.
        mac: Option<MacAddr>,
        /// It answers a question.
        solicited: bool,
        /// It replaces another MAC address.
        replace: bool,
    },
}

impl Claim {
    /// The MAC address that it tells.
    pub fn mac(&self) -> Option<MacAddr> {
        match self {
            Claim::Told { mac, .. } | Claim::Reply { mac } => Some(*mac),
            Claim::Advertised { mac, .. } => *mac,
        }
    }
}

/// Neighbours that went early since the table was full.
#[derive(Debug, Default)]
pub struct Evicted {
    /// How many.
    pub entries: u64,
    /// Packets that waited for them, to be dropped.
    pub waiting: Vec<Waiting>,
}

/// What to do when a timer ran out.
#[derive(Debug)]
pub enum Tick {
    /// Nothing: the answer has come.
    Done,
    /// Nothing yet: set the timer for this moment.
    Wait(Instant),
    /// Ask all again, and set the timer again, in [`RETRANSMIT`].
    Ask,
    /// Ask the neighbour itself, and set the timer again, in [`RETRANSMIT`].
    AskOne(MacAddr),
    /// Nobody answers: these packets cannot be delivered.
    Failed(VecDeque<Waiting>),
}

/// The table of one interface.
#[derive(Debug)]
pub struct Neighbors {
    capacity: usize,
    seed: u64,
    epoch: AtomicU64,
    /// Moves on with the epoch of any of several tables.
    changes: Arc<AtomicU64>,
    entries: Mutex<Entries>,
}

impl Neighbors {
    /// An empty table for at most `capacity` neighbours. `seed` sets what is random about it; `changes` moves on with its
    /// epoch.
    pub fn new(capacity: usize, seed: u64, changes: Arc<AtomicU64>) -> Neighbors {
        let (capacity, epoch, entries) = (capacity.max(1), AtomicU64::new(0), Mutex::default());
        Neighbors { capacity, seed, epoch, changes, entries }
    }

    /// The most neighbours it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves on whenever an address that was given out may no longer be right.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Has every worker look again for what it looked up.
    pub fn renew(&self) {
        self.advance_epoch();
    }

    /// Forgets `address`, whatever is known of it; gives back the packets that waited for it.
    pub fn take(&self, address: IpAddr) -> VecDeque<Waiting> {
        self.lock().remove(address).map(|old| old.state.into_waiting()).unwrap_or_default()
    }

    /// How many neighbours it holds, resolved or not.
    pub fn len(&self) -> usize {
        self.lock().table.len()
    }

    /// Whether it holds no neighbour.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of `address`, without changing anything.
    pub fn peek(&self, now: Instant, address: IpAddr) -> Option<(Reachability, Option<MacAddr>)> {
        let entries = self.lock();
        let state = &entries.table.get(&address)?.state;
        Some((state.reachability(now), state.mac()))
    }

    /// How long an answer of this moment holds: the average times 0.5 to 1.5 (RFC 4861 section 6.3.2).
    pub fn reachable_time(&self, now: Instant) -> Duration {
        jitter::between((self.seed, now.as_secs() / DRAW), REACHABLE / 2, REACHABLE * 3 / 2)
    }

    /// Looks `address` up for a packet that is about to go there. `may_ask` is consulted when nobody
    /// knows it and nobody was asked.
    pub fn lookup(&self, now: Instant, address: IpAddr, may_ask: impl FnOnce() -> bool) -> Lookup {
        let mut entries = self.lock();
        let Some(entry) = entries.table.get_mut(&address) else {
            return self.start(now, address, entries, may_ask);
        };
        match entry.state {
            State::Known { mac, until } if now < until => Lookup::Found(mac, until),
            State::Known { mac, .. } => {
                entry.state = State::Delay { mac };
                entry.due = now + DELAY;
                if entry.has_timer(now) {
                    return Lookup::Found(mac, entry.due);
                }
                entry.timer = entry.due;
                Lookup::Delay(mac, entry.due)
            }
            State::Delay { mac } | State::Probe { mac, .. } => Lookup::Found(mac, entry.due),
            State::Incomplete { .. } => Lookup::Pending,
            State::Failed { until } if now < until => Lookup::Silent,
            State::Failed { .. } => self.start(now, address, entries, may_ask),
        }
    }

    fn start(
        &self,
        now: Instant,
        address: IpAddr,
        mut entries: MutexGuard<Entries>,
        may_ask: impl FnOnce() -> bool,
    ) -> Lookup {
        if !may_ask() {
            return Lookup::Refused;
        }
        entries.remove(address);
        let evicted = self.make_room(now, &mut entries);
        let state = State::Incomplete { waiting: VecDeque::new(), attempts: 1 };
        entries.insert(address, Entry::new(state, now + RETRANSMIT), self.capacity);
        Lookup::Start(evicted)
    }

    /// Lets a packet of `octets`, which `packet` makes, wait for `address`. False: there is no room or
    /// no wait.
    pub fn enqueue(&self, address: IpAddr, octets: usize, packet: impl FnOnce() -> Waiting) -> bool {
        self.lock().enqueue(address, octets, packet)
    }

    /// Takes in what is claimed about `address` by a frame from `port`; gives back the packets that waited for it.
    pub fn hear(&self, now: Instant, address: IpAddr, claim: Claim, port: PortId) -> VecDeque<Waiting> {
        let mut entries = self.lock();
        let Some(entry) = entries.table.get_mut(&address) else {
            return self.meet(now, address, claim, port, &mut entries);
        };
        let Some(known) = entry.state.mac() else {
            return self.resolve(now, address, claim, port, &mut entries);
        };
        let answers = entry.answers(claim);
        let (mac, replace) = match claim {
            Claim::Told { mac, .. } | Claim::Reply { mac } => (mac, true),
            Claim::Advertised { mac, replace, .. } => (mac.unwrap_or(known), replace),
        };
        let moved = mac != known;
        if moved && !replace {
            // Rule I of RFC 4861 section 7.2.5: it casts doubt on what is known, and no more.
            if let State::Known { until, .. } = &mut entry.state
                && now < *until
            {
                *until = now;
                self.advance_epoch();
            }
            return VecDeque::new();
        }
        entry.port = Some(port);
        if answers {
            entry.state = State::Known { mac, until: now + self.reachable_time(now) };
        } else if moved {
            entry.state = State::Known { mac, until: now };
        }
        if moved {
            self.advance_epoch();
        }
        VecDeque::new()
    }

    /// Takes in a claim about who is not known.
    fn meet(
        &self,
        now: Instant,
        address: IpAddr,
        claim: Claim,
        port: PortId,
        entries: &mut Entries,
    ) -> VecDeque<Waiting> {
        let Claim::Told { mac, create: true } = claim else { return VecDeque::new() };
        // Who only tells of itself pushes nobody out: it is asked for when it is needed.
        if entries.table.len() >= self.capacity {
            return VecDeque::new();
        }
        let entry = Entry::told(State::Known { mac, until: now }, port);
        entries.insert(address, entry, self.capacity);
        VecDeque::new()
    }

    /// Takes in a claim about who was asked for, and has not answered yet.
    fn resolve(
        &self,
        now: Instant,
        address: IpAddr,
        claim: Claim,
        port: PortId,
        entries: &mut Entries,
    ) -> VecDeque<Waiting> {
        let Some(mac) = claim.mac() else { return VecDeque::new() };
        let Some(old) = entries.remove(address) else { return VecDeque::new() };
        let until = if old.answers(claim) { now + self.reachable_time(now) } else { now };
        let mut entry = Entry::told(State::Known { mac, until }, port);
        entry.timer = old.timer;
        entries.insert(address, entry, self.capacity);
        old.state.into_waiting()
    }

    /// Forgets the neighbours for which `gone` holds: their address, their MAC address, and the port that told of
    /// them last.
    pub fn forget(&self, gone: impl Fn(IpAddr, MacAddr, Option<PortId>) -> bool) {
        if self.lock().forget(gone) {
            self.advance_epoch();
        }
    }

    /// Has `address` asked for again at once though it did not answer: there is a reason to think that it does now.
    pub fn retry(&self, address: IpAddr) {
        let mut entries = self.lock();
        if entries.table.get(&address).is_some_and(|entry| matches!(entry.state, State::Failed { .. })) {
            entries.remove(address);
        }
    }

    /// A timer of `address` ran out.
    pub fn tick(&self, now: Instant, address: IpAddr) -> Tick {
        let mut entries = self.lock();
        // One that comes too early was of an entry that went before.
        let Some(entry) = entries.table.get_mut(&address).filter(|entry| !entry.has_timer(now)) else {
            return Tick::Done;
        };
        if entry.due > now {
            entry.timer = entry.due;
            return Tick::Wait(entry.due);
        }
        let again = match &mut entry.state {
            State::Known { .. } | State::Failed { .. } => return Tick::Done,
            State::Incomplete { attempts, .. } if *attempts < ATTEMPTS => {
                *attempts += 1;
                Tick::Ask
            }
            State::Probe { mac, attempts } if *attempts < ATTEMPTS => {
                *attempts += 1;
                Tick::AskOne(*mac)
            }
            State::Delay { mac } => {
                let mac = *mac;
                entry.state = State::Probe { mac, attempts: 1 };
                Tick::AskOne(mac)
            }
            State::Incomplete { .. } | State::Probe { .. } => {
                return self.give_up(now, address, &mut entries);
            }
        };
        entry.due = now + RETRANSMIT;
        entry.timer = entry.due;
        again
    }

    /// Nobody answers. Who was there is forgotten, and asked for from the beginning when it is needed again
    /// (RFC 4861 section 7.3.3); who was not is left alone for a while.
    fn give_up(&self, now: Instant, address: IpAddr, entries: &mut Entries) -> Tick {
        let Some(old) = entries.remove(address) else { return Tick::Done };
        if old.state.mac().is_some() {
            self.advance_epoch();
        } else {
            let silent = State::Failed { until: now + SILENCE };
            entries.insert(address, Entry::new(silent, Instant::default()), self.capacity);
        }
        Tick::Failed(old.state.into_waiting())
    }

    /// Forgets those among the next `places` that nothing was sent to for [`UNUSED`], or that did not answer.
    pub fn sweep(&self, now: Instant, places: usize) {
        self.lock().sweep(now, places);
    }

    /// Places that a round of [`Neighbors::sweep`] looks at.
    pub fn places(&self) -> usize {
        self.lock().places()
    }

    /// Gives up entries until one more fits.
    fn make_room(&self, now: Instant, entries: &mut Entries) -> Evicted {
        let mut evicted = Evicted::default();
        while entries.table.len() >= self.capacity {
            let Some(oldest) = entries.take_turn(now) else { break };
            let Some(old) = entries.remove(oldest) else { continue };
            // Only an address that was given out makes what workers remember wrong.
            if old.state.mac().is_some() {
                self.advance_epoch();
            }
            evicted.entries += 1;
            evicted.waiting.extend(old.state.into_waiting());
        }
        evicted
    }

    fn advance_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
