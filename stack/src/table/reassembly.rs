//! Fragments that wait for the rest of their datagram, where the stack itself is the end
//! (RFC 791 section 3.2, RFC 815, RFC 8200 section 4.5).
//!
//! One table for all networks, behind a lock that only fragments for a gateway take: the pieces of a
//! datagram may come to different workers. Pieces that overlap give up the whole datagram, in both
//! families (RFC 5722). What the table holds is bounded over all and for each port, and the port that
//! holds most gives way first, its oldest datagram before the others: a flood of fragments by one
//! container costs the others nothing.
//!
//! What a fragment's headers mean, and whether they are well formed, is for the caller to know.

mod datagram;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::config::PortId;
use crate::time::Instant;
use crate::verdict::DropReason;
use datagram::{Added, Pieces};

pub use datagram::{Fragment, Whole};

/// How long an IPv4 datagram may take to arrive: what Linux waits (`net.ipv4.ipfrag_time`). RFC 791
/// speaks of 15 s, RFC 1122 section 3.3.2 of 60 to 120 s; at today's rates, where 16 bits of
/// identification come round in seconds, less is safer (RFC 4963).
pub const TIMEOUT_V4: Duration = Duration::from_secs(30);
/// How long an IPv6 datagram may take to arrive (RFC 8200 section 4.5).
pub const TIMEOUT_V6: Duration = Duration::from_secs(60);
/// What is counted for a piece or a datagram beside its octets.
const OVERHEAD: usize = 128;
/// How late a timer may be served.
const LATE: Duration = Duration::from_secs(1);
/// Datagrams that are given up in one go when their time is over.
const EXPIRE_AT_ONCE: usize = 64;

/// How much a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Octets over all, with an allowance for each piece.
    pub octets: usize,
    /// Octets that came from one port.
    pub octets_per_port: usize,
    /// Datagrams over all.
    pub datagrams: usize,
    /// Datagrams that came from one port.
    pub datagrams_per_port: usize,
    /// Pieces of one datagram.
    pub pieces: usize,
}

impl Default for Bounds {
    /// 4 MiB over all, as Linux (`net.ipv4.ipfrag_high_thresh`), and a quarter for each port. 128
    /// pieces make the longest datagram at the MTU of 576 octets that every host takes.
    fn default() -> Bounds {
        Bounds {
            octets: 4 << 20,
            octets_per_port: 1 << 20,
            datagrams: 1024,
            datagrams_per_port: 256,
            pieces: 128,
        }
    }
}

/// What the pieces of one datagram have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The id of the router's interface that they came by: behind it an address is one host.
    pub interface: u32,
    /// Who sent them.
    pub source: IpAddr,
    /// Who they are for.
    pub destination: IpAddr,
    /// Protocol of an IPv4 datagram; 0 for IPv6, which does not tell them apart by it.
    pub protocol: u8,
    /// Identification.
    pub id: u32,
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Outcome {
    /// It waits, or it is there already.
    Held,
    /// It was the last one missing.
    Whole(Whole),
    /// It goes no further, and why.
    Refused(DropReason),
}

/// A fragment's outcome, and what else came of it.
#[derive(Debug)]
pub struct Insertion {
    /// What became of the fragment.
    pub outcome: Outcome,
    /// What went with it, or to make room.
    pub given_up: Vec<GivenUp>,
    /// Call [`Reassembly::expire`] at this moment.
    pub timer: Option<Instant>,
}

/// Pieces of a datagram that will never be whole.
#[derive(Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The port that the first of them came from.
    pub from: PortId,
    /// How many.
    pub pieces: usize,
    /// Why.
    pub reason: DropReason,
    /// Where the datagram's time is over and its sender is to know: the interface that the piece at
    /// offset 0 came by, and its frame.
    pub first: Option<(u32, Box<[u8]>)>,
}

/// What [`Reassembly::expire`] found.
#[derive(Debug, Default)]
pub struct Expired {
    /// Datagrams whose time is over.
    pub given_up: Vec<GivenUp>,
    /// Call it again at this moment.
    pub timer: Option<Instant>,
}

/// The table.
#[derive(Debug, Default)]
pub struct Reassembly {
    bounds: Bounds,
    table: Mutex<Table>,
}

impl Reassembly {
    /// An empty table.
    pub fn new(bounds: Bounds) -> Reassembly {
        Reassembly { bounds, table: Mutex::default() }
    }

