//! Tunnels in the stack's picture: those that have all that they need.

use std::net::IpAddr;

use weft_stack::config::{self, TunnelSpec};

use super::lives;
use crate::model::tunnel::ASSUMED_PATH;
use crate::model::{
    Carrier, Fabric, Gre, Link, Mtu, Name, Peer, Segment, Tunnel, TunnelForm, TunnelKeys, Vxlan, WireGuard,
};

/// The living tunnels of `fabric`, but for those without their keys.
pub fn tunnels(fabric: &Fabric) -> Vec<TunnelSpec> {
    let living = fabric.tunnels.iter().filter(|(_, tunnel)| lives(tunnel));
    living.filter_map(|(name, tunnel)| spec(fabric, name, &tunnel.spec)).collect()
}

/// Octets of the largest IP packet inside a tunnel.
pub fn mtu(fabric: &Fabric, tunnel: &Tunnel) -> Mtu {
    let inner = tunnel.inner_mtu(path(fabric, tunnel));
    let network = tunnel.segment().and_then(|segment| fabric.networks.get(&segment.network));
    network.map_or(inner, |network| inner.min(network.spec.mtu))
}

/// Octets of the largest packet that the ways to all far ends carry, as far as it is known.
fn path(fabric: &Fabric, tunnel: &Tunnel) -> u32 {
    let Some(carrier) = tunnel.carrier() else { return ASSUMED_PATH };
    let remotes = tunnel.remotes();
    let ways = remotes.iter().flatten().filter_map(|remote| way(fabric, carrier, *remote));
    ways.min().unwrap_or(ASSUMED_PATH)
}

/// The MTU of the link by which a Router reaches an address: that with the longest prefix.
fn way(fabric: &Fabric, router: &Name, remote: IpAddr) -> Option<u32> {
    let links = fabric.tunnels.values().filter(|tunnel| lives(tunnel)).map(|tunnel| &tunnel.spec);
    let links = links.filter(|tunnel| tunnel.link().is_some_and(|link| link.router == *router));
    let links = links.flat_map(|link| {
        let mtu = link.inner_mtu(ASSUMED_PATH).get();
        link.prefixes().into_iter().map(move |(_, prefix)| (prefix, mtu))
    });
    let networks = fabric.networks.values().filter(|network| lives(network)).map(|network| &network.spec);
    let networks = networks.filter(|network| network.router.as_ref() == Some(router));
    let subnets =
        networks.flat_map(|network| network.subnets.iter().map(|subnet| (subnet.prefix, network.mtu.get())));
    let candidates = links.chain(subnets).filter(|(prefix, _)| prefix.contains(remote));
    candidates.max_by_key(|(prefix, _)| prefix.length()).map(|(_, mtu)| mtu)
}

fn spec(fabric: &Fabric, name: &Name, tunnel: &Tunnel) -> Option<TunnelSpec> {
    let (joins, carrier, encapsulation) = match &tunnel.form {
        TunnelForm::Vxlan { segment, carrier, vxlan: it } => {
            (joined_network(segment), self::carrier(carrier), config::Encapsulation::Vxlan(vxlan(it)))
        }
        TunnelForm::Gretap { segment, gre: it } => {
            (joined_network(segment), config::Carrier::Node, config::Encapsulation::Gre(gre(it)))
        }
        TunnelForm::Gre { link, routes, gre: it } => {
            let joins = joined_router(link, routes.clone());
            (joins, config::Carrier::Node, config::Encapsulation::Gre(gre(it)))
        }
        TunnelForm::WireGuard { link, wireguard: it } => {
            let keys = fabric.keys.get(name)?;
            let joins = joined_router(link, Vec::new());
            (joins, config::Carrier::Node, config::Encapsulation::WireGuard(wireguard(it, keys)))
        }
    };
    let mtu = mtu(fabric, tunnel).get();
    Some(TunnelSpec { name: name.to_string(), joins, mtu, carrier, local: tunnel.local, encapsulation })
}

fn joined_network(segment: &Segment) -> config::Joins {
    config::Joins::Network { network: segment.network.to_string(), vlan: segment.vlan }
}

fn joined_router(link: &Link, routes: Vec<weft_stack::Prefix>) -> config::Joins {
    let on_link = |own: &crate::model::InterfaceAddress| Some((own.address, own.on_link()?));
    let addresses = link.addresses.iter().filter_map(on_link).collect();
    config::Joins::Router { router: link.router.to_string(), addresses, routes }
}

fn carrier(carrier: &Carrier) -> config::Carrier {
    match carrier {
        Carrier::Node => config::Carrier::Node,
        Carrier::Router(router) => config::Carrier::Router(router.to_string()),
    }
}

