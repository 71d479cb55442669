//! The entries of a neighbour table and the order in which they go: those that nobody answered for first, so
//! that a scan does not push out neighbours that are there.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::{Claim, NEIGHBOR_OCTETS, QUEUE_OCTETS, QUEUE_PACKETS, Reachability, UNUSED, Waiting};
use crate::MacAddr;
use crate::config::PortId;
use crate::time::Instant;

/// What is kept of one neighbour.
#[derive(Debug)]
pub(super) struct Entry {
    pub state: State,
    /// When something is to be done, in the states in which there is.
    pub due: Instant,
    /// When its timer runs out; a moment of the past: there is none. It may be earlier than `due`.
    pub timer: Instant,
    /// The port that told where it is.
    pub port: Option<PortId>,
    /// Its place in the queue of those asked for or of those that answered.
    turn: u64,
}

/// What is known of it.
#[derive(Debug)]
pub(super) enum State {
    Incomplete {
        waiting: VecDeque<Waiting>,
        attempts: u32,
    },
    /// REACHABLE until that moment, STALE from then on.
    Known {
        mac: MacAddr,
        until: Instant,
    },
    Delay {
        mac: MacAddr,
    },
    Probe {
        mac: MacAddr,
        attempts: u32,
    },
    Failed {
        until: Instant,
    },
}

impl State {
    pub fn mac(&self) -> Option<MacAddr> {
        match self {
            State::Known { mac, .. } | State::Delay { mac } | State::Probe { mac, .. } => Some(*mac),
            State::Incomplete { .. } | State::Failed { .. } => None,
        }
    }

    pub fn reachability(&self, now: Instant) -> Reachability {
        match self {
            State::Incomplete { .. } => Reachability::Incomplete,
            State::Known { until, .. } if now < *until => Reachability::Reachable,
            State::Known { .. } => Reachability::Stale,
            State::Delay { .. } => Reachability::Delay,
            State::Probe { .. } => Reachability::Probe,
            State::Failed { .. } => Reachability::Failed,
        }
    }

    pub fn into_waiting(self) -> VecDeque<Waiting> {
        match self {
            State::Incomplete { waiting, .. } => waiting,
            _ => VecDeque::new(),
        }
    }

    /// Whether it is of no more use: it did not answer, or nothing was sent to it for long.
    fn is_idle(&self, now: Instant) -> bool {
        match self {
            State::Known { until, .. } => *until + UNUSED <= now,
            State::Failed { until } => *until <= now,
            State::Incomplete { .. } | State::Delay { .. } | State::Probe { .. } => false,
        }
    }
}

impl Entry {
    /// An entry whose timer runs out at `due`.
    pub fn new(state: State, due: Instant) -> Entry {
        Entry { state, due, timer: due, port: None, turn: 0 }
    }

    pub fn has_timer(&self, now: Instant) -> bool {
        now < self.timer
    }

    /// An entry for a neighbour that a frame from `port` told of; it has no timer.
    pub fn told(state: State, port: PortId) -> Entry {
        Entry { port: Some(port), ..Entry::new(state, Instant::default()) }
    }

    /// Whether a claim shows that the neighbour can be reached: it answers a question.
    pub fn answers(&self, claim: Claim) -> bool {
        match claim {
            Claim::Told { .. } => false,
            Claim::Reply { .. } => matches!(self.state, State::Incomplete { .. } | State::Probe { .. }),
            Claim::Advertised { solicited, .. } => solicited,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Entries {
    pub table: HashMap<IpAddr, Entry, RandomState>,
    // A place in a queue counts while the entry has the same turn.
    pub asked: VecDeque<(IpAddr, u64)>,
    pub answered: VecDeque<(IpAddr, u64)>,
    next_turn: u64,
    pub queued_octets: usize,
}

impl Entries {
    pub fn insert(&mut self, address: IpAddr, entry: Entry, capacity: usize) {
        let turn = self.next_turn;
        self.next_turn += 1;
        let queue = if entry.state.mac().is_some() { &mut self.answered } else { &mut self.asked };
        if queue.len() >= 2 * capacity {
            let table = &self.table;
            queue.retain(|(address, turn)| table.get(address).is_some_and(|entry| entry.turn == *turn));
        }
        queue.push_back((address, turn));
        self.table.insert(address, Entry { turn, ..entry });
    }

    pub fn remove(&mut self, address: IpAddr) -> Option<Entry> {
        let entry = self.table.remove(&address)?;
        if let State::Incomplete { waiting, .. } = &entry.state {
            self.queued_octets -= octets(waiting);
        }
        Some(entry)
    }

    pub fn enqueue(&mut self, address: IpAddr, octets: usize, packet: impl FnOnce() -> Waiting) -> bool {
        if self.queued_octets + octets > QUEUE_OCTETS {
            return false;
        }
        let Some(Entry { state: State::Incomplete { waiting, .. }, .. }) = self.table.get_mut(&address)
        else {
            return false;
        };
        if waiting.len() >= QUEUE_PACKETS || self::octets(waiting) + octets > NEIGHBOR_OCTETS {
            return false;
        }
        waiting.push_back(packet());
        self.queued_octets += octets;
        true
    }

    /// Forgets resolved neighbours; tells whether there were any such.
    pub fn forget(&mut self, gone: impl Fn(IpAddr, MacAddr, Option<PortId>) -> bool) -> bool {
        let before = self.table.len();
        self.table
            .retain(|address, entry| entry.state.mac().is_none_or(|mac| !gone(*address, mac, entry.port)));
        self.table.len() != before
    }

    /// The next to go. Those in use get a second chance.
    pub fn take_turn(&mut self, now: Instant) -> Option<IpAddr> {
        const SECOND_CHANCES: usize = 8;
        while let Some((address, turn)) = self.asked.pop_front() {
            if self.table.get(&address).is_some_and(|entry| entry.turn == turn) {
                return Some(address);
            }
        }
        let mut spared = 0;
        while let Some((address, turn)) = self.answered.pop_front() {
            let Some(entry) = self.table.get(&address).filter(|entry| entry.turn == turn) else { continue };
            if entry.state.reachability(now) == Reachability::Stale || spared == SECOND_CHANCES {
                return Some(address);
            }
            spared += 1;
            self.answered.push_back((address, turn));
        }
        None
    }

    pub fn places(&self) -> usize {
        self.asked.len().max(self.answered.len())
    }

    /// Looks at the first `places` of both queues; those that stay go to the end.
    pub fn sweep(&mut self, now: Instant, places: usize) {
        for answered in [false, true] {
            let queue = if answered { &self.answered } else { &self.asked };
            for _ in 0..places.min(queue.len()) {
                let queue = if answered { &mut self.answered } else { &mut self.asked };
                let Some((address, turn)) = queue.pop_front() else { break };
                match self.table.get(&address).filter(|entry| entry.turn == turn) {
                    Some(entry) if entry.state.is_idle(now) => drop(self.remove(address)),
                    Some(_) if answered => self.answered.push_back((address, turn)),
                    Some(_) => self.asked.push_back((address, turn)),
                    None => {}
                }
            }
        }
    }
}

fn octets(waiting: &VecDeque<Waiting>) -> usize {
    waiting.iter().map(|packet| packet.frame.len()).sum()
}
