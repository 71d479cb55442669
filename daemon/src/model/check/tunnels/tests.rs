//! What is wrong between tunnels and other objects, each with its message.

use std::collections::BTreeSet;

use crate::fixture::{BASE, fabric, lines, object, port, wrong};
use crate::model::check;
use crate::model::{Kind, Name, ObjectRef};

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

fn tunnel(name: &str, spec: &str) -> String {
    object("Tunnel", name, spec)
}

fn gre(name: &str, remote: &str, more: &str) -> String {
    tunnel(name, &format!("  router: core\n  gre: {{remote: {remote}}}\n{more}"))
}

fn wireguard(name: &str, port: u16, more: &str) -> String {
    tunnel(
        name,
        &format!(
            "  router: core\n  wireguard: {{listenPort: {port}, peers: [{{publicKey: '{KEY}', {more}}}]}}"
        ),
    )
}

fn vxlan(name: &str, spec: &str) -> String {
    tunnel(name, &format!("  network: front\n  vxlan: {{{spec}}}"))
}

#[test]
fn right_tunnels_have_no_findings() {
    let all = [
        vxlan("a", "vni: 1, remotes: [{address: 192.0.2.2}]"),
        vxlan("b", "vni: 2, remotes: [{address: 192.0.2.2}]"),
        gre("c", "192.0.2.2", "  addresses: [198.18.9.1/24]\n  routes: [198.18.0.0/15]"),
        gre("d", "192.0.2.3", "  addresses: [198.18.10.1/24]"),
        wireguard("e", 51820, "allowedPrefixes: [0.0.0.0/0, 198.18.11.0/24]"),
        wireguard("f", 51821, "allowedPrefixes: [198.18.12.0/24]"),
    ];
    assert_eq!(wrong(&all.concat()), "");
    let carried = "  network: front\n  local: 198.18.9.1\n  carrier: {router: core}\n  vxlan: {vni: 1, remotes: [{address: 198.18.9.2}]}";
    assert_eq!(wrong(&format!("{}{}", all.concat(), tunnel("g", carried))), "");
    let by_gateway = carried.replace("198.18.9.1", "198.18.2.1");
    assert_eq!(wrong(&tunnel("g", &by_gateway)), "");
}

