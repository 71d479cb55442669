//! Networks: their Router exists, and on one Router no two subnets overlap.

use std::collections::{BTreeMap, BTreeSet};

use weft_stack::Prefix;

use super::{check_reference, live};
use crate::model::{Fabric, Kind, Name, Network, ObjectRef, Violation};

/// A subnet and where it stands.
struct Block {
    prefix: Prefix,
    network: ObjectRef,
    index: usize,
}

pub(super) fn check(fabric: &Fabric, touched: &BTreeSet<ObjectRef>, found: &mut Vec<Violation>) {
    let mut routers: BTreeMap<&Name, Vec<Block>> = BTreeMap::new();
    for (name, network) in live(&fabric.networks) {
        check_static_macs(name, &network.spec, fabric, found);
        let Some(router) = &network.spec.router else { continue };
        let object = ObjectRef::new(Kind::Network, name.clone());
        check_reference(&object, "spec.router", Kind::Router, router, &fabric.routers, found);
        let blocks = routers.entry(router).or_default();
        blocks.extend(network.spec.subnets.iter().enumerate().map(|(index, subnet)| Block {
            prefix: subnet.prefix,
            network: object.clone(),
            index,
        }));
    }
    for (router, mut blocks) in routers {
        blocks.sort_by_key(|block| block.prefix);
        check_overlaps(router, &blocks, touched, found);
    }
    check_masqueraded(fabric, touched, found);
}

/// The Ports of static MAC addresses are on the Network.
fn check_static_macs(name: &Name, network: &Network, fabric: &Fabric, found: &mut Vec<Violation>) {
    let object = ObjectRef::new(Kind::Network, name.clone());
    for (index, entry) in network.services.static_macs.iter().enumerate() {
        let path = format!("spec.staticMacs[{index}].port");
        check_reference(&object, &path, Kind::Port, &entry.port, &fabric.ports, found);
        if let Some(port) = fabric.ports.get(&entry.port).filter(|port| port.spec.network != *name) {
            let text = format!(
                "Port/{} is on Network/{}, one of this Network expected",
                entry.port, port.spec.network
            );
            found.push(Violation::new(&object, &path, text));
        }
    }
}

/// The node's kernel tells Networks apart by their addresses alone.
fn check_masqueraded(fabric: &Fabric, touched: &BTreeSet<ObjectRef>, found: &mut Vec<Violation>) {
    let mut seen: Vec<(Prefix, &Option<Name>, ObjectRef)> = Vec::new();
    let masqueraded = live(&fabric.networks).filter(|(_, network)| network.spec.masquerade.is_some());
    for (name, network) in masqueraded {
        let (object, router) = (ObjectRef::new(Kind::Network, name.clone()), &network.spec.router);
        for subnet in &network.spec.subnets {
            let apart = |other: &Option<Name>| router.is_none() || other != router;
            let overlapping = seen.iter().find(|(prefix, other, network)| {
                prefix.overlaps(&subnet.prefix) && apart(other) && *network != object
            });
            if let Some((prefix, _, other)) = overlapping {
                let (blamed, (own, theirs), other) = match touched.contains(&object) {
                    true => (&object, (subnet.prefix, *prefix), other),
                    false => (other, (*prefix, subnet.prefix), &object),
                };
                let text = format!("{own} overlaps {theirs} of {other}, which is masqueraded too");
                found.push(Violation::new(blamed, "spec.masquerade", text));
            }
            seen.push((subnet.prefix, router, object.clone()));
        }
    }
}

/// In order, a block overlaps an earlier one exactly when it is inside the last one that is not itself
/// inside another.
fn check_overlaps(
    router: &Name,
    ordered: &[Block],
    touched: &BTreeSet<ObjectRef>,
    found: &mut Vec<Violation>,
) {
    let mut outer: Option<&Block> = None;
    for block in ordered {
        let Some(wider) = outer.filter(|wider| wider.prefix.overlaps(&block.prefix)) else {
            outer = Some(block);
            continue;
        };
        if wider.network == block.network {
            continue;
        }
        let (blamed, other) = match touched.contains(&block.network) {
            true => (block, wider),
            false => (wider, block),
        };
        let description = format!(
            "{} overlaps {} of {} on the same Router/{router}",
            blamed.prefix, other.prefix, other.network
        );
        found.push(Violation::new(
            &blamed.network,
            &format!("spec.subnets[{}].prefix", blamed.index),
            description,
        ));
    }
}
