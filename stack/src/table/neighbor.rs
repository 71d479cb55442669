//! The neighbours of a gateway: which MAC address has which IP address (RFC 826, RFC 4861 section 7).
//!
//! One table per network, behind a lock that only workers take, and only off the usual path: each
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
/// Octets that wait in one table.
pub const QUEUE_OCTETS: usize = 4 << 20;

/// A packet that waits for its next hop's MAC address.
#[derive(Debug)]
pub struct Waiting {
    /// The frame as it came, TTL already taken down.
    pub frame: Box<[u8]>,
    /// Its offload state.
    pub offload: Offload,
    /// Where it came from.
    pub from: PortId,
}

/// What a look-up found.
#[derive(Debug)]
pub enum Lookup {
    /// The address, good until this moment.
    Found(MacAddr, Instant),
    /// The address, but it is time to ask again: send a question to it and set a timer.
    Stale(MacAddr),
    /// Nobody knows; nobody asked yet: send a question to all and set a timer.
    Start,
    /// Nobody knows; the question is out.
    Pending,
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
enum State {
    Incomplete { waiting: VecDeque<Waiting>, attempts: u32 },
    Reachable { mac: MacAddr, confirmed: Instant },
    Probing { mac: MacAddr, attempts: u32 },
}

/// The table of one network.
#[derive(Debug)]
pub struct Neighbors {
    capacity: usize,
    epoch: AtomicU64,
    evictions: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    states: HashMap<IpAddr, State, RandomState>,
    // In order of making; an address whose entry went early stays here until its turn comes.
    order: VecDeque<IpAddr>,
    queued_octets: usize,
}

impl Neighbors {
    /// An empty table for at most `capacity` neighbours.
    pub fn new(capacity: usize) -> Neighbors {
        Neighbors {
            capacity: capacity.max(1),
            epoch: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            entries: Mutex::default(),
        }
    }

    /// The most neighbours it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves on whenever an address that was given out may no longer be right.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Entries given up early since the table was full.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// How many neighbours it holds, resolved or not.
    pub fn len(&self) -> usize {
        self.lock().states.len()
    }

    /// Whether it holds no neighbour.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of `address`, without changing anything.
    pub fn peek(&self, address: IpAddr) -> Option<MacAddr> {
        match self.lock().states.get(&address)? {
            State::Reachable { mac, .. } | State::Probing { mac, .. } => Some(*mac),
            State::Incomplete { .. } => None,
        }
    }

    /// Looks `address` up for a packet that is about to go there.
    pub fn lookup(&self, now: Instant, address: IpAddr) -> Lookup {
        let mut entries = self.lock();
        match entries.states.get_mut(&address) {
            Some(State::Reachable { mac, confirmed }) => {
                let (mac, until) = (*mac, *confirmed + REACHABLE);
                if now < until {
                    return Lookup::Found(mac, until);
                }
                entries.states.insert(address, State::Probing { mac, attempts: 1 });
                Lookup::Stale(mac)
            }
            Some(State::Probing { mac, .. }) => Lookup::Found(*mac, now + RETRANSMIT),
            Some(State::Incomplete { .. }) => Lookup::Pending,
            None => {
                self.make_room(now, &mut entries);
                let state = State::Incomplete { waiting: VecDeque::new(), attempts: 1 };
                entries.states.insert(address, state);
                entries.order.push_back(address);
                Lookup::Start
            }
        }
    }

    /// Lets a packet wait for `address`. Gives it back when there is no room or no wait.
    pub fn enqueue(&self, address: IpAddr, packet: Waiting) -> Result<(), Waiting> {
        let mut entries = self.lock();
        if entries.queued_octets + packet.frame.len() > QUEUE_OCTETS {
            return Err(packet);
        }
        let octets = packet.frame.len();
        match entries.states.get_mut(&address) {
            Some(State::Incomplete { waiting, .. }) if waiting.len() < QUEUE_PACKETS => {
                waiting.push_back(packet);
                entries.queued_octets += octets;
                Ok(())
            }
            _ => Err(packet),
        }
    }

    /// Takes in that `address` is at `mac`; gives back the packets that waited for it.
    ///
    /// Without `create`, only an entry that exists is brought up to date: an answer that nobody
    /// asked for makes none.
    pub fn confirm(&self, now: Instant, address: IpAddr, mac: MacAddr, create: bool) -> VecDeque<Waiting> {
        let mut entries = self.lock();
        match entries.states.get_mut(&address) {
            None if create => {
                self.make_room(now, &mut entries);
                entries.states.insert(address, State::Reachable { mac, confirmed: now });
                entries.order.push_back(address);
                VecDeque::new()
            }
            None => VecDeque::new(),
            Some(state) => {
                let changed = !matches!(state, State::Reachable { mac: known, .. } if *known == mac);
                let old = std::mem::replace(state, State::Reachable { mac, confirmed: now });
                if changed {
                    self.epoch.fetch_add(1, Ordering::Release);
                }
                entries.take_waiting(old)
            }
        }
    }

