//! Completing a partial checksum in the frame.

use crate::packet::Packet;
use crate::wire::checksum::Sum;
use crate::wire::write_u16;

/// Where a UDP header has its checksum; there a computed zero is written as ones (RFC 768).
const UDP_CHECKSUM: usize = 6;

/// Computes what the sender left open, and writes it in. Does nothing when nothing is open.
pub(crate) fn complete(packet: &mut Packet) {
    let Some(partial) = packet.offload.checksum.take() else { return };
    let (start, offset) = (usize::from(partial.start), usize::from(partial.offset));
    let covered = &mut packet.frame_mut()[start..];
    // The field holds the pseudo-header's sum, so it takes part in the sum as it is.
    let checksum = match Sum::default().bytes(covered).finish() {
        0 if offset == UDP_CHECKSUM => 0xffff,
        checksum => checksum,
    };
    write_u16(covered, offset, checksum);
    packet.offload.verified = true;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::PartialChecksum;
    use crate::testing;
    use crate::wire::checksum::pseudo_header;

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
    }
}
