//! What the node's kernel has put together on the way: segments of a TCP flow inside GRE, which a raw socket gets as one
//! packet that is longer than any link takes (generic receive offload), and without a word of their size.

use crate::offload::checksum;
use crate::packet::{Gso, GsoKind, Packet, PartialChecksum};
use crate::stage::L3;
use crate::wire::checksum::pseudo_header;
use crate::wire::{ethernet, ipv4, ipv6, read_u16, tcp, write_u16};

/// Where TCP is in a frame, and between whom.
struct Place {
    kind: GsoKind,
    transport: usize,
    end: usize,
    addresses: (std::net::IpAddr, std::net::IpAddr),
}

/// Has a frame with a TCP packet that the kernel has merged be what the stack knows: where its checksum is the
/// pseudo-header's alone, as the kernel leaves it then, that is still to be computed; where it is longer than `mtu`
/// octets, it stands for segments that fit. Others stay as they are.
pub(super) fn restore(packet: &mut Packet, mtu: usize) {
    let Some(place) = place(packet.frame()) else { return };
    let (transport, end, long) = (place.transport, place.end, place.end > L3 + mtu);
    let Some(segment) = packet.frame().get(transport..end) else { return };
    let Ok(header) = tcp::header_length(segment) else { return };
    let (source, destination) = place.addresses;
    let sum = place.open_sum();
    let open = read_u16(segment, tcp::CHECKSUM) == sum;
    let room = mtu.saturating_sub(transport - L3 + header);
    let cut = long && room > 0 && segment.len() > header;
    let known = open || cut && checksum::is_valid(source, destination, ipv4::TCP, segment);
    if !known {
        return;
    }
    packet.truncate(end);
    write_u16(packet.frame_mut(), transport + tcp::CHECKSUM, sum);
    packet.offload.checksum = Some(PartialChecksum { start: transport as u16, offset: tcp::CHECKSUM as u16 });
    if cut {
        let (size, header_length) = (room as u16, (transport + header) as u16);
        packet.offload.gso = Some(Gso { kind: place.kind, size, header_length, ecn: false });
    }
}

/// Whether the TCP packet in what was inside GRE, an Ethernet frame or an IP packet, has a checksum that the kernel has
/// verified and left open.
pub(super) fn is_open(inner: &[u8], ethernet: bool) -> bool {
    let found = if ethernet { place(inner) } else { place_ip(inner, 0) };
    let Some(place) = found else { return false };
    let segment = inner.get(place.transport..place.end).filter(|it| it.len() >= tcp::HEADER_LENGTH);
    segment.is_some_and(|segment| read_u16(segment, tcp::CHECKSUM) == place.open_sum())
}

impl Place {
    /// What its checksum is while the kernel has left it open: the pseudo-header's sum.
    fn open_sum(&self) -> u16 {
        let (source, destination) = self.addresses;
        pseudo_header(source, destination, ipv4::TCP, self.end - self.transport).folded()
    }
}

fn place(frame: &[u8]) -> Option<Place> {
    let ethertype = read_u16(frame.get(..L3)?, L3 - 2);
    matches!(ethertype, ethernet::IPV4 | ethernet::IPV6).then(|| place_ip(frame, L3)).flatten()
}

/// Where TCP is in an IP packet that starts at `at`.
fn place_ip(bytes: &[u8], at: usize) -> Option<Place> {
    let packet = bytes.get(at..)?;
    if packet.first()? >> 4 == 4 {
        let ip = ipv4::Header::parse(packet).ok()?;
        let tcp = ip.protocol == ipv4::TCP && !ip.is_fragment();
        return tcp.then(|| Place {
            kind: GsoKind::TcpV4,
            transport: at + ip.header_length,
            end: at + ip.total_length,
            addresses: (ip.source.into(), ip.destination.into()),
        });
    }
    let ip = ipv6::Header::parse(packet).ok()?;
    let tcp = ip.protocol == ipv4::TCP && !ip.fragment && ip.payload_offset == ipv6::HEADER_LENGTH;
    tcp.then(|| Place {
        kind: GsoKind::TcpV6,
        transport: at + ip.payload_offset,
        end: at + ip.total_length,
        addresses: (ip.source.into(), ip.destination.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::segment::Segments;
    use crate::testing;

    /// What the kernel makes of segments with 4,000 octets together.
    fn merged(open: bool) -> Packet {
        let mut packet = Packet::from_frame(&testing::tcp_frame(4000));
        let (source, destination) = ([198, 18, 1, 10].into(), [198, 18, 1, 11].into());
        let sum = pseudo_header(source, destination, ipv4::TCP, 4020);
        write_u16(packet.frame_mut(), 50, sum.folded());
        if !open {
            packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
            checksum::complete(&mut packet);
            packet.offload = Default::default();
        }
        packet
    }

    #[test]
    fn a_long_packet_stands_for_segments_that_fit() {
        for open in [true, false] {
            let mut packet = merged(open);
            restore(&mut packet, 1400);
            let segments = Segments::of(&packet).unwrap();
            assert_eq!((segments.count(), segments.longest()), (3, 14 + 1400));
            let mut first = Packet::new();
            segments.write(0, &mut first);
            checksum::complete(&mut first);
            let (source, destination) = ([198, 18, 1, 10].into(), [198, 18, 1, 11].into());
            assert!(checksum::is_valid(source, destination, ipv4::TCP, &first.frame()[34..]));
        }
    }

    #[test]
    fn one_with_a_wrong_checksum_stays_as_it_is() {
        let mut packet = merged(false);
        packet.frame_mut()[60] ^= 1;
        restore(&mut packet, 1400);
        assert!(packet.offload.gso.is_none());
    }
}
