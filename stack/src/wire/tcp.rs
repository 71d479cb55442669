//! As much of TCP's header (RFC 9293 section 3.1) as switching and refusing connections need.

use super::{Malformed, read_u32, write_u16};

/// Octets of a header without options.
pub const HEADER_LENGTH: usize = 20;
/// Where the checksum is in the header.
pub const CHECKSUM: usize = 16;

/// Where the sequence number is in the header.
pub(crate) const SEQUENCE: usize = 4;
/// Where the flags are in the header.
pub(crate) const FLAGS: usize = 13;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
/// Congestion window reduced (RFC 3168 section 6.1.2).
pub(crate) const CWR: u8 = 0x80;

/// Octets of the header, options included, that starts `segment`.
pub fn header_length(segment: &[u8]) -> Result<usize, Malformed> {
    let offset = segment.get(12).ok_or(Malformed("shorter than a TCP header"))?;
    let length = usize::from(offset >> 4) * 4;
    if length < HEADER_LENGTH || length > segment.len() {
        return Err(Malformed("TCP data offset is below 20 octets or beyond the end"));
    }
    Ok(length)
}

/// Writes into `reset` (20 octets, checksum left zero) the answer of a closed port to `segment`
/// (RFC 9293 section 3.10.7.1). `None`: a reset is not answered, nor is a malformed segment.
pub fn emit_reset(segment: &[u8], reset: &mut [u8]) -> Option<()> {
    let data_offset = header_length(segment).ok()?;
    let flags = segment[FLAGS];
    if flags & RST != 0 {
        return None;
    }
    reset[..HEADER_LENGTH].fill(0);
    reset[0..2].copy_from_slice(&segment[2..4]);
    reset[2..4].copy_from_slice(&segment[0..2]);
    reset[12] = 0x50;
    if flags & ACK != 0 {
        reset[4..8].copy_from_slice(&segment[8..12]);
        reset[13] = RST;
    } else {
        let occupied =
            segment.len() - data_offset + usize::from(flags & SYN != 0) + usize::from(flags & FIN != 0);
        let acknowledged = read_u32(segment, 4).wrapping_add(occupied as u32);
        reset[8..12].copy_from_slice(&acknowledged.to_be_bytes());
        reset[13] = RST | ACK;
    }
    write_u16(reset, CHECKSUM, 0);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8) -> [u8; 22] {
        let mut bytes = [0; 22];
        bytes[..20].copy_from_slice(&[
            0x9c, 0x40, 0, 80, 0, 0, 0, 9, 0, 0, 0, 5, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0,
        ]);
        bytes
    }

    #[test]
    fn a_syn_is_refused_with_its_number_acknowledged() {
        let mut reset = [0; 20];
        emit_reset(&segment(SYN)[..20], &mut reset).unwrap();
        assert_eq!(reset, [0, 80, 0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 10, 0x50, RST | ACK, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn data_is_refused_at_the_number_it_acknowledged() {
        let mut reset = [0; 20];
        emit_reset(&segment(ACK), &mut reset).unwrap();
        assert_eq!((&reset[4..8], reset[13]), (&[0, 0, 0, 5][..], RST));
    }

    #[test]
    fn resets_are_not_answered() {
        assert!(emit_reset(&segment(RST), &mut [0; 20]).is_none());
    }
}
