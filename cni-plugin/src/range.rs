//! The capability `ipRanges`: ranges as the plugin host-local has them, told as the daemon's pools have them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::failure::Failure;
use crate::settings::IpRange;

/// A subnet in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u32,
}

impl Prefix {
    /// Reads `198.18.1.0/24`; bits of the host are allowed.
    pub fn parse(text: &str) -> Option<Prefix> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let length = length.parse().ok().filter(|length| *length <= bits(address))?;
        Some(Prefix { address, length })
    }

    /// Whether an address is inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        let host = bits(self.address) - self.length;
        let network = |address| number(address).checked_shr(host).unwrap_or(0);
        bits(address) == bits(self.address) && network(address) == network(self.address)
    }

    /// The first address that a host can have, and the last: without those of the network and of all hosts.
    fn hosts(&self) -> (IpAddr, IpAddr) {
        let host_bits = bits(self.address) - self.length;
        let host = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let (network, last) = (number(self.address) & !host, number(self.address) | host);
        let broadcast = u128::from(self.address.is_ipv4());
        let (first, last) = if host_bits < 2 { (network, last) } else { (network + 1, last - broadcast) };
        (self.with(first), self.with(last))
    }

    fn with(&self, number: u128) -> IpAddr {
        match self.address {
            // The number is one of 32 bits: it was made of such a one within its network.
            IpAddr::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }
}

/// All ranges of a `runtimeConfig.ipRanges`.
pub fn from_runtime(sets: &[Vec<IpRange>]) -> Result<Vec<String>, Failure> {
    let mut ranges = Vec::new();
    for (set_index, set) in sets.iter().enumerate() {
        for (index, range) in set.iter().enumerate() {
            let field = format!("runtimeConfig.ipRanges[{set_index}][{index}]");
            ranges.push(one(range).map_err(|details| Failure::field(&field, details))?);
        }
    }
    Ok(ranges)
}

fn one(range: &IpRange) -> Result<String, String> {
    let IpRange { subnet, range_start, range_end } = range;
    let prefix = Prefix::parse(subnet).ok_or_else(|| format!("{subnet:?} is no subnet in CIDR form"))?;
    if range_start.is_empty() && range_end.is_empty() {
        return Ok(subnet.clone());
    }
    let (first, last) = prefix.hosts();
    let end = |text: &str, usual: IpAddr| {
        let address = if text.is_empty() { Some(usual) } else { text.parse().ok() };
        let inside = address.filter(|address| prefix.contains(*address));
        inside.ok_or_else(|| format!("{text:?} is no address of {subnet}"))
    };
    Ok(format!("{}-{}", end(range_start, first)?, end(range_end, last)?))
}

fn bits(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(subnet: &str, start: &str, end: &str) -> Result<String, String> {
        one(&IpRange { subnet: subnet.into(), range_start: start.into(), range_end: end.into() })
    }

    #[test]
    fn ranges_are_told_as_pools_have_them() {
        // The example of CONVENTIONS.md, with addresses for tests.
        assert_eq!(range("198.18.2.0/24", "198.18.2.3", "198.18.2.99").unwrap(), "198.18.2.3-198.18.2.99");
        assert_eq!(range("198.18.2.0/24", "", "").unwrap(), "198.18.2.0/24");
        assert_eq!(range("198.18.2.7/24", "198.18.2.200", "").unwrap(), "198.18.2.200-198.18.2.254");
        assert_eq!(range("198.18.2.0/24", "", "198.18.2.9").unwrap(), "198.18.2.1-198.18.2.9");
        assert_eq!(range("198.18.2.4/31", "198.18.2.4", "").unwrap(), "198.18.2.4-198.18.2.5");
        let v6 = range("2001:db8::/64", "2001:db8::10", "").unwrap();
        assert_eq!(v6, "2001:db8::10-2001:db8::ffff:ffff:ffff:ffff");
        assert_eq!(range("::/0", "2001:db8::10", "2001:db8::11").unwrap(), "2001:db8::10-2001:db8::11");
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        for (subnet, start) in [
            ("", ""),
            ("198.18.2.0", ""),
            ("198.18.2.0/33", ""),
            ("198.18.2.0/24", "198.18.3.1"),
            ("198.18.2.0/24", "::1"),
        ] {
            assert!(range(subnet, start, "").is_err(), "{subnet} {start}");
        }
    }
}
