//! What the node's kernel translates: ports of the node that lead to a Port, and what containers send to outside.

use std::fmt;
use std::net::IpAddr;

use weft_stack::Prefix;

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
    /// SCTP (RFC 9260).
    Sctp,
}

impl Protocol {
    /// The protocol number that IP carries.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// What comes to a port of the node goes to a port of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortMapping {
    /// Of both ports.
    pub protocol: Protocol,
    /// Of the node, never 0.
    pub host_port: u16,
    /// Never 0.
    pub container_port: u16,
    /// Only what comes to this address of the node; `None`: to any, of the families that the Port has.
    pub host_address: Option<IpAddr>,
}

impl PortMapping {
    /// Whether both take the same connections, of which families each has addresses of its Port given.
    pub fn overlaps(&self, own: Families, other: &PortMapping, others: Families) -> bool {
        let same = (self.protocol, self.host_port) == (other.protocol, other.host_port);
        same && match (self.host_address, other.host_address) {
            (Some(one), Some(two)) => one == two,
            (Some(one), None) => others.has(one),
            (None, Some(two)) => own.has(two),
            (None, None) => (own.v4 && others.v4) || (own.v6 && others.v6),
        }
    }
}

/// As people name it: `8080/tcp` or `192.0.2.1:8080/tcp`.
impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            None => write!(f, "{}/{}", self.host_port, self.protocol),
            Some(IpAddr::V4(address)) => write!(f, "{address}:{}/{}", self.host_port, self.protocol),
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}/{}", self.host_port, self.protocol),
        }
    }
}

/// The families that a Port has addresses of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Of these addresses.
    pub fn of(addresses: impl Iterator<Item = IpAddr>) -> Families {
        addresses.fold(Families::default(), |seen, address| Families {
            v4: seen.v4 || address.is_ipv4(),
            v6: seen.v6 || address.is_ipv6(),
        })
    }

    /// Whether that of `address` is among them.
    pub fn has(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// What containers send to outside by way of the node gets the node's address there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Masquerade {
    /// Destinations that see the containers' own addresses.
    pub except: Vec<Prefix>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Families = Families { v4: true, v6: false };
    const V6: Families = Families { v4: false, v6: true };
    const BOTH: Families = Families { v4: true, v6: true };

    fn mapping(host_port: u16, host_address: Option<&str>) -> PortMapping {
        let host_address = host_address.map(|text| text.parse().unwrap());
        PortMapping { protocol: Protocol::Tcp, host_port, container_port: 80, host_address }
    }

    #[test]
    fn mappings_overlap_where_one_connection_could_go_to_both() {
        let (any, other_port) = (mapping(8080, None), mapping(8081, None));
        let (one, two) = (mapping(8080, Some("192.0.2.1")), mapping(8080, Some("192.0.2.2")));
        assert!(any.overlaps(BOTH, &any, V4) && any.overlaps(V4, &any, V4));
        assert!(!any.overlaps(V4, &any, V6) && !any.overlaps(V4, &other_port, V4));
        assert!(any.overlaps(V4, &one, V4) && one.overlaps(V4, &any, BOTH));
        assert!(!any.overlaps(V6, &one, V4) && !one.overlaps(V4, &two, V4));
        assert!(one.overlaps(V4, &one, V4));
        let udp = PortMapping { protocol: Protocol::Udp, ..any };
        assert!(!any.overlaps(V4, &udp, V4));
    }

    #[test]
    fn a_mapping_is_told_as_people_write_it() {
        assert_eq!(mapping(8080, None).to_string(), "8080/tcp");
        assert_eq!(mapping(80, Some("192.0.2.1")).to_string(), "192.0.2.1:80/tcp");
        assert_eq!(mapping(80, Some("2001:db8::1")).to_string(), "[2001:db8::1]:80/tcp");
    }
}
