//! Fragmentation: of IPv4 packets on their way to a network with a smaller MTU (RFC 791 section 3.2),
//! and of the stack's own IPv6 packets (RFC 8200 section 4.5).
//!
//! Others' packets with DF do not come here, so that every identification that goes into fragments is one that
//! its sender chose for that (RFC 6864 section 4). Pieces of pieces are pieces of the first.

use std::hash::BuildHasher;
use std::net::Ipv6Addr;

use foldhash::fast::RandomState;

use super::L3;
use crate::offload;
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::stage::egress::{self, Delivery};
use crate::verdict::DropReason;
use crate::wire::ipv6::extension::{FRAGMENT_LENGTH, Fragment};
use crate::wire::{ipv4, ipv6, write_u16};

/// Sends the IPv4 packet `packet`, already rewritten, which has no DF or was made by the stack itself, as pieces of at most `mtu` octets.
pub(crate) fn split(cx: &mut Context, packet: &mut Packet, mtu: usize, delivery: &Delivery) {
    offload::checksum::complete(packet);
    let Ok(header) = ipv4::Header::parse(&packet.frame()[L3..]) else { return };
    let (link, ip) = packet.frame().split_at(L3);
    let payload = &ip[header.header_length..header.total_length];
    let all = Options::all(&ip[ipv4::HEADER_LENGTH..header.header_length]);
    let copied = Options::copied(all.as_slice());
    let mut offset = 0;
    while offset < payload.len() {
        let options = if offset == 0 { all.as_slice() } else { copied.as_slice() };
        let header_length = ipv4::HEADER_LENGTH + options.len();
        let Some(room) = room(mtu, header_length) else { return too_narrow(cx, delivery) };
        let piece = &payload[offset..payload.len().min(offset + room)];
        let last = offset + piece.len() == payload.len();
        let fields = ipv4::Header {
            header_length,
            total_length: header_length + piece.len(),
            dont_fragment: false,
            more_fragments: header.more_fragments || !last,
            fragment_offset: header.fragment_offset + offset,
            ..header
        };
        send(cx, delivery, header_length, link, piece, |bytes| {
            fields.emit(bytes);
            bytes[0] = 0x40 | (header_length / 4) as u8;
            bytes[ipv4::HEADER_LENGTH..].copy_from_slice(options);
            ipv4::fill_checksum(bytes);
        });
        offset += piece.len();
    }
}

/// Sends the IPv6 packet `packet`, which the stack made itself and without extension headers, as pieces
/// of at most `mtu` octets.
pub(crate) fn split_own_v6(cx: &mut Context, packet: &mut Packet, mtu: usize, delivery: &Delivery) {
    const PAYLOAD_LENGTH: usize = 4;
    const NEXT_HEADER: usize = 6;
    offload::checksum::complete(packet);
    let Ok(header) = ipv6::Header::parse(&packet.frame()[L3..]) else { return };
    let headers = ipv6::HEADER_LENGTH + FRAGMENT_LENGTH;
    let Some(room) = room(mtu, headers) else { return too_narrow(cx, delivery) };
    let id = cx.state.fragment_ids.next(header.source, header.destination);
    let (link, ip) = packet.frame().split_at(L3);
    let (fixed, payload) = ip[..header.total_length].split_at(ipv6::HEADER_LENGTH);
    for (index, piece) in payload.chunks(room).enumerate() {
        let fragment = Fragment {
            at: ipv6::HEADER_LENGTH,
            named_at: NEXT_HEADER,
            next_header: fixed[NEXT_HEADER],
            offset: index * room,
            more: index * room + piece.len() < payload.len(),
            id,
        };
        send(cx, delivery, headers, link, piece, |bytes| {
            bytes[..ipv6::HEADER_LENGTH].copy_from_slice(fixed);
            write_u16(bytes, PAYLOAD_LENGTH, (FRAGMENT_LENGTH + piece.len()) as u16);
            bytes[NEXT_HEADER] = ipv6::FRAGMENT;
            fragment.emit(&mut bytes[ipv6::HEADER_LENGTH..]);
        });
    }
}

