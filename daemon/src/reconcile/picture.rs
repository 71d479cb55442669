//! From the wish to what the forwarding stack is told: only the Ports that have an open end.

use weft_stack::config::{FabricSpec, NetworkSpec, PortSpec, RouterSpec, StaticRoute, SubnetSpec};

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
    let routes = routes.map(|route| StaticRoute { prefix: route.prefix, next_hops: route.next_hops.clone() });
    RouterSpec { name: name.to_string(), routes: routes.collect() }
}

fn network((name, network): (&Name, &Object<Network>)) -> NetworkSpec {
    let spec = &network.spec;
    let subnets = spec.subnets.iter();
    NetworkSpec {
        name: name.to_string(),
        router: spec.router.as_ref().map(Name::to_string),
        subnets: subnets.map(|s| SubnetSpec { prefix: s.prefix, gateway: s.gateway }).collect(),
        mtu: spec.mtu.get(),
        gateway_mac: spec.gateway_mac,
        ageing: spec.ageing,
        max_macs: spec.max_macs,
        max_neighbors: spec.max_neighbors,
    }
}

fn port_spec(name: &Name, port: &Port, open: &OpenPort) -> PortSpec {
    PortSpec {
        name: name.to_string(),
        network: port.network.to_string(),
        mac: port.mac,
        addresses: port.addresses.iter().map(|address| address.address).collect(),
        vlan: port.vlan.map(|vlan| vlan.get()),
        mtu: port.mtu.get(),
        source_check: port.source_check,
        offloads: open.offloads,
    }
}
