//! Coalescing (GRO): segments of one flow that came in one batch become a super-packet.
//!
//! For what devices give one by one. The rules are those of Linux: only neighbours in a flow's
//! order are merged, and only if segmentation gives back the very octets that came in. So all header
//! fields are equal but those that count up, checksums are right, and all but the last segment have
//! the same size. Where a packet of a flow cannot be merged, what came before it is closed, so that the
//! order within the flow holds.

use std::net::IpAddr;

use super::checksum;
use crate::packet::{Gso, GsoKind, Packet, PartialChecksum};
use crate::stage::L3;
use crate::wire::checksum::pseudo_header;
use crate::wire::{ethernet, ipv4, ipv6, read_u16, read_u32, tcp, udp, vlan, write_u16};

/// Packets of a batch that are looked at; those behind stay as they are.
const MOST: usize = 64;

/// Which packets may be merged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Octets of the longest IP packet that the port may send.
    pub mtu: usize,
    /// Whether a VLAN tag is the fabric's, so that ingress takes it off.
    pub tagged: bool,
    /// Whether UDP datagrams are merged: of use only where no device needs them cut again.
    pub udp: bool,
}

/// What one worker needs for it.
#[derive(Debug, Default)]
pub(crate) struct Coalescer {
    flows: Vec<Flow>,
}

/// A flow that another segment may be added to.
#[derive(Debug)]
struct Flow {
    /// Of addresses and ports, so that most others are told apart without a look at the packets.
    hash: u64,
    /// Position of the packet that takes the segments in.
    head: usize,
    layout: Layout,
    /// Payload octets of a segment.
    size: usize,
    /// Segments in it.
    count: u16,
    /// Sequence number of the next.
    next: u32,
}

/// Where a TCP segment or a UDP datagram has its parts, from the start of the frame. The IP header has
/// no options and no extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    v4: bool,
    tcp: bool,
    /// Where the IP header starts: the frame may have a VLAN tag.
    network: usize,
    /// Where the transport header starts.
    transport: usize,
    /// Where the payload starts.
    payload: usize,
    /// Where the IP packet ends.
    end: usize,
}

/// What a packet is to the flows.
enum Kind {
    /// Of none of them.
    Unrelated,
    /// Perhaps of some flow, but it does not tell of which.
    Opaque,
    /// Of a flow, but not to be merged.
    Single(Layout),
    /// To be merged if it follows.
    Segment(Layout),
}

impl Coalescer {
    /// Merges what may be merged. The packets that remain are the first ones then, in the order of their
    /// first segments; tells how many they are. Those behind are empty.
    pub fn merge(&mut self, packets: &mut [Packet], rules: Rules) -> usize {
        self.flows.clear();
        let mut absorbed = 0u64;
        for index in 0..packets.len().min(MOST) {
            match classify(&packets[index], rules) {
                Kind::Unrelated => {}
                Kind::Opaque => self.flows.drain(..).for_each(|flow| finish(packets, &flow)),
                Kind::Single(layout) => {
                    let hash = layout.hash(packets[index].frame());
                    let flow = self.find(packets, index, &layout, hash);
                    self.close(packets, flow);
                }
                Kind::Segment(layout) => {
                    let hash = layout.hash(packets[index].frame());
                    let flow = self.find(packets, index, &layout, hash);
                    if flow.is_some_and(|flow| self.join(packets, index, &layout, flow)) {
                        absorbed |= 1 << index;
                    } else {
                        self.close(packets, flow);
                        self.flows.extend(Flow::begin(packets[index].frame(), index, layout, hash));
                    }
                }
            }
        }
        self.flows.drain(..).for_each(|flow| finish(packets, &flow));
        if absorbed == 0 { packets.len() } else { compact(packets, absorbed) }
    }

    fn find(&self, packets: &[Packet], index: usize, layout: &Layout, hash: u64) -> Option<usize> {
        let frame = packets[index].frame();
        self.flows.iter().position(|flow| {
            flow.hash == hash
                && flow.layout.is_comparable(layout)
                && same_flow(packets[flow.head].frame(), frame, layout)
        })
    }

