//! Ports that come and go: without a leak, and without disturbing the others.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_testkit::topology::{self, FAR_B4};
use weft_testkit::{Lab, Manifest, PortKind};

const PORTS: usize = 200;
const NAMESPACES: usize = 10;

/// 200 ports, half of them tap and half veth, in 10 namespaces.
fn crowd() -> Manifest {
    let spaces = (0..NAMESPACES).fold(Manifest::new(), |m, n| m.namespace(&format!("n{n}")));
    let network = json!({ "subnets": [{ "prefix": "198.19.0.0/16" }, { "prefix": "2001:db8:9::/64" }] });
    (0..PORTS).fold(spaces.network("crowd", network), |manifest, n| {
        let spec = json!({
            "network": "crowd",
            "namespace": format!("n{}", n % NAMESPACES),
            "type": if n % 2 == 0 { "tap" } else { "veth" },
            "device": format!("p{n}"),
            "addresses": [format!("198.19.1.{}/16", n + 1), format!("2001:db8:9::{:x}/64", n + 1)],
        });
        manifest.port(&format!("p{n}"), spec)
    })
}

/// What the daemon and the kernel hold: open files, namespaces, devices at the stack's side, threads.
fn holdings(lab: &Lab) -> Result<(usize, Vec<String>, usize, usize)> {
    let pid = lab.daemon_pid()?;
    let count = |folder: &str| anyhow::Ok(fs::read_dir(format!("/proc/{pid}/{folder}"))?.count());
    let ends = lab.node().run("nsenter --net=/run/weft/netns/ports ip -o link show")?.ok()?.lines().count();
    Ok((count("fd")?, lab.namespaces()?, ends, count("task")?))
}

/// Resident memory of the daemon in KiB.
fn resident(lab: &Lab) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", lab.daemon_pid()?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    line.split_whitespace().nth(1).context("VmRSS")?.parse().context("VmRSS")
}

fn round(lab: &Lab) -> Result<()> {
    let yaml = crowd().to_string();
    lab.try_apply(&yaml)?.ok()?;
    let ready = lab.weft(&["get", "ports", "-o", "name"])?.ok()?.lines().count();
    ensure!(ready == PORTS, "{ready} ports of {PORTS}");
    lab.container("n0").run("ping -n -c 1 -W 5 -I p0 198.19.1.2")?.ok()?;
    lab.weft_with_input(&["delete", "-f", "-"], Some(&yaml))?.ok()?;
    Ok(())
}

#[test]
fn two_hundred_ports_come_and_go_without_a_leak() {
    Lab::test(|lab| {
        round(lab)?;
        let (first, memory) = (holdings(lab)?, resident(lab)?);
        ensure!(first.1.is_empty(), "namespaces are left: {:?}", first.1);
        for _ in 0..3 {
            round(lab)?;
            let now = holdings(lab)?;
            ensure!(now == first, "after the first round {first:?}, now {now:?}");
        }
        let grown = resident(lab)?.saturating_sub(memory);
        ensure!(grown < 8 * 1024, "the daemon grew by {grown} KiB in three rounds of {PORTS} ports");
        Ok(())
    });
}

#[test]
fn ports_that_come_and_go_do_not_stop_traffic_on_others() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        lab.container("a").reaches(FAR_B4)?;
        // It ends by itself, so that no answer is cut off; ports come and go until then.
        let mut ping = lab.container("a").spawn(&format!("ping -n -q -i 0.01 -c 400 -W 5 {FAR_B4}"))?;
        let mut rounds = 0;
        for n in 0.. {
            if !ping.is_running() {
                break;
            }
            let kind = if n % 2 == 0 { PortKind::Tap } else { PortKind::Veth };
            let network = if n % 3 == 0 { "back" } else { "front" };
            let host = if n % 3 == 0 { "198.18.2.50" } else { "198.18.1.50" };
            let spec = topology::port(network, "guest", kind, "02:00:00:00:00:50", &[host]);
            let guest = Manifest::new().namespace("guest").port("guest", spec);
            lab.apply(&guest)?;
            lab.container("guest").reaches(FAR_B4)?;
            lab.weft_with_input(&["delete", "-f", "-"], Some(&guest.to_string()))?.ok()?;
            rounds += 1;
        }
        ensure!(rounds >= 3, "only {rounds} rounds of ports while the ping ran");
        let output = ping.wait()?;
        ensure!(output.stdout.contains(" 0% packet loss"), "no loss expected: {output}");
        Ok(())
    });
}
