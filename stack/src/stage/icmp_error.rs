//! ICMP and ICMPv6 errors: tells the sender of a packet why it was dropped.
//!
//! Never about an ICMP error, nor to a group or from a source that is no host, with the exceptions of
//! RFC 4443 section 2.4 (e.3); for IPv4 nor about a fragment other than the first (RFC 1812 section
//! 4.3.2.7). For IPv6 those are told of too: RFC 4443 does not exempt them, RFC 8200 section 4.5 asks for
//! it, and an ICMPv6 error fits into the smallest MTU, so that no fragment is of one.
//!
//! An error quotes as much as fits and is rate-limited. Each worker has limits of its own: together
//! they send as many times as much as there are workers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reply::Cause;
use super::{Answer, Frame, L3, Layer3};
use crate::batch::Origin;
use crate::config::{Interface, Port};
use crate::offload::checksum;
use crate::offload::segment::Segments;
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::trace::step;
use crate::wire::vlan::Tci;
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

const TTL: u8 = 64;

/// Sends the error `answer` about `packet`, which came in by `from` and whose headers are in `frame`, to its source.
pub(crate) fn send(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port, answer: Answer) {
    if frame.own {
        return;
    }
    let cause = Cause::of(cx, frame, from);
    let Some(destination) = whom(packet, frame, cause.map(|cause| cause.interface), answer) else { return };
    let way = match cause {
        Some(cause) => cause.way_back(cx).map(|way| (way.speaker, Some((cause, way.hop)))),
        // Where nobody routes, only a tunnel has something to tell. It does in the place of whom the packet is for.
        None => {
            let speaker = frame.addresses().map(|(_, to)| to).filter(|to| !to.is_multicast());
            speaker.map(|speaker| (speaker, None))
        }
    };
    let Some((source, way)) = way.filter(|_| allow(cx, destination)) else { return };
    let out = way.map_or(from.mtu, |(_, hop)| cx.config.interfaces[hop.interface].mtu);
    let (origin, mut made) = compose(cx, packet, frame, answer, source, from.mtu.min(out));
    match answer {
        Answer::V4(error) => step!(cx, "icmp", "{error} from {source} to {destination}"),
        Answer::V6(error) => step!(cx, "icmp", "{error} from {source} to {destination}"),
    }
    match way {
        Some((cause, hop)) => cause.answer(cx, &mut made, origin, hop),
        None => cx.output.push(origin, from.id, from.vlans.tag(frame.vlan, Tci::default())),
    }
    cx.output.put(origin, made);
}

/// Makes the error, of `mtu` octets at most, as a frame that goes back to where the packet came from.
fn compose(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    answer: Answer,
    source: IpAddr,
    mtu: usize,
) -> (Origin, Packet) {
    let image = wire_image(cx, packet, frame);
    let original = match &image {
        Some((_, image)) => &image.frame()[L3..],
        None => &packet.frame()[L3..L3 + frame.ip_length().unwrap_or_default()],
    };
    let (origin, mut made) = cx.output.take();
    match (answer, &frame.network, source) {
        (Answer::V4(error), Layer3::Ipv4(header), IpAddr::V4(source)) => {
            emit_v4(error, original, header, source, mtu, &mut made);
        }
        (Answer::V6(error), Layer3::Ipv6(header), IpAddr::V6(source)) => {
            emit_v6(error, original, header, source, mtu, &mut made);
        }
        // Not of one family: whom() has let none through.
        _ => made.reset(L3),
    }
    let header = ethernet::Header {
        destination: frame.ethernet.source,
        source: frame.ethernet.destination,
        ethertype: frame.ethernet.ethertype,
    };
    header.emit(made.frame_mut());
    if let Some((origin, image)) = image {
        cx.output.put(origin, image);
    }
    (origin, made)
}

/// To whom the error is told. `None`: nobody may be told.
fn whom(packet: &Packet, frame: &Frame, interface: Option<&Interface>, answer: Answer) -> Option<IpAddr> {
    match (answer, &frame.network) {
        (Answer::V4(_), Layer3::Ipv4(header)) if may_tell_v4(packet, frame, header, interface) => {
            Some(header.source.into())
        }
        (Answer::V6(error), Layer3::Ipv6(header)) if may_tell_v6(packet, frame, header, error) => {
            Some(header.source.into())
        }
        _ => None,
    }
}

