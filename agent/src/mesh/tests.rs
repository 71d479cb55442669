//! The wish of a node, by its parts.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use weft_proto::v1::{NetworkSpec, PortSpec, Resource, RouterSpec, TunnelSpec, resource};

use super::*;
use crate::cluster::NodeRecord;

const KEY_A: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
const KEY_B: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        source: AddressSource::Node,
        port: 51820,
        vni: 4096,
        mtu: 0,
        cluster: Vec::new(),
        masquerade: true,
        masquerade_except: Vec::new(),
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn node(name: &str, address: &str, pods: &[&str], key: &str) -> NodeRecord {
    NodeRecord {
        name: name.into(),
        addresses: addresses(&[address]),
        pods: nets(pods),
        port: 51820,
        public_key: key.into(),
        previous_public_keys: Vec::new(),
    }
}

fn wished(mode: Mode, nodes: &[NodeRecord]) -> Wish {
    wished_with(&settings(mode), nodes)
}

fn wished_with(settings: &Settings, nodes: &[NodeRecord]) -> Wish {
    let (addresses, pods) = (addresses(&["192.0.2.1"]), nets(&["198.18.1.0/24", "2001:db8:1::/64"]));
    let own = Own { name: "one", addresses: &addresses, pods: &pods, underlay_mtu: 1500, keys: &[] };
    wish(settings, &own, nodes.iter()).unwrap()
}

fn kind<'a>(wish: &'a Wish, name: &str) -> &'a resource::Kind {
    let found = wish.resources.iter().find(|resource| resource.name() == name);
    found.and_then(|resource: &Resource| resource.kind.as_ref()).unwrap()
}

fn port(wish: &Wish) -> &PortSpec {
    let resource::Kind::Port(port) = kind(wish, NODE_PORT) else { panic!("no Port") };
    port.spec.as_ref().unwrap()
}

fn network<'a>(wish: &'a Wish, name: &str) -> &'a NetworkSpec {
    let resource::Kind::Network(network) = kind(wish, name) else { panic!("no Network") };
    network.spec.as_ref().unwrap()
}

fn tunnel(wish: &Wish) -> &TunnelSpec {
    let resource::Kind::Tunnel(tunnel) = kind(wish, MESH) else { panic!("no Tunnel") };
    tunnel.spec.as_ref().unwrap()
}

fn router(wish: &Wish) -> &RouterSpec {
    let resource::Kind::Router(router) = kind(wish, ROUTER) else { panic!("no Router") };
    router.spec.as_ref().unwrap()
}

#[test]
fn a_node_alone_has_a_network_a_way_out_and_an_empty_mesh() {
    let wish = wished(Mode::Wireguard, &[]);
    let network = network(&wish, PODS);
    assert_eq!(network.mtu, 1440, "1500 less 20 of IPv4, 8 of UDP and 32 of WireGuard");
    let gateways: Vec<_> = network.subnets.iter().map(|subnet| subnet.gateway.as_str()).collect();
    assert_eq!(gateways, ["198.18.1.1", "2001:db8:1::1"]);
    assert_eq!(port(&wish).addresses, ["198.18.1.2/24", "2001:db8:1::2/64"]);
    assert!(port(&wish).routes.is_empty());
    let ways: Vec<_> =
        router(&wish).routes.iter().map(|route| (&*route.prefix, &*route.next_hops[0])).collect();
    assert_eq!(ways, [("0.0.0.0/0", "198.18.1.2"), ("::/0", "2001:db8:1::2")]);
    assert!(tunnel(&wish).wireguard.as_ref().unwrap().peers.is_empty());
}

#[test]
fn another_node_becomes_a_peer_and_the_kernel_gets_a_route_to_its_pods() {
    let wish =
        wished(Mode::Wireguard, &[node("two", "192.0.2.2", &["198.18.2.0/24", "2001:db8:2::/64"], KEY_A)]);
    let peer = &tunnel(&wish).wireguard.as_ref().unwrap().peers[0];
    assert_eq!((&*peer.name, &*peer.endpoint, &*peer.public_key), ("two", "192.0.2.2:51820", KEY_A));
    assert_eq!(peer.allowed_prefixes, ["198.18.2.0/24", "2001:db8:2::/64"]);
    let routes: Vec<_> = port(&wish).routes.iter().map(|route| &*route.prefix).collect();
    assert_eq!(routes, ["198.18.2.0/24", "2001:db8:2::/64"]);
    let except = &network(&wish, PODS).masquerade.as_ref().unwrap().except;
    assert_eq!(*except, ["198.18.1.0/24", "198.18.2.0/24", "2001:db8:1::/64", "2001:db8:2::/64"]);
}

