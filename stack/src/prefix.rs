//! IP prefixes: an address block in CIDR form (RFC 4632, RFC 4291 section 2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 prefix with no host bits set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a prefix cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not of the form address/length.
    #[error("\"{0}\" is not a prefix, such as 198.18.1.0/24 or 2001:db8:1::/64 expected")]
    Syntax(String),
    /// More bits than the family has.
    #[error("/{length} is longer than the {bits} bits of {address}")]
    Length {
        /// The address that was given.
        address: IpAddr,
        /// The length that was given.
        length: u8,
        /// The bits an address of this family has.
        bits: u8,
    },
    /// The address is not the first of its block.
    #[error("{address}/{length} has host bits set, {expected} expected")]
    HostBits {
        /// The address that was given.
        address: IpAddr,
        /// The length that was given.
        length: u8,
        /// The prefix that contains it.
        expected: Prefix,
    },
}

impl Prefix {
    /// A prefix whose address has no host bits set.
    pub fn new(address: IpAddr, length: u8) -> Result<Prefix, PrefixError> {
        let expected = Prefix::containing(address, length)?;
        if expected.address == address {
            Ok(expected)
        } else {
            Err(PrefixError::HostBits { address, length, expected })
        }
    }

    /// The prefix of this length that `address` is in.
    pub fn containing(address: IpAddr, length: u8) -> Result<Prefix, PrefixError> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if length > bits {
            return Err(PrefixError::Length { address, length, bits });
        }
        Ok(Prefix { address: mask(address, length), length })
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(first) => {
                let host = u32::MAX.checked_shr(self.length.into()).unwrap_or(0);
                Ipv4Addr::from_bits(first.to_bits() | host).into()
            }
            IpAddr::V6(first) => {
                let host = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
                Ipv6Addr::from_bits(first.to_bits() | host).into()
            }
        }
    }

    /// The number of leading bits that count.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// True for an IPv4 prefix.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The address of an IPv4 block that stands for all of its hosts: the last one. None in blocks of /31 and /32,
    /// where it is a host's (RFC 3021).
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(first) if self.length <= 30 => {
                Some(Ipv4Addr::from_bits(first.to_bits() | (u32::MAX >> self.length)))
            }
            _ => None,
        }
    }

    /// The address of an IPv6 subnet that stands for any of its routers: the first one (RFC 4291 section 2.6.1). None
    /// in blocks of /127 and /128, where it is a host's (RFC 6164 section 5.1).
    pub fn routers_anycast(&self) -> Option<Ipv6Addr> {
        match self.address {
            IpAddr::V6(first) if self.length <= 126 => Some(first),
            _ => None,
        }
    }

    /// Whether `address` is of this family and in this block.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && mask(address, self.length) == self.address
    }

    /// Whether the two blocks share an address.
    pub fn overlaps(&self, other: &Prefix) -> bool {
        if self.length <= other.length { self.contains(other.address) } else { other.contains(self.address) }
    }
}

/// `address` with all but the first `length` bits cleared.
pub(crate) fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(a.to_bits() & keep).into()
        }
        IpAddr::V6(a) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(a.to_bits() & keep).into()
        }
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || PrefixError::Syntax(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(error)?;
        if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        Prefix::new(address.parse().map_err(|_| error())?, length.parse().map_err(|_| error())?)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_refused_and_the_right_prefix_is_named() {
        let error = "198.18.1.7/24".parse::<Prefix>().unwrap_err();
        assert_eq!(error.to_string(), "198.18.1.7/24 has host bits set, 198.18.1.0/24 expected");
    }

    #[test]
    fn the_default_prefixes_contain_their_family_only() {
        let all: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn the_last_address_of_a_block_stands_for_its_hosts() {
        let last = |text: &str| text.parse::<Prefix>().unwrap().broadcast().map(|last| last.to_string());
        assert_eq!(last("198.18.1.0/24").as_deref(), Some("198.18.1.255"));
        assert_eq!(last("198.18.1.4/30").as_deref(), Some("198.18.1.7"));
        assert_eq!(last("0.0.0.0/0").as_deref(), Some("255.255.255.255"));
        assert_eq!((last("198.18.1.4/31"), last("198.18.1.4/32"), last("2001:db8::/64")), (None, None, None));
    }

    #[test]
    fn the_first_address_of_a_block_stands_for_its_routers() {
        let first = |text: &str| text.parse::<Prefix>().unwrap().routers_anycast().map(|a| a.to_string());
        assert_eq!(first("2001:db8::/64").as_deref(), Some("2001:db8::"));
        assert_eq!(first("2001:db8::4/126").as_deref(), Some("2001:db8::4"));
        assert_eq!(
            (first("2001:db8::4/127"), first("2001:db8::4/128"), first("198.18.1.0/24")),
            (None, None, None)
        );
    }

    #[test]
    fn overlap_is_containment_of_the_shorter() {
        let block: Prefix = "2001:db8::/32".parse().unwrap();
        let inner: Prefix = "2001:db8:1::/64".parse().unwrap();
        assert!(block.overlaps(&inner) && inner.overlaps(&block));
        assert!(!inner.overlaps(&"2001:db8:2::/64".parse().unwrap()));
    }
}
