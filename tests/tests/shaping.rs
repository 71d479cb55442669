//! Rates of Ports (`spec.bandwidth`): real streams and datagrams get what they may, and nobody else notices.

use anyhow::{Result, bail, ensure};
use serde_json::json;
use weft_testkit::topology::{self, NEAR_B4};
use weft_testkit::{Lab, Manifest, PortKind, iperf3};

const MEGABIT: u64 = 1_000_000;

/// What container `a` may send, and what it may get, in bits a second.
const EGRESS: u64 = 100 * MEGABIT;
const INGRESS: u64 = 40 * MEGABIT;

fn limited(kind: PortKind, egress: u64, ingress: u64) -> Manifest {
    let bandwidth = json!({"egress": {"bitsPerSecond": egress}, "ingress": {"bitsPerSecond": ingress}});
    topology::one_network(kind, kind).with("Port", "a", "bandwidth", bandwidth)
}

/// A run from container `a` to `b`, whose payload has to come at 90 to 100 % of `rate`: headers take 4 to 5. Never may it
/// be faster; a machine that is busy elsewhere may have the sender be late, so it has further tries to be as fast.
fn within(lab: &Lab, options: &str, rate: u64) -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..3 {
        // The first second is TCP's, to find out.
        let options = format!("--time 3 --omit 1 {options}");
        let report = iperf3::run(&lab.container("a"), &lab.container("b"), NEAR_B4, &options)?;
        let goodput = report.rate()? / rate as f64;
        ensure!(goodput <= 1.0, "{options}: {goodput} of {rate} bit/s");
        if goodput >= 0.9 {
            return Ok(());
        }
        seen.push(goodput);
    }
    bail!("{options}: {seen:?} of {rate} bit/s")
}

fn both_directions(kind: PortKind) {
    Lab::test(|lab| {
        lab.apply(&limited(kind, EGRESS, INGRESS))?;
        within(lab, "", EGRESS)?;
        within(lab, "--reverse", INGRESS)?;
        ensure!(lab.drops("a", "shaper_ingress_full")? > 0, "TCP was never told of the rate");
        within(lab, "--udp --bitrate 130M --length 1200", EGRESS)?;
        within(lab, "--udp --bitrate 60M --length 1200 --reverse", INGRESS)?;
        for reason in ["shaper_egress_full", "shaper_ingress_full"] {
            ensure!(lab.drops("a", reason)? > 1000, "no {reason}");
        }
        ensure!(lab.drops("b", "shaper_egress_full")? == 0, "port b has no rate");
        Ok(())
    });
}

#[test]
fn a_tap_port_gets_and_sends_at_its_rates() {
    both_directions(PortKind::Tap);
}

#[test]
fn a_veth_port_gets_and_sends_at_its_rates() {
    both_directions(PortKind::Veth);
}

#[test]
fn super_packets_fill_a_gigabit() {
    Lab::test(|lab| {
        let rate = 1000 * MEGABIT;
        lab.apply(&limited(PortKind::Tap, rate, rate))?;
        within(lab, "", rate)?;
        within(lab, "--reverse", rate)
    });
}

#[test]
fn another_rate_holds_for_streams_that_run() {
    Lab::test(|lab| {
        lab.apply(&limited(PortKind::Tap, 20 * MEGABIT, INGRESS))?;
        let mut server =
            lab.container("b").spawn("iperf3 --server --one-off --interval 1 --format k --forceflush")?;
        lab.container("b").wait_for_listener(iperf3::PORT)?;
        let client = lab.container("a").spawn(&format!("iperf3 --client {NEAR_B4} --time 6"))?;
        server.wait_for("Kbits/sec")?;
        lab.apply(&limited(PortKind::Tap, 80 * MEGABIT, INGRESS))?;
        client.wait()?.ok()?;
        let rates = intervals(&server.wait()?.ok()?)?;
        ensure!(rates[0] <= 20e6 * 1.1, "{rates:?}");
        ensure!((0.85..=1.0).contains(&(rates[4] / 80e6)), "{rates:?}");
        ensure!(lab.drops("a", "port_down")? == 0, "frames were lost by the change");
        Ok(())
    });
}

/// What a server got, in bits a second, by second. What a client says it sent may still wait in its socket's buffer.
fn intervals(report: &str) -> Result<Vec<f64>> {
    let seconds = report.lines().take_while(|line| !line.contains("- - -"));
    let rate = |line: &str| {
        let (before, _) = line.split_once("Kbits/sec")?;
        before.split_whitespace().last()?.parse::<f64>().ok()
    };
    let rates: Vec<f64> = seconds.filter_map(rate).map(|kilobits| kilobits * 1000.0).collect();
    ensure!(rates.len() >= 6, "{report}");
    Ok(rates)
}

#[test]
fn people_are_told_of_a_rate_in_their_units() {
    Lab::test(|lab| {
        lab.apply(&limited(PortKind::Tap, EGRESS, 1_500_000))?;
        let text = lab.weft(&["describe", "port", "a"])?.ok()?;
        let line = "Bandwidth:   gets 1.5 Mbit/s, sends 100 Mbit/s";
        ensure!(text.lines().any(|seen| seen == line), "{text}");
        let trace = lab.weft(&["trace", "a", "--to", NEAR_B4])?.ok()?;
        ensure!(trace.contains("port a sends it at once: within 100 Mbit/s"), "{trace}");
        let wrong = limited(PortKind::Tap, 5, INGRESS).to_string();
        let refused = lab.try_apply(&wrong)?.text();
        ensure!(refused.contains("spec.bandwidth.egress.bitsPerSecond: 5 is out of range"), "{refused}");
        Ok(())
    });
}
