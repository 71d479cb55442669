//! The daemon killed with SIGKILL at any moment and started again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::topology::{self, FAR_B4, NEAR_B4};
use weft_testkit::wait::{retry_until, wait_until};
use weft_testkit::{Lab, Manifest, PortKind};

const SOON: Duration = Duration::from_secs(20);
/// Ports of the Apply that is interrupted.
const PORTS: usize = 30;

/// What must be the same after a restart.
fn identity(lab: &Lab, port: &str) -> Result<Value> {
    let object = lab.get("port", port)?;
    let link = lab.container(port).run("ip -o link show dev eth0")?.ok()?;
    let index = link.split(':').next().context("the index of eth0")?.to_owned();
    let metadata = &object["metadata"];
    Ok(json!([metadata["uid"], metadata["generation"], metadata["created"], object["spec"], index]))
}

/// The figure behind a word of `weft status`.
fn status(lab: &Lab, field: &str) -> Result<u64> {
    let text = lab.weft(&["status", "-o", "json"])?.ok()?;
    let value: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(value["reconciler"][field].as_u64().unwrap_or(0))
}

#[test]
fn devices_are_adopted_and_traffic_goes_on_after_sigkill() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        lab.container("a").reaches(FAR_B4)?;
        let before = [identity(lab, "a")?, identity(lab, "b")?];
        for _ in 0..3 {
            lab.kill_daemon();
            lab.restart()?;
            retry_until(SOON, "traffic", || lab.container("a").reaches(FAR_B4))?;
            ensure!([identity(lab, "a")?, identity(lab, "b")?] == before, "an object or device changed");
            let (adopted, created) = (status(lab, "devicesAdopted")?, status(lab, "devicesCreated")?);
            ensure!(
                adopted == 2 && created == 0,
                "{adopted} devices adopted and {created} created, 2 and 0 expected"
            );
        }
        Ok(())
    });
}

#[test]
fn a_clean_stop_leaves_the_devices_for_the_next_daemon() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Veth, PortKind::Tap))?;
        let before = [identity(lab, "a")?, identity(lab, "b")?];
        lab.stop_daemon()?;
        lab.restart()?;
        retry_until(SOON, "traffic", || lab.container("a").reaches(NEAR_B4))?;
        ensure!([identity(lab, "a")?, identity(lab, "b")?] == before, "an object or device changed");
        Ok(())
    });
}

/// Ports in one namespace, half of them tap and half veth.
fn many_ports() -> Manifest {
    let manifest = topology::front().namespace("many");
    (0..PORTS).fold(manifest, |manifest, n| {
        let kind = if n % 2 == 0 { "tap" } else { "veth" };
        let spec = json!({
            "network": "front", "namespace": "many", "type": kind, "device": format!("p{n}"),
            "addresses": [format!("198.18.1.{}/24", 100 + n)],
        });
        manifest.port(&format!("p{n}"), spec)
    })
}

fn devices(lab: &Lab) -> usize {
    let listed = lab.container("many").run("ip -o link show").map(|output| output.stdout);
    listed.map_or(0, |text| text.lines().filter(|line| line.contains(": p")).count())
}

fn ports(lab: &Lab) -> Result<usize> {
    Ok(lab.weft(&["get", "ports", "-o", "name"])?.ok()?.lines().count())
}

#[test]
fn an_apply_that_sigkill_interrupts_is_whole_or_absent_and_can_be_finished() {
    for kill_at in [0, 1, 2, 7, 15, 29] {
        Lab::test(|lab| interrupted(lab, kill_at));
    }
}

/// Kills the daemon when an Apply has made `kill_at` devices.
fn interrupted(lab: &mut Lab, kill_at: usize) -> Result<()> {
    let yaml = many_ports().to_string();
    let apply = lab.weft_process(&["apply", "-f", "-"], Some(&yaml))?;
    if kill_at > 0 {
        wait_until(SOON, "devices to be made", || devices(lab) >= kill_at)?;
    }
    lab.kill_daemon();
    let succeeded = apply.wait()?.success();
    let made = devices(lab);
    lab.restart()?;
    let stored = ports(lab)?;
    ensure!(stored == 0 || stored == PORTS, "killed at {kill_at}: {stored} of {PORTS} ports are stored");
    ensure!(
        stored == PORTS || !succeeded && made == 0,
        "killed at {kill_at}: an Apply that succeeded is lost"
    );
    lab.try_apply(&yaml)?.ok()?;
    ensure!(devices(lab) == PORTS, "killed at {kill_at}: {} devices", devices(lab));
    whole(lab, kill_at)
}