fn may_tell_v4(packet: &Packet, frame: &Frame, header: &ipv4::Header, interface: Option<&Interface>) -> bool {
    let about_error = header.protocol == ipv4::ICMP
        && frame.transport(packet.frame()).first().is_none_or(|kind| icmpv4::is_error(*kind));
    !about_error
        && header.fragment_offset == 0
        && !frame.ethernet.destination.is_multicast()
        && ipv4::is_routable(header.destination)
        && ipv4::is_routable(header.source)
        && !interface.is_some_and(|interface| interface.is_broadcast(header.source))
}

fn may_tell_v6(packet: &Packet, frame: &Frame, header: &ipv6::Header, error: icmpv6::Error) -> bool {
    let about_error = header.protocol == ipv6::ICMPV6
        && header.fragment_offset == 0
        && frame
            .transport(packet.frame())
            .first()
            .is_none_or(|kind| icmpv6::is_error(*kind) || *kind == icmpv6::REDIRECT);
    let to_group = header.destination.is_multicast() || frame.ethernet.destination.is_multicast();
    let even_to_groups = matches!(error, icmpv6::Error::PacketTooBig(_) | icmpv6::Error::UnknownOption(_));
    let source_is_host = !header.source.is_unspecified() && !header.source.is_multicast();
    !about_error && source_is_host && (!to_group || even_to_groups)
}

fn allow(cx: &mut Context, destination: IpAddr) -> bool {
    if cx.dry_run || cx.state.limits.allow_error(cx.now, destination) {
        cx.counters.icmp_errors.add(1);
        return true;
    }
    cx.counters.icmp_errors_limited.add(1);
    false
}

/// The packet as it would have been on the wire, had its sender not left work to the device: of a
/// super-packet the first segment, with the checksum in either. What receivers look at, addresses, ports
/// and the TCP sequence number, would be the same without; lengths that cannot be true would not.
/// `None`: it is as it came.
fn wire_image(cx: &mut Context, packet: &Packet, frame: &Frame) -> Option<(Origin, Packet)> {
    packet.offload.checksum?;
    let whole = L3 + frame.ip_length().unwrap_or_default();
    let segments = Segments::of(packet);
    let (origin, mut image) = cx.output.take_for(segments.as_ref().map_or(whole, Segments::longest));
    match segments {
        Some(segments) => segments.write(0, &mut image),
        None => {
            image.set_frame(&packet.frame()[..whole]);
            image.offload = packet.offload;
        }
    }
    checksum::complete(&mut image);
    Some((origin, image))
}

fn emit_v4(
    error: icmpv4::Error,
    original: &[u8],
    header: &ipv4::Header,
    source: Ipv4Addr,
    mtu: usize,
    made: &mut Packet,
) {
    let headers = ipv4::HEADER_LENGTH + icmpv4::HEADER_LENGTH;
    let quoted = original.len().min(icmpv4::MAX_ERROR.min(mtu).saturating_sub(headers));
    made.reset(L3 + headers + quoted);
    let fields = ipv4::Header {
        tos: 0xc0 | header.tos & 0x1c, // internetwork control (RFC 1812 section 4.3.2.5), ECN clear
        ..ipv4::Header::atomic(ipv4::ICMP, icmpv4::HEADER_LENGTH + quoted, source, header.source)
    };
    let packet = &mut made.frame_mut()[L3..];
    fields.emit(packet);
    packet[headers..].copy_from_slice(&original[..quoted]);
    error.emit(&mut packet[ipv4::HEADER_LENGTH..]);
}

fn emit_v6(
    error: icmpv6::Error,
    original: &[u8],
    header: &ipv6::Header,
    source: Ipv6Addr,
    mtu: usize,
    made: &mut Packet,
) {
    let headers = ipv6::HEADER_LENGTH + icmpv6::HEADER_LENGTH;
    let quoted = original.len().min(icmpv6::MAX_ERROR.min(mtu).saturating_sub(headers));
    made.reset(L3 + headers + quoted);
    let fields = ipv6::Fields {
        payload_length: icmpv6::HEADER_LENGTH + quoted,
        next_header: ipv6::ICMPV6,
        hop_limit: TTL,
        source,
        destination: header.source,
    };
    let packet = &mut made.frame_mut()[L3..];
    fields.emit(packet);
    packet[headers..].copy_from_slice(&original[..quoted]);
    error.emit(source, header.source, &mut packet[ipv6::HEADER_LENGTH..]);
}
