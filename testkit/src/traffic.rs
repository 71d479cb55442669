//! Traffic from one place to another that goes on while something happens.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::iperf3;
use crate::lab::Place;
use crate::process::Process;
use crate::wait::retry_until;

/// Longest time until a stream that stood still goes on: TCP asks ever more rarely.
const SOON: Duration = Duration::from_secs(30);

/// Pings and a TCP stream, which run until they are asked what they lost.
#[derive(Debug)]
pub struct Traffic {
    pings: Vec<Process>,
    client: Process,
    server: Process,
}

impl Traffic {
    /// Starts pings to each of these addresses of `server`, and a stream to the last, and returns when they flow.
    pub fn start(client: &Place<'_>, server: &Place<'_>, addresses: &[String]) -> Result<Traffic> {
        let listener = server.spawn("iperf3 --server --one-off")?;
        server.wait_for_listener(iperf3::PORT)?;
        let address = addresses.last().context("an address")?;
        let options = "--time 0 --bitrate 2M --length 4K --interval 0.5 --forceflush";
        let mut stream = client.spawn(&format!("iperf3 --client {address} {options}"))?;
        let ping = |address: &String| client.spawn(&format!("ping -n -i 0.02 {address}"));
        let mut pings = addresses.iter().map(ping).collect::<Result<Vec<_>>>()?;
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
            all_answered(&report)?;
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

/// Wants, of what ping said, an answer to every question but the last, which the end of ping may overtake.
pub fn all_answered(report: &str) -> Result<()> {
    let answers = report.lines().filter(|line| line.contains("bytes from"));
    let number = |line: &str| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse::<u64>().ok();
    let answered: BTreeSet<u64> = answers.filter_map(number).collect();
    let (sent, _) = report.split_once(" packets transmitted").context("how many were sent")?;
    let sent: u64 = sent.lines().last().unwrap_or_default().parse()?;
    let missing: Vec<u64> = (1..sent).filter(|number| !answered.contains(number)).collect();
    ensure!(missing.is_empty(), "no answers to {missing:?}: {report}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_answer_is_seen_and_one_that_is_still_under_way_is_not() {
        let report = |answered: &[u32], asked: u32| {
            let lines: String = answered
                .iter()
                .map(|it| format!("64 bytes from 192.0.2.1: icmp_seq={it} ttl=64\n"))
                .collect();
            format!("{lines}\n--- ping statistics ---\n{asked} packets transmitted, x received\n")
        };
        all_answered(&report(&[1, 2, 3], 3)).unwrap();
        all_answered(&report(&[1, 2, 3], 4)).unwrap();
        assert!(all_answered(&report(&[1, 3], 3)).is_err());
        assert!(all_answered(&report(&[1, 2], 4)).is_err());
        let refused =
            report(&[1, 2, 3], 4).replace("64 bytes from 192.0.2.1: icmp_seq=2", "From 192.0.2.9 icmp_seq=2");
        assert!(all_answered(&refused).is_err());
    }

    #[test]
    fn a_stream_that_stands_still_says_so() {
        assert!(moved("[  5]   0.00-0.50   sec   128 KBytes  2.10 Mbits/sec    0    320 KBytes"));
        assert!(!moved("[  5]   0.50-1.00   sec  0.00 Bytes  0.00 bits/sec    1   1.41 KBytes"));
    }
}