#[test]
fn references_must_lead_somewhere() {
    let cases = [
        ("  network: none\n  vxlan: {vni: 1}", "network: there is no Network/none"),
        ("  router: none\n  wireguard: {}", "router: there is no Router/none"),
        (
            "  network: front\n  local: 198.18.2.2\n  carrier: {router: core}\n  vxlan: {vni: 1}",
            "local: 198.18.2.2 is not an address of Router/core",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(wrong(&tunnel("t", spec)), format!("Tunnel/t: spec.{expected}"), "{spec}");
    }
}

#[test]
fn a_tunnel_that_would_carry_itself_is_refused() {
    let carried = |local: &str, remote: &str| {
        let spec = format!(
            "  network: front\n  local: {local}\n  carrier: {{router: core}}\n  vxlan: {{vni: 1, remotes: [{{address: 198.18.2.9}}, {{address: {remote}}}]}}"
        );
        tunnel("t", &spec)
    };
    let wrong_way = carried("198.18.2.1", "198.18.1.9");
    assert_eq!(
        wrong(&wrong_way),
        "Tunnel/t: spec.vxlan.remotes[1].address: 198.18.1.9 is in 198.18.1.0/24 of Network/front, which this \
         Tunnel extends: Router/core would send to it through the Tunnel itself"
    );
    let v6 = "  network: front\n  local: '2001:db8:1::1'\n  carrier: {router: core}\n  vxlan: {vni: 1, remotes: [{address: '2001:db8:1::9'}]}";
    assert!(wrong(&tunnel("t", v6)).contains("2001:db8:1::9 is in 2001:db8:1::/64"));
    // Another Network, a prefix that leads elsewhere, and a VLAN of its own.
    assert_eq!(wrong(&carried("198.18.1.1", "198.18.2.10")), "");
    let elsewhere = wireguard("w", 51820, "allowedPrefixes: [198.18.1.9/32]");
    assert_eq!(wrong(&format!("{elsewhere}{wrong_way}")), "");
    assert_eq!(wrong(&wrong_way.replace("network: front", "network: front\n  vlan: 7")), "");
}

#[test]
fn no_two_tunnels_are_told_apart_by_nothing() {
    let far = "remotes: [{address: 192.0.2.2}]";
    let gretap = tunnel("b", "  network: front\n  gretap: {remote: 192.0.2.2}");
    let keyed = "  network: front\n  gretap: {remote: 192.0.2.2, key: 7}";
    let cases = [
        (
            [vxlan("a", &format!("vni: 1, {far}")), vxlan("b", &format!("vni: 1, {far}"))],
            "vxlan.remotes[0].address: 192.0.2.2 is spoken to with VNI 1 on port 4789 by Tunnel/a already",
        ),
        (
            [gre("a", "192.0.2.2", ""), gretap],
            "gretap.remote: 192.0.2.2 is spoken to without a key by Tunnel/a already",
        ),
        (
            [tunnel("a", keyed), tunnel("b", keyed)],
            "gretap.remote: 192.0.2.2 is spoken to with the key 7 by Tunnel/a already",
        ),
        ([wireguard("a", 7, ""), wireguard("b", 7, "")], "wireguard.listenPort: 7 is taken by Tunnel/a"),
        ([vxlan("a", "vni: 1"), wireguard("b", 4789, "")], "wireguard.listenPort: 4789 is taken by Tunnel/a"),
        ([wireguard("a", 4789, ""), vxlan("b", "vni: 1")], "vxlan.port: 4789 is taken by Tunnel/a"),
    ];
    for (two, expected) in cases {
        assert_eq!(wrong(&two.concat()), format!("Tunnel/b: spec.{expected}"));
    }
    let apart = [
        vxlan("a", &format!("vni: 1, {far}")),
        vxlan("b", &format!("vni: 1, port: 8472, {far}")),
        gre("c", "192.0.2.2", ""),
        tunnel("d", keyed),
    ];
    assert_eq!(wrong(&apart.concat()), "");
}

#[test]
fn a_router_reaches_each_prefix_by_one_link() {
    let cases = [
        (
            gre("t", "192.0.2.2", "  addresses: [198.18.1.7/24]"),
            "Tunnel/t: spec.addresses[0]: 198.18.1.0/24 is reached by Network/front already",
        ),
        (
            gre("t", "192.0.2.2", "  routes: ['2001:db8:1::/64']"),
            "Tunnel/t: spec.routes[0]: 2001:db8:1::/64 is reached by Network/front already",
        ),
        (
            wireguard("t", 1, "allowedPrefixes: [198.18.7.0/24, 198.18.2.0/24]"),
            "Tunnel/t: spec.wireguard.peers[0].allowedPrefixes[1]: 198.18.2.0/24 is reached by Network/back already",
        ),
        (
            [wireguard("a", 1, "allowedPrefixes: ['::/0']"), wireguard("b", 2, "allowedPrefixes: ['::/0']")]
                .concat(),
            "Tunnel/b: spec.wireguard.peers[0].allowedPrefixes[0]: ::/0 is reached by Tunnel/a already",
        ),
        (
            object("Router", "core", "  routes: [{prefix: 203.0.113.0/24, action: blackhole}]")
                + &gre("t", "192.0.2.2", "  routes: [203.0.113.0/24]"),
            "Tunnel/t: spec.routes[0]: 203.0.113.0/24 is reached by Router/core already",
        ),
    ];
    for (yaml, expected) in cases {
        assert_eq!(wrong(&yaml), expected);
    }
    // What is on the link and allowed as well is the same link's.
    let same = format!(
        "  router: core\n  addresses: [198.18.9.1/24]\n  wireguard: {{peers: [{{publicKey: '{KEY}', allowedPrefixes: [198.18.9.0/24]}}]}}"
    );
    assert_eq!(wrong(&tunnel("t", &same)), "");
}

#[test]
fn addresses_on_tunnels_are_nobody_elses() {
    let web = port("web", "  addresses: [198.18.1.9/24]");
    let cases = [
        ("198.18.1.1/32", "198.18.1.1 is taken by Network/front already"),
        ("198.18.1.9/32", "198.18.1.9 is taken by Port/web already"),
    ];
    for (address, expected) in cases {
        let yaml = format!("{web}{}", gre("t", "192.0.2.2", &format!("  addresses: [{address}]")));
        assert_eq!(wrong(&yaml), format!("Tunnel/t: spec.addresses[0]: {expected}"));
    }
}

#[test]
fn the_mtu_fits_the_network() {
    let mtu = |mtu: u32| wrong(&tunnel("t", &format!("  network: front\n  mtu: {mtu}\n  vxlan: {{vni: 1}}")));
    assert_eq!(mtu(1500), "");
    assert_eq!(mtu(1501), "Tunnel/t: spec.mtu: 1501 is more than the Network's 1500");
    assert_eq!(
        mtu(1279),
        "Tunnel/t: spec.mtu: 1279 is too small for the IPv6 subnet 2001:db8:1::/64, 1280 or more octets expected"
    );
}

#[test]
fn whoever_comes_second_is_blamed_for_a_name() {
    let yaml = format!("{BASE}{}{}", gre("web", "192.0.2.2", ""), port("web", ""));
    let fabric = fabric(&yaml);
    let object = |kind| ObjectRef::new(kind, Name::new("web").unwrap());
    let told = |touched: &[Kind]| {
        let touched: BTreeSet<ObjectRef> = touched.iter().map(|kind| object(*kind)).collect();
        lines(&check::fabric(&fabric, &touched))
    };
    let port = "Port/web: metadata.name: \"web\" is the name of Tunnel/web, which is counted by it; another one expected";
    let tunnel = "Tunnel/web: metadata.name: \"web\" is the name of Port/web, which is counted by it; another one expected";
    assert_eq!(told(&[Kind::Port]), port);
    assert_eq!(told(&[Kind::Tunnel]), tunnel);
    assert_eq!(told(&[Kind::Port, Kind::Tunnel]), tunnel);
}

#[test]
fn tunnels_hold_back_what_they_join() {
    let fabric = fabric(&format!("{BASE}{}{}", gre("g", "192.0.2.2", ""), vxlan("v", "vni: 1")));
    let referrers = |kind, name: &str| {
        let found = check::referrers(&fabric, &ObjectRef::new(kind, Name::new(name).unwrap()));
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(referrers(Kind::Network, "front"), ["Tunnel/v"]);
    assert_eq!(referrers(Kind::Router, "core"), ["Network/back", "Network/front", "Tunnel/g"]);
    assert!(referrers(Kind::Tunnel, "g").is_empty());
}

#[test]
fn a_next_hop_may_be_at_the_end_of_a_gre_tunnel() {
    let route = |hop: &str| {
        let router =
            object("Router", "core", &format!("  routes: [{{prefix: 203.0.113.0/24, nextHops: [{hop}]}}]"));
        wrong(&format!("{router}{}", gre("g", "192.0.2.2", "  addresses: [198.18.9.1/30]")))
    };
    assert_eq!(route("198.18.9.2"), "");
    let outside = "is not inside a subnet of a Network on Router/core";
    for hop in ["198.18.9.1", "198.18.9.9"] {
        assert_eq!(route(hop), format!("Router/core: spec.routes[0].nextHops[0]: {hop} {outside}"));
    }
}

#[test]
fn the_tunnels_of_the_documents_are_right() {
    let documents = include_str!("../../../../../docs/resources.md");
    let blocks = documents.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let tunnels: Vec<&str> = blocks.filter(|block| block.contains("kind: Tunnel")).collect();
    assert_eq!(tunnels.len(), 3);
    let main = object("Router", "main", "");
    assert_eq!(wrong(&format!("{main}---\n{}", tunnels.join("---\n"))), "");
    assert_eq!(wrong(include_str!("../../../../../examples/tunnels.yaml")), "");
}