    /// The timer of `address` ran out, [`RETRANSMIT`] after the last question.
    pub fn tick(&self, address: IpAddr) -> Tick {
        let mut entries = self.lock();
        let attempts = match entries.states.get_mut(&address) {
            Some(State::Incomplete { attempts, .. } | State::Probing { attempts, .. }) => attempts,
            _ => return Tick::Done,
        };
        if *attempts < ATTEMPTS {
            *attempts += 1;
            return match entries.states.get(&address) {
                Some(State::Probing { mac, .. }) => Tick::AskOne(*mac),
                _ => Tick::Ask,
            };
        }
        self.epoch.fetch_add(1, Ordering::Release);
        let state = entries.states.remove(&address);
        Tick::Failed(state.map(|state| entries.take_waiting(state)).unwrap_or_default())
    }

    /// Gives up old entries until one more fits: first come, first to go, but those that answered
    /// lately get a second chance.
    fn make_room(&self, now: Instant, entries: &mut Entries) {
        const SECOND_CHANCES: usize = 8;
        let mut spared = 0;
        while entries.states.len() >= self.capacity || entries.order.len() >= 2 * self.capacity {
            let Some(oldest) = entries.order.pop_front() else { return };
            match entries.states.get(&oldest) {
                None => {}
                Some(State::Reachable { confirmed, .. })
                    if spared < SECOND_CHANCES && now.since(*confirmed) < REACHABLE =>
                {
                    spared += 1;
                    entries.order.push_back(oldest);
                }
                Some(_) => {
                    if let Some(state) = entries.states.remove(&oldest) {
                        entries.take_waiting(state);
                        self.epoch.fetch_add(1, Ordering::Release);
                        self.evictions.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn take_waiting(&mut self, state: State) -> VecDeque<Waiting> {
        let State::Incomplete { waiting, .. } = state else { return VecDeque::new() };
        self.queued_octets -= waiting.iter().map(|packet| packet.frame.len()).sum::<usize>();
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0xc612_0000 + number).into()
    }

    fn waiting(length: usize) -> Waiting {
        let from = PortId::from_u32(0);
        Waiting { frame: vec![0; length].into(), offload: Offload::default(), from }
    }

    #[test]
    fn packets_wait_for_the_answer_and_then_go() {
        let table = Neighbors::new(16);
        assert!(matches!(table.lookup(at(0), address(1)), Lookup::Start));
        assert!(matches!(table.lookup(at(0), address(1)), Lookup::Pending));
        table.enqueue(address(1), waiting(60)).unwrap();
        assert_eq!(table.confirm(at(1), address(1), MAC, false).len(), 1);
        assert!(matches!(table.lookup(at(2), address(1)), Lookup::Found(MAC, until) if until == at(31)));
        assert_eq!(table.lock().queued_octets, 0);
    }

    #[test]
    fn nobody_answers_and_the_packets_fail() {
        let table = Neighbors::new(16);
        table.lookup(at(0), address(1));
        table.enqueue(address(1), waiting(60)).unwrap();
        assert!(matches!(table.tick(address(1)), Tick::Ask));
        assert!(matches!(table.tick(address(1)), Tick::Ask));
        assert!(matches!(table.tick(address(1)), Tick::Failed(packets) if packets.len() == 1));
        assert!(table.is_empty());
    }

    #[test]
    fn a_stale_neighbour_is_used_while_it_is_asked_again() {
        let table = Neighbors::new(16);
        table.confirm(at(0), address(1), MAC, true);
        assert!(matches!(table.lookup(at(30), address(1)), Lookup::Stale(MAC)));
        assert!(matches!(table.lookup(at(30), address(1)), Lookup::Found(MAC, _)));
        assert!(matches!(table.tick(address(1)), Tick::AskOne(MAC)));
        let before = table.epoch();
        table.tick(address(1));
        assert!(matches!(table.tick(address(1)), Tick::Failed(_)));
        assert_ne!(table.epoch(), before);
    }

    #[test]
    fn waiting_packets_are_bounded_in_number_and_octets() {
        let table = Neighbors::new(1 << 20);
        table.lookup(at(0), address(0));
        assert_eq!(
            (0..100).filter(|_| table.enqueue(address(0), waiting(60)).is_ok()).count(),
            QUEUE_PACKETS
        );
        let stored = (1..1000).filter(|number| {
            table.lookup(at(0), address(*number));
            table.enqueue(address(*number), waiting(60_000)).is_ok()
        });
        assert_eq!(stored.count(), QUEUE_OCTETS / 60_000);
    }

    #[test]
    fn a_scan_does_not_push_out_neighbours_that_answer() {
        let table = Neighbors::new(64);
        for number in 0..8 {
            table.confirm(at(0), address(number), MAC, true);
        }
        for number in 1000..5000 {
            table.lookup(at(1), address(number));
        }
        assert!(table.len() <= 64);
        assert!(table.lock().order.len() <= 128);
        assert!((0..8).all(|number| table.peek(address(number)) == Some(MAC)));
        assert!(table.evictions() > 3000);
    }

    #[test]
    fn an_answer_that_nobody_asked_for_makes_no_entry() {
        let table = Neighbors::new(16);
        table.confirm(at(0), address(1), MAC, false);
        assert!(table.is_empty());
    }
}
