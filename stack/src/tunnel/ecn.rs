//! ECN across a tunnel (RFC 6040): what the outer header says of congestion gets into the inner one.

use crate::stage::L3;
use crate::wire::{ethernet, ipv4, ipv6, read_u16, write_u16};

/// The two bits of congestion.
const MASK: u8 = 3;
const NOT_CAPABLE: u8 = 0;
const CAPABLE_1: u8 = 1;
const CAPABLE_0: u8 = 2;
const CONGESTED: u8 = 3;

/// The packet's sender does not know of ECN, and there was congestion: it is to be dropped (RFC 6040 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotCapable;

/// The ECN bits for the outer header of a frame: those of its IP header in the normal mode (RFC 6040 section 4.1).
pub(crate) fn of_frame(frame: &[u8]) -> u8 {
    traffic_class(frame).map_or(NOT_CAPABLE, |class| class & MASK)
}

/// Has a frame that came out of a tunnel tell of the congestion that its outer header told of.
pub(crate) fn merge(frame: &mut [u8], outer: u8) -> Result<(), NotCapable> {
    let Some(class) = traffic_class(frame) else { return Ok(()) };
    let merged = match (class & MASK, outer & MASK) {
        (NOT_CAPABLE, CONGESTED) => return Err(NotCapable),
        (CAPABLE_0 | CAPABLE_1, CONGESTED) => CONGESTED,
        (CAPABLE_0, CAPABLE_1) => CAPABLE_1,
        (inner, _) => inner,
    };
    if merged != class & MASK {
        set_traffic_class(frame, class & !MASK | merged);
    }
    Ok(())
}

/// The TOS or traffic class of a frame's IP header that stands right behind its Ethernet header.
fn traffic_class(frame: &[u8]) -> Option<u8> {
    let packet = frame.get(L3..)?;
    match read_u16(frame, L3 - 2) {
        ethernet::IPV4 if packet.len() >= ipv4::HEADER_LENGTH => Some(packet[1]),
        ethernet::IPV6 if packet.len() >= ipv6::HEADER_LENGTH => Some(ipv6::traffic_class(packet)),
        _ => None,
    }
}

fn set_traffic_class(frame: &mut [u8], class: u8) {
    let is_v4 = read_u16(frame, L3 - 2) == ethernet::IPV4;
    let packet = &mut frame[L3..];
    if is_v4 {
        const CHECKSUM: usize = 10;
        let old = read_u16(packet, 0);
        packet[1] = class;
        let sum = crate::wire::checksum::update(read_u16(packet, CHECKSUM), old, read_u16(packet, 0));
        write_u16(packet, CHECKSUM, sum);
    } else {
        ipv6::set_traffic_class(packet, class);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn v4(class: u8) -> Vec<u8> {
        let mut frame = testing::tcp_frame(10);
        frame[15] = class;
        ipv4::fill_checksum(&mut frame[14..34]);
        frame
    }

    fn v6(class: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14..18].copy_from_slice(&[0x60 | class >> 4, class << 4 | 0x0a, 0xbc, 0xde]);
        frame
    }

    /// The table of RFC 6040 section 4.2: rows by inner, columns by outer, in the order Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn what_comes_out_is_as_in_the_rfcs_table() {
        let columns = [0, 2, 1, 3];
        let table = [
            (0, [Some(0), Some(0), Some(0), None]),
            (2, [Some(2), Some(2), Some(1), Some(3)]),
            (1, [Some(1), Some(1), Some(1), Some(3)]),
            (3, [Some(3), Some(3), Some(3), Some(3)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in columns.into_iter().zip(row) {
                for mut frame in [v4(0xb8 | inner), v6(0xb8 | inner)] {
                    let merged = merge(&mut frame, 0x40 | outer);
                    let after = merged.ok().map(|()| traffic_class(&frame).unwrap());
                    assert_eq!(after, expected.map(|ecn| 0xb8 | ecn), "{inner} in {outer}");
                    assert!(
                        frame[12] == 0x86 || expected.is_none() || ipv4::checksum_is_valid(&frame[14..34])
                    );
                }
            }
        }
        assert_eq!((of_frame(&v4(0xba)), of_frame(&v6(0xbb)), of_frame(&[0; 60])), (2, 3, 0));
    }

    #[test]
    fn the_flow_label_stays() {
        let mut frame = v6(2);
        merge(&mut frame, 3).unwrap();
        assert_eq!(frame[14..18], [0x60, 0x3a, 0xbc, 0xde]);
    }
}
