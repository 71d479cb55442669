//! Tunnels in the picture: their far ends as ports, the links of routers, and how what arrives finds them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{
    BandwidthSpec, Carrier, Config, Encapsulation, FabricSpec, GreSpec, Joins, MulticastSpec, NetworkSpec,
    Offloads, Port, PortId, PortSpec, PortVlans, StormLimits, SubnetSpec, TunnelSpec, UNTAGGED,
    WireGuardSpec,
};
use crate::time::Instant;
use crate::tunnel::Underlay;
use crate::tunnel::numbers::Numbers;
use crate::tunnel::path::PathMtu;
use crate::tunnel::peers::Ward;
use crate::tunnel::wireguard::{Device, OVERHEAD, PeerStatus};
use crate::wire::{ethernet, udp, vxlan};
use crate::{MacAddr, Prefix};

/// A tunnel takes what a device with all offloads takes.
const ALL: Offloads = Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true };

/// A tunnel in the picture.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub name: Arc<str>,
    /// Its far ends, in the order of the description.
    pub ports: Vec<PortId>,
    pub carrier: Carried,
    /// The name of the router that carries it.
    carrier_name: Option<Arc<str>>,
    pub local: Option<IpAddr>,
    pub means: Means,
}

/// What carries a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Carried {
    /// The sockets of the node.
    ByNode,
    /// A router (its position).
    ByRouter(usize),
}

/// How a tunnel encapsulates.
#[derive(Debug)]
pub(crate) enum Means {
    Vxlan {
        vni: u32,
        port: u16,
    },
    /// Of Ethernet frames, or of IP packets.
    Gre {
        spec: GreSpec,
        ethernet: bool,
    },
    WireGuard(Ward),
}

/// What a port that is a tunnel's far end has instead of a device.
#[derive(Debug, Clone)]
pub(crate) struct FarEnd {
    /// Position among the tunnels.
    pub tunnel: usize,
    /// Its address on the carrier; `None`: there are several behind it.
    pub address: Option<IpAddr>,
    /// What the way there carries; of several each peer knows its own.
    pub path: Arc<PathMtu>,
    pub numbers: Arc<Numbers>,
}

/// All tunnels, and how what arrives finds its port.
#[derive(Debug, Default)]
pub(crate) struct Tunnels {
    pub list: Vec<Tunnel>,
    /// By carrier, UDP port, VNI and far end.
    vxlan: HashMap<(Carried, u16, u32, IpAddr), PortId, RandomState>,
    /// By carrier, UDP port and far end: some port of its, to count on what it sends with a wrong VNI.
    vxlan_peers: HashMap<(Carried, u16, IpAddr), PortId, RandomState>,
    /// By far end and key.
    gre: HashMap<(IpAddr, Option<u32>), PortId, RandomState>,
    /// By far end.
    gre_peers: HashMap<IpAddr, PortId, RandomState>,
    /// By UDP port: the tunnel's port, and its position.
    wireguard: HashMap<u16, (PortId, usize), RandomState>,
}

impl Tunnels {
    pub fn vxlan(&self, carrier: Carried, port: u16, vni: u32, remote: IpAddr) -> Option<PortId> {
        self.vxlan.get(&(carrier, port, vni, remote)).copied()
    }

    /// A port of a far end that is known, though not with this VNI.
    pub fn vxlan_peer(&self, carrier: Carried, port: u16, remote: IpAddr) -> Option<PortId> {
        self.vxlan_peers.get(&(carrier, port, remote)).copied()
    }

    /// The WireGuard tunnel that listens on a UDP port.
    pub fn wireguard(&self, port: u16) -> Option<(PortId, &Ward)> {
        let (id, position) = self.wireguard.get(&port)?;
        self.list[*position].ward().map(|ward| (*id, ward))
    }

    /// When some WireGuard tunnel has something to do next.
    pub fn poll_at(&self) -> Option<Instant> {
        self.wards().filter_map(|(ward, _)| ward.device.poll_at()).min()
    }

