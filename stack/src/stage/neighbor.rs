//! Neighbour: answers for the gateway's addresses, and finds the MAC addresses of next hops
//! (ARP, RFC 826 and 5227; neighbour discovery, RFC 4861).

use std::net::{IpAddr, Ipv6Addr};

use super::egress::{self, Delivery, Targets};
use super::{Answer, Frame, L3, Layer3, Rejection, bridge, icmp_error, ingress};
use crate::MacAddr;
use crate::config::{Interface, Port};
use crate::packet::Packet;
use crate::pipeline::{CachedNeighbor, Context, Timer};
use crate::table::neighbor::{Claim, Evicted, Lookup, Neighbors, RETRANSMIT, Tick, Waiting};
use crate::table::next_hops::NextHop;
use crate::trace::step;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{arp, ethernet, icmpv4, icmpv6, ipv6};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ND_HOP_LIMIT: u8 = 255;

/// Takes in an ARP or neighbour discovery message for the gateway. `None`: the frame is neither.
pub(crate) fn receive(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    interface: &Interface,
) -> Result<Option<Verdict>, Rejection> {
    match &frame.network {
        Layer3::Arp(message) => {
            receive_arp(cx, message, frame, from, interface)?;
            Ok(Some(Verdict::Answered))
        }
        Layer3::Ipv6(header) if header.protocol == ipv6::ICMPV6 && !header.fragment => {
            let message = frame.transport(packet.frame());
            if !matches!(
                message.first(),
                Some(&(icmpv6::NEIGHBOR_SOLICITATION | icmpv6::NEIGHBOR_ADVERTISEMENT))
            ) {
                return Ok(None);
            }
            let neighbor = check_discovery(packet, header, message).inspect_err(|_| {
                step!(cx, "neighbor", "fails the checks of RFC 4861 section 7.1");
            })?;
            receive_discovery(cx, &neighbor, header, frame, from, interface)?;
            Ok(Some(Verdict::Answered))
        }
        _ => Ok(None),
    }
}

/// Brings what is known up to date by a message that goes to all: a gratuitous ARP (RFC 5227 section
/// 3) or an unsolicited advertisement (RFC 4861 section 7.2.6).
pub(crate) fn overhear(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port) {
    let Some(interface) = cx.config.interface(from.network, frame.vlan) else { return };
    match &frame.network {
        Layer3::Arp(message) if !message.sender.is_unspecified() => {
            let claim = Claim { mac: message.sender_mac, create: false, replace: true };
            confirm(cx, interface, message.sender.into(), claim);
        }
        Layer3::Ipv6(header) if header.protocol == ipv6::ICMPV6 && !header.fragment => {
            let message = frame.transport(packet.frame());
            if message.first() != Some(&icmpv6::NEIGHBOR_ADVERTISEMENT) {
                return;
            }
            if let Ok(neighbor) = check_discovery(packet, header, message) {
                receive_advertisement(cx, &neighbor, frame, interface);
            }
        }
        _ => {}
    }
}

fn receive_arp(
    cx: &mut Context,
    message: &arp::Message,
    frame: &Frame,
    from: &Port,
    gateway: &Interface,
) -> Result<(), Rejection> {
    let for_us = gateway.has_v4(message.target);
    let asks = message.operation == arp::Operation::Request;
    if !message.sender.is_unspecified() {
        let in_subnet = gateway.v4.iter().any(|(_, prefix)| prefix.contains(message.sender.into()));
        let create = asks && for_us && in_subnet;
        confirm(cx, gateway, message.sender.into(), Claim { mac: message.sender_mac, create, replace: true });
    }
    if !asks {
        return Ok(());
    }
    if !for_us {
        return Err(DropReason::DestinationInvalid.into());
    }
    step!(cx, "neighbor", "{} is at {}: answered", message.target, gateway.mac);
    let reply = arp::Message {
        operation: arp::Operation::Reply,
        sender_mac: gateway.mac,
        sender: message.target,
        target_mac: message.sender_mac,
        target: message.sender,
    };
    cx.counters.arp_replies.add(1);
    let delivery = Delivery { tag: frame.tag, ..Delivery::by(cx, gateway, Some(from)) };
    send_arp(cx, &reply, frame.ethernet.source, &delivery);
    Ok(())
}

fn check_discovery(
    packet: &Packet,
    header: &ipv6::Header,
    message: &[u8],
) -> Result<icmpv6::Neighbor, DropReason> {
    let malformed = DropReason::NdMalformed;
    if header.hop_limit != ND_HOP_LIMIT || message.get(1) != Some(&0) {
        return Err(malformed);
    }
    if packet.offload.checksum.is_none() {
        icmpv6::check(header.source, header.destination, message).map_err(|_| malformed)?;
    }
    let neighbor = icmpv6::Neighbor::parse(message).map_err(|_| malformed)?;
    let to_group = header.destination.is_multicast();
    let contradicts = if neighbor.solicitation {
        header.source.is_unspecified() && (neighbor.link_layer.is_some() || !to_group)
    } else {
        neighbor.solicited && to_group
    };
    if contradicts { Err(malformed) } else { Ok(neighbor) }
}

