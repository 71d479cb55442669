//! Ingress: is the frame what it says it is? Reads all headers once; nothing behind this stage meets
//! a length that lies.
//!
//! What a container supplies is never trusted: neither the frame's lengths nor the virtio-net header.

use super::{Frame, L3, Layer3};
use crate::config::{Port, PortVlans, UNTAGGED};
use crate::packet::{Gso, GsoKind, Packet, PartialChecksum};
use crate::pipeline::Context;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::vlan::{self, Tci};
use crate::wire::{Malformed, arp, ethernet, ipv4, ipv6, read_u16, sctp, tcp};

const UDP_HEADER_LENGTH: usize = 8;
const UDP_CHECKSUM: usize = 6;
const ICMP_CHECKSUM: usize = 2;

/// Reads the headers into `frame`, where all stages look for them.
#[inline(always)] // headers are large: here and below they are written to their place and not copied there
pub(crate) fn check(
    cx: &mut Context,
    packet: &mut Packet,
    from: &Port,
    frame: &mut Frame,
) -> Result<(), DropReason> {
    step!(cx, "ingress", "port {} took in {}", from.name, crate::trace::describe(packet.frame()));
    let checked = match from.is_mirror {
        true => Err(DropReason::MirrorDestination),
        false => check_frame(packet, from, frame),
    };
    if let Err(reason) = checked {
        step!(cx, "ingress", "{}", reason.description());
    }
    checked
}

/// Reads a frame's headers and checks them against each other and the port; takes its tag off.
#[inline(always)] // see check
pub(crate) fn check_frame(packet: &mut Packet, from: &Port, frame: &mut Frame) -> Result<(), DropReason> {
    let tag = vlan::outer(packet.frame());
    if tag.is_none() && vlan::is_cut_short(packet.frame()) {
        return Err(DropReason::FrameTruncated);
    }
    frame.vlan = from.vlans.classify(tag).ok_or(match tag {
        Some(_) => DropReason::VlanNotAllowed,
        None => DropReason::UntaggedNotAllowed,
    })?;
    let tag = tag.filter(|_| !matches!(from.vlans, PortVlans::Tunnel(_)));
    if tag.is_some() {
        packet.strip_tag();
    }
    frame.tag = tag.unwrap_or_default();
    read(packet.frame(), frame).map_err(|(reason, _)| reason)?;
    check_ethernet(&frame.ethernet, carries_customers(&from.vlans, tag))?;
    if matches!(frame.ethernet.ethertype, ethernet::VLAN | ethernet::VLAN_SERVICE) {
        check_inner_tags(packet.frame(), frame.ethernet.ethertype, from)?;
    }
    if packet.offload.checksum.is_some() || packet.offload.gso.is_some() {
        check_offload(packet, frame)?;
    }
    let room = from.mtu + L3;
    // Most frames are shorter anyway, and need no look for tags.
    if packet.len() > room
        && packet.offload.gso.is_none()
        // What came through a tunnel is here already.
        && from.far_end.is_none()
        && packet.len() > room + vlan::tags_length(packet.frame())
    {
        return Err(DropReason::FrameTooLong);
    }
    Ok(())
}

/// Tags that travel with the frame unseen. An access port has none of the fabric's kind, also not behind a priority
/// tag. Nor may one be taken off by whoever gets the frame, where the sender's addresses are checked: they would not
/// have been.
fn check_inner_tags(bytes: &[u8], ethertype: u16, from: &Port) -> Result<(), DropReason> {
    let second = ethertype == ethernet::VLAN && matches!(from.vlans, PortVlans::Access(_));
    let hides = from.source_check && vlan::has_priority_tag(bytes);
    if second || hides { Err(DropReason::VlanNotAllowed) } else { Ok(()) }
}

/// Reads a frame's headers, as those of a frame of the untagged segment.
pub(crate) fn parse(bytes: &[u8]) -> Result<Frame, (DropReason, Malformed)> {
    let mut frame = Frame::default();
    read(bytes, &mut frame)?;
    Ok(frame)
}

#[inline(always)] // see check
fn read(bytes: &[u8], frame: &mut Frame) -> Result<(), (DropReason, Malformed)> {
    frame.ethernet = ethernet::Header::parse(bytes).map_err(|e| (DropReason::FrameTruncated, e))?;
    read_network(frame.ethernet.ethertype, &bytes[L3..], &mut frame.network)
}

