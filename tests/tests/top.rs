//! `weft top` while there is traffic.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::process::Process;
use weft_testkit::topology::{self, NEAR_B4};
use weft_testkit::{Lab, PortKind};

const TERMINAL: &str = include_str!("terminal.py");

/// A TCP stream from `a` to `b` that goes on until it is dropped.
fn stream(lab: &Lab) -> Result<[Process; 2]> {
    let server = lab.container("b").spawn("iperf3 --server --one-off")?;
    lab.container("b").wait_for_listener(5201)?;
    let mut client =
        lab.container("a").spawn(&format!("iperf3 --client {NEAR_B4} --time 60 --forceflush"))?;
    client.wait_for("  sec  ")?;
    Ok([client, server])
}

#[test]
fn rates_of_ports_and_workers_are_shown() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        let _stream = stream(lab)?;
        let text = lab.weft(&["top", "--once", "--interval", "1", "-o", "json"])?.ok()?;
        let rates: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let ports = rates["ports"].as_array().context("ports")?;
        let a = ports.iter().find(|port| port["port"] == "a").context("port a")?;
        ensure!(a["rxBits"].as_u64() > Some(10_000_000), "{rates}");
        ensure!(rates["total"]["txPackets"].as_u64() > Some(0), "{rates}");
        let workers = rates["workers"].as_array().context("workers")?;
        ensure!(workers.len() == 2, "{rates}");
        let busy: u64 = workers.iter().filter_map(|worker| worker["busy"].as_u64()).sum();
        ensure!((5..=200).contains(&busy), "{busy} % busy");
        let table = lab.weft(&["top", "--interval", "1"])?.ok()?;
        ensure!(table.contains("WORKER") && table.contains("\na ") && table.contains("\nall 2 "), "{table}");
        ensure!(!table.contains('\x1b'), "escapes where no terminal is: {table:?}");
        Ok(())
    });
}

#[test]
fn a_terminal_is_left_as_it_was_after_an_interrupt() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Tap))?;
        let program = weft_testkit::binaries::find("weft")?;
        let program = program.to_str().context("the path of weft is not UTF-8")?;
        let command = ["python3", "-c", TERMINAL, "WORKER", program, "top", "--interval", "1"];
        let text = lab.node().exec(&command)?.ok()?;
        ensure!(text.contains("ended with 0"), "{text}");
        let said = text.lines().next().unwrap_or_default();
        ensure!(said.contains("\\x1b[?1049h"), "{said}");
        ensure!(said.trim_end_matches('\'').ends_with("\\x1b[?25h\\x1b[?1049l"), "{said}");
        Ok(())
    });
}

#[test]
fn queues_and_stages_are_counted() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Tap))?;
        lab.container("a").reaches(topology::FAR_B4)?;
        let text = lab.weft(&["counters"])?.ok()?;
        let route = text.lines().find(|line| line.starts_with("route ")).context("no stage route")?;
        let packets: u64 = route.split_whitespace().nth(1).context("packets")?.parse()?;
        ensure!(packets >= 6, "three requests and three answers were routed: {text}");
        let text = lab.weft(&["counters", "a"])?.ok()?;
        ensure!(text.contains("QUEUE  WORKER") && !text.contains("STAGE"), "{text}");
        Ok(())
    });
}
