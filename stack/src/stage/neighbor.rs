//! Neighbour: answers for the gateway's addresses, and finds the MAC addresses of next hops
//! (ARP, RFC 826 and 5227; neighbour discovery, RFC 4861 section 7).
//!
//! This file looks up, lets packets wait and asks; `arp` and `discovery` read and write the messages, `announce`
//! says unasked whose the gateway's addresses are, `succession` whose those of another port are now, and `proxy` for
//! whom else it answers.

pub mod announce;
mod arp;
mod discovery;
pub mod proxy;
pub mod succession;
pub mod suppress;

use std::net::IpAddr;
use std::time::Duration;

use super::egress::{self, Delivery, Targets};
use super::{Answer, Frame, Layer3, Rejection, advertise, bridge, icmp_error, ingress};
use crate::MacAddr;
use crate::batch::Origin;
use crate::config::{Interface, Port};
use crate::packet::Packet;
use crate::pipeline::{CachedNeighbor, Context, Timer};
use crate::table::neighbor::{Claim, Evicted, Lookup, Neighbors, RETRANSMIT, Tick, Waiting};
use crate::table::next_hops::NextHop;
use crate::time::Instant;
use crate::trace::step;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{icmpv4, icmpv6, ipv6};

/// Takes in an ARP or neighbour discovery message for the gateway. `None`: the frame is neither.
#[inline(always)] // one comparison for most packets
pub(crate) fn receive(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    interface: &Interface,
) -> Result<Option<Verdict>, Rejection> {
    // Through a tunnel nobody asks for MAC addresses.
    if matches!(frame.network, Layer3::Ipv4(_)) || interface.far.is_some() {
        return Ok(None);
    }
    take_in(cx, packet, frame, from, interface)
}

fn take_in(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    interface: &Interface,
) -> Result<Option<Verdict>, Rejection> {
    let encounter = Encounter { frame, from, interface };
    match &frame.network {
        Layer3::Arp(message) => {
            arp::receive(cx, message, &encounter)?;
            Ok(Some(Verdict::Answered))
        }
        Layer3::Ipv6(header) if header.protocol == ipv6::ICMPV6 && !header.fragment => {
            if advertise::receive(cx, packet, frame, from, interface)? {
                return Ok(Some(Verdict::Answered));
            }
            if !discovery::is_neighbors(frame.transport(packet.frame())) {
                return Ok(None);
            }
            discovery::receive(cx, packet, header, &encounter)?;
            Ok(Some(Verdict::Answered))
        }
        _ => Ok(None),
    }
}

/// Listens to what goes to all: a gratuitous ARP (RFC 5227 section 3) or an unsolicited advertisement (RFC 4861
/// section 7.2.6), which brings what is known up to date, and router solicitations.
pub(crate) fn overhear(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port) {
    let Some(interface) = cx.config.interface(from.network, frame.vlan) else { return };
    let encounter = Encounter { frame, from, interface };
    match &frame.network {
        Layer3::Arp(message) => arp::overhear(cx, message, &encounter),
        Layer3::Ipv6(header) if header.protocol == ipv6::ICMPV6 && !header.fragment => {
            discovery::overhear(cx, packet, header, &encounter);
            // One that breaks the rules goes on to whoever else is a router here.
            let _ = advertise::receive(cx, packet, frame, from, interface);
        }
        _ => {}
    }
}

/// A frame, the port that it came from, and the gateway that has to do with it.
struct Encounter<'a> {
    frame: &'a Frame,
    from: &'a Port,
    interface: &'a Interface,
}

