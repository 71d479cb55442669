//! Wrong fields of single tunnels, each with its message.

use proptest::prelude::*;
use weft_proto::v1;

use crate::fixture::{BASE, fabric, object, wrong};
use crate::model::{Carrier, Kind, Name, ObjectRef, Tunnel, TunnelForm};

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const NEXT: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";

fn parsed(spec: &str) -> Tunnel {
    fabric(&format!("{BASE}{}", object("Tunnel", "t", spec))).tunnels["t"].spec.clone()
}

fn told(spec: &str) -> String {
    wrong(&object("Tunnel", "t", spec))
}

fn peers(peers: &str) -> String {
    format!("  router: core\n  wireguard: {{peers: [{peers}]}}")
}

#[test]
fn what_is_left_out_gets_its_default() {
    let tunnel = parsed("  network: front\n  vxlan: {vni: 0, remotes: [{address: 192.0.2.2}]}");
    let TunnelForm::Vxlan { segment, carrier, vxlan } = &tunnel.form else { panic!("{tunnel:?}") };
    assert_eq!((segment.vlan, carrier, vxlan.port.get()), (0, &Carrier::Node, 4789));
    assert_eq!((vxlan.vni.get(), vxlan.suppress_neighbors), (0, false));
    assert_eq!((tunnel.mtu, tunnel.local), (None, None));
    let tunnel = parsed(&peers(&format!("{{publicKey: '{KEY}'}}")));
    let wireguard = tunnel.wireguard().unwrap();
    assert_eq!((wireguard.listen_port.get(), wireguard.peers[0].keepalive), (51820, 0));
}

#[test]
fn a_tunnel_is_as_given() {
    let peer = format!(
        "{{name: far, publicKey: '{KEY}', nextPublicKey: '{NEXT}', endpoint: '[2001:db8::2]:51820', \
         allowedPrefixes: [0.0.0.0/0, '::/0'], persistentKeepaliveSeconds: 25}}"
    );
    let tunnel = parsed(&peers(&peer));
    let far = &tunnel.wireguard().unwrap().peers[0];
    assert_eq!(far.keys().collect::<Vec<_>>(), [KEY.parse().unwrap(), NEXT.parse().unwrap()]);
    assert_eq!(far.endpoint, Some("[2001:db8::2]:51820".parse().unwrap()));
    assert_eq!((far.allowed.len(), far.keepalive, far.name.as_ref().unwrap().as_str()), (2, 25, "far"));
    let tunnel = parsed(
        "  router: core\n  addresses: [198.18.9.1/24]\n  routes: [203.0.113.0/24]\n  gre: {remote: 192.0.2.2, key: 0}",
    );
    assert_eq!((tunnel.word(), tunnel.gre().unwrap().key), ("gre", Some(0)));
    let reached: Vec<_> = tunnel.prefixes().into_iter().map(|(_, prefix)| prefix.to_string()).collect();
    assert_eq!(reached, ["198.18.9.0/24", "203.0.113.0/24"]);
    let tunnel = parsed(
        "  network: front\n  vlan: 7\n  vxlan: {vni: 1, port: 8472, suppressNeighbors: true, remotes: \
         [{address: '2001:db8::2', macs: ['02:00:00:00:00:09']}]}",
    );
    assert_eq!(tunnel.segment().unwrap().vlan, 7);
}

#[test]
fn exactly_one_encapsulation_is_given() {
    assert_eq!(
        told("  router: core"),
        "Tunnel/t: spec: nothing given that says how it encapsulates, exactly one of vxlan, gre, gretap, wireguard \
         expected"
    );
    assert_eq!(
        told("  router: core\n  gre: {remote: 192.0.2.2}\n  wireguard: {}"),
        "Tunnel/t: spec.wireguard: given beside spec.gre, exactly one of vxlan, gre, gretap, wireguard expected"
    );
}

