//! The plain description that a snapshot is built from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::{PortVlans, StaticNeighbors, TunnelSpec};
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
    /// By which networks and routers reach far ends.
    pub tunnels: Vec<TunnelSpec>,
}

/// An L3 domain.
#[derive(Debug, Clone, Default)]
pub struct RouterSpec {
    /// Unique among routers.
    pub name: String,
    /// Routes beside the connected ones: the main table.
    pub routes: Vec<StaticRoute>,
    /// Further tables, for `rules`.
    pub tables: Vec<RouteTable>,
    /// Who looks into another table before the main one.
    pub rules: Vec<PolicyRule>,
}

/// A route that the user gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRoute {
    /// Destination.
    pub prefix: Prefix,
    /// What becomes of packets to it.
    pub action: RouteAction,
}

/// What a route does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RouteAction {
    /// Sends on by one of these; at least one, each in a subnet of a network on the same router. Those of an IPv4
    /// route may be IPv6 addresses (RFC 8950), not the other way round.
    Via(Vec<Hop>),
    /// Drops in silence.
    Blackhole,
    /// Drops and tells the sender that the destination cannot be reached.
    Unreachable,
    /// Drops and tells the sender that this is not allowed.
    Prohibit,
}

/// A next hop of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Its address.
    pub address: IpAddr,
    /// Its share of the flows beside the other hops' weights, 1 to 255.
    pub weight: u8,
}

/// A table of routes beside the main one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTable {
    /// Unique among the router's tables.
    pub name: String,
    /// What is in it.
    pub routes: Vec<StaticRoute>,
}

/// Sends what matches to a table. Where that has no route, the next rule counts, and at last the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// Lower ones are asked first.
    pub priority: u32,
    /// Packets from these addresses; `None`: all.
    pub source: Option<Prefix>,
    /// Packets that came in by this port; `None`: by any.
    pub port: Option<String>,
    /// The table's name.
    pub table: String,
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
    /// MAC address of the router's interfaces.
    pub gateway_mac: MacAddr,
    /// When a silent MAC address is forgotten.
    pub ageing: Duration,
    /// Bound of the FDB.
    pub max_macs: usize,
    /// Bound of the neighbour table of each of the router's interfaces.
    pub max_neighbors: usize,
    /// MAC addresses that belong to a port for good.
    pub static_macs: Vec<StaticMac>,
    /// Neighbours that the router's interfaces ask nobody for.
    pub static_neighbors: Arc<StaticNeighbors>,
    /// Which ports get which multicast groups.
    pub multicast: MulticastSpec,
    /// What the gateway tells IPv6 hosts; `None`: it is silent.
    pub advertisements: Option<AdvertisementSpec>,
    /// The gateway answers ARP and neighbour solicitations for addresses elsewhere that it has a route to.
    pub proxy_neighbors: bool,
    /// Ports get their configured IPv4 address by DHCP; `None`: they do not.
    pub dhcp: Option<DhcpSpec>,
}

/// An address block of a network.
#[derive(Debug, Clone)]
pub struct SubnetSpec {
    /// The block.
    pub prefix: Prefix,
    /// The router's address in it.
    pub gateway: Option<IpAddr>,
    /// The VLAN that it is on; 0 is untagged.
    pub vlan: u16,
}

/// An FDB entry that the user gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticMac {
    /// The address.
    pub mac: MacAddr,
    /// On this VLAN; 0 is untagged.
    pub vlan: u16,
    /// The name of the port where it is.
    pub port: String,
}

/// Multicast on a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MulticastSpec {
    /// Frames to a group go only to ports that asked for it (IGMP, MLD) and to those with a multicast router.
    pub snooping: bool,
    /// The stack asks for members itself where no other querier does.
    pub querier: bool,
}

/// Router advertisements (RFC 4861, RFC 8106).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdvertisementSpec {
    /// Seconds that the gateway may be the hosts' default router; 0: it may not.
    pub router_lifetime: u16,
    /// Hosts make themselves addresses in the subnets (RFC 4862).
    pub autonomous: bool,
    /// Name servers to tell of.
    pub dns: Vec<Ipv6Addr>,
    /// Domains to look short names up in.
    pub search: Vec<String>,
}

/// DHCPv4 (RFC 2131).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpSpec {
    /// How long a host may go without asking again.
    pub lease: Duration,
    /// Name servers to tell of.
    pub dns: Vec<Ipv4Addr>,
    /// The hosts' domain.
    pub domain: Option<String>,
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
    /// The VLANs that it is on.
    pub vlans: PortVlans,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// Drop frames whose MAC or IP source is not this port's.
    pub source_check: bool,
    /// What the device takes when the stack sends to it.
    pub offloads: Offloads,
    /// It leads out of the node.
    pub uplink: bool,
    /// MAC addresses that may be learned on it; `None`: as many as the network takes.
    pub max_macs: Option<u32>,
    /// It may exchange frames with ports that are not isolated, and with the gateway, only.
    pub isolated: bool,
    /// How much of what goes to many it may send.
    pub storm: StormLimits,
    /// A copy of its frames goes to another port.
    pub mirror: Option<MirrorSpec>,
    /// It is there for the copies of others' frames alone, also while none of those is.
    pub watches: bool,
    /// Segments and datagrams of one flow that arrive together are put together first.
    pub coalesce: bool,
    /// Somebody can replay verdicts about what it sends and gets: see [`crate::replay`].
    pub replay: bool,
    /// How much it may get and send.
    pub bandwidth: BandwidthSpec,
}

/// How much a port may get and send; `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BandwidthSpec {
    /// What its device gets.
    pub ingress: Option<RateSpec>,
    /// What its device sends.
    pub egress: Option<RateSpec>,
}

/// A token bucket with a queue. Ethernet frames are counted from their MAC addresses to the end of their payload, VLAN
/// tags included; a super-packet counts as the frames that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSpec {
    /// Bits a second, above 0.
    pub bits_per_second: u64,
    /// Bits that may go at once after a silence.
    pub burst_bits: u64,
    /// How long a frame may wait for those before it.
    pub queue: Duration,
}

/// Frames a second that a port may send to many; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StormLimits {
    /// To ff:ff:ff:ff:ff:ff.
    pub broadcast: Option<u32>,
    /// To other groups.
    pub multicast: Option<u32>,
    /// To addresses that are not known.
    pub unknown_unicast: Option<u32>,
}

/// Who watches a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorSpec {
    /// The port that gets the copies, which gets nothing else.
    pub to: String,
    /// Copy what the device sends.
    pub received: bool,
    /// Copy what it gets.
    pub sent: bool,
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
