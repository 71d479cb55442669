//! Neighbour solicitations and advertisements for a gateway (RFC 4861 section 7): what it hears, what it answers,
//! how it asks.

use std::net::{IpAddr, Ipv6Addr};

use super::{Encounter, note, proxy};
use crate::MacAddr;
use crate::config::Interface;
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::stage::egress::{self, Delivery};
use crate::stage::{L3, Rejection};
use crate::table::neighbor::Claim;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::icmpv6::{self, Neighbor};
use crate::wire::{ethernet, ipv6};

const HOP_LIMIT: u8 = 255;

/// Whether a message is a neighbour solicitation or advertisement.
pub(super) fn is_neighbors(message: &[u8]) -> bool {
    matches!(message.first(), Some(&(icmpv6::NEIGHBOR_SOLICITATION | icmpv6::NEIGHBOR_ADVERTISEMENT)))
}

/// Takes in a message for the gateway.
pub(super) fn receive(
    cx: &mut Context,
    packet: &Packet,
    header: &ipv6::Header,
    encounter: &Encounter,
) -> Result<(), Rejection> {
    let message = check(packet, header, encounter).inspect_err(|_| {
        step!(cx, "neighbor", "fails the checks of RFC 4861 section 7.1");
    })?;
    if message.solicitation {
        answer(cx, &message, header.source, encounter)
    } else {
        take_advertisement(cx, &message, encounter);
        Ok(())
    }
}

/// Takes in a message to a group that the gateway need not be in.
pub(super) fn overhear(cx: &mut Context, packet: &Packet, header: &ipv6::Header, encounter: &Encounter) {
    if encounter.frame.transport(packet.frame()).first() != Some(&icmpv6::NEIGHBOR_ADVERTISEMENT) {
        return;
    }
    if let Ok(message) = check(packet, header, encounter) {
        take_advertisement(cx, &message, encounter);
    }
}

/// The checks of RFC 4861 sections 7.1.1 and 7.1.2.
fn check(packet: &Packet, header: &ipv6::Header, encounter: &Encounter) -> Result<Neighbor, DropReason> {
    let malformed = DropReason::NdMalformed;
    let message = encounter.frame.transport(packet.frame());
    if header.hop_limit != HOP_LIMIT || message.get(1) != Some(&0) {
        return Err(malformed);
    }
    if packet.offload.checksum.is_none() {
        icmpv6::check(header.source, header.destination, message).map_err(|_| malformed)?;
    }
    let neighbor = Neighbor::parse(message).map_err(|_| malformed)?;
    let contradicts = if neighbor.solicitation {
        let to_its_group = header.destination == ipv6::solicited_node(neighbor.target);
        header.source.is_unspecified() && (neighbor.link_layer.is_some() || !to_its_group)
    } else {
        neighbor.solicited && header.destination.is_multicast()
    };
    if contradicts { Err(malformed) } else { Ok(neighbor) }
}

fn take_advertisement(cx: &mut Context, message: &Neighbor, encounter: &Encounter) {
    let claim = Claim::Advertised {
        mac: message.link_layer,
        solicited: message.solicited,
        replace: message.override_known,
    };
    note(cx, encounter, message.target.into(), claim);
}

fn answer(
    cx: &mut Context,
    message: &Neighbor,
    source: Ipv6Addr,
    encounter: &Encounter,
) -> Result<(), Rejection> {
    let gateway = encounter.interface;
    let (own, from) = (gateway.has_v6(message.target), encounter.from);
    let alone = gateway.speaks_from(message.target.into());
    let proxied = !own && proxy::answers_for(cx.config, gateway, from, source.into(), message.target.into());
    if !own && !proxied {
        return Err(DropReason::DestinationInvalid.into());
    }
    if let Some(mac) = message.link_layer {
        // Nothing is ever routed to a link-local address: those need no entry.
        let in_subnet = gateway.v6.iter().any(|(_, prefix)| prefix.contains(IpAddr::V6(source)));
        note(cx, encounter, source.into(), Claim::Told { mac, create: in_subnet });
    }
    step!(cx, "neighbor", "{} is at {}: answered", message.target, gateway.mac);
    let probe = source.is_unspecified();
    let advertisement = Neighbor {
        solicitation: false,
        router: true,
        solicited: !probe,
        // Whoever has the address itself knows better (RFC 4861 section 7.2.8), and of an address that several have
        // any is right (section 7.2.7). The pause that those sections ask for before the answer is for links where
        // many would answer at once.
        override_known: alone,
        target: message.target,
        link_layer: Some(gateway.mac),
    };
    let (destination, mac) = if probe {
        (ipv6::ALL_NODES, MacAddr::ipv6_multicast(ipv6::ALL_NODES))
    } else {
        (source, encounter.frame.ethernet.source)
    };
    cx.counters.neighbor_advertisements.add(1);
    cx.counters.proxy_answers.add(u64::from(proxied));
    let speaker = if alone { Some(message.target) } else { gateway.source_v6(destination) };
    send(cx, &advertisement, speaker.unwrap_or(gateway.link_local), destination, mac, &encounter.back(cx));
    Ok(())
}

/// Answers a question for `target` in the place of who has `mac`, a router or not.
pub(super) fn answer_for(
    cx: &mut Context,
    target: Ipv6Addr,
    (mac, router): (MacAddr, bool),
    (asker, asker_mac): (Ipv6Addr, MacAddr),
    delivery: &Delivery,
) {
    let advertisement = Neighbor {
        solicitation: false,
        router,
        solicited: true,
        override_known: true,
        target,
        link_layer: Some(mac),
    };
    send(cx, &advertisement, target, asker, asker_mac, delivery);
}

/// Asks for `target`: all, or the one at `known`.
pub(super) fn ask(
    cx: &mut Context,
    gateway: &Interface,
    target: Ipv6Addr,
    known: Option<MacAddr>,
    delivery: &Delivery,
) {
    let Some(source) = gateway.source_v6(target) else { return };
    let question = Neighbor {
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
    send(cx, &question, source, destination, mac, delivery);
}

/// Says to all that `address` is that of `owner`, a router or a host (RFC 4861 section 7.2.6).
pub(super) fn announce(
    cx: &mut Context,
    owner: MacAddr,
    router: bool,
    address: Ipv6Addr,
    delivery: &Delivery,
) {
    let advertisement = Neighbor {
        solicitation: false,
        router,
        solicited: false,
        override_known: true,
        target: address,
        link_layer: Some(owner),
    };
    let mac = MacAddr::ipv6_multicast(ipv6::ALL_NODES);
    send(cx, &advertisement, address, ipv6::ALL_NODES, mac, delivery);
}

fn send(
    cx: &mut Context,
    message: &Neighbor,
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
        hop_limit: HOP_LIMIT,
        source,
        destination,
    };
    fields.emit(&mut bytes[L3..]);
    message.emit(source, destination, &mut bytes[L3 + ipv6::HEADER_LENGTH..]);
    egress::spread(cx, &mut packet, origin, delivery);
    cx.output.put(origin, packet);
}