fn receive_advertisement(cx: &mut Context, message: &icmpv6::Neighbor, frame: &Frame, interface: &Interface) {
    let target = IpAddr::V6(message.target);
    let mac = message.link_layer.unwrap_or(frame.ethernet.source);
    let neighbors = &interface.neighbors;
    // Without its MAC address it only says that what is known holds (RFC 4861 section 7.2.5).
    if message.link_layer.is_some() || neighbors.peek(target) == Some(mac) {
        confirm(cx, interface, target, Claim { mac, create: false, replace: message.override_known });
    }
}

fn receive_discovery(
    cx: &mut Context,
    message: &icmpv6::Neighbor,
    header: &ipv6::Header,
    frame: &Frame,
    from: &Port,
    gateway: &Interface,
) -> Result<(), Rejection> {
    if !message.solicitation {
        receive_advertisement(cx, message, frame, gateway);
        return Ok(());
    }
    if !gateway.has_v6(message.target) {
        return Err(DropReason::DestinationInvalid.into());
    }
    let probe = header.source.is_unspecified();
    if let (Some(mac), false) = (message.link_layer, probe) {
        let in_subnet = gateway.v6.iter().any(|(_, prefix)| prefix.contains(header.source.into()));
        confirm(cx, gateway, header.source.into(), Claim { mac, create: in_subnet, replace: true });
    }
    step!(cx, "neighbor", "{} is at {}: answered", message.target, gateway.mac);
    let answer = icmpv6::Neighbor {
        solicitation: false,
        router: true,
        solicited: !probe,
        override_known: true,
        target: message.target,
        link_layer: Some(gateway.mac),
    };
    let destination = if probe { ALL_NODES } else { header.source };
    let mac = if probe { MacAddr::ipv6_multicast(ALL_NODES) } else { frame.ethernet.source };
    cx.counters.neighbor_advertisements.add(1);
    let delivery = Delivery { tag: frame.tag, ..Delivery::by(cx, gateway, Some(from)) };
    send_discovery(cx, &answer, message.target, destination, mac, &delivery);
    Ok(())
}

/// Notes an answer, and sends what waited for it.
fn confirm(cx: &mut Context, interface: &Interface, address: IpAddr, claim: Claim) {
    if cx.dry_run || claim.mac.is_multicast() || claim.mac.is_zero() {
        return;
    }
    let confirmed = interface.neighbors.confirm(cx.now, address, claim);
    for waiting in confirmed.released {
        release(cx, interface, waiting, claim.mac);
    }
    count_evicted(cx, &confirmed.evicted);
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
    let Some(from) = cx.config.port(waiting.from) else { return };
    let (origin, mut packet) = cx.output.take_for(waiting.frame.len());
    packet.set_frame(&waiting.frame);
    packet.offload = waiting.offload;
    if let Ok(frame) = ingress::parse(packet.frame()) {
        let frame = Frame { vlan: waiting.vlan, ..frame };
        let result = egress::routed(cx, &mut packet, origin, &frame, interface, mac);
        if let Err(rejection) = result {
            cx.reject(rejection, &packet, &frame, from);
        }
    }
    cx.output.put(origin, packet);
}

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
    if cx.dry_run {
        return Ok(peek(cx, interface, hop.address));
    }
    let epoch = interface.neighbors.epoch();
    if let Some(mac) = cx.state.cached(interface.id, hop.address, epoch, cx.now) {
        return Ok(Some(mac));
    }
    let owner = owner_of(cx, interface, hop.address);
    let (limits, now) = (&mut cx.state.limits, cx.now);
    let may_ask = || owner.is_some() || limits.solicitations.allow(now);
    let (mac, until) = match interface.neighbors.lookup(cx.now, hop.address, may_ask) {
        Lookup::Found(mac, until) => (mac, until),
        Lookup::Stale(mac) => {
            ask_again(cx, interface, hop.address, Some(mac));
            (mac, cx.now + RETRANSMIT)
        }
        Lookup::Start(evicted) => {
            count_evicted(cx, &evicted);
            set_timer(cx, interface, hop.address);
            let queued = wait(packet, frame, from, &interface.neighbors, hop.address);
            solicit(cx, interface, hop.address, None, owner);
            return queued;
        }
        Lookup::Pending => return wait(packet, frame, from, &interface.neighbors, hop.address),
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
    let copy =
        || Waiting { frame: packet.frame().into(), offload: packet.offload, from: from.id, vlan: frame.vlan };
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
    let known = interface.neighbors.peek(address);
    match known {
        Some(mac) => step!(cx, "neighbor", "{address} on network {} is at {mac}", network.name),
        None => {
            step!(
                cx,
                "neighbor",
                "{address} on network {} is not known yet: would be asked for",
                network.name
            );
        }
    }
    known
}

