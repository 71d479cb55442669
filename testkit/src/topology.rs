//! The two topologies that most tests use, and the addresses in them.
//!
//! `one_network`: containers `a` and `b` on the Network `front`. `two_networks`: `a` on `front`, `b` on `back`,
//! both Networks on the Router `main`. A container has one Port of the same name with the device `eth0`.

use serde_json::{Value, json};

use crate::manifest::Manifest;

/// How a container is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// A TAP device.
    Tap,
    /// A veth pair.
    Veth,
}

impl PortKind {
    /// The pairs that every forwarding test runs over.
    pub const PAIRS: [(PortKind, PortKind); 3] =
        [(PortKind::Tap, PortKind::Tap), (PortKind::Tap, PortKind::Veth), (PortKind::Veth, PortKind::Veth)];

    /// The word in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            PortKind::Tap => "tap",
            PortKind::Veth => "veth",
        }
    }
}

/// IPv4 address of container `a` in both topologies.
pub const A4: &str = "198.18.1.10";
/// IPv6 address of container `a` in both topologies.
pub const A6: &str = "2001:db8:1::10";
/// IPv4 address of the gateway of `front`.
pub const FRONT_GATEWAY4: &str = "198.18.1.1";
/// IPv6 address of the gateway of `front`.
pub const FRONT_GATEWAY6: &str = "2001:db8:1::1";
/// IPv4 address of container `b` in `one_network`.
pub const NEAR_B4: &str = "198.18.1.11";
/// IPv6 address of container `b` in `one_network`.
pub const NEAR_B6: &str = "2001:db8:1::11";
/// IPv4 address of container `b` in `two_networks`.
pub const FAR_B4: &str = "198.18.2.11";
/// IPv6 address of container `b` in `two_networks`.
pub const FAR_B6: &str = "2001:db8:2::11";
/// MAC address of container `a`.
pub const A_MAC: &str = "02:00:00:00:00:0a";
/// MAC address of container `b`.
pub const B_MAC: &str = "02:00:00:00:00:0b";

/// Containers `a` and `b` on one Network, which has gateways.
pub fn one_network(a: PortKind, b: PortKind) -> Manifest {
    front()
        .namespace("a")
        .namespace("b")
        .port("a", port("front", "a", a, A_MAC, &[A4, A6]))
        .port("b", port("front", "b", b, B_MAC, &[NEAR_B4, NEAR_B6]))
}

/// Container `a` on one Network and `b` on another, joined by a Router.
pub fn two_networks(a: PortKind, b: PortKind) -> Manifest {
    front()
        .network("back", network("198.18.2.0/24", "198.18.2.1", "2001:db8:2::/64", "2001:db8:2::1"))
        .namespace("a")
        .namespace("b")
        .port("a", port("front", "a", a, A_MAC, &[A4, A6]))
        .port("b", port("back", "b", b, B_MAC, &[FAR_B4, FAR_B6]))
}

/// The Router `main` and the Network `front` on it.
pub fn front() -> Manifest {
    Manifest::new()
        .router("main")
        .network("front", network("198.18.1.0/24", FRONT_GATEWAY4, "2001:db8:1::/64", FRONT_GATEWAY6))
}

/// The spec of a Network on the Router `main`.
pub fn network(prefix4: &str, gateway4: &str, prefix6: &str, gateway6: &str) -> Value {
    json!({
        "router": "main",
        "subnets": [
            { "prefix": prefix4, "gateway": gateway4 },
            { "prefix": prefix6, "gateway": gateway6 },
        ],
    })
}

/// The spec of a Port with default routes; IPv4 addresses get /24 and IPv6 ones /64.
pub fn port(network: &str, namespace: &str, kind: PortKind, mac: &str, addresses: &[&str]) -> Value {
    let with_length = |a: &&str| if a.contains(':') { format!("{a}/64") } else { format!("{a}/24") };
    let addresses: Vec<String> = addresses.iter().map(with_length).collect();
    json!({
        "network": network,
        "namespace": namespace,
        "type": kind.name(),
        "mac": mac,
        "addresses": addresses,
        "defaultRoute": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_length_of_their_subnet() {
        let spec = port("n", "a", PortKind::Tap, A_MAC, &[A4, A6]);
        assert_eq!(spec["addresses"], json!(["198.18.1.10/24", "2001:db8:1::10/64"]));
        assert_eq!(spec["type"], "tap");
    }
}
