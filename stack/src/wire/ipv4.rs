//! IPv4 headers (RFC 791).

pub mod option;

use std::net::Ipv4Addr;

use super::checksum::{self, Sum};
use super::{Malformed, read_u16, write_u16};

/// Octets of a header without options.
pub const HEADER_LENGTH: usize = 20;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// Octets of the longest packet.
pub(crate) const MAX_LENGTH: usize = 65_535;
/// Where the total length is in the header.
pub(crate) const TOTAL_LENGTH: usize = 2;
/// Where the identification is in the header.
pub(crate) const ID: usize = 4;
const FLAGS: usize = 6;
const DONT_FRAGMENT: u16 = 0x4000;
const TTL: usize = 8;
const CHECKSUM: usize = 10;

/// The TTL of new packets (RFC 1122 section 3.2.1.7).
const INITIAL_TTL: u8 = 64;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Octets of the header with its options, 20 to 60.
    pub header_length: usize,
    /// Octets of the packet.
    pub total_length: usize,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// Offset of this fragment, in octets.
    pub fragment_offset: usize,
    /// Time to live.
    pub ttl: u8,
    /// What it carries.
    pub protocol: u8,
    /// Who sent it.
    pub source: Ipv4Addr,
    /// Who it is for.
    pub destination: Ipv4Addr,
}

impl Header {
    /// The header of a whole packet with `length` octets of payload: without options, and not to be cut, so that it
    /// needs no identification (RFC 6864 section 4.1).
    pub fn atomic(protocol: u8, length: usize, source: Ipv4Addr, destination: Ipv4Addr) -> Header {
        Header {
            header_length: HEADER_LENGTH,
            total_length: HEADER_LENGTH + length,
            tos: 0,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: INITIAL_TTL,
            protocol,
            source,
            destination,
        }
    }

    /// Reads the header at the start of `packet`. The lengths it tells fit into `packet`; the
    /// checksum is not looked at.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Header, Malformed> {
        let Some(bytes) = packet.first_chunk::<HEADER_LENGTH>() else {
            return Err(Malformed("shorter than an IPv4 header"));
        };
        if bytes[0] >> 4 != 4 {
            return Err(Malformed("version is not 4"));
        }
        let header_length = usize::from(bytes[0] & 0x0f) * 4;
        let total_length = usize::from(read_u16(bytes, 2));
        if header_length < HEADER_LENGTH || header_length > total_length {
            return Err(Malformed("header length is below 20 or above the total length"));
        }
        if total_length > packet.len() {
            return Err(Malformed("total length is beyond the end of the frame"));
        }
        let flags = read_u16(bytes, FLAGS);
        let fragment_offset = usize::from(flags & 0x1fff) * 8;
        if fragment_offset + total_length > MAX_LENGTH {
            return Err(Malformed("fragment ends beyond the longest packet"));
        }
        Ok(Header {
            header_length,
            total_length,
            tos: bytes[1],
            id: read_u16(bytes, 4),
            dont_fragment: flags & DONT_FRAGMENT != 0,
            more_fragments: flags & 0x2000 != 0,
            fragment_offset,
            ttl: bytes[TTL],
            protocol: bytes[9],
            source: Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]),
            destination: Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]),
        })
    }

    /// Whether the packet is a piece of a larger one.
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset != 0
    }

    /// Writes a header without options, checksum included, into the first 20 octets of `packet`.
    pub fn emit(&self, packet: &mut [u8]) {
        packet[0] = 0x45;
        packet[1] = self.tos;
        write_u16(packet, 2, self.total_length as u16);
        write_u16(packet, 4, self.id);
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        write_u16(packet, 6, flags | (self.fragment_offset / 8) as u16);
        packet[TTL] = self.ttl;
        packet[9] = self.protocol;
        packet[12..16].copy_from_slice(&self.source.octets());
        packet[16..20].copy_from_slice(&self.destination.octets());
        fill_checksum(&mut packet[..HEADER_LENGTH]);
    }
}

/// Whether a router may forward from or to this address at all: it is not unspecified, loopback,
/// multicast, reserved or the limited broadcast (RFC 1812 section 5.3.7).
pub fn is_routable(address: Ipv4Addr) -> bool {
    // From 224.0.0.0 on there are groups, and then what is reserved.
    let first = address.octets()[0];
    !address.is_unspecified() && first != 127 && first < 224
}

/// Whether DF is set in this header.
pub(crate) fn has_dont_fragment(header: &[u8]) -> bool {
    read_u16(header, FLAGS) & DONT_FRAGMENT != 0
}

