//! ICMP and ICMPv6 errors: tells the sender of a packet why it was dropped.
//!
//! Never about an ICMP error, a fragment other than the first, a group address, or a source that is
//! no host (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e); quotes as much as fits; rate-limited.

use std::net::IpAddr;

use super::{Answer, Frame, L3, Layer3};
use crate::config::Port;
use crate::pipeline::Context;
use crate::trace::step;
use crate::wire::vlan::Tci;
use crate::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

const TTL: u8 = 64;

/// Sends the error `answer` about `original`, a frame that came from `from`, back to where it came from.
pub(crate) fn send(cx: &mut Context, original: &[u8], frame: &Frame, from: &Port, answer: Answer) {
    if frame.ethernet.destination.is_multicast() {
        return;
    }
    match (answer, &frame.network) {
        (Answer::V4(error), Layer3::Ipv4(header)) => send_v4(cx, original, frame, from, error, header),
        (Answer::V6(error), Layer3::Ipv6(header)) => send_v6(cx, original, frame, from, error, header),
        _ => {}
    }
}

fn send_v4(
    cx: &mut Context,
    original: &[u8],
    frame: &Frame,
    from: &Port,
    error: icmpv4::Error,
    header: &ipv4::Header,
) {
    let about_error = header.protocol == ipv4::ICMP
        && frame.transport(original).first().is_none_or(|kind| icmpv4::is_error(*kind));
    if about_error
        || header.fragment_offset != 0
        || !ipv4::is_routable(header.source)
        || !ipv4::is_routable(header.destination)
    {
        return;
    }
    let Some(gateway) = cx.config.interface(from.network, frame.vlan) else { return };
    let Some(source) = gateway.source_v4(header.source) else { return };
    if !allow(cx, header.source.into()) {
        return;
    }
    let headers = ipv4::HEADER_LENGTH + icmpv4::HEADER_LENGTH;
    let quoted = header.total_length.min(icmpv4::MAX_ERROR.min(from.mtu).saturating_sub(headers));
    let (origin, made) = cx.output.make();
    made.reset(L3 + headers + quoted);
    let bytes = made.frame_mut();
    answer_ethernet(frame, gateway.mac, bytes);
    let fields = ipv4::Header {
        header_length: ipv4::HEADER_LENGTH,
        total_length: headers + quoted,
        tos: 0xc0 | header.tos & 0x1c, // internetwork control (RFC 1812 section 4.3.2.5), ECN clear
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: TTL,
        protocol: ipv4::ICMP,
        source,
        destination: header.source,
    };
    fields.emit(&mut bytes[L3..]);
    let message = &mut bytes[L3 + ipv4::HEADER_LENGTH..];
    message[icmpv4::HEADER_LENGTH..].copy_from_slice(&original[L3..L3 + quoted]);
    error.emit(message);
    cx.output.push(origin, from.id, from.vlans.tag(frame.vlan, Tci::default()));
    step!(cx, "icmp", "{error} from {source} to {}", header.source);
}

fn send_v6(
    cx: &mut Context,
    original: &[u8],
    frame: &Frame,
    from: &Port,
    error: icmpv6::Error,
    header: &ipv6::Header,
) {
    let about_error = header.protocol == ipv6::ICMPV6
        && header.fragment_offset == 0
        && frame
            .transport(original)
            .first()
            .is_none_or(|kind| icmpv6::is_error(*kind) || *kind == icmpv6::REDIRECT);
    let source_is_host = !header.source.is_unspecified() && !header.source.is_multicast();
    if about_error || header.fragment_offset != 0 || !source_is_host || header.destination.is_multicast() {
        return;
    }
    let Some(gateway) = cx.config.interface(from.network, frame.vlan) else { return };
    let Some(source) = gateway.source_v6(header.source) else { return };
    if !allow(cx, header.source.into()) {
        return;
    }
    let headers = ipv6::HEADER_LENGTH + icmpv6::HEADER_LENGTH;
    let quoted = header.total_length.min(icmpv6::MAX_ERROR.min(from.mtu).saturating_sub(headers));
    let (origin, made) = cx.output.make();
    made.reset(L3 + headers + quoted);
    let bytes = made.frame_mut();
    answer_ethernet(frame, gateway.mac, bytes);
    let fields = ipv6::Fields {
        payload_length: icmpv6::HEADER_LENGTH + quoted,
        next_header: ipv6::ICMPV6,
        hop_limit: TTL,
        source,
        destination: header.source,
    };
    fields.emit(&mut bytes[L3..]);
    let message = &mut bytes[L3 + ipv6::HEADER_LENGTH..];
    message[icmpv6::HEADER_LENGTH..].copy_from_slice(&original[L3..L3 + quoted]);
    error.emit(source, header.source, message);
    cx.output.push(origin, from.id, from.vlans.tag(frame.vlan, Tci::default()));
    step!(cx, "icmp", "{error} from {source} to {}", header.source);
}

fn answer_ethernet(frame: &Frame, gateway: crate::MacAddr, bytes: &mut [u8]) {
    ethernet::Header {
        destination: frame.ethernet.source,
        source: gateway,
        ethertype: frame.ethernet.ethertype,
    }
    .emit(bytes);
}

fn allow(cx: &mut Context, destination: IpAddr) -> bool {
    if cx.dry_run || cx.state.limits.allow_error(cx.now, destination) {
        cx.counters.icmp_errors.add(1);
        return true;
    }
    cx.counters.icmp_errors_limited.add(1);
    false
}
