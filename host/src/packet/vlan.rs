//! Putting a VLAN tag (IEEE 802.1Q clause 9) back where it was on the wire: the kernel takes it out of the
//! frame before a packet socket sees it.

use crate::tap::VNET_HEADER_LEN;

/// A tag that is not in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    /// 0x8100 or 0x88a8.
    pub ethertype: u16,
    /// Priority, drop eligibility and VLAN id.
    pub tci: u16,
}

const TAG_LENGTH: usize = 4;
/// The tag follows the two MAC addresses.
const TAG_AT: usize = VNET_HEADER_LEN + 12;
/// `flags` and `csum_start` of the virtio-net header.
const FLAGS_AT: usize = 0;
const CHECKSUM_START_AT: usize = 6;
const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;

/// Puts the tag into the first `length` octets of `buffer`, a header and a frame; returns the new length.
/// When it does not fit, or there is no whole frame, that is 0.
pub(super) fn put_back(buffer: &mut [u8], length: usize, tag: Tag) -> usize {
    let tagged = length + TAG_LENGTH;
    if length < TAG_AT || tagged > buffer.len() {
        return 0;
    }
    buffer.copy_within(TAG_AT..length, TAG_AT + TAG_LENGTH);
    buffer[TAG_AT..TAG_AT + 2].copy_from_slice(&tag.ethertype.to_be_bytes());
    buffer[TAG_AT + 2..TAG_AT + 4].copy_from_slice(&tag.tci.to_be_bytes());
    if buffer[FLAGS_AT] & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
        let field = &mut buffer[CHECKSUM_START_AT..CHECKSUM_START_AT + 2];
        let start = u16::from_ne_bytes([field[0], field[1]]).saturating_add(TAG_LENGTH as u16);
        field.copy_from_slice(&start.to_ne_bytes());
    }
    tagged
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag { ethertype: 0x8100, tci: 0x2007 };

    fn frame(flags: u8) -> Vec<u8> {
        let mut bytes = vec![flags, 0, 0, 0, 0, 0];
        bytes.extend(34u16.to_ne_bytes());
        bytes.extend(16u16.to_ne_bytes());
        bytes.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0x00]);
        bytes
    }

    #[test]
    fn the_tag_is_between_the_addresses_and_the_type() {
        let mut buffer = frame(0);
        let length = buffer.len();
        buffer.resize(length + 4, 0xee);
        assert_eq!(put_back(&mut buffer, length, TAG), length + 4);
        assert_eq!(buffer[16..22], [2, 0, 0, 0, 0, 2]);
        assert_eq!(buffer[22..], [0x81, 0x00, 0x20, 0x07, 0x08, 0x00, 0x45, 0x00]);
        assert_eq!(u16::from_ne_bytes([buffer[6], buffer[7]]), 34, "no checksum is asked for");
    }

    #[test]
    fn the_checksum_starts_four_octets_later() {
        let mut buffer = frame(VIRTIO_NET_HDR_F_NEEDS_CSUM);
        let length = buffer.len();
        buffer.resize(length + 4, 0);
        put_back(&mut buffer, length, TAG);
        assert_eq!(u16::from_ne_bytes([buffer[6], buffer[7]]), 38);
        assert_eq!(u16::from_ne_bytes([buffer[8], buffer[9]]), 16, "the offset counts from the start");
    }

    #[test]
    fn a_frame_without_room_or_without_addresses_is_none() {
        let mut buffer = frame(0);
        let length = buffer.len();
        assert_eq!(put_back(&mut buffer, length, TAG), 0);
        assert_eq!(put_back(&mut [0; 64], TAG_AT - 1, TAG), 0);
        assert_eq!(put_back(&mut [0; 64], 0, TAG), 0);
    }
}
