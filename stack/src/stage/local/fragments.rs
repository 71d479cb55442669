//! Fragments for the gateway (RFC 791 section 3.2, RFC 8200 section 4.5): sorts out those that are none,
//! hands the others to the table, and takes in the datagram that comes out.

use super::serve;
use crate::config::Port;
use crate::offload;
use crate::packet::Packet;
use crate::pipeline::{Context, Timer};
use crate::stage::{Answer, Frame, L3, Layer3, Rejection, icmp_error, ingress};
use crate::table::reassembly::{Fragment, GivenUp, Insertion, Key, Outcome, Whole};
use crate::trace::step;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ipv6::extension::{self, FRAGMENT_LENGTH};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6, write_u16};

/// Takes in a fragment. `None`: the packet is whole.
pub(crate) fn receive(
    cx: &mut Context,
    packet: &mut Packet,
    frame: &Frame,
    from: &Port,
) -> Result<Option<Verdict>, Rejection> {
    let Some(interface) = cx.config.interface(from.network, frame.vlan) else { return Ok(None) };
    if frame.is_fragment() {
        offload::checksum::complete(packet);
    }
    let found = match &frame.network {
        Layer3::Ipv4(header) => read_v4(packet.frame(), header, interface.id)?,
        Layer3::Ipv6(header) => read_v6(packet.frame(), header, interface.id)?,
        Layer3::Arp(_) | Layer3::Other => None,
    };
    let Some((key, fragment)) = found else { return Ok(None) };
    step!(
        cx,
        "local",
        "fragment of datagram {:#x}, {} octets at {}",
        key.id,
        fragment.payload.len(),
        fragment.offset
    );
    if cx.dry_run {
        return Ok(Some(Verdict::Answered));
    }
    cx.counters.fragments_received.add(1);
    let Insertion { outcome, given_up, timer } = cx.config.reassembly.insert(cx.now, key, from.id, &fragment);
    if let Some(at) = timer {
        cx.state.set_timer(at, Timer::Reassembly);
    }
    given_up.iter().for_each(|lost| count(cx, lost));
    match outcome {
        Outcome::Held => Ok(Some(Verdict::Answered)),
        Outcome::Refused(reason) => Err(reason.into()),
        Outcome::Whole(whole) => Ok(Some(take_in(cx, &whole, frame, from))),
    }
}

/// An IPv4 fragment that keeps the rules.
fn read_v4<'a>(
    frame: &'a [u8],
    header: &ipv4::Header,
    interface: u32,
) -> Result<Option<(Key, Fragment<'a>)>, DropReason> {
    if !header.is_fragment() {
        return Ok(None);
    }
    let (head, payload) = frame[..L3 + header.total_length].split_at(L3 + header.header_length);
    let odd = header.more_fragments && !payload.len().is_multiple_of(8);
    if payload.is_empty() || odd || hides_tcp_flags(header, payload) {
        return Err(DropReason::FragmentMalformed);
    }
    let key = Key {
        interface,
        source: header.source.into(),
        destination: header.destination.into(),
        protocol: header.protocol,
        id: header.id.into(),
    };
    let fragment = Fragment {
        head,
        header_length: header.header_length,
        offset: header.fragment_offset,
        payload,
        more: header.more_fragments,
        ecn: header.tos & 3,
    };
    Ok(Some((key, fragment)))
}

/// A TCP header that is cut before its flags, or pieces that would write them anew: no sender does so
/// (RFC 1858 section 3, RFC 3128).
fn hides_tcp_flags(header: &ipv4::Header, payload: &[u8]) -> bool {
    const LEAST: usize = 16;
    header.protocol == ipv4::TCP
        && (header.fragment_offset == 8 || (header.fragment_offset == 0 && payload.len() < LEAST))
}

/// An IPv6 fragment that keeps the rules. Looks at all extension headers that are not themselves in
/// fragments.
fn read_v6<'a>(
    frame: &'a [u8],
    header: &ipv6::Header,
    interface: u32,
) -> Result<Option<(Key, Fragment<'a>)>, Rejection> {
    let packet = &frame[L3..L3 + header.total_length];
    let Some(found) = extension::examine(packet, header)? else { return Ok(None) };
    let start = found.at + FRAGMENT_LENGTH;
    let key = Key {
        interface,
        source: header.source.into(),
        destination: header.destination.into(),
        protocol: 0,
        id: found.id,
    };
    let fragment = Fragment {
        head: &frame[..L3 + start],
        header_length: found.at - ipv6::HEADER_LENGTH,
        offset: found.offset,
        payload: &packet[start..],
        more: found.more,
        ecn: header.traffic_class & 3,
    };
    Ok(Some((key, fragment)))
}

