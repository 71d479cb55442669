//! The immutable picture of the fabric that workers read.
//!
//! [`Config::build`] makes it from a [`FabricSpec`] and from the picture before it, from which it
//! takes over what must live on: port ids, counters, the FDB and the neighbour tables.

mod build;
mod far_end;
mod interface;
mod router;
mod spec;
mod static_neighbors;
mod switching;
mod tunnel;
mod vlans;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;

pub use build::ConfigError;
pub use far_end::TunnelView;
pub(crate) use far_end::{Carried, FarEnd, Means, Tunnels};
pub(crate) use interface::Interface;
pub(crate) use router::{Router, Target};
pub use spec::{
    AdvertisementSpec, BandwidthSpec, DhcpSpec, FabricSpec, Hop, MirrorSpec, MulticastSpec, NetworkSpec,
    Offloads, PolicyRule, PortSpec, RateSpec, RouteAction, RouteTable, RouterSpec, StaticMac, StaticRoute,
    StormLimits, SubnetSpec,
};
pub use static_neighbors::StaticNeighbors;
pub use tunnel::{
    Carrier, Encapsulation, GreSpec, Joins, TunnelSpec, VxlanRemote, VxlanSpec, WireGuardPeer, WireGuardSpec,
};
pub use vlans::{PortVlans, UNTAGGED, VlanSet};

use crate::MacAddr;
use crate::counters::{PortCounters, StackCounters};
use crate::limit::SharedBucket;
use crate::stage::loops::Guard;
use crate::stage::mirror::Mirror;
use crate::stage::neighbor::suppress::FarNeighbors;
use crate::stage::shape::{Bucket, Direction};
use crate::stage::storm::Storm;
use crate::table::fdb::{Fdb, Quota};
use crate::table::group::Groups;
use crate::table::reassembly::Reassembly;
use crate::time::Instant;
use crate::tunnel::Underlay;

/// Names a port in one life: a slot, and a count of the slot's uses, so that what was remembered of
/// an earlier port does not lead to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(u32);

impl PortId {
    const SLOT_BITS: u32 = 20;

    pub(crate) fn new(slot: usize, life: u32) -> PortId {
        PortId(life << Self::SLOT_BITS | slot as u32)
    }

    /// The slot, below 2^20; of the ports that exist at one time no two have the same.
    pub fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }

    pub(crate) fn to_u32(self) -> u32 {
        self.0
    }

    pub(crate) fn from_u32(number: u32) -> PortId {
        PortId(number)
    }
}

/// The picture.
#[derive(Debug, Default)]
pub struct Config {
    generation: u64,
    workers: usize,
    ports: Vec<Option<Arc<Port>>>,
    lives: Vec<u32>,
    names: HashMap<Arc<str>, PortId, RandomState>,
    pub(crate) networks: Vec<Network>,
    pub(crate) interfaces: Vec<Interface>,
    /// By id.
    interface_positions: HashMap<u32, usize, RandomState>,
    pub(crate) routers: Vec<Router>,
    next_interface: u32,
    /// Tells this node's frames from those of others that are configured alike.
    pub(crate) node_key: u64,
    /// There are mirrors of what ports get.
    pub(crate) mirrors_sent: bool,
    /// There are ports that get no more than so much.
    pub(crate) shapes_sent: bool,
    /// Fragments for any gateway.
    pub(crate) reassembly: Arc<Reassembly>,
    pub(crate) tunnels: Tunnels,
    underlays: Vec<Underlay>,
    /// How often what was told of a neighbour may have become wrong, in any table.
    pub(crate) neighbor_changes: Arc<AtomicU64>,
    counters: Arc<[StackCounters]>,
    /// Every port's device takes UDP super-packets.
    uso_everywhere: bool,
}