/// Octets of payload in all pieces but the last: offsets count in eights. `None`: not even one eight.
fn room(mtu: usize, headers: usize) -> Option<usize> {
    mtu.checked_sub(headers).map(|room| room & !7).filter(|room| *room > 0)
}

/// The MTU is below what RFC 791 asks of every link (68 octets).
fn too_narrow(cx: &Context, delivery: &Delivery) {
    delivery.each(cx.config, |port| port.counters(cx.worker).drop(DropReason::FrameTooLong));
}

/// Sends a piece, whose headers of `headers` octets `emit` writes.
fn send(
    cx: &mut Context,
    delivery: &Delivery,
    headers: usize,
    link: &[u8],
    piece: &[u8],
    emit: impl FnOnce(&mut [u8]),
) {
    let length = link.len() + headers + piece.len();
    let (origin, mut made) = cx.output.take_for(length);
    made.reset(length);
    let bytes = made.frame_mut();
    bytes[..link.len()].copy_from_slice(link);
    emit(&mut bytes[link.len()..link.len() + headers]);
    bytes[link.len() + headers..].copy_from_slice(piece);
    egress::spread(cx, &mut made, origin, delivery);
    cx.output.put(origin, made);
    cx.counters.fragments_made.add(1);
}

/// IPv4 options, padded to a multiple of four octets.
struct Options {
    bytes: [u8; Options::MOST],
    length: usize,
}

impl Options {
    const MOST: usize = 40;

    fn all(options: &[u8]) -> Options {
        let mut all = Options { bytes: [0; Options::MOST], length: 0 };
        all.push(options);
        all
    }

    /// Those that every fragment carries: the ones with the copied flag. What stands behind an option
    /// whose length cannot be true is left out.
    fn copied(options: &[u8]) -> Options {
        let mut kept = Options::all(&[]);
        let mut rest = options;
        while let [kind, tail @ ..] = rest {
            let length = match *kind {
                0 => break,
                1 => 1,
                _ => tail.first().map_or(0, |length| usize::from(*length)).max(2),
            };
            let Some(option) = rest.get(..length) else { break };
            if kind & 0x80 != 0 {
                kept.push(option);
            }
            rest = &rest[length..];
        }
        kept.length = kept.length.next_multiple_of(4);
        kept
    }

    fn push(&mut self, option: &[u8]) {
        self.bytes[self.length..self.length + option.len()].copy_from_slice(option);
        self.length += option.len();
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Identifications for the fragments of a worker's own packets: not to be guessed from those that
/// another destination sees (RFC 7739 section 5.3).
#[derive(Debug, Default)]
pub(crate) struct FragmentIds {
    hash: RandomState,
    count: u32,
}

impl FragmentIds {
    fn next(&mut self, source: Ipv6Addr, destination: Ipv6Addr) -> u32 {
        self.count = self.count.wrapping_add(1);
        (self.hash.hash_one((source, destination)) as u32).wrapping_add(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied_options(options: &[u8]) -> Vec<u8> {
        Options::copied(options).as_slice().to_vec()
    }

    #[test]
    fn only_options_with_the_copied_flag_go_into_later_fragments() {
        // Router alert (148, copied) behind a record route (7, not copied).
        assert_eq!(copied_options(&[7, 3, 4, 148, 4, 0, 0, 0]), [148, 4, 0, 0]);
        assert_eq!(copied_options(&[130, 3, 1, 0]), [130, 3, 1, 0]);
        assert!(copied_options(&[7, 200, 4, 0]).is_empty());
        assert!(copied_options(&[130]).is_empty());
    }

    #[test]
    fn pieces_hold_as_many_eights_as_fit() {
        assert_eq!(room(1500, 20), Some(1480));
        assert_eq!(room(1499, 20), Some(1472));
        assert_eq!(room(68, 60), Some(8));
        assert_eq!(room(67, 60), None);
        assert_eq!(room(10, 20), None);
    }

    #[test]
    fn identifications_do_not_repeat_and_differ_by_destination() {
        let address = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let mut ids = FragmentIds::default();
        let first = ids.next(address(1), address(2));
        assert_eq!(ids.next(address(1), address(2)), first.wrapping_add(1));
        assert_ne!(ids.next(address(1), address(3)), first.wrapping_add(2));
    }
}
