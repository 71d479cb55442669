//! Traffic from one pod to another that goes on while something happens.

use anyhow::{Context, Result, ensure};
use weft_testkit::agent::{Cluster, SOON};
use weft_testkit::iperf3;
use weft_testkit::process::Process;
use weft_testkit::wait::retry_until;

use super::server::Server;

/// A ping of both families and a TCP stream, which run until they are asked what they lost.
pub struct Traffic {
    pings: Vec<Process>,
    client: Process,
    server: Process,
}

impl Traffic {
    /// Starts them, and returns when they flow.
    pub fn start(cluster: &Cluster, from: &Server, to: &Server) -> Result<Traffic> {
        let (client, server) = (from.place(cluster), to.place(cluster));
        let listener = server.spawn("iperf3 --server --one-off")?;
        server.wait_for_listener(iperf3::PORT)?;
        let address = &to.pod.addresses[1];
        let options = "--time 80 --bitrate 2M --length 4K --interval 0.5 --forceflush";
        let mut stream = client.spawn(&format!("iperf3 --client {address} {options}"))?;
        let ping = |address: &String| client.spawn(&format!("ping -n -i 0.02 {address}"));
        let mut pings = to.pod.addresses.iter().map(ping).collect::<Result<Vec<_>>>()?;
        for ping in &mut pings {
            ping.wait_for("icmp_seq=5 ")?;
        }
        stream.wait_for("bits/sec")?;
        Ok(Traffic { pings, client: stream, server: listener })
    }

    /// Waits until the stream has moved again from now on.
    pub fn goes_on(&mut self) -> Result<()> {
        let before = self.client.stdout().lines().count();
        retry_until(SOON, "the stream to go on", || {
            ensure!(self.client.is_running(), "it has ended: {}", self.client.stdout());
            let said = self.client.stdout();
            ensure!(said.lines().skip(before + 1).any(moved), "{said}");
            Ok(())
        })
    }

    /// Ends them, and wants nothing to be lost.
    pub fn lost_nothing(mut self) -> Result<()> {
        ensure!(self.client.is_running(), "the stream has ended: {}", self.client.stdout());
        for ping in self.pings {
            ping.signal("INT")?;
            let report = ping.wait()?.stdout;
            nothing_is_missing(&report).context(report)?;
        }
        let report = self.client.kill().stdout;
        self.server.kill();
        let stood = report.lines().find(|line| line.contains("bits/sec") && !moved(line));
        ensure!(stood.is_none(), "the stream stood still: {report}");
        Ok(())
    }
}

/// Whether a line of iperf3's tells of octets.
fn moved(line: &str) -> bool {
    line.contains("bits/sec") && !line.contains(" 0.00 bits/sec")
}

/// Wants an answer to every question but the last, which the end of ping may overtake.
fn nothing_is_missing(report: &str) -> Result<()> {
    let number = |line: &str| line.split_once("icmp_seq=")?.1.split_once(' ')?.0.parse::<u64>().ok();
    let answered: Vec<u64> = report.lines().filter_map(number).collect();
    let asked = report.split_once(" packets transmitted").context("how many were sent")?.0;
    let asked: u64 = asked.rsplit(char::is_whitespace).next().unwrap_or_default().parse()?;
    ensure!(answered.iter().copied().eq(1..=answered.len() as u64), "some answers are missing");
    ensure!(answered.len() as u64 + 1 >= asked, "{asked} questions, {} answers", answered.len());
    Ok(())
}
