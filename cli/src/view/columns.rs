//! The columns of each kind's table.

use std::fmt::Display;

use weft_proto::encoding::Words;
use weft_proto::v1::{
    AddressPoolStatus, Kind, NamespaceStatus, NetworkSpec, NetworkStatus, PortCounters, PortSpec, PortStatus,
    PortType, Resource, RouterStatus, Subnet, resource,
};

use super::{dropped, made, state};
use crate::quantity::count;
use crate::table::{Cell, Tone};

pub use tunnel::{far_end, joins, tunnel, word};

mod tunnel;

/// A title, and what stands below it.
#[derive(Clone, Copy)]
pub struct Column {
    /// The heading.
    pub title: &'static str,
    /// The cell of a resource.
    pub cell: fn(&Resource) -> Cell,
}

const fn column(title: &'static str, cell: fn(&Resource) -> Cell) -> Column {
    Column { title, cell }
}

/// Characters that runtimes show of a container's name.
const SHOWN: usize = 12;

const NAME: Column = column("NAME", |it| it.name().into());
const STATE: Column = column("STATE", |it| {
    let (text, tone) = state(it);
    Cell::new(text, tone)
});
const AGE: Column = column("AGE", made);

/// The columns of a kind's table.
pub fn of(kind: Kind, wide: bool) -> Vec<Column> {
    let (narrow, more): (&[Column], &[Column]) = match kind {
        Kind::Unspecified => (&[NAME], &[]),
        Kind::Namespace => (&NAMESPACE, &NAMESPACE_WIDE),
        Kind::Network => (&NETWORK, &NETWORK_WIDE),
        Kind::Port => (&PORT, &PORT_WIDE),
        Kind::Router => (&ROUTER, &ROUTER_WIDE),
        Kind::Tunnel => (&tunnel::NARROW, &tunnel::WIDE),
    };
    if wide { [narrow, more].concat() } else { narrow.to_vec() }
}

const NAMESPACE: [Column; 3] = [NAME, column("PATH", path), STATE];
const NAMESPACE_WIDE: [Column; 2] = [column("INODE", |it| number(namespace(it).inode)), AGE];

const NETWORK: [Column; 9] = [
    NAME,
    column("ROUTER", |it| network(it).0.router.into()),
    column("SUBNETS", |it| list(network(it).0.subnets.into_iter().map(|subnet| subnet.prefix))),
    column("GATEWAYS", |it| list(network(it).0.subnets.into_iter().map(gateway))),
    column("MTU", |it| or(network(it).0.mtu, 1500)),
    column("PORTS", |it| network(it).1.ports.to_string().into()),
    column("MACS", |it| network(it).1.macs.to_string().into()),
    column("NEIGHBORS", |it| network(it).1.neighbors.to_string().into()),
    STATE,
];
const NETWORK_WIDE: [Column; 7] = [
    column("LEASES", |it| list(network(it).1.pools.iter().map(leases))),
    column("GATEWAY-MAC", |it| network(it).1.gateway_mac.into()),
    column("AGEING", |it| Cell::from(format!("{}s", default(network(it).0.ageing_seconds, 300)))),
    column("MAX-MACS", |it| or(network(it).0.max_macs, 4096)),
    column("MAX-NEIGHBORS", |it| or(network(it).0.max_neighbors, 4096)),
    column("GROUPS", |it| network(it).1.groups.to_string().into()),
    AGE,
];

