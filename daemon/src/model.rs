//! The resources as types that cannot be invalid.
//!
//! [`parse`] turns the API's messages into these once, at the edge; nothing behind it
//! meets a bare string or number that could still be wrong.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use weft_stack::{MacAddr, Prefix};

pub use types::{DeviceName, Kind, Mtu, Name, ObjectRef, ValueError, VlanId};
pub use violation::Violation;

pub mod check;
pub mod parse;
mod types;
mod violation;

/// Everything that a node shall be, as of one revision of the store.
#[derive(Debug, Clone, Default)]
pub struct Fabric {
    /// The store's revision that this is a picture of.
    pub revision: u64,
    /// Network namespaces by name.
    pub namespaces: BTreeMap<Name, Object<Namespace>>,
    /// L2 segments by name.
    pub networks: BTreeMap<Name, Object<Network>>,
    /// Ports by name.
    pub ports: BTreeMap<Name, Object<Port>>,
    /// L3 domains by name.
    pub routers: BTreeMap<Name, Object<Router>>,
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
        }
    }

    /// Whether an object is there, but being taken down.
    pub fn is_going(&self, object: &ObjectRef) -> bool {
        self.metadata(object).is_some_and(|metadata| metadata.deleting.is_some())
    }
}

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
}

/// An address block of a Network.
#[derive(Debug, Clone, PartialEq)]
pub struct Subnet {
    /// The block.
    pub prefix: Prefix,
    /// The Router's address in it.
    pub gateway: Option<IpAddr>,
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
    /// Largest IP packet, at most the Network's.
    pub mtu: Mtu,
    /// Transmit queue length in packets.
    pub txqueuelen: u32,
    /// Queues of a TAP; `None`: one a worker.
    pub queues: Option<u32>,
    /// Access VLAN.
    pub vlan: Option<VlanId>,
    /// Drop frames with a source that is not this Port's.
    pub source_check: bool,
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
    /// Whether `other` is reached without a next hop.
    pub fn is_on_link(&self, other: IpAddr) -> bool {
        Prefix::containing(self.address, self.prefix_length).is_ok_and(|block| block.contains(other))
    }
}

impl Attachment {
    /// The Namespace it appears in; `None` is where the daemon runs.
    pub fn namespace(&self) -> Option<&Name> {
        match self {
            Attachment::Tap(name) | Attachment::Veth(name) => Some(name),
            Attachment::Host => None,
        }
    }
}

/// A route set in a Port's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRoute {
    /// Destination.
    pub prefix: Prefix,
    /// Next hop, on-link at the Port.
    pub via: IpAddr,
}

/// An L3 domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Router {
    /// Static routes.
    pub routes: Vec<Route>,
}

/// A static route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Destination.
    pub prefix: Prefix,
    /// At least one, each in a subnet of an attached Network.
    pub next_hops: Vec<IpAddr>,
}
