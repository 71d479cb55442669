//! From the wish to what the forwarding stack is told: only the Ports that have an open end.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_stack::config::{
    FabricSpec, MirrorSpec, NetworkSpec, PolicyRule, PortSpec, RouteTable, RouterSpec, StaticMac,
    StaticRoute, SubnetSpec,
};

use super::place::is_uplink;
use super::sockets::{Sockets, Terms};
use crate::model::{Fabric, Name, Network, Object, Port, Route, Router};

pub mod tunnel;

/// The stack's picture of `fabric` with the devices that are open.
pub fn picture(fabric: &Fabric, sockets: &Sockets) -> FabricSpec {
    let ports = fabric.ports.iter().filter(|(_, port)| lives(port));
    let mirrors = ports.clone().filter_map(|(_, port)| port.spec.switching.mirror.as_ref());
    // Who watches is known by the wish: the Port that it watches may be without a device now.
    let watching: BTreeSet<&Name> = mirrors.map(|mirror| &mirror.to).collect();
    FabricSpec {
        tunnels: tunnel::tunnels(fabric),
        routers: fabric.routers.iter().filter(|(_, router)| lives(router)).map(router).collect(),
        networks: fabric.networks.iter().filter(|(_, network)| lives(network)).map(network).collect(),
        ports: ports
            .filter_map(|(name, port)| {
                let spec = port_spec(name, &port.spec, sockets.terms(name)?);
                Some(PortSpec { watches: watching.contains(name), ..spec })
            })
            .collect(),
    }
}

/// Whether an object is not being taken down.
pub fn lives<T>(object: &Object<T>) -> bool {
    object.metadata.deleting.is_none()
}

fn router((name, router): (&Name, &Arc<Object<Router>>)) -> RouterSpec {
    let spec = &router.spec;
    let tables = spec.tables.iter();
    let rules = spec.rules.iter().map(|rule| PolicyRule {
        priority: rule.priority,
        source: rule.source,
        port: rule.port.as_ref().map(Name::to_string),
        table: rule.table.to_string(),
    });
    RouterSpec {
        name: name.to_string(),
        routes: routes(&spec.routes),
        tables: tables
            .map(|it| RouteTable { name: it.name.to_string(), routes: routes(&it.routes) })
            .collect(),
        rules: rules.collect(),
    }
}

fn routes(routes: &[Route]) -> Vec<StaticRoute> {
    routes.iter().map(|it| StaticRoute { prefix: it.prefix, action: it.action.clone() }).collect()
}

fn network((name, network): (&Name, &Arc<Object<Network>>)) -> NetworkSpec {
    let (spec, services) = (&network.spec, &network.spec.services);
    let subnets = spec.subnets.iter();
    let static_macs = services.static_macs.iter();
    NetworkSpec {
        name: name.to_string(),
        router: spec.router.as_ref().map(Name::to_string),
        subnets: subnets
            .map(|it| SubnetSpec { prefix: it.prefix, gateway: it.gateway, vlan: it.vlan })
            .collect(),
        mtu: spec.mtu.get(),
        gateway_mac: spec.gateway_mac,
        ageing: spec.ageing,
        max_macs: spec.max_macs,
        max_neighbors: spec.max_neighbors,
        static_macs: static_macs
            .map(|it| StaticMac { mac: it.mac, vlan: it.vlan, port: it.port.to_string() })
            .collect(),
        static_neighbors: spec.static_neighbors.clone(),
        multicast: services.multicast,
        advertisements: services.advertisements.clone(),
        proxy_neighbors: services.proxy_neighbors,
        dhcp: services.dhcp.clone(),
    }
}

fn port_spec(name: &Name, port: &Port, terms: Terms) -> PortSpec {
    let switching = &port.switching;
    PortSpec {
        name: name.to_string(),
        network: port.network.to_string(),
        mac: port.mac,
        addresses: port.addresses.iter().map(|address| address.address).collect(),
        vlans: switching.vlans.clone(),
        mtu: terms.mtu.map_or(port.mtu.get(), |most| most.min(port.mtu.get())),
        source_check: switching.source_check,
        offloads: terms.offloads,
        uplink: is_uplink(port),
        max_macs: switching.max_macs,
        isolated: switching.isolated,
        storm: switching.storm,
        mirror: switching.mirror.as_ref().map(|mirror| MirrorSpec {
            to: mirror.to.to_string(),
            received: mirror.received,
            sent: mirror.sent,
        }),
        watches: false,
        coalesce: switching.coalesce,
        replay: terms.replay,
        bandwidth: port.bandwidth,
    }
}
