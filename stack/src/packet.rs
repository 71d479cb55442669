//! The packet: a buffer with headroom, and what travels with the frame but not in it.

use crate::wire::vlan::{TAG_LENGTH, Tci};
use crate::wire::{ethernet, virtio_net, write_u16};

/// Octets before the frame in a fresh buffer: room for a virtio-net header and for encapsulation.
pub const HEADROOM: usize = 128;

/// The longest frame: an IPv6 packet with a payload of 65,535 octets behind an Ethernet header with two
/// VLAN tags.
pub const MAX_FRAME: usize = 40 + 65_535 + 14 + 8;

/// Octets of the two MAC addresses.
const MACS: usize = 12;

/// Octets of frame that a buffer of each size has room for: one for segments and answers, one for jumbo
/// frames, and one for everything, an octet more so that longer frames are noticed.
const ROOMS: [usize; 3] = [2048, 16_384, MAX_FRAME + 1];

/// How many sizes of buffers there are.
pub(crate) const SIZES: usize = ROOMS.len();

/// A frame in its buffer.
#[derive(Debug)]
pub struct Packet {
    buffer: Box<[u8]>,
    start: usize,
    length: usize,
    /// The tag that [`Packet::dress`] put into the frame.
    tag: Option<Tci>,
    /// Checksum and segmentation work that is still to be done.
    pub offload: Offload,
}

/// Work on a frame that its sender left to the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// The transport checksum holds the pseudo-header's sum only.
    pub checksum: Option<PartialChecksum>,
    /// The frame stands for several.
    pub gso: Option<Gso>,
    /// Somebody has already verified the transport checksum.
    pub verified: bool,
}

/// Where a checksum is still to be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialChecksum {
    /// First octet that it covers, from the start of the frame.
    pub start: u16,
    /// Where it belongs, from `start`.
    pub offset: u16,
}

/// How a super-packet is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// The transport that it carries.
    pub kind: GsoKind,
    /// Payload octets of each segment.
    pub size: u16,
    /// Octets of all headers, from the start of the frame.
    pub header_length: u16,
    /// The segments carry ECN's CWR as RFC 3168 section 6.1.2 asks.
    pub ecn: bool,
}

/// What a super-packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over either, each segment a datagram.
    Udp,
}

impl Default for Packet {
    fn default() -> Self {
        Packet::new()
    }
}

impl Packet {
    /// An empty packet with a buffer for the largest frame.
    pub fn new() -> Packet {
        Packet::for_frames_of(MAX_FRAME)
    }

    /// An empty packet with the smallest buffer for frames of `length` octets.
    pub(crate) fn for_frames_of(length: usize) -> Packet {
        Packet { buffer: buffer_for(length), start: HEADROOM, ..Packet::hollow() }
    }

    /// A packet without a buffer, to stand in for one that is elsewhere for a moment.
    pub(crate) fn hollow() -> Packet {
        Packet { buffer: Box::default(), start: 0, length: 0, tag: None, offload: Offload::default() }
    }

    /// Which of the sizes its buffer has, from the smallest on; `None`: it is hollow.
    pub(crate) fn size(&self) -> Option<usize> {
        ROOMS.iter().rposition(|room| HEADROOM + room <= self.buffer.len())
    }

    /// A packet that holds this frame; longer ones are cut at [`MAX_FRAME`].
    pub fn from_frame(frame: &[u8]) -> Packet {
        let mut packet = Packet::new();
        packet.set_frame(frame);
        packet
    }

    /// Makes the packet hold a copy of this frame, with no offload.
    pub fn set_frame(&mut self, frame: &[u8]) {
        let length = frame.len().min(MAX_FRAME);
        self.reset(length);
        self.frame_mut().copy_from_slice(&frame[..length]);
    }

    /// Makes the packet hold `length` octets of whatever the buffer had, with no offload. A buffer that is too
    /// small is changed for another.
    pub fn reset(&mut self, length: usize) {
        debug_assert!(length <= MAX_FRAME);
        self.start = HEADROOM;
        self.length = length.min(MAX_FRAME);
        if self.buffer.len() < HEADROOM + self.length.max(1) {
            self.buffer = buffer_for(self.length);
        }
        self.tag = None;
        self.offload = Offload::default();
    }

