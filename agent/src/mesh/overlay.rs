//! VXLAN: the nodes' routers are neighbours on one segment, each with an address and a MAC address that follow from
//! the node's name. So all others know them, and nobody is asked.

use std::net::Ipv6Addr;

use weft_proto::v1::{self, Resource, resource};

use super::peer::Peer;
use super::{MESH, OVERLAY, ROUTER, Settings, object, route};
use crate::cluster::block;

/// The subnet of the routers, a unique local one (RFC 4193).
const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd77, 0x6566, 0x7400, 0, 0, 0, 0, 0);
const PREFIX_LENGTH: u8 = 64;

/// The Network of the routers, and the tunnel that joins it.
pub(super) fn resources(settings: &Settings, own: &str, mtu: u32, peers: &[Peer<'_>]) -> [Resource; 2] {
    let neighbors = peers.iter().map(|peer| v1::StaticNeighbor {
        address: router_address(&peer.record.name).to_string(),
        mac: router_mac(&peer.record.name),
    });
    let network = v1::NetworkSpec {
        router: ROUTER.into(),
        subnets: vec![v1::Subnet {
            prefix: format!("{PREFIX}/{PREFIX_LENGTH}"),
            gateway: router_address(own).to_string(),
            pool: Some(v1::AddressPool { disabled: true, ..Default::default() }),
            ..Default::default()
        }],
        mtu,
        gateway_mac: router_mac(own),
        static_neighbors: neighbors.collect(),
        ..Default::default()
    };
    let remotes = peers.iter().map(|peer| v1::VxlanRemote {
        address: peer.address.to_string(),
        macs: vec![router_mac(&peer.record.name)],
    });
    let tunnel = v1::TunnelSpec {
        network: OVERLAY.into(),
        mtu,
        vxlan: Some(v1::Vxlan {
            vni: Some(settings.vni),
            port: settings.port.into(),
            remotes: remotes.collect(),
            ..Default::default()
        }),
        ..Default::default()
    };
    [
        object(OVERLAY, resource::Kind::Network(v1::Network { spec: Some(network), status: None })),
        object(MESH, resource::Kind::Tunnel(v1::Tunnel { spec: Some(tunnel), status: None })),
    ]
}

/// The routes to a node's pods.
pub(super) fn routes(peer: &Peer<'_>) -> impl Iterator<Item = v1::Route> {
    let hop = router_address(&peer.record.name).into();
    peer.pods.iter().map(move |prefix| route(&prefix.to_string(), hop))
}

/// 64 bits that no two nodes share, but by a very rare chance. They follow from the name, which is the same to all who
/// look; by which address a node is reached depends on who asks.
fn number(node: &str) -> u64 {
    block::seed(node) | 1 << 63
}

fn router_address(node: &str) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(PREFIX) | u128::from(number(node)))
}

/// A locally administered unicast address.
fn router_mac(node: &str) -> String {
    let [.., a, b, c, d, e] = number(node).to_be_bytes();
    format!("02:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
}
