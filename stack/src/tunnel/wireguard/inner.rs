//! What a tunnel says about an IP packet inside: whose it is, and how long it is without padding.
//!
//! Nothing else is checked: that is for the stages that the packet goes through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Refusal;

/// A packet inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// Octets without padding.
    pub length: usize,
    /// Its ECN bits.
    pub ecn: u8,
}

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

impl Inner {
    /// The IPv4 (RFC 791) or IPv6 packet (RFC 8200) that these octets begin with.
    pub fn parse(octets: &[u8]) -> Result<Inner, Refusal> {
        let inner = match octets.first().map(|first| first >> 4) {
            Some(4) => octets.first_chunk().map(Inner::ipv4),
            Some(6) => octets.first_chunk().map(Inner::ipv6),
            _ => None,
        };
        inner.filter(|inner| inner.length <= octets.len()).ok_or(Refusal::Malformed)
    }

    fn ipv4(header: &[u8; IPV4_HEADER]) -> Inner {
        let [_, tos, high, low, .., a, b, c, d, e, f, g, h] = *header;
        Inner {
            source: Ipv4Addr::new(a, b, c, d).into(),
            destination: Ipv4Addr::new(e, f, g, h).into(),
            // One that is shorter than its header goes no further than this.
            length: usize::from(u16::from_be_bytes([high, low])).max(IPV4_HEADER),
            ecn: tos & 3,
        }
    }

    fn ipv6(header: &[u8; IPV6_HEADER]) -> Inner {
        let address = |at: usize| {
            let octets = header[at..].first_chunk::<16>().copied().unwrap_or_default();
            Ipv6Addr::from(octets).into()
        };
        Inner {
            source: address(8),
            destination: address(24),
            length: IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]])),
            ecn: header[1] >> 4 & 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_is_told_from_the_packet() {
        // An echo request without data and its padding to 32 octets.
        let octets = [
            0x45, 0x03, 0x00, 0x1c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x01, 0x92, 0x73, 198, 18, 0, 1, 198, 18,
            0, 2, 8, 0, 0xf7, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let inner = Inner::parse(&octets).unwrap();
        assert_eq!((inner.length, inner.ecn), (28, 3));
        assert_eq!(inner.source, IpAddr::from([198, 18, 0, 1]));
        assert_eq!(inner.destination, IpAddr::from([198, 18, 0, 2]));
        assert_eq!(Inner::parse(&octets[..27]), Err(Refusal::Malformed), "cut short");
        assert_eq!(Inner::parse(&[0x55; 64]), Err(Refusal::Malformed), "no IP");
    }

    #[test]
    fn the_ecn_bits_of_ipv6_straddle_octets() {
        let mut octets = [0; 48];
        octets[..8].copy_from_slice(&[0x60, 0x12, 0x34, 0x56, 0, 8, 59, 64]);
        octets[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let inner = Inner::parse(&octets).unwrap();
        assert_eq!((inner.length, inner.ecn), (48, 1));
        assert_eq!(inner.source, "2001:db8::".parse::<IpAddr>().unwrap());
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(inner) = Inner::parse(&octets) {
                prop_assert!(inner.length <= octets.len());
            }
        }
    }
}