    /// Octets that it holds now, with an allowance for each piece, and datagrams.
    pub fn size(&self) -> (usize, usize) {
        let table = self.lock();
        (table.octets, table.datagrams.len())
    }

    /// Takes in a fragment of the datagram `key` that came from `from`. Its octets end within the
    /// longest packet.
    pub fn insert(&self, now: Instant, key: Key, from: PortId, fragment: &Fragment) -> Insertion {
        let mut table = self.lock();
        let mut given_up = Vec::new();
        let outcome = table.insert(now, key, from, fragment, &self.bounds, &mut given_up);
        let timer = table.timer_to_set(now);
        Insertion { outcome, given_up, timer }
    }

    /// Gives up the datagrams whose time is over at `now`, a number of them at most. Whoever was told a
    /// `timer` calls this then.
    pub fn expire(&self, now: Instant) -> Expired {
        let mut table = self.lock();
        // Of two timers, set by workers that did not know of each other, the later finds nothing.
        table.armed = table.armed.filter(|at| *at > now);
        let mut given_up = Vec::new();
        for _ in 0..EXPIRE_AT_ONCE {
            let due = table.deadlines.first_key_value().filter(|((at, _), _)| *at <= now);
            let Some((_, key)) = due else { break };
            let key = *key;
            given_up.extend(table.remove(&key).and_then(|datagram| datagram.into_expired(key.interface)));
        }
        Expired { given_up, timer: table.timer_to_set(now) }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A datagram on its way.
#[derive(Debug)]
struct Datagram {
    from: PortId,
    deadline: Instant,
    turn: u64,
    octets: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Pieces),
    /// It was given up, and so is what still comes of it until its time is over.
    Refused(DropReason),
}

impl Datagram {
    fn into_expired(self, interface: u32) -> Option<GivenUp> {
        match self.state {
            State::Open(pieces) => Some(GivenUp {
                from: self.from,
                pieces: pieces.count(),
                reason: DropReason::ReassemblyTimeout,
                first: pieces.first_frame().map(|frame| (interface, frame)),
            }),
            State::Refused(_) => None,
        }
    }
}

/// What one port holds, oldest first.
#[derive(Debug, Default)]
struct Account {
    octets: usize,
    by_age: BTreeMap<u64, Key>,
}

#[derive(Debug, Default)]
struct Table {
    datagrams: HashMap<Key, Datagram, RandomState>,
    accounts: HashMap<PortId, Account, RandomState>,
    deadlines: BTreeMap<(Instant, u64), Key>,
    octets: usize,
    next_turn: u64,
    /// The earliest moment that somebody was told to come back at.
    armed: Option<Instant>,
}

impl Table {
    fn insert(
        &mut self,
        now: Instant,
        key: Key,
        from: PortId,
        fragment: &Fragment,
        bounds: &Bounds,
        given_up: &mut Vec<GivenUp>,
    ) -> Outcome {
        if !self.datagrams.contains_key(&key) {
            self.open(now, key, from);
        }
        // It is there: it was found or has just been opened.
        let Some(datagram) = self.datagrams.get_mut(&key) else {
            return Outcome::Refused(DropReason::ReassemblyFull);
        };
        let pieces = match &mut datagram.state {
            State::Open(pieces) => pieces,
            State::Refused(reason) => return Outcome::Refused(*reason),
        };
        match pieces.add(fragment, bounds.pieces) {
            Added::Duplicate => Outcome::Held,
            Added::New { octets } => {
                self.charge(&key, octets + OVERHEAD);
                if self.make_room(&key, bounds, given_up) {
                    Outcome::Held
                } else {
                    Outcome::Refused(DropReason::ReassemblyFull)
                }
            }
            Added::Whole => match self.remove(&key).map(|datagram| (datagram.from, datagram.state)) {
                Some((from, State::Open(pieces))) => close(from, pieces, given_up),
                _ => Outcome::Refused(DropReason::ReassemblyFull),
            },
            Added::Refused(reason) => {
                given_up.extend(self.refuse(&key, reason));
                Outcome::Refused(reason)
            }
        }
    }

    fn open(&mut self, now: Instant, key: Key, from: PortId) {
        let turn = self.next_turn;
        self.next_turn += 1;
        let deadline = now + if key.source.is_ipv4() { TIMEOUT_V4 } else { TIMEOUT_V6 };
        self.deadlines.insert((deadline, turn), key);
        self.accounts.entry(from).or_default().by_age.insert(turn, key);
        let state = State::Open(Pieces::default());
        self.datagrams.insert(key, Datagram { from, deadline, turn, octets: 0, state });
        self.charge(&key, OVERHEAD);
    }

