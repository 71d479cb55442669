//! Sending by tunnels: what the stages gave to far ends becomes datagrams of the node's sockets, or packets that a
//! router of the fabric sends on.

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use foldhash::quality::FixedState;

use super::datagram::{Heading, Load, Outbox, Underlay};
use super::ecn;
use super::frames::{Frames, length_without_padding};
use super::{peers, trouble};
use crate::batch::{Origin, Send};
use crate::config::{Carried, Config, FarEnd, GreSpec, Means, Port};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::stage::L3;
use crate::stage::reply::{self, Unsent};
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::{ethernet, gre, ipv4, ipv6, read_u16, udp, vxlan, write_u16};

/// How often what a tunnel sends may itself go through a tunnel.
const NESTED: usize = 3;

/// TTL and hop limit of what a router carries.
const TTL: u8 = 64;

/// Encapsulates what is to leave by far ends: the sends from number `first` on. `received` are the packets of the
/// batch.
pub(crate) fn transmit(cx: &mut Context, received: &[Packet], first: usize) {
    if cx.config.tunnels.list.is_empty() {
        return;
    }
    let (mut at, mut kept, mut depth) = (first, first, 0);
    // What a router carries makes further sends, behind these.
    let mut end_of_level = cx.output.sends().len();
    while let Some(send) = cx.output.sends().get(at).copied() {
        if at == end_of_level {
            (depth, end_of_level) = (depth + 1, cx.output.sends().len());
        }
        at += 1;
        let config = cx.config;
        match config.port(send.port).and_then(|port| Some((port, port.far_end.as_ref()?))) {
            Some((port, far_end)) => carry(cx, received, send, port, far_end, depth),
            None => {
                cx.output.keep_send(kept, send);
                kept += 1;
            }
        }
    }
    cx.output.truncate_sends(kept);
}

/// Encapsulates one packet. It stays as it is, since it may leave by other ports too. What goes by sockets counts as sent
/// when they have taken it ([`Datagram::load`](super::Datagram::load)).
fn carry(cx: &mut Context, received: &[Packet], send: Send, port: &Port, far_end: &FarEnd, depth: usize) {
    let made = match send.origin {
        Origin::Made(_) => Some(cx.output.take_made(send.origin)),
        Origin::Received(_) => None,
    };
    let packet = match (&made, send.origin) {
        (Some(packet), _) => Some(packet),
        (None, Origin::Received(index)) => received.get(index),
        (None, Origin::Made(_)) => None,
    };
    let sent = packet.map_or(Ok(()), |packet| encapsulate(cx, packet, port, far_end, depth));
    if let Err(reason) = sent {
        port.counters(cx.worker).drop(reason);
    }
    if let Some(packet) = made {
        cx.output.put(send.origin, packet);
    }
}

fn encapsulate(
    cx: &mut Context,
    packet: &Packet,
    port: &Port,
    far_end: &FarEnd,
    depth: usize,
) -> Result<(), DropReason> {
    let tunnel = &cx.config.tunnels.list[far_end.tunnel];
    let frames = Frames::of(packet).ok_or(DropReason::OffloadInvalid)?;
    if let Means::WireGuard(ward) = &tunnel.means {
        return peers::seal(cx, ward, packet, &frames, port);
    }
    let remote = far_end.address.ok_or(DropReason::TunnelUnrouted)?;
    let heading = |underlay, udp_port, entropy| Heading {
        underlay,
        destination: SocketAddr::new(remote, udp_port),
        local: tunnel.local,
        tos: ecn::of_frame(packet.frame()),
        port: port.id,
        entropy,
        numbered: false,
    };
    match (&tunnel.means, tunnel.carrier) {
        (Means::Vxlan { vni, port: udp_port }, Carried::ByNode) => {
            let heading = heading(Underlay::Udp(*udp_port), *udp_port, Some(entropy(packet.frame())));
            by_socket(cx, &frames, &heading, vxlan::HEADER_LENGTH, 0, |header| vxlan::emit(*vni, header))
        }
        (Means::Vxlan { vni, port: udp_port }, Carried::ByRouter(router)) => {
            if depth >= NESTED {
                return Err(DropReason::TunnelLoop);
            }
            let local = tunnel.local.ok_or(DropReason::TunnelUnrouted)?;
            let route =
                Route { router, local, remote, udp_port: *udp_port, tos: ecn::of_frame(packet.frame()) };
            let source_port = 0xc000 | entropy(packet.frame()) >> 2;
            for position in 0..frames.count() {
                by_router(cx, &frames, position, port, &route, source_port, *vni)?;
            }
            Ok(())
        }
        (Means::WireGuard(_), _) => Ok(()),
        (Means::Gre { spec, ethernet }, _) => {
            let inner = read_u16(packet.frame(), L3 - 2);
            let (protocol, skipped) = if *ethernet { (gre::ETHERNET, 0) } else { (inner, L3) };
            gre(cx, &frames, (protocol, skipped), spec, &heading(Underlay::Gre, 0, None))
        }
    }
}

/// Sends frames by a socket, each without its first `skipped` octets behind a header of `header` octets, which `emit`
/// writes when the rest stands behind it.
fn by_socket(
    cx: &mut Context,
    frames: &Frames,
    heading: &Heading,
    header: usize,
    skipped: usize,
    emit: impl Fn(&mut [u8]),
) -> Result<(), DropReason> {
    for position in 0..frames.count() {
        let length = header + frames.length(position) - skipped;
        let load = Load::frame(frames.length(position));
        let slot = cx.output.outbox.add(heading, length, load).ok_or(DropReason::BuffersExhausted)?;
        frames.write(position, skipped, &mut slot[header..]);
        emit(slot);
    }
    step!(cx, "tunnel", "{} datagrams to {}", frames.count(), heading.destination);
    Ok(())
}

