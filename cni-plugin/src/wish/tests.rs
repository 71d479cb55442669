//! What configurations of runtimes ask the daemon for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::environment::Operation;

fn wish_with(configuration: &Value, arguments: &str) -> Result<Wish, Failure> {
    let mut whole = json!({ "cniVersion": "1.1.0", "name": "pods", "type": "weft-cni", "network": "front" });
    for (key, value) in configuration.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", arguments),
    ];
    let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let environment = Environment::read(get).unwrap();
    Wish::read(&environment, &Document::parse(whole.to_string().into_bytes(), Operation::Add)?)
}

fn wish(configuration: &Value) -> Result<Wish, Failure> {
    wish_with(configuration, "")
}

fn pool_addresses(wish: &Wish) -> &PoolAddresses {
    match &wish.request.address_source {
        Some(AddressSource::Pools(pools)) => pools,
        other => panic!("pools expected, not {other:?}"),
    }
}

#[test]
fn the_least_configuration_asks_for_a_veth_with_addresses_of_the_pools() {
    let wish = wish(&json!({})).unwrap();
    assert_eq!(pool_addresses(&wish), &PoolAddresses::default());
    let request = &wish.request;
    assert_eq!((request.network.as_str(), request.configuration.as_str()), ("front", "pods"));
    assert_eq!((request.netns.as_str(), request.r#type()), ("/run/netns/c1", PortType::Veth));
    assert_eq!((request.default_route, request.mtu, request.bandwidth), (None, 0, None));
    assert_eq!(wish.ipam, None);
}

#[test]
fn a_vlan_is_of_the_configuration_or_asked_for_this_container() {
    let vlan = |configuration: Value| wish(&configuration).map(|wish| wish.request.vlan);
    assert_eq!(vlan(json!({})).unwrap(), 0);
    assert_eq!(vlan(json!({ "vlan": 20 })).unwrap(), 20);
    assert_eq!(vlan(json!({ "VLAN": 4094 })).unwrap(), 4094);
    assert_eq!(vlan(json!({ "vlan": 20, "args": { "cni": { "vlan": 30 } } })).unwrap(), 30);
    for (configuration, message, details) in [
        (json!({ "vlan": 4095 }), "vlan is wrong", "4095 is not a VLAN id, 1 to 4094 expected"),
        (json!({ "args": { "cni": { "vlan": 0 } } }), "args.cni.vlan is wrong", "0 is not a VLAN id"),
        (json!({ "vlan": "20" }), "vlan", "expected u32"),
    ] {
        let failure = vlan(configuration).unwrap_err();
        assert!(failure.message.contains(message) && failure.details.contains(details), "{failure:?}");
    }
}

#[test]
fn every_field_of_the_configuration_is_used() {
    let wish = wish(&json!({
        "portType": "tap", "mtu": 1400, "mac": "02:00:00:00:00:01", "defaultRoute": false,
        "routes": [{ "dst": "198.19.0.0/16", "gw": "198.18.1.5" }, { "dst": "2001:db8:1::/48" }],
        "dns": { "nameservers": ["198.18.1.1"], "search": ["example.org"] },
        "ipam": { "type": "weft", "addresses": ["198.18.1.9/24"], "ranges": ["198.18.1.0/25"] },
        "bandwidth": { "ingressRate": 1000000, "ingressBurst": 2000000 },
        "someday": [1, 2],
    }))
    .unwrap();
    let request = &wish.request;
    assert_eq!((request.r#type(), request.mtu), (PortType::Tap, 1400));
    assert_eq!((request.mac.as_str(), request.default_route), ("02:00:00:00:00:01", Some(false)));
    let routes: Vec<_> = request.routes.iter().map(|r| (r.prefix.as_str(), r.via.as_str())).collect();
    assert_eq!(routes, [("198.19.0.0/16", "198.18.1.5"), ("2001:db8:1::/48", "")]);
    assert_eq!(wish.dns.nameservers, ["198.18.1.1"]);
    assert_eq!(pool_addresses(&wish).wanted, ["198.18.1.9"]);
    assert_eq!(pool_addresses(&wish).ranges, ["198.18.1.0/25"]);
    let ingress = Rate { bits_per_second: 1_000_000, burst_bits: 2_000_000, ..Rate::default() };
    assert_eq!(request.bandwidth, Some(Bandwidth { ingress: Some(ingress), egress: None }));
}

#[test]
fn capabilities_come_as_containerd_writes_them() {
    // go-cni's types have no JSON names: Go writes their fields' own, and takes them back in any case.
    let wish = wish(&json!({ "runtimeConfig": {
        "portMappings": [
            { "HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": "" },
            { "HostPort": 0, "ContainerPort": 81, "Protocol": "tcp", "HostIP": "" },
            { "hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "192.0.2.1" },
            { "hostPort": 54, "containerPort": 54, "hostIP": "0.0.0.0" },
        ],
        "bandwidth": { "IngressRate": 2048, "IngressBurst": 1600, "EgressRate": 4096, "EgressBurst": 0 },
        "dns": { "Servers": ["192.0.2.53"], "Searches": ["corp.example.org"], "Options": null },
        "aliases": ["web"], "infinibandGUID": "c2:11:22:33:44:55:66:77",
    }}))
    .unwrap();
    let mapping = |protocol: &str, host_port, container_port, host_address: &str| PortMapping {
        protocol: protocol.into(),
        host_port,
        container_port,
        host_address: host_address.into(),
    };
    assert_eq!(
        wish.request.port_mappings,
        [mapping("tcp", 8080, 80, ""), mapping("udp", 53, 5353, "192.0.2.1"), mapping("", 54, 54, "")]
    );
    let bandwidth = wish.request.bandwidth.unwrap();
    let figures = |rate: Rate| (rate.bits_per_second, rate.burst_bits);
    assert_eq!(bandwidth.ingress.map(figures), Some((2048, 12_000)));
    assert_eq!(bandwidth.egress.map(figures), Some((4096, 0)));
    assert_eq!(wish.dns.nameservers, ["192.0.2.53"]);
    assert_eq!(wish.dns.search, ["corp.example.org"]);
}

#[test]
fn a_bandwidth_of_nothing_is_none() {
    let wish = wish(&json!({ "runtimeConfig": { "bandwidth": { "ingressBurst": 5 } } })).unwrap();
    assert_eq!(wish.request.bandwidth, None);
}

#[test]
fn a_burst_that_a_runtime_made_up_is_the_daemons_to_choose() {
    for (burst, expected) in [
        (0, 0),
        (2_147_483_647_u64, 0),
        (4_294_967_295, 0),
        (34_359_738_359, 0),
        (34_359_738_360, 34_359_738_360),
        (2_147_483_646, 2_147_483_646),
        (u64::MAX, 34_359_738_360),
    ] {
        let rates = json!({ "ingressRate": 8_000_000, "ingressBurst": burst });
        let wish = wish(&json!({ "runtimeConfig": { "bandwidth": rates } })).unwrap();
        assert_eq!(wish.request.bandwidth.unwrap().ingress.unwrap().burst_bits, expected, "{burst}");
    }
}

#[test]
fn addresses_are_asked_for_in_the_order_of_the_conventions() {
    let runtime = json!({ "ips": ["198.18.1.1/24"], "mac": "02:00:00:00:00:01" });
    let args = json!({ "cni": { "ips": ["198.18.1.2", "2001:DB8::2/64"], "mac": "02:00:00:00:00:02",
                                "labels": [{ "key": "app", "value": "web" }] } });
    let ipam = json!({ "addresses": ["198.18.1.4"] });
    let mac = "02:00:00:00:00:04";
    let cni_args = "IP=198.18.1.3/24;MAC=02:00:00:00:00:03";
    let all = json!({ "runtimeConfig": runtime, "args": args, "ipam": ipam, "mac": mac });
    let second = json!({ "args": args, "ipam": ipam, "mac": mac });
    let last = json!({ "ipam": ipam, "mac": mac });
    let cases: [(&Value, &str, &[&str], u8); 4] = [
        (&all, cni_args, &["198.18.1.1"], 1),
        (&second, cni_args, &["198.18.1.2", "2001:db8::2"], 2),
        (&last, cni_args, &["198.18.1.3"], 3),
        (&last, "", &["198.18.1.4"], 4),
    ];
    for (configuration, arguments, wanted, mac) in cases {
        let wish = wish_with(configuration, arguments).unwrap();
        assert_eq!(pool_addresses(&wish).wanted, wanted);
        assert_eq!(wish.request.mac, format!("02:00:00:00:00:0{mac}"));
    }
    assert_eq!(wish_with(&second, "").unwrap().request.labels["app"], "web");
}

#[test]
fn ranges_of_the_runtime_win_over_those_of_the_configuration() {
    let wish = wish(&json!({
        "ipam": { "ranges": ["198.18.1.0/25"] },
        "runtimeConfig": { "ipRanges": [[{ "subnet": "198.18.1.0/24", "rangeStart": "198.18.1.200" }],
                                        [{ "Subnet": "2001:db8::/64" }]] },
    }))
    .unwrap();
    assert_eq!(pool_addresses(&wish).ranges, ["198.18.1.200-198.18.1.254", "2001:db8::/64"]);
}

#[test]
fn another_plugin_for_addresses_is_named() {
    // Its fields are its own, also where Weft has some of the same name.
    let ranges = json!([[{ "subnet": "198.18.1.0/24" }]]);
    let wish =
        wish(&json!({ "ipam": { "type": "host-local", "ranges": ranges, "addresses": [{}] } })).unwrap();
    assert_eq!(wish.ipam.as_deref(), Some("host-local"));
    assert_eq!(wish.request.address_source, None);
}

#[test]
fn a_pod_owns_its_attachment() {
    let wish =
        wish_with(&json!({}), "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;X=1").unwrap();
    assert_eq!(wish.request.owner, "shop/web-0");
}

#[test]
fn wrong_values_are_told_with_their_fields() {
    let cases = [
        (json!({ "network": null }), 7, "network"),
        (json!({ "network": "" }), 7, "network"),
        (json!({ "network": 5 }), 6, "network"),
        (json!({ "portType": "host" }), 7, "portType"),
        (json!({ "mtu": "1500" }), 6, "mtu"),
        (json!({ "mtu": -1 }), 6, "mtu"),
        (json!({ "routes": [{ "gw": "198.18.1.1" }] }), 7, "routes[0].dst"),
        (json!({ "routes": [{ "dst": "::/0", "table": 5 }] }), 2, "routes[0].table: 5"),
        (json!({ "routes": [{ "dst": "::/0", "mtu": 1400 }] }), 2, "routes[0].mtu: 1400"),
        (json!({ "dns": [] , "ipam": "x" }), 6, "ipam"),
        (json!({ "runtimeConfig": { "ips": ["198.18.1.300"] } }), 7, "runtimeConfig.ips"),
        (
            json!({ "runtimeConfig": { "portMappings": [{ "hostPort": "80" }] } }),
            6,
            "runtimeConfig.portMappings[0].hostPort",
        ),
        (
            json!({ "runtimeConfig": { "ipRanges": [[{ "subnet": "x" }]] } }),
            7,
            "runtimeConfig.ipRanges[0][0]",
        ),
        (json!({ "statusReportsExhaustion": "yes", "args": { "cni": { "ips": "x" } } }), 6, "args.cni.ips"),
    ];
    for (configuration, code, field) in cases {
        let failure = wish(&configuration).unwrap_err();
        assert_eq!(failure.code, code, "{configuration}: {failure}");
        assert!(failure.message.contains(field), "{configuration}: {failure}");
    }
}

#[test]
fn a_route_with_the_usual_values_is_a_route() {
    let route = json!({ "dst": "198.19.0.0/16", "table": 254, "scope": 0, "mtu": 0, "priority": 0 });
    assert_eq!(wish(&json!({ "routes": [route] })).unwrap().request.routes.len(), 1);
}

/// A configuration with about all that there is.
fn rich() -> Vec<u8> {
    json!({
        "cniVersion": "1.1.0", "name": "pods", "network": "front", "portType": "tap", "mtu": 1400,
        "routes": [{ "dst": "198.19.0.0/16", "gw": "198.18.1.5", "table": 254 }],
        "ipam": { "type": "", "addresses": ["198.18.1.9/24"], "ranges": ["198.18.1.0/25"] },
        "runtimeConfig": {
            "portMappings": [{ "HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": "::" }],
            "bandwidth": { "ingressRate": 1000000, "ingressBurst": 2000000 },
            "ipRanges": [[{ "subnet": "198.18.1.0/24", "rangeStart": "198.18.1.200" }]],
        },
        "args": { "cni": { "labels": [{ "key": "app", "value": "web" }], "ips": ["2001:db8::2/64"] } },
        "prevResult": { "interfaces": [{ "name": "eth0", "sandbox": "/s" }], "ips": [{ "address": "x" }] },
    })
    .to_string()
    .into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_input_makes_the_plugin_panic(
        cut in 0usize..2000,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        arguments in "[ -~]{0,40}",
    ) {
        let mut bytes = rich();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut);
        let get = |name: &str| match name {
            "CNI_COMMAND" => Some("CHECK".into()),
            "CNI_CONTAINERID" => Some("c1".into()),
            "CNI_NETNS" => Some("/run/netns/c1".into()),
            "CNI_IFNAME" => Some("eth0".into()),
            "CNI_ARGS" => Some(arguments.clone().into()),
            _ => None,
        };
        let environment = Environment::read(get).unwrap();
        if let Ok(document) = Document::parse(bytes, Operation::Check) {
            // Whether it is taken or refused is the other tests' business.
            let _ = Wish::read(&environment, &document);
            let _ = crate::outcome::expected(&environment, &document, String::new(), 0);
        }
    }
}