    /// Nothing can be added to this flow any more.
    fn close(&mut self, packets: &mut [Packet], position: Option<usize>) {
        if let Some(position) = position {
            finish(packets, &self.flows.swap_remove(position));
        }
    }

    /// Adds a segment to its flow, if it follows there.
    fn join(&mut self, packets: &mut [Packet], index: usize, layout: &Layout, position: usize) -> bool {
        let flow = &mut self.flows[position];
        let (before, after) = packets.split_at_mut(index);
        let (head, segment) = (&mut before[flow.head], &mut after[0]);
        if !flow.continues(head, segment, layout) {
            return false;
        }
        let last = flow.take_in(head, segment.frame(), layout);
        segment.reset(0);
        if last {
            self.close(packets, Some(position));
        }
        true
    }
}

impl Flow {
    fn begin(frame: &[u8], head: usize, layout: Layout, hash: u64) -> Option<Flow> {
        let size = layout.end - layout.payload;
        let mut next = 0;
        if layout.tcp {
            let header = &frame[layout.transport..];
            if header[tcp::FLAGS] & (tcp::FIN | tcp::PSH) != 0 {
                return None;
            }
            next = read_u32(header, tcp::SEQUENCE).wrapping_add(size as u32);
        }
        Some(Flow { hash, head, layout, size, count: 1, next })
    }

    /// Whether cutting the head with this segment added would give this segment.
    fn continues(&self, head: &mut Packet, segment: &mut Packet, layout: &Layout) -> bool {
        let length = layout.end - layout.payload;
        let (first, next) = (head.frame(), segment.frame());
        let in_order = !layout.tcp || read_u32(next, layout.transport + tcp::SEQUENCE) == self.next;
        in_order
            && length <= self.size
            && self.layout.end + length <= layout.network + ipv4::MAX_LENGTH
            && head.room() >= length
            && (layout.network, layout.payload) == (self.layout.network, self.layout.payload)
            && same_network_header(first, next, layout, self.count)
            && same_transport_header(first, next, layout)
            && (self.count > 1 || is_verified(head, &self.layout))
            && is_verified(segment, layout)
    }

    /// Adds the payload; tells whether it must be the last.
    fn take_in(&mut self, head: &mut Packet, segment: &[u8], layout: &Layout) -> bool {
        let payload = &segment[layout.payload..layout.end];
        // Padding of a short frame.
        head.truncate(self.layout.end);
        head.append(payload);
        self.layout.end += payload.len();
        self.count += 1;
        self.next = self.next.wrapping_add(payload.len() as u32);
        let mut last = payload.len() < self.size;
        if layout.tcp {
            let flags = segment[layout.transport + tcp::FLAGS] & (tcp::FIN | tcp::PSH);
            head.frame_mut()[layout.transport + tcp::FLAGS] |= flags;
            last |= flags != 0;
        }
        last
    }
}

impl Layout {
    fn is_comparable(&self, other: &Layout) -> bool {
        (self.v4, self.tcp, self.network) == (other.v4, other.tcp, other.network)
    }

    /// Where addresses and ports are: the last of both IP headers, and the first of both transport headers.
    fn key(&self) -> std::ops::Range<usize> {
        self.network + if self.v4 { 12 } else { 8 }..self.transport + 4
    }

    /// Of addresses and ports; equal for a flow's packets.
    fn hash(&self, frame: &[u8]) -> u64 {
        // 12 octets or 36. Whoever finds two flows with one hash only makes them be compared.
        let (words, _) = frame[self.key()].as_chunks::<4>();
        words.iter().fold(0, |hash: u64, word| {
            (hash.rotate_left(23) ^ u64::from(u32::from_ne_bytes(*word))).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    }

    fn protocol(&self) -> u8 {
        if self.tcp { ipv4::TCP } else { ipv4::UDP }
    }

    fn checksum_offset(&self) -> usize {
        if self.tcp { tcp::CHECKSUM } else { udp::CHECKSUM }
    }

    fn addresses(&self, frame: &[u8]) -> (IpAddr, IpAddr) {
        let packet = &frame[self.network..];
        if self.v4 {
            let address = |at| IpAddr::from(read_u32(packet, at).to_be_bytes());
            return (address(12), address(16));
        }
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&packet[at..at + 16]);
            IpAddr::from(octets)
        };
        (address(8), address(24))
    }
}

