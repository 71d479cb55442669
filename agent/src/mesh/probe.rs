//! The probe: a namespace of each node with a Port like a pod's, from which and to which the agents try whether pods
//! reach each other. Its address follows from the node's prefix, so that all others know it.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_proto::v1::{self, Resource, resource};

use super::{PODS, Subnet, object};

/// The probe's Namespace and Port.
pub const PROBE: &str = "weft-probe";

/// The probe's address in a prefix of a node's pods: the third that hosts may have, after the gateway's and the
/// node's own. None: the prefix is too small for pods.
pub fn probe_address(prefix: IpNet) -> Option<IpAddr> {
    prefix.hosts().filter(|address| *address != prefix.network()).nth(2)
}

/// The probe's Namespace and its Port on the Network of the pods.
pub(super) fn resources(subnets: &[Subnet]) -> [Resource; 2] {
    let address =
        |subnet: &Subnet| Some(format!("{}/{}", probe_address(subnet.prefix)?, subnet.prefix.prefix_len()));
    let namespace = v1::Namespace { spec: Some(v1::NamespaceSpec::default()), status: None };
    let port = v1::PortSpec {
        network: PODS.into(),
        namespace: PROBE.into(),
        r#type: v1::PortType::Tap.into(),
        addresses: subnets.iter().filter_map(address).collect(),
        default_route: true,
        queues: 1,
        ..Default::default()
    };
    [
        object(PROBE, resource::Kind::Namespace(namespace)),
        object(PROBE, resource::Kind::Port(v1::Port { spec: Some(port), status: None })),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_has_the_third_address_of_a_prefix() {
        for (prefix, expected) in [
            ("198.18.1.0/24", Some("198.18.1.3")),
            ("198.18.1.8/29", Some("198.18.1.11")),
            ("198.18.1.77/24", Some("198.18.1.3")),
            ("2001:db8:1::/64", Some("2001:db8:1::3")),
            ("198.18.1.0/30", None),
        ] {
            let address = probe_address(prefix.parse().unwrap());
            assert_eq!(address, expected.map(|text| text.parse().unwrap()), "{prefix}");
        }
    }
}
