//! Who listens to which multicast group on a network, as IGMP and MLD snooping finds out (RFC 4541).
//!
//! Membership is kept by VLAN, group and port. The sources of IGMPv3 and MLDv2 are merged: a port that wants a group
//! from any source gets it from all, as RFC 4541 section 2.1.1 lets a switch do, and each host picks its own.
//!
//! Workers that forward read what was published last, without a lock: one list of links (VLAN and family), and one
//! small bucket of groups that the hash picks. Only messages of IGMP and MLD, and timers, take the lock, and each
//! publishes the one bucket that it changed.

mod link;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;

use crate::config::PortId;
use crate::time::Instant;
use crate::wire::membership::Query;
use link::Link;
pub(crate) use link::{LAST_MEMBER_INTERVAL, QUERY_INTERVAL, RESPONSE_INTERVAL, ROBUSTNESS};

/// Groups of a network, over all its VLANs: as many as a bridge of Linux has room for.
const MAX_GROUPS: usize = 4096;
/// Groups of one port, so that one cannot take all the room.
const MAX_GROUPS_OF_PORT: usize = 512;
const BUCKETS: usize = 1024;

/// A protocol of the internet: each has its queriers, routers and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// What became of a host's wish for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    /// It is a member already, and stays one.
    Known,
    New,
    /// The network, or this port, has no room for more groups.
    Full,
}

/// A question that the stack shall ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub vlan: u16,
    /// Who asks.
    pub source: IpAddr,
    /// `None`: for all groups.
    pub group: Option<IpAddr>,
    /// The only port that is asked; `None`: all.
    pub port: Option<PortId>,
}

/// The table of one network.
#[derive(Debug)]
pub(crate) struct Groups {
    control: Mutex<Control>,
    buckets: Box<[ArcSwap<Vec<Listeners>>]>,
    links: ArcSwap<Vec<View>>,
    hash: RandomState,
}

type Key = (u16, IpAddr);

/// A group, as workers see it.
#[derive(Debug, Clone)]
struct Listeners {
    key: Key,
    /// Ascending.
    ports: Box<[PortId]>,
}

/// A link where snooping has an effect, as workers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    vlan: u16,
    family: Family,
    routers: Box<[PortId]>,
}

/// What writers work with.
#[derive(Debug, Default)]
struct Control {
    groups: HashMap<Key, Vec<Member>, RandomState>,
    links: BTreeMap<(u16, Family), Link>,
    /// How many groups each port has.
    shares: HashMap<PortId, usize, RandomState>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    port: PortId,
    until: Instant,
    /// Somebody there left: when to ask again whether that was the last one, and how often.
    ask: Option<(Instant, u8)>,
}

/// Who gets a frame to a group. It holds what was published when it was asked for.
pub(crate) struct Audience {
    links: Guard<Arc<Vec<View>>>,
    link: usize,
    bucket: Guard<Arc<Vec<Listeners>>>,
    group: Option<usize>,
}

impl Audience {
    /// Ports with a listener, ascending.
    pub fn members(&self) -> &[PortId] {
        self.group.map_or(&[], |at| &self.bucket[at].ports)
    }

    /// Ports with a multicast router.
    pub fn routers(&self) -> &[PortId] {
        &self.links[self.link].routers
    }
}

impl Groups {
    pub fn new() -> Groups {
        Groups {
            control: Mutex::default(),
            buckets: (0..BUCKETS).map(|_| ArcSwap::default()).collect(),
            links: ArcSwap::default(),
            hash: RandomState::default(),
        }
    }

    /// Who gets frames to `group`. `None`: everybody, since nobody asks hosts what they want.
    pub fn audience(&self, vlan: u16, group: IpAddr) -> Option<Audience> {
        let links = self.links.load();
        let wanted = (vlan, Family::of(group));
        let link = links.binary_search_by_key(&wanted, |link| (link.vlan, link.family)).ok()?;
        let key = (vlan, group);
        let bucket = self.bucket(key).load();
        let group = bucket.iter().position(|listeners| listeners.key == key);
        Some(Audience { links, link, bucket, group })
    }

