//! What others do to devices and namespaces: put back, reported, or left alone.

use anyhow::{Result, ensure};
use serde_json::json;
use weft_testkit::topology::{self, A_MAC, A4, FAR_B4, NEAR_B4};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, Manifest, PortKind};

use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// Waits until `b` is reached from `a` again.
fn reaches_again(lab: &Lab, address: &str) -> Result<()> {
    retry_until(SOON, "the containers to reach each other again", || lab.container("a").reaches(address))
}

#[test]
fn a_device_removed_by_hand_is_put_back() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        lab.container("a").reaches(FAR_B4)?;
        for container in ["a", "b"] {
            lab.container(container).run("ip link delete eth0")?.ok()?;
            reaches_again(lab, FAR_B4)?;
            lab.wait_for_state("port", container, true, None)?;
        }
        Ok(())
    });
}

#[test]
fn an_attribute_changed_by_hand_is_put_back() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        for line in [
            "ip link set eth0 down",
            "ip link set eth0 mtu 1300",
            "ip address flush dev eth0",
            "ip route flush default",
        ] {
            for container in ["a", "b"] {
                lab.container(container).run(line)?.ok()?;
                reaches_again(lab, FAR_B4)?;
            }
        }
        retry_until(SOON, "the MTU", || {
            let link = lab.container("a").run("ip link show dev eth0")?.ok()?;
            ensure!(link.contains("mtu 1500"), "{link}");
            Ok(())
        })
    });
}

#[test]
fn a_made_namespace_that_vanishes_is_made_again_with_its_ports() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        for container in ["a", "b"] {
            lab.node().run(&format!("ip netns delete {container}"))?.ok()?;
            reaches_again(lab, NEAR_B4)?;
        }
        Ok(())
    });
}

fn with_adopted(kind: PortKind) -> Manifest {
    topology::one_network(PortKind::Tap, PortKind::Veth)
        .adopted("c", "/run/netns/c")
        .port("c", topology::port("front", "c", kind, "02:00:00:00:00:0c", &["198.18.1.12"]))
}

