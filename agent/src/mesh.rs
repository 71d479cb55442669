//! What the daemon of a node shall have, so that its pods and those of all other nodes reach each other.
//!
//! A pure function of the settings, this node and the nodes that are known. Telling the daemon is [`crate::program`]'s.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_proto::v1::{self, Resource, resource};

use crate::cluster::NodeRecord;
use crate::config::{AddressSource, Config, Mode};

mod overlay;
mod peer;
mod probe;
#[cfg(test)]
mod tests;

pub use peer::Refusal;
pub use probe::{PROBE, probe_address};

/// The label of all that the agent declares.
pub const OWNER_LABEL: (&str, &str) = ("weft.dev/owner", "agent");

/// The label that tells the mesh from what users declared.
const PART_LABEL: &str = "weft.dev/part";

/// What an object that the agent declares is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What lets pods reach each other.
    Mesh,
    /// What users declared.
    Declared,
}

impl Part {
    /// The labels that all objects of it have, and no others.
    pub fn labels(self) -> BTreeMap<String, String> {
        let part = match self {
            Part::Mesh => "mesh",
            Part::Declared => "declared",
        };
        [OWNER_LABEL, (PART_LABEL, part)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }
}

/// Names of what makes up the mesh.
pub const ROUTER: &str = "cluster";
/// The Network of the pods.
pub const PODS: &str = "pods";
/// The node's own Port on it.
pub const NODE_PORT: &str = "node";
/// The tunnel to the other nodes.
pub const MESH: &str = "mesh";
/// The Network of the nodes' routers, where VXLAN connects them.
pub const OVERLAY: &str = "overlay";

/// What pods cannot do without, by kind and name.
pub const PARTS: [(&str, &str); 5] =
    [("Router", ROUTER), ("Network", PODS), ("Port", NODE_PORT), ("Tunnel", MESH), ("Network", OVERLAY)];

/// Names that users cannot give to what they declare.
pub const RESERVED: [&str; 5] = [ROUTER, PODS, NODE_PORT, OVERLAY, MESH];

/// The device by which the node's kernel reaches pods.
const NODE_DEVICE: &str = "weft-node";

/// What the mesh is made by.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What carries packets from node to node.
    pub mode: Mode,
    /// UDP port.
    pub port: u16,
    /// The segment's name in VXLAN.
    pub vni: u32,
    /// Largest IP packet of a pod in octets; 0: the underlay's less what the tunnel takes.
    pub mtu: u32,
    /// Who says which addresses pods get.
    pub source: AddressSource,
    /// Prefixes of all pods; empty: those of the nodes.
    pub cluster: Vec<IpNet>,
    /// The outside sees the node's address.
    pub masquerade: bool,
    /// Destinations that see the pods' own.
    pub masquerade_except: Vec<IpNet>,
}

impl Settings {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Settings {
        Settings {
            mode: config.tunnel.mode,
            port: config.tunnel.port(),
            vni: config.tunnel.vni,
            mtu: config.tunnel.mtu,
            source: config.addresses.source,
            cluster: config.addresses.cluster.clone(),
            masquerade: config.addresses.masquerade,
            masquerade_except: config.addresses.masquerade_except.clone(),
        }
    }
}

/// This node.
#[derive(Debug, Clone, PartialEq)]
pub struct Own<'a> {
    /// Its name in the cluster.
    pub name: &'a str,
    /// Its addresses on the network that all nodes share, the preferred one first.
    pub addresses: &'a [IpAddr],
    /// Prefixes of its pods.
    pub pods: &'a [IpNet],
    /// Octets of the largest IP packet on the device that has its first address.
    pub underlay_mtu: u32,
    /// WireGuard: the public keys that it is known by.
    pub keys: &'a [String],
}

/// What the daemon shall have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    /// The objects.
    pub resources: Vec<Resource>,
    /// Nodes that are not reached, and why.
    pub refused: Vec<Refusal>,
    /// Largest IP packet of a pod in octets.
    pub mtu: u32,
}

impl Wish {
    /// Nodes that are not reached, by name, and why.
    pub fn unreached(&self) -> BTreeMap<String, String> {
        self.refused.iter().map(|it| (it.node.clone(), it.why.clone())).collect()
    }
}

