//! Receiving by tunnels: what arrives at the node's sockets, and for routers that carry tunnels, becomes frames of far
//! ends.

use std::net::IpAddr;
use std::ops::Range;

use super::datagram::{Arrival, Heading, Inbox, Load, Underlay};
use super::peers::{self, Run};
use super::{ecn, merged};
use crate::batch::{BATCH, Batch};
use crate::config::{Carried, FarEnd, GreSpec, Means, Port, PortId, UNTAGGED};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::stage::{Frame, L3, Layer3, route};
use crate::trace::step;
use crate::verdict::{DropReason, Verdict};
use crate::wire::{ethernet, gre, ipv4, udp, vxlan};

/// How far an inbox has been emptied.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    position: usize,
    offset: usize,
    /// What the datagram there holds, which has been looked at.
    held: Option<Inner>,
}

/// What a datagram holds: for which port, what of it, and what kind of thing that is.
#[derive(Debug)]
pub(super) struct Inner {
    pub port: PortId,
    /// Its place in the datagram.
    pub octets: Range<usize>,
    /// The EtherType of an IP packet; `None`: it is an Ethernet frame.
    pub packet: Option<u16>,
    /// It is as the far end has sealed it, checksums included.
    pub sealed: bool,
}

/// Why nothing comes of a datagram.
pub(super) enum Refusal {
    /// It is from nobody that is known.
    Stranger,
    /// This far end should not have sent it so.
    Dropped(PortId, DropReason),
    /// It has been seen to.
    Done,
}

/// Takes frames out of the next datagrams into `batch`: those of one far end, which is told. `None`: nothing is left.
pub(crate) fn open(
    cx: &mut Context,
    underlay: Underlay,
    inbox: &mut Inbox,
    cursor: &mut Cursor,
    batch: &mut Batch,
) -> Option<PortId> {
    let mut port = None;
    let mut run = Run::default();
    let mut segment = None;
    while batch.packets().len() < BATCH {
        let held = cursor.held.take();
        let Some((arrival, datagram)) = next(inbox, cursor) else { break };
        let found = match held {
            Some(inner) => Ok(inner),
            None => inner(cx, underlay, (&mut run, &mut segment), &arrival, datagram),
        };
        match found {
            Ok(inner) if port.is_some_and(|port| port != inner.port) => {
                cursor.held = Some(inner);
                break;
            }
            Ok(inner) => {
                port = Some(inner.port);
                take_in(cx, &inner, &arrival, datagram, batch);
            }
            Err(refusal) => refuse(cx, &refusal),
        }
        cursor.offset += datagram.len();
    }
    run.end(cx);
    if port.is_none() {
        *cursor = Cursor::default();
    }
    port
}

/// The next datagram, where the cursor stands then.
fn next<'a>(inbox: &'a mut Inbox, cursor: &mut Cursor) -> Option<(Arrival, &'a mut [u8])> {
    while cursor.offset >= inbox.get_mut(cursor.position)?.0.length {
        (cursor.position, cursor.offset) = (cursor.position + 1, 0);
    }
    let (arrival, octets) = inbox.get_mut(cursor.position)?;
    let rest = &mut octets[cursor.offset..];
    let size = if arrival.segment == 0 { rest.len() } else { arrival.segment.min(rest.len()) };
    Some((arrival, &mut rest[..size]))
}

fn refuse(cx: &Context, refusal: &Refusal) {
    match refusal {
        Refusal::Stranger => cx.counters.tunnel_strangers.add(1),
        Refusal::Dropped(id, reason) => {
            if let Some(port) = cx.config.port(*id) {
                port.counters(cx.worker).drop(*reason);
            }
        }
        Refusal::Done => {}
    }
}

fn inner(
    cx: &mut Context,
    underlay: Underlay,
    (run, segment): (&mut Run, &mut Option<Segment>),
    arrival: &Arrival,
    datagram: &mut [u8],
) -> Result<Inner, Refusal> {
    let config = cx.config;
    match underlay {
        Underlay::Udp(port) if let Some((id, ward)) = config.tunnels.wireguard(port) => {
            peers::open(cx, ward, id, run, arrival, datagram)
        }
        Underlay::Udp(port) => {
            let ends = (arrival.source.ip(), arrival.local);
            if let Some(inner) = segment.as_ref().and_then(|segment| segment.inner(ends, datagram)) {
                return Ok(inner);
            }
            let inner = vxlan_inner(cx, Carried::ByNode, port, ends, datagram)?;
            *segment = Segment::of(ends, datagram, inner.port);
            Ok(inner)
        }
        Underlay::Gre => gre_inner(cx, arrival, datagram),
    }
}

/// What a VXLAN datagram was found to be of: others of the same far end and header are of the same.
#[derive(Debug)]
struct Segment {
    ends: (IpAddr, IpAddr),
    header: [u8; vxlan::HEADER_LENGTH],
    port: PortId,
}

impl Segment {
    fn of(ends: (IpAddr, IpAddr), datagram: &[u8], port: PortId) -> Option<Segment> {
        Some(Segment { ends, header: *datagram.first_chunk()?, port })
    }