#[test]
fn every_field_that_the_encapsulation_has_no_use_for_is_named() {
    let ethernet = "nothing expected for vxlan, which carries Ethernet frames and joins a Network";
    let ip = "nothing expected for gre, which carries IP packets and joins a Router";
    let vxlan = "  network: front\n  vxlan: {vni: 1}\n";
    let gre = "  router: core\n  gre: {remote: 192.0.2.2}\n";
    let wireguard = "  router: core\n  wireguard: {}\n";
    let cases = [
        (format!("{vxlan}  router: core"), format!("spec.router: given, {ethernet}")),
        (format!("{vxlan}  addresses: [198.18.9.1/24]"), format!("spec.addresses: given, {ethernet}")),
        (format!("{vxlan}  routes: [198.18.9.0/24]"), format!("spec.routes: given, {ethernet}")),
        (format!("{gre}  network: front"), format!("spec.network: given, {ip}")),
        (format!("{gre}  vlan: 7"), format!("spec.vlan: given, {ip}")),
        (
            format!("{gre}  carrier: {{router: core}}"),
            "spec.carrier: given, nothing expected for gre, only for vxlan".to_owned(),
        ),
        (
            format!("{wireguard}  routes: [198.18.9.0/24]"),
            "spec.routes: given, nothing expected for wireguard: what its peers are allowed is routed to them"
                .to_owned(),
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(told(&spec), format!("Tunnel/t: {expected}"), "{spec}");
    }
}

#[test]
fn every_wrong_field_is_named() {
    let remotes = |remotes: &str| format!("  network: front\n  vxlan: {{vni: 1, remotes: [{remotes}]}}");
    let gre = |more: &str| format!("  router: core\n  gre: {{remote: 192.0.2.2}}\n{more}");
    let cases = [
        ("  vxlan: {vni: 1}".to_owned(), "network: not given, the name of a Network expected"),
        ("  wireguard: {}".to_owned(), "router: not given, the name of a Router expected"),
        ("  network: front\n  vxlan: {}".to_owned(), "vxlan.vni: not given, 0 to 16777215 expected"),
        (
            "  network: front\n  vxlan: {vni: 16777216}".to_owned(),
            "vxlan.vni: 16777216 is not a VNI, 0 to 16777215 expected",
        ),
        (
            "  network: front\n  vxlan: {vni: 1, port: 65536}".to_owned(),
            "vxlan.port: 65536 is out of range, 1 to 65535 expected",
        ),
        (remotes("{}"), "vxlan.remotes[0].address: not given, the address of the far end expected"),
        (remotes("{address: 239.1.1.1}"), "vxlan.remotes[0].address: 239.1.1.1 is not a unicast address"),
        (
            remotes("{address: 192.0.2.2}, {address: 192.0.2.2}"),
            "vxlan.remotes[1].address: 192.0.2.2 is given twice",
        ),
        (
            remotes("{address: 192.0.2.2, macs: ['02:00:00:00:00:09', '02:00:00:00:00:09']}"),
            "vxlan.remotes[0].macs[1]: 02:00:00:00:00:09 is given twice",
        ),
        (
            remotes("{address: 192.0.2.2, macs: ['33:33:00:00:00:09']}"),
            "vxlan.remotes[0].macs[0]: 33:33:00:00:00:09 is not a unicast MAC address",
        ),
        (
            "  router: core\n  gre: {}".to_owned(),
            "gre.remote: not given, the address of the far end expected",
        ),
        (gre("  local: 192.0.2.2"), "gre.remote: 192.0.2.2 is spec.local, another address expected"),
        (gre("  local: '2001:db8::1'"), "local: 2001:db8::1 is not of the same family as 192.0.2.2"),
        (gre("  mtu: 65521"), "mtu: 65521 is not an MTU, 68 to 65520 octets expected"),
        (
            gre("  mtu: 1279\n  routes: ['2001:db8:9::/64']"),
            "mtu: 1279 is too small for the IPv6 prefix 2001:db8:9::/64, 1280 or more octets expected",
        ),
        (
            gre("  addresses: [198.18.9.0/24]"),
            "addresses[0]: 198.18.9.0 is the network address of 198.18.9.0/24",
        ),
        (gre("  routes: [203.0.113.0/24, 203.0.113.0/24]"), "routes[1]: 203.0.113.0/24 is given twice"),
        (
            "  network: front\n  carrier: {router: core}\n  vxlan: {vni: 1}".to_owned(),
            "local: not given, an address of the Router in spec.carrier expected",
        ),
        (
            "  network: front\n  carrier: {}\n  vxlan: {vni: 1}".to_owned(),
            "carrier.router: not given, the name of a Router expected",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(told(&spec), format!("Tunnel/t: spec.{expected}"), "{spec}");
    }
}

#[test]
fn every_wrong_field_of_a_peer_is_named() {
    let other = format!("{{publicKey: '{NEXT}', name: a, allowedPrefixes: [198.18.9.0/24]}}");
    let keyed = |more: &str| format!("{{publicKey: '{KEY}', {more}}}");
    let such = "ADDRESS:PORT or [ADDRESS]:PORT, such as 192.0.2.2:51820 or [2001:db8::2]:51820, expected";
    let no_key = "not a key, 32 octets in Base64 (44 characters, as `wg genkey` writes them) expected";
    let cases = [
        ("{}".to_owned(), "publicKey: not given, the key of the peer in Base64 expected".to_owned()),
        ("{publicKey: AAAA}".to_owned(), format!("publicKey: {no_key}")),
        (keyed("nextPublicKey: AAAA"), format!("nextPublicKey: {no_key}")),
        (keyed(&format!("nextPublicKey: '{KEY}'")), format!("nextPublicKey: {KEY} is given twice")),
        (keyed(&format!("nextPublicKey: '{NEXT}'")), format!("nextPublicKey: {NEXT} is given twice")),
        (keyed("name: a"), "name: \"a\" is given twice".to_owned()),
        (keyed("endpoint: 192.0.2.2"), format!("endpoint: \"192.0.2.2\" is not an endpoint, {such}")),
        (
            keyed("endpoint: 'far.example:1'"),
            format!("endpoint: \"far.example:1\" is not an endpoint, {such}"),
        ),
        (
            keyed("endpoint: '192.0.2.2:0'"),
            "endpoint: 192.0.2.2:0 has no port, 1 to 65535 expected".to_owned(),
        ),
        (keyed("endpoint: '224.0.0.1:1'"), "endpoint: 224.0.0.1 is not a unicast address".to_owned()),
        (
            keyed("allowedPrefixes: [198.18.9.0/24]"),
            "allowedPrefixes[0]: 198.18.9.0/24 is allowed to spec.wireguard.peers[0] already".to_owned(),
        ),
        (
            keyed("allowedPrefixes: [198.18.9.1/24]"),
            "allowedPrefixes[0]: 198.18.9.1/24 has host bits set, 198.18.9.0/24 expected".to_owned(),
        ),
        (keyed("allowedPrefixes: ['::/0', '::/0']"), "allowedPrefixes[1]: ::/0 is given twice".to_owned()),
        (
            keyed("persistentKeepaliveSeconds: 65536"),
            "persistentKeepaliveSeconds: 65536 is out of range, 0 to 65535 expected".to_owned(),
        ),
    ];
    for (peer, expected) in cases {
        let spec = peers(&format!("{other}, {peer}"));
        assert_eq!(told(&spec), format!("Tunnel/t: spec.wireguard.peers[1].{expected}"), "{peer}");
    }
}

#[test]
fn a_local_address_is_of_the_peers_family() {
    let spec = peers(&format!("{{publicKey: '{KEY}', endpoint: '[2001:db8::2]:1'}}"));
    assert_eq!(
        told(&format!("{spec}\n  local: 192.0.2.1")),
        "Tunnel/t: spec.local: 192.0.2.1 is not of the same family as 2001:db8::2"
    );
}

proptest! {
    #[test]
    fn any_text_and_number_is_taken_or_refused(
        text in prop::collection::vec("[0-9a-f:./\\[\\]=+-]{0,24}", 8),
        prefix in prop::sample::select(vec!["0.0.0.0/0", "198.18.1.0/24", "::/0", "255.255.255.255/32", "x"]),
        key in prop::sample::select(vec![KEY, NEXT, "", "AAAA"]),
        number: u32,
        which in 0..16u8,
    ) {
        let gre = || v1::Gre { remote: text[0].clone(), key: Some(number), ..Default::default() };
        let remote = v1::VxlanRemote { address: text[1].clone(), macs: vec![text[2].clone()] };
        let peer = v1::WireGuardPeer {
            public_key: key.into(),
            next_public_key: text[3].clone(),
            endpoint: text[4].clone(),
            allowed_prefixes: vec![prefix.into(), text[5].clone()],
            persistent_keepalive_seconds: number,
            ..Default::default()
        };
        let vxlan = v1::Vxlan { vni: Some(number), port: number, remotes: vec![remote], ..Default::default() };
        let wireguard = v1::WireGuard { listen_port: number, peers: vec![peer], ..Default::default() };
        let spec = v1::TunnelSpec {
            network: "front".into(),
            router: "core".into(),
            addresses: vec![text[6].clone(), prefix.into()],
            routes: vec![prefix.into()],
            mtu: number,
            local: text[7].clone(),
            vxlan: (which & 1 != 0).then_some(vxlan),
            gre: (which & 2 != 0).then(gre),
            gretap: (which & 4 != 0).then(gre),
            wireguard: (which & 8 != 0).then_some(wireguard),
            ..Default::default()
        };
        let object = ObjectRef::new(Kind::Tunnel, Name::new("t").unwrap());
        match super::parse(&object, Some(&spec)) {
            Ok(tunnel) => prop_assert!(tunnel.inner_mtu(number).get() >= 68),
            Err(found) => prop_assert!(!found.is_empty()),
        }
    }
}