/// Reads what is behind the Ethernet header; `network` stays as it is where that is malformed.
#[inline(always)] // see check
fn read_network(ethertype: u16, payload: &[u8], network: &mut Layer3) -> Result<(), (DropReason, Malformed)> {
    match ethertype {
        ethernet::IPV4 => {
            let header = ipv4::Header::parse(payload).map_err(|e| (DropReason::Ipv4Malformed, e))?;
            *network = Layer3::Ipv4(header);
        }
        ethernet::IPV6 => {
            let header = ipv6::Header::parse(payload).map_err(|e| (DropReason::Ipv6Malformed, e))?;
            *network = Layer3::Ipv6(header);
        }
        ethernet::ARP => {
            let message = arp::Message::parse(payload).map_err(|e| (DropReason::ArpMalformed, e))?;
            *network = Layer3::Arp(message);
        }
        _ => *network = Layer3::Other,
    }
    Ok(())
}

/// Whether frames with this tag can be those of a customer's bridge, which the fabric carries as a provider's: then
/// it is an S-VLAN component to them, and else a C-VLAN component (IEEE 802.1Q-2022 clause 5.6).
fn carries_customers(vlans: &PortVlans, tag: Option<Tci>) -> bool {
    match vlans {
        PortVlans::Tunnel(_) => true,
        PortVlans::Trunk { .. } => tag.is_some_and(|tag| tag.id() != UNTAGGED),
        PortVlans::Access(_) => false,
    }
}

fn check_ethernet(header: &ethernet::Header, customers: bool) -> Result<(), DropReason> {
    if header.source.is_multicast() || header.source.is_zero() {
        return Err(DropReason::SourceMacInvalid);
    }
    if header.destination.is_reserved_multicast() && !(customers && header.destination.is_customer_bridges())
    {
        return Err(DropReason::ReservedMulticast);
    }
    Ok(())
}

fn check_offload(packet: &mut Packet, frame: &Frame) -> Result<(), DropReason> {
    let inner = Inner::of(packet.frame(), frame);
    if let Some(checksum) = packet.offload.checksum
        && !checksum_is_transports(checksum, &inner, packet.len())
    {
        return Err(DropReason::OffloadInvalid);
    }
    if let Some(gso) = packet.offload.gso {
        let header_length = super_packet_headers(packet, &inner, &gso).ok_or(DropReason::OffloadInvalid)?;
        packet.offload.gso = Some(Gso { header_length: header_length as u16, ..gso });
    }
    Ok(())
}

/// The packet that offload state is about. On a port that tunnels VLANs it is behind the user's own tags.
struct Inner {
    /// Where it starts in the frame.
    start: usize,
    network: Layer3,
}

impl Inner {
    fn of(bytes: &[u8], frame: &Frame) -> Inner {
        let start = L3 + vlan::tags_length(bytes);
        let network = match bytes.get(start..) {
            Some(payload) if start > L3 => {
                let mut network = Layer3::Other;
                // What is malformed is like anything else that is not known.
                let _ = read_network(read_u16(bytes, start - 2), payload, &mut network);
                network
            }
            _ => frame.network,
        };
        Inner { start, network }
    }
}

/// Whether a partial checksum is the one of the frame's transport protocol, or of one inside of that.
/// Whoever completes it writes there: anywhere else it would change what the source check has seen.
fn checksum_is_transports(checksum: PartialChecksum, inner: &Inner, length: usize) -> bool {
    let (start, offset) = (usize::from(checksum.start), usize::from(checksum.offset));
    let at = inner.start;
    let (protocol, transport, end) = match inner.network {
        Layer3::Ipv4(ip) => (Some(ip.protocol), at + ip.header_length, at + ip.total_length),
        Layer3::Ipv6(ip) => (Some(ip.protocol), at + ip.payload_offset, at + ip.total_length),
        Layer3::Other => (None, at, length),
        Layer3::Arp(_) => return false,
    };
    let own = start == transport;
    let right_field = match protocol {
        Some(ipv4::TCP) => own && offset == tcp::CHECKSUM,
        Some(ipv4::ICMP | ipv6::ICMPV6) => own && offset == ICMP_CHECKSUM,
        Some(sctp::PROTOCOL) => own && offset == sctp::CHECKSUM,
        Some(ipv4::UDP) if own => offset == UDP_CHECKSUM,
        Some(ipv4::UDP) => start >= transport + UDP_HEADER_LENGTH,
        _ => start >= transport,
    };
    right_field && start + offset + 2 <= end
}