    fn inner(&self, ends: (IpAddr, IpAddr), datagram: &[u8]) -> Option<Inner> {
        let same = self.ends == ends && datagram.first_chunk() == Some(&self.header);
        same.then(|| framed(self.port, datagram)).flatten()
    }
}

/// The frame behind a VXLAN header; `None`: it is too short for one.
fn framed(port: PortId, datagram: &[u8]) -> Option<Inner> {
    let octets = vxlan::HEADER_LENGTH..datagram.len();
    (octets.len() >= ethernet::HEADER_LENGTH).then_some(Inner { port, octets, packet: None, sealed: false })
}

/// What a VXLAN datagram that came to UDP port `port` holds.
fn vxlan_inner(
    cx: &Context,
    carrier: Carried,
    port: u16,
    (remote, local): (IpAddr, IpAddr),
    datagram: &[u8],
) -> Result<Inner, Refusal> {
    let tunnels = &cx.config.tunnels;
    let peer = tunnels.vxlan_peer(carrier, port, remote).ok_or(Refusal::Stranger)?;
    let vni = vxlan::parse(datagram).map_err(|_| Refusal::Dropped(peer, DropReason::TunnelMalformed))?;
    let Some(port) = tunnels.vxlan(carrier, port, vni, remote) else {
        return Err(Refusal::Dropped(peer, DropReason::TunnelVniUnknown));
    };
    if !listens_at(cx, port, local) {
        return Err(Refusal::Stranger);
    }
    framed(port, datagram).ok_or(Refusal::Dropped(port, DropReason::TunnelMalformed))
}

/// Whether a far end may send to this address of ours: to the one that the tunnel speaks from, if it has one.
fn listens_at(cx: &Context, port: PortId, local: IpAddr) -> bool {
    let far_end = cx.config.port(port).and_then(|port| port.far_end.as_ref());
    let own = far_end.and_then(|far_end| cx.config.tunnels.list[far_end.tunnel].local);
    own.is_none_or(|own| own == local)
}

fn gre_inner(cx: &mut Context, arrival: &Arrival, packet: &[u8]) -> Result<Inner, Refusal> {
    let remote = arrival.source.ip();
    let tunnels = &cx.config.tunnels;
    let peer = tunnels.gre_peer(remote).ok_or(Refusal::Stranger)?;
    let malformed = Refusal::Dropped(peer, DropReason::TunnelMalformed);
    let header = gre::Header::parse(packet).map_err(|_| malformed)?;
    let Some(port) = tunnels.gre(remote, header.key) else {
        return Err(Refusal::Dropped(peer, DropReason::TunnelKeyUnknown));
    };
    if !listens_at(cx, port, arrival.local) {
        return Err(Refusal::Stranger);
    }
    let dropped = |reason| Refusal::Dropped(port, reason);
    // What the kernel has merged bears the first one's checksum: it has looked at those of all.
    let is_merged = || merged::is_open(&packet[header.length()..], header.protocol == gre::ETHERNET);
    if header.checksum && !gre::checksum_is_valid(packet) && !is_merged() {
        return Err(dropped(DropReason::TunnelChecksumBad));
    }
    let found = cx.config.port(port).and_then(|port| Some((port, port.far_end.as_ref()?)));
    let (end, far_end) = found.ok_or(Refusal::Done)?;
    let Means::Gre { spec, ethernet } = &cx.config.tunnels.list[far_end.tunnel].means else {
        return Err(Refusal::Done);
    };
    in_order(spec, far_end, &header).map_err(dropped)?;
    let octets = header.length()..packet.len();
    let inner = &packet[octets.clone()];
    if answer_keepalive(cx, end, &header, arrival, inner) {
        return Err(Refusal::Done);
    }
    match header.protocol {
        gre::ETHERNET if *ethernet && inner.len() >= ethernet::HEADER_LENGTH => {
            Ok(Inner { port, octets, packet: None, sealed: false })
        }
        ethernet::IPV4 | ethernet::IPV6 if !*ethernet => {
            Ok(Inner { port, octets, packet: Some(header.protocol), sealed: false })
        }
        gre::ETHERNET if *ethernet => Err(dropped(DropReason::TunnelMalformed)),
        _ => Err(dropped(DropReason::TunnelProtocolUnknown)),
    }
}

/// Drops what comes late, where packets are numbered (RFC 2890 section 2.2).
fn in_order(spec: &GreSpec, far_end: &FarEnd, header: &gre::Header) -> Result<(), DropReason> {
    if !spec.sequence {
        return Ok(());
    }
    let number = header.sequence.ok_or(DropReason::TunnelOutOfOrder)?;
    if far_end.numbers.take(number) { Ok(()) } else { Err(DropReason::TunnelOutOfOrder) }
}