fn classify(packet: &Packet, rules: Rules) -> Kind {
    let frame = packet.frame();
    let start = if rules.tagged && vlan::outer(frame).is_some() { L3 + vlan::TAG_LENGTH } else { L3 };
    let Some(network) = frame.get(start..) else { return Kind::Unrelated };
    let (v4, protocol, header_length, length, plain) = match read_u16(frame, start - 2) {
        ethernet::IPV4 => {
            let Ok(ip) = ipv4::Header::parse(network) else { return Kind::Opaque };
            let plain = ip.header_length == ipv4::HEADER_LENGTH && !ip.is_fragment();
            (true, ip.protocol, ip.header_length, ip.total_length, plain)
        }
        ethernet::IPV6 => {
            let Ok(ip) = ipv6::Header::parse(network) else { return Kind::Opaque };
            let plain = ip.payload_offset == ipv6::HEADER_LENGTH;
            (false, ip.protocol, ip.payload_offset, ip.total_length, plain)
        }
        _ => return Kind::Unrelated,
    };
    if !plain {
        return Kind::Opaque;
    }
    if !matches!(protocol, ipv4::TCP | ipv4::UDP) {
        return Kind::Unrelated;
    }
    let (transport, end) = (start + header_length, start + length);
    let Some(payload) = transport_header(&frame[transport..end], protocol) else { return Kind::Opaque };
    let payload = transport + payload;
    let layout = Layout { v4, tcp: protocol == ipv4::TCP, network: start, transport, payload, end };
    if may_be_merged(packet, &layout, rules) { Kind::Segment(layout) } else { Kind::Single(layout) }
}

/// Octets of the transport header, if it is one.
fn transport_header(bytes: &[u8], protocol: u8) -> Option<usize> {
    if protocol == ipv4::TCP {
        return tcp::header_length(bytes).ok();
    }
    (bytes.len() >= udp::HEADER_LENGTH).then_some(udp::HEADER_LENGTH)
}

/// Whether a packet is one that can be merged with others at all.
fn may_be_merged(packet: &Packet, layout: &Layout, rules: Rules) -> bool {
    let frame = packet.frame();
    let header = &frame[layout.transport..layout.end];
    let fitting = if layout.tcp {
        header[tcp::FLAGS] & (tcp::SYN | tcp::RST | tcp::URG) == 0
    } else {
        rules.udp
            && usize::from(read_u16(header, udp::LENGTH)) == header.len()
            && read_u16(header, udp::CHECKSUM) != 0
    };
    let partial = packet.offload.checksum.is_none_or(|partial| {
        (usize::from(partial.start), usize::from(partial.offset))
            == (layout.transport, layout.checksum_offset())
    });
    fitting
        && partial
        && packet.offload.gso.is_none()
        && frame.len() <= layout.network + rules.mtu
        && layout.payload < layout.end
        && (!layout.v4 || ipv4::checksum_is_valid(&frame[layout.network..layout.transport]))
}

/// Whether two packets have the same addresses and ports.
fn same_flow(a: &[u8], b: &[u8], layout: &Layout) -> bool {
    a[layout.key()] == b[layout.key()]
}

