//! From the wish to what the forwarding stack is told: only the Ports that have an open end.

use weft_stack::config::{
    FabricSpec, Hop, MulticastSpec, NetworkSpec, PortSpec, PortVlans, RouteAction, RouterSpec, StaticRoute,
    StormLimits, SubnetSpec, UNTAGGED,
};

use super::sockets::{OpenPort, Sockets};
use crate::model::{Fabric, Name, Network, Object, Port, Router};

/// The stack's picture of `fabric` with the devices that are open.
pub fn picture(fabric: &Fabric, sockets: &Sockets) -> FabricSpec {
    let ports = fabric.ports.iter().filter(|(_, port)| lives(port));
    FabricSpec {
        routers: fabric.routers.iter().filter(|(_, router)| lives(router)).map(router).collect(),
        networks: fabric.networks.iter().filter(|(_, network)| lives(network)).map(network).collect(),
        ports: ports
            .filter_map(|(name, port)| Some(port_spec(name, &port.spec, sockets.get(name)?)))
            .collect(),
    }
}

/// Whether an object is not being taken down.
pub fn lives<T>(object: &Object<T>) -> bool {
    object.metadata.deleting.is_none()
}

fn router((name, router): (&Name, &Object<Router>)) -> RouterSpec {
    let routes = router.spec.routes.iter();
    let routes = routes.map(|route| {
        let hops = route.next_hops.iter().map(|address| Hop { address: *address, weight: 1 });
        StaticRoute { prefix: route.prefix, action: RouteAction::Via(hops.collect()) }
    });
    RouterSpec { name: name.to_string(), routes: routes.collect(), ..RouterSpec::default() }
}

fn network((name, network): (&Name, &Object<Network>)) -> NetworkSpec {
    let spec = &network.spec;
    let subnets = spec.subnets.iter();
    NetworkSpec {
        name: name.to_string(),
        router: spec.router.as_ref().map(Name::to_string),
        subnets: subnets
            .map(|s| SubnetSpec { prefix: s.prefix, gateway: s.gateway, vlan: UNTAGGED })
            .collect(),
        mtu: spec.mtu.get(),
        gateway_mac: spec.gateway_mac,
        ageing: spec.ageing,
        max_macs: spec.max_macs,
        max_neighbors: spec.max_neighbors,
        static_macs: Vec::new(),
        multicast: MulticastSpec::default(),
        advertisements: None,
        proxy_neighbors: false,
        dhcp: None,
    }
}

fn port_spec(name: &Name, port: &Port, open: &OpenPort) -> PortSpec {
    PortSpec {
        name: name.to_string(),
        network: port.network.to_string(),
        mac: port.mac,
        addresses: port.addresses.iter().map(|address| address.address).collect(),
        vlans: PortVlans::Access(port.vlan.map_or(UNTAGGED, |vlan| vlan.get())),
        mtu: port.mtu.get(),
        source_check: port.source_check,
        offloads: open.offloads,
        uplink: false,
        max_macs: None,
        isolated: false,
        storm: StormLimits::default(),
        mirror: None,
        coalesce: false,
    }
}