/// Takes in a datagram. What comes of it is told about the whole, whose last fragment was at hand.
fn take_in(cx: &mut Context, whole: &Whole, last: &Frame, from: &Port) -> Verdict {
    cx.counters.datagrams_reassembled.add(1);
    step!(cx, "local", "whole: {} octets of {} fragments", whole.length(), whole.fragments());
    let (origin, mut packet) = cx.output.take_for(whole.head.len() + whole.length());
    put_together(whole, &mut packet);
    let verdict = match ingress::parse(packet.frame()) {
        Ok(frame) => {
            let frame = Frame { vlan: last.vlan, tag: last.tag, ..frame };
            let served = match has_inner_fragment(&packet, &frame) {
                Ok(false) => serve(cx, &mut packet, origin, &frame, from),
                // Fragments of fragments are cut from the same datagram; these are something else.
                Ok(true) => Err(DropReason::FragmentMalformed.into()),
                Err(rejection) => Err(rejection),
            };
            served.unwrap_or_else(|rejection| cx.reject(rejection, &packet, &frame, from))
        }
        Err((reason, _)) => {
            from.counters(cx.worker).drop(reason);
            Verdict::Dropped(reason)
        }
    };
    cx.output.put(origin, packet);
    verdict
}

/// Looks at the extension headers that were in the fragments.
fn has_inner_fragment(packet: &Packet, frame: &Frame) -> Result<bool, Rejection> {
    let Layer3::Ipv6(header) = &frame.network else { return Ok(false) };
    let inner = extension::examine(&packet.frame()[L3..L3 + header.total_length], header)?;
    Ok(inner.is_some())
}

/// Writes the datagram: the headers of the first fragment, without what made it one.
fn put_together(whole: &Whole, packet: &mut Packet) {
    const V4: u8 = 4;
    let is_v4 = whole.head.get(L3).is_some_and(|first| first >> 4 == V4);
    let mut head = whole.head.clone();
    let headers = &mut head[L3..];
    let length = whole.length();
    let headers_length = if is_v4 {
        headers[1] = headers[1] & !3 | whole.ecn;
        write_u16(headers, 2, (headers.len() + length) as u16);
        write_u16(headers, 6, 0);
        ipv4::fill_checksum(headers);
        headers.len()
    } else {
        let left = extension::remove_fragment(headers);
        headers[1] = headers[1] & !0x30 | whole.ecn << 4;
        write_u16(headers, 4, (left - ipv6::HEADER_LENGTH + length) as u16);
        left
    };
    let start = L3 + headers_length;
    packet.reset(start + length);
    packet.frame_mut()[..start].copy_from_slice(&head[..start]);
    whole.copy_to(&mut packet.frame_mut()[start..]);
}

/// The timer of the table ran out: tells the senders of what will not be whole (RFC 792, RFC 4443
/// section 3.3).
pub(crate) fn expire(cx: &mut Context) {
    let expired = cx.config.reassembly.expire(cx.now);
    if let Some(at) = expired.timer {
        cx.state.set_timer(at, Timer::Reassembly);
    }
    for lost in expired.given_up {
        count(cx, &lost);
        if let (Some(from), Some((interface, first))) = (cx.config.port(lost.from), lost.first) {
            tell(cx, from, interface, &first);
        }
    }
}

/// Tells the sender of a first fragment, which came by the interface with this id, that the others did
/// not.
fn tell(cx: &mut Context, from: &Port, interface: u32, first: &[u8]) {
    let Some(interface) = cx.config.interface_by_id(interface) else { return };
    let (origin, mut packet) = cx.output.take_for(first.len());
    packet.set_frame(first);
    if let Ok(frame) = ingress::parse(packet.frame()) {
        let frame = Frame { vlan: interface.vlan, ..frame };
        let answer = match frame.network {
            Layer3::Ipv6(_) => Answer::V6(icmpv6::Error::ReassemblyTimeExceeded),
            _ => Answer::V4(icmpv4::Error::ReassemblyTimeExceeded),
        };
        icmp_error::send(cx, &packet, &frame, from, answer);
    }
    cx.output.put(origin, packet);
}

fn count(cx: &Context, lost: &GivenUp) {
    let Some(port) = cx.config.port(lost.from) else { return };
    for _ in 0..lost.pieces {
        port.counters(cx.worker).drop(lost.reason);
    }
}
