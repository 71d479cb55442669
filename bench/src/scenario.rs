//! The scenarios, as data: what is measured, in which unit, and against whom.

use std::time::Duration;

use serde::Serialize;
use weft_testkit::PortKind;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// Whom Weft is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The kernel's bridge with veth pairs.
    KernelBridge,
}

impl Peer {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Peer::KernelBridge => "kernel bridge + veth",
        }
    }
}

/// What makes the traffic, and so what a run measures. It runs from container `a` to container `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// iperf3: this many TCP streams; the receiver's Gbit/s.
    TcpStreams {
        /// Parallel streams.
        streams: u32,
        /// Length of a run.
        time: Duration,
    },
    /// 64-octet messages back to back on one TCP connection; the median round trip in microseconds.
    RoundTrip {
        /// Length of a run.
        time: Duration,
    },
}

impl Generator {
    /// The unit of what it measures.
    pub fn unit(self) -> &'static str {
        match self {
            Generator::TcpStreams { .. } => "Gbit/s",
            Generator::RoundTrip { .. } => "us",
        }
    }

    /// Which way is better.
    pub fn better(self) -> Better {
        match self {
            Generator::TcpStreams { .. } => Better::Higher,
            Generator::RoundTrip { .. } => Better::Lower,
        }
    }
}

/// One comparison.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name in the report and on the command line.
    pub id: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Whom Weft is compared with.
    pub peer: Peer,
    /// How Weft attaches the two containers.
    pub port: PortKind,
    /// What makes the traffic.
    pub generator: Generator,
}

const STREAM: Generator = Generator::TcpStreams { streams: 1, time: Duration::from_secs(3) };
const ROUND_TRIP: Generator = Generator::RoundTrip { time: Duration::from_secs(2) };

/// All scenarios, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "l2-tcp1",
        about: "one TCP stream on one Network, tap to tap",
        peer: Peer::KernelBridge,
        port: PortKind::Tap,
        generator: STREAM,
    },
    Scenario {
        id: "l2-rr",
        about: "round trips on one Network, tap to tap",
        peer: Peer::KernelBridge,
        port: PortKind::Tap,
        generator: ROUND_TRIP,
    },
    Scenario {
        id: "l2-tcp1-veth",
        about: "one TCP stream on one Network, veth to veth",
        peer: Peer::KernelBridge,
        port: PortKind::Veth,
        generator: STREAM,
    },
    Scenario {
        id: "l2-rr-veth",
        about: "round trips on one Network, veth to veth",
        peer: Peer::KernelBridge,
        port: PortKind::Veth,
        generator: ROUND_TRIP,
    },
];
