//! Routers: next hops are neighbours, connected subnets need no route, and rules name Ports that can match.

use std::net::IpAddr;

use super::{check_reference, live};
use crate::model::{
    Fabric, InterfaceAddress, Kind, Name, ObjectRef, Route, Router, Subnet, TunnelForm, Violation,
};

pub(super) fn check(fabric: &Fabric, found: &mut Vec<Violation>) {
    for (name, router) in live(&fabric.routers) {
        let spec = &router.spec;
        if spec.routes.is_empty() && spec.tables.is_empty() && spec.rules.is_empty() {
            continue;
        }
        let object = ObjectRef::new(Kind::Router, name.clone());
        let attached = attached(fabric, name);
        let links = links(fabric, name);
        check_routes(&object, "spec.routes", &spec.routes, (&attached, &links), found);
        for (index, route) in spec.routes.iter().enumerate() {
            if let Some((network, _)) = attached.iter().find(|(_, subnet)| subnet.prefix == route.prefix) {
                let path = format!("spec.routes[{index}].prefix");
                let description =
                    format!("{} is a subnet of Network/{network}, reachable without a route", route.prefix);
                found.push(Violation::new(&object, &path, description));
            }
        }
        for (index, table) in spec.tables.iter().enumerate() {
            check_routes(
                &object,
                &format!("spec.tables[{index}].routes"),
                &table.routes,
                (&attached, &links),
                found,
            );
        }
        check_rules(&object, spec, fabric, found);
    }
}

fn check_routes(
    object: &ObjectRef,
    path: &str,
    routes: &[Route],
    (attached, links): (&[(&Name, &Subnet)], &[InterfaceAddress]),
    found: &mut Vec<Violation>,
) {
    for (index, route) in routes.iter().enumerate() {
        for (hop, next) in route.next_hops().iter().enumerate() {
            if links.iter().any(|own| own.address != next.address && own.is_on_link(next.address)) {
                continue;
            }
            let Err(description) = is_neighbor(next.address, attached, &object.name) else { continue };
            let path = format!("{path}[{index}].nextHops[{hop}]");
            found.push(Violation::new(object, &path, description));
        }
    }
}

/// A rule for a Port that sends nothing to this Router would never match.
fn check_rules(object: &ObjectRef, router: &Router, fabric: &Fabric, found: &mut Vec<Violation>) {
    for (index, rule) in router.rules.iter().enumerate() {
        let Some(port) = &rule.port else { continue };
        let path = format!("spec.rules[{index}].port");
        check_reference(object, &path, Kind::Port, port, &fabric.ports, found);
        let network = fabric.ports.get(port).map(|port| &port.spec.network);
        let router = network.and_then(|network| fabric.networks.get(network)?.spec.router.as_ref());
        if network.is_some() && router != Some(&object.name) {
            let text = format!("Port/{port} is on no Network of this Router, so that the rule never matches");
            found.push(Violation::new(object, &path, text));
        }
    }
}

/// The subnets of the Networks on a Router.
fn attached<'a>(fabric: &'a Fabric, router: &Name) -> Vec<(&'a Name, &'a Subnet)> {
    live(&fabric.networks)
        .filter(|(_, network)| network.spec.router.as_ref() == Some(router))
        .flat_map(|(name, network)| network.spec.subnets.iter().map(move |subnet| (name, subnet)))
        .collect()
}

/// The addresses of a Router on links to a single far end: whatever is sent there reaches it.
fn links(fabric: &Fabric, router: &Name) -> Vec<InterfaceAddress> {
    let links = live(&fabric.tunnels).filter_map(|(_, tunnel)| match &tunnel.spec.form {
        TunnelForm::Gre { link, .. } if link.router == *router => Some(&link.addresses),
        _ => None,
    });
    links.flatten().copied().collect()
}

fn is_neighbor(address: IpAddr, attached: &[(&Name, &Subnet)], router: &Name) -> Result<(), String> {
    let Some((network, subnet)) = attached.iter().find(|(_, subnet)| subnet.prefix.contains(address)) else {
        return Err(format!("{address} is not inside a subnet of a Network on Router/{router}"));
    };
    match subnet.gateway {
        None => Err(format!(
            "{address} cannot be reached: its subnet {} of Network/{network} has no gateway",
            subnet.prefix
        )),
        Some(gateway) if gateway == address => {
            Err(format!("{address} is this Router's own address on Network/{network}"))
        }
        Some(_) => Ok(()),
    }
}
