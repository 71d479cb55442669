//! GRE's header (RFC 2784) with key and sequence number (RFC 2890).

use super::checksum::Sum;
use super::{Malformed, read_u16, read_u32, write_u16, write_u32};

/// Octets of the longest header.
pub const MAX_HEADER: usize = 16;
/// Protocol type of Ethernet frames (transparent Ethernet bridging).
pub const ETHERNET: u16 = 0x6558;

const CHECKSUM: u16 = 0x8000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
/// Routing, strict source route, recursion control and flags of RFC 1701, which are to be zero, and the version.
const RESERVED_AND_VERSION: u16 = 0x4fff;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// There is a checksum over header and payload.
    pub checksum: bool,
    /// Which of several tunnels between the same ends.
    pub key: Option<u32>,
    /// The packet's number.
    pub sequence: Option<u32>,
    /// What the payload is: an EtherType.
    pub protocol: u16,
}

impl Header {
    /// Octets that it takes.
    pub fn length(&self) -> usize {
        let options = [self.checksum, self.key.is_some(), self.sequence.is_some()];
        4 + 4 * options.iter().filter(|present| **present).count()
    }

    /// Reads the header at the start of `packet`, which is a whole packet, and verifies its checksum.
    ///
    /// # Errors
    /// It is cut short, or has a version or a reserved bit that is not zero (RFC 2784 section 2.2, 2.3).
    pub fn parse(packet: &[u8]) -> Result<Header, Malformed> {
        if packet.len() < 4 {
            return Err(Malformed("shorter than a GRE header"));
        }
        let flags = read_u16(packet, 0);
        if flags & RESERVED_AND_VERSION != 0 {
            return Err(Malformed("a GRE version or flag that is not of RFC 2784 and 2890"));
        }
        let mut header = Header {
            checksum: flags & CHECKSUM != 0,
            key: None,
            sequence: None,
            protocol: read_u16(packet, 2),
        };
        header.key = (flags & KEY != 0).then_some(0);
        header.sequence = (flags & SEQUENCE != 0).then_some(0);
        if packet.len() < header.length() {
            return Err(Malformed("shorter than its GRE header"));
        }
        let mut at = if header.checksum { 8 } else { 4 };
        for field in [&mut header.key, &mut header.sequence].into_iter().flatten() {
            *field = read_u32(packet, at);
            at += 4;
        }
        Ok(header)
    }

    /// Writes the header into the first octets of `packet`, behind which the payload stands already.
    pub fn emit(&self, packet: &mut [u8]) {
        let flag = |present: bool, flag: u16| if present { flag } else { 0 };
        let flags = flag(self.checksum, CHECKSUM) | flag(self.key.is_some(), KEY);
        write_u16(packet, 0, flags | flag(self.sequence.is_some(), SEQUENCE));
        write_u16(packet, 2, self.protocol);
        let mut at = 4;
        if self.checksum {
            write_u32(packet, at, 0);
            at += 4;
        }
        for field in [self.key, self.sequence].into_iter().flatten() {
            write_u32(packet, at, field);
            at += 4;
        }
        if self.checksum {
            let sum = Sum::default().bytes(packet).finish();
            write_u16(packet, 4, sum);
        }
    }
}

/// Whether the checksum that the header of a whole packet says to have is right.
pub fn checksum_is_valid(packet: &[u8]) -> bool {
    Sum::default().bytes(packet).folded() == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `raw(GRE(chksum_present=1, key_present=1, seqnum_present=1, proto=0x800, key=0x01020304, seqence_number=5)/b"weft!")`
    const SCAPYS: [u8; 21] =
        [0xb0, 0, 8, 0, 0x45, 0x1a, 0, 0, 1, 2, 3, 4, 0, 0, 0, 5, b'w', b'e', b'f', b't', b'!'];

    #[test]
    fn a_header_with_everything_is_the_one_that_scapy_writes() {
        let header = Header { checksum: true, key: Some(0x0102_0304), sequence: Some(5), protocol: 0x0800 };
        let mut packet = SCAPYS;
        packet[..16].fill(0xff);
        header.emit(&mut packet);
        assert_eq!(packet, SCAPYS);
        assert_eq!((Header::parse(&packet), header.length()), (Ok(header), 16));
        assert!(checksum_is_valid(&packet));
        packet[20] ^= 1;
        assert!(!checksum_is_valid(&packet));
    }

    #[test]
    fn a_bare_header_has_four_octets() {
        let header = Header { checksum: false, key: None, sequence: None, protocol: ETHERNET };
        let mut packet = [0xff; 4];
        header.emit(&mut packet);
        assert_eq!((packet, header.length()), ([0, 0, 0x65, 0x58], 4));
        assert_eq!(Header::parse(&packet), Ok(header));
    }

    #[test]
    fn versions_and_reserved_bits_are_refused_and_so_is_what_is_cut_short() {
        for flags in [0x0001u16, 0x4000, 0x0800, 0x0008, 0x0700] {
            let [high, low] = flags.to_be_bytes();
            assert!(Header::parse(&[high, low, 8, 0]).is_err(), "{flags:#06x}");
        }
        for length in 0..16 {
            assert!(Header::parse(&SCAPYS[..length]).is_err(), "{length} octets");
        }
    }
}
