//! Wrong input: refused with the field and the reason, and nothing is changed.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_testkit::topology::{self, A_MAC, A4, B_MAC, FRONT_GATEWAY4, NEAR_B4};
use weft_testkit::{Lab, Manifest, PortKind};

/// What is applied beside a right topology, and what the refusal must contain: the field and the reason.
struct Case {
    manifest: Manifest,
    field: &'static str,
    reason: &'static str,
}

fn port(name: &str) -> Manifest {
    let spec = topology::port("front", "c", PortKind::Tap, "02:00:00:00:00:0c", &["198.18.1.12"]);
    Manifest::new().namespace("c").port(name, spec)
}

fn bent(field: &str, value: Value, named: &'static str, reason: &'static str) -> Case {
    Case { manifest: port("c").with("Port", "c", field, value), field: named, reason }
}

fn network(field: &str, value: Value, named: &'static str, reason: &'static str) -> Case {
    let spec = topology::network("198.18.3.0/24", "198.18.3.1", "2001:db8:3::/64", "2001:db8:3::1");
    let manifest = Manifest::new().network("third", spec).with("Network", "third", field, value);
    Case { manifest, field: named, reason }
}

fn cases() -> Vec<Case> {
    let subnet = |prefix: &str, gateway: &str| json!([{ "prefix": prefix, "gateway": gateway }]);
    vec![
        bent("vlan", json!(4095), "Port/c: spec.vlan", "4095 is not a VLAN id, 1 to 4094 expected"),
        bent("vlann", json!(5), "Port/c: spec.vlann", "unknown field"),
        bent("addresses", json!(["198.19.0.1/24"]), "Port/c: spec.addresses[0]", "not inside a subnet"),
        bent("addresses", json!([format!("{A4}/24")]), "Port/c: spec.addresses[0]", "taken by Port/a"),
        bent("addresses", json!([format!("{FRONT_GATEWAY4}/24")]), "Port/c: spec.addresses[0]", "gateway"),
        bent("addresses", json!(["198.18.1.255/24"]), "Port/c: spec.addresses[0]", "broadcast"),
        bent("addresses", json!(["198.18.1/24"]), "Port/c: spec.addresses[0]", "is not an IP address"),
        bent("mac", json!(A_MAC), "Port/c: spec.mac", "taken by Port/a"),
        bent("mac", json!("03:00:00:00:00:01"), "Port/c: spec.mac", "03:00:00:00:00:01"),
        bent("mtu", json!(67), "Port/c: spec.mtu", "67 is not an MTU"),
        bent("mtu", json!(9000), "Port/c: spec.mtu", "9000 is more than the Network's 1500"),
        bent("type", json!("tun"), "Port/c: spec.type", "tap"),
        bent("network", json!("nowhere"), "Port/c: spec.network", "there is no Network/nowhere"),
        bent("namespace", json!("nowhere"), "Port/c: spec.namespace", "there is no Namespace/nowhere"),
        bent("device", json!("a-device-name-too-long"), "Port/c: spec.device", "1 to 15 bytes"),
        bent("namespace", json!("a"), "Port/c: spec.device", "\"eth0\" is taken by Port/a"),
        network(
            "subnets",
            subnet("198.18.1.128/25", "198.18.1.129"),
            "Network/third: spec.subnets[0].prefix",
            "overlaps",
        ),
        network(
            "subnets",
            subnet("198.18.3.1/24", "198.18.3.1"),
            "spec.subnets[0].prefix",
            "has host bits set",
        ),
        network("subnets", subnet("198.18.3.0/24", "198.18.4.1"), "spec.subnets[0].gateway", "not inside"),
        network("mtu", json!(70000), "Network/third: spec.mtu", "70000 is not an MTU"),
        network("mtu", json!(1000), "Network/third: spec.mtu", "1000 is too small for the IPv6 subnet"),
        network("router", json!("nowhere"), "Network/third: spec.router", "there is no Router/nowhere"),
        Case {
            manifest: Manifest::new().adopted("gone", "/run/netns/gone"),
            field: "Namespace/gone: spec.path",
            reason: "/run/netns/gone does not exist",
        },
        Case {
            manifest: Manifest::new().adopted("file", "/etc/passwd"),
            field: "Namespace/file: spec.path",
            reason: "/etc/passwd",
        },
        Case {
            manifest: Manifest::new().adopted("again", "/run/netns/a"),
            field: "Namespace/again: spec.path",
            reason: "/run/netns/a was made by this daemon, use Namespace/a instead",
        },
        Case {
            manifest: Manifest::new().adopted("ends", "/run/weft/netns/ports"),
            field: "Namespace/ends: spec.path",
            reason: "was made by this daemon for its ends of veth pairs",
        },
        Case {
            manifest: Manifest::new().adopted("own", "/proc/thread-self/ns/net"),
            field: "Namespace/own: spec.path",
            reason: "is the namespace of the daemon, where ports of type host appear",
        },
        Case {
            manifest: Manifest::new().namespace("d").namespace("d"),
            field: "Namespace/d",
            reason: "twice",
        },
        Case {
            manifest: Manifest::new().namespace("Not-A-Name"),
            field: "metadata.name",
            reason: "\"Not-A-Name\" is not a name",
        },
        Case {
            manifest: Manifest::new()
                .port("a-port-whose-name-is-no-device", json!({ "network": "front", "type": "host" })),
            field: "Port/a-port-whose-name-is-no-device: spec.device",
            reason: "too long for a device",
        },
        Case {
            manifest: Manifest::new().port("lo", json!({ "network": "front", "type": "host" })),
            field: "Port/lo: spec.device",
            reason: "a name that the kernel keeps for itself",
        },
    ]
}

