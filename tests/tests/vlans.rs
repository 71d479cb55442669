//! VLANs of a Network: access Ports, trunks, tunnels, and a gateway on each.

use anyhow::ensure;
use serde_json::{Value, json};
use weft_testkit::frame::{self, BROADCAST, tagged};
use weft_testkit::raw::{Capture, send};
use weft_testkit::topology::PortKind;
use weft_testkit::{Lab, Manifest};

/// A Network with a gateway on VLAN 10 and one on VLAN 20.
fn office() -> Manifest {
    let subnet = |vlan: u8| json!({ "prefix": format!("198.18.{vlan}.0/24"), "gateway": format!("198.18.{vlan}.1"), "vlan": vlan });
    Manifest::new()
        .router("main")
        .network("office", json!({ "router": "main", "subnets": [subnet(10), subnet(20)] }))
}

/// A container of its own for a Port whose MAC address ends in `number`.
fn port(manifest: Manifest, name: &str, kind: PortKind, number: u8, spec: &Value) -> Manifest {
    let mut whole = json!({
        "network": "office",
        "namespace": name,
        "type": kind.name(),
        "mac": format!("02:00:00:00:00:{number:02x}"),
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    manifest.namespace(name).port(name, whole)
}

fn access(vlan: u8) -> Value {
    json!({ "vlan": vlan, "addresses": [format!("198.18.{vlan}.{}/24", 100 + vlan)], "defaultRoute": true })
}

fn broadcast(number: u8) -> Vec<u8> {
    frame::ethernet(BROADCAST, [2, 0, 0, 0, 0, number], 0x88b5, &[0xa5; 46])
}

#[test]
fn a_trunk_has_tags_and_access_ports_have_none() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            let trunk = json!({ "trunk": { "allowed": [10, "20-21"] } });
            let manifest = port(office(), "a", a, 0x0a, &access(10));
            let manifest = port(manifest, "b", b, 0x0b, &access(20));
            lab.apply(&port(manifest, "t", b, 0x0c, &trunk))?;
            let (a, b, t) = (lab.container("a"), lab.container("b"), lab.container("t"));
            let (at_a, at_b, at_t) =
                (Capture::start(&a, "eth0")?, Capture::start(&b, "eth0")?, Capture::start(&t, "eth0")?);
            send(&a, "eth0", &[broadcast(0x0a)])?;
            at_t.wait_for("the frame of VLAN 10", |frame| frame == tagged(&broadcast(0x0a), 10))?;
            send(&t, "eth0", &[tagged(&broadcast(0x0c), 0x6000 | 20)])?;
            at_b.wait_for("the trunk's frame of VLAN 20", |frame| frame == broadcast(0x0c))?;
            ensure!(!at_a.frames().contains(&broadcast(0x0c)), "VLAN 10 heard VLAN 20");
            ensure!(!at_b.frames().contains(&broadcast(0x0a)), "VLAN 20 heard VLAN 10");
            send(&t, "eth0", &[tagged(&broadcast(0x0c), 30), broadcast(0x0c)])?;
            ensure!(lab.drops("t", "vlan_not_allowed")? >= 1, "a tag that is not allowed is not counted");
            ensure!(lab.drops("t", "untagged_not_allowed")? >= 1, "an untagged frame is not counted");
            lab.weft(&["delete", "port", "a", "b", "t"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn each_vlan_has_its_gateway_and_the_router_joins_them() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            let manifest = port(office(), "a", a, 0x0a, &access(10));
            lab.apply(&port(manifest, "b", b, 0x0b, &access(20)))?;
            lab.container("a").reaches("198.18.10.1")?;
            lab.container("a").reaches("198.18.20.120")?;
            let first = lab.container("b").run("traceroute -n -I -q 1 -w 2 198.18.10.110")?.ok()?;
            ensure!(first.contains(" 1  198.18.20.1 "), "the gateway of VLAN 20 expected first: {first}");
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn a_tunnel_carries_a_users_own_tags() {
    Lab::test(|lab| {
        let tunnel = json!({ "vlan": 30, "vlanTunnel": true });
        let trunk = json!({ "trunk": { "allowed": [30] } });
        let manifest = port(office(), "a", PortKind::Tap, 0x0a, &tunnel);
        let manifest = port(manifest, "b", PortKind::Veth, 0x0b, &tunnel);
        lab.apply(&port(manifest, "t", PortKind::Tap, 0x0c, &trunk))?;
        let (b, t) = (lab.container("b"), lab.container("t"));
        let (at_b, at_t) = (Capture::start(&b, "eth0")?, Capture::start(&t, "eth0")?);
        let inner = tagged(&broadcast(0x0a), 99);
        send(&lab.container("a"), "eth0", std::slice::from_ref(&inner))?;
        at_b.wait_for("the user's tag", |frame| frame == inner)?;
        at_t.wait_for("both tags", |frame| frame == tagged(&inner, 30))?;
        Ok(())
    });
}

#[test]
fn a_trunk_is_traced_with_its_tag() {
    Lab::test(|lab| {
        let trunk = json!({ "trunk": { "allowed": [10] } });
        let manifest = port(office(), "a", PortKind::Tap, 0x0a, &access(10));
        lab.apply(&port(manifest, "t", PortKind::Tap, 0x0c, &trunk))?;
        let trace = |tag: &[&str]| -> anyhow::Result<String> {
            let packet = ["trace", "t", "--from", "198.18.10.77", "--to", "198.18.10.110"];
            Ok(lab.weft(&[&packet, tag].concat())?.text())
        };
        let told = trace(&["--vlan", "10"])?;
        ensure!(told.contains("to port a") && told.contains("verdict: forwarded"), "{told}");
        let untagged = trace(&[])?;
        ensure!(untagged.contains("untagged_not_allowed"), "{untagged}");
        Ok(())
    });
}