    fn wards(&self) -> impl Iterator<Item = (&Ward, PortId)> {
        self.wireguard.values().filter_map(|(id, position)| Some((self.list[*position].ward()?, *id)))
    }

    /// The ports that are far ends at this address of the node's carrier, which all are reached by one way.
    pub fn at(&self, remote: IpAddr, config: &Config) -> impl Iterator<Item = Arc<Port>> {
        let by_node = self.list.iter().filter(|tunnel| tunnel.carrier == Carried::ByNode);
        let ports = by_node.flat_map(|tunnel| &tunnel.ports).filter_map(|id| config.port(*id).cloned());
        ports.filter(move |port| port.far_end.as_ref().is_some_and(|far| far.address == Some(remote)))
    }

    /// The WireGuard tunnels that have something to do.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = (&Ward, PortId)> {
        self.wards().filter(move |(ward, _)| ward.device.poll_at().is_some_and(|at| at <= now))
    }

    pub fn gre(&self, remote: IpAddr, key: Option<u32>) -> Option<PortId> {
        self.gre.get(&(remote, key)).copied()
    }

    /// A port of a far end that is known, though not with this key.
    pub fn gre_peer(&self, remote: IpAddr) -> Option<PortId> {
        self.gre_peers.get(&remote).copied()
    }
}

/// What tunnels add to the description: networks that are links of routers, and ports.
#[derive(Debug, Default)]
pub(super) struct Extension {
    pub networks: Vec<Link>,
    pub ports: Vec<PortSpec>,
}

/// A tunnel that is a link of a router.
#[derive(Debug)]
pub(super) struct Link {
    pub network: NetworkSpec,
    /// What is reached by it beside its own prefixes.
    pub routes: Vec<Prefix>,
    /// The MAC address that stands for the far end.
    pub far: MacAddr,
}

/// What the tunnels of `spec` are to switching and routing.
pub(super) fn extend(spec: &FabricSpec) -> Extension {
    let mut extension = Extension::default();
    for tunnel in &spec.tunnels {
        match &tunnel.joins {
            Joins::Network { network, vlan } => {
                let ports = far_ends(tunnel).map(|(name, _)| port(tunnel, name, network, *vlan));
                extension.ports.extend(ports);
            }
            Joins::Router { router, addresses, routes } => {
                let link = link(tunnel, router, addresses, routes);
                let ports =
                    far_ends(tunnel).map(|(name, _)| port(tunnel, name, &link.network.name, UNTAGGED));
                extension.ports.extend(ports);
                extension.networks.push(link);
            }
        }
    }
    extension
}

/// The ports of a tunnel: their names, and the far ends' addresses where each has one.
fn far_ends(tunnel: &TunnelSpec) -> impl Iterator<Item = (String, Option<IpAddr>)> + '_ {
    let (remotes, single): (&[_], _) = match &tunnel.encapsulation {
        Encapsulation::Vxlan(vxlan) => (&vxlan.remotes, None),
        Encapsulation::Gre(gre) => (&[], Some(Some(gre.remote))),
        Encapsulation::WireGuard(_) => (&[], Some(None)),
    };
    let several = remotes.iter().map(|far| (format!("{}/{}", tunnel.name, far.address), Some(far.address)));
    several.chain(single.map(|address| (tunnel.name.clone(), address)))
}

fn mac(name: &str) -> MacAddr {
    MacAddr::from_name("tunnel", name)
}

fn port(tunnel: &TunnelSpec, name: String, network: &str, vlan: u16) -> PortSpec {
    PortSpec {
        mac: mac(&name),
        name,
        network: network.to_owned(),
        addresses: Vec::new(),
        vlans: PortVlans::Access(vlan),
        mtu: tunnel.mtu,
        source_check: false,
        offloads: ALL,
        uplink: false,
        max_macs: None,
        isolated: false,
        storm: StormLimits::default(),
        mirror: None,
        watches: false,
        coalesce: true,
        replay: false,
        bandwidth: BandwidthSpec::default(),
    }
}

