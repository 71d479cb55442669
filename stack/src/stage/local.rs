//! Local: packets for the gateway itself. It puts fragments together, answers echo requests, takes
//! note of ICMP errors, and refuses the rest.

pub mod fragments;
mod transport;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reply::{Cause, WayBack};
use super::{Frame, L3, Layer3, Rejection};
use crate::batch::Origin;
use crate::config::Port;
use crate::offload;
use crate::packet::{Offload, Packet};
use crate::pipeline::Context;
use crate::table::next_hops::NextHop;
use crate::trace::step;
use crate::tunnel::{receive, trouble};
use crate::verdict::{DropReason, Verdict};
use crate::wire::checksum::pseudo_header;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6, read_u16, read_u32, tcp, write_u16};

const TTL: u8 = 64;

pub(crate) fn deliver(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    from: &Port,
) -> Result<Verdict, Rejection> {
    match fragments::receive(cx, packet, frame, from)? {
        Some(verdict) => Ok(verdict),
        None => serve(cx, packet, origin, frame, from),
    }
}

/// Takes in a whole packet.
fn serve(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    from: &Port,
) -> Result<Verdict, Rejection> {
    let protocol = match &frame.network {
        Layer3::Ipv4(header) => header.protocol,
        Layer3::Ipv6(header) => header.protocol,
        Layer3::Arp(_) | Layer3::Other => return Err(DropReason::NoRouter.into()),
    };
    if !transport::is_intact(packet, frame) {
        return Err(DropReason::TransportMalformed.into());
    }
    if protocol == ipv4::UDP
        && let Some(verdict) = receive::for_router(cx, packet, frame, from)
    {
        return Ok(verdict);
    }
    match (&frame.network, protocol) {
        (Layer3::Ipv4(_), ipv4::ICMP) | (Layer3::Ipv6(_), ipv6::ICMPV6) => {
            receive_icmp(cx, packet, origin, frame, from)
        }
        (_, ipv4::TCP) => reset(cx, packet, frame, from),
        (Layer3::Ipv4(_), ipv4::UDP) => {
            Err(Rejection::v4(DropReason::GatewayPortClosed, icmpv4::Error::PortUnreachable))
        }
        (Layer3::Ipv4(_), _) => {
            Err(Rejection::v4(DropReason::GatewayPortClosed, icmpv4::Error::ProtocolUnreachable))
        }
        (_, ipv4::UDP) => Err(Rejection::v6(DropReason::GatewayPortClosed, icmpv6::Error::PortUnreachable)),
        (Layer3::Ipv6(header), protocol) if protocol != ipv6::NO_NEXT_HEADER => {
            let pointer = header.protocol_offset as u32;
            Err(Rejection::v6(DropReason::GatewayPortClosed, icmpv6::Error::UnknownNextHeader(pointer)))
        }
        _ => Err(DropReason::GatewayPortClosed.into()),
    }
}

/// Answers an echo request, and takes note of an error.
fn receive_icmp(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    from: &Port,
) -> Result<Verdict, Rejection> {
    offload::checksum::complete(packet);
    let message = frame.transport(packet.frame());
    if message.len() < icmpv4::HEADER_LENGTH {
        return Err(DropReason::IcmpUnhandled.into());
    }
    let checked = match &frame.network {
        Layer3::Ipv6(header) => icmpv6::check(header.source, header.destination, message),
        _ => icmpv4::check(message),
    };
    let kind = match checked {
        Ok(kind) => kind,
        Err(_) if packet.offload.verified => message[0],
        Err(malformed) => {
            step!(cx, "local", "{malformed}");
            return Err(DropReason::IcmpChecksumBad.into());
        }
    };
    match (&frame.network, kind) {
        (Layer3::Ipv4(_), icmpv4::ECHO_REQUEST) | (Layer3::Ipv6(_), icmpv6::ECHO_REQUEST) => {
            answer_echo(cx, packet, origin, frame, from)
        }
        _ if is_about_own_packet(kind, message, frame) => {
            // Tunnels that the router carries need to know of the way (RFC 1191, RFC 8201). Its other packets are
            // replies, which fit or may be cut, and errors.
            hear_of_way(cx, kind, packet.frame(), frame, from);
            step!(cx, "local", "an error about a packet of the gateway: noted");
            cx.counters.icmp_errors_received.add(1);
            Ok(Verdict::Answered)
        }
        _ => Err(DropReason::IcmpUnhandled.into()),
    }
}

/// Turns an echo request round. The reply may have to be cut: the identification of its pieces is then the
/// request's, which is as good for the way back (RFC 6864 section 4).
fn answer_echo(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    from: &Port,
) -> Result<Verdict, Rejection> {
    let cause = Cause::of(cx, frame, from).ok_or(DropReason::NoRouter)?;
    let WayBack { hop, speaker } = cause.way_back(cx).ok_or(DropReason::NoRoute)?;
    match (&frame.network, speaker) {
        (Layer3::Ipv4(header), IpAddr::V4(own)) => turn_v4(cx, packet, header, own, cause.interface.router),
        (Layer3::Ipv6(header), IpAddr::V6(own)) => turn_v6(packet, header, own),
        // Not of one family, which way_back never says.
        _ => return Err(DropReason::NoRoute.into()),
    }
    packet.offload = Offload::default();
    step!(cx, "local", "echo request answered");
    cx.counters.echo_replies.add(1);
    cause.answer(cx, packet, origin, hop);
    Ok(Verdict::Answered)
}