    /// How many groups have a listener.
    pub fn len(&self) -> usize {
        self.control().groups.len()
    }

    /// A host on `port` wants `group`.
    pub fn join(&self, now: Instant, vlan: u16, group: IpAddr, port: PortId) -> Joined {
        let mut control = self.control();
        let key = (vlan, group);
        let link = control.links.entry((vlan, Family::of(group))).or_default();
        let until = now + link.membership();
        if let Some(members) = control.groups.get_mut(&key)
            && let Some(member) = members.iter_mut().find(|member| member.port == port)
        {
            *member = Member { port, until, ask: None };
            return Joined::Known;
        }
        if control.groups.len() >= MAX_GROUPS && !control.groups.contains_key(&key) {
            // Better all get it than that those who want it do not.
            control.overflow((vlan, Family::of(group)), until);
            self.publish_links(now, &control);
            return Joined::Full;
        }
        let share = control.shares.entry(port).or_default();
        if *share >= MAX_GROUPS_OF_PORT {
            return Joined::Full;
        }
        *share += 1;
        control.groups.entry(key).or_default().push(Member { port, until, ask: None });
        self.publish(key, &control);
        Joined::New
    }

    /// A host on `port` no longer wants `group`: what to ask, to learn whether it was the last one there. Where
    /// another router asks, that one does.
    pub fn leave(&self, now: Instant, vlan: u16, group: IpAddr, port: PortId) -> Option<Question> {
        let mut control = self.control();
        let source = control.links.get(&(vlan, Family::of(group)))?.asks_as()?;
        let member = control.groups.get_mut(&(vlan, group))?.iter_mut().find(|member| member.port == port)?;
        if member.ask.is_some() {
            return None;
        }
        member.until = member.until.min(now + LAST_MEMBER_INTERVAL * u32::from(ROBUSTNESS));
        member.ask = Some((now + LAST_MEMBER_INTERVAL, ROBUSTNESS - 1));
        Some(Question { vlan, source, group: Some(group), port: Some(port) })
    }

    /// A router asked. `port` is where it is, if it may be one there.
    pub fn query(&self, now: Instant, vlan: u16, source: IpAddr, port: Option<PortId>, query: &Query) {
        let mut control = self.control();
        let link = control.links.entry((vlan, Family::of(source))).or_default();
        if let Some(port) = port {
            link.hear_router(now, port);
        }
        let shortened = link.hear_query(now, source, query).map(|wait| now + wait);
        if let (Some(group), Some(until)) = (query.group, shortened) {
            let members = control.groups.get_mut(&(vlan, group)).into_iter().flatten();
            members.for_each(|member| member.until = member.until.min(until));
        }
        self.publish_links(now, &control);
    }

    /// A multicast router on `port` spoke by another protocol.
    pub fn router(&self, now: Instant, vlan: u16, family: Family, port: PortId) {
        let mut control = self.control();
        control.links.entry((vlan, family)).or_default().hear_router(now, port);
        self.publish_links(now, &control);
    }

    /// Forgets what has run out, and tells what to ask. The stack asks on these VLANs, and where somebody listens,
    /// from the address that `asks_as` gives; `None`: it does not ask there.
    pub fn tick(
        &self,
        now: Instant,
        vlans: &[u16],
        asks_as: impl Fn(u16, Family) -> Option<IpAddr>,
    ) -> Vec<Question> {
        let mut control = self.control();
        for key in vlans.iter().flat_map(|vlan| [(*vlan, Family::V4), (*vlan, Family::V6)]) {
            if asks_as(key.0, key.1).is_some() {
                control.links.entry(key).or_default();
            }
        }
        let mut questions = Vec::new();
        for ((vlan, family), link) in &mut control.links {
            let general = |source| Question { vlan: *vlan, source, group: None, port: None };
            questions.extend(link.tick(now, asks_as(*vlan, *family)).map(general));
        }
        self.expire(now, &mut control, &mut questions);
        control.forget_idle(vlans);
        self.publish_links(now, &control);
        questions
    }

