//! Routers: next hops are neighbours, and connected subnets need no route.

use std::net::IpAddr;

use super::live;
use crate::model::{Fabric, Kind, Name, ObjectRef, Subnet, Violation};

pub(super) fn check(fabric: &Fabric, found: &mut Vec<Violation>) {
    for (name, router) in live(&fabric.routers) {
        if router.spec.routes.is_empty() {
            continue;
        }
        let object = ObjectRef::new(Kind::Router, name.clone());
        let attached = attached(fabric, name);
        for (index, route) in router.spec.routes.iter().enumerate() {
            if let Some((network, _)) = attached.iter().find(|(_, subnet)| subnet.prefix == route.prefix) {
                let path = format!("spec.routes[{index}].prefix");
                let description =
                    format!("{} is a subnet of Network/{network}, reachable without a route", route.prefix);
                found.push(Violation::new(&object, &path, description));
            }
            for (hop, address) in route.next_hops.iter().enumerate() {
                let Err(description) = is_neighbor(*address, &attached, name) else { continue };
                let path = format!("spec.routes[{index}].nextHops[{hop}]");
                found.push(Violation::new(&object, &path, description));
            }
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