/// Whether the checksum of this header, options included, is right.
#[inline]
pub fn checksum_is_valid(header: &[u8]) -> bool {
    let Ok(fixed) = <&[u8; HEADER_LENGTH]>::try_from(header) else {
        return Sum::default().bytes(header).folded() == 0xffff;
    };
    // Most headers have no options: a length that the compiler knows needs no loop. All ones are the same in either
    // byte order (RFC 1071 section 2 B).
    let (words, _) = fixed.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// Computes the checksum of this header, options included, and writes it in.
pub fn fill_checksum(header: &mut [u8]) {
    write_u16(header, CHECKSUM, 0);
    let sum = Sum::default().bytes(header).finish();
    write_u16(header, CHECKSUM, sum);
}

/// Takes one from the TTL, which is above zero, and mends the checksum. Does nothing to less than a header.
#[inline]
pub fn decrement_ttl(header: &mut [u8]) {
    let Some(header) = header.first_chunk_mut::<HEADER_LENGTH>() else { return };
    let old = read_u16(header, TTL);
    let new = old.wrapping_sub(0x0100);
    write_u16(header, TTL, new);
    let sum = checksum::update(read_u16(header, CHECKSUM), old, new);
    write_u16(header, CHECKSUM, sum);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // An echo request of Linux ping: 198.18.0.2 to 198.18.0.1, with its checksum.
    const PING: [u8; 20] = [
        0x45, 0x00, 0x00, 0x14, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x01, 0x93, 0x3a, 198, 18, 0, 2, 198, 18, 0, 1,
    ];

    #[test]
    fn a_header_is_read_field_by_field() {
        let header = Header::parse(&PING).unwrap();
        assert_eq!((header.header_length, header.total_length, header.id), (20, 20, 0x1c46));
        assert!(header.dont_fragment && !header.is_fragment());
        assert_eq!((header.ttl, header.protocol), (64, ICMP));
    }

    #[test]
    fn lying_lengths_are_refused() {
        for (at, value) in [(0, 0x44), (0, 0x46), (0, 0x65), (3, 0x13), (3, 0x15)] {
            let mut bytes = PING;
            bytes[at] = value;
            assert!(Header::parse(&bytes).is_err(), "octet {at} = {value:#x}");
        }
        assert!(Header::parse(&PING[..19]).is_err());
    }

    #[test]
    fn a_fragment_beyond_the_longest_packet_is_refused() {
        let mut bytes = [0; 40];
        bytes[..20].copy_from_slice(&PING);
        bytes[3] = 40;
        bytes[6..8].copy_from_slice(&[0x1f, 0xfa]); // 65,488 + 40 octets
        assert!(Header::parse(&bytes).is_ok());
        bytes[6..8].copy_from_slice(&[0x1f, 0xfc]); // 65,504 + 40 octets
        assert!(Header::parse(&bytes).is_err());
    }

    #[test]
    fn decrementing_the_ttl_keeps_the_checksum_right() {
        let mut bytes = PING;
        fill_checksum(&mut bytes);
        while bytes[8] > 0 {
            decrement_ttl(&mut bytes);
            assert!(checksum_is_valid(&bytes), "ttl {}", bytes[8]);
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::parse(&bytes);
        }

        #[test]
        fn the_checksum_is_judged_alike_with_and_without_options(
            mut bytes in proptest::collection::vec(any::<u8>(), 20), wrong in any::<bool>(), extreme in any::<bool>(),
        ) {
            if extreme {
                bytes.iter_mut().for_each(|octet| *octet |= 0xf7);
            }
            fill_checksum(&mut bytes);
            bytes[3] ^= u8::from(wrong);
            prop_assert_eq!(checksum_is_valid(&bytes), !wrong);
            bytes.extend([0; 4]);
            prop_assert_eq!(checksum_is_valid(&bytes), !wrong);
        }

        #[test]
        fn emit_then_parse_is_the_identity(
            id in any::<u16>(), tos in any::<u8>(), ttl in any::<u8>(), protocol in any::<u8>(), df in any::<bool>(),
            mf in any::<bool>(), offset in 0usize..0x2000, source in any::<u32>(), destination in any::<u32>(),
        ) {
            let header = Header {
                header_length: 20, total_length: 28, tos, id, dont_fragment: df, more_fragments: mf,
                fragment_offset: offset.min(8188) * 8, ttl, protocol, source: source.into(), destination: destination.into(),
            };
            let mut packet = [0; 28];
            header.emit(&mut packet);
            prop_assert!(checksum_is_valid(&packet[..20]));
            prop_assert_eq!(Header::parse(&packet), Ok(header));
        }
    }
}
