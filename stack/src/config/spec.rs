//! The plain description that a snapshot is built from.

use std::net::IpAddr;
use std::time::Duration;

use crate::{MacAddr, Prefix};

/// What the fabric shall be: checked by the control side, plain to build.
#[derive(Debug, Clone, Default)]
pub struct FabricSpec {
    /// L3 domains.
    pub routers: Vec<RouterSpec>,
    /// L2 segments.
    pub networks: Vec<NetworkSpec>,
    /// Where frames enter and leave.
    pub ports: Vec<PortSpec>,
}

/// An L3 domain.
#[derive(Debug, Clone)]
pub struct RouterSpec {
    /// Unique among routers.
    pub name: String,
    /// Routes beside the connected ones.
    pub routes: Vec<StaticRoute>,
}

/// A route that the user gave.
#[derive(Debug, Clone)]
pub struct StaticRoute {
    /// Destination.
    pub prefix: Prefix,
    /// At least one; each in a subnet of a network on the same router.
    pub next_hops: Vec<IpAddr>,
}

/// An L2 segment.
#[derive(Debug, Clone)]
pub struct NetworkSpec {
    /// Unique among networks.
    pub name: String,
    /// The router it hangs on.
    pub router: Option<String>,
    /// Its address blocks.
    pub subnets: Vec<SubnetSpec>,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// MAC address of the router's interface.
    pub gateway_mac: MacAddr,
    /// When a silent MAC address is forgotten.
    pub ageing: Duration,
    /// Bound of the FDB.
    pub max_macs: usize,
    /// Bound of the neighbour table.
    pub max_neighbors: usize,
}

/// An address block of a network.
#[derive(Debug, Clone)]
pub struct SubnetSpec {
    /// The block.
    pub prefix: Prefix,
    /// The router's address in it.
    pub gateway: Option<IpAddr>,
}

/// Where frames enter and leave.
#[derive(Debug, Clone)]
pub struct PortSpec {
    /// Unique among ports.
    pub name: String,
    /// The network it is on.
    pub network: String,
    /// The MAC address of the container's device.
    pub mac: MacAddr,
    /// The addresses of the container's device.
    pub addresses: Vec<IpAddr>,
    /// Access VLAN; `None` is untagged.
    pub vlan: Option<u16>,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// Drop frames whose MAC or IP source is not this port's.
    pub source_check: bool,
    /// What the device takes when the stack sends to it.
    pub offloads: Offloads,
}

/// What a device takes without help: the stack does the rest itself before it sends there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Partial checksums (VIRTIO_NET_HDR_F_NEEDS_CSUM).
    pub checksum: bool,
    /// TCP over IPv4 super-packets.
    pub tso4: bool,
    /// TCP over IPv6 super-packets.
    pub tso6: bool,
    /// TCP super-packets with ECN.
    pub tso_ecn: bool,
    /// UDP super-packets (VIRTIO_NET_HDR_GSO_UDP_L4).
    pub uso: bool,
}