/// A port in the picture.
#[derive(Debug)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// Its name.
    pub name: Arc<str>,
    /// MAC address of the container's device.
    pub mac: MacAddr,
    /// Addresses of the container's device.
    pub addresses: Box<[IpAddr]>,
    /// The VLANs that it is on.
    pub vlans: PortVlans,
    /// Largest IP packet in octets.
    pub mtu: usize,
    /// Drop frames whose source is not this port's.
    pub source_check: bool,
    /// What passes the source check on IPv4 is from one of the port's own addresses.
    pub(crate) speaks_as_itself: bool,
    /// Put the segments and datagrams of a flow that arrive together into super-packets first.
    pub coalesce: bool,
    /// How much of what it sends may become new verdicts to replay, where somebody can replay those about what it sends
    /// and gets.
    pub(crate) replays: Option<Arc<SharedBucket>>,
    /// What the device takes.
    pub offloads: Offloads,
    /// It leads out of the node.
    pub uplink: bool,
    /// It may not exchange frames with other isolated ports.
    pub isolated: bool,
    /// Blocks it if it makes a loop, where it could.
    pub(crate) guard: Option<Arc<Guard>>,
    /// Who gets copies of its frames.
    pub(crate) mirror: Option<Mirror>,
    /// It gets copies of other ports' frames, and nothing else.
    pub(crate) is_mirror: bool,
    /// How many addresses are learned on it, where that is limited.
    pub(crate) quota: Option<Arc<Quota>>,
    /// How much of what goes to many it may send, where that is limited.
    pub(crate) storm: Option<Arc<Storm>>,
    /// How much its device may get, where that is limited.
    pub(crate) ingress_rate: Option<Arc<Bucket>>,
    /// How much its device may send, where that is limited.
    pub(crate) egress_rate: Option<Arc<Bucket>>,
    /// It is a tunnel's far end.
    pub(crate) far_end: Option<FarEnd>,
    /// Position in [`Config::networks`].
    pub(crate) network: usize,
    counters: Arc<[PortCounters]>,
}

impl Port {
    /// Whether it is an uplink that takes part in nothing, since another one leads to the same segment.
    pub fn is_blocked(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.is_blocked())
    }

    /// Octets of the largest IP packet that it takes now; of a WireGuard tunnel [`Config::mtu_to`] knows for each
    /// destination.
    #[inline]
    pub(crate) fn mtu_now(&self, now: Instant) -> usize {
        match &self.far_end {
            None => self.mtu,
            Some(far_end) => far_end.path.get(now).map_or(self.mtu, |path| path.min(self.mtu)),
        }
    }

    /// How much may go in a direction, where that is limited.
    pub(crate) fn rate(&self, direction: Direction) -> Option<&Arc<Bucket>> {
        match direction {
            Direction::Ingress => self.ingress_rate.as_ref(),
            Direction::Egress => self.egress_rate.as_ref(),
        }
    }

    /// Whether both are far ends of one tunnel, which all reach each other by themselves.
    pub(crate) fn is_beside(&self, other: &Port) -> bool {
        let tunnel = |port: &Port| port.far_end.as_ref().map(|far_end| far_end.tunnel);
        self.far_end.is_some() && tunnel(self) == tunnel(other)
    }

    /// A worker's counters of this port.
    pub fn counters(&self, worker: usize) -> &PortCounters {
        // Workers are counted from 0, and there is one set more, for traces: the last serves whoever is beyond.
        &self.counters[worker.min(self.counters.len() - 1)]
    }

    /// The counters of all workers.
    pub fn all_counters(&self) -> &[PortCounters] {
        &self.counters[..self.counters.len() - 1]
    }
}

