//! Tunnels: what they join exists, no two are told apart by nothing, and a Router knows by which link it reaches what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_stack::Prefix;

use super::{blamed_last, check_reference, live};
use crate::model::{
    Carrier, Fabric, Kind, Mtu, Name, Network, Object, ObjectRef, Tunnel, TunnelForm, Violation,
};

/// A field of an object, and what it claims.
struct Claim<T> {
    object: ObjectRef,
    path: String,
    value: T,
}

pub(super) fn check(fabric: &Fabric, touched: &BTreeSet<ObjectRef>, found: &mut Vec<Violation>) {
    let mut taken = Taken::default();
    for (object, tunnel) in blamed_last(Kind::Tunnel, live(&fabric.tunnels), touched) {
        check_references(&object, tunnel, fabric, found);
        check_local(&object, tunnel, fabric, found);
        check_keys(&object, tunnel, fabric, found);
        check_way(&object, tunnel, fabric, found);
        if let Some(network) = tunnel.segment().and_then(|segment| fabric.networks.get(&segment.network)) {
            check_mtu(&object, tunnel, &network.spec, found);
        }
        taken.take(&object, tunnel, found);
    }
    check_names(fabric, touched, found);
    let routers: BTreeSet<&Name> =
        live(&fabric.tunnels).filter_map(|(_, tunnel)| tunnel.spec.link().map(|link| &link.router)).collect();
    for router in routers {
        check_claims(addresses(fabric, router), touched, "is taken by", found);
        check_claims(prefixes(fabric, router), touched, "is reached by", found);
    }
}

fn check_references(object: &ObjectRef, tunnel: &Tunnel, fabric: &Fabric, found: &mut Vec<Violation>) {
    if let Some(segment) = tunnel.segment() {
        check_reference(object, "spec.network", Kind::Network, &segment.network, &fabric.networks, found);
    }
    if let Some(link) = tunnel.link() {
        check_reference(object, "spec.router", Kind::Router, &link.router, &fabric.routers, found);
    }
    if let Some(router) = tunnel.carrier() {
        check_reference(object, "spec.carrier.router", Kind::Router, router, &fabric.routers, found);
    }
}

/// A Router that carries datagrams sends them from an address of its own.
fn check_local(object: &ObjectRef, tunnel: &Tunnel, fabric: &Fabric, found: &mut Vec<Violation>) {
    let (Some(router), Some(local)) = (tunnel.carrier(), tunnel.local) else { return };
    let mut own = router_addresses(fabric, router);
    if !own.any(|claim| claim.value == local) {
        let text = format!("{local} is not an address of Router/{router}");
        found.push(Violation::new(object, "spec.local", text));
    }
}

/// No way to a far end leads through the Tunnel itself: an address of the segment that it extends may be at any far end.
///
/// Only what is sure is refused. Where rules or a more specific prefix send packets elsewhere, nothing is.
fn check_way(object: &ObjectRef, tunnel: &Tunnel, fabric: &Fabric, found: &mut Vec<Violation>) {
    let (TunnelForm::Vxlan { vxlan, segment, .. }, Some(router)) = (&tunnel.form, tunnel.carrier()) else {
        return;
    };
    let (Some(network), Some(described)) =
        (fabric.networks.get(&segment.network), fabric.routers.get(router))
    else {
        return;
    };
    if network.spec.router.as_ref() != Some(router) || !described.spec.rules.is_empty() {
        return;
    }
    let reached = prefixes(fabric, router);
    for (index, remote) in vxlan.remotes.iter().enumerate() {
        let address = remote.address;
        let mut own = network.spec.subnets.iter().filter(|subnet| {
            subnet.gateway.is_some() && subnet.vlan == segment.vlan && subnet.prefix.contains(address)
        });
        let Some(prefix) = own.next().map(|subnet| subnet.prefix) else { continue };
        let mut others = reached.iter().filter(|claim| claim.value.contains(address));
        if !others.any(|claim| claim.value.length() > prefix.length()) {
            let text = format!(
                "{address} is in {prefix} of Network/{}, which this Tunnel extends: Router/{router} would send to it \
                 through the Tunnel itself",
                segment.network
            );
            found.push(Violation::new(object, &format!("spec.vxlan.remotes[{index}].address"), text));
        }
    }
}

