//! The neighbours of a gateway: which MAC address has which IP address (RFC 826, RFC 4861 section 7).
//!
//! One table per interface, behind a lock that is taken for moments, and only off the usual path: each
//! worker keeps what it looked up last beside the table's [`epoch`](Neighbors::epoch), and asks again
//! when that has moved on. Whoever starts a resolution also keeps its timer (see [`Neighbors::tick`]).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::MacAddr;
use crate::config::PortId;
use crate::packet::Offload;
use crate::time::Instant;

/// How long an answer holds before the neighbour is asked again (RFC 4861 section 10, REACHABLE_TIME).
pub const REACHABLE: Duration = Duration::from_secs(30);
/// Between two questions (RFC 4861 section 10, RETRANS_TIMER).
pub const RETRANSMIT: Duration = Duration::from_secs(1);
/// Questions without an answer before a neighbour counts as gone (MAX_MULTICAST_SOLICIT).
pub const ATTEMPTS: u32 = 3;
/// Packets that wait for one neighbour.
pub const QUEUE_PACKETS: usize = 64;
/// Octets that wait for one neighbour, so that one silent address does not take the room of all.
pub const NEIGHBOR_OCTETS: usize = 256 << 10;
/// Octets that wait in one table.
pub const QUEUE_OCTETS: usize = 4 << 20;

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
}

/// What a look-up found.
#[derive(Debug)]
pub enum Lookup {
    /// The address, good until this moment.
    Found(MacAddr, Instant),
    /// The address, but it is time to ask again: send a question to it and set a timer.
    Stale(MacAddr),
    /// Nobody knows; nobody asked yet: send a question to all and set a timer.
    Start(Evicted),
    /// Nobody knows; the question is out.
    Pending,
    /// Nobody knows, and nobody may be asked now.
    Refused,
}

/// What somebody tells about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Where it is.
    pub mac: MacAddr,
    /// It makes an entry where there is none: not for an answer that nobody asked for.
    pub create: bool,
    /// It replaces another MAC address (the override flag of RFC 4861 section 7.2.5).
    pub replace: bool,
}

/// What a claim set free.
#[derive(Debug, Default)]
pub struct Confirmed {
    /// Packets that can go now.
    pub released: VecDeque<Waiting>,
    /// What went to make room.
    pub evicted: Evicted,
}

/// What was given up early since the table was full.
#[derive(Debug, Default)]
pub struct Evicted {
    /// Entries.
    pub entries: u64,
    /// Packets that waited for them, and have no way to go.
    pub waiting: Vec<Waiting>,
}

/// What a timer is to do.
#[derive(Debug)]
pub enum Tick {
    /// Nothing: the neighbour answered, or is not in the table any more.
    Done,
    /// Ask all again, and set the timer again.
    Ask,
    /// Ask this address again, and set the timer again.
    AskOne(MacAddr),
    /// Nobody answered: these packets have no way to go.
    Failed(VecDeque<Waiting>),
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Its place in the queue of those asked for or of those that answered.
    turn: u64,
}

#[derive(Debug)]
enum State {
    Incomplete { waiting: VecDeque<Waiting>, attempts: u32 },
    Reachable { mac: MacAddr, confirmed: Instant },
    Probing { mac: MacAddr, attempts: u32 },
}

impl State {
    fn mac(&self) -> Option<MacAddr> {
        match self {
            State::Reachable { mac, .. } | State::Probing { mac, .. } => Some(*mac),
            State::Incomplete { .. } => None,
        }
    }
}

/// The table of one interface.
#[derive(Debug)]
pub struct Neighbors {
    capacity: usize,
    epoch: AtomicU64,
    entries: Mutex<Entries>,
}

impl Neighbors {
    /// An empty table for at most `capacity` neighbours.
    pub fn new(capacity: usize) -> Neighbors {
        Neighbors { capacity: capacity.max(1), epoch: AtomicU64::new(0), entries: Mutex::default() }
    }

    /// The most neighbours it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves on whenever an address that was given out may no longer be right.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
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
    pub fn peek(&self, address: IpAddr) -> Option<MacAddr> {
        self.lock().table.get(&address)?.state.mac()
    }

    /// Looks `address` up for a packet that is about to go there. `may_ask` is consulted when nobody
    /// knows it and nobody was asked.
    pub fn lookup(&self, now: Instant, address: IpAddr, may_ask: impl FnOnce() -> bool) -> Lookup {
        let mut entries = self.lock();
        let Some(entry) = entries.table.get_mut(&address) else {
            if !may_ask() {
                return Lookup::Refused;
            }
            let evicted = self.make_room(now, &mut entries);
            let state = State::Incomplete { waiting: VecDeque::new(), attempts: 1 };
            entries.insert(address, state, self.capacity);
            return Lookup::Start(evicted);
        };
        match entry.state {
            State::Reachable { mac, confirmed } if now < confirmed + REACHABLE => {
                Lookup::Found(mac, confirmed + REACHABLE)
            }
            State::Reachable { mac, .. } => {
                entry.state = State::Probing { mac, attempts: 1 };
                Lookup::Stale(mac)
            }
            State::Probing { mac, .. } => Lookup::Found(mac, now + RETRANSMIT),
            State::Incomplete { .. } => Lookup::Pending,
        }
    }

