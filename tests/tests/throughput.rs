//! Streams and datagrams in both directions over every pair of port kinds, and nothing of them altered.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::lab::LabOptions;
use weft_testkit::topology::{self, FAR_B4, NEAR_B4, NEAR_B6};
use weft_testkit::{Lab, PortKind, iperf3};

/// Sends noise to whoever connects and prints its digest; or receives and prints it.
const TRANSFER: &str = include_str!("transfer.py");
/// Sends datagrams in bursts, and says whether each arrived as it was.
const BURST: &str = include_str!("burst.py");

/// Runs a test with the kernel's fast path and, since the workers carry what goes between veth Ports without it, once more
/// without.
fn both_paths(test: impl Fn(&mut Lab) -> Result<()>) {
    for fast_path in [true, false] {
        let options = LabOptions { fast_path, ..LabOptions::default() };
        Lab::test_with(&options, |lab| test(lab).with_context(|| format!("fast_path = {fast_path}")));
    }
}

#[test]
fn iperf3_runs_in_both_directions_within_a_network() {
    both_paths(|lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::one_network(a, b))?;
            both_directions(lab, NEAR_B4)?;
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn iperf3_runs_in_both_directions_through_the_router() {
    both_paths(|lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::two_networks(a, b))?;
            both_directions(lab, FAR_B4)?;
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

fn both_directions(lab: &Lab, b: &str) -> Result<()> {
    let (client, server) = (lab.container("a"), lab.container("b"));
    iperf3::streams(&client, &server, b, 1e8)?;
    iperf3::datagrams(&client, &server, b, 1200)
}

#[test]
fn a_transferred_file_arrives_unaltered() {
    both_paths(|lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::one_network(a, b))?;
            for address in [NEAR_B4, NEAR_B6] {
                let sender =
                    lab.container("b").spawn_with_input(&["python3", "-c", TRANSFER, "send"], None)?;
                lab.container("b").wait_for_listener(7000)?;
                let received =
                    lab.container("a").exec(&["python3", "-c", TRANSFER, "receive", address])?.ok()?;
                let sent = sender.wait()?.ok()?;
                ensure!(sent == received, "{a:?} {b:?} {address}: sent {sent} received {received}");
            }
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn datagrams_that_come_together_arrive_each_by_itself() {
    // The kernel puts nothing together.
    Lab::test_with(&LabOptions::without_fast_path(), |lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::one_network(a, b))?;
            // The kernel cuts what the sender gives it before the device has it.
            lab.container("a").run("ethtool -K eth0 tx-udp-segmentation off")?.ok()?;
            for address in [NEAR_B4, NEAR_B6] {
                let before = coalesced(lab)?;
                let answerer = ["python3", "-c", BURST, "answer", "7001"];
                let mut answerer = lab.container("b").spawn_with_input(&answerer, None)?;
                answerer.wait_for("bound")?;
                let sender = ["python3", "-c", BURST, "send", address, "7001"];
                lab.container("a").exec(&sender)?.ok().with_context(|| format!("{a:?} {b:?} {address}"))?;
                answerer.wait()?.ok()?;
                ensure!(coalesced(lab)? > before, "{a:?} {b:?} {address}: nothing was put together");
            }
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

/// Segments and datagrams that the stack has put to others.
fn coalesced(lab: &Lab) -> Result<u64> {
    let total: Value = serde_json::from_str(&lab.weft(&["counters", "-o", "json"])?.ok()?)?;
    total["stack"]["segments_coalesced"].as_u64().with_context(|| format!("{total}"))
}

#[test]
fn a_64_kib_super_packet_crosses_unsegmented() {
    both_paths(|lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::one_network(a, b))?;
            let command = "tcpdump --immediate-mode -n -e -i eth0 -s 96 -c 1 tcp and greater 60000";
            let mut watcher = lab.container("b").spawn(command)?;
            watcher.wait_for("listening on")?;
            iperf3::run(&lab.container("a"), &lab.container("b"), NEAR_B4, "--time 1")?;
            let seen =
                watcher.wait()?.ok().with_context(|| format!("{a:?} to {b:?}: no super-packet arrived"))?;
            ensure!(seen.contains("length 6"), "{seen}");
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn a_super_packet_crosses_the_router_unsegmented() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        let command = "tcpdump --immediate-mode -n -e -i eth0 -s 96 -c 1 tcp and greater 60000";
        let mut watcher = lab.container("b").spawn(command)?;
        watcher.wait_for("listening on")?;
        iperf3::run(&lab.container("a"), &lab.container("b"), FAR_B4, "--time 1")?;
        watcher.wait()?.ok().map(drop).context("no super-packet arrived")
    });
}