const PORT: [Column; 10] = [
    NAME,
    column("NETWORK", |it| port(it).0.network.into()),
    column("NAMESPACE", |it| port(it).0.namespace.into()),
    column("TYPE", |it| PortType::word(port(it).0.r#type).into()),
    column("DEVICE", device),
    column("ADDRESSES", |it| list(port(it).0.addresses)),
    STATE,
    column("RX", |it| count(counters(it).rx_packets).into()),
    column("TX", |it| count(counters(it).tx_packets).into()),
    column("DROPS", drops),
];
const PORT_WIDE: [Column; 7] = [
    column("CONTAINER", container),
    column("MAC", |it| port(it).1.mac.into()),
    column("MTU", |it| number(port(it).1.mtu)),
    column("VLAN", vlans),
    column("QUEUES", |it| number(port(it).1.queues)),
    column("OFFLOADS", |it| list(port(it).1.offloads)),
    AGE,
];

const ROUTER: [Column; 4] = [
    NAME,
    column("NETWORKS", |it| list(router(it).networks)),
    column("ROUTES", |it| router(it).routes.to_string().into()),
    STATE,
];
const ROUTER_WIDE: [Column; 1] = [AGE];

fn namespace(resource: &Resource) -> NamespaceStatus {
    match &resource.kind {
        Some(resource::Kind::Namespace(it)) => it.status.clone().unwrap_or_default(),
        _ => NamespaceStatus::default(),
    }
}

/// Where it is; or, when it is not, where it shall be found.
fn path(resource: &Resource) -> Cell {
    let status = namespace(resource).path;
    match &resource.kind {
        Some(resource::Kind::Namespace(it)) if status.is_empty() => {
            it.spec.clone().unwrap_or_default().path.into()
        }
        _ => status.into(),
    }
}

fn network(resource: &Resource) -> (NetworkSpec, NetworkStatus) {
    match &resource.kind {
        Some(resource::Kind::Network(it)) => {
            (it.spec.clone().unwrap_or_default(), it.status.clone().unwrap_or_default())
        }
        _ => Default::default(),
    }
}

fn port(resource: &Resource) -> (PortSpec, PortStatus) {
    match &resource.kind {
        Some(resource::Kind::Port(it)) => {
            (it.spec.clone().unwrap_or_default(), it.status.clone().unwrap_or_default())
        }
        _ => Default::default(),
    }
}

/// How many addresses of a pool are in use: `12/253`; `12` of so many that nobody counts them.
fn leases(pool: &AddressPoolStatus) -> String {
    match pool.size {
        u64::MAX => pool.used.to_string(),
        size => format!("{}/{size}", pool.used),
    }
}

/// Whose Port it is: the pod, or what runtimes show of a container's name.
fn container(resource: &Resource) -> Cell {
    let endpoint = port(resource).0.endpoint.unwrap_or_default();
    match endpoint.owner.as_str() {
        "" => endpoint.container_id.chars().take(SHOWN).collect::<String>().into(),
        owner => owner.into(),
    }
}

/// A gateway's address, with its VLAN: `198.18.1.1`, `198.18.2.1@10`.
fn gateway(subnet: Subnet) -> String {
    match (subnet.gateway, subnet.vlan) {
        (gateway, vlan) if gateway.is_empty() || vlan == 0 => gateway,
        (gateway, vlan) => format!("{gateway}@{vlan}"),
    }
}

fn router(resource: &Resource) -> RouterStatus {
    match &resource.kind {
        Some(resource::Kind::Router(it)) => it.status.clone().unwrap_or_default(),
        _ => RouterStatus::default(),
    }
}

fn counters(resource: &Resource) -> PortCounters {
    port(resource).1.counters.unwrap_or_default()
}

fn device(resource: &Resource) -> Cell {
    let (spec, status) = port(resource);
    if status.device.is_empty() { spec.device.into() } else { status.device.into() }
}

/// `10`; `10 (tunnel)` where tags are carried along; `10,100-199 (native 5)` for a trunk.
fn vlans(resource: &Resource) -> Cell {
    let spec = port(resource).0;
    let Some(trunk) = spec.trunk else {
        return match (spec.vlan, spec.vlan_tunnel) {
            (vlan, false) => number(vlan),
            (0, true) => "tunnel".into(),
            (vlan, true) => format!("{vlan} (tunnel)").into(),
        };
    };
    let allowed = trunk.allowed.join(",");
    match trunk.native {
        None => allowed.into(),
        Some(0) => format!("{allowed} (native untagged)").into(),
        Some(native) => format!("{allowed} (native {native})").into(),
    }
}

fn drops(resource: &Resource) -> Cell {
    match dropped(&counters(resource)) {
        0 => "0".into(),
        drops => Cell::new(count(drops), Tone::Busy),
    }
}

/// Values joined by commas; empty ones are left out.
fn list(values: impl IntoIterator<Item = String>) -> Cell {
    let values: Vec<_> = values.into_iter().filter(|value| !value.is_empty()).collect();
    values.join(",").into()
}

/// A number for which 0 means that there is none.
fn number<N: Display + Default + PartialEq>(value: N) -> Cell {
    if value == N::default() { "".into() } else { value.to_string().into() }
}

/// A number for which 0 means the default.
fn or(value: u32, otherwise: u32) -> Cell {
    default(value, otherwise).to_string().into()
}

fn default(value: u32, otherwise: u32) -> u32 {
    if value == 0 { otherwise } else { value }
}