/// Takes note of an error that says how large packets may be.
fn hear_of_way(cx: &mut Context, kind: u8, bytes: &[u8], frame: &Frame, from: &Port) {
    let Some(interface) = cx.config.interface(from.network, frame.vlan) else { return };
    let (router, message) = (interface.router, frame.transport(bytes));
    let mtu = match &frame.network {
        Layer3::Ipv4(_) if (kind, message[1]) == (3, 4) => u32::from(read_u16(message, 6)),
        Layer3::Ipv6(_) if kind == 2 => read_u32(message, 4),
        _ => return,
    };
    // Routers that do not know of RFC 1191 say nothing of it.
    if mtu > 0 {
        trouble::hear_router(cx, router, &message[icmpv4::HEADER_LENGTH..], mtu);
    }
}

/// Whether the message is an error that quotes a packet which the address it came to had sent.
fn is_about_own_packet(kind: u8, message: &[u8], frame: &Frame) -> bool {
    match &frame.network {
        Layer3::Ipv4(header) => {
            let quote = message.get(icmpv4::HEADER_LENGTH..).unwrap_or_default();
            let own = header.destination.octets();
            icmpv4::is_error(kind)
                && quote.len() >= ipv4::HEADER_LENGTH + icmpv4::HEADER_LENGTH
                && quote[0] >> 4 == 4
                && quote[12..16] == own
        }
        Layer3::Ipv6(header) => {
            let quote = message.get(icmpv6::HEADER_LENGTH..).unwrap_or_default();
            let own = header.destination.octets();
            icmpv6::is_error(kind)
                && quote.len() >= ipv6::HEADER_LENGTH
                && quote[0] >> 4 == 6
                && quote[8..24] == own
        }
        Layer3::Arp(_) | Layer3::Other => false,
    }
}

/// The reply has the request's options, with what the gateway has to add to them (RFC 1122 section
/// 3.2.2.6).
fn turn_v4(cx: &Context, packet: &mut Packet, header: &ipv4::Header, own: Ipv4Addr, router: usize) {
    packet.truncate(L3 + header.total_length);
    let (ip, message) = packet.frame_mut()[L3..].split_at_mut(header.header_length);
    ip[8] = TTL;
    ip[12..16].copy_from_slice(&own.octets());
    ip[16..20].copy_from_slice(&header.source.octets());
    let addresses = &cx.config.routers[router].addresses;
    let is_own = &|own: Ipv4Addr| addresses.contains(&own.into());
    ipv4::option::Passage { address: own, at: cx.now, is_own }.record(ip);
    ipv4::fill_checksum(ip);
    icmpv4::reply_to_echo(message);
}

/// The reply has no extension headers: the request's are not for its sender.
fn turn_v6(packet: &mut Packet, header: &ipv6::Header, own: Ipv6Addr) {
    let length = header.total_length - header.payload_offset;
    let bytes = &mut packet.frame_mut()[L3..];
    bytes.copy_within(header.payload_offset..header.total_length, ipv6::HEADER_LENGTH);
    write_u16(bytes, 4, length as u16);
    bytes[6] = ipv6::ICMPV6;
    bytes[7] = TTL;
    bytes[8..24].copy_from_slice(&own.octets());
    bytes[24..40].copy_from_slice(&header.source.octets());
    packet.truncate(L3 + ipv6::HEADER_LENGTH + length);
    icmpv6::reply_to_echo(own, header.source, &mut packet.frame_mut()[L3 + ipv6::HEADER_LENGTH..]);
}

/// Refuses a TCP segment: the gateway has no listening port. Nobody has a connection with an address that stands for
/// several routers.
fn reset(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port) -> Result<Verdict, Rejection> {
    let mut segment = [0; tcp::HEADER_LENGTH];
    let refused = tcp::emit_reset(frame.transport(packet.frame()), &mut segment);
    let cause = Cause::of(cx, frame, from).filter(|cause| cause.is_to_speaker(cx));
    if let (Some(_), Some(cause)) = (refused, cause)
        && (cx.dry_run || cx.state.limits.resets.allow(cx.now))
        && let Some(WayBack { hop, .. }) = cause.way_back(cx)
    {
        send_segment(cx, &cause, hop, &mut segment);
        cx.counters.tcp_resets.add(1);
        step!(cx, "local", "no such port: reset");
    }
    Err(DropReason::GatewayPortClosed.into())
}

fn send_segment(cx: &mut Context, cause: &Cause, hop: NextHop, segment: &mut [u8; tcp::HEADER_LENGTH]) {
    let (origin, mut made) = cx.output.take();
    let ethernet = cause.frame.ethernet;
    let length = segment.len();
    let (source, destination, header_length) = match &cause.frame.network {
        Layer3::Ipv4(header) => {
            made.reset(L3 + ipv4::HEADER_LENGTH + length);
            let fields = ipv4::Header::atomic(ipv4::TCP, length, header.destination, header.source);
            fields.emit(&mut made.frame_mut()[L3..]);
            (header.destination.into(), header.source.into(), ipv4::HEADER_LENGTH)
        }
        Layer3::Ipv6(header) => {
            made.reset(L3 + ipv6::HEADER_LENGTH + length);
            let fields = ipv6::Fields {
                payload_length: length,
                next_header: ipv4::TCP,
                hop_limit: TTL,
                source: header.destination,
                destination: header.source,
            };
            fields.emit(&mut made.frame_mut()[L3..]);
            (header.destination.into(), header.source.into(), ipv6::HEADER_LENGTH)
        }
        Layer3::Arp(_) | Layer3::Other => return,
    };
    let sum = pseudo_header(source, destination, ipv4::TCP, length).bytes(segment).finish();
    write_u16(segment, tcp::CHECKSUM, sum);
    ethernet.emit(made.frame_mut());
    made.frame_mut()[L3 + header_length..].copy_from_slice(segment);
    cause.answer(cx, &mut made, origin, hop);
    cx.output.put(origin, made);
}