/// Nobody is a peer of itself.
fn check_keys(object: &ObjectRef, tunnel: &Tunnel, fabric: &Fabric, found: &mut Vec<Violation>) {
    let (Some(wireguard), Some(keys)) = (tunnel.wireguard(), fabric.keys.get(&object.name)) else { return };
    for (index, peer) in wireguard.peers.iter().enumerate() {
        for (key, field) in peer.keys().zip(["publicKey", "nextPublicKey"]) {
            if keys.public().contains(&key) {
                let path = format!("spec.wireguard.peers[{index}].{field}");
                found.push(Violation::new(object, &path, format_args!("{key} is this Tunnel's own key")));
            }
        }
    }
}

fn check_mtu(object: &ObjectRef, tunnel: &Tunnel, network: &Network, found: &mut Vec<Violation>) {
    let Some(mtu) = tunnel.mtu else { return };
    if mtu > network.mtu {
        let text = format!("{mtu} is more than the Network's {}", network.mtu);
        found.push(Violation::new(object, "spec.mtu", text));
    }
    let v6 = network.subnets.iter().find(|subnet| !subnet.prefix.is_ipv4());
    if let Some(subnet) = v6.filter(|_| mtu.get() < Mtu::MIN_IPV6) {
        let (prefix, least) = (subnet.prefix, Mtu::MIN_IPV6);
        let text =
            format!("{mtu} is too small for the IPv6 subnet {prefix}, {least} or more octets expected");
        found.push(Violation::new(object, "spec.mtu", text));
    }
}

/// What the Tunnels seen so far have taken, and which of them.
#[derive(Default)]
struct Taken<'a> {
    vxlan: BTreeMap<(Option<&'a Name>, u16, u32, IpAddr), ObjectRef>,
    gre: BTreeMap<(IpAddr, Option<u32>), ObjectRef>,
    /// UDP ports of the node. Several VXLAN tunnels share one.
    ports: BTreeMap<u16, (ObjectRef, bool)>,
}

impl<'a> Taken<'a> {
    fn take(&mut self, object: &ObjectRef, tunnel: &'a Tunnel, found: &mut Vec<Violation>) {
        let mut report = |path: &str, text: String| found.push(Violation::new(object, path, text));
        if let TunnelForm::Vxlan { vxlan, carrier, .. } = &tunnel.form {
            for (index, remote) in vxlan.remotes.iter().enumerate() {
                let (vni, port, address) = (vxlan.vni, vxlan.port.get(), remote.address);
                let key = (tunnel.carrier(), port, vni.get(), address);
                if let Some(other) = self.vxlan.insert(key, object.clone()) {
                    let text =
                        format!("{address} is spoken to with VNI {vni} on port {port} by {other} already");
                    report(&format!("spec.vxlan.remotes[{index}].address"), text);
                }
            }
            if *carrier == Carrier::Node {
                self.take_port("spec.vxlan.port", vxlan.port.get(), true, object, &mut report);
            }
        }
        if let Some(gre) = tunnel.gre()
            && let Some(other) = self.gre.insert((gre.remote, gre.key), object.clone())
        {
            let key = gre.key.map_or("without a key".to_owned(), |key| format!("with the key {key}"));
            let text = format!("{} is spoken to {key} by {other} already", gre.remote);
            report(&format!("spec.{}.remote", tunnel.word()), text);
        }
        if let Some(wireguard) = tunnel.wireguard() {
            let port = wireguard.listen_port.get();
            self.take_port("spec.wireguard.listenPort", port, false, object, &mut report);
        }
    }

    fn take_port(
        &mut self,
        path: &str,
        port: u16,
        shared: bool,
        object: &ObjectRef,
        report: &mut dyn FnMut(&str, String),
    ) {
        match self.ports.get(&port) {
            Some((_, true)) if shared => {}
            Some((other, _)) => report(path, format!("{port} is taken by {other}")),
            None => drop(self.ports.insert(port, (object.clone(), shared))),
        }
    }
}

/// The ends of Tunnels are counted like Ports, by name.
fn check_names(fabric: &Fabric, touched: &BTreeSet<ObjectRef>, found: &mut Vec<Violation>) {
    for (name, _) in live(&fabric.tunnels) {
        if !live(&fabric.ports).any(|(port, _)| port == name) {
            continue;
        }
        let tunnel = ObjectRef::new(Kind::Tunnel, name.clone());
        let port = ObjectRef::new(Kind::Port, name.clone());
        let (blamed, other) = if touched.contains(&port) && !touched.contains(&tunnel) {
            (port, tunnel)
        } else {
            (tunnel, port)
        };
        let text = format!("\"{name}\" is the name of {other}, which is counted by it; another one expected");
        found.push(Violation::new(&blamed, "metadata.name", text));
    }
}

