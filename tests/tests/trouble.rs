//! When things go wrong: others go on, memory stays bounded, and a counter says what happened.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_testkit::frame::{self, mac};
use weft_testkit::lab::LabOptions;
use weft_testkit::raw::send;
use weft_testkit::topology::{self, A_MAC, A4, FAR_B4, FAR_B6, FRONT_GATEWAY4, PortKind};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, Manifest};

const SOON: Duration = Duration::from_secs(20);
const C4: &str = "198.18.1.12";
const FLOOD: &str = include_str!("flood.py");
const SCAN: &str = include_str!("scan.py");
/// What the daemon may grow by in a test, in KiB.
const GROWTH_KIB: u64 = 64 * 1024;

/// `a` and `c` on `front`, `b` on `back`. What `a` does is not to be felt between `c` and `b`.
fn fabric() -> Manifest {
    let c = topology::port("front", "c", PortKind::Veth, "02:00:00:00:00:0c", &[C4, "2001:db8:1::12"]);
    topology::two_networks(PortKind::Tap, PortKind::Tap).namespace("c").port("c", c)
}

/// The daemon's memory, in KiB.
fn resident(lab: &Lab) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.daemon_pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Runs `mischief` while others talk, and looks at the daemon's memory.
fn others_go_on(lab: &Lab, mischief: impl FnOnce() -> Result<()>) -> Result<()> {
    lab.container("c").reaches(FAR_B4)?;
    let before = resident(lab)?;
    let talk = lab.container("c").spawn(&format!("ping -n -c 40 -i 0.05 -W 5 {FAR_B4}"))?;
    mischief()?;
    let told = talk.wait()?.text();
    ensure!(told.contains("40 received"), "others were held up: {told}");
    lab.container("c").reaches(FAR_B6)?;
    let grown = resident(lab)?.saturating_sub(before);
    ensure!(grown < GROWTH_KIB, "the daemon grew by {grown} KiB");
    Ok(())
}

#[test]
fn a_scan_of_a_subnet_does_not_crowd_out_its_neighbors() {
    Lab::test(|lab| {
        lab.apply(&fabric().with("Network", "back", "maxNeighbors", json!(64)))?;
        others_go_on(lab, || {
            lab.container("a").exec(&["python3", "-c", SCAN, "2001:db8:2::", "20000"])?.ok().map(drop)
        })?;
        let neighbors = lab.get("network", "back")?["status"]["neighbors"].as_u64().context("neighbors")?;
        ensure!(neighbors <= 64, "{neighbors} neighbours");
        let refused = lab.drops("a", "neighbor_table_full")?;
        ensure!(refused > 1000, "{refused} packets are told of as dropped for a full table");
        Ok(())
    });
}

#[test]
fn first_fragments_without_end_do_not_keep_others_from_reassembly() {
    Lab::test(|lab| {
        lab.apply(&fabric())?;
        let gateway: std::net::Ipv4Addr = FRONT_GATEWAY4.parse()?;
        let to =
            lab.get("network", "front")?["status"]["gatewayMac"].as_str().map(mac).context("gatewayMac")?;
        let first = |number: u16| {
            let mut packet = frame::ipv4(A4.parse()?, gateway, 17, 64, &[0; 1400]);
            packet[4..6].copy_from_slice(&number.to_be_bytes());
            packet[6] = 0x20; // more fragments follow
            packet[10..12].fill(0);
            let sum = frame::checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            anyhow::Ok(frame::ethernet(to, mac(A_MAC), frame::IPV4, &packet))
        };
        let frames = (0..6000).map(first).collect::<Result<Vec<_>>>()?;
        others_go_on(lab, || send(&lab.container("a"), "eth0", &frames))?;
        let large = lab.container("c").run(&format!("ping -n -c 2 -s 6000 -W 5 {FRONT_GATEWAY4}"))?.text();
        ensure!(large.contains("2 received"), "{large}");
        let refused = lab.drops("a", "reassembly_full")?;
        ensure!(refused > 1000, "{refused} fragments are told of as beyond the bound");
        Ok(())
    });
}

#[test]
fn a_routing_loop_ends_with_the_ttl() {
    Lab::test(|lab| {
        // The Router sends it to b, and b sends it back.
        let route = json!([{ "prefix": "203.0.113.0/24", "nextHops": [FAR_B4] }]);
        let manifest =
            fabric().with("Router", "main", "routes", route).with("Port", "b", "sourceCheck", json!(false));
        lab.apply(&manifest)?;
        let forward =
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects";
        lab.container("b").exec(&["sh", "-c", forward])?.ok()?;
        others_go_on(lab, || {
            let told = lab.container("a").run("ping -n -c 20 -i 0.05 -W 5 -t 63 203.0.113.9")?.text();
            ensure!(told.contains("Time to live exceeded"), "{told}");
            Ok(())
        })?;
        let expired = lab.drops("b", "ttl_expired")? + lab.drops("a", "ttl_expired")?;
        ensure!(expired > 0, "nothing tells of the loop");
        Ok(())
    });
}

#[test]
fn a_storm_of_unknown_addresses_leaves_known_ones_their_way() {
    Lab::test(|lab| {
        let manifest = fabric()
            .with("Network", "front", "maxMacs", json!(64))
            .with("Port", "a", "sourceCheck", json!(false))
            .with("Port", "a", "stormControl", json!({ "unknownUnicast": 500, "broadcast": 500 }));
        lab.apply(&manifest)?;
        let storm: Vec<_> = (0..20_000u16)
            .map(|n| {
                let [high, low] = n.to_be_bytes();
                frame::ethernet([2, 1, 0, 0, high, low], [2, 2, 0, 0, high, low], 0x88b5, &[0; 46])
            })
            .collect();
        others_go_on(lab, || send(&lab.container("a"), "eth0", &storm))?;
        let macs = lab.get("network", "front")?["status"]["macs"].as_u64().context("macs")?;
        ensure!(macs <= 64 + 4, "{macs} addresses");
        let held_back = lab.drops("a", "storm_unknown_unicast")?;
        ensure!(held_back > 1000, "{held_back} frames are told of as held back");
        Ok(())
    });
}

#[test]
fn one_worker_serves_the_quiet_beside_the_loud() {
    Lab::test_with(&LabOptions { workers: 1, ..LabOptions::default() }, |lab| {
        lab.apply(&fabric())?;
        let command = ["python3", "-c", FLOOD, C4, "300000", "4"];
        let flood = lab.container("a").spawn_with_input(&command, None)?;
        others_go_on(lab, || Ok(()))?;
        drop(flood);
        retry_until(SOON, "the flood's port", || lab.container("a").reaches(C4))
    });
}
