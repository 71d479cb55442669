//! Networks: their Router exists, and on one Router no two subnets overlap.

use std::collections::{BTreeMap, BTreeSet};

use weft_stack::Prefix;

use super::{check_reference, live};
use crate::model::{Fabric, Kind, Name, ObjectRef, Violation};

/// A subnet and where it stands.
struct Block {
    prefix: Prefix,
    network: ObjectRef,
    index: usize,
}

pub(super) fn check(fabric: &Fabric, touched: &BTreeSet<ObjectRef>, found: &mut Vec<Violation>) {
    let mut routers: BTreeMap<&Name, Vec<Block>> = BTreeMap::new();
    for (name, network) in live(&fabric.networks) {
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
