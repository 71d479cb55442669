//! The resources as types that cannot be invalid.
//!
//! [`parse`] turns the API's messages into these once, at the edge; nothing behind it
//! meets a bare string or number that could still be wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_stack::config::{
    AdvertisementSpec, BandwidthSpec, DhcpSpec, Hop, MulticastSpec, PortVlans, RouteAction, StaticNeighbors,
    StormLimits, VlanSet,
};
use weft_stack::{MacAddr, Prefix};

pub use addressing::{AddressPool, AddressRange, Addressing, Endpoint, Survivor, Survivors};
pub use difference::differences;
pub use keys::{GivenKeys, TunnelKeys};
pub use nat::{Masquerade, PortMapping, Protocol};
pub use tunnel::{Carrier, Gre, Link, Peer, Segment, Tunnel, TunnelForm, Vxlan, VxlanRemote, WireGuard};
pub use types::{DeviceName, Kind, Mtu, Name, ObjectRef, ValueError, VlanId, Vni, fnv1a, on_vlan};
pub use violation::Violation;

mod addressing;
pub mod check;
mod difference;
mod keys;
pub mod nat;
pub mod parse;
pub mod tunnel;
mod types;
mod violation;

/// Everything that a node shall be, as of one revision of the store.
#[derive(Debug, Clone, Default)]
pub struct Fabric {
    /// The store's revision that this is a picture of.
    pub revision: u64,
    /// Network namespaces by name.
    pub namespaces: Objects<Namespace>,
    /// L2 segments by name.
    pub networks: Objects<Network>,
    /// Ports by name.
    pub ports: Objects<Port>,
    /// L3 domains by name.
    pub routers: Objects<Router>,
    /// Tunnels by name.
    pub tunnels: Objects<Tunnel>,
    /// The secrets of WireGuard tunnels by name. They come from files of their own, not from the messages.
    pub keys: BTreeMap<Name, Arc<TunnelKeys>>,
    /// Devices whose Ports are not known, found in the kernel and left as they are.
    pub survivors: Arc<Survivors>,
}

impl Fabric {
    /// What every resource carries, of this object; `None` when there is no such object.
    pub fn metadata(&self, object: &ObjectRef) -> Option<&Metadata> {
        let name = &object.name;
        match object.kind {
            Kind::Namespace => self.namespaces.get(name).map(|object| &object.metadata),
            Kind::Network => self.networks.get(name).map(|object| &object.metadata),
            Kind::Port => self.ports.get(name).map(|object| &object.metadata),
            Kind::Router => self.routers.get(name).map(|object| &object.metadata),
            Kind::Tunnel => self.tunnels.get(name).map(|object| &object.metadata),
        }
    }

    /// Whether an object is there, but being taken down.
    pub fn is_going(&self, object: &ObjectRef) -> bool {
        self.metadata(object).is_some_and(|metadata| metadata.deleting.is_some())
    }
}

/// The objects of a kind by name. A revision shares with the one before what did not change.
pub type Objects<T> = BTreeMap<Name, Arc<Object<T>>>;

/// A stored resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<T> {
    /// What every resource carries.
    pub metadata: Metadata,
    /// What it shall be.
    pub spec: T,
}

/// What every resource carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// Unique within its kind.
    pub name: Name,
    /// For selection.
    pub labels: BTreeMap<String, String>,
    /// Unique for each life of an object.
    pub uid: String,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
    /// The store's revision at the last change.
    pub revision: u64,
    /// When it was first applied.
    pub created: SystemTime,
    /// Set while it is being taken down.
    pub deleting: Option<SystemTime>,
}

/// A network namespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Namespace {
    /// Weft makes it, under its netns directory.
    Make,
    /// It exists; Weft uses it and leaves it there.
    Adopt(PathBuf),
}

/// An L2 segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Address blocks, not overlapping.
    pub subnets: Vec<Subnet>,
    /// The Router it hangs on.
    pub router: Option<Name>,
    /// Largest IP packet.
    pub mtu: Mtu,
    /// When a silent MAC address is forgotten.
    pub ageing: Duration,
    /// Bound of the FDB.
    pub max_macs: usize,
    /// Bound of the neighbour table.
    pub max_neighbors: usize,
    /// MAC address of the gateway.
    pub gateway_mac: MacAddr,
    /// Whom the gateway asks nobody for.
    pub static_neighbors: Arc<StaticNeighbors>,
    /// What it does beside switching and routing.
    pub services: Services,
    /// Who gets which of its addresses.
    pub addressing: Addressing,
    /// What containers send to outside gets the node's address.
    pub masquerade: Option<Masquerade>,
}

/// What a Network does for its stations beside switching and routing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Services {
    /// MAC addresses that belong to a Port for good.
    pub static_macs: Vec<StaticMac>,
    /// Which Ports get which groups.
    pub multicast: MulticastSpec,
    /// What the gateway tells IPv6 hosts.
    pub advertisements: Option<AdvertisementSpec>,
    /// The gateway answers for addresses elsewhere.
    pub proxy_neighbors: bool,
    /// DHCPv4.
    pub dhcp: Option<DhcpSpec>,
}

/// An FDB entry.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticMac {
    /// The address.
    pub mac: MacAddr,
    /// On this VLAN; 0 is untagged.
    pub vlan: u16,
    /// Where it is.
    pub port: Name,
}

/// An address block of a Network.
#[derive(Debug, Clone, PartialEq)]
pub struct Subnet {
    /// The block.
    pub prefix: Prefix,
    /// The Router's address in it.
    pub gateway: Option<IpAddr>,
    /// The VLAN that it is on; 0 is untagged.
    pub vlan: u16,
    /// What may be given out of it; `None`: nothing.
    pub pool: Option<AddressPool>,
}

