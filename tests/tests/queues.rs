//! Ports with several queues, what is lost when nobody reads, and one stuck container among others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::lab::LabOptions;
use weft_testkit::topology::{self, NEAR_B4};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, Manifest, PortKind};

const SOON: Duration = Duration::from_secs(20);
const FLOOD: &str = include_str!("flood.py");

fn two_queues() -> Manifest {
    let manifest = topology::one_network(PortKind::Veth, PortKind::Veth);
    manifest.with("Port", "a", "queues", json!(2)).with("Port", "b", "queues", json!(2))
}

/// The counters of a port.
fn counters(lab: &Lab, port: &str) -> Result<Value> {
    let text = lab.weft(&["counters", port, "-o", "json"])?.ok()?;
    let all: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(all["ports"][0].clone())
}

/// Datagrams from container `a`.
fn flood(lab: &Lab, address: &str, count: u32, sources: u32) -> Result<()> {
    let (count, sources) = (count.to_string(), sources.to_string());
    lab.container("a").exec(&["python3", "-c", FLOOD, address, &count, &sources])?.ok().map(drop)
}

#[test]
fn flows_of_a_veth_port_are_spread_over_its_queues_and_workers() {
    Lab::test_with(&LabOptions::without_fast_path(), |lab| {
        lab.apply(&two_queues())?;
        lab.container("a").reaches(NEAR_B4)?;
        flood(lab, NEAR_B4, 640, 64)?;
        let port = counters(lab, "a")?;
        let queues = port["queues"].as_array().context("queues")?;
        let packets: Vec<u64> = queues.iter().map(|queue| queue["rxPackets"].as_u64().unwrap_or(0)).collect();
        ensure!(packets.len() == 2 && packets.iter().all(|count| *count >= 64), "{packets:?}");
        let workers: Vec<&Value> = queues.iter().map(|queue| &queue["worker"]).collect();
        ensure!(workers[0] != workers[1], "{workers:?}");
        let total = port["counters"]["rxPackets"].as_u64().context("rxPackets")?;
        ensure!(packets.iter().sum::<u64>() == total, "{packets:?} of {total}");
        Ok(())
    });
}

#[test]
fn streams_cross_ports_with_several_queues() {
    Lab::test(|lab| {
        lab.apply(&two_queues())?;
        for options in ["--parallel 4", "--parallel 4 --reverse"] {
            let server = lab.container("b").spawn("iperf3 --server --one-off")?;
            lab.container("b").wait_for_listener(5201)?;
            let line = format!("iperf3 --client {NEAR_B4} --time 1 --json {options}");
            let report: Value = serde_json::from_str(&lab.container("a").run(&line)?.ok()?)?;
            server.wait()?.ok()?;
            let rate =
                report["end"]["sum_received"]["bits_per_second"].as_f64().context("bits_per_second")?;
            ensure!(rate > 1e8, "{options}: only {rate} bit/s");
        }
        Ok(())
    });
}

#[test]
fn a_killed_daemons_queues_are_opened_again() {
    Lab::test(|lab| {
        lab.apply(&two_queues())?;
        for _ in 0..2 {
            lab.kill_daemon();
            lab.restart()?;
            retry_until(SOON, "traffic", || lab.container("a").reaches(NEAR_B4))?;
            let queues = lab.get("port", "a")?["status"]["queues"].clone();
            ensure!(queues == 2, "{queues} queues");
        }
        Ok(())
    });
}

#[test]
fn another_number_of_queues_keeps_the_counters_of_a_port() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::one_network(a, b))?;
            lab.container("a").reaches(NEAR_B4)?;
            for queues in [2, 3, 1] {
                let packets = |lab: &Lab| -> Result<u64> {
                    counters(lab, "a")?["counters"]["rxPackets"].as_u64().context("rxPackets")
                };
                let before = packets(lab)?;
                lab.apply(&topology::one_network(a, b).with("Port", "a", "queues", json!(queues)))?;
                ensure!(lab.get("port", "a")?["status"]["queues"] == queues, "{queues} queues expected");
                ensure!(packets(lab)? >= before, "{a:?}: the counters went back below {before}");
                lab.container("a").reaches(NEAR_B4)?;
            }
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn what_the_daemon_does_not_read_in_time_is_counted() {
    Lab::test(|lab| {
        for kind in [PortKind::Tap, PortKind::Veth] {
            lab.apply(&topology::one_network(kind, PortKind::Tap))?;
            lab.container("a").reaches(NEAR_B4)?;
            let daemon = lab.daemon_pid()?.to_string();
            lab.node().exec(&["kill", "-s", "STOP", &daemon])?.ok()?;
            let flooded = flood(lab, NEAR_B4, 40_000, 8);
            lab.node().exec(&["kill", "-s", "CONT", &daemon])?.ok()?;
            flooded?;
            let lost = lab.drops("a", "receive_overflow")?;
            ensure!((1000..=40_000).contains(&lost), "{kind:?}: {lost} lost");
            let total: Value = serde_json::from_str(&lab.weft(&["counters", "-o", "json"])?.ok()?)?;
            ensure!(total["drops"]["receive_overflow"].as_u64() >= Some(lost), "{}", total["drops"]);
            lab.container("a").reaches(NEAR_B4)?;
            // What a port lost stays in the total when it goes, and is not the next port's.
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
            let total: Value = serde_json::from_str(&lab.weft(&["counters", "-o", "json"])?.ok()?)?;
            ensure!(total["drops"]["receive_overflow"].as_u64() >= Some(lost), "{}", total["drops"]);
        }
        Ok(())
    });
}

/// Listens on the port that the flood goes to, and reads nothing.
const DEAF: &str = "import socket, time\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
    s.bind(('0.0.0.0', 9))\n\
    print('deaf', flush=True)\n\
    time.sleep(600)\n";

#[test]
fn a_container_that_reads_nothing_holds_up_nobody() {
    Lab::test(|lab| {
        for kind in [PortKind::Tap, PortKind::Veth] {
            let manifest = topology::one_network(PortKind::Tap, kind)
                .namespace("c")
                .port("c", topology::port("front", "c", kind, "02:00:00:00:00:0c", &["198.18.1.12"]));
            lab.apply(&manifest)?;
            let mut deaf = lab.container("b").spawn_with_input(&["python3", "-c", DEAF], None)?;
            deaf.wait_for("deaf")?;
            deaf.signal("STOP")?;
            lab.container("a").reaches(NEAR_B4)?;
            let flood = lab
                .container("a")
                .spawn_with_input(&["python3", "-c", FLOOD, NEAR_B4, "400000", "4"], None)?;
            // Not the one that floods: its own answers may find no room behind the flood.
            for _ in 0..3 {
                lab.container("c").reaches(topology::FRONT_GATEWAY4)?;
            }
            drop(flood);
            lab.container("c").reaches(NEAR_B4)?;
            lab.weft(&["delete", "port", "a", "b", "c"])?.ok()?;
        }
        Ok(())
    });
}
