//! The addresses of one subnet: which are free, taken, kept for somebody, or wait after they were given back.
//!
//! Choosing takes time that grows with the logarithm of what was given out, whatever the size of the subnet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use weft_stack::Prefix;

use super::spans::{Spans, number};
use super::{Asked, Released};
use crate::model::{AddressRange, Addressing, Name, Network, Subnet};

/// One subnet's addresses.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    subnet: Subnet,
    /// What can be given out at all.
    allowed: Spans,
    /// What can be given out to anybody now.
    free: Spans,
    /// Where to look first: addresses that were given back long ago come last.
    cursor: u128,
    taken: BTreeMap<u128, Name>,
    /// What living devices have whose Ports are not known.
    held: BTreeMap<u128, Name>,
    reserved: BTreeMap<u128, String>,
    /// What is reserved, by owner.
    kept: HashMap<String, u128>,
    released: BTreeMap<u128, Released>,
    /// What was released, the oldest first.
    queue: BTreeSet<(SystemTime, u128)>,
    /// What was released last, by owner.
    left: HashMap<String, u128>,
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The subnet.
    pub prefix: Prefix,
    /// Addresses that can be given out at all, at most `u64::MAX`.
    pub size: u64,
    /// Those of them that Ports have.
    pub used: u64,
    /// Those of them that were given back and wait.
    pub quarantined: u64,
    /// Those of them that are kept for owners that do not have them.
    pub reserved: u64,
}

impl Usage {
    /// Whether somebody for whom nothing is kept would get an address now.
    pub fn is_exhausted(&self) -> bool {
        self.size <= self.used + self.quarantined + self.reserved
    }
}

impl Pool {
    /// A pool of which nothing is taken.
    pub fn of(subnet: &Subnet, network: &Network) -> Pool {
        let addressing = &network.addressing;
        let whole = AddressRange::of(&subnet.prefix);
        let (ranges, exclude) = match &subnet.pool {
            Some(pool) => (pool.ranges.clone(), pool.exclude.clone()),
            None => (Vec::new(), Vec::new()),
        };
        let mut allowed: Spans = if ranges.is_empty() { vec![whole] } else { ranges }.into_iter().collect();
        let ends = [whole.first, whole.last].into_iter().filter(|end| subnet.keeps(*end));
        let far = network.static_neighbors.addresses().filter(|address| subnet.prefix.contains(*address));
        let single = ends.chain(subnet.gateway).chain(far).map(AddressRange::single);
        for range in exclude.into_iter().chain(single) {
            allowed.remove(number(range.first), number(range.last));
        }
        let inside = addressing.reservations.iter().filter(|(address, _)| subnet.prefix.contains(**address));
        let reserved: BTreeMap<_, _> = inside.map(|(at, owner)| (number(*at), owner.clone())).collect();
        let kept: HashMap<_, _> = reserved.iter().map(|(at, owner)| (owner.clone(), *at)).collect();
        let mut free = allowed.clone();
        for address in reserved.keys() {
            free.remove(*address, *address);
        }
        Pool {
            subnet: subnet.clone(),
            allowed,
            free,
            cursor: number(subnet.prefix.address()),
            taken: BTreeMap::new(),
            held: BTreeMap::new(),
            reserved,
            kept,
            released: BTreeMap::new(),
            queue: BTreeSet::new(),
            left: HashMap::new(),
        }
    }

    /// The subnet.
    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    /// Whether anything is given out; what Ports have is known all the same.
    pub fn is_open(&self) -> bool {
        self.subnet.pool.is_some()
    }

    /// A Port has the address now. What was known of its being given back is handed over.
    pub fn take(&mut self, address: IpAddr, port: &Name) -> Option<Released> {
        let at = number(address);
        self.taken.insert(at, port.clone());
        self.free.remove(at, at);
        if self.allowed.contains(at) {
            self.cursor = at.saturating_add(1);
        }
        self.forget(at)
    }

    /// Whether this Port has it.
    pub fn is_of(&self, address: IpAddr, port: &Name) -> bool {
        self.taken.get(&number(address)) == Some(port)
    }

    /// A Port does not have the address any more, and nobody shall get it for a while.
    pub fn give_back(&mut self, address: IpAddr, released: Released) {
        let at = number(address);
        self.taken.remove(&at);
        self.remember(address, released);
    }

    /// A Port does not have the address any more, and anybody may.
    pub fn free(&mut self, address: IpAddr) {
        let at = number(address);
        self.taken.remove(&at);
        self.restore(at);
    }

    /// A living device has the address, that of a Port which is not known.
    pub fn hold(&mut self, address: IpAddr, port: &Name) {
        let at = number(address);
        self.held.insert(at, port.clone());
        self.free.remove(at, at);
    }

    /// The devices that had addresses of living devices are to be found anew. What is not held again waits as if it
    /// were given back at `now`.
    pub fn let_go(&mut self, held: &BTreeSet<IpAddr>, now: SystemTime) {
        for at in std::mem::take(&mut self.held).into_keys() {
            let address = self.address(at);
            if !held.contains(&address) && !self.taken.contains_key(&at) {
                self.remember(address, Released { owner: String::new(), at: now });
            }
        }
    }

    /// Puts down what was given back, as it was read from disk.
    pub fn remember(&mut self, address: IpAddr, released: Released) {
        let at = number(address);
        self.forget(at);
        self.free.remove(at, at);
        self.queue.insert((released.at, at));
        if !released.owner.is_empty() {
            self.left.insert(released.owner.clone(), at);
        }
        self.released.insert(at, released);
    }

