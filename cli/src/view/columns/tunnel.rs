//! The columns of tunnels, and what `describe` says of them at a glance.

use weft_proto::v1::{Resource, TunnelRemote, TunnelSpec, TunnelStatus, resource};

use super::{AGE, Column, NAME, STATE, column, list, number};
use crate::quantity::{ago, count, octets};
use crate::table::Cell;

/// What is always shown.
pub const NARROW: [Column; 8] = [
    NAME,
    column("KIND", |it| word(&tunnel(it).0).into()),
    column("JOINS", |it| joins(&tunnel(it).0).into()),
    column("FAR-ENDS", |it| list(tunnel(it).1.remotes.iter().map(far_end))),
    STATE,
    column("HANDSHAKE", |it| handshake(&tunnel(it).1.remotes).into()),
    column("RX", |it| total(it, |end| end.rx_bytes)),
    column("TX", |it| total(it, |end| end.tx_bytes)),
];

/// What `-o wide` adds.
pub const WIDE: [Column; 6] = [
    column("MTU", |it| number(tunnel(it).1.mtu)),
    column("LOCAL", |it| tunnel(it).1.local.into()),
    column("PORT", |it| number(tunnel(it).1.listen_port)),
    column("PUBLIC-KEY", |it| tunnel(it).1.public_key.into()),
    column("DROPS", drops),
    AGE,
];

/// Spec and status.
pub fn tunnel(resource: &Resource) -> (TunnelSpec, TunnelStatus) {
    match &resource.kind {
        Some(resource::Kind::Tunnel(it)) => {
            (it.spec.clone().unwrap_or_default(), it.status.clone().unwrap_or_default())
        }
        _ => Default::default(),
    }
}

/// The encapsulation, and what names it: `vxlan 100`, `gre 7`, `wireguard`.
pub fn word(spec: &TunnelSpec) -> String {
    let keyed = |word: &str, key: Option<u32>| key.map_or(word.to_owned(), |key| format!("{word} {key}"));
    match (&spec.vxlan, &spec.gre, &spec.gretap) {
        (Some(vxlan), ..) => keyed("vxlan", vxlan.vni),
        (_, Some(gre), _) => keyed("gre", gre.key),
        (.., Some(gretap)) => keyed("gretap", gretap.key),
        _ if spec.wireguard.is_some() => "wireguard".to_owned(),
        _ => String::new(),
    }
}

/// `network/front`, `network/front@7`, `router/core`.
pub fn joins(spec: &TunnelSpec) -> String {
    match (spec.network.as_str(), spec.vlan) {
        ("", _) if spec.router.is_empty() => String::new(),
        ("", _) => format!("router/{}", spec.router),
        (network, 0) => format!("network/{network}"),
        (network, vlan) => format!("network/{network}@{vlan}"),
    }
}

/// What a far end is called: its name, its address, or the beginning of its key.
pub fn far_end(end: &TunnelRemote) -> String {
    match (end.name.as_str(), end.address.as_str()) {
        ("", "") => end.public_key.chars().take(8).collect(),
        ("", address) => address.to_owned(),
        (name, _) => name.to_owned(),
    }
}

/// How long ago keys were agreed on with any far end.
fn handshake(ends: &[TunnelRemote]) -> String {
    let latest = ends.iter().filter_map(|end| end.last_handshake.as_ref()).map(|at| at.seconds).max();
    latest.map(ago).unwrap_or_default()
}

fn drops(resource: &Resource) -> Cell {
    let ends = tunnel(resource).1.remotes;
    count(ends.iter().flat_map(|end| end.drops.values()).sum()).into()
}

fn total(resource: &Resource, of: fn(&TunnelRemote) -> u64) -> Cell {
    let sum = tunnel(resource).1.remotes.iter().map(of).fold(0, u64::saturating_add);
    octets(sum).into()
}
