//! Ethernet II frames (IEEE 802.3 clause 3.2.6) and MAC addresses.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{Malformed, read_u16, write_u16};

/// Octets of the header without a VLAN tag.
pub const HEADER_LENGTH: usize = 14;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Tag protocol identifier of IEEE 802.1Q.
pub const VLAN: u16 = 0x8100;
/// Tag protocol identifier of IEEE 802.1ad.
pub const VLAN_SERVICE: u16 = 0x88a8;

/// An Ethernet II header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Who it is for.
    pub destination: MacAddr,
    /// Who sent it.
    pub source: MacAddr,
    /// What it carries; values below 0x0600 are an IEEE 802.3 length.
    pub ethertype: u16,
}

impl Header {
    /// Reads the header at the start of `frame`.
    pub fn parse(frame: &[u8]) -> Result<Header, Malformed> {
        let Some(bytes) = frame.first_chunk::<HEADER_LENGTH>() else {
            return Err(Malformed("shorter than an Ethernet header"));
        };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *bytes;
        Ok(Header {
            destination: MacAddr([d0, d1, d2, d3, d4, d5]),
            source: MacAddr([s0, s1, s2, s3, s4, s5]),
            ethertype: read_u16(bytes, 12),
        })
    }

    /// Writes the header into the first 14 octets of `frame`.
    pub fn emit(&self, frame: &mut [u8]) {
        frame[0..6].copy_from_slice(&self.destination.0);
        frame[6..12].copy_from_slice(&self.source.0);
        write_u16(frame, 12, self.ethertype);
    }
}

/// A 48-bit MAC address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MacAddr(pub [u8; 6]);

impl Hash for MacAddr {
    // As one number: hashers take an array octet by octet, and its length before.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.to_u64());
    }
}

impl MacAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// A stable, locally administered unicast address made from a name (FNV-1a, 46 bits of it).
    ///
    /// `domain` keeps the addresses of different kinds of objects apart.
    pub fn from_name(domain: &str, name: &str) -> MacAddr {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for byte in domain.bytes().chain([0]).chain(name.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let folded = hash ^ (hash >> 48);
        let bytes = folded.to_be_bytes();
        MacAddr([(bytes[2] & 0xfc) | 0x02, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    /// Broadcast or multicast: the group bit is set.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The group that IPv4 multicast to `address` goes to (RFC 1112 section 6.4).
    pub fn ipv4_multicast(address: Ipv4Addr) -> MacAddr {
        let [_, a, b, c] = address.octets();
        MacAddr([0x01, 0x00, 0x5e, a & 0x7f, b, c])
    }

    /// The group that IPv6 multicast to `address` goes to (RFC 2464 section 7).
    pub fn ipv6_multicast(address: Ipv6Addr) -> MacAddr {
        let [.., a, b, c, d] = address.octets();
        MacAddr([0x33, 0x33, a, b, c, d])
    }

    /// A reserved group that bridges do not forward (IEEE 802.1Q-2022 table 8-1, IEEE 802.1D-2004 table 7-10).
    pub fn is_reserved_multicast(self) -> bool {
        self.0[..5] == [0x01, 0x80, 0xc2, 0x00, 0x00] && self.0[5] <= 0x0f
    }

    /// A reserved group of customers' bridges, which a provider's bridge carries along unseen: one that is in IEEE
    /// 802.1Q-2022 table 8-1 and not in table 8-2, such as that of the spanning tree.
    pub fn is_customer_bridges(self) -> bool {
        self.is_reserved_multicast() && matches!(self.0[5], 0x00 | 0x0b | 0x0c | 0x0d | 0x0f)
    }

    /// The link-local address that modified EUI-64 makes of it (RFC 4291 appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
    }

    /// All zero: no station has it.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }

    /// The address as a number below 2^48.
    pub fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six pairs of hexadecimal digits with colons between.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a MAC address, such as 02:00:5e:10:00:01 expected")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() {
            return Err(error());
        }
        Ok(MacAddr(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_the_usual_way() {
        let mac: MacAddr = "02:00:5e:10:00:01".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:01");
        for wrong in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02",
            "2:0:5e:10:0:1",
            "02-00-5e-10-00-01",
            "gg:00:5e:10:00:01",
        ] {
            assert!(wrong.parse::<MacAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn link_local_is_the_example_of_rfc_4291() {
        // RFC 4291 appendix A: 34-56-78-9A-BC-DE gives 36-56-78-FF-FE-9A-BC-DE.
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(mac.link_local(), "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn made_addresses_are_local_unicast_and_differ_by_domain() {
        let port = MacAddr::from_name("port", "web");
        assert_eq!(port.0[0] & 3, 2);
        assert_eq!(port, MacAddr::from_name("port", "web"));
        assert_ne!(port, MacAddr::from_name("gateway", "web"));
    }
}
