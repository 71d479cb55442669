//! What is wrong between objects, each with its message.

use proptest::prelude::*;

use super::*;
use crate::fixture::{BASE, fabric as parsed, lines, object, port, stored, wrong};

#[test]
fn a_right_fabric_has_no_findings() {
    let ports = [
        port("a", "  addresses: [198.18.1.10/24, '2001:db8:1::10/64']\n  defaultRoute: true"),
        port("b", "  device: eth1\n  addresses: [198.18.1.11/32]\n  vlan: 7"),
    ];
    assert_eq!(wrong(&ports.concat()), "");
    let route = "  routes: [{prefix: 192.0.2.0/24, nextHops: [198.18.1.9, 198.18.2.9]}]";
    assert_eq!(wrong(&object("Router", "core", route)), "");
}

#[test]
fn uplinks_of_different_networks_share_a_card_when_their_tags_differ() {
    let uplink = |name: &str, network: &str, trunk: &str| {
        object("Port", name, &format!("  network: {network}\n  type: uplink\n  device: lan0\n{trunk}"))
    };
    let trunk = |ids: &str| format!("  trunk: {{allowed: {ids}}}");
    let third = object("Network", "third", "");
    let right = [
        uplink("a", "front", &trunk("[10, 20-29]")),
        uplink("b", "back", &trunk("[11, 30]")),
        uplink("c", "third", ""),
        third.clone(),
    ];
    assert_eq!(wrong(&right.concat()), "");
    let of = "spec.device: \"lan0\" is taken by Port/a";
    let here = "in the daemon's own namespace";
    let others = "other VLANs of it expected (spec.trunk)";
    for (a, b, expected) in [
        (trunk("[10, 20-29]"), trunk("[29-31]"), format!("Port/b: {of} with VLAN 29, {others} {here}")),
        (String::new(), String::new(), format!("Port/b: {of} with frames without a tag, {others} {here}")),
        (
            trunk("[10]").replace('}', ", native: 0}"),
            String::new(),
            format!("Port/b: {of} with frames without a tag, {others} {here}"),
        ),
        (
            trunk("[10]"),
            "  vlanTunnel: true".to_owned(),
            format!("Port/b: {of} with VLAN 10, {others} {here}"),
        ),
    ] {
        assert_eq!(wrong(&(uplink("a", "front", &a) + &uplink("b", "back", &b))), expected);
    }
    let same = uplink("a", "front", &trunk("[10]")) + &uplink("b", "front", &trunk("[11]"));
    assert_eq!(wrong(&same), format!("Port/b: {of} {here}"));
}

#[test]
fn references_must_lead_somewhere() {
    assert_eq!(
        wrong(&object("Network", "n", "  router: none")),
        "Network/n: spec.router: there is no Router/none"
    );
    let yaml = port("web", "").replace("namespace: box", "namespace: none");
    assert_eq!(wrong(&yaml), "Port/web: spec.namespace: there is no Namespace/none");
}

#[test]
fn what_is_being_deleted_is_no_place_for_something_new() {
    let mut fabric = parsed(&format!("{BASE}{}", port("web", "")));
    let going = Some(std::time::SystemTime::now());
    std::sync::Arc::make_mut(fabric.networks.get_mut("front").unwrap()).metadata.deleting = going;
    std::sync::Arc::make_mut(fabric.namespaces.get_mut("box").unwrap()).metadata.deleting = going;
    assert_eq!(
        lines(&super::fabric(&fabric, &BTreeSet::new())),
        "Port/web: spec.namespace: Namespace/box is being deleted\n\
         Port/web: spec.network: Network/front is being deleted"
    );
    std::sync::Arc::make_mut(fabric.ports.get_mut("web").unwrap()).metadata.deleting = going;
    assert_eq!(super::fabric(&fabric, &BTreeSet::new()), []);
}