#[test]
fn an_adopted_namespace_that_vanishes_is_reported_and_nothing_else_suffers() {
    Lab::test(|lab| {
        for kind in [PortKind::Tap, PortKind::Veth] {
            lab.node().run("ip netns add c")?.ok()?;
            lab.apply(&with_adopted(kind))?;
            lab.container("a").reaches("198.18.1.12")?;
            lab.node().run("ip netns delete c")?.ok()?;
            lab.wait_for_state("port", "c", false, Some("NamespaceMissing"))?;
            lab.wait_for_state("namespace", "c", false, Some("NamespaceMissing"))?;
            lab.container("a").reaches(NEAR_B4)?;
            lab.wait_for_state("port", "a", true, None)?;
            lab.node().run("ip netns add c")?.ok()?;
            lab.wait_for_state("port", "c", true, None)?;
            lab.container("a").reaches("198.18.1.12")?;
            lab.weft(&["delete", "port", "c"])?.ok()?;
            lab.weft(&["delete", "namespace", "c"])?.ok()?;
            ensure!(lab.namespaces()?.contains(&"c".to_owned()), "an adopted namespace was removed");
            lab.node().run("ip netns delete c")?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn a_foreign_device_with_the_wanted_name_is_left_alone() {
    Lab::test(|lab| {
        lab.node().run("ip netns add c")?.ok()?;
        let c = lab.container("c");
        c.run("ip link add eth0 type bridge")?.ok()?;
        c.run("ip address add 192.0.2.9/32 dev eth0")?.ok()?;
        let output = lab.try_apply(&with_adopted(PortKind::Tap).to_string())?;
        ensure!(output.code == Some(5), "exit code 5 expected: {output}");
        lab.wait_for_state("port", "c", false, Some("DeviceNameTaken"))?;
        let kept = c.run("ip -details address show dev eth0")?.ok()?;
        ensure!(
            kept.contains("bridge") && kept.contains("192.0.2.9"),
            "the foreign device was touched: {kept}"
        );
        c.run("ip link delete eth0")?.ok()?;
        lab.wait_for_state("port", "c", true, None)?;
        lab.container("a").reaches("198.18.1.12")
    });
}

#[test]
fn what_the_daemon_did_not_make_is_left_alone() {
    Lab::test(|lab| {
        lab.node().run("ip netns add foreign")?.ok()?;
        for place in [lab.node(), lab.container("foreign")] {
            place.run("ip link set lo up")?.ok()?;
            place.run("ip link add foreign0 type veth peer name foreign1")?.ok()?;
            place.run("ip tuntap add dev tap9 mode tap")?.ok()?;
            place.run("ip link set foreign0 up")?.ok()?;
            place.run("ip link set foreign1 up")?.ok()?;
            place.run("ip address add 192.0.2.9/24 dev foreign0")?.ok()?;
            place.run("ip route add 198.19.0.0/16 via 192.0.2.1")?.ok()?;
        }
        let picture = |lab: &Lab| -> Result<String> {
            let mut text = String::new();
            for place in [lab.node(), lab.container("foreign")] {
                for line in ["ip -o link show", "ip -4 -o address show", "ip route show"] {
                    text += &place.run(line)?.ok()?;
                }
            }
            Ok(text)
        };
        let before = picture(lab)?;
        let manifest = topology::one_network(PortKind::Tap, PortKind::Veth)
            .adopted("foreign", "/run/netns/foreign")
            .port(
                "f",
                topology::port("front", "foreign", PortKind::Veth, "02:00:00:00:00:0f", &["198.18.1.15"]),
            )
            .with("Port", "f", "defaultRoute", json!(false));
        lab.apply(&manifest)?;
        lab.container("foreign").reaches(A4)?;
        lab.kill_daemon();
        lab.restart()?;
        retry_until(SOON, "traffic", || lab.container("foreign").reaches(A4))?;
        lab.weft_with_input(&["delete", "-f", "-"], Some(&manifest.to_string()))?.ok()?;
        let after = picture(lab)?;
        ensure!(before == after, "before:\n{before}\nafter:\n{after}");
        ensure!(lab.namespaces()? == ["foreign"], "only foreign expected: {:?}", lab.namespaces()?);
        Ok(())
    });
}

#[test]
fn a_wish_that_changes_is_followed_in_place() {
    Lab::test(|lab| {
        let manifest = topology::one_network(PortKind::Tap, PortKind::Veth);
        lab.apply(&manifest)?;
        for (port, address) in [("a", "198.18.1.30"), ("b", "198.18.1.31")] {
            let before = lab.get("port", port)?["status"]["ifindex"].clone();
            let moved = manifest.clone().with("Port", port, "addresses", json!([format!("{address}/24")]));
            lab.apply(&moved.with("Port", port, "mtu", json!(1400)))?;
            ensure!(lab.get("port", port)?["status"]["ifindex"] == before, "port {port} was made again");
            let other = if port == "a" { "b" } else { "a" };
            lab.container(other).reaches(address)?;
            let link = lab.container(port).run("ip -o address show dev eth0")?.ok()?;
            ensure!(!link.contains(A4) && !link.contains(NEAR_B4), "the old address is left: {link}");
            lab.apply(&manifest)?;
        }
        ensure!(lab.get("port", "a")?["status"]["mac"] == A_MAC, "the MAC address changed");
        Ok(())
    });
}

#[test]
fn the_namespace_of_a_process_is_adopted_by_its_path_and_ends_with_it() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        let mut holder = lab
            .node()
            .spawn_with_input(&["unshare", "--net", "sh", "-c", "echo in; exec sleep 600"], None)?;
        holder.wait_for("in")?;
        let path = format!("/proc/{}/ns/net", holder.pid());
        let spec = topology::port("front", "c", PortKind::Veth, "02:00:00:00:00:0c", &["198.18.1.12"]);
        lab.apply(&Manifest::new().adopted("c", &path).port("c", spec))?;
        lab.container("a").reaches("198.18.1.12")?;
        drop(holder);
        lab.wait_for_state("port", "c", false, Some("NamespaceMissing"))?;
        lab.container("a").reaches(NEAR_B4)?;
        lab.weft(&["delete", "port", "c"])?.ok()?;
        lab.weft(&["delete", "namespace", "c"])?.ok().map(drop)
    });
}

#[test]
fn namespaces_made_before_iproute2_shared_their_folder_can_be_removed() {
    Lab::test(|lab| {
        let manifest = topology::one_network(PortKind::Tap, PortKind::Veth);
        lab.apply(&manifest)?;
        // The first `ip netns add` mounts the folder over itself, and with it everything below.
        lab.node().run("ip netns add other")?.ok()?;
        lab.container("a").reaches(NEAR_B4)?;
        lab.weft_with_input(&["delete", "-f", "-"], Some(&manifest.to_string()))?.ok()?;
        ensure!(lab.namespaces()? == ["other"], "only other expected: {:?}", lab.namespaces()?);
        lab.apply(&manifest)?;
        lab.container("a").reaches(NEAR_B4)
    });
}