/// Whether the Ethernet and IP headers are those that segmentation would make of the first one's for
/// the segment at position `count`.
fn same_network_header(first: &[u8], next: &[u8], layout: &Layout, count: u16) -> bool {
    if first[..layout.network] != next[..layout.network] {
        return false;
    }
    let (first, next) = (&first[layout.network..layout.transport], &next[layout.network..layout.transport]);
    if !layout.v4 {
        return first[..ipv6::PAYLOAD_LENGTH] == next[..ipv6::PAYLOAD_LENGTH] && first[6..] == next[6..];
    }
    let expected = match read_u16(first, ipv4::ID) {
        0 if ipv4::has_dont_fragment(first) => 0,
        id => id.wrapping_add(count),
    };
    read_u16(next, ipv4::ID) == expected
        && first[..ipv4::TOTAL_LENGTH] == next[..ipv4::TOTAL_LENGTH]
        && first[6..10] == next[6..10]
        && first[12..] == next[12..]
}

/// Whether the transport headers differ only in what segmentation changes.
fn same_transport_header(first: &[u8], next: &[u8], layout: &Layout) -> bool {
    if !layout.tcp {
        return true;
    }
    let (first, next) = (&first[layout.transport..], &next[layout.transport..]);
    let length = layout.payload - layout.transport;
    // The head has no FIN and no PSH, and of CWR segmentation leaves the first alone.
    let flags = next[tcp::FLAGS] & !(tcp::FIN | tcp::PSH) == first[tcp::FLAGS] & !tcp::CWR;
    flags
        && first[8..tcp::FLAGS] == next[8..tcp::FLAGS]
        && first[14..tcp::CHECKSUM] == next[14..tcp::CHECKSUM]
        && first[18..length] == next[18..length]
}

/// Whether somebody vouches for the checksum; computes it where nobody did yet.
fn is_verified(packet: &mut Packet, layout: &Layout) -> bool {
    if !packet.offload.verified && packet.offload.checksum.is_none() {
        let frame = packet.frame();
        let (source, destination) = layout.addresses(frame);
        let transport = &frame[layout.transport..layout.end];
        packet.offload.verified = checksum::is_valid(source, destination, layout.protocol(), transport);
    }
    packet.offload.verified || packet.offload.checksum.is_some()
}

/// Makes the headers of a flow's head those of a super-packet, if it took segments in.
fn finish(packets: &mut [Packet], flow: &Flow) {
    if flow.count == 1 {
        return;
    }
    let layout = &flow.layout;
    let packet = &mut packets[flow.head];
    let (source, destination) = layout.addresses(packet.frame());
    let bytes = packet.frame_mut();
    let (length, network) = (layout.end - layout.network, &mut bytes[layout.network..layout.transport]);
    if layout.v4 {
        write_u16(network, ipv4::TOTAL_LENGTH, length as u16);
        ipv4::fill_checksum(network);
    } else {
        write_u16(network, ipv6::PAYLOAD_LENGTH, (length - ipv6::HEADER_LENGTH) as u16);
    }
    let transport = &mut bytes[layout.transport..];
    let length = transport.len();
    if !layout.tcp {
        write_u16(transport, udp::LENGTH, length as u16);
    }
    let pseudo = pseudo_header(source, destination, layout.protocol(), length);
    write_u16(transport, layout.checksum_offset(), pseudo.folded());
    let kind = match (layout.tcp, layout.v4) {
        (true, true) => GsoKind::TcpV4,
        (true, false) => GsoKind::TcpV6,
        (false, _) => GsoKind::Udp,
    };
    let ecn = layout.tcp && transport[tcp::FLAGS] & tcp::CWR != 0;
    let (start, offset) = (layout.transport as u16, layout.checksum_offset() as u16);
    packet.offload.checksum = Some(PartialChecksum { start, offset });
    packet.offload.gso =
        Some(Gso { kind, size: flow.size as u16, header_length: layout.payload as u16, ecn });
    packet.offload.verified = true;
}

/// Brings the packets that were not absorbed to the front, in their order; tells how many they are.
fn compact(packets: &mut [Packet], absorbed: u64) -> usize {
    let mut kept = 0;
    for index in 0..packets.len() {
        if index >= MOST || absorbed & 1 << index == 0 {
            packets.swap(kept, index);
            kept += 1;
        }
    }
    kept
}