#[test]
fn addresses_must_fit_the_network() {
    let cases = [
        (
            "198.18.2.9/24",
            "198.18.2.9 is not inside a subnet of Network/front, which has 198.18.1.0/24, 2001:db8:1::/64",
        ),
        ("198.18.1.9/16", "/16 is wider than the subnet 198.18.1.0/24, /24 or longer expected"),
        ("198.18.1.0/24", "198.18.1.0 is the network address of 198.18.1.0/24"),
        ("198.18.1.255/32", "198.18.1.255 is the broadcast address of 198.18.1.0/24"),
        ("2001:db8:1::/64", "2001:db8:1:: is the subnet-router anycast address of 2001:db8:1::/64"),
        ("198.18.1.1/24", "198.18.1.1 is the gateway of 198.18.1.0/24"),
        ("2001:db8:1::1/64", "2001:db8:1::1 is the gateway of 2001:db8:1::/64"),
    ];
    for (address, expected) in cases {
        let yaml = port("web", &format!("  addresses: ['{address}']"));
        assert_eq!(wrong(&yaml), format!("Port/web: spec.addresses[0]: {expected}"), "{address}");
    }
    let bare = object("Network", "bare", "");
    let yaml = port("web", "  addresses: [198.18.1.9/24]").replace("front", "bare");
    assert_eq!(
        wrong(&format!("{bare}{yaml}")),
        "Port/web: spec.addresses[0]: 198.18.1.9 is not inside a subnet of Network/bare, which has none"
    );
}

