//! Completing a partial checksum in the frame, and verifying a whole one.

use std::net::IpAddr;

use crate::packet::{Packet, PartialChecksum};
use crate::stage::L3;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::crc32c::crc32c;
use crate::wire::{ethernet, ipv4, ipv6, read_u16, sctp, udp, vlan, write_u16};

/// Computes what the sender left open, and writes it in. Does nothing when nothing is open.
pub(crate) fn complete(packet: &mut Packet) {
    if packet.offload.checksum.is_none() {
        return;
    }
    let of_sctp = is_crc(packet);
    let Some(partial) = packet.offload.checksum.take() else { return };
    let (start, offset) = (usize::from(partial.start), usize::from(partial.offset));
    if of_sctp {
        complete_crc(packet, start);
    } else {
        fill(&mut packet.frame_mut()[start..], offset);
    }
    packet.offload.verified = true;
}

/// Completes the checksum of a TCP segment or UDP datagram, which is at `offset`.
pub(crate) fn fill(transport: &mut [u8], offset: usize) {
    // The field holds the pseudo-header's sum, so it takes part in the sum as it is.
    let checksum = match Sum::default().bytes(transport).finish() {
        0 if offset == udp::CHECKSUM => 0xffff,
        checksum => checksum,
    };
    write_u16(transport, offset, checksum);
}

/// Whether the partial checksum is SCTP's CRC32c. A device that takes partial checksums cannot tell,
/// since the virtio-net header has no word for it, and would put an Internet checksum there.
pub(crate) fn is_crc(packet: &Packet) -> bool {
    let at_sctps = |partial: &PartialChecksum| usize::from(partial.offset) == sctp::CHECKSUM;
    packet.offload.checksum.as_ref().is_some_and(at_sctps)
        && Location::of(packet.frame()).is_some_and(|found| found.protocol == sctp::PROTOCOL)
}

/// SCTP's checksum covers its packet alone: no pseudo-header, and no padding behind it.
fn complete_crc(packet: &mut Packet, start: usize) {
    let end = Location::of(packet.frame()).map_or(packet.len(), |found| found.end);
    let Some(covered) = packet.frame_mut().get_mut(start..end) else { return };
    if covered.len() < sctp::HEADER_LENGTH {
        return;
    }
    covered[sctp::CHECKSUM..sctp::CHECKSUM + 4].fill(0);
    let crc = crc32c(covered);
    covered[sctp::CHECKSUM..sctp::CHECKSUM + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Whether the checksum of this TCP segment or UDP datagram is right, which must be whole. UDP without
/// a checksum is not.
pub(crate) fn is_valid(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> bool {
    if protocol == ipv4::UDP
        && transport.len() >= udp::HEADER_LENGTH
        && read_u16(transport, udp::CHECKSUM) == 0
    {
        return false;
    }
    pseudo_header(source, destination, protocol, transport.len()).bytes(transport).folded() == 0xffff
}

/// Where a frame's transport protocol is.
struct Location {
    protocol: u8,
    end: usize,
}

impl Location {
    fn of(frame: &[u8]) -> Option<Location> {
        let start = L3 + vlan::tags_length(frame);
        let packet = frame.get(start..)?;
        let (protocol, length) = match read_u16(frame, start - 2) {
            ethernet::IPV4 => ipv4::Header::parse(packet).map(|ip| (ip.protocol, ip.total_length)).ok()?,
            ethernet::IPV6 => ipv6::Header::parse(packet).map(|ip| (ip.protocol, ip.total_length)).ok()?,
            _ => return None,
        };
        Some(Location { protocol, end: start + length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_partial_checksum_becomes_the_right_one() {
        let mut packet = Packet::from_frame(&testing::tcp_frame(101));
        let length = packet.len() - 34;
        let (source, destination) = ([198, 18, 1, 10].into(), [198, 18, 1, 11].into());
        let pseudo = pseudo_header(source, destination, 6, length);
        write_u16(packet.frame_mut(), 50, pseudo.folded());
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
        complete(&mut packet);
        assert_eq!(packet.offload.checksum, None);
        assert_eq!(pseudo.bytes(&packet.frame()[34..]).folded(), 0xffff);
        assert!(is_valid(source, destination, 6, &packet.frame()[34..]));
        packet.frame_mut()[60] ^= 1;
        assert!(!is_valid(source, destination, 6, &packet.frame()[34..]));
    }

    /// An INIT from port 54321 to 5000, as Scapy builds it.
    const SCTP: [u8; 66] = [
        0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0, 0x45, 0, 0, 0x34, 0, 1, 0, 0, 0x40, 0x84, 0xec,
        0x0b, 198, 18, 1, 10, 198, 18, 1, 11, 0xd4, 0x31, 0x13, 0x88, 0, 0, 0, 0, 0x17, 0xab, 0, 0x10, 1, 0,
        0, 0x14, 0x12, 0x34, 0x56, 0x78, 0, 1, 0xa0, 0, 0, 0x0a, 0xff, 0xff, 0x9a, 0xbc, 0xde, 0xf0,
    ];

    #[test]
    fn sctp_gets_a_crc_and_no_internet_checksum() {
        let mut frame = SCTP.to_vec();
        frame[42..46].fill(0xee);
        frame.extend([0; 4]); // padding is not covered
        let mut packet = Packet::from_frame(&frame);
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 8 });
        assert!(is_crc(&packet));
        complete(&mut packet);
        assert_eq!(packet.frame()[..SCTP.len()], SCTP);
        assert!(packet.offload.checksum.is_none() && packet.offload.verified);
    }

    #[test]
    fn what_is_at_the_same_place_in_other_protocols_is_none() {
        let mut packet = Packet::from_frame(&testing::tcp_frame(10));
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 8 });
        assert!(!is_crc(&packet));
    }
}
