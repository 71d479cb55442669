//! Makes the traffic of one run and reads off its figure.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use weft_testkit::iperf3;

use crate::scenario::Generator;
use crate::site::Site;

/// TCP port of both generators.
const PORT: u16 = iperf3::PORT;

/// What one run gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// In the generator's unit.
    pub figure: f64,
    /// Payload that the sink received, in octets; 0 where it says nothing about the run.
    pub octets: f64,
}

/// Runs the generator once.
pub fn run(generator: Generator, site: &Site) -> Result<Sample> {
    let address = site.sink_address(PORT)?;
    match generator {
        Generator::TcpStreams { streams, time } => tcp_streams(site, address, streams, time),
        Generator::RoundTrip { time } => round_trip(site, address, time),
    }
}

fn tcp_streams(site: &Site, address: SocketAddr, streams: u32, time: Duration) -> Result<Sample> {
    let options = format!("--time {} --parallel {streams}", time.as_secs());
    let report = iperf3::run(&site.source(), &site.sink(), &address.ip().to_string(), &options)?;
    Ok(Sample { figure: report.rate()? / 1e9, octets: report.octets()? })
}

fn round_trip(site: &Site, address: SocketAddr, time: Duration) -> Result<Sample> {
    let program = std::env::current_exe().context("the path of this executable")?;
    let program = program.to_str().context("the path of this executable is not UTF-8")?;
    let address = address.to_string();
    let server = site.sink().spawn_with_input(&[program, "respond", &address], None)?;
    site.sink().wait_for_listener(PORT)?;
    let seconds = time.as_secs().to_string();
    let median = site.source().exec(&[program, "request", &address, &seconds])?.ok()?;
    server.wait()?.ok()?;
    Ok(Sample { figure: median.trim().parse().context("the median round trip")?, octets: 0.0 })
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
        assert!(sample.figure > 0.1 && sample.octets > 1e7, "{sample:?}");
    }
}