/// Of two objects that claim the same the later one is blamed, unless neither is a Tunnel: that is for others to judge.
fn check_claims<T: Ord + Copy + std::fmt::Display>(
    mut claims: Vec<Claim<T>>,
    touched: &BTreeSet<ObjectRef>,
    relation: &str,
    found: &mut Vec<Violation>,
) {
    claims.sort_by_key(|claim| (touched.contains(&claim.object), claim.object.kind == Kind::Tunnel));
    let mut taken: BTreeMap<T, ObjectRef> = BTreeMap::new();
    for claim in claims {
        let value = claim.value;
        let Some(other) = taken.get(&value) else {
            taken.insert(value, claim.object);
            continue;
        };
        let of_tunnel = [&claim.object, other].iter().any(|object| object.kind == Kind::Tunnel);
        if of_tunnel && *other != claim.object {
            let text = format!("{value} {relation} {other} already");
            found.push(Violation::new(&claim.object, &claim.path, text));
        }
    }
}

/// The addresses on the links of a Router: its own, and those of Ports.
fn addresses(fabric: &Fabric, router: &Name) -> Vec<Claim<IpAddr>> {
    let hangs = |network: &Object<Network>| network.spec.router.as_ref() == Some(router);
    let ports = live(&fabric.ports)
        .filter(|(_, port)| fabric.networks.get(&port.spec.network).is_some_and(|network| hangs(network)))
        .flat_map(|(name, port)| {
            port.spec.addresses.iter().enumerate().map(move |(index, own)| Claim {
                object: ObjectRef::new(Kind::Port, name.clone()),
                path: format!("spec.addresses[{index}]"),
                value: own.address,
            })
        });
    router_addresses(fabric, router).chain(ports).collect()
}

/// A Router's own addresses: its gateways, and those on its Tunnels.
fn router_addresses<'a>(fabric: &'a Fabric, router: &'a Name) -> impl Iterator<Item = Claim<IpAddr>> + 'a {
    let gateways = networks(fabric, router).flat_map(|(name, network)| {
        network.subnets.iter().enumerate().filter_map(move |(index, subnet)| {
            Some(Claim {
                object: ObjectRef::new(Kind::Network, name.clone()),
                path: format!("spec.subnets[{index}].gateway"),
                value: subnet.gateway?,
            })
        })
    });
    let ends = tunnels(fabric, router).flat_map(|(name, tunnel)| {
        let own = tunnel.link().map(|link| link.addresses.iter().enumerate());
        own.into_iter().flatten().map(move |(index, own)| Claim {
            object: ObjectRef::new(Kind::Tunnel, name.clone()),
            path: format!("spec.addresses[{index}]"),
            value: own.address,
        })
    });
    gateways.chain(ends)
}

/// What a Router reaches: by its Networks, its Tunnels and its routes.
fn prefixes(fabric: &Fabric, router: &Name) -> Vec<Claim<Prefix>> {
    let mut claims = Vec::new();
    for (name, network) in networks(fabric, router) {
        claims.extend(network.subnets.iter().enumerate().map(|(index, subnet)| Claim {
            object: ObjectRef::new(Kind::Network, name.clone()),
            path: format!("spec.subnets[{index}].prefix"),
            value: subnet.prefix,
        }));
    }
    for (name, tunnel) in tunnels(fabric, router) {
        claims.extend(tunnel.prefixes().into_iter().map(|(path, value)| Claim {
            object: ObjectRef::new(Kind::Tunnel, name.clone()),
            path,
            value,
        }));
    }
    if let Some((name, router)) = live(&fabric.routers).find(|(name, _)| *name == router) {
        claims.extend(router.spec.routes.iter().enumerate().map(|(index, route)| Claim {
            object: ObjectRef::new(Kind::Router, name.clone()),
            path: format!("spec.routes[{index}].prefix"),
            value: route.prefix,
        }));
    }
    claims
}

fn networks<'a>(fabric: &'a Fabric, router: &'a Name) -> impl Iterator<Item = (&'a Name, &'a Network)> {
    let on_it =
        live(&fabric.networks).filter(move |(_, network)| network.spec.router.as_ref() == Some(router));
    on_it.map(|(name, network)| (name, &network.spec))
}

fn tunnels<'a>(fabric: &'a Fabric, router: &'a Name) -> impl Iterator<Item = (&'a Name, &'a Tunnel)> {
    let on_it = |tunnel: &Tunnel| tunnel.link().is_some_and(|link| link.router == *router);
    live(&fabric.tunnels).map(|(name, tunnel)| (name, &tunnel.spec)).filter(move |(_, tunnel)| on_it(tunnel))
}

#[cfg(test)]
mod tests;