impl<'a> Encounter<'a> {
    /// How an answer goes back.
    fn back(&self, cx: &Context<'a>) -> Delivery<'a> {
        Delivery { tag: self.frame.tag, ..Delivery::by(cx, self.interface, Some(self.from)) }
    }
}

/// Notes what is claimed about `address`, and sends what waited for it.
///
/// An address that a port has by configuration is where that port is: what another port says about it, one that
/// may say anything since its source is not checked, is counted and not believed. So is what anybody says about an
/// address that is known for good, unless it is the same.
fn note(cx: &mut Context, encounter: &Encounter, address: IpAddr, claim: Claim) {
    let Encounter { from, interface, .. } = *encounter;
    let unusable = claim.mac().is_some_and(|mac| mac.is_multicast() || mac.is_zero());
    if cx.dry_run || unusable || interface.has(address) {
        return;
    }
    if let Some(known) = interface.static_neighbors.get(address) {
        cx.counters.address_conflicts.add(u64::from(claim.mac().is_some_and(|mac| mac != known)));
        return;
    }
    let owner = owner_of(cx, interface, address);
    if owner.is_some_and(|owner| owner.id != from.id) && !from.addresses.contains(&address) {
        cx.counters.address_conflicts.add(1);
        return;
    }
    let released = interface.neighbors.hear(cx.now, address, claim, from.id);
    if let Some(mac) = claim.mac() {
        for waiting in released {
            release(cx, interface, waiting, mac);
        }
    }
}

/// Counts what went to make room in a full table.
fn count_evicted(cx: &Context, evicted: &Evicted) {
    cx.counters.neighbor_evictions.add(evicted.entries);
    for port in evicted.waiting.iter().filter_map(|waiting| cx.config.port(waiting.from)) {
        port.counters(cx.worker).drop(DropReason::NeighborTableFull);
    }
}

/// Sends a packet that waited, now that its next hop is known.
fn release(cx: &mut Context, interface: &Interface, waiting: Waiting, mac: MacAddr) {
    revive(cx, waiting, |cx, packet, origin, frame, from| {
        let station = bridge::station(cx, interface, mac);
        if let Err(rejection) = egress::routed(cx, packet, origin, frame, interface, station) {
            cx.reject(rejection, packet, frame, from);
        }
    });
}

/// Takes a packet that waited in hand again, as it came.
fn revive(
    cx: &mut Context,
    waiting: Waiting,
    go_on: impl FnOnce(&mut Context, &mut Packet, Origin, &Frame, &Port),
) {
    let Some(from) = cx.config.port(waiting.from) else { return };
    let (origin, mut packet) = cx.output.take_for(waiting.frame.len());
    packet.set_frame(&waiting.frame);
    packet.offload = waiting.offload;
    if let Ok(frame) = ingress::parse(packet.frame()) {
        let frame = Frame { vlan: waiting.vlan, own: waiting.own, ..frame };
        go_on(cx, &mut packet, origin, &frame, from);
    }
    cx.output.put(origin, packet);
}

/// Never: until then a neighbour holds that is known for good.
const FOR_GOOD: Instant = Instant::from_nanos(u64::MAX);

/// The MAC address of a next hop. `None`: the packet waits for it.
pub(crate) fn resolve(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    hop: &NextHop,
) -> Result<Option<MacAddr>, Rejection> {
    let config = cx.config;
    let interface = &config.interfaces[hop.interface];
    if interface.far.is_some() {
        return Ok(interface.far);
    }
    if cx.dry_run {
        return Ok(peek(cx, interface, hop.address));
    }
    let epoch = interface.neighbors.epoch();
    if let Some(mac) = cx.state.cached(interface.id, hop.address, epoch, cx.now) {
        return Ok(Some(mac));
    }
    if let Some(mac) = interface.static_neighbors.get(hop.address) {
        let (interface, address) = (interface.id, hop.address);
        cx.state.cache(CachedNeighbor { interface, address, mac, epoch, until: FOR_GOOD });
        return Ok(Some(mac));
    }
    let owner = owner_of(cx, interface, hop.address);
    let (limits, now) = (&mut cx.state.limits, cx.now);
    let may_ask = || match owner {
        Some(_) => limits.owner_solicitations.allow(now),
        None => limits.solicitations.allow(now),
    };
    let (mac, until) = match interface.neighbors.lookup(cx.now, hop.address, may_ask) {
        Lookup::Found(mac, until) => (mac, until),
        Lookup::Delay(mac, until) => {
            set_timer(cx, interface, hop.address, until);
            (mac, until)
        }
        Lookup::Start(evicted) => {
            count_evicted(cx, &evicted);
            set_timer(cx, interface, hop.address, cx.now + RETRANSMIT);
            let queued = wait(packet, frame, from, &interface.neighbors, hop.address);
            solicit(cx, interface, hop.address, None, owner);
            return queued;
        }
        Lookup::Pending => return wait(packet, frame, from, &interface.neighbors, hop.address),
        Lookup::Silent => {
            return Err(Rejection {
                reason: DropReason::NeighborUnreachable,
                answer: Some(unreachable(frame)),
            });
        }
        Lookup::Refused => return Err(DropReason::NeighborTableFull.into()),
    };
    cx.state.cache(CachedNeighbor { interface: interface.id, address: hop.address, mac, epoch, until });
    Ok(Some(mac))
}

/// Lets a packet wait for its next hop.
fn wait(
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    neighbors: &Neighbors,
    address: IpAddr,
) -> Result<Option<MacAddr>, Rejection> {
    let copy = || Waiting {
        frame: packet.frame().into(),
        offload: packet.offload,
        from: from.id,
        vlan: frame.vlan,
        own: frame.own,
    };
    if neighbors.enqueue(address, packet.len(), copy) {
        Ok(None)
    } else {
        Err(DropReason::NeighborQueueFull.into())
    }
}

/// The port that has this address by configuration, if the gateway can reach it.
fn owner_of<'a>(cx: &Context<'a>, interface: &Interface, address: IpAddr) -> Option<&'a Port> {
    let network = &cx.config.networks[interface.network];
    let owner = cx.config.port(*network.owners.get(&address)?)?;
    (owner.vlans.own() == Some(interface.vlan)).then_some(owner)
}