#[test]
fn with_the_clusters_prefixes_a_node_that_joins_changes_the_tunnel_alone() {
    let settings =
        Settings { cluster: nets(&["198.18.0.0/15", "2001:db8::/32"]), ..settings(Mode::Wireguard) };
    let before = wished_with(&settings, &[]);
    let after = wished_with(&settings, &[node("two", "192.0.2.2", &["198.18.2.0/24"], KEY_A)]);
    let changed = before.resources.iter().zip(&after.resources).filter(|(before, after)| before != after);
    assert_eq!(changed.map(|(_, after)| after.id()).collect::<Vec<_>>(), ["Tunnel/mesh"]);
}

#[test]
fn a_node_that_changes_its_key_is_known_by_both() {
    let mut two = node("two", "192.0.2.2", &["198.18.2.0/24"], KEY_B);
    two.previous_public_keys = vec![KEY_A.into()];
    let known = |two: &NodeRecord| {
        let wish = wished(Mode::Wireguard, std::slice::from_ref(two));
        let peer = tunnel(&wish).wireguard.as_ref().unwrap().peers[0].clone();
        (peer.public_key, peer.next_public_key)
    };
    assert_eq!(known(&two), (KEY_A.into(), KEY_B.into()));
    // Of two before it, the newest comes first, as the daemon tells them.
    two.previous_public_keys.push("AAAAxNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8yAAA=".into());
    assert_eq!(known(&two), (KEY_A.into(), KEY_B.into()));
}

#[test]
fn a_node_with_this_nodes_key_is_left_out() {
    let (addresses, pods) = (addresses(&["192.0.2.1"]), nets(&["198.18.1.0/24"]));
    let keys = [KEY_A.to_owned()];
    let own = Own { name: "one", addresses: &addresses, pods: &pods, underlay_mtu: 1500, keys: &keys };
    let copy = node("two", "192.0.2.2", &["198.18.2.0/24"], KEY_A);
    let wish = wish(&settings(Mode::Wireguard), &own, [copy].iter()).unwrap();
    assert!(wish.refused[0].why.contains("its public key is that of node one too"), "{:?}", wish.refused);
}

#[test]
fn a_node_that_claims_what_is_anothers_is_left_out_and_told() {
    let good = node("good", "192.0.2.2", &["198.18.2.0/24"], KEY_A);
    let cases = [
        (node("x", "192.0.2.3", &["198.18.3.0/24"], KEY_A), "its public key is that of node good too"),
        (node("x", "192.0.2.3", &["198.18.2.128/25"], KEY_B), "overlaps 198.18.2.0/24 of node good"),
        (node("x", "192.0.2.3", &["198.18.0.0/16"], KEY_B), "its pods' 198.18.0.0/16 overlaps"),
        (node("x", "192.0.2.3", &["198.18.1.0/25"], KEY_B), "overlaps 198.18.1.0/24 of node one"),
        (node("x", "192.0.2.2", &["198.18.3.0/24"], KEY_B), "its address 192.0.2.2 is that of node good too"),
        (node("x", "192.0.2.1", &["198.18.3.0/24"], KEY_B), "its address 192.0.2.1 is that of node one too"),
        (node("x", "2001:db8::3", &["198.18.3.0/24"], KEY_B), "no address of a family"),
        (node("x", "127.0.0.1", &["198.18.3.0/24"], KEY_B), "127.0.0.1 is none that nodes can have"),
        (node("x", "192.0.2.3", &["0.0.0.0/0"], KEY_B), "0.0.0.0/0 is everything"),
        (node("x", "192.0.2.3", &[], KEY_B), "no prefix for pods"),
        (node("x", "192.0.2.3", &["198.18.3.0/24"], ""), "has not told its public key yet"),
        (node("x", "192.0.2.3", &["198.18.3.0/24"], "AAAA"), "\"AAAA\" is none"),
    ];
    for (bad, expected) in cases {
        let wish = wished(Mode::Wireguard, &[good.clone(), bad]);
        assert_eq!(tunnel(&wish).wireguard.as_ref().unwrap().peers.len(), 1, "{expected}");
        let [refusal] = &wish.refused[..] else { panic!("{:?}", wish.refused) };
        assert!(refusal.node == "x" && refusal.why.contains(expected), "{refusal:?}");
    }
}