/// A device on a Network.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// The Network it is on.
    pub network: Name,
    /// What it is and where it appears.
    pub attachment: Attachment,
    /// Device name where it appears.
    pub device: DeviceName,
    /// MAC address of that device.
    pub mac: MacAddr,
    /// Addresses of that device.
    pub addresses: Vec<InterfaceAddress>,
    /// Routes beside the device, default routes included; `via` is always filled in.
    pub routes: Vec<PortRoute>,
    /// Routes of the node by devices that are not Weft's, of a `host` Port; no prefix twice.
    pub node_routes: Vec<PortRoute>,
    /// Largest IP packet, at most the Network's.
    pub mtu: Mtu,
    /// Transmit queue length in packets.
    pub txqueuelen: u32,
    /// Receive queues; `None`: one a worker for a TAP, one for a packet socket.
    pub queues: Option<u32>,
    /// Its part in switching.
    pub switching: Switching,
    /// The container that it was made for.
    pub endpoint: Option<Endpoint>,
    /// Ports of the node that lead to it.
    pub mappings: Vec<PortMapping>,
    /// How much it may get and send.
    pub bandwidth: BandwidthSpec,
}

/// A Port's part in switching.
#[derive(Debug, Clone, PartialEq)]
pub struct Switching {
    /// The VLANs that it is on.
    pub vlans: PortVlans,
    /// Drop frames with a source that is not this Port's.
    pub source_check: bool,
    /// Bound of the MAC addresses learned on it.
    pub max_macs: Option<u32>,
    /// It exchanges nothing with other isolated Ports.
    pub isolated: bool,
    /// How much of what goes to many it may send.
    pub storm: StormLimits,
    /// Who watches it.
    pub mirror: Option<Mirror>,
    /// Segments that come together are put together.
    pub coalesce: bool,
}

impl Default for Switching {
    /// An untagged Port whose sources are checked, without limits.
    fn default() -> Self {
        Switching {
            vlans: PortVlans::default(),
            source_check: true,
            max_macs: None,
            isolated: false,
            storm: StormLimits::default(),
            mirror: None,
            coalesce: true,
        }
    }
}

impl Switching {
    /// Whether frames without a tag are the Port's, and the VLANs of those with one that are.
    pub fn on_the_wire(&self) -> (bool, VlanSet) {
        match &self.vlans {
            PortVlans::Access(_) => (true, VlanSet::default()),
            PortVlans::Tunnel(_) => (true, (0..=u16::MAX).collect()),
            PortVlans::Trunk { native, allowed } => (native.is_some(), (**allowed).clone()),
        }
    }
}

/// Who watches a Port.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// The Port that gets the copies.
    pub to: Name,
    /// Of what the device sends.
    pub received: bool,
    /// Of what it gets.
    pub sent: bool,
}

/// What a Port is, and where it appears.
#[derive(Debug, Clone, PartialEq)]
pub enum Attachment {
    /// A TAP device in this Namespace.
    Tap(Name),
    /// A veth pair with one end in this Namespace.
    Veth(Name),
    /// A TAP device where the daemon runs.
    Host,
    /// A network card that exists where the daemon runs.
    Uplink,
}

/// An address with the length of its subnet's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceAddress {
    /// The address itself.
    pub address: IpAddr,
    /// Leading bits of the on-link prefix.
    pub prefix_length: u8,
}

impl InterfaceAddress {
    /// The addresses that are reached without a next hop; `None` for a length that the family does not have.
    pub fn on_link(&self) -> Option<Prefix> {
        Prefix::containing(self.address, self.prefix_length).ok()
    }

    /// Whether `other` is reached without a next hop.
    pub fn is_on_link(&self, other: IpAddr) -> bool {
        self.on_link().is_some_and(|block| block.contains(other))
    }
}

impl Attachment {
    /// The Namespace it appears in; `None` is where the daemon runs.
    pub fn namespace(&self) -> Option<&Name> {
        match self {
            Attachment::Tap(name) | Attachment::Veth(name) => Some(name),
            Attachment::Host | Attachment::Uplink => None,
        }
    }
}

/// A route set in a Port's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRoute {
    /// Destination.
    pub prefix: Prefix,
    /// Next hop: on-link at the Port, or for a route of the node on a link of its own.
    pub via: IpAddr,
}

/// An L3 domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Router {
    /// Static routes: the main table.
    pub routes: Vec<Route>,
    /// Further tables.
    pub tables: Vec<RouteTable>,
    /// Who looks into them, the first to ask first.
    pub rules: Vec<PolicyRule>,
}

/// A table of routes beside the main one.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteTable {
    /// Unique within the Router.
    pub name: Name,
    /// What is in it.
    pub routes: Vec<Route>,
}

/// Who looks into a table before the main one.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRule {
    /// Lower ones are asked first.
    pub priority: u32,
    /// Packets from these addresses.
    pub source: Option<Prefix>,
    /// Packets that came in by this Port.
    pub port: Option<Name>,
    /// The table's name.
    pub table: Name,
}

/// A static route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Destination.
    pub prefix: Prefix,
    /// What becomes of packets to it; next hops are in subnets of attached Networks.
    pub action: RouteAction,
}

impl Route {
    /// The next hops, where there are any.
    pub fn next_hops(&self) -> &[Hop] {
        match &self.action {
            RouteAction::Via(hops) => hops,
            RouteAction::Blackhole | RouteAction::Unreachable | RouteAction::Prohibit => &[],
        }
    }
}
