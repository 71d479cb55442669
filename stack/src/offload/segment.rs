//! Segmentation in software: the packets that a super-packet stands for.
//!
//! Field by field as Linux cuts them. IPv4: total length, an identification that counts up, header
//! checksum (RFC 791, RFC 6864); IPv6: payload length. TCP: sequence number, FIN and PSH on the last
//! segment alone (RFC 9293 section 3.1), CWR on the first alone (RFC 3168 section 6.1.2). UDP: each
//! segment is a datagram of its own (RFC 768). Each segment's checksum is left partial; completing it is
//! [`super::checksum`]'s.

use crate::packet::{GsoKind, Packet, PartialChecksum};
use crate::stage::L3;
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, ipv4, ipv6, read_u16, read_u32, tcp, udp, vlan, write_u16, write_u32};

/// The segments of a super-packet.
#[derive(Debug)]
pub(crate) struct Segments<'a> {
    packet: &'a Packet,
    kind: GsoKind,
    v4: bool,
    /// Where the IP header starts: the frame may carry a user's own VLAN tags.
    network: usize,
    /// Where the transport header starts.
    transport: usize,
    /// Where the payload starts: octets of all headers.
    payload: usize,
    /// Where the IP packet ends.
    end: usize,
    /// Payload octets of a segment.
    size: usize,
}

impl<'a> Segments<'a> {
    /// What `packet` is to be cut into. `None`: it is no super-packet, or not what its offload state
    /// says, which ingress would not have let in.
    pub fn of(packet: &'a Packet) -> Option<Segments<'a>> {
        let gso = packet.offload.gso?;
        let checksum = packet.offload.checksum?;
        let frame = packet.frame();
        let network = L3 + vlan::tags_length(frame);
        let packet_bytes = frame.get(network..)?;
        let v4 = read_u16(frame, network - 2) == ethernet::IPV4;
        let length = if v4 {
            ipv4::Header::parse(packet_bytes).ok()?.total_length
        } else {
            ipv6::Header::parse(packet_bytes).ok()?.total_length
        };
        let segments = Segments {
            packet,
            kind: gso.kind,
            v4,
            network,
            transport: usize::from(checksum.start),
            payload: usize::from(gso.header_length),
            end: network + length,
            size: usize::from(gso.size),
        };
        let (shortest, checksum_at) = match gso.kind {
            GsoKind::TcpV4 | GsoKind::TcpV6 => (tcp::HEADER_LENGTH, tcp::CHECKSUM),
            GsoKind::Udp => (udp::HEADER_LENGTH, udp::CHECKSUM),
        };
        let network_header = if v4 { ipv4::HEADER_LENGTH } else { ipv6::HEADER_LENGTH };
        let consistent = segments.transport >= network + network_header
            && segments.payload >= segments.transport + shortest
            && segments.payload < segments.end
            && usize::from(checksum.offset) == checksum_at
            && segments.size > 0;
        consistent.then_some(segments)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        (self.end - self.payload).div_ceil(self.size)
    }

    /// Where each one's checksum is still to be computed.
    pub fn checksum(&self) -> Option<PartialChecksum> {
        self.packet.offload.checksum
    }

    /// Octets of the longest one's frame.
    pub fn longest(&self) -> usize {
        self.end.min(self.payload + self.size)
    }

    /// Octets of the frame of the segment at this position, which is below [`Segments::count`].
    pub fn length(&self, position: usize) -> usize {
        self.end.min(self.payload + (position + 1) * self.size) - position * self.size
    }

    /// Makes `segment` hold the segment at this position.
    pub fn write(&self, position: usize, segment: &mut Packet) {
        segment.reset(self.length(position));
        segment.offload.checksum = self.packet.offload.checksum;
        self.write_behind(position, 0, segment.frame_mut());
    }

    /// Writes the frame of the segment at this position without its first `skipped` octets, which are at most those
    /// before the IP header. `bytes` is as long as that.
    pub fn write_behind(&self, position: usize, skipped: usize, bytes: &mut [u8]) {
        let frame = self.packet.frame();
        let start = position * self.size;
        let payload = &frame[self.payload + start..self.end.min(self.payload + start + self.size)];
        let (headers, rest) = bytes.split_at_mut(self.payload - skipped);
        headers.copy_from_slice(&frame[skipped..self.payload]);
        rest.copy_from_slice(payload);
        self.mend_network(position, &mut bytes[self.network - skipped..]);
        let last = position + 1 == self.count();
        self.mend_transport(start, last, &mut bytes[self.transport - skipped..]);
    }

    fn mend_network(&self, position: usize, bytes: &mut [u8]) {
        let length = bytes.len();
        let header = &mut bytes[..self.transport - self.network];
        if !self.v4 {
            write_u16(header, ipv6::PAYLOAD_LENGTH, (length - ipv6::HEADER_LENGTH) as u16);
            return;
        }
        write_u16(header, ipv4::TOTAL_LENGTH, length as u16);
        let id = read_u16(header, ipv4::ID);
        // Senders whose packets are never cut may leave the identification at zero (RFC 6864 section 4.1).
        if id != 0 || !ipv4::has_dont_fragment(header) {
            write_u16(header, ipv4::ID, id.wrapping_add(position as u16));
        }
        ipv4::fill_checksum(header);
    }

    fn mend_transport(&self, start: usize, last: bool, bytes: &mut [u8]) {
        let checksum = match self.kind {
            GsoKind::TcpV4 | GsoKind::TcpV6 => {
                let sequence = read_u32(bytes, tcp::SEQUENCE).wrapping_add(start as u32);
                write_u32(bytes, tcp::SEQUENCE, sequence);
                let mut cleared = 0;
                if !last {
                    cleared |= tcp::FIN | tcp::PSH;
                }
                if start != 0 {
                    cleared |= tcp::CWR;
                }
                bytes[tcp::FLAGS] &= !cleared;
                tcp::CHECKSUM
            }
            GsoKind::Udp => {
                write_u16(bytes, udp::LENGTH, bytes.len() as u16);
                udp::CHECKSUM
            }
        };
        // The partial checksum sums up the pseudo-header, of which the length alone is another now.
        let sum = Sum::default()
            .word(read_u16(bytes, checksum))
            .word(!((self.end - self.transport) as u16))
            .word(bytes.len() as u16);
        write_u16(bytes, checksum, sum.folded());
    }
}