/// A keepalive is a packet of the far end to itself by way of this one: inside is an IPv4 packet from here to there
/// with a GRE header of its own, which is sent back as it is.
fn answer_keepalive(
    cx: &mut Context,
    end: &Port,
    header: &gre::Header,
    arrival: &Arrival,
    inner: &[u8],
) -> bool {
    const GRE: u8 = 47;
    if header.protocol != ethernet::IPV4 {
        return false;
    }
    let Ok(ip) = ipv4::Header::parse(inner) else { return false };
    let returns = IpAddr::V4(ip.destination) == arrival.source.ip() && IpAddr::V4(ip.source) == arrival.local;
    if ip.protocol != GRE || !returns {
        return false;
    }
    let back = &inner[ip.header_length..ip.total_length];
    let heading = Heading {
        underlay: Underlay::Gre,
        destination: arrival.source,
        local: Some(arrival.local),
        tos: ip.tos,
        port: end.id,
        entropy: None,
        numbered: false,
    };
    match cx.output.outbox.add(&heading, back.len(), Load::default()) {
        Some(slot) => slot.copy_from_slice(back),
        None => end.counters(cx.worker).drop(DropReason::BuffersExhausted),
    }
    true
}

/// Puts what a datagram holds into the batch, as a frame.
fn take_in(cx: &Context, inner: &Inner, arrival: &Arrival, datagram: &[u8], batch: &mut Batch) {
    let Some(port) = cx.config.port(inner.port) else { return };
    let packet = batch.vacant();
    fill(cx, packet, inner, port, &datagram[inner.octets.clone()]);
    if arrival.source.port() == 0 {
        merged::restore(packet, port.mtu);
    }
    packet.offload.verified |= inner.sealed;
    match ecn::merge(packet.frame_mut(), arrival.tos) {
        Ok(()) => batch.commit(1),
        Err(ecn::NotCapable) => port.counters(cx.worker).drop(DropReason::TunnelCongestion),
    }
}

/// Makes a frame of what was inside; an IP packet is for the router.
fn fill(cx: &Context, packet: &mut Packet, inner: &Inner, port: &Port, octets: &[u8]) {
    let link = cx.config.interface(port.network, UNTAGGED);
    let (Some(ethertype), Some(interface)) = (inner.packet, link) else { return packet.set_frame(octets) };
    packet.reset(L3);
    ethernet::Header { destination: interface.mac, source: port.mac, ethertype }.emit(packet.frame_mut());
    packet.append(octets);
}

/// Takes in a packet for a router that is one of a tunnel which it carries; its transport header is intact. `None`: it
/// is no such packet.
///
/// It must have come by the link that leads to the far end: what a tunnel on the way proves of its sender would mean
/// nothing if the same could come from elsewhere.
pub(crate) fn for_router(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port) -> Option<Verdict> {
    let interface = cx.config.interface(from.network, frame.vlan)?;
    let (remote, local) = frame.addresses()?;
    let class = match &frame.network {
        Layer3::Ipv4(header) => header.tos,
        Layer3::Ipv6(header) => header.traffic_class,
        Layer3::Arp(_) | Layer3::Other => return None,
    };
    let transport = frame.transport(packet.frame());
    let ports = udp::Header::parse(transport).ok()?;
    let carrier = Carried::ByRouter(interface.router);
    cx.config.tunnels.vxlan_peer(carrier, ports.destination, remote)?;
    let way = route::own(&cx.config.routers[interface.router], Some(local), remote);
    if way.is_none_or(|hop| cx.config.interfaces[hop.interface].id != interface.id) {
        from.counters(cx.worker).drop(DropReason::SourceAddressSpoofed);
        return Some(Verdict::Dropped(DropReason::SourceAddressSpoofed));
    }
    let payload = &transport[udp::HEADER_LENGTH..ports.length];
    // The segments of a UDP super-packet are datagrams each.
    let size = packet.offload.gso.map_or(payload.len(), |gso| usize::from(gso.size)).max(1);
    for datagram in payload.chunks(size) {
        match vxlan_inner(cx, carrier, ports.destination, (remote, local), datagram) {
            Ok(inner) => take_out(cx, &inner, class, &datagram[inner.octets.clone()]),
            Err(refusal) => refuse(cx, &refusal),
        }
    }
    Some(Verdict::Answered)
}

/// Has a frame that came out of a tunnel which a router carries go through the stages, when those of this packet are
/// through.
fn take_out(cx: &mut Context, inner: &Inner, class: u8, octets: &[u8]) {
    step!(cx, "tunnel", "out of the tunnel: to be handled as a frame from its far end");
    if cx.dry_run {
        return;
    }
    if !cx.output.has_room(1, octets.len()) {
        return refuse(cx, &Refusal::Dropped(inner.port, DropReason::BuffersExhausted));
    }
    let (origin, mut made) = cx.output.take_for(octets.len());
    made.set_frame(octets);
    let merged = ecn::merge(made.frame_mut(), class);
    cx.output.put(origin, made);
    match merged {
        Ok(()) => cx.state.decapsulated.push((inner.port, origin)),
        Err(ecn::NotCapable) => refuse(cx, &Refusal::Dropped(inner.port, DropReason::TunnelCongestion)),
    }
}
