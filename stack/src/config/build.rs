//! From a description and the picture before it to the next picture.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::far_end::{Extension, Link, extend};
use super::router::{Links, Router};
use super::switching::{destinations, groups, quota, random_key, rate, replays, storm};
use super::{
    Config, FabricSpec, Interface, Network, NetworkSpec, Port, PortId, PortSpec, PortVlans, RouterSpec,
    UNTAGGED,
};
use crate::counters::{PortCounters, StackCounters};
use crate::stage::shape::Direction;
use crate::table::fdb::Fdb;
use crate::table::neighbor::Neighbors;

/// The description contradicts itself. The control side checks its input, so this is a mistake there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A reference to a network that the description does not have.
    #[error("port {port} is on network {network}, which does not exist")]
    UnknownNetwork {
        /// Who refers to it.
        port: String,
        /// What is missing.
        network: String,
    },
    /// A reference to a router that the description does not have.
    #[error("network {network} hangs on router {router}, which does not exist")]
    UnknownRouter {
        /// Who refers to it.
        network: String,
        /// What is missing.
        router: String,
    },
    /// More ports than a [`PortId`] can tell apart.
    #[error("{0} ports are more than the {max} that fit", max = MAX_PORTS)]
    TooManyPorts(usize),
}

const MAX_PORTS: usize = 1 << PortId::SLOT_BITS;

impl Config {
    /// The picture of `spec`, for `workers` workers, taking over from `previous` what lives on.
    ///
    /// # Errors
    /// The description contradicts itself.
    pub fn build(
        spec: &FabricSpec,
        previous: Option<&Config>,
        workers: usize,
    ) -> Result<Config, ConfigError> {
        if spec.ports.len() > MAX_PORTS {
            return Err(ConfigError::TooManyPorts(spec.ports.len()));
        }
        let empty = Config::default();
        let previous = previous.filter(|config| config.workers == workers).unwrap_or(&empty);
        let mut config = Config {
            generation: previous.generation + 1,
            workers,
            lives: previous.lives.clone(),
            next_interface: previous.next_interface,
            node_key: if previous.node_key == 0 { random_key() } else { previous.node_key },
            uso_everywhere: spec.ports.iter().all(|port| port.offloads.uso),
            reassembly: previous.reassembly.clone(),
            neighbor_changes: previous.neighbor_changes.clone(),
            counters: if previous.counters.is_empty() {
                (0..=workers).map(|_| StackCounters::default()).collect()
            } else {
                previous.counters.clone()
            },
            ..Config::default()
        };
        let routers = positions(spec.routers.iter().map(|router| router.name.as_str()));
        let extension = extend(spec);
        for network in &spec.networks {
            config.add_network(network, previous, &routers)?;
        }
        for link in &extension.networks {
            config.add_link(link, previous, &routers)?;
        }
        config.place_ports(spec, &extension, previous)?;
        config.place_far_ends(spec, previous);
        config.place_mirrors(spec);
        config.place_guards(previous);
        config.place_static_macs(spec);
        config.list_vlans();
        config.routers = config.build_routers(spec, previous);
        config.forget_gone_ports(previous);
        Ok(config)
    }

    fn add_network(
        &mut self,
        spec: &NetworkSpec,
        previous: &Config,
        routers: &HashMap<&str, usize>,
    ) -> Result<(), ConfigError> {
        let before = previous.networks.iter().position(|network| *network.name == *spec.name);
        let fdb = before.map(|at| &previous.networks[at].fdb);
        let fdb = fdb.filter(|fdb| fdb.capacity() == spec.max_macs.max(1));
        let mut network = Network {
            name: spec.name.as_str().into(),
            ageing: spec.ageing,
            interfaces: Vec::new(),
            members: HashMap::default(),
            trunks: Vec::new(),
            stations: HashMap::default(),
            owners: HashMap::default(),
            gateway_mac: spec.gateway_mac,
            groups: groups(spec, before.map(|at| &previous.networks[at])),
            querier: spec.multicast.querier,
            far_neighbors: None,
            uplinks: Vec::new(),
            vlans: Vec::new(),
            fdb: fdb.cloned().unwrap_or_else(|| Arc::new(Fdb::new(spec.max_macs))),
        };
        if let Some(name) = &spec.router {
            let router = *routers.get(name.as_str()).ok_or_else(|| ConfigError::UnknownRouter {
                network: spec.name.clone(),
                router: name.clone(),
            })?;
            for subnet in spec.subnets.iter().filter(|subnet| subnet.gateway.is_some()) {
                if network.interfaces.iter().all(|(vlan, _)| *vlan != subnet.vlan) {
                    network.interfaces.push((subnet.vlan, self.interfaces.len()));
                    let same = before.and_then(|at| previous.interface(at, subnet.vlan));
                    self.add_interface(spec, (self.networks.len(), router), subnet.vlan, same);
                }
            }
        }
        network.interfaces.sort_unstable();
        self.networks.push(network);
        Ok(())
    }