    fn expire(&self, now: Instant, control: &mut Control, questions: &mut Vec<Question>) {
        let Control { groups, links, shares } = control;
        let mut changed = Vec::new();
        for (key, members) in groups.iter_mut() {
            let before = members.len();
            members.retain(|member| member.until > now || !release(shares, member.port));
            if members.len() != before {
                changed.push(*key);
            }
            let link = links.get(&(key.0, Family::of(key.1)));
            let Some(source) = link.and_then(Link::asks_as) else { continue };
            for member in members.iter_mut() {
                if let Some((at, left)) = member.ask.filter(|(at, left)| *at <= now && *left > 0) {
                    member.ask = Some((at + LAST_MEMBER_INTERVAL, left - 1));
                    let port = Some(member.port);
                    questions.push(Question { vlan: key.0, source, group: Some(key.1), port });
                }
            }
        }
        groups.retain(|_, members| !members.is_empty());
        changed.into_iter().for_each(|key| self.publish(key, control));
    }

    /// Forgets everything about `port`.
    pub fn forget_port(&self, port: PortId) {
        let mut control = self.control();
        let mut changed = Vec::new();
        for (key, members) in &mut control.groups {
            let before = members.len();
            members.retain(|member| member.port != port);
            changed.extend((members.len() != before).then_some(*key));
        }
        control.groups.retain(|_, members| !members.is_empty());
        control.shares.remove(&port);
        control.links.values_mut().for_each(|link| link.forget_port(port));
        changed.into_iter().for_each(|key| self.publish(key, &control));
        // Links are published by the next tick: workers leave out a port that is gone.
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // Nothing in here panics half-way through a change.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bucket(&self, key: Key) -> &ArcSwap<Vec<Listeners>> {
        &self.buckets[self.hash.hash_one(key) as usize % BUCKETS]
    }

    /// Lets workers see a group as it is now.
    fn publish(&self, key: Key, control: &Control) {
        let bucket = self.bucket(key);
        let mut groups = Vec::clone(&bucket.load());
        groups.retain(|listeners| listeners.key != key);
        if let Some(members) = control.groups.get(&key) {
            let mut ports: Box<[PortId]> = members.iter().map(|member| member.port).collect();
            ports.sort_unstable();
            groups.push(Listeners { key, ports });
        }
        bucket.store(Arc::new(groups));
    }

    /// Lets workers see the links as they are now.
    fn publish_links(&self, now: Instant, control: &Control) {
        let effective = control.links.iter().filter(|(_, link)| link.is_effective(now));
        let views = effective.map(|((vlan, family), link)| View {
            vlan: *vlan,
            family: *family,
            routers: link.routers(now).collect(),
        });
        let views: Vec<View> = views.collect();
        if **self.links.load() != views {
            self.links.store(Arc::new(views));
        }
    }
}

/// One group of a port has gone.
fn release(shares: &mut HashMap<PortId, usize, RandomState>, port: PortId) -> bool {
    if let Some(share) = shares.get_mut(&port) {
        *share -= 1;
        if *share == 0 {
            shares.remove(&port);
        }
    }
    true
}

impl Control {
    /// Forgets links that nobody needs: those of VLANs that trunks allow and nobody uses.
    fn forget_idle(&mut self, vlans: &[u16]) {
        let listened: HashSet<(u16, Family)> =
            self.groups.keys().map(|(vlan, group)| (*vlan, Family::of(*group))).collect();
        self.links.retain(|key, link| {
            let asks = link.asks_as().is_some();
            link.is_heard() || asks && (vlans.contains(&key.0) || listened.contains(key))
        });
    }

    fn overflow(&mut self, link: (u16, Family), until: Instant) {
        self.links.entry(link).or_default().flood_until(until);
    }
}

/// When [`Groups::tick`] is due after a [`Groups::leave`] that gave a question: these long after it.
pub(crate) fn after_leave() -> impl Iterator<Item = Duration> {
    (1..=u32::from(ROBUSTNESS)).map(|count| LAST_MEMBER_INTERVAL * count)
}

#[cfg(test)]
mod tests;