    /// Lets go of what was given back long enough ago, and tells which addresses these are.
    pub fn expire(&mut self, addressing: &Addressing, now: SystemTime) -> Vec<IpAddr> {
        let longest = addressing.quarantine.max(addressing.sticky);
        let mut expired = Vec::new();
        while let Some((at, address)) =
            self.queue.first().copied().filter(|(at, _)| is_over(*at, longest, now))
        {
            debug_assert!(self.released.get(&address).is_some_and(|released| released.at == at));
            self.forget(address);
            self.restore(address);
            expired.push(self.address(address));
        }
        expired
    }

    /// The address that `asked` gets; `None`: there is none for it.
    pub fn choose(&self, asked: &Asked<'_>, addressing: &Addressing, now: SystemTime) -> Option<IpAddr> {
        let ranges = self.ranges(asked);
        let inside = |at: u128| ranges.iter().any(|(first, last)| (*first..=*last).contains(&at));
        let has = self.held.iter().find(|(at, port)| Some(*port) == asked.port && inside(**at));
        if let Some((at, _)) = has {
            return Some(self.address(*at));
        }
        let fits = |at: u128| inside(at) && !self.taken.contains_key(&at) && !self.held.contains_key(&at);
        let of_pool = |at: &u128| fits(*at) && self.allowed.contains(*at) && !self.reserved.contains_key(at);
        let reserved = self.kept.get(asked.owner).copied().filter(|at| fits(*at));
        let had = self.left.get(asked.owner).copied().filter(of_pool);
        let chosen = reserved.or(had.filter(|_| !addressing.sticky.is_zero()));
        let chosen = chosen.or_else(|| {
            let behind =
                ranges.iter().find_map(|(first, last)| self.free.least(self.cursor.max(*first), *last));
            behind.or_else(|| ranges.iter().find_map(|(first, last)| self.free.least(*first, *last)))
        });
        // Only kept for somebody who may never come back.
        let chosen = chosen.or_else(|| {
            let waiting = self.queue.iter().take_while(|(at, _)| is_over(*at, addressing.quarantine, now));
            waiting.map(|(_, address)| *address).find(of_pool)
        });
        chosen.map(|at| self.address(at))
    }

    /// Why `asked` cannot have just this address.
    pub fn refuses(&self, address: IpAddr, asked: &Asked<'_>) -> Option<Obstacle> {
        let at = number(address);
        if let Some(port) = self.taken.get(&at) {
            return Some(Obstacle::Port(port.clone()));
        }
        if let Some(port) = self.held.get(&at).filter(|port| Some(*port) != asked.port) {
            return Some(Obstacle::Survivor(port.clone()));
        }
        if self.subnet.gateway == Some(address) || self.subnet.keeps(address) {
            return Some(Obstacle::NotForHosts);
        }
        let owner = self.reserved.get(&at).filter(|owner| *owner != asked.owner)?;
        Some(Obstacle::Reserved(owner.clone()))
    }

    /// How full it is.
    pub fn usage(&self) -> Usage {
        let allowed = |at: &&u128| self.allowed.contains(**at);
        let held = |at: &&u128| allowed(at) && !self.taken.contains_key(at);
        let kept = |at: &&u128| held(at) && !self.held.contains_key(at);
        let waiting = |at: &&u128| kept(at) && !self.reserved.contains_key(at);
        Usage {
            prefix: self.subnet.prefix,
            size: if self.is_open() { self.allowed.len() } else { 0 },
            used: (self.taken.keys().filter(allowed).count() + self.held.keys().filter(held).count()) as u64,
            quarantined: self.released.keys().filter(waiting).count() as u64,
            reserved: self.reserved.keys().filter(kept).count() as u64,
        }
    }

    /// What was given back, to carry it over to another pool of the same subnet.
    pub fn released(&self) -> impl Iterator<Item = (IpAddr, &Released)> {
        self.released.iter().map(|(at, released)| (self.address(*at), released))
    }

    fn ranges(&self, asked: &Asked<'_>) -> Vec<(u128, u128)> {
        let mut own = asked
            .ranges
            .iter()
            .filter(|range| range.first.is_ipv4() == self.subnet.prefix.is_ipv4())
            .peekable();
        if own.peek().is_none() {
            return vec![(0, u128::MAX)];
        }
        own.map(|range| (number(range.first), number(range.last))).collect()
    }

    fn forget(&mut self, at: u128) -> Option<Released> {
        let known = self.released.remove(&at)?;
        self.queue.remove(&(known.at, at));
        if self.left.get(&known.owner) == Some(&at) {
            self.left.remove(&known.owner);
        }
        Some(known)
    }

    /// Anybody may have it again, if anybody ever could.
    fn restore(&mut self, at: u128) {
        let taken = self.taken.contains_key(&at) || self.held.contains_key(&at);
        let kept = taken || self.reserved.contains_key(&at);
        if self.allowed.contains(at) && !kept {
            self.free.insert(at, at);
        }
    }

    fn address(&self, at: u128) -> IpAddr {
        match self.subnet.prefix.is_ipv4() {
            // Members of an IPv4 pool have 32 bits.
            true => Ipv4Addr::from_bits(at as u32).into(),
            false => Ipv6Addr::from_bits(at).into(),
        }
    }
}

/// Why somebody cannot have an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// This Port has it.
    Port(Name),
    /// A living device has it that was made for this Port, which is not known any more.
    Survivor(Name),
    /// It is kept for this owner.
    Reserved(String),
    /// It is the gateway's, or names the subnet or all of its stations.
    NotForHosts,
}

/// Whether as much time has passed. A clock that was set back must not keep an address for years.
fn is_over(at: SystemTime, wait: Duration, now: SystemTime) -> bool {
    match now.duration_since(at) {
        Ok(passed) => passed >= wait,
        Err(ahead) => ahead.duration() > wait,
    }
}