    /// Adds a tunnel that is a link of a router.
    fn add_link(
        &mut self,
        link: &Link,
        previous: &Config,
        routers: &HashMap<&str, usize>,
    ) -> Result<(), ConfigError> {
        self.add_network(&link.network, previous, routers)?;
        let position = self.networks.len() - 1;
        if self.networks[position].interfaces.is_empty() {
            // Without an address of its own the router still sends by it.
            let router = link.network.router.as_deref().and_then(|name| routers.get(name));
            let before = previous.networks.iter().position(|network| *network.name == *link.network.name);
            let same = before.and_then(|at| previous.interface(at, UNTAGGED));
            let at = self.interfaces.len();
            self.networks[position].interfaces.push((UNTAGGED, at));
            self.add_interface(&link.network, (position, router.copied().unwrap_or(0)), UNTAGGED, same);
        }
        if let Some((_, at)) = self.networks[position].interfaces.first() {
            self.interfaces[*at].far = Some(link.far);
            self.interfaces[*at].routes = link.routes.clone();
        }
        Ok(())
    }

    /// Adds the router's interface on a VLAN of a network, which may be the one that is about to be added.
    fn add_interface(
        &mut self,
        spec: &NetworkSpec,
        (network, router): (usize, usize),
        vlan: u16,
        before: Option<&Interface>,
    ) {
        // Workers remember neighbours by the interface's id: another table is another interface to them.
        let same = before.filter(|interface| interface.neighbors.capacity() == spec.max_neighbors.max(1));
        let id = same.map_or(self.next_interface, |interface| interface.id);
        let neighbors = same.map(|interface| interface.neighbors.clone()).unwrap_or_else(|| {
            let seed = spec.gateway_mac.to_u64() ^ u64::from(id) << 48;
            Arc::new(Neighbors::new(spec.max_neighbors, seed, self.neighbor_changes.clone()))
        });
        let mut interface = Interface {
            id,
            network,
            vlan,
            router,
            mtu: spec.mtu as usize,
            mac: spec.gateway_mac,
            v4: Vec::new(),
            v6: Vec::new(),
            link_local: spec.gateway_mac.link_local(),
            neighbors,
            static_neighbors: spec.static_neighbors.clone(),
            defences: same.map(|interface| interface.defences.clone()).unwrap_or_default(),
            far: None,
            routes: Vec::new(),
            on_link: Vec::new(),
            advertisements: spec.advertisements.clone(),
            schedule: same.map(|interface| interface.schedule.clone()).unwrap_or_default(),
            proxy_neighbors: spec.proxy_neighbors,
            dhcp: spec.dhcp.clone(),
        };
        self.next_interface += u32::from(same.is_none());
        interface.take_addresses(spec);
        self.interface_positions.insert(id, self.interfaces.len());
        self.interfaces.push(interface);
    }

