//! Wrong fields of single objects, each with its message.

use proptest::prelude::*;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::fixture::{BASE, fabric, object, port, resources, wrong};
use crate::model::{Attachment, Mtu, Namespace, Port, Switching};

fn parsed_port(spec: &str) -> Port {
    let fabric = fabric(&format!("{BASE}{}", port("web", spec)));
    fabric.ports["web"].spec.clone()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_uplink_names_a_device_and_its_sources_are_not_checked() {
    let fabric = fabric(&format!(
        "{}{}",
        object("Network", "front", "  mtu: 1400"),
        object("Port", "wan", "  network: front\n  type: uplink\n  device: eth1\n  queues: 2"),
    ));
    let port = &fabric.ports["wan"].spec;
    assert_eq!((&port.attachment, port.device.as_str()), (&Attachment::Uplink, "eth1"));
    assert_eq!((port.switching.source_check, port.queues, port.mtu.get()), (false, Some(2), 1400));
}

#[test]
fn what_is_left_out_gets_its_default() {
    let port = parsed_port("");
    assert_eq!(port.attachment, Attachment::Tap(Name::new("box").unwrap()));
    assert_eq!(port.device, "eth0");
    assert_eq!(port.mac, weft_stack::MacAddr::from_name("port", "web"));
    assert_eq!((port.mtu.get(), port.txqueuelen, port.queues), (1500, 1000, None));
    assert_eq!(port.switching, Switching::default());
    assert!(port.addresses.is_empty() && port.routes.is_empty());
    let fabric = fabric(BASE);
    let front = &fabric.networks["front"].spec;
    assert_eq!((front.ageing, front.max_macs, front.max_neighbors), (Duration::from_secs(300), 4096, 4096));
    assert_eq!(front.gateway_mac, weft_stack::MacAddr::from_name("network", "front"));
    assert_eq!(fabric.namespaces["box"].spec, Namespace::Make);
    assert_eq!(fabric.networks["back"].spec.mtu, Mtu::new(9000).unwrap());
}

#[test]
fn a_port_takes_mtu_and_gateways_from_its_network() {
    let spec = "  network: back\n  addresses: [198.18.2.10/24]\n  defaultRoute: true";
    let yaml = port("web", spec).replace("  network: front\n", "");
    let fabric = fabric(&format!("{BASE}{yaml}"));
    let port = &fabric.ports["web"].spec;
    assert_eq!(port.mtu.get(), 9000);
    assert_eq!(port.routes.len(), 1);
    assert_eq!(
        (port.routes[0].prefix.to_string().as_str(), port.routes[0].via),
        ("0.0.0.0/0", ip("198.18.2.1"))
    );
}

#[test]
fn default_routes_are_those_of_the_families_that_the_port_has() {
    let both = parsed_port("  addresses: [198.18.1.10/24, '2001:db8:1::10/64']\n  defaultRoute: true");
    let vias: Vec<IpAddr> = both.routes.iter().map(|route| route.via).collect();
    assert_eq!(vias, [ip("198.18.1.1"), ip("2001:db8:1::1")]);
    let one = parsed_port("  addresses: ['2001:db8:1::10/64']\n  defaultRoute: true");
    assert_eq!(one.routes.len(), 1);
    let given = parsed_port("  addresses: [198.18.1.10/24]\n  routes: [{prefix: 192.0.2.0/24}]");
    assert_eq!(given.routes[0].via, ip("198.18.1.1"));
}

#[test]
fn a_host_port_is_called_like_itself() {
    let host = "spec: {network: front, type: host}";
    let yaml = |name: &str| {
        format!("---\napiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\n{host}\n")
    };
    let fabric = fabric(&format!("{BASE}{}", yaml("node")));
    assert_eq!(fabric.ports["node"].spec.device, "node");
    assert_eq!(
        wrong(&yaml("a-name-of-16-byt")),
        "Port/a-name-of-16-byt: spec.device: not given, and the Port's name \"a-name-of-16-byt\" is too long for a \
         device, 1 to 15 bytes expected"
    );
    assert_eq!(
        wrong(&yaml("default")),
        "Port/default: spec.device: \"default\" is a name that the kernel keeps for itself, another one expected"
    );
}

#[test]
fn every_wrong_field_of_a_port_is_named() {
    let cases = [
        ("  vlan: 4095", "spec.vlan: 4095 is not a VLAN id, 1 to 4094 expected"),
        ("  mac: 01:00:5e:00:00:01", "spec.mac: 01:00:5e:00:00:01 is not a unicast MAC address"),
        ("  mac: 00:00:00:00:00:00", "spec.mac: 00:00:00:00:00:00 is not a unicast MAC address"),
        ("  mac: x", "spec.mac: \"x\" is not a MAC address, such as 02:00:5e:10:00:01 expected"),
        ("  mtu: 40", "spec.mtu: 40 is not an MTU, 68 to 65520 octets expected"),
        ("  mtu: 1501", "spec.mtu: 1501 is more than the Network's 1500"),
        (
            "  mtu: 1000\n  addresses: ['2001:db8:1::9/64']",
            "spec.mtu: 1000 is too small for the IPv6 address 2001:db8:1::9, 1280 or more octets expected",
        ),
        ("  txqueuelen: 100001", "spec.txqueuelen: 100001 is out of range, 1 to 100000 expected"),
        ("  queues: 17", "spec.queues: 17 is out of range, 1 to 16 expected"),
        (
            "  device: lo",
            "spec.device: \"lo\" is a name that the kernel keeps for itself, another one expected",
        ),
        (
            "  device: all",
            "spec.device: \"all\" is a name that the kernel keeps for itself, another one expected",
        ),
        (
            "  device: sixteen-bytes-xx",
            "spec.device: \"sixteen-bytes-xx\" is not a device name, 1 to 15 bytes without '/', ':', '%', white space \
             or control characters, not \".\" or \"..\", expected",
        ),
        (
            "  addresses: [198.18.1.9]",
            "spec.addresses[0]: \"198.18.1.9\" is not an address with a prefix length, such as 198.18.1.10/24 expected",
        ),
        ("  addresses: [198.18.1.9/33]", "spec.addresses[0]: /33 is longer than the 32 bits of 198.18.1.9"),
        ("  addresses: [224.0.0.1/24]", "spec.addresses[0]: 224.0.0.1 is not a unicast address"),
        ("  addresses: [198.18.1.9/24, 198.18.1.9/32]", "spec.addresses[1]: 198.18.1.9 is given twice"),
        (
            "  defaultRoute: true",
            "spec.defaultRoute: the Network has no gateway on the link of any of this Port's addresses",
        ),
        (
            "  addresses: [198.18.1.9/32]\n  defaultRoute: true",
            "spec.defaultRoute: the Network has no gateway on the link of any of this Port's addresses",
        ),
        (
            "  addresses: [198.18.1.9/24]\n  defaultRoute: true\n  routes: [{prefix: 0.0.0.0/0}]",
            "spec.defaultRoute: spec.routes has a route to 0.0.0.0/0 already",
        ),
        (
            "  routes: [{prefix: 192.0.2.0/24}]",
            "spec.routes[0].via: not given, and the Network has no gateway on the link of any of this Port's addresses",
        ),
        (
            "  routes: [{prefix: 192.0.2.1/24, via: 198.18.1.1}]",
            "spec.routes[0].prefix: 192.0.2.1/24 has host bits set, 192.0.2.0/24 expected",
        ),
        (
            "  addresses: [198.18.1.9/24]\n  routes: [{prefix: 192.0.2.0/24, via: '2001:db8:1::1'}]",
            "spec.routes[0].via: 2001:db8:1::1 is not of the same family as 192.0.2.0/24",
        ),
        (
            "  addresses: [198.18.1.9/24]\n  routes: [{prefix: 192.0.2.0/24, via: 198.18.1.9}]",
            "spec.routes[0].via: 198.18.1.9 is this Port's own address",
        ),
        (
            "  addresses: [198.18.1.9/24]\n  routes: [{prefix: 192.0.2.0/24, via: 198.18.7.1}]",
            "spec.routes[0].via: 198.18.7.1 is not on the link of any of this Port's addresses",
        ),
        (
            "  addresses: [198.18.1.9/24]\n  routes: [{prefix: 192.0.2.0/24}, {prefix: 192.0.2.0/24}]",
            "spec.routes[1].prefix: 192.0.2.0/24 is given twice",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(wrong(&port("web", spec)), format!("Port/web: {expected}"), "{spec}");
    }
}

#[test]
fn what_a_port_is_and_where_must_be_said() {
    let cases = [
        ("type: tap\n  namespace: box", "spec.network: not given, the name of a Network expected"),
        ("network: none\n  type: tap\n  namespace: box", "spec.network: there is no Network/none"),
        ("network: front\n  namespace: box", "spec.type: not given, one of tap, veth, host, uplink expected"),
        ("network: front\n  type: veth", "spec.namespace: not given, the name of a Namespace expected"),
        (
            "network: front\n  type: host\n  namespace: box",
            "spec.namespace: \"box\" given, nothing expected for a host port",
        ),
        (
            "network: front\n  type: veth\n  namespace: box\n  queues: 99",
            "spec.queues: 99 is out of range, 1 to 16 expected",
        ),
        (
            "network: front\n  type: uplink",
            "spec.device: not given, the name of a network device of the node expected",
        ),
        (
            "network: front\n  type: uplink\n  device: eth1\n  namespace: box",
            "spec.namespace: \"box\" given, nothing expected for an uplink port",
        ),
        (
            "network: front\n  type: uplink\n  device: eth1\n  addresses: [198.18.1.9/24]",
            "spec.addresses: given, nothing expected for an uplink port: the device is the node's",
        ),
        (
            "network: front\n  type: uplink\n  device: eth1\n  sourceCheck: true",
            "spec.sourceCheck: true given, false expected for an uplink port: its sources are all of the outside",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(
            wrong(&object("Port", "web", &format!("  {spec}"))),
            format!("Port/web: {expected}"),
            "{spec}"
        );
    }
}

#[test]
fn every_wrong_field_of_a_network_is_named() {
    let cases = [
        ("  mtu: 65521", "spec.mtu: 65521 is not an MTU, 68 to 65520 octets expected"),
        (
            "  mtu: 1279\n  subnets: [{prefix: '2001:db8:9::/64'}]",
            "spec.mtu: 1279 is too small for the IPv6 subnet 2001:db8:9::/64, 1280 or more octets expected",
        ),
        ("  ageingSeconds: 9", "spec.ageingSeconds: 9 is out of range, 10 to 1000000 expected"),
        ("  maxMacs: 15", "spec.maxMacs: 15 is out of range, 16 to 1048576 expected"),
        ("  maxNeighbors: 1048577", "spec.maxNeighbors: 1048577 is out of range, 16 to 1048576 expected"),
        (
            "  gatewayMac: ff:ff:ff:ff:ff:ff",
            "spec.gatewayMac: ff:ff:ff:ff:ff:ff is not a unicast MAC address",
        ),
        (
            "  subnets: [{prefix: 198.18.9.0}]",
            "spec.subnets[0].prefix: \"198.18.9.0\" is not a prefix, such as 198.18.1.0/24 or 2001:db8:1::/64 expected",
        ),
        (
            "  subnets: [{prefix: 198.18.9.0/24}, {prefix: 198.18.8.0/21}]",
            "spec.subnets[1].prefix: 198.18.8.0/21 overlaps 198.18.9.0/24 of the same Network",
        ),
        (
            "  subnets: [{prefix: 0.0.0.0/0}]",
            "spec.subnets[0].prefix: 0.0.0.0/0 overlaps 0.0.0.0/8, which is not for stations",
        ),
        (
            "  subnets: [{prefix: 198.18.9.0/24, gateway: 198.18.8.1}]",
            "spec.subnets[0].gateway: 198.18.8.1 is not inside 198.18.9.0/24",
        ),
        (
            "  subnets: [{prefix: 198.18.9.0/24, gateway: 198.18.9.0}]",
            "spec.subnets[0].gateway: 198.18.9.0 is the network address of 198.18.9.0/24",
        ),
        (
            "  subnets: [{prefix: 198.18.9.0/30, gateway: 198.18.9.3}]",
            "spec.subnets[0].gateway: 198.18.9.3 is the broadcast address of 198.18.9.0/30",
        ),
        (
            "  subnets: [{prefix: 198.18.9.0/24, gateway: gw}]",
            "spec.subnets[0].gateway: \"gw\" is not an IP address, such as 198.18.1.1 or 2001:db8:1::1 expected",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(wrong(&object("Network", "net", spec)), format!("Network/net: {expected}"), "{spec}");
    }
    for right in ["198.18.9.0/31, gateway: 198.18.9.0", "198.18.9.7/32, gateway: 198.18.9.7"] {
        assert_eq!(wrong(&object("Network", "net", &format!("  subnets: [{{prefix: {right}}}]"))), "");
    }
}

#[test]
fn every_wrong_field_of_a_router_is_named() {
    let cases = [
        ("{prefix: 192.0.2.0/24}", "nextHops: empty, at least one address expected"),
        (
            "{prefix: 192.0.2.0/24, nextHops: [x]}",
            "nextHops[0]: \"x\" is not an IP address, such as 198.18.1.1 or \
          2001:db8:1::1 expected",
        ),
        (
            "{prefix: '2001:db8:9::/64', nextHops: [198.18.1.9]}",
            "nextHops[0]: 198.18.1.9 is an IPv4 address, which 2001:db8:9::/64 cannot be reached by",
        ),
        (
            "{prefix: 192.0.2.0/24, nextHops: [198.18.1.9, 198.18.1.9]}",
            "nextHops[1]: 198.18.1.9 is given twice",
        ),
    ];
    for (route, expected) in cases {
        let yaml = object("Router", "core", &format!("  routes: [{route}]"));
        assert_eq!(wrong(&yaml), format!("Router/core: spec.routes[0].{expected}"), "{route}");
    }
    let twice = "  routes:\n  - {prefix: 192.0.2.0/24, nextHops: [198.18.1.9]}\n  - {prefix: 192.0.2.0/24, nextHops: \
                 [198.18.1.8]}";
    assert_eq!(
        wrong(&object("Router", "core", twice)),
        "Router/core: spec.routes[1].prefix: 192.0.2.0/24 has a route already, one with several next hops expected"
    );
}

#[test]
fn a_namespace_path_is_absolute_and_does_not_climb() {
    let adopted = fabric(&object("Namespace", "pod", "  path: /proc/42/ns/net"));
    assert_eq!(adopted.namespaces["pod"].spec, Namespace::Adopt(PathBuf::from("/proc/42/ns/net")));
    for path in ["run/netns/x", "/run/../x"] {
        assert_eq!(
            wrong(&object("Namespace", "pod", &format!("  path: {path}"))),
            format!(
                "Namespace/pod: spec.path: \"{path}\" does not name a namespace, an absolute path without \"..\" \
                 expected"
            )
        );
    }
}

#[test]
fn all_wrong_fields_are_told_at_once() {
    let yaml =
        format!("{}{}", port("web", "  vlan: 5000\n  mtu: 1\n  mac: x"), object("Network", "n", "  mtu: 1"));
    assert_eq!(wrong(&yaml).lines().count(), 4, "{}", wrong(&yaml));
}

#[test]
fn a_port_on_a_wrong_network_is_not_blamed_for_it() {
    let network = object("Network", "front", "  mtu: 1");
    assert_eq!(
        wrong(&format!("{network}{}", port("web", ""))),
        "Network/front: spec.mtu: 1 is not an MTU, 68 to 65520 octets expected"
    );
}

#[test]
fn a_port_that_is_going_may_outlive_its_network() {
    let mut all = crate::fixture::stored(&port("web", "  addresses: [198.18.1.9/24]\n  defaultRoute: true"));
    let resource = Arc::make_mut(all.values_mut().next().unwrap());
    resource.metadata.as_mut().unwrap().deleting = Some(SystemTime::now().into());
    let fabric = super::fabric(&all, 3).unwrap();
    assert!(fabric.ports["web"].metadata.deleting.is_some() && fabric.ports["web"].spec.routes.is_empty());
}

#[test]
fn a_port_that_is_going_does_not_hold_its_network_back() {
    let mut all = crate::fixture::stored(&format!(
        "{}{}",
        port("web", "  addresses: [198.18.1.9/24]\n  defaultRoute: true\n  mtu: 1400"),
        object("Network", "front", "  mtu: 1300")
    ));
    assert!(super::fabric(&all, 3).is_err());
    let web = all.iter_mut().find(|(object, _)| object.kind == Kind::Port).unwrap().1;
    Arc::make_mut(web).metadata.as_mut().unwrap().deleting = Some(SystemTime::now().into());
    assert_eq!(super::fabric(&all, 3).unwrap().networks["front"].spec.mtu.get(), 1300);
}

#[test]
fn what_follows_from_a_wrong_address_is_not_told() {
    for (address, reason) in [
        ("192.0.2.9/24", "192.0.2.9 is not inside a subnet of Network/front"),
        ("192.0.2.9", "\"192.0.2.9\" is not an address with a prefix length"),
    ] {
        let spec =
            format!("  addresses: [{address}]\n  defaultRoute: true\n  routes: [{{prefix: 198.19.0.0/16}}]");
        let told = wrong(&port("web", &spec));
        assert!(told.starts_with(&format!("Port/web: spec.addresses[0]: {reason}")), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn an_identity_needs_kind_and_name_and_right_labels() {
    let told = |resource: &v1::Resource| crate::fixture::lines(&identity(3, resource).unwrap_err());
    assert_eq!(
        told(&v1::Resource::default()),
        "resources[3]: kind: not given, one of Namespace, Network, Port, Router, Tunnel expected"
    );
    let mut resource = resources(&object("Router", "core", "")).remove(0);
    resource.metadata.as_mut().unwrap().labels.insert("a b".into(), "x\n".into());
    assert_eq!(
        told(&resource),
        "Router/core: metadata.labels: \"a b\" is not a label key, 1 to 253 letters, digits, '.', '/', '_' and '-' \
         expected\n\
         Router/core: metadata.labels[a b]: not a label value, at most 253 bytes without control characters expected"
    );
    resource.metadata.as_mut().unwrap().name = "Core".into();
    assert!(told(&resource).starts_with("resources[3]: metadata.name: \"Core\" is not a name"));
}

proptest! {
    #[test]
    fn any_text_and_number_is_taken_or_refused(
        text in prop::collection::vec("[0-9a-f:./-]{0,24}", 8),
        pool in prop::sample::select(vec!["0.0.0.0/0", "198.18.1.0/30", "::/0", "255.255.255.255/32", "2001:db8::/127"]),
        number: u32,
        kind in -1..5i32,
    ) {
        let subnet = v1::Subnet { prefix: pool.into(), gateway: text[0].clone(), vlan: 0, pool: None };
        let odd = v1::Subnet { prefix: text[1].clone(), gateway: text[2].clone(), vlan: 0, pool: None };
        let network = v1::NetworkSpec { subnets: vec![subnet, odd], mtu: number, ..Default::default() };
        let spec = v1::PortSpec {
            network: "front".into(),
            namespace: text[3].clone(),
            r#type: kind,
            device: text[4].clone(),
            mac: text[5].clone(),
            addresses: vec![text[6].clone(), pool.into()],
            routes: vec![v1::PortRoute { prefix: pool.into(), via: text[7].clone() }],
            vlan: number,
            queues: number,
            default_route: true,
            ..Default::default()
        };
        let mut all = crate::fixture::stored(&format!("{BASE}{}", port("web", "")));
        for resource in all.values_mut() {
            match &mut Arc::make_mut(resource).kind {
                Some(v1::resource::Kind::Port(it)) => it.spec = Some(spec.clone()),
                Some(v1::resource::Kind::Network(it)) if number % 2 == 0 => it.spec = Some(network.clone()),
                _ => {}
            }
        }
        match super::fabric(&all, 1) {
            Ok(fabric) => drop(crate::model::check::fabric(&fabric, &Default::default())),
            Err(found) => prop_assert!(!found.is_empty()),
        }
    }
}
