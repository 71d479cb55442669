//! Makes the traffic of one run and reads off its figure.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use weft_testkit::iperf3;

use crate::datagrams::{self, Arrival};
use crate::machine::Spent;
use crate::scenario::{Count, Generator};
use crate::site::Site;

/// Port of all generators.
const PORT: u16 = iperf3::PORT;
/// Octets of a message of which the round trip is measured.
const MESSAGE: u32 = 64;

/// What one run gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// In the generator's unit.
    pub figure: f64,
    /// CPU seconds of the whole machine, in the generator's unit for them.
    pub cpu: f64,
    /// The generator's further figures.
    pub details: Vec<f64>,
}

impl Sample {
    /// `spent` is divided by how much was `moved`; context switches are the first of the details.
    fn new(figure: f64, spent: Spent, moved: f64, more: &[f64]) -> Sample {
        let details = [&[spent.switches / moved], more].concat();
        Sample { figure, cpu: spent.cpu / moved, details }
    }
}

/// Runs the generator once.
pub fn run(generator: Generator, site: &Site) -> Result<Sample> {
    let address = site.sink_address(PORT)?;
    match generator {
        Generator::TcpStreams { streams, time } => tcp_streams(site, address, streams, time),
        Generator::RoundTrip { time } => round_trip(site, address, time),
        Generator::Datagrams { octets, count, time } => datagrams(site, address, octets, count, time),
    }
}

fn tcp_streams(site: &Site, address: SocketAddr, streams: u32, time: Duration) -> Result<Sample> {
    let options = format!("--time {} --parallel {streams}", time.as_secs());
    let before = Spent::until_now()?;
    let report = iperf3::run(&site.source(), &site.sink(), &address.ip().to_string(), &options)?;
    Ok(Sample::new(report.rate()? / 1e9, before.since_then()?, report.octets()? / 1e9, &[]))
}

fn round_trip(site: &Site, address: SocketAddr, time: Duration) -> Result<Sample> {
    let (host, seconds) = (address.ip(), time.as_secs());
    let before = Spent::until_now()?;
    let server = site.sink().spawn(&format!("sockperf server --tcp -i {host} -p {PORT}"))?;
    site.sink().wait_for_listener(PORT)?;
    // By default it takes the processor's clock rate from a file that is wrong in many virtual machines.
    let client = "sockperf ping-pong --tcp --full-rtt --no-rdtsc";
    let line = format!("{client} -i {host} -p {PORT} -m {MESSAGE} -t {seconds}");
    let report = site.source().run(&line)?.ok()?;
    let spent = before.since_then()?;
    server.kill();
    let number =
        |mark| number_after(&report, mark).with_context(|| format!("sockperf tells no {mark}: {report}"));
    let [median, p99] = [number("percentile 50.000 =")?, number("percentile 99.000 =")?];
    Ok(Sample::new(median, spent, number("ReceivedMessages=")? / 1e3, &[p99]))
}

/// The number that follows the first `mark`.
fn number_after(report: &str, mark: &str) -> Option<f64> {
    let (_, rest) = report.split_once(mark)?;
    let rest = rest.trim_start();
    rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len())].parse().ok()
}

fn datagrams(
    site: &Site,
    address: SocketAddr,
    octets: usize,
    count: Count,
    time: Duration,
) -> Result<Sample> {
    let program = std::env::current_exe().context("the path of this executable")?;
    let (program, seconds) = (program.display(), time.as_secs());
    datagrams::cut_runs(&site.source(), address.ip())?;
    let mut sink = site.sink().spawn(&format!("{program} count {address} {seconds}"))?;
    sink.wait_for("bound")?;
    let sent = site.source().run(&format!("{program} send {address} {octets} {seconds}"))?.ok()?;
    let sent: f64 = sent.trim().parse().context("the rate of the sender")?;
    sink.wait_for("}")?;
    let said = sink.kill().stdout;
    let arrival = said.lines().last().context("what arrived")?;
    let Arrival { datagrams, seconds, spent } = serde_json::from_str(arrival).context("what arrived")?;
    let rate = datagrams / seconds;
    let lost = (100.0 * (1.0 - rate / sent)).max(0.0);
    let gigabytes = datagrams * octets as f64 / 1e9;
    Ok(match count {
        Count::Packets => Sample::new(rate / 1e3, spent, datagrams / 1e6, &[lost]),
        Count::Payload => Sample::new(gigabytes * 8.0 / seconds, spent, gigabytes, &[lost]),
    })
}

#[cfg(test)]
mod tests {
    use weft_testkit::PortKind;

    use super::*;
    use crate::scenario::{Comparison, Fabric, Peer};

    #[test]
    fn a_stream_over_the_kernel_bridge_is_measured() {
        let generator = Generator::TcpStreams { streams: 1, time: Duration::from_secs(1) };
        let (peer, fabric) = (Peer::KernelBridge, Fabric::Network);
        let comparison = Comparison { peer, fabric, port: PortKind::Tap, generator };
        let site = Site::peer(&comparison).unwrap();
        let sample = run(generator, &site).unwrap();
        assert!(sample.figure > 0.1 && sample.cpu > 0.0, "{sample:?}");
        assert_eq!(sample.details.len(), generator.details().len());
    }

    #[test]
    fn round_trips_over_the_kernel_router_have_a_median_and_a_tail() {
        let generator = Generator::RoundTrip { time: Duration::from_secs(2) };
        let (peer, fabric) = (Peer::KernelRouter, Fabric::Router);
        let comparison = Comparison { peer, fabric, port: PortKind::Tap, generator };
        let sample = run(generator, &Site::peer(&comparison).unwrap()).unwrap();
        assert_eq!(sample.details.len(), generator.details().len());
        assert!(sample.figure > 1.0 && sample.details[1] >= sample.figure, "{sample:?}");
    }

    #[test]
    fn numbers_are_read_from_what_sockperf_says() {
        let report = "sockperf: [Total Run] RunTime=2.001 sec; Warm up time=400 msec; SentMessages=24088; \
            ReceivedMessages=24087\nsockperf: ---> percentile 99.000 =  130.653\n\
            sockperf: ---> percentile 50.000 =   94.446\n";
        assert_eq!(number_after(report, "percentile 50.000 ="), Some(94.446));
        assert_eq!(number_after(report, "ReceivedMessages="), Some(24087.0));
        assert_eq!(number_after(report, "percentile 1.000 ="), None);
    }
}