    fn place_ports(
        &mut self,
        spec: &FabricSpec,
        extension: &Extension,
        previous: &Config,
    ) -> Result<(), ConfigError> {
        let links = extension.networks.iter().map(|link| &link.network);
        let networks = positions(spec.networks.iter().chain(links).map(|network| network.name.as_str()));
        let mirrors = destinations(spec);
        self.ports = vec![None; previous.ports.len().max(spec.ports.len() + extension.ports.len())];
        let mut fresh = Vec::new();
        for port in spec.ports.iter().chain(&extension.ports) {
            let network = *networks.get(port.network.as_str()).ok_or_else(|| {
                ConfigError::UnknownNetwork { port: port.name.clone(), network: port.network.clone() }
            })?;
            match previous.port_by_name(&port.name) {
                // A port that changed its network is another one to the FDB.
                Some(old) if *previous.networks[old.network].name == *port.network => {
                    self.add_port(old.id, port, network, Some(old), mirrors.contains(port.name.as_str()));
                }
                _ => fresh.push((port, network)),
            }
        }
        let mut free = 0;
        for (port, network) in fresh {
            while self.ports.get(free).is_some_and(Option::is_some) {
                free += 1;
            }
            self.ports.resize(self.ports.len().max(free + 1), None);
            self.lives.resize(self.ports.len().max(self.lives.len()), 0);
            self.lives[free] = (self.lives[free] + 1) & (u32::MAX >> PortId::SLOT_BITS);
            let before = previous.port_by_name(&port.name);
            self.add_port(
                PortId::new(free, self.lives[free]),
                port,
                network,
                before,
                mirrors.contains(port.name.as_str()),
            );
        }
        self.lives.resize(self.ports.len().max(self.lives.len()), 0);
        Ok(())
    }

    fn add_port(
        &mut self,
        id: PortId,
        spec: &PortSpec,
        network: usize,
        before: Option<&Arc<Port>>,
        is_mirror: bool,
    ) {
        let name: Arc<str> = before.map_or_else(|| spec.name.as_str().into(), |port| port.name.clone());
        let counters = before.map(|port| port.counters.clone());
        let port = Port {
            id,
            name: name.clone(),
            mac: spec.mac,
            addresses: spec.addresses.clone().into(),
            vlans: spec.vlans.clone(),
            mtu: spec.mtu as usize,
            source_check: spec.source_check,
            speaks_as_itself: spec.source_check
                && spec.addresses.iter().any(IpAddr::is_ipv4)
                && !matches!(spec.vlans, PortVlans::Trunk { .. }),
            coalesce: spec.coalesce,
            replays: replays(spec, before),
            offloads: spec.offloads,
            uplink: spec.uplink,
            isolated: spec.isolated,
            guard: None,
            far_end: None,
            mirror: None,
            is_mirror,
            quota: quota(id, spec, before),
            storm: storm(spec, before),
            ingress_rate: rate(spec.bandwidth.ingress, Direction::Ingress, before),
            egress_rate: rate(spec.bandwidth.egress, Direction::Egress, before),
            network,
            counters: counters
                .unwrap_or_else(|| (0..=self.workers).map(|_| PortCounters::default()).collect()),
        };
        self.shapes_sent |= port.ingress_rate.is_some();
        self.ports[id.slot()] = Some(Arc::new(port));
        self.names.insert(name, id);
        if !is_mirror {
            self.connect(id, spec, network);
        }
    }

    /// Has frames find a port.
    fn connect(&mut self, id: PortId, spec: &PortSpec, network: usize) {
        let on = &mut self.networks[network];
        match &spec.vlans {
            PortVlans::Access(vlan) | PortVlans::Tunnel(vlan) => {
                on.members.entry(*vlan).or_default().push(id)
            }
            PortVlans::Trunk { .. } => on.trunks.push(id),
        }
        on.uplinks.extend(spec.uplink.then_some(id));
        on.stations.extend(spec.vlans.own().map(|vlan| ((vlan, spec.mac), id)));
        on.owners.extend(spec.addresses.iter().map(|address| (*address, id)));
    }

    fn build_routers(&self, spec: &FabricSpec, previous: &Config) -> Vec<Router> {
        let build = |(position, router): (usize, &RouterSpec)| {
            let before = previous.routers.iter().find(|before| before.name() == router.name);
            let port = |name: &str| self.port_by_name(name).map(|port| port.id);
            Router::build(router, Links::of(position, &self.interfaces), port, before)
        };
        spec.routers.iter().enumerate().map(build).collect()
    }

    fn forget_gone_ports(&self, previous: &Config) {
        for gone in previous.ports().filter(|port| self.port(port.id).is_none()) {
            let network = &previous.networks[gone.network];
            network.fdb.forget_port(gone.id);
            network.groups.as_ref().inspect(|groups| groups.forget_port(gone.id));
        }
    }

