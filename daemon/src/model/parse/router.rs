//! A Router from its message.

use std::net::IpAddr;

use weft_proto::v1;
use weft_stack::Prefix;

use super::unicast;
use crate::model::violation::Findings;
use crate::model::{ObjectRef, Route, Router, Violation};

pub(super) fn parse(object: &ObjectRef, message: Option<&v1::RouterSpec>) -> Result<Router, Vec<Violation>> {
    let mut findings = Findings::of(object);
    let mut routes: Vec<Route> = Vec::new();
    for (index, message) in message.map_or(&[][..], |spec| &spec.routes).iter().enumerate() {
        let path = format!("spec.routes[{index}].prefix");
        let prefix = findings.value(&path, message.prefix.parse::<Prefix>());
        let next_hops = next_hops(index, &message.next_hops, prefix, &mut findings);
        let Some(prefix) = prefix else { continue };
        if routes.iter().any(|other| other.prefix == prefix) {
            findings.add(
                &path,
                format_args!("{prefix} has a route already, one with several next hops expected"),
            );
        }
        routes.push(Route { prefix, next_hops });
    }
    findings.finish(Some(Router { routes }))
}

fn next_hops(
    route: usize,
    texts: &[String],
    prefix: Option<Prefix>,
    findings: &mut Findings<'_>,
) -> Vec<IpAddr> {
    if texts.is_empty() {
        findings.add(&format!("spec.routes[{route}].nextHops"), "empty, at least one address expected");
    }
    let mut next_hops = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let path = format!("spec.routes[{route}].nextHops[{index}]");
        let Some(address) = findings.value(&path, unicast(text)) else { continue };
        if let Some(prefix) = prefix.filter(|prefix| prefix.is_ipv4() != address.is_ipv4()) {
            findings.add(&path, format_args!("{address} is not of the same family as {prefix}"));
        } else if next_hops.contains(&address) {
            findings.add(&path, format_args!("{address} is given twice"));
        }
        next_hops.push(address);
    }
    next_hops
}