/// Why this node can have no pods yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// It has no address.
    #[error("the node has no address yet: the cluster shows none, or none that pods can be reached by")]
    NoAddress,
    /// The cluster has given it no prefix for pods.
    #[error(
        "the node has no prefix for pods yet: its Node.spec.podCIDRs is empty; let kube-controller-manager allocate \
         them (--allocate-node-cidrs), or take addresses from pools"
    )]
    NoPrefix,
    /// It has no block for pods.
    #[error("the node has no block of addresses for pods yet: there is no pool, or none has a free block")]
    NoBlock,
    /// A prefix is too small.
    #[error("{0} is too small for pods: a prefix of at most {1} bits expected")]
    TooSmall(IpNet, u8),
}

/// What the daemon shall have.
pub fn wish<'a>(
    settings: &Settings,
    own: &Own<'_>,
    nodes: impl Iterator<Item = &'a NodeRecord>,
) -> Result<Wish, NotYet> {
    let first = *own.addresses.first().ok_or(NotYet::NoAddress)?;
    if own.pods.is_empty() {
        return Err(match settings.source {
            AddressSource::Node => NotYet::NoPrefix,
            AddressSource::Pools => NotYet::NoBlock,
        });
    }
    let subnets = own.pods.iter().map(|prefix| Subnet::of(*prefix)).collect::<Result<Vec<_>, _>>()?;
    let others = nodes.filter(|node| node.name != own.name);
    let (peers, refused) = peer::choose(settings.mode, own, others);
    // The largest that reaches every node.
    let v6 = first.is_ipv6() || peers.iter().any(|peer| peer.address.is_ipv6());
    let mtu = pod_mtu(settings, own.underlay_mtu, v6);
    let everywhere = everywhere(settings, own, &peers);
    let mut resources = vec![
        router(settings, &subnets, &peers),
        pods(settings, &subnets, mtu, &everywhere),
        node_port(settings, &subnets, &everywhere, &peers),
    ];
    resources.extend(probe::resources(&subnets));
    match settings.mode {
        Mode::Wireguard => resources.push(wireguard(settings, mtu, &peers)),
        Mode::Vxlan => resources.extend(overlay::resources(settings, own.name, mtu, &peers)),
        Mode::Routes => {}
    }
    Ok(Wish { resources, refused, mtu })
}

/// A prefix of pods, its gateway and the node's own address in it.
struct Subnet {
    prefix: IpNet,
    gateway: IpAddr,
    node: IpAddr,
}

impl Subnet {
    fn of(prefix: IpNet) -> Result<Subnet, NotYet> {
        let most = prefix.max_prefix_len() - 3;
        let mut hosts = prefix.hosts();
        // The first address of an IPv6 subnet is the routers' anycast address (RFC 4291 section 2.6.1).
        let mut next = || hosts.find(|address| *address != prefix.network());
        match (prefix.prefix_len() <= most, next(), next()) {
            (true, Some(gateway), Some(node)) => Ok(Subnet { prefix, gateway, node }),
            _ => Err(NotYet::TooSmall(prefix, most)),
        }
    }

    fn default_route(&self) -> &'static str {
        if self.prefix.network().is_ipv4() { "0.0.0.0/0" } else { "::/0" }
    }
}

/// What WireGuard and VXLAN take of a packet: IP, UDP, and their own.
fn overhead(mode: Mode, v6: bool) -> u32 {
    let ip = if v6 { 40 } else { 20 };
    match mode {
        Mode::Wireguard => ip + 8 + 32,
        Mode::Vxlan => ip + 8 + 8 + 14,
        Mode::Routes => 0,
    }
}

/// IPv6 needs 1280 octets, even where the way is narrower.
fn pod_mtu(settings: &Settings, underlay: u32, v6: bool) -> u32 {
    match settings.mtu {
        0 => underlay.saturating_sub(overhead(settings.mode, v6)).clamp(1280, 65_520),
        given => given,
    }
}

/// Prefixes of all pods, in as few as possible.
fn everywhere(settings: &Settings, own: &Own<'_>, peers: &[peer::Peer<'_>]) -> Vec<IpNet> {
    if !settings.cluster.is_empty() {
        return IpNet::aggregate(&settings.cluster);
    }
    let of_peers = peers.iter().flat_map(|peer| peer.pods.iter());
    let all: Vec<IpNet> = own.pods.iter().chain(of_peers).copied().collect();
    IpNet::aggregate(&all)
}

