//! A resource as the API shows it: what the user gave, what the reconciler saw, what is counted now.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_proto::v1;

use super::{Node, tunnel_status};
use crate::dataplane::PortTotals;
use crate::ipam::Usage;
use crate::model::tunnel::ASSUMED_PATH;
use crate::model::{Name, ObjectRef};
use crate::status::{Observed, Report, Status};
use crate::store::Picture;

/// Puts the status on a stored message.
pub(super) fn shown(
    node: &Node,
    picture: &Picture,
    object: &ObjectRef,
    stored: &v1::Resource,
) -> v1::Resource {
    let mut resource = stored.clone();
    let status = node.status.get(object);
    let conditions = vec![ready(status.as_ref(), stored)];
    let report = status.map(|status| status.report);
    match &mut resource.kind {
        Some(v1::resource::Kind::Namespace(it)) => it.status = Some(namespace(conditions, report)),
        Some(v1::resource::Kind::Network(it)) => {
            it.status = Some(network(node, picture, &object.name, conditions, report));
        }
        Some(v1::resource::Kind::Port(it)) => {
            it.status = Some(port(node, picture, &object.name, conditions, report));
        }
        Some(v1::resource::Kind::Router(it)) => it.status = Some(router(conditions, report)),
        Some(v1::resource::Kind::Tunnel(it)) => {
            it.status = tunnel(node, picture, &object.name, conditions, report);
        }
        None => {}
    }
    resource
}

/// The condition that every kind has.
fn ready(status: Option<&Status>, stored: &v1::Resource) -> v1::Condition {
    let kind = "Ready".to_owned();
    match status {
        Some(Status { report, changed, .. }) => v1::Condition {
            r#type: kind,
            status: report.ready,
            reason: report.reason.to_owned(),
            message: report.message.clone(),
            changed: Some((*changed).into()),
        },
        None => v1::Condition {
            r#type: kind,
            status: false,
            reason: "Pending".to_owned(),
            message: "stored, not tried on the kernel yet".to_owned(),
            changed: stored.metadata.as_ref().and_then(|metadata| metadata.created),
        },
    }
}

fn namespace(conditions: Vec<v1::Condition>, report: Option<Report>) -> v1::NamespaceStatus {
    let observed_generation = generation(report.as_ref());
    let (path, inode) = match report.and_then(|report| report.observed) {
        Some(Observed::Namespace { path, inode }) => (path.to_string_lossy().into_owned(), inode),
        _ => Default::default(),
    };
    v1::NamespaceStatus { conditions, observed_generation, path, inode }
}

fn network(
    node: &Node,
    picture: &Picture,
    name: &Name,
    conditions: Vec<v1::Condition>,
    report: Option<Report>,
) -> v1::NetworkStatus {
    let tables = node.dataplane.tables(name.as_str());
    let ports = picture.fabric.ports.values().filter(|port| port.spec.network == *name).count();
    let network = picture.fabric.networks.get(name);
    v1::NetworkStatus {
        conditions,
        observed_generation: generation(report.as_ref()),
        ports: small(ports),
        macs: tables.as_ref().map_or(0, |tables| small(tables.macs)),
        neighbors: tables.as_ref().map_or(0, |tables| small(tables.neighbors)),
        gateway_mac: network.map(|network| network.spec.gateway_mac.to_string()).unwrap_or_default(),
        groups: tables.as_ref().map_or(0, |tables| small(tables.groups)),
        pools: node.store.pools(name).into_iter().map(pool).collect(),
    }
}

fn pool(usage: Usage) -> v1::AddressPoolStatus {
    let Usage { prefix, size, used, quarantined, reserved } = usage;
    v1::AddressPoolStatus { prefix: prefix.to_string(), size, used, quarantined, reserved }
}

fn port(
    node: &Node,
    picture: &Picture,
    name: &Name,
    conditions: Vec<v1::Condition>,
    report: Option<Report>,
) -> v1::PortStatus {
    let mut status = v1::PortStatus {
        conditions,
        observed_generation: generation(report.as_ref()),
        counters: node.dataplane.port_totals(name.as_str()).map(counters),
        blocked: node.dataplane.is_blocked(name.as_str()),
        ..Default::default()
    };
    match report.and_then(|report| report.observed) {
        Some(Observed::Port { device, ifindex, mac, mtu, host_device, offloads, queues, .. }) => {
            status.device = device;
            status.ifindex = ifindex;
            status.mac = mac.to_string();
            status.mtu = mtu;
            status.host_device = host_device.unwrap_or_default();
            status.offloads = offloads.into_iter().map(str::to_owned).collect();
            status.queues = queues;
        }
        _ => {
            // What it will be is known before it is there.
            if let Some(port) = picture.fabric.ports.get(name) {
                status.device = port.spec.device.to_string();
                status.mac = port.spec.mac.to_string();
                status.mtu = port.spec.mtu.get();
            }
        }
    }
    status
}

fn router(conditions: Vec<v1::Condition>, report: Option<Report>) -> v1::RouterStatus {
    let observed_generation = generation(report.as_ref());
    let (networks, routes) = match report.and_then(|report| report.observed) {
        Some(Observed::Router { networks, routes }) => (networks, routes),
        _ => Default::default(),
    };
    let networks = networks.iter().map(Name::to_string).collect();
    v1::RouterStatus { conditions, observed_generation, networks, routes }
}

fn tunnel(
    node: &Node,
    picture: &Picture,
    name: &Name,
    conditions: Vec<v1::Condition>,
    report: Option<Report>,
) -> Option<v1::TunnelStatus> {
    let tunnel = &picture.fabric.tunnels.get(name)?.spec;
    let observed_generation = generation(report.as_ref());
    let mtu = match report.and_then(|report| report.observed) {
        Some(Observed::Tunnel { mtu }) => mtu,
        _ => tunnel.inner_mtu(ASSUMED_PATH).get(),
    };
    let keys = picture.fabric.keys.get(name).map(Arc::as_ref);
    let told = tunnel_status::status(tunnel, keys, mtu, node.dataplane.tunnel(name.as_str()));
    Some(v1::TunnelStatus { conditions, observed_generation, ..told })
}

/// The counters of a Port as the API shows them.
pub(super) fn counters(totals: PortTotals) -> v1::PortCounters {
    v1::PortCounters {
        rx_packets: totals.rx_packets,
        rx_bytes: totals.rx_bytes,
        tx_packets: totals.tx_packets,
        tx_bytes: totals.tx_bytes,
        drops: named(totals.drops),
        fast_packets: totals.fast_packets,
    }
}

/// Named numbers as the API shows them.
pub(super) fn named(numbers: Vec<(&'static str, u64)>) -> BTreeMap<String, u64> {
    numbers.into_iter().map(|(name, number)| (name.to_owned(), number)).collect()
}

fn generation(report: Option<&Report>) -> u64 {
    report.map_or(0, |report| report.generation)
}

/// A count for a 32-bit field.
pub(super) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