    /// Adds octets to what a datagram, its port and the table hold.
    fn charge(&mut self, key: &Key, octets: usize) {
        let Some(datagram) = self.datagrams.get_mut(key) else { return };
        datagram.octets += octets;
        self.octets += octets;
        self.accounts.entry(datagram.from).or_default().octets += octets;
    }

    /// Takes a datagram out, and everything that is counted for it.
    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.deadlines.remove(&(datagram.deadline, datagram.turn));
        self.octets -= datagram.octets;
        if let Some(account) = self.accounts.get_mut(&datagram.from) {
            account.octets -= datagram.octets;
            account.by_age.remove(&datagram.turn);
            if account.by_age.is_empty() {
                self.accounts.remove(&datagram.from);
            }
        }
        Some(datagram)
    }

    /// Gives up a datagram, and remembers that it was.
    fn refuse(&mut self, key: &Key, reason: DropReason) -> Option<GivenUp> {
        let datagram = self.datagrams.get_mut(key)?;
        let State::Open(pieces) = std::mem::replace(&mut datagram.state, State::Refused(reason)) else {
            return None;
        };
        let freed = datagram.octets - OVERHEAD;
        datagram.octets = OVERHEAD;
        self.octets -= freed;
        self.accounts.entry(datagram.from).or_default().octets -= freed;
        let given_up = GivenUp { from: datagram.from, pieces: pieces.count(), reason, first: None };
        (given_up.pieces > 0).then_some(given_up)
    }

    /// Gives up datagrams until all bounds hold: of the port that `current` is counted for, and then of
    /// the one that holds most, or of several that has the oldest. False: `current`, which just grew by a piece, had to go itself.
    fn make_room(&mut self, current: &Key, bounds: &Bounds, given_up: &mut Vec<GivenUp>) -> bool {
        let Some(from) = self.datagrams.get(current).map(|datagram| datagram.from) else { return false };
        while self.accounts.get(&from).is_some_and(|account| {
            account.octets > bounds.octets_per_port || account.by_age.len() > bounds.datagrams_per_port
        }) {
            self.evict(from, current, given_up);
        }
        while self.octets > bounds.octets || self.datagrams.len() > bounds.datagrams {
            let most = self.accounts.iter().max_by_key(|(_, account)| {
                (account.octets, Reverse(account.by_age.first_key_value().map(|(turn, _)| *turn)))
            });
            let Some((port, _)) = most else { break };
            self.evict(*port, current, given_up);
        }
        self.datagrams.contains_key(current)
    }

    /// Gives up the oldest datagram of a port. The fragment at hand, which is one of `current`'s pieces,
    /// is told of by its outcome.
    fn evict(&mut self, port: PortId, current: &Key, given_up: &mut Vec<GivenUp>) {
        let oldest = self.accounts.get(&port).and_then(|account| account.by_age.first_key_value());
        let Some((_, key)) = oldest else { return };
        let key = *key;
        let Some(Datagram { from, state: State::Open(pieces), .. }) = self.remove(&key) else { return };
        let pieces = pieces.count() - usize::from(key == *current);
        if pieces > 0 {
            let reason = DropReason::ReassemblyFull;
            given_up.push(GivenUp { from, pieces, reason, first: None });
        }
    }

    /// The moment of the earliest deadline, unless somebody comes by then anyway. Who is late by more
    /// than a second does not come any more: the worker was replaced.
    fn timer_to_set(&mut self, now: Instant) -> Option<Instant> {
        let (earliest, _) = *self.deadlines.first_key_value()?.0;
        if self.armed.is_some_and(|armed| armed <= earliest && now <= armed + LATE) {
            return None;
        }
        self.armed = Some(earliest);
        Some(earliest)
    }
}

/// All pieces are there: puts them together, if they may be.
fn close(from: PortId, pieces: Pieces, given_up: &mut Vec<GivenUp>) -> Outcome {
    let count = pieces.count();
    match pieces.into_whole() {
        Ok(whole) => Outcome::Whole(whole),
        Err(reason) => {
            // The fragment at hand is one of them, and is told of by the outcome.
            let pieces = count - 1;
            given_up.extend((pieces > 0).then_some(GivenUp { from, pieces, reason, first: None }));
            Outcome::Refused(reason)
        }
    }
}

#[cfg(test)]
mod tests;
