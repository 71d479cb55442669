//! VXLAN's header (RFC 7348 section 5).

use super::{Malformed, read_u32, write_u32};

/// Octets of the header.
pub const HEADER_LENGTH: usize = 8;

/// The I flag: the VNI is valid. All others are reserved, to be sent as zero and ignored.
const VALID_VNI: u8 = 0x08;

/// Reads the VNI of the header at the start of `datagram`.
pub fn parse(datagram: &[u8]) -> Result<u32, Malformed> {
    let Some(header) = datagram.first_chunk::<HEADER_LENGTH>() else {
        return Err(Malformed("shorter than a VXLAN header"));
    };
    if header[0] & VALID_VNI == 0 {
        return Err(Malformed("the VXLAN header has no VNI"));
    }
    Ok(read_u32(header, 4) >> 8)
}

/// Writes the header with this VNI, below 2^24, into the first octets of `datagram`.
pub fn emit(vni: u32, datagram: &mut [u8]) {
    write_u32(datagram, 0, u32::from(VALID_VNI) << 24);
    write_u32(datagram, 4, vni << 8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_as_in_the_rfcs_figure() {
        let mut bytes = [0xff; HEADER_LENGTH];
        emit(0x12_3456, &mut bytes);
        assert_eq!(bytes, [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        assert_eq!(parse(&bytes), Ok(0x12_3456));
    }

    #[test]
    fn reserved_bits_are_ignored_and_the_flag_must_be_set() {
        assert_eq!(parse(&[0xff, 0xff, 0xff, 0xff, 0, 0, 7, 0xff]), Ok(7));
        assert!(parse(&[0xf7, 0, 0, 0, 0, 0, 7, 0]).is_err());
        assert!(parse(&[0x08, 0, 0, 0, 0, 0, 7]).is_err());
    }
}