#[test]
fn vxlan_makes_the_routers_neighbours_that_all_know() {
    let others = [
        node("two", "192.0.2.2", &["198.18.2.0/24", "2001:db8:2::/64"], ""),
        node("three", "192.0.2.3", &["198.18.3.0/24"], ""),
    ];
    let wish = wished(Mode::Vxlan, &others);
    let overlay = network(&wish, OVERLAY);
    assert_eq!((overlay.mtu, &*overlay.subnets[0].gateway), (1450, "fd77:6566:7400:0:9a08:aa19:21ca:5caf"));
    assert_eq!(overlay.gateway_mac, "02:19:21:ca:5c:af");
    let neighbor = &overlay.static_neighbors[0];
    assert_eq!(
        (&*neighbor.address, &*neighbor.mac),
        ("fd77:6566:7400:0:d714:d319:447c:9709", "02:19:44:7c:97:09")
    );
    let remotes = &tunnel(&wish).vxlan.as_ref().unwrap().remotes;
    assert_eq!((&*remotes[1].address, &*remotes[1].macs[0]), ("192.0.2.3", "02:72:0c:a6:45:a3"));
    let ways: Vec<_> =
        router(&wish).routes.iter().map(|route| (&*route.prefix, &*route.next_hops[0])).collect();
    assert_eq!(
        ways[2..],
        [
            ("198.18.2.0/24", "fd77:6566:7400:0:d714:d319:447c:9709"),
            ("2001:db8:2::/64", "fd77:6566:7400:0:d714:d319:447c:9709"),
            ("198.18.3.0/24", "fd77:6566:7400:0:da73:f172:ca6:45a3"),
        ]
    );
}

#[test]
fn plain_routes_are_the_nodes_kernels() {
    let mut two = node("two", "192.0.2.2", &["198.18.2.0/24", "2001:db8:2::/64"], "");
    two.addresses.extend(addresses(&["2001:db8::2"]));
    let wish = wished(Mode::Routes, &[two]);
    assert_eq!(network(&wish, PODS).mtu, 1500);
    let routes: Vec<_> = port(&wish).node_routes.iter().map(|route| (&*route.prefix, &*route.via)).collect();
    assert_eq!(routes, [("198.18.2.0/24", "192.0.2.2"), ("2001:db8:2::/64", "2001:db8::2")]);
    assert!(port(&wish).routes.is_empty());
    assert!(wish.resources.iter().all(|resource| resource.name() != MESH));
}

#[test]
fn a_node_that_is_reached_over_ipv6_makes_the_mtu_smaller_for_all() {
    let (addresses, pods) = (addresses(&["192.0.2.1", "2001:db8::1"]), nets(&["198.18.1.0/24"]));
    let own = Own { name: "one", addresses: &addresses, pods: &pods, underlay_mtu: 1500, keys: &[] };
    let mtu = |nodes: &[NodeRecord]| wish(&settings(Mode::Wireguard), &own, nodes.iter()).unwrap().mtu;
    let four = node("two", "192.0.2.2", &["198.18.2.0/24"], KEY_A);
    assert_eq!(mtu(std::slice::from_ref(&four)), 1440);
    assert_eq!(mtu(&[four, node("three", "2001:db8::3", &["198.18.3.0/24"], KEY_B)]), 1420);
}

#[test]
fn names_of_nodes_become_names_of_peers() {
    assert_eq!(super::peer::peer_name("node-1"), "node-1");
    let dotted = super::peer::peer_name("ip-192-0-2-1.example.com");
    assert!(dotted.starts_with("ip-192-0-2-1-example-com-"), "{dotted}");
    assert_ne!(dotted, super::peer::peer_name("ip-192-0-2-1-example.com"));
}

#[test]
fn prefixes_that_are_too_small_are_named() {
    let (addresses, pods) = (addresses(&["192.0.2.1"]), nets(&["198.18.1.0/30"]));
    let own = Own { name: "one", addresses: &addresses, pods: &pods, underlay_mtu: 1500, keys: &[] };
    let error = wish(&settings(Mode::Wireguard), &own, [].iter()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "198.18.1.0/30 is too small for pods: a prefix of at most 29 bits expected"
    );
}

proptest! {
    #[test]
    fn any_name_becomes_one_that_objects_may_have(name in ".{0,300}") {
        let name = super::peer::peer_name(&name);
        prop_assert!((1..=63).contains(&name.len()), "{name}");
        prop_assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        prop_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
    }

    #[test]
    fn peers_never_overlap_whatever_nodes_say(
        nodes in prop::collection::vec((0u8..4, 0u8..8, 16u8..=32, 0u8..4), 0..12),
    ) {
        let nodes: Vec<_> = nodes.into_iter().enumerate().map(|(number, (address, third, length, key))| {
            let pods = format!("198.18.{third}.0/{length}");
            let key = format!("{}IgoxNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw0=", ['A', 'B', 'C', 'D'][usize::from(key)]);
            node(&format!("n{number}"), &format!("192.0.2.{}", address + 2), &[&pods], &key)
        }).collect();
        let wish = wished(Mode::Wireguard, &nodes);
        let peers = &tunnel(&wish).wireguard.as_ref().unwrap().peers;
        prop_assert_eq!(peers.len() + wish.refused.len(), nodes.len());
        let mut all = nets(&["198.18.1.0/24"]);
        for prefix in peers.iter().flat_map(|peer| &peer.allowed_prefixes) {
            let prefix: IpNet = prefix.parse().unwrap();
            prop_assert!(all.iter().all(|other| !other.contains(&prefix) && !prefix.contains(other)));
            all.push(prefix);
        }
    }
}