fn link(tunnel: &TunnelSpec, router: &str, addresses: &[(IpAddr, Prefix)], routes: &[Prefix]) -> Link {
    // No Network can be called that.
    let name = format!("tunnel/{}", tunnel.name);
    let subnet = |(own, prefix): &(IpAddr, Prefix)| SubnetSpec {
        prefix: *prefix,
        gateway: Some(*own),
        vlan: UNTAGGED,
    };
    let mut routes = routes.to_vec();
    if let Encapsulation::WireGuard(wireguard) = &tunnel.encapsulation {
        routes.extend(wireguard.peers.iter().flat_map(|peer| &peer.allowed).copied());
    }
    let network = NetworkSpec {
        gateway_mac: MacAddr::from_name("gateway", &name),
        name,
        router: Some(router.to_owned()),
        subnets: addresses.iter().map(subnet).collect(),
        mtu: tunnel.mtu,
        ageing: Duration::from_secs(300),
        max_macs: 1,
        max_neighbors: 1,
        static_macs: Vec::new(),
        static_neighbors: Arc::default(),
        multicast: MulticastSpec::default(),
        advertisements: None,
        proxy_neighbors: false,
        dhcp: None,
    };
    Link { network, routes, far: mac(&tunnel.name) }
}

/// What is known of a tunnel.
#[derive(Debug)]
pub struct TunnelView {
    /// The ports that are its far ends, in the order of its description.
    pub ports: Vec<Arc<Port>>,
    /// Octets of the largest IP packet that the way to each of these is known to carry inside; to each of its peers, if
    /// it is WireGuard.
    pub paths: Vec<Option<usize>>,
    /// Octets of the largest IP packet inside, where a way is known to carry less than the description says.
    pub mtu: Option<usize>,
    /// The address that it speaks from, where the description says which.
    pub local: Option<IpAddr>,
    /// Where its far ends are to which the node sends, as far as that is known.
    pub remotes: Vec<IpAddr>,
    /// The peers of a WireGuard tunnel, in the order of its description.
    pub peers: Option<Vec<PeerStatus>>,
}

impl Config {
    /// What is known at `now` of the tunnel of this name; `None`: there is none.
    pub fn tunnel(&self, name: &str, now: Instant) -> Option<TunnelView> {
        let position = self.tunnels.list.iter().position(|tunnel| *tunnel.name == *name)?;
        let tunnel = &self.tunnels.list[position];
        let ports = tunnel.ports.iter().filter_map(|id| self.port(*id).cloned());
        let ports: Vec<_> = ports.collect();
        let path = |port: &Arc<Port>| port.far_end.as_ref().and_then(|far_end| far_end.path.get(now));
        let paths: Vec<_> = match tunnel.ward() {
            Some(ward) => ward.device.path_mtus(now),
            None => ports.iter().map(path).collect(),
        };
        let mtu = paths.iter().flatten().min().copied();
        let peers = tunnel.ward().map(|ward| ward.device.status());
        let address = |port: &Arc<Port>| port.far_end.as_ref().and_then(|far_end| far_end.address);
        let remotes = match (&peers, tunnel.carrier) {
            (_, Carried::ByRouter(_)) => Vec::new(),
            (Some(peers), _) => peers.iter().filter_map(|peer| Some(peer.endpoint?.ip())).collect(),
            (None, _) => ports.iter().filter_map(address).collect(),
        };
        Some(TunnelView { ports, paths, mtu, local: tunnel.local, remotes, peers })
    }

    /// Octets of the largest IP packet for `destination` that a port takes now.
    #[inline]
    pub(crate) fn mtu_to(&self, port: &Port, destination: Option<IpAddr>, now: Instant) -> usize {
        match (&port.far_end, destination) {
            (Some(FarEnd { tunnel, address: None, .. }), Some(destination)) => {
                let ward = self.tunnels.list[*tunnel].ward();
                let path = ward.and_then(|ward| ward.device.path_mtu(destination, now));
                path.map_or(port.mtu, |path| path.min(port.mtu))
            }
            _ => port.mtu_now(now),
        }
    }