fn gre(
    cx: &mut Context,
    frames: &Frames,
    (protocol, skipped): (u16, usize),
    spec: &GreSpec,
    heading: &Heading,
) -> Result<(), DropReason> {
    // The number comes when it is sent: until then another worker may send.
    let heading = Heading { numbered: spec.sequence, ..*heading };
    let header = spec.header(protocol);
    by_socket(cx, frames, &heading, header.length(), skipped, |slot| header.emit(slot))
}

/// Gives the packets of tunnels that number them their numbers, in the order in which they stand (RFC 2890 section 2.2).
pub(crate) fn number(config: &Config, outbox: &mut Outbox) {
    outbox.each_numbered(|port, packet| {
        let far_end = config.port(port).and_then(|port| port.far_end.as_ref());
        if let (Some(far_end), Ok(header)) = (far_end, gre::Header::parse(packet)) {
            let number = far_end.numbers.next();
            gre::Header { sequence: Some(number), ..header }.emit(packet);
        }
    });
}

/// How a router carries a tunnel's packets.
struct Route {
    router: usize,
    local: IpAddr,
    remote: IpAddr,
    udp_port: u16,
    tos: u8,
}

/// Has a router send one frame in UDP.
fn by_router(
    cx: &mut Context,
    frames: &Frames,
    position: usize,
    port: &Port,
    route: &Route,
    source_port: u16,
    vni: u32,
) -> Result<(), DropReason> {
    let datagram = udp::HEADER_LENGTH + vxlan::HEADER_LENGTH + frames.length(position);
    let header = if route.remote.is_ipv4() { ipv4::HEADER_LENGTH } else { ipv6::HEADER_LENGTH };
    let length = L3 + header + datagram;
    if !cx.output.has_room(1, length) || header + datagram > ipv4::MAX_LENGTH {
        return Err(DropReason::BuffersExhausted);
    }
    let (origin, mut made) = cx.output.take_for(length);
    made.reset(length);
    let bytes = made.frame_mut();
    let payload = L3 + header + udp::HEADER_LENGTH;
    vxlan::emit(vni, &mut bytes[payload..]);
    frames.write(position, 0, &mut bytes[payload + vxlan::HEADER_LENGTH..]);
    let ports = udp::Header { source: source_port, destination: route.udp_port, length: datagram };
    emit_carrier(bytes, route, &ports);
    let sent = reply::originate(cx, route.router, port, &mut made, origin, (route.local, route.remote));
    cx.output.put(origin, made);
    if sent.is_ok() {
        let counters = port.counters(cx.worker);
        counters.tx_packets.add(1);
        counters.tx_bytes.add(frames.length(position) as u64);
    }
    sent.map_err(|unsent| match unsent {
        Unsent::Dropped(reason) => reason,
        Unsent::TooBig(mtu) => {
            trouble::lower(cx, port, route.remote, mtu as u32);
            DropReason::PacketTooBig
        }
    })
}

/// Writes the Ethernet, IP and UDP headers of a frame whose payload stands there.
fn emit_carrier(bytes: &mut [u8], route: &Route, ports: &udp::Header) {
    let ethertype = if route.remote.is_ipv4() { ethernet::IPV4 } else { ethernet::IPV6 };
    ethernet::Header { ethertype, ..ethernet::Header::default() }.emit(bytes);
    let packet = &mut bytes[L3..];
    match (route.local, route.remote) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let fields = ipv4::Header {
                tos: route.tos,
                ..ipv4::Header::atomic(ipv4::UDP, ports.length, source, destination)
            };
            fields.emit(packet);
            // Without a checksum, as RFC 7348 section 5 has it: what is inside has its own.
            write_u16(packet, ipv4::HEADER_LENGTH, ports.source);
            write_u16(packet, ipv4::HEADER_LENGTH + 2, ports.destination);
            write_u16(packet, ipv4::HEADER_LENGTH + udp::LENGTH, ports.length as u16);
            write_u16(packet, ipv4::HEADER_LENGTH + udp::CHECKSUM, 0);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let fields = ipv6::Fields {
                payload_length: ports.length,
                next_header: ipv4::UDP,
                hop_limit: TTL,
                source,
                destination,
            };
            fields.emit(packet);
            ipv6::set_traffic_class(packet, route.tos);
            ports.emit(source.into(), destination.into(), &mut packet[ipv6::HEADER_LENGTH..]);
        }
        // The control side has checked that both are of one family.
        _ => {}
    }
}

/// Tells flows apart by addresses, protocol and ports; of frames that are not IP by their MAC addresses.
fn entropy(frame: &[u8]) -> u16 {
    const PORTS: usize = 4;
    let end = length_without_padding(frame);
    let packet = frame.get(L3..end).unwrap_or_default();
    let key = match frame.get(..L3).map(|link| read_u16(link, L3 - 2)) {
        Some(ethernet::IPV4) if packet.len() >= ipv4::HEADER_LENGTH + PORTS => {
            // Fragments behind the first have no ports.
            let whole = read_u16(packet, 6) & 0x3fff == 0;
            let ports = usize::from(packet[0] & 0xf) * 4;
            (&packet[12..20], if whole { packet.get(ports..ports + PORTS) } else { None }, packet[9])
        }
        Some(ethernet::IPV6) if packet.len() >= ipv6::HEADER_LENGTH + PORTS => {
            let has_ports = matches!(packet[6], ipv4::TCP | ipv4::UDP);
            (&packet[8..40], packet.get(40..44).filter(|_| has_ports), packet[6])
        }
        _ => (frame.get(..12).unwrap_or_default(), None, 0),
    };
    FixedState::default().hash_one(key) as u16
}