fn names(lab: &Lab) -> Result<String> {
    lab.weft(&["get", "all", "-o", "name"])?.ok()
}

#[test]
fn wrong_fields_are_named_with_the_reason_and_nothing_is_changed() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        let before = (names(lab)?, lab.namespaces()?);
        let mut wrong = Vec::new();
        for Case { manifest, field, reason } in cases() {
            let output = lab.try_apply(&manifest.to_string())?;
            let text = output.stderr.as_str();
            if output.code != Some(1) || !text.contains(field) || !text.contains(reason) {
                wrong.push(format!("{field} and {reason:?} expected: {output}"));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        ensure!(before == (names(lab)?, lab.namespaces()?), "a refused request changed something");
        lab.container("a").reaches(NEAR_B4)
    });
}

#[test]
fn all_wrong_fields_of_a_request_are_told_at_once() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Tap))?;
        let manifest = port("c").with("Port", "c", "vlan", json!(0x1fff)).with("Port", "c", "mtu", json!(1));
        let text = lab.try_apply(&manifest.to_string())?.fails_with(1)?;
        ensure!(text.contains("spec.vlan") && text.contains("spec.mtu"), "both fields expected: {text}");
        Ok(())
    });
}

#[test]
fn malformed_documents_are_refused_with_their_place() {
    Lab::test(|lab| {
        let cases = [
            ("kind: [", "stdin: document 1"),
            ("apiVersion: weft.dev/v1\nkind: Gizmo\nmetadata: {name: x}\n", "Gizmo"),
            ("apiVersion: weft.dev/v9\nkind: Namespace\nmetadata: {name: x}\n", "weft.dev/v9"),
            ("apiVersion: weft.dev/v1\nmetadata: {name: x}\n", "kind"),
            ("apiVersion: weft.dev/v1\nkind: Namespace\nmetadata: {name: x, name: y}\n", "name"),
            ("apiVersion: weft.dev/v1\nkind: Namespace\nmetadata: {name: x}\nspec: 7\n", "spec"),
            ("apiVersion: weft.dev/v1\nkind: Namespace\nmetadata: {}\nspec: {}\n", "metadata.name"),
        ];
        for (yaml, word) in cases {
            let text = lab.try_apply(yaml)?.fails_with(1)?;
            ensure!(text.contains(word), "{word:?} expected for {yaml:?}: {text}");
        }
        ensure!(names(lab)?.trim().is_empty(), "a refused document made something");
        Ok(())
    });
}

#[test]
fn a_port_cannot_move() {
    Lab::test(|lab| {
        let manifest = topology::one_network(PortKind::Tap, PortKind::Tap);
        lab.apply(&manifest)?;
        for (field, value) in [("type", json!("veth")), ("device", json!("eth1")), ("namespace", json!("b"))]
        {
            let moved = manifest.clone().with("Port", "a", field, value);
            let text = lab.try_apply(&moved.to_string())?.fails_with(1)?;
            ensure!(text.contains(&format!("Port/a: spec.{field}")), "spec.{field} expected: {text}");
        }
        ensure!(lab.get("port", "b")?["spec"]["mac"] == B_MAC, "port b was changed");
        Ok(())
    });
}
