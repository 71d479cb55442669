//! Fragmentation of IPv4 packets on their way to a network with a smaller MTU (RFC 791 section 3.2).

use super::L3;
use crate::offload;
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::stage::egress::{self, Delivery};
use crate::wire::ipv4;

/// Sends `packet`, already rewritten and without DF, as pieces of at most `mtu` octets.
pub(crate) fn split(cx: &mut Context, packet: &mut Packet, mtu: usize, delivery: &Delivery) {
    offload::checksum::complete(packet);
    let Ok(header) = ipv4::Header::parse(&packet.frame()[L3..]) else { return };
    let payload = &packet.frame()[L3 + header.header_length..L3 + header.total_length];
    let options = &packet.frame()[L3 + ipv4::HEADER_LENGTH..L3 + header.header_length];
    let mut offset = 0;
    while offset < payload.len() {
        let kept = if offset == 0 { options.to_vec() } else { copied_options(options) };
        let header_length = ipv4::HEADER_LENGTH + kept.len();
        // Offsets count in eights; an MTU below 68 (RFC 791) has no room, and the port will say so.
        let room = (mtu.saturating_sub(header_length) & !7).max(8);
        let piece = &payload[offset..payload.len().min(offset + room)];
        let last = offset + piece.len() == payload.len();
        let (origin, mut made) = cx.output.take();
        made.reset(L3 + header_length + piece.len());
        let bytes = made.frame_mut();
        bytes[..L3].copy_from_slice(&packet.frame()[..L3]);
        let fields = ipv4::Header {
            header_length,
            total_length: header_length + piece.len(),
            more_fragments: header.more_fragments || !last,
            fragment_offset: header.fragment_offset + offset,
            ..header
        };
        fields.emit(&mut bytes[L3..]);
        bytes[L3] = 0x40 | (header_length / 4) as u8;
        bytes[L3 + ipv4::HEADER_LENGTH..L3 + header_length].copy_from_slice(&kept);
        ipv4::fill_checksum(&mut bytes[L3..L3 + header_length]);
        bytes[L3 + header_length..].copy_from_slice(piece);
        egress::spread(cx, &mut made, origin, delivery);
        cx.output.put(origin, made);
        cx.counters.fragments_made.add(1);
        offset += piece.len();
    }
}

/// The options that every fragment carries: those with the copied flag, padded to a multiple of four.
fn copied_options(options: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = options;
    while let [kind, tail @ ..] = rest {
        let length = match *kind {
            0 => break,
            1 => 1,
            _ => usize::from(*tail.first().unwrap_or(&0)),
        };
        if length == 0 || length > rest.len() || (*kind != 1 && length < 2) {
            break;
        }
        if kind & 0x80 != 0 {
            kept.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept.resize(kept.len().next_multiple_of(4), 0);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_with_the_copied_flag_go_into_later_fragments() {
        // Router alert (148, copied) behind a record route (7, not copied).
        assert_eq!(copied_options(&[7, 3, 4, 148, 4, 0, 0, 0]), [148, 4, 0, 0]);
        assert_eq!(copied_options(&[130, 3, 1, 0]), [130, 3, 1, 0]);
        assert!(copied_options(&[7, 200, 4, 0]).is_empty());
    }
}