fn router(settings: &Settings, subnets: &[Subnet], peers: &[peer::Peer<'_>]) -> Resource {
    let mut seen = BTreeSet::new();
    let out = subnets.iter().filter(|subnet| seen.insert(subnet.default_route()));
    let mut routes: Vec<v1::Route> = out.map(|subnet| route(subnet.default_route(), subnet.node)).collect();
    if settings.mode == Mode::Vxlan {
        routes.extend(peers.iter().flat_map(overlay::routes));
    }
    object(
        ROUTER,
        resource::Kind::Router(v1::Router {
            spec: Some(v1::RouterSpec { routes, ..Default::default() }),
            status: None,
        }),
    )
}

fn route(prefix: &str, next_hop: IpAddr) -> v1::Route {
    v1::Route { prefix: prefix.into(), next_hops: vec![next_hop.to_string()], ..Default::default() }
}

fn pods(settings: &Settings, subnets: &[Subnet], mtu: u32, everywhere: &[IpNet]) -> Resource {
    let except = everywhere.iter().chain(&settings.masquerade_except).copied().collect::<Vec<_>>();
    let except = IpNet::aggregate(&except).iter().map(ToString::to_string).collect();
    let subnets = subnets.iter().map(|subnet| v1::Subnet {
        prefix: subnet.prefix.to_string(),
        gateway: subnet.gateway.to_string(),
        ..Default::default()
    });
    object(
        PODS,
        resource::Kind::Network(v1::Network {
            spec: Some(v1::NetworkSpec {
                router: ROUTER.into(),
                subnets: subnets.collect(),
                mtu,
                masquerade: settings.masquerade.then_some(v1::Masquerade { except }),
                ..Default::default()
            }),
            status: None,
        }),
    )
}

/// By this Port the node's kernel reaches all pods, and pods the outside.
fn node_port(
    settings: &Settings,
    subnets: &[Subnet],
    everywhere: &[IpNet],
    peers: &[peer::Peer<'_>],
) -> Resource {
    let mut spec = v1::PortSpec {
        network: PODS.into(),
        r#type: v1::PortType::Host.into(),
        device: NODE_DEVICE.into(),
        addresses: subnets
            .iter()
            .map(|subnet| format!("{}/{}", subnet.node, subnet.prefix.prefix_len()))
            .collect(),
        source_check: Some(false),
        ..Default::default()
    };
    match settings.mode {
        Mode::Routes => {
            spec.node_routes = peers.iter().flat_map(peer::Peer::node_routes).collect();
        }
        Mode::Wireguard | Mode::Vxlan => {
            let families: HashSet<bool> = subnets.iter().map(|subnet| subnet.gateway.is_ipv4()).collect();
            let own: HashSet<IpNet> = subnets.iter().map(|subnet| subnet.prefix).collect();
            let reached = everywhere.iter().filter(|prefix| families.contains(&prefix.network().is_ipv4()));
            // What is the Network's own needs no route.
            spec.routes = reached
                .filter(|prefix| !own.contains(prefix))
                .map(|prefix| v1::PortRoute { prefix: prefix.to_string(), via: String::new() })
                .collect();
        }
    }
    object(NODE_PORT, resource::Kind::Port(v1::Port { spec: Some(spec), status: None }))
}

fn wireguard(settings: &Settings, mtu: u32, peers: &[peer::Peer<'_>]) -> Resource {
    let peers = peers.iter().map(|peer| peer.wireguard()).collect();
    object(
        MESH,
        resource::Kind::Tunnel(v1::Tunnel {
            spec: Some(v1::TunnelSpec {
                router: ROUTER.into(),
                mtu,
                wireguard: Some(v1::WireGuard {
                    listen_port: settings.port.into(),
                    private_key: String::new(),
                    peers,
                }),
                ..Default::default()
            }),
            status: None,
        }),
    )
}

/// A resource with the agent's mark.
pub fn object(name: &str, kind: resource::Kind) -> Resource {
    let labels = Part::Mesh.labels();
    Resource {
        metadata: Some(v1::Metadata { name: name.into(), labels, ..Default::default() }),
        kind: Some(kind),
    }
}
