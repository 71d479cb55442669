//! UDP's header (RFC 768).

use std::net::IpAddr;

use super::checksum::pseudo_header;
use super::{Malformed, ipv4, read_u16, write_u16};

/// Octets of the header.
pub const HEADER_LENGTH: usize = 8;
/// Where the checksum is; zero says that there is none, and a computed zero is sent as ones.
pub const CHECKSUM: usize = 6;

/// Where the datagram's length is, header included.
pub(crate) const LENGTH: usize = 4;

/// A datagram's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Port of the sender.
    pub source: u16,
    /// Port that it is for.
    pub destination: u16,
    /// Octets of the datagram, header included.
    pub length: usize,
}

impl Header {
    /// Reads the header at the start of `datagram`, which is at least as long as the header says.
    pub fn parse(datagram: &[u8]) -> Result<Header, Malformed> {
        let Some(bytes) = datagram.first_chunk::<HEADER_LENGTH>() else {
            return Err(Malformed("shorter than a UDP header"));
        };
        let length = usize::from(read_u16(bytes, LENGTH));
        if length < HEADER_LENGTH || length > datagram.len() {
            return Err(Malformed("the UDP length is below 8 or beyond the end of the packet"));
        }
        Ok(Header { source: read_u16(bytes, 0), destination: read_u16(bytes, 2), length })
    }

    /// Writes the header before the payload, which stands behind it in `datagram`, checksum included.
    pub fn emit(&self, source: IpAddr, destination: IpAddr, datagram: &mut [u8]) {
        write_u16(datagram, 0, self.source);
        write_u16(datagram, 2, self.destination);
        write_u16(datagram, LENGTH, self.length as u16);
        write_u16(datagram, CHECKSUM, 0);
        let datagram = &mut datagram[..self.length];
        let sum = pseudo_header(source, destination, ipv4::UDP, self.length).bytes(datagram).finish();
        write_u16(datagram, CHECKSUM, if sum == 0 { 0xffff } else { sum });
    }
}

/// Whether the checksum of `datagram`, cut to the length that its header says, is right or left out.
pub fn checksum_is_valid(source: IpAddr, destination: IpAddr, datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LENGTH
        && (read_u16(datagram, CHECKSUM) == 0
            || pseudo_header(source, destination, ipv4::UDP, datagram.len()).bytes(datagram).folded()
                == 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let mut bytes = [0, 68, 0, 67, 0, 9, 0, 0, 1];
        let header = Header { source: 68, destination: 67, length: 9 };
        assert_eq!(Header::parse(&bytes), Ok(header));
        assert!(Header::parse(&bytes[..8]).is_err());
        bytes[5] = 7;
        assert!(Header::parse(&bytes).is_err());
        assert!(Header::parse(&bytes[..7]).is_err());
    }

    #[test]
    fn a_datagram_is_written_with_the_checksum_that_scapy_computes() {
        let mut datagram = *b"\0\0\0\0\0\0\0\0weft!";
        let (source, destination) = ([198, 18, 1, 1].into(), [198, 18, 1, 10].into());
        Header { source: 67, destination: 68, length: 13 }.emit(source, destination, &mut datagram);
        assert_eq!(datagram[..8], SCAPYS);
        assert!(checksum_is_valid(source, destination, &datagram));
        datagram[12] ^= 1;
        assert!(!checksum_is_valid(source, destination, &datagram));
        datagram[6..8].fill(0);
        assert!(checksum_is_valid(source, destination, &datagram), "there is none");
    }

    /// `raw(IP(src="198.18.1.1", dst="198.18.1.10")/UDP(sport=67, dport=68)/b"weft!")[20:28]`
    const SCAPYS: [u8; 8] = [0, 67, 0, 68, 0, 13, 0x72, 0x43];
}