/// Asks for `address` once more, unless too much is asked, and sets the timer.
fn ask_again(cx: &mut Context, interface: &Interface, address: IpAddr, known: Option<MacAddr>) {
    set_timer(cx, interface, address);
    let station = known.and_then(|mac| bridge::find(cx, interface, mac));
    let whom = station.or_else(|| owner_of(cx, interface, address));
    if whom.is_some() || cx.state.limits.solicitations.allow(cx.now) {
        solicit(cx, interface, address, known, whom);
    }
}

fn set_timer(cx: &mut Context, interface: &Interface, address: IpAddr) {
    let timer = Timer::Neighbor { interface: interface.id, address };
    cx.state.set_timer(cx.now + RETRANSMIT, timer);
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
        IpAddr::V4(target) => {
            let Some(sender) = gateway.source_v4(target) else { return };
            let request = arp::Message {
                operation: arp::Operation::Request,
                sender_mac: gateway.mac,
                sender,
                target_mac: MacAddr::default(),
                target,
            };
            cx.counters.arp_requests.add(1);
            send_arp(cx, &request, known.unwrap_or(MacAddr::BROADCAST), &delivery);
        }
        IpAddr::V6(target) => {
            let Some(source) = gateway.source_v6(target) else { return };
            let question = icmpv6::Neighbor {
                solicitation: true,
                router: false,
                solicited: false,
                override_known: false,
                target,
                link_layer: Some(gateway.mac),
            };
            let group = ipv6::solicited_node(target);
            let destination = if known.is_some() { target } else { group };
            cx.counters.neighbor_solicitations.add(1);
            let mac = known.unwrap_or(MacAddr::ipv6_multicast(group));
            send_discovery(cx, &question, source, destination, mac, &delivery);
        }
    }
}

/// The timer of a question ran out.
pub(crate) fn expire(cx: &mut Context, interface: &Interface, address: IpAddr) {
    match interface.neighbors.tick(address) {
        Tick::Done => {}
        Tick::Ask => ask_again(cx, interface, address, None),
        Tick::AskOne(mac) => ask_again(cx, interface, address, Some(mac)),
        Tick::Failed(waiting) => {
            for packet in waiting {
                fail(cx, packet);
            }
        }
    }
}

/// Drops a packet whose next hop did not answer, and tells its sender.
fn fail(cx: &mut Context, waiting: Waiting) {
    let Some(from) = cx.config.port(waiting.from) else { return };
    from.counters(cx.worker).drop(DropReason::NeighborUnreachable);
    let (origin, mut packet) = cx.output.take_for(waiting.frame.len());
    packet.set_frame(&waiting.frame);
    packet.offload = waiting.offload;
    if let Ok(frame) = ingress::parse(packet.frame()) {
        let frame = Frame { vlan: waiting.vlan, ..frame };
        let answer = match frame.network {
            Layer3::Ipv6(_) => Answer::V6(icmpv6::Error::AddressUnreachable),
            _ => Answer::V4(icmpv4::Error::HostUnreachable),
        };
        icmp_error::send(cx, &packet, &frame, from, answer);
    }
    cx.output.put(origin, packet);
}

fn send_arp(cx: &mut Context, message: &arp::Message, to: MacAddr, delivery: &Delivery) {
    let (origin, mut packet) = cx.output.take();
    packet.reset(L3 + arp::LENGTH);
    let bytes = packet.frame_mut();
    let header = ethernet::Header { destination: to, source: message.sender_mac, ethertype: ethernet::ARP };
    header.emit(bytes);
    message.emit(&mut bytes[L3..]);
    egress::spread(cx, &mut packet, origin, delivery);
    cx.output.put(origin, packet);
}

fn send_discovery(
    cx: &mut Context,
    message: &icmpv6::Neighbor,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mac: MacAddr,
    delivery: &Delivery,
) {
    let (origin, mut packet) = cx.output.take();
    packet.reset(L3 + ipv6::HEADER_LENGTH + icmpv6::NEIGHBOR_LENGTH);
    let bytes = packet.frame_mut();
    let own = message.link_layer.unwrap_or_default();
    ethernet::Header { destination: mac, source: own, ethertype: ethernet::IPV6 }.emit(bytes);
    let fields = ipv6::Fields {
        payload_length: icmpv6::NEIGHBOR_LENGTH,
        next_header: ipv6::ICMPV6,
        hop_limit: ND_HOP_LIMIT,
        source,
        destination,
    };
    fields.emit(&mut bytes[L3..]);
    message.emit(source, destination, &mut bytes[L3 + ipv6::HEADER_LENGTH..]);
    egress::spread(cx, &mut packet, origin, delivery);
    cx.output.put(origin, packet);
}