fn peek(cx: &mut Context, interface: &Interface, address: IpAddr) -> Option<MacAddr> {
    let network = &cx.config.networks[interface.network];
    if let Some(mac) = interface.static_neighbors.get(address) {
        step!(cx, "neighbor", "{address} on network {} is at {mac} for good", network.name);
        return Some(mac);
    }
    let known = interface.neighbors.peek(cx.now, address);
    match known {
        Some((state, Some(mac))) => {
            step!(cx, "neighbor", "{address} on network {} is at {mac} ({state:?})", network.name);
        }
        Some((state, None)) => {
            step!(cx, "neighbor", "{address} on network {} is not known ({state:?})", network.name);
        }
        None => {
            step!(
                cx,
                "neighbor",
                "{address} on network {} is not known yet: would be asked for",
                network.name
            );
        }
    }
    known.and_then(|(_, mac)| mac)
}

/// Asks for `address` once more, unless too much is asked, and sets the timer.
fn ask_again(cx: &mut Context, interface: &Interface, address: IpAddr, known: Option<MacAddr>) {
    set_timer(cx, interface, address, cx.now + RETRANSMIT);
    let station = known.and_then(|mac| bridge::find(cx, interface, mac));
    let whom = station.or_else(|| owner_of(cx, interface, address));
    if whom.is_some() || cx.state.limits.solicitations.allow(cx.now) {
        solicit(cx, interface, address, known, whom);
    }
}

fn set_timer(cx: &mut Context, interface: &Interface, address: IpAddr, at: Instant) {
    cx.state.set_timer(at, Timer::Neighbor { interface: interface.id, address });
}

/// Asks for `address`, all ports or `whom` alone: whose address it is, is often known, and then nobody
/// else needs to hear the question.
fn solicit(
    cx: &mut Context,
    gateway: &Interface,
    address: IpAddr,
    known: Option<MacAddr>,
    whom: Option<&Port>,
) {
    let delivery =
        Delivery { targets: whom.map_or(Targets::All, Targets::One), ..Delivery::by(cx, gateway, None) };
    match address {
        IpAddr::V4(target) => arp::ask(cx, gateway, target, known, &delivery),
        IpAddr::V6(target) => discovery::ask(cx, gateway, target, known, &delivery),
    }
}

/// The timer of a neighbour ran out.
pub(crate) fn expire(cx: &mut Context, interface: &Interface, address: IpAddr) {
    if let Some(mac) = interface.static_neighbors.get(address) {
        // It was asked for before it was known for good.
        for waiting in interface.neighbors.take(address) {
            release(cx, interface, waiting, mac);
        }
        return;
    }
    match interface.neighbors.tick(cx.now, address) {
        Tick::Done => {}
        Tick::Wait(due) => set_timer(cx, interface, address, due),
        Tick::Ask => ask_again(cx, interface, address, None),
        Tick::AskOne(mac) => ask_again(cx, interface, address, Some(mac)),
        Tick::Failed(waiting) => {
            cx.counters.neighbor_failures.add(1);
            for packet in waiting {
                fail(cx, packet);
            }
        }
    }
}

/// Places of neighbour tables that are looked at in one go.
const SWEEP_PLACES: usize = 2048;
/// Between two goes of one round.
const SWEEP_STEP: Duration = Duration::from_millis(1);
/// Between two rounds.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Has the tables forget whom nobody needs, some places at a time: `done` places of the table of interface
/// number `position` were looked at in this round.
pub(crate) fn sweep(cx: &mut Context, position: usize, done: usize) {
    let (mut position, mut done) = (position, done);
    let mut budget = SWEEP_PLACES;
    while let Some(interface) = cx.config.interfaces.get(position) {
        let places = interface.neighbors.places().saturating_sub(done).min(budget);
        interface.neighbors.sweep(cx.now, places);
        budget -= places;
        done += places;
        if budget == 0 {
            let timer = Timer::Sweep { interface: position, done };
            return cx.state.set_timer(cx.now + SWEEP_STEP, timer);
        }
        (position, done) = (position + 1, 0);
    }
    cx.state.set_timer(cx.now + SWEEP_INTERVAL, Timer::Sweep { interface: 0, done: 0 });
}

/// Drops a packet whose next hop did not answer, and tells its sender.
fn fail(cx: &mut Context, waiting: Waiting) {
    revive(cx, waiting, |cx, packet, _, frame, from| {
        from.counters(cx.worker).drop(DropReason::NeighborUnreachable);
        icmp_error::send(cx, packet, frame, from, unreachable(frame));
    });
}

/// What the sender of a packet is told whose next hop does not answer (RFC 1812 section 5.2.7.1, RFC 4443
/// section 3.1).
fn unreachable(frame: &Frame) -> Answer {
    match frame.network {
        Layer3::Ipv6(_) => Answer::V6(icmpv6::Error::AddressUnreachable),
        _ => Answer::V4(icmpv4::Error::HostUnreachable),
    }
}
