//! Streams and datagrams in both directions over every pair of port kinds, and nothing of them altered.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::topology::{self, FAR_B4, NEAR_B4, NEAR_B6};
use weft_testkit::{Lab, PortKind};

/// Sends noise to whoever connects and prints its digest; or receives and prints it.
const TRANSFER: &str = include_str!("transfer.py");

#[test]
fn iperf3_runs_in_both_directions_within_a_network() {
    Lab::test(|lab| {
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
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::two_networks(a, b))?;
            both_directions(lab, FAR_B4)?;
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

fn both_directions(lab: &Lab, b: &str) -> Result<()> {
    for options in
        ["", "--reverse", "--udp --bitrate 20M --length 1200", "--udp --bitrate 20M --length 1200 --reverse"]
    {
        let report = iperf3(lab, b, options)?;
        let end = &report["end"];
        if options.contains("--udp") {
            let lost = end["sum"]["lost_percent"].as_f64().context("lost_percent")?;
            let packets = end["sum"]["packets"].as_f64().context("packets")?;
            ensure!(packets > 100.0 && lost < 1.0, "{options}: {packets} datagrams, {lost} % lost");
        } else {
            let rate = end["sum_received"]["bits_per_second"].as_f64().context("bits_per_second")?;
            ensure!(rate > 1e8, "{options}: only {rate} bit/s");
        }
    }
    Ok(())
}

fn iperf3(lab: &Lab, b: &str, options: &str) -> Result<Value> {
    let server = lab.container("b").spawn("iperf3 --server --one-off")?;
    lab.container("b").wait_for_listener(5201)?;
    let text = lab.container("a").run(&format!("iperf3 --client {b} --time 1 --json {options}"))?.ok()?;
    server.wait()?.ok()?;
    serde_json::from_str(&text).context("the report of iperf3")
}

#[test]
fn a_transferred_file_arrives_unaltered() {
    Lab::test(|lab| {
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
fn a_64_kib_super_packet_crosses_unsegmented() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::one_network(a, b))?;
            let command = "tcpdump --immediate-mode -n -e -i eth0 -s 96 -c 1 tcp and greater 60000";
            let mut watcher = lab.container("b").spawn(command)?;
            watcher.wait_for("listening on")?;
            iperf3(lab, NEAR_B4, "")?;
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
        iperf3(lab, FAR_B4, "")?;
        watcher.wait()?.ok().map(drop).context("no super-packet arrived")
    });
}