#[test]
fn nothing_is_taken_twice() {
    let first = port("a", "  mac: 02:00:00:00:00:01\n  addresses: [198.18.1.9/24]\n  defaultRoute: true");
    let cases = [
        (
            "  device: eth1\n  mac: 02:00:00:00:00:01",
            "spec.mac: 02:00:00:00:00:01 is taken by Port/a on Network/front",
        ),
        (
            "  device: eth1\n  addresses: [198.18.1.9/32]",
            "spec.addresses[0]: 198.18.1.9 is taken by Port/a on Network/front",
        ),
        ("", "spec.device: \"eth0\" is taken by Port/a in Namespace/box"),
        (
            "  device: eth1\n  addresses: [198.18.1.8/24]\n  defaultRoute: true",
            "spec.routes: 0.0.0.0/0 has a route of Port/a in Namespace/box already",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(wrong(&format!("{first}{}", port("b", spec))), format!("Port/b: {expected}"), "{spec}");
    }
    let gateway = weft_stack::MacAddr::from_name("network", "front");
    assert_eq!(
        wrong(&port("web", &format!("  mac: {gateway}"))),
        format!("Port/web: spec.mac: {gateway} is the gateway's of Network/front")
    );
}

#[test]
fn the_blame_is_on_what_the_request_touches() {
    let fabric = parsed(&format!("{BASE}{}{}", port("a", ""), port("b", "")));
    let told = |name: &str| {
        let touched = BTreeSet::from([ObjectRef::new(Kind::Port, Name::new(name).unwrap())]);
        lines(&super::fabric(&fabric, &touched))
    };
    assert_eq!(told("a"), "Port/a: spec.device: \"eth0\" is taken by Port/b in Namespace/box");
    assert_eq!(told("b"), "Port/b: spec.device: \"eth0\" is taken by Port/a in Namespace/box");
}

#[test]
fn host_ports_share_the_namespace_of_the_daemon() {
    let host = |name| object("Port", name, "  network: front\n  type: host\n  device: w0");
    assert_eq!(
        wrong(&format!("{}{}", host("a"), host("b"))),
        "Port/b: spec.device: \"w0\" is taken by Port/a in the daemon's own namespace"
    );
}

#[test]
fn a_vlan_port_has_no_way_by_the_gateway() {
    let refused = "Port/web: spec.vlan: 7 given, but the gateway of 198.18.1.0/24 is on the untagged VLAN only: \
                   no default route and no route by it expected";
    let address = "  vlan: 7\n  addresses: [198.18.1.9/24]\n";
    assert_eq!(wrong(&port("web", &format!("{address}  defaultRoute: true"))), refused);
    assert_eq!(wrong(&port("web", &format!("{address}  routes: [{{prefix: 192.0.2.0/24}}]"))), refused);
    let neighbor = format!("{address}  routes: [{{prefix: 192.0.2.0/24, via: 198.18.1.8}}]");
    assert_eq!(wrong(&port("web", &neighbor)), "");
}

#[test]
fn subnets_of_one_router_do_not_overlap() {
    let network =
        |router: &str| object("Network", "n", &format!("{router}  subnets: [{{prefix: 198.18.0.0/22}}]"));
    let told = wrong(&network("  router: core\n"));
    assert_eq!(
        told.lines().next().unwrap(),
        "Network/n: spec.subnets[0].prefix: 198.18.0.0/22 overlaps 198.18.1.0/24 of Network/front on the same \
         Router/core"
    );
    assert_eq!(told.lines().count(), 2, "{told}");
    assert_eq!(wrong(&network("")), "");
    let inside = object("Network", "n", "  router: core\n  subnets: [{prefix: 198.18.2.128/25}]");
    assert_eq!(
        wrong(&inside),
        "Network/n: spec.subnets[0].prefix: 198.18.2.128/25 overlaps 198.18.2.0/24 of Network/back on the same \
         Router/core"
    );
}

#[test]
fn next_hops_are_neighbours() {
    let cases = [
        (
            "192.0.2.0/24, nextHops: [198.18.9.1]",
            "nextHops[0]: 198.18.9.1 is not inside a subnet of a Network on \
          Router/core",
        ),
        (
            "192.0.2.0/24, nextHops: [198.18.1.1]",
            "nextHops[0]: 198.18.1.1 is this Router's own address on Network/front",
        ),
        (
            "198.18.2.0/24, nextHops: [198.18.1.9]",
            "prefix: 198.18.2.0/24 is a subnet of Network/back, reachable without a route",
        ),
    ];
    for (route, expected) in cases {
        let yaml = object("Router", "core", &format!("  routes: [{{prefix: {route}}}]"));
        assert_eq!(wrong(&yaml), format!("Router/core: spec.routes[0].{expected}"), "{route}");
    }
    let mute = object("Network", "mute", "  router: core\n  subnets: [{prefix: 198.18.9.0/24}]");
    let route = object("Router", "core", "  routes: [{prefix: 192.0.2.0/24, nextHops: [198.18.9.9]}]");
    assert_eq!(
        wrong(&format!("{mute}{route}")),
        "Router/core: spec.routes[0].nextHops[0]: 198.18.9.9 cannot be reached: its subnet 198.18.9.0/24 of \
         Network/mute has no gateway"
    );
}

#[test]
fn a_path_is_adopted_once() {
    let adopt = |name| object("Namespace", name, "  path: /run/netns/pod");
    assert_eq!(
        wrong(&format!("{}{}", adopt("a"), adopt("b"))),
        "Namespace/b: spec.path: /run/netns/pod is adopted by Namespace/a already"
    );
}

#[test]
fn place_and_type_stay() {
    let told = |after: &str| {
        let before = parsed(&format!("{BASE}{}", port("web", "")));
        let after = parsed(&format!("{BASE}{after}"));
        let (objects, found): (Vec<_>, Vec<_>) = fixed_fields(&before, &after).into_iter().unzip();
        assert!(
            objects.iter().all(|object| found.iter().any(|wrong| wrong.field.contains(&object.to_string())))
        );
        lines(&found)
    };
    let fixed = "cannot be changed; delete the Port and make it again";
    assert_eq!(told(&port("web", "  device: eth7")), format!("Port/web: spec.device: {fixed}"));
    assert_eq!(told(&port("web", "").replace("tap", "veth")), format!("Port/web: spec.type: {fixed}"));
    let moved = format!("{}{}", object("Namespace", "other", ""), port("web", "").replace("box", "other"));
    assert_eq!(told(&moved), format!("Port/web: spec.namespace: {fixed}"));
    assert_eq!(told(&port("web", "  mtu: 1400\n  vlan: 3")), "");
    let before = parsed(&object("Namespace", "box", ""));
    let after = parsed(&object("Namespace", "box", "  path: /run/netns/box"));
    assert_eq!(
        fixed_fields(&before, &after)[0].1.to_string(),
        "Namespace/box: spec.path: cannot be changed; delete the Namespace and make it again"
    );
}

#[test]
fn referrers_are_those_that_stay() {
    let mut fabric = parsed(&format!("{BASE}{}", port("web", "")));
    let of = |fabric: &Fabric, kind, name: &str| {
        let found = referrers(fabric, &ObjectRef::new(kind, Name::new(name).unwrap()));
        found.iter().map(ObjectRef::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(&fabric, Kind::Namespace, "box"), "Port/web");
    assert_eq!(of(&fabric, Kind::Network, "front"), "Port/web");
    assert_eq!(of(&fabric, Kind::Network, "back"), "");
    assert_eq!(of(&fabric, Kind::Router, "core"), "Network/back Network/front");
    std::sync::Arc::make_mut(fabric.ports.get_mut("web").unwrap()).metadata.deleting =
        Some(std::time::SystemTime::now());
    assert_eq!(of(&fabric, Kind::Namespace, "box"), "");
}

#[test]
fn a_port_of_the_node_leads_to_one_container() {
    let mapped = |name: &str, device: &str, address: &str, mapping: &str| {
        let spec = format!("  device: {device}\n  addresses: ['{address}']\n  portMappings: [{mapping}]");
        port(name, &spec)
    };
    let one = mapped("a", "eth1", "198.18.1.10/24", "{hostPort: 8080, containerPort: 80}");
    for (address, mapping, expected) in [
        (
            "198.18.1.11/24",
            "{hostPort: 8080, containerPort: 81}",
            "8080/tcp is taken by Port/a, which maps 8080/tcp",
        ),
        (
            "198.18.1.11/24",
            "{hostPort: 8080, containerPort: 81, hostAddress: 192.0.2.1}",
            "192.0.2.1:8080/tcp is taken by Port/a, which maps 8080/tcp",
        ),
        ("198.18.1.11/24", "{protocol: udp, hostPort: 8080, containerPort: 81}", ""),
        ("2001:db8:1::11/64", "{hostPort: 8080, containerPort: 81}", ""),
    ] {
        let found = wrong(&format!("{one}{}", mapped("b", "eth2", address, mapping)));
        let prefix = "Port/b: spec.portMappings[0].hostPort: ";
        assert_eq!(found, if expected.is_empty() { String::new() } else { format!("{prefix}{expected}") });
    }
}

#[test]
fn masqueraded_networks_are_told_apart_by_their_subnets() {
    let network = |name: &str, router: &str| {
        let spec = format!("  router: {router}\n  masquerade: {{}}\n  subnets: [{{prefix: 198.18.9.0/24}}]");
        object("Network", name, &spec)
    };
    let other = object("Router", "other", "");
    assert_eq!(
        wrong(&format!("{other}{}{}", network("m", "core"), network("n", "other"))),
        "Network/n: spec.masquerade: 198.18.9.0/24 overlaps 198.18.9.0/24 of Network/m, which is masqueraded too"
    );
    let silent = network("n", "other").replace("  masquerade: {}\n", "");
    assert_eq!(wrong(&format!("{other}{}{silent}", network("m", "core"))), "");
}

/// Ports and Namespaces that often want the same.
fn crowd() -> impl Strategy<Value = Vec<String>> {
    let port = (0..7_u8, 0..3_u8, 0..4_u8, 0..3_u8, 0..6_u8, 0..9_u8).prop_map(
        |(name, space, address, device, mapping, mirror)| {
            let mut spec = format!("  device: eth{device}\n  addresses: [198.18.1.{}/24]\n", 10 + address);
            if mapping < 2 {
                spec += &format!(
                    "  portMappings: [{{hostPort: {}, containerPort: 80}}]\n",
                    8080 + u16::from(mapping)
                );
            }
            if mirror < 7 && mirror != name {
                spec += &format!("  mirror: {{to: p{mirror}}}\n");
            }
            port(&format!("p{name}"), &spec).replace("namespace: box", &format!("namespace: s{space}"))
        },
    );
    let space = (0..3_u8, 0..3_u8).prop_map(|(name, path)| {
        object("Namespace", &format!("s{name}"), &format!("  path: /run/netns/c{path}"))
    });
    proptest::collection::vec(prop_oneof![3 => port, 1 => space], 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// What is right comes in one by one, as requests bring it; of the rest the findings are compared.
    #[test]
    fn to_look_at_what_is_in_the_way_finds_what_looking_at_everything_finds(coming in crowd()) {
        let mut right = stored(BASE);
        for yaml in coming {
            let mut all = right.clone();
            let touched: BTreeSet<ObjectRef> = stored(&yaml).into_keys().collect();
            all.extend(stored(&yaml));
            let Ok(fabric) = crate::model::parse::fabric(&all, 1) else { continue };
            let found = among(&fabric, &touched, None);
            prop_assert_eq!(lines(&among(&fabric, &touched, few(&touched))), lines(&found));
            if found.is_empty() {
                right = all;
            }
        }
    }
}
