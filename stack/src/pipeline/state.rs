//! What one worker remembers by itself, beside the tables that all share.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::Timer;
use crate::MacAddr;
use crate::batch::Origin;
use crate::config::PortId;
use crate::limit::Limits;
use crate::offload::coalesce::Coalescer;
use crate::replay::Replays;
use crate::stage::advertise::Farewell;
use crate::stage::fragment::FragmentIds;
use crate::stage::neighbor::succession::Succession;
use crate::stage::shape::Waiting;
use crate::table::shortcut::Shortcuts;
use crate::time::Instant;
use crate::tunnel::wireguard::Event;

/// A neighbour as a worker looked it up last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedNeighbor {
    pub interface: u32,
    pub address: IpAddr,
    pub mac: MacAddr,
    pub epoch: u64,
    pub until: Instant,
}

const CACHE_SLOTS: usize = 1024;

/// What one worker remembers by itself.
#[derive(Debug)]
pub(crate) struct State {
    pub limits: Limits,
    pub coalescer: Coalescer,
    pub fragment_ids: FragmentIds,
    pub farewells: Vec<Farewell>,
    cache: Box<[Option<CachedNeighbor>]>,
    pub shortcuts: Shortcuts,
    hash: RandomState,
    pub timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// What WireGuard wants done, for a moment.
    pub events: Vec<Event>,
    /// Frames that came out of tunnels which routers carry: the far ends' ports, and where they are.
    pub decapsulated: Vec<(PortId, Origin)>,
    /// Frames that wait for their turn at a port's rate.
    pub waiting: Waiting,
    /// Verdicts that may be replayed, until somebody takes them.
    pub replays: Replays,
    /// There is a [`Timer::Upkeep`].
    pub upkeep: bool,
    /// Whose the addresses of former ports were; of the first worker.
    pub succession: Succession,
}

impl State {
    pub fn new() -> State {
        State {
            limits: Limits::new(),
            coalescer: Coalescer::default(),
            fragment_ids: FragmentIds::default(),
            farewells: Vec::new(),
            cache: vec![None; CACHE_SLOTS].into(),
            shortcuts: Shortcuts::default(),
            hash: RandomState::default(),
            timers: BinaryHeap::new(),
            events: Vec::new(),
            decapsulated: Vec::new(),
            waiting: Waiting::default(),
            replays: Replays::default(),
            upkeep: false,
            succession: Succession::default(),
        }
    }

    fn slot(&self, interface: u32, address: IpAddr) -> usize {
        // Numbers, not the types' own way of hashing: that goes octet by octet.
        let mut hasher = self.hash.build_hasher();
        hasher.write_u32(interface);
        match address {
            IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
            IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
        }
        hasher.finish() as usize % CACHE_SLOTS
    }

    pub fn cached(&self, interface: u32, address: IpAddr, epoch: u64, now: Instant) -> Option<MacAddr> {
        let found = self.last_cached(interface, address)?;
        (found.epoch == epoch && now < found.until).then_some(found.mac)
    }

    /// What was looked up last, though it may no longer hold.
    pub fn last_cached(&self, interface: u32, address: IpAddr) -> Option<&CachedNeighbor> {
        let found = self.cache[self.slot(interface, address)].as_ref()?;
        (found.interface == interface && found.address == address).then_some(found)
    }

    pub fn cache(&mut self, neighbor: CachedNeighbor) {
        self.cache[self.slot(neighbor.interface, neighbor.address)] = Some(neighbor);
    }

    /// Has `timer` run out at `at`.
    pub fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
    }
}