    /// Tells the ports that are far ends so, now that all are there. `spec` is what they were made of.
    pub(super) fn place_far_ends(&mut self, spec: &FabricSpec, previous: &Config) {
        let mut tunnels = Tunnels::default();
        for tunnel in &spec.tunnels {
            let position = tunnels.list.len();
            let Some(mut built) = self.build_tunnel(spec, tunnel, previous) else { continue };
            for (name, address) in far_ends(tunnel) {
                let Some(id) = self.port_by_name(&name).map(|port| port.id) else { continue };
                let before = previous.port(id).and_then(|port| port.far_end.clone());
                let same = before.filter(|before| before.address == address);
                let tunnel_before = same.as_ref().map(|same| &previous.tunnels.list[same.tunnel]);
                let goes_on = |which: fn(&Tunnel, &Tunnel) -> bool| {
                    same.as_ref().filter(|_| tunnel_before.is_some_and(|before| which(&built, before)))
                };
                let path =
                    goes_on(Tunnel::has_ways_of).map(|same| Arc::clone(&same.path)).unwrap_or_default();
                let numbers =
                    goes_on(Tunnel::has_numbers_of).map(|same| Arc::clone(&same.numbers)).unwrap_or_default();
                // Nobody else has the port yet.
                if let Some(port) = self.ports[id.slot()].as_mut().and_then(Arc::get_mut) {
                    port.far_end = Some(FarEnd { tunnel: position, address, path, numbers });
                }
                tunnels.enter(&built, id, address);
                built.ports.push(id);
            }
            self.place_far_macs(tunnel);
            self.place_far_neighbors(tunnel, previous);
            tunnels.list.push(built);
        }
        self.tunnels = tunnels;
        self.underlays = underlays(spec);
    }

    fn build_tunnel(&self, spec: &FabricSpec, tunnel: &TunnelSpec, previous: &Config) -> Option<Tunnel> {
        let carrier = match &tunnel.carrier {
            Carrier::Node => Carried::ByNode,
            Carrier::Router(name) => {
                Carried::ByRouter(spec.routers.iter().position(|router| router.name == *name)?)
            }
        };
        let means = match &tunnel.encapsulation {
            Encapsulation::Vxlan(vxlan) => Means::Vxlan { vni: vxlan.vni, port: vxlan.port },
            Encapsulation::Gre(spec) => {
                let ethernet = matches!(tunnel.joins, Joins::Network { .. });
                Means::Gre { spec: spec.clone(), ethernet }
            }
            Encapsulation::WireGuard(spec) => Means::WireGuard(ward(spec, tunnel, previous)),
        };
        Some(Tunnel {
            name: tunnel.name.as_str().into(),
            ports: Vec::new(),
            carrier,
            carrier_name: match &tunnel.carrier {
                Carrier::Node => None,
                Carrier::Router(name) => Some(name.as_str().into()),
            },
            local: tunnel.local,
            means,
        })
    }

    /// Has questions for who is behind a tunnel answered here, where that is wanted.
    fn place_far_neighbors(&mut self, tunnel: &TunnelSpec, previous: &Config) {
        let suppresses =
            matches!(&tunnel.encapsulation, Encapsulation::Vxlan(vxlan) if vxlan.suppress_neighbors);
        let Joins::Network { network: name, .. } = &tunnel.joins else { return };
        let network = self.networks.iter_mut().find(|network| *network.name == **name);
        if let Some(network) = network.filter(|_| suppresses) {
            let before = previous.networks.iter().find(|before| before.name == network.name);
            let known = before.and_then(|before| before.far_neighbors.clone());
            network.far_neighbors = Some(known.unwrap_or_default());
        }
    }

    /// Takes in the stations that are behind far ends for good.
    fn place_far_macs(&mut self, tunnel: &TunnelSpec) {
        let (Encapsulation::Vxlan(vxlan), Joins::Network { vlan, .. }) =
            (&tunnel.encapsulation, &tunnel.joins)
        else {
            return;
        };
        for ((name, _), remote) in far_ends(tunnel).zip(&vxlan.remotes) {
            let Some(port) = self.port_by_name(&name).cloned() else { continue };
            for mac in &remote.macs {
                self.networks[port.network].stations.entry((*vlan, *mac)).or_insert(port.id);
            }
        }
    }
}

