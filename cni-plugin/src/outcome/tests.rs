//! Results in the shape of each version, and what CHECK makes of them.

use weft_proto::v1::AttachmentKey;

use super::*;
use crate::environment::Operation;

fn attachment() -> AttachmentState {
    let address =
        |address: &str, gateway: &str| AttachedAddress { address: address.into(), gateway: gateway.into() };
    let route = |prefix: &str, via: &str| PortRoute { prefix: prefix.into(), via: via.into() };
    AttachmentState {
        key: Some(AttachmentKey { container_id: "c1".into(), interface: "eth0".into() }),
        netns: "/run/netns/c1".into(),
        mac: "02:00:00:00:00:02".into(),
        mtu: 1450,
        host_device: "w1234".into(),
        host_mac: "02:00:00:00:00:01".into(),
        addresses: vec![address("198.18.1.5/24", "198.18.1.1"), address("2001:db8::5/64", "")],
        routes: vec![route("0.0.0.0/0", "198.18.1.1"), route("2001:db8:1::/48", "")],
        ..AttachmentState::default()
    }
}

fn document(version: &str, operation: Operation, previous: Value) -> Document {
    let text = json!({ "cniVersion": version, "name": "n", "network": "front", "prevResult": previous });
    Document::parse(text.to_string().into_bytes(), operation).unwrap()
}

fn rendered(version: &str, previous: Value) -> Value {
    let dns = Dns { nameservers: vec!["192.0.2.53".into()], ..Dns::default() };
    render(&document(version, Operation::Add, previous), &[attachment()], &dns).unwrap()
}

#[test]
fn results_have_the_shape_of_their_version() {
    for version in SpecVersion::ALL.map(SpecVersion::name) {
        let old = ["0.3.0", "0.3.1", "0.4.0"].contains(&version);
        let mut expected = json!({
            "cniVersion": version,
            "interfaces": [
                { "name": "w1234", "mac": "02:00:00:00:00:01" },
                { "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/c1" },
            ],
            "ips": [
                { "address": "198.18.1.5/24", "gateway": "198.18.1.1", "interface": 1 },
                { "address": "2001:db8::5/64", "interface": 1 },
            ],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "198.18.1.1" }, { "dst": "2001:db8:1::/48" }],
            "dns": { "nameservers": ["192.0.2.53"] },
        });
        if old {
            expected["ips"][0]["version"] = "4".into();
            expected["ips"][1]["version"] = "6".into();
        }
        if version == "1.1.0" {
            expected["interfaces"][0]["mtu"] = 1450.into();
            expected["interfaces"][1]["mtu"] = 1450.into();
        }
        assert_eq!(rendered(version, Value::Null), expected);
    }
}

#[test]
fn a_device_without_a_host_side_is_the_only_interface() {
    let attachment = AttachmentState { host_device: String::new(), ..attachment() };
    let result =
        render(&document("1.0.0", Operation::Add, Value::Null), &[attachment], &Dns::default()).unwrap();
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 1);
    assert_eq!(result["ips"][0]["interface"], 0);
    assert_eq!(result.get("dns"), None);
}

#[test]
fn the_result_of_plugins_before_is_passed_on_with_all_that_it_has() {
    let previous = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "lo", "sandbox": "/run/netns/c1", "pciID": "0000:04:00.5", "socketPath": "/s" }],
        "ips": [{ "address": "127.0.0.1/8", "interface": 0 }],
        "routes": null,
        "dns": { "nameservers": ["198.18.9.9"], "domain": "before" },
        "someday": 1,
    });
    let result = rendered("1.1.0", previous.clone());
    assert_eq!(result["interfaces"][0], previous["interfaces"][0]);
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(result["ips"][0], previous["ips"][0]);
    assert_eq!(result["ips"][1]["interface"], 2);
    assert_eq!(result["routes"].as_array().unwrap().len(), 2);
    assert_eq!(result["dns"], json!({ "nameservers": ["192.0.2.53"] }));
    assert_eq!(result["someday"], 1);
    let silent =
        render(&document("1.1.0", Operation::Add, previous.clone()), &[attachment()], &Dns::default())
            .unwrap();
    assert_eq!(silent["dns"], previous["dns"]);
}

#[test]
fn a_previous_result_that_is_none_cannot_be_read() {
    for previous in [json!([]), json!({ "ips": {} }), json!({ "interfaces": "x" })] {
        let failure = render(&document("1.0.0", Operation::Add, previous), &[attachment()], &Dns::default());
        assert_eq!(failure.unwrap_err().code, 6);
    }
}

fn check(version: &str, previous: Value) -> Result<CheckRequest, Failure> {
    let variables = [
        ("CNI_COMMAND", "CHECK"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
    ];
    let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let environment = Environment::read(get).unwrap();
    expected(&environment, &document(version, Operation::Check, previous), "front".into(), 0)
}

#[test]
fn check_wants_what_add_answered() {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let request = check(version, rendered(version, Value::Null)).unwrap();
        assert_eq!((request.network.as_str(), request.netns.as_str()), ("front", "/run/netns/c1"));
        assert_eq!(request.mac, "02:00:00:00:00:02");
        assert_eq!(request.addresses, ["198.18.1.5/24", "2001:db8::5/64"]);
        assert_eq!(request.routes, attachment().routes);
    }
}

#[test]
fn check_leaves_to_others_what_is_theirs() {
    let mut previous = rendered("1.1.0", Value::Null);
    // A later plugin changed the MAC address, and made another device with a route, and one in its own table.
    previous["interfaces"][1]["mac"] = "02:00:00:00:00:99".into();
    let interfaces = previous["interfaces"].as_array_mut().unwrap();
    interfaces.push(json!({ "name": "net1", "sandbox": "/run/netns/c1" }));
    let ips = previous["ips"].as_array_mut().unwrap();
    ips.push(json!({ "address": "198.19.0.5/24", "interface": 2 }));
    ips.push(json!({ "address": "198.19.9.9/32" }));
    let routes = previous["routes"].as_array_mut().unwrap();
    routes.push(json!({ "dst": "198.19.7.0/24", "gw": "198.19.0.1" }));
    routes.push(json!({ "dst": "198.19.8.0/24", "gw": "198.18.1.1", "table": 100 }));
    let request = check("1.1.0", previous).unwrap();
    assert_eq!(request.mac, "02:00:00:00:00:99");
    assert_eq!(request.addresses, ["198.18.1.5/24", "2001:db8::5/64"]);
    let prefixes: Vec<_> = request.routes.iter().map(|route| route.prefix.as_str()).collect();
    assert_eq!(prefixes, ["0.0.0.0/0"]);
}

#[test]
fn check_needs_a_result_with_the_containers_interface() {
    let without =
        json!({ "interfaces": [{ "name": "eth0" }, { "name": "net1", "sandbox": "/run/netns/c1" }] });
    assert_eq!(check("1.0.0", without).unwrap_err().code, 7);
    assert_eq!(check("1.0.0", Value::Null).unwrap_err().code, 7);
    assert_eq!(check("1.0.0", json!({ "ips": 5 })).unwrap_err().code, 6);
}