    /// Has what is known for good hold at once, where that is not the same as in `previous`. Each worker does so when it
    /// has let go of `previous`, by which it may just have looked a neighbour up.
    pub(crate) fn take_up_static_neighbors(&self, previous: &Config) {
        for interface in &self.interfaces {
            let Some(before) = previous.interface_by_id(interface.id) else { continue };
            let (known, before) = (&interface.static_neighbors, &before.static_neighbors);
            if !Arc::ptr_eq(known, before) && known != before {
                interface.neighbors.forget(|address, _, _| known.get(address).is_some());
                interface.neighbors.renew();
            }
        }
    }

    /// Forgets where the gateways found addresses whose station has gone or changed since `previous`, and asks again
    /// for those that a port has now.
    /// Each worker does so when it has let go of `previous`, by which it may just have asked once more.
    pub(crate) fn forget_moved_addresses(&self, previous: &Config) {
        let kept = |old: &Port| {
            self.port(old.id).filter(|port| (port.mac, &port.vlans) == (old.mac, &old.vlans)).cloned()
        };
        let is_moved = |old: &Port| kept(old).is_none_or(|port| port.addresses != old.addresses);
        let moved: Vec<&Arc<Port>> = previous.ports().filter(|old| is_moved(old)).collect();
        for interface in &previous.interfaces {
            let here: Vec<_> = moved.iter().filter(|old| old.network == interface.network).collect();
            if here.is_empty() {
                continue;
            }
            interface.neighbors.forget(|address, mac, told_by| {
                here.iter().any(|old| match kept(old) {
                    Some(port) => {
                        mac == old.mac
                            && old.addresses.contains(&address)
                            && !port.addresses.contains(&address)
                    }
                    None => mac == old.mac || told_by == Some(old.id),
                })
            });
        }
        for port in self
            .ports()
            .filter(|port| previous.port(port.id).is_none_or(|old| old.addresses != port.addresses))
        {
            let interface = port.vlans.own().and_then(|vlan| self.interface(port.network, vlan));
            let Some(interface) = interface else { continue };
            port.addresses.iter().for_each(|address| interface.neighbors.retry(*address));
        }
    }
}

fn positions<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    names.enumerate().map(|(index, name)| (name, index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn ports_keep_their_ids_and_counters_across_pictures() {
        let spec = testing::two_networks();
        let first = Config::build(&spec, None, 2).unwrap();
        let a1 = first.port_by_name("a1").unwrap();
        a1.counters(1).rx_packets.add(7);
        let mut fewer = spec.clone();
        fewer.ports.retain(|port| port.name != "a2");
        let second = Config::build(&fewer, Some(&first), 2).unwrap();
        assert_eq!(second.port_by_name("a1").unwrap().id, a1.id);
        assert_eq!(second.port_by_name("a1").unwrap().counters(1).rx_packets.get(), 7);
        assert_eq!((first.generation(), second.generation()), (1, 2));
    }

    #[test]
    fn a_slot_that_is_used_again_gives_another_id() {
        let spec = testing::two_networks();
        let first = Config::build(&spec, None, 1).unwrap();
        let old = first.port_by_name("a2").unwrap().id;
        let mut fewer = spec.clone();
        fewer.ports.retain(|port| port.name != "a2");
        let second = Config::build(&fewer, Some(&first), 1).unwrap();
        let third = Config::build(&spec, Some(&second), 1).unwrap();
        let new = third.port_by_name("a2").unwrap().id;
        assert_eq!(new.slot(), old.slot());
        assert_ne!(new, old);
        assert!(third.port(old).is_none());
    }

    #[test]
    fn an_interface_with_a_new_neighbour_table_is_another_one_to_the_workers() {
        let mut spec = testing::two_networks();
        let first = Config::build(&spec, None, 1).unwrap();
        let same = Config::build(&spec, Some(&first), 1).unwrap();
        spec.networks[0].max_neighbors += 1;
        let other = Config::build(&spec, Some(&same), 1).unwrap();
        let ids = |config: &Config| [config.interfaces[0].id, config.interfaces[1].id];
        assert_eq!((ids(&first), ids(&same), ids(&other)), ([0, 1], [0, 1], [2, 1]));
    }

    #[test]
    fn dangling_references_are_refused() {
        let mut spec = testing::two_networks();
        spec.ports[0].network = "nowhere".into();
        let error = Config::build(&spec, None, 1).unwrap_err();
        assert_eq!(error.to_string(), "port a1 is on network nowhere, which does not exist");
    }
}