impl Tunnels {
    fn enter(&mut self, tunnel: &Tunnel, port: PortId, remote: Option<IpAddr>) {
        let position = self.list.len();
        if let Some(ward) = tunnel.ward() {
            self.wireguard.insert(ward.listen_port, (port, position));
        }
        let (Some(remote), carrier) = (remote, tunnel.carrier) else { return };
        match &tunnel.means {
            Means::Vxlan { vni, port: udp } => {
                self.vxlan.insert((carrier, *udp, *vni, remote), port);
                self.vxlan_peers.entry((carrier, *udp, remote)).or_insert(port);
            }
            Means::Gre { spec: gre, .. } => {
                self.gre.insert((remote, gre.key), port);
                self.gre_peers.entry(remote).or_insert(port);
            }
            Means::WireGuard(_) => {}
        }
    }
}

impl Means {
    /// Octets that go between the outer IP header and an IP packet inside.
    pub fn added(&self) -> usize {
        match self {
            Means::Vxlan { .. } => udp::HEADER_LENGTH + vxlan::HEADER_LENGTH + ethernet::HEADER_LENGTH,
            Means::Gre { spec, ethernet: false } => spec.header(0).length(),
            Means::Gre { spec, ethernet: true } => spec.header(0).length() + ethernet::HEADER_LENGTH,
            Means::WireGuard(_) => udp::HEADER_LENGTH + OVERHEAD,
        }
    }
}

impl Tunnel {
    /// Whether what was found of the ways of `before`, which had the same far end, holds for this one: both go the same
    /// way, and have the same room inside.
    fn has_ways_of(&self, before: &Tunnel) -> bool {
        self.carrier_name == before.carrier_name
            && self.local == before.local
            && self.means.added() == before.means.added()
    }

    /// Whether packets are numbered on from those of `before`, which had the same far end: that takes them for ones of
    /// the same tunnel.
    fn has_numbers_of(&self, before: &Tunnel) -> bool {
        let (Means::Gre { spec, ethernet }, Means::Gre { spec: other, ethernet: other_ethernet }) =
            (&self.means, &before.means)
        else {
            return false;
        };
        self.carrier_name == before.carrier_name
            && (spec.key, spec.sequence, ethernet) == (other.key, other.sequence, other_ethernet)
    }

    /// What there is of it if it is WireGuard.
    pub fn ward(&self) -> Option<&Ward> {
        match &self.means {
            Means::WireGuard(ward) => Some(ward),
            Means::Vxlan { .. } | Means::Gre { .. } => None,
        }
    }
}

/// The device of a WireGuard tunnel: that of before, told anew, or a new one.
fn ward(spec: &WireGuardSpec, tunnel: &TunnelSpec, previous: &Config) -> Ward {
    // Whatever this begins is due at once: there is no clock in here.
    let now = Instant::default();
    let before = previous.tunnels.list.iter().find(|before| *before.name == *tunnel.name);
    let device = match before.and_then(Tunnel::ward) {
        Some(ward) => {
            ward.device.configure(now, spec, tunnel.mtu);
            Arc::clone(&ward.device)
        }
        None => Arc::new(Device::new(now, spec, tunnel.mtu)),
    };
    Ward { device, listen_port: spec.listen_port }
}

/// The kinds of sockets that the tunnels need, each once.
fn underlays(spec: &FabricSpec) -> Vec<Underlay> {
    let by_node = spec.tunnels.iter().filter(|tunnel| tunnel.carrier == Carrier::Node);
    let mut underlays: Vec<Underlay> = by_node
        .map(|tunnel| match &tunnel.encapsulation {
            Encapsulation::Vxlan(vxlan) => Underlay::Udp(vxlan.port),
            Encapsulation::Gre(_) => Underlay::Gre,
            Encapsulation::WireGuard(wireguard) => Underlay::Udp(wireguard.listen_port),
        })
        .collect();
    underlays.sort_unstable();
    underlays.dedup();
    underlays
}
