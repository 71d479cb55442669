//! `weft trace --live`: real packets, as they come.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::process::Process;
use weft_testkit::topology::{self, A4, FAR_B4};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, PortKind};

const SOON: Duration = Duration::from_secs(20);
/// How many may watch at a time.
const MOST: usize = 8;

/// A live trace that is under way: the daemon has taken it up when its first packet is there.
fn watch(lab: &Lab, arguments: &[&str]) -> Result<Process> {
    lab.weft_process(&[&["trace", "--live", "-o", "json"], arguments].concat(), None)
}

/// The packets until now.
fn packets(trace: &Process) -> Vec<Value> {
    let text = trace.stdout();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn seen(lab: &Lab, trace: &Process, from: &str, to: &str) -> Result<Value> {
    let mut first = None;
    retry_until(SOON, "a packet to be followed", || {
        lab.container(from).run(&format!("ping -n -c 1 -W 1 {to}"))?;
        first = packets(trace).first().cloned();
        first.as_ref().map(drop).context("nothing yet")
    })?;
    first.context("a packet")
}

#[test]
fn a_real_packet_is_followed_to_where_it_leaves() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        lab.container("a").reaches(FAR_B4)?;
        let trace = watch(lab, &["a", "--icmp", "--to", "198.18.2.0/24"])?;
        let packet = seen(lab, &trace, "a", FAR_B4)?;
        ensure!(packet["port"] == "a" && packet["trace"]["verdict"] == "forwarded", "{packet}");
        ensure!(packet["trace"]["outputs"][0]["port"] == "b", "{packet}");
        ensure!(packet["summary"].as_str().is_some_and(|text| text.contains(A4)), "{packet}");
        let stages: Vec<&str> = packet["trace"]["steps"]
            .as_array()
            .context("steps")?
            .iter()
            .filter_map(|step| step["stage"].as_str())
            .collect();
        ensure!(stages.contains(&"ingress") && stages.contains(&"route"), "{stages:?}");
        Ok(())
    });
}

#[test]
fn a_packet_that_is_dropped_is_followed_to_its_reason() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Veth, PortKind::Tap))?;
        let trace = watch(lab, &["a", "--to", "192.0.2.1"])?;
        let packet = seen(lab, &trace, "a", "192.0.2.1")?;
        ensure!(packet["trace"]["verdict"] == "dropped", "{packet}");
        ensure!(packet["trace"]["dropReason"] == "no_route", "{packet}");
        Ok(())
    });
}

#[test]
fn only_what_fits_is_followed_and_a_count_ends_it() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Tap))?;
        lab.container("a").reaches(FAR_B4)?;
        let wrong = watch(lab, &["a", "--udp", "53"])?;
        let elsewhere = watch(lab, &["b", "--from", "192.0.2.0/24"])?;
        let counted = watch(lab, &["b", "--from", FAR_B4, "--icmp", "--count", "2"])?;
        retry_until(SOON, "two packets", || {
            lab.container("a").run(&format!("ping -n -c 1 -W 1 {FAR_B4}"))?.ok()?;
            ensure!(packets(&counted).len() == 2, "{}", counted.stdout());
            Ok(())
        })?;
        let output = counted.wait()?;
        ensure!(output.success(), "{output}");
        ensure!(packets(&wrong).is_empty() && packets(&elsewhere).is_empty(), "{}", wrong.stdout());
        Ok(())
    });
}

#[test]
fn a_packet_in_words_shows_its_time_and_verdict() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Tap))?;
        let mut trace = lab.weft_process(&["trace", "--live", "--resolve", "--count", "1"], None)?;
        retry_until(SOON, "a question", || {
            lab.container("a").run("ip neighbour flush dev eth0")?.ok()?;
            lab.container("a").run(&format!("ping -n -c 1 -W 1 {}", topology::NEAR_B4))?;
            ensure!(!trace.is_running(), "no packet yet");
            Ok(())
        })?;
        let text = trace.wait()?.ok()?;
        let first = text.lines().next().unwrap_or_default();
        ensure!(first.contains("T") && first.contains("Z  port/") && first.contains("ARP"), "{text}");
        ensure!(text.contains("verdict: "), "{text}");
        Ok(())
    });
}

#[test]
fn those_who_go_away_make_room_for_others() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Tap))?;
        for _ in 0..2 {
            let mut watching = Vec::new();
            for _ in 0..MOST {
                watching.push(watch(lab, &["a"])?);
            }
            for trace in &watching {
                seen(lab, trace, "a", topology::NEAR_B4)?;
            }
            let refused = lab.weft(&["trace", "--live", "--seconds", "1"])?.fails_with(1)?;
            ensure!(refused.contains("8 live traces run already"), "{refused}");
            drop(watching);
            retry_until(SOON, "room", || lab.weft(&["trace", "--live", "--seconds", "1"])?.ok().map(drop))?;
        }
        Ok(())
    });
}

#[test]
fn a_wrong_request_is_refused() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Tap))?;
        lab.weft(&["trace", "--live", "nobody"])?.fails_with(4)?;
        let text = lab.weft(&["trace", "--live", "a", "--seconds", "9999"])?.fails_with(1)?;
        ensure!(text.contains("seconds: 9999 is out of range, 1 to 3600 expected"), "{text}");
        let text = lab.weft(&["trace", "--live", "--to", "198.18.1.1/24"])?.fails_with(1)?;
        ensure!(text.contains("destination: 198.18.1.1/24 has host bits set"), "{text}");
        Ok(())
    });
}

#[test]
fn more_packets_than_may_be_followed_are_counted_and_pass() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Tap))?;
        lab.container("a").reaches(topology::NEAR_B4)?;
        let trace = watch(lab, &["a", "--icmp"])?;
        seen(lab, &trace, "a", topology::NEAR_B4)?;
        let flood = lab.container("a").run(&format!("ping -n -q -f -c 3000 {}", topology::NEAR_B4))?.ok()?;
        ensure!(flood.contains(" 0% packet loss"), "{flood}");
        let sent = |lab: &Lab| -> Result<()> {
            lab.container("a").run(&format!("ping -n -c 1 -W 1 {}", topology::NEAR_B4))?.ok().map(drop)
        };
        retry_until(SOON, "the count of those that were left out", || {
            sent(lab)?;
            let missed: u64 = packets(&trace).iter().filter_map(|packet| packet["missed"].as_u64()).sum();
            let followed = packets(&trace).len() as u64;
            ensure!(missed + followed >= 3000, "{followed} followed and {missed} missed of 3000");
            Ok(())
        })
    });
}