/// Every port works, and removing them leaves nothing.
fn whole(lab: &Lab, kill_at: usize) -> Result<()> {
    for n in 0..PORTS {
        lab.wait_for_state("port", &format!("p{n}"), true, None)?;
    }
    for device in ["p0", "p1", "p28", "p29"] {
        let ping = format!("ping -n -c 1 -W 5 -I {device} {}", topology::FRONT_GATEWAY4);
        lab.container("many").run(&ping)?.ok().with_context(|| format!("killed at {kill_at}"))?;
    }
    let names: Vec<String> = (0..PORTS).map(|n| format!("p{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    lab.weft(&[&["delete", "port"], &names[..]].concat())?.ok()?;
    ensure!(devices(lab) == 0, "killed at {kill_at}: {} devices are left", devices(lab));
    let left = stack_ends(lab)?;
    ensure!(left == 0, "killed at {kill_at}: {left} host ends of veth pairs are left");
    Ok(())
}

/// Veth devices in the namespace that the daemon owns.
fn stack_ends(lab: &Lab) -> Result<usize> {
    let command = ["nsenter", "--net=/run/weft/netns/ports", "ip", "-o", "link", "show", "type", "veth"];
    Ok(lab.node().exec(&command)?.ok()?.lines().count())
}

#[test]
fn a_delete_that_sigkill_interrupts_is_finished_after_the_restart() {
    Lab::test(|lab| {
        let yaml = many_ports().to_string();
        lab.try_apply(&yaml)?.ok()?;
        let delete = lab.weft_process(&["delete", "-f", "-"], Some(&yaml))?;
        wait_until(SOON, "the first device to go", || devices(lab) < PORTS)?;
        lab.kill_daemon();
        delete.wait()?;
        lab.restart()?;
        retry_until(SOON, "the rest to go", || {
            ensure!(ports(lab)? == 0 && lab.namespaces()?.is_empty(), "{} ports are left", ports(lab)?);
            Ok(())
        })
    });
}

#[test]
fn an_apply_on_a_full_disk_is_refused_and_works_again_when_there_is_room() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        lab.stop_daemon()?;
        let node = lab.node();
        node.run("mv /run/lab/state /run/lab/before")?.ok()?;
        node.run("mkdir /run/lab/state")?.ok()?;
        node.run("mount -t tmpfs -o size=2m tmpfs /run/lab/state")?.ok()?;
        node.run("cp --archive /run/lab/before/. /run/lab/state")?.ok()?;
        lab.restart()?;
        let filled = lab.node().run("dd if=/dev/zero of=/run/lab/state/filler bs=4096")?;
        ensure!(filled.stderr.contains("No space left"), "the disk is not full: {filled}");
        let large = (0..64).fold(Manifest::new().namespace("more"), |manifest, n| {
            manifest.label(&format!("label{n}"), &"v".repeat(250))
        });
        for _ in 0..2 {
            let text = lab.try_apply(&large.to_string())?.fails_with(1)?;
            ensure!(text.contains("/run/lab/state/weft.redb cannot be"), "the state file expected: {text}");
        }
        ensure!(lab.namespaces()? == ["a", "b"], "a refused Apply made something: {:?}", lab.namespaces()?);
        lab.container("a").reaches(NEAR_B4)?;
        lab.node().run("rm /run/lab/state/filler")?.ok()?;
        lab.apply(&large)?;
        lab.kill_daemon();
        lab.restart()?;
        ensure!(
            lab.namespaces()? == ["a", "b", "more"],
            "three namespaces expected: {:?}",
            lab.namespaces()?
        );
        ensure!(ports(lab)? == 2, "two ports expected");
        lab.weft(&["get", "namespace", "more"])?.ok().map(drop)
    });
}