    /// Lets a packet of `octets`, which `packet` makes, wait for `address`. False: there is no room or
    /// no wait.
    pub fn enqueue(&self, address: IpAddr, octets: usize, packet: impl FnOnce() -> Waiting) -> bool {
        let mut entries = self.lock();
        if entries.queued_octets + octets > QUEUE_OCTETS {
            return false;
        }
        let Some(Entry { state: State::Incomplete { waiting, .. }, .. }) = entries.table.get_mut(&address)
        else {
            return false;
        };
        if waiting.len() >= QUEUE_PACKETS || self::octets(waiting) + octets > NEIGHBOR_OCTETS {
            return false;
        }
        waiting.push_back(packet());
        entries.queued_octets += octets;
        true
    }

    /// Takes in what is claimed about `address`; gives back the packets that waited for it.
    pub fn confirm(&self, now: Instant, address: IpAddr, claim: Claim) -> Confirmed {
        let mut entries = self.lock();
        let mut confirmed = Confirmed::default();
        let reachable = State::Reachable { mac: claim.mac, confirmed: now };
        let Some(entry) = entries.table.get_mut(&address) else {
            if claim.create {
                confirmed.evicted = self.make_room(now, &mut entries);
                entries.insert(address, reachable, self.capacity);
            }
            return confirmed;
        };
        match entry.state.mac() {
            Some(known) => {
                if known == claim.mac || claim.replace {
                    entry.state = reachable;
                }
                if known != claim.mac && claim.replace {
                    self.epoch.fetch_add(1, Ordering::Release);
                }
            }
            None => {
                confirmed.released = entries.remove(address).map(State::into_waiting).unwrap_or_default();
                entries.insert(address, reachable, self.capacity);
            }
        }
        confirmed
    }

    /// Forgets that `address` is at `mac`: that station has gone.
    pub fn forget(&self, address: IpAddr, mac: MacAddr) {
        let mut entries = self.lock();
        if entries.table.get(&address).is_some_and(|entry| entry.state.mac() == Some(mac)) {
            entries.remove(address);
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// The timer of `address` ran out, [`RETRANSMIT`] after the last question.
    pub fn tick(&self, address: IpAddr) -> Tick {
        let mut entries = self.lock();
        let Some(entry) = entries.table.get_mut(&address) else { return Tick::Done };
        let (attempts, again) = match &mut entry.state {
            State::Incomplete { attempts, .. } => (attempts, Tick::Ask),
            State::Probing { mac, attempts } => (attempts, Tick::AskOne(*mac)),
            State::Reachable { .. } => return Tick::Done,
        };
        if *attempts < ATTEMPTS {
            *attempts += 1;
            return again;
        }
        let state = entries.remove(address);
        self.note_gone(state.as_ref());
        Tick::Failed(state.map(State::into_waiting).unwrap_or_default())
    }

    /// Gives up entries until one more fits.
    fn make_room(&self, now: Instant, entries: &mut Entries) -> Evicted {
        let mut evicted = Evicted::default();
        while entries.table.len() >= self.capacity {
            let Some(oldest) = entries.take_turn(now) else { break };
            let state = entries.remove(oldest);
            self.note_gone(state.as_ref());
            evicted.entries += 1;
            evicted.waiting.extend(state.map(State::into_waiting).unwrap_or_default());
        }
        evicted
    }

    /// Only an address that was given out makes what workers remember wrong.
    fn note_gone(&self, state: Option<&State>) {
        if state.and_then(State::mac).is_some() {
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries and the order in which they go: those that nobody answered for first, so that a scan does
/// not push out neighbours that are there.
#[derive(Debug, Default)]
struct Entries {
    table: HashMap<IpAddr, Entry, RandomState>,
    // A place in a queue counts while the entry has the same turn.
    asked: VecDeque<(IpAddr, u64)>,
    answered: VecDeque<(IpAddr, u64)>,
    next_turn: u64,
    queued_octets: usize,
}

impl Entries {
    fn insert(&mut self, address: IpAddr, state: State, capacity: usize) {
        let turn = self.next_turn;
        self.next_turn += 1;
        let queue = if state.mac().is_some() { &mut self.answered } else { &mut self.asked };
        if queue.len() >= 2 * capacity {
            let table = &self.table;
            queue.retain(|(address, turn)| table.get(address).is_some_and(|entry| entry.turn == *turn));
        }
        queue.push_back((address, turn));
        self.table.insert(address, Entry { state, turn });
    }

    fn remove(&mut self, address: IpAddr) -> Option<State> {
        let state = self.table.remove(&address)?.state;
        if let State::Incomplete { waiting, .. } = &state {
            self.queued_octets -= octets(waiting);
        }
        Some(state)
    }

    /// The next to go. Those that answered lately get a second chance.
    fn take_turn(&mut self, now: Instant) -> Option<IpAddr> {
        const SECOND_CHANCES: usize = 8;
        while let Some((address, turn)) = self.asked.pop_front() {
            if self.table.get(&address).is_some_and(|entry| entry.turn == turn) {
                return Some(address);
            }
        }
        let mut spared = 0;
        while let Some((address, turn)) = self.answered.pop_front() {
            let Some(entry) = self.table.get(&address).filter(|entry| entry.turn == turn) else { continue };
            let lately =
                matches!(entry.state, State::Reachable { confirmed, .. } if now < confirmed + REACHABLE);
            if !lately || spared == SECOND_CHANCES {
                return Some(address);
            }
            spared += 1;
            self.answered.push_back((address, turn));
        }
        None
    }
}

impl State {
    fn into_waiting(self) -> VecDeque<Waiting> {
        match self {
            State::Incomplete { waiting, .. } => waiting,
            State::Reachable { .. } | State::Probing { .. } => VecDeque::new(),
        }
    }
}

fn octets(waiting: &VecDeque<Waiting>) -> usize {
    waiting.iter().map(|packet| packet.frame.len()).sum()
}

#[cfg(test)]
mod tests;