/// A network in the picture.
#[derive(Debug)]
pub(crate) struct Network {
    pub name: Arc<str>,
    pub ageing: Duration,
    /// The router's interfaces here: VLAN, by which they are in order, and position in [`Config::interfaces`].
    pub interfaces: Vec<(u16, usize)>,
    /// Ports of one VLAN, by it, for flooding.
    pub members: HashMap<u16, Vec<PortId>, RandomState>,
    /// Ports of several VLANs.
    pub trunks: Vec<PortId>,
    /// MAC addresses that belong to a port by configuration.
    pub stations: HashMap<(u16, MacAddr), PortId, RandomState>,
    /// IP addresses that belong to a port by configuration.
    pub owners: HashMap<IpAddr, PortId, RandomState>,
    pub fdb: Arc<Fdb>,
    pub gateway_mac: MacAddr,
    /// Who listens to which group, where that is snooped.
    pub groups: Option<Arc<Groups>>,
    /// The stack asks for listeners itself.
    pub querier: bool,
    /// Who is behind tunnels, where questions for them are answered here.
    pub far_neighbors: Option<Arc<FarNeighbors>>,
    /// Ports that lead out of the node.
    pub uplinks: Vec<PortId>,
    /// VLANs that are known to be in use, ascending.
    pub vlans: Vec<u16>,
}

impl Network {
    /// The ports that may be on a VLAN: those of it alone, and every trunk.
    pub fn members(&self, vlan: u16) -> impl Iterator<Item = PortId> + '_ {
        self.members.get(&vlan).into_iter().flatten().chain(&self.trunks).copied()
    }
}

impl Config {
    /// Counts the pictures, from 1; 0 is the empty one that nobody built.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Moves on whenever a neighbour's address that was used may no longer be right, in this picture or in those that it
    /// follows on.
    pub fn neighbor_changes(&self) -> u64 {
        self.neighbor_changes.load(Ordering::Acquire)
    }

    /// How many workers the counters are for.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// A port, unless it is gone.
    pub fn port(&self, id: PortId) -> Option<&Arc<Port>> {
        self.ports.get(id.slot())?.as_ref().filter(|port| port.id == id)
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.ports.iter().flatten()
    }

    /// A port by name.
    pub fn port_by_name(&self, name: &str) -> Option<&Arc<Port>> {
        self.port(*self.names.get(name)?)
    }

    /// What a worker's stack did by itself.
    pub fn stack_counters(&self) -> &[StackCounters] {
        &self.counters[..self.counters.len().saturating_sub(1)]
    }

    /// The sockets of the node that the tunnels need, each kind once.
    pub fn underlays(&self) -> &[Underlay] {
        &self.underlays
    }

    /// Whether UDP datagrams may be put together: no device would need them cut again.
    pub(crate) fn coalesces_udp(&self) -> bool {
        self.uso_everywhere
    }

    pub(crate) fn counters_of(&self, worker: usize) -> &StackCounters {
        &self.counters[worker.min(self.counters.len() - 1)]
    }

    /// Sizes of a network's tables at this moment: MAC addresses known, neighbours known.
    pub fn table_sizes(&self, network: &str, now: Instant) -> Option<(usize, usize)> {
        let network = self.networks.iter().find(|candidate| &*candidate.name == network)?;
        let macs = network.stations.len() + network.fdb.len(now, network.ageing);
        let interfaces = network.interfaces.iter().map(|(_, at)| &self.interfaces[*at]);
        Some((macs, interfaces.map(|interface| interface.neighbors.len()).sum()))
    }

    /// How many multicast groups of a network have a listener, over all VLANs; 0 where that is not snooped.
    pub fn groups(&self, network: &str) -> Option<usize> {
        let network = self.networks.iter().find(|candidate| &*candidate.name == network)?;
        Some(network.groups.as_ref().map_or(0, |groups| groups.len()))
    }

    /// The router's interface on a VLAN of a network (by position).
    pub(crate) fn interface(&self, network: usize, vlan: u16) -> Option<&Interface> {
        let interfaces = &self.networks[network].interfaces;
        let at = interfaces.binary_search_by_key(&vlan, |(own, _)| *own).ok()?;
        Some(&self.interfaces[interfaces[at].1])
    }

    pub(crate) fn interface_by_id(&self, id: u32) -> Option<&Interface> {
        Some(&self.interfaces[self.interface_position(id)?])
    }

    /// Where in [`Config::interfaces`] an interface is.
    pub(crate) fn interface_position(&self, id: u32) -> Option<usize> {
        self.interface_positions.get(&id).copied()
    }
}