/// Octets of all headers of a super-packet, if it really is what its offload state says.
fn super_packet_headers(packet: &Packet, inner: &Inner, gso: &Gso) -> Option<usize> {
    let at = inner.start;
    let (protocol, transport, end) = match inner.network {
        Layer3::Ipv4(ip) if gso.kind != GsoKind::TcpV6 && !ip.is_fragment() => {
            (ip.protocol, at + ip.header_length, at + ip.total_length)
        }
        Layer3::Ipv6(ip) if gso.kind != GsoKind::TcpV4 && !ip.fragment => {
            (ip.protocol, at + ip.payload_offset, at + ip.total_length)
        }
        _ => return None,
    };
    let checksum = packet.offload.checksum?;
    let segment = packet.frame().get(transport..end)?;
    let (header, checksum_offset) = match (gso.kind, protocol) {
        (GsoKind::TcpV4 | GsoKind::TcpV6, ipv4::TCP) => (tcp::header_length(segment).ok()?, tcp::CHECKSUM),
        (GsoKind::Udp, ipv4::UDP) if segment.len() > UDP_HEADER_LENGTH => (UDP_HEADER_LENGTH, UDP_CHECKSUM),
        _ => return None,
    };
    let consistent = usize::from(checksum.start) == transport
        && usize::from(checksum.offset) == checksum_offset
        && gso.size > 0
        && segment.len() > header;
    consistent.then_some(transport + header)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    fn super_packet(size: u16, start: u16) -> Packet {
        let mut packet = Packet::from_frame(&testing::tcp_frame(3000));
        packet.offload.checksum = Some(PartialChecksum { start, offset: 16 });
        packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size, header_length: 9999, ecn: false });
        packet
    }

    fn checked(mut packet: Packet) -> Result<Option<Gso>, DropReason> {
        let frame = parse(packet.frame()).map_err(|(reason, _)| reason)?;
        check_offload(&mut packet, &frame)?;
        Ok(packet.offload.gso)
    }

    #[test]
    fn the_header_length_is_measured_and_not_believed() {
        assert_eq!(checked(super_packet(1448, 34)).unwrap().unwrap().header_length, 54);
    }

    #[test]
    fn lying_offload_headers_are_named() {
        assert_eq!(checked(super_packet(0, 34)), Err(DropReason::OffloadInvalid));
        assert_eq!(checked(super_packet(1448, 36)), Err(DropReason::OffloadInvalid));
        assert_eq!(checked(super_packet(1448, 65_000)), Err(DropReason::OffloadInvalid));
        let mut wrong_kind = super_packet(1448, 34);
        wrong_kind.offload.gso = wrong_kind.offload.gso.map(|gso| Gso { kind: GsoKind::Udp, ..gso });
        assert_eq!(checked(wrong_kind), Err(DropReason::OffloadInvalid));
        let mut beyond = Packet::from_frame(&testing::tcp_frame(0));
        beyond.offload.checksum = Some(PartialChecksum { start: 53, offset: 0 });
        assert_eq!(checked(beyond), Err(DropReason::OffloadInvalid));
    }

    #[test]
    fn a_partial_checksum_lies_in_the_transport_header_and_nowhere_else() {
        let with = |start: u16, offset: u16, change: fn(&mut Vec<u8>)| {
            let mut bytes = testing::tcp_frame(100);
            change(&mut bytes);
            let mut packet = Packet::from_frame(&bytes);
            packet.offload.checksum = Some(PartialChecksum { start, offset });
            checked(packet)
        };
        assert_eq!(with(34, 16, |_| ()), Ok(None));
        let invalid = Err(DropReason::OffloadInvalid);
        assert_eq!(with(14, 12, |_| ()), invalid, "the source address");
        assert_eq!(with(34, 4, |_| ()), invalid, "the sequence number");
        assert_eq!(
            with(34, 16, |bytes| bytes[16..18].copy_from_slice(&[0, 37])),
            invalid,
            "behind the packet"
        );
        let udp = |bytes: &mut Vec<u8>| bytes[23] = ipv4::UDP;
        assert_eq!(with(34, 6, udp), Ok(None));
        assert_eq!(with(92, 16, udp), Ok(None), "of a packet within a tunnel");
        let of_sctp = |bytes: &mut Vec<u8>| bytes[23] = sctp::PROTOCOL;
        assert_eq!(with(34, 8, of_sctp), Ok(None));
        assert_eq!(with(92, 8, of_sctp), invalid, "in the data of a chunk");
        assert_eq!(with(36, 0, udp), invalid, "the destination port");
        let arp = |bytes: &mut Vec<u8>| {
            let header = ethernet::Header::parse(bytes).unwrap();
            ethernet::Header { ethertype: ethernet::ARP, ..header }.emit(bytes);
            bytes[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        };
        assert_eq!(with(14, 14, arp), invalid, "the sender that an ARP message claims");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), start in any::<u16>(), offset in any::<u16>(), size in any::<u16>(),
            ethertype in prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x0806), any::<u16>()],
        ) {
            let mut bytes = bytes;
            if bytes.len() >= 15 {
                bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
                bytes[14] = if ethertype == 0x86dd { 0x60 } else { 0x45 };
            }
            for kind in [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp] {
                let mut packet = Packet::from_frame(&bytes);
                packet.offload.checksum = Some(PartialChecksum { start, offset });
                packet.offload.gso = Some(Gso { kind, size, header_length: 0, ecn: false });
                let _ = checked(packet);
            }
        }
    }
}