    /// The frame, from its Ethernet header on.
    #[inline]
    pub fn frame(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.length]
    }

    /// The frame, to change.
    #[inline]
    pub fn frame_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.length]
    }

    /// Octets of the frame.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no frame in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Cuts the frame to `length` octets.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Octets that [`Packet::append`] still takes.
    pub(crate) fn room(&self) -> usize {
        (self.buffer.len() - self.start - self.length).min(MAX_FRAME.saturating_sub(self.length))
    }

    /// Adds octets behind the frame, [`Packet::room`] of them at most.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.room())];
        let end = self.start + self.length;
        self.buffer[end..end + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Where a device writes what it received: a virtio-net header, then the frame.
    /// Call [`Packet::received`] afterwards.
    pub fn receive_area(&mut self) -> &mut [u8] {
        &mut self.buffer[HEADROOM - virtio_net::HEADER_LENGTH..]
    }

    /// Takes in `count` octets that were written to [`Packet::receive_area`].
    ///
    /// # Errors
    /// The header is cut short or says what virtio-net does not know; the packet is empty then.
    pub fn received(&mut self, count: usize) -> Result<(), virtio_net::InvalidHeader> {
        self.reset(0);
        let header_start = HEADROOM - virtio_net::HEADER_LENGTH;
        let end = (header_start + count).min(self.buffer.len());
        let (offload, header_length) = virtio_net::parse(&self.buffer[header_start..end])?;
        self.length = end - header_start - header_length;
        self.offload = offload;
        Ok(())
    }

    /// Takes off the VLAN tag behind the MAC addresses, which is there; offsets beyond it move along.
    pub(crate) fn strip_tag(&mut self) {
        let (start, tag) = (self.start, TAG_LENGTH);
        self.buffer.copy_within(start..start + MACS, start + tag);
        self.start += tag;
        self.length -= tag;
        self.shift_offload(|at| at.saturating_sub(tag as u16));
    }

    /// Puts a VLAN tag behind the MAC addresses, or takes off the one that this put there before, so that the
    /// frame is as a device is to get it. Offsets in the offload state move along.
    pub fn dress(&mut self, tag: Option<Tci>) {
        if self.tag == tag {
            return;
        }
        if self.tag.take().is_some() {
            self.strip_tag();
        }
        let Some(tci) = tag else { return };
        let start = self.start - TAG_LENGTH;
        self.buffer.copy_within(self.start..self.start + MACS, start);
        write_u16(&mut self.buffer, start + MACS, ethernet::VLAN);
        write_u16(&mut self.buffer, start + MACS + 2, tci.0);
        self.start = start;
        self.length += TAG_LENGTH;
        self.shift_offload(|at| at.saturating_add(TAG_LENGTH as u16));
        self.tag = tag;
    }

    fn shift_offload(&mut self, shift: impl Fn(u16) -> u16) {
        if let Some(checksum) = &mut self.offload.checksum {
            checksum.start = shift(checksum.start);
        }
        if let Some(gso) = &mut self.offload.gso {
            gso.header_length = shift(gso.header_length);
        }
    }

    /// Writes the virtio-net header before the frame, so that [`Packet::device_bytes`] can be sent.
    pub fn seal(&mut self) {
        let header = virtio_net::emit(&self.offload);
        let start = self.start - virtio_net::HEADER_LENGTH;
        self.buffer[start..self.start].copy_from_slice(&header);
    }

    /// The virtio-net header, as [`Packet::seal`] left it, and the frame.
    pub fn device_bytes(&self) -> &[u8] {
        &self.buffer[self.start - virtio_net::HEADER_LENGTH..self.start + self.length]
    }
}

/// The position in the list of sizes of the smallest buffer for frames of `length` octets.
pub(crate) fn size_for(length: usize) -> usize {
    ROOMS.iter().position(|room| length <= *room).unwrap_or(SIZES - 1)
}

/// Octets of a buffer of this size.
pub(crate) fn octets_of(size: usize) -> usize {
    HEADROOM + ROOMS[size]
}

fn buffer_for(length: usize) -> Box<[u8]> {
    vec![0; octets_of(size_for(length))].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_wrote_comes_back_byte_for_byte() {
        let mut packet = Packet::new();
        let mut bytes = vec![0; virtio_net::HEADER_LENGTH];
        bytes.extend_from_slice(&[7; 60]);
        packet.receive_area()[..bytes.len()].copy_from_slice(&bytes);
        packet.received(bytes.len()).unwrap();
        assert_eq!(packet.frame(), &[7; 60]);
        packet.seal();
        assert_eq!(packet.device_bytes(), &bytes[..]);
    }

    #[test]
    fn a_tag_goes_on_and_off_with_the_offsets_beside_it() {
        let plain = crate::testing::tcp_frame(100);
        let mut packet = Packet::from_frame(&plain);
        let offload = Offload {
            checksum: Some(PartialChecksum { start: 34, offset: 16 }),
            gso: Some(Gso { kind: GsoKind::TcpV4, size: 40, header_length: 54, ecn: false }),
            verified: false,
        };
        packet.offload = offload;
        packet.dress(Some(Tci(0xa064)));
        assert_eq!(packet.frame()[..12], plain[..12]);
        assert_eq!(packet.frame()[12..16], [0x81, 0x00, 0xa0, 0x64]);
        assert_eq!(packet.frame()[16..], plain[12..]);
        assert_eq!(packet.offload.checksum.unwrap().start, 38);
        assert_eq!(packet.offload.gso.unwrap().header_length, 58);
        packet.dress(Some(Tci(7)));
        assert_eq!(packet.frame()[14..16], [0, 7]);
        packet.dress(None);
        assert_eq!((packet.frame(), packet.offload), (&plain[..], offload));
    }

    #[test]
    fn a_small_buffer_grows_with_what_it_is_to_hold() {
        let mut packet = Packet::for_frames_of(60);
        assert_eq!(packet.size(), Some(0));
        for (length, size) in [(2048, 0), (2049, 1), (100, 1), (MAX_FRAME, 2)] {
            packet.reset(length);
            assert_eq!((packet.len(), packet.size()), (length, Some(size)));
        }
        let mut hollow = Packet::hollow();
        assert!(hollow.frame().is_empty() && hollow.size().is_none());
        hollow.reset(0);
        assert_eq!((hollow.frame().len(), hollow.size()), (0, Some(0)));
    }

    #[test]
    fn a_device_that_wrote_less_than_a_header_gives_an_error() {
        let mut packet = Packet::new();
        assert!(packet.received(3).is_err());
        assert!(packet.is_empty());
    }
}