fn vxlan(vxlan: &Vxlan) -> config::VxlanSpec {
    let remote =
        |it: &crate::model::VxlanRemote| config::VxlanRemote { address: it.address, macs: it.macs.clone() };
    config::VxlanSpec {
        vni: vxlan.vni.get(),
        port: vxlan.port.get(),
        remotes: vxlan.remotes.iter().map(remote).collect(),
        suppress_neighbors: vxlan.suppress_neighbors,
    }
}

fn gre(gre: &Gre) -> config::GreSpec {
    config::GreSpec { remote: gre.remote, key: gre.key, checksum: gre.checksum, sequence: gre.sequence }
}

fn wireguard(wireguard: &WireGuard, keys: &TunnelKeys) -> config::WireGuardSpec {
    config::WireGuardSpec {
        listen_port: wireguard.listen_port.get(),
        keys: keys.private().cloned().collect(),
        peers: wireguard.peers.iter().map(|it| peer(it, keys)).collect(),
    }
}

fn peer(peer: &Peer, keys: &TunnelKeys) -> config::WireGuardPeer {
    config::WireGuardPeer {
        keys: peer.keys().collect(),
        preshared_key: peer.keys().find_map(|key| keys.preshared(&key)).cloned(),
        endpoint: peer.endpoint,
        allowed: peer.allowed.clone(),
        keepalive: peer.keepalive,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use weft_stack::config::{Encapsulation, Joins};
    use weft_stack::tunnel::wireguard::{PresharedKey, PrivateKey};

    use super::*;
    use crate::fixture::{BASE, fabric, object};

    const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    const NEXT: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";

    fn wireguard() -> String {
        let peer = format!(
            "{{publicKey: '{KEY}', nextPublicKey: '{NEXT}', allowedPrefixes: [198.18.8.0/24], endpoint: '192.0.2.2:1'}}"
        );
        let spec = format!("  router: core\n  addresses: [198.18.9.1/24]\n  wireguard: {{peers: [{peer}]}}");
        object("Tunnel", "wg", &spec)
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_tunnel_without_its_keys_is_left_out() {
        let mut fabric = fabric(&format!("{BASE}{}", wireguard()));
        assert!(tunnels(&fabric).is_empty());
        let preshared = BTreeMap::from([(KEY.parse().unwrap(), PresharedKey::new([9; 32]))]);
        let keys = TunnelKeys::new(PrivateKey::new([1; 32]), vec![PrivateKey::new([2; 32])], preshared);
        fabric.keys.insert(name("wg"), Arc::new(keys));
        let specs = tunnels(&fabric);
        let Encapsulation::WireGuard(wireguard) = &specs[0].encapsulation else { panic!("{specs:?}") };
        assert_eq!(wireguard.keys, [PrivateKey::new([1; 32]), PrivateKey::new([2; 32])]);
        assert_eq!(wireguard.peers[0].keys, [KEY.parse().unwrap(), NEXT.parse().unwrap()]);
        assert_eq!(wireguard.peers[0].preshared_key, Some(PresharedKey::new([9; 32])));
        let Joins::Router { addresses, .. } = &specs[0].joins else { panic!("{specs:?}") };
        assert_eq!(addresses[0].1, "198.18.9.0/24".parse().unwrap());
    }

    #[test]
    fn what_is_carried_by_another_tunnel_is_smaller_by_both_headers() {
        let vxlan = |remote: &str| {
            let carried = format!(
                "  network: front\n  local: 198.18.9.1\n  carrier: {{router: core}}\n  vxlan: {{vni: 7, remotes: [{{address: {remote}}}]}}"
            );
            let fabric = fabric(&format!("{BASE}{}{}", wireguard(), object("Tunnel", "l2", &carried)));
            tunnels(&fabric)[0].mtu
        };
        assert_eq!(vxlan("198.18.8.7"), 1440 - 50);
        // `front` has room for 1500 octets only, whatever the way by `back` has.
        assert_eq!(vxlan("198.18.2.9"), 1500);
        assert_eq!(vxlan("203.0.113.9"), 1450);
    }

    #[test]
    fn the_example_of_vxlan_in_wireguard_has_the_mtu_that_it_says() {
        let fabric = fabric(include_str!("../../../../examples/tunnels.yaml"));
        let worked_out = {
            let tunnel = &fabric.tunnels["overlay"].spec;
            tunnel.inner_mtu(path(&fabric, tunnel))
        };
        assert_eq!(worked_out, fabric.networks["shared"].spec.mtu);
    }

    #[test]
    fn a_tunnel_that_is_going_is_left_out() {
        let gre = object("Tunnel", "g", "  router: core\n  gre: {remote: 192.0.2.2}");
        let mut fabric = fabric(&format!("{BASE}{gre}"));
        assert_eq!(tunnels(&fabric).len(), 1);
        std::sync::Arc::make_mut(fabric.tunnels.get_mut("g").unwrap()).metadata.deleting =
            Some(std::time::SystemTime::now());
        assert!(tunnels(&fabric).is_empty());
    }
}
