//! What a scenario is, as data: what is measured, in which unit, and against whom. The scenarios are in [`catalogue`].

pub use catalogue::SCENARIOS;

use std::time::Duration;

use serde::Serialize;
use weft_testkit::PortKind;

use crate::cni::Churn;
use crate::daemon::Trial;
use crate::stack::Load;

mod catalogue;

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
    /// One veth pair from container to container, which nobody forwards on: what the machine allows at all.
    Pair,
    /// The kernel routing between two bridges with veth pairs.
    KernelRouter,
    /// The kernel's vxlan device.
    KernelVxlan,
    /// Open vSwitch with its userspace datapath: between containers, or with GRE of Ethernet frames.
    OpenVSwitch,
    /// A WireGuard in userspace.
    WireGuard(WireGuardProgram),
}

/// A WireGuard program that `wg` configures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireGuardProgram {
    /// Its name in the report.
    pub name: &'static str,
    /// Its file, which `scripts/bench-peers` gets.
    pub file: &'static str,
    /// Its arguments before the device's name.
    pub options: &'static [&'static str],
}

impl Peer {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Peer::KernelBridge => "kernel bridge + veth",
            Peer::Pair => "one veth pair",
            Peer::KernelRouter => "kernel router + veth",
            Peer::KernelVxlan => "kernel vxlan",
            Peer::OpenVSwitch => "Open vSwitch, netdev",
            Peer::WireGuard(program) => program.name,
        }
    }
}

/// What joins the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fabric {
    /// A Network of one node.
    Network,
    /// Two Networks of one node, and a Router between them.
    Router,
    /// A tunnel between two nodes.
    Tunnel(Encapsulation),
}

/// How a tunnel encapsulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encapsulation {
    /// Ethernet frames in UDP.
    Vxlan,
    /// Ethernet frames in GRE.
    Gretap,
    /// IP packets, encrypted, in UDP.
    WireGuard,
}

/// What makes the traffic, and so what a run measures. It runs from one end to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// iperf3: this many TCP streams; the receiver's Gbit/s.
    TcpStreams {
        /// Parallel streams.
        streams: u32,
        /// Length of a run.
        time: Duration,
    },
    /// sockperf: 64-octet messages back to back on one TCP connection; the median round trip in microseconds.
    RoundTrip {
        /// Length of a run; a single second is too short for sockperf.
        time: Duration,
    },
    /// UDP datagrams of one sender, as fast as it can; what comes to the sink.
    Datagrams {
        /// Payload of each.
        octets: usize,
        /// What of them is counted.
        count: Count,
        /// What is measured of a run.
        time: Duration,
    },
}

/// What of datagrams is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Thousands of packets a second.
    Packets,
    /// Gbit/s of payload.
    Payload,
}

/// A figure beside the scenario's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail {
    /// What it is.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
}

impl Generator {
    /// The unit of what it measures.
    pub fn unit(self) -> &'static str {
        match self {
            Generator::TcpStreams { .. } | Generator::Datagrams { count: Count::Payload, .. } => "Gbit/s",
            Generator::RoundTrip { .. } => "us",
            Generator::Datagrams { count: Count::Packets, .. } => "kpps",
        }
    }

    /// Which way is better.
    pub fn better(self) -> Better {
        match self {
            Generator::TcpStreams { .. } | Generator::Datagrams { .. } => Better::Higher,
            Generator::RoundTrip { .. } => Better::Lower,
        }
    }

    /// The unit of the CPU time that it takes, by what was moved: a GB of payload, a million packets, a thousand round
    /// trips.
    pub fn cpu_unit(self) -> &'static str {
        match self {
            Generator::TcpStreams { .. } | Generator::Datagrams { count: Count::Payload, .. } => "s/GB",
            Generator::RoundTrip { .. } => "s/1000",
            Generator::Datagrams { count: Count::Packets, .. } => "s/Mpkt",
        }
    }

    /// What else it tells, in the order of [`Sample::details`](crate::generator::Sample::details).
    pub fn details(self) -> &'static [Detail] {
        const fn switches(unit: &'static str) -> Detail {
            Detail { name: "context switches", unit }
        }
        const LOSS: Detail = Detail { name: "lost", unit: "%" };
        match self {
            Generator::TcpStreams { .. } => &const { [switches("/GB")] },
            Generator::RoundTrip { .. } => &const { [switches("/1000"), Detail { name: "p99", unit: "us" }] },
            Generator::Datagrams { count: Count::Payload, .. } => &const { [switches("/GB"), LOSS] },
            Generator::Datagrams { count: Count::Packets, .. } => &const { [switches("/Mpkt"), LOSS] },
        }
    }
}

impl Generator {
    /// The same for as short as it can be.
    fn quick(self) -> Generator {
        let [brief, least] = [1, 2].map(Duration::from_secs);
        match self {
            Generator::TcpStreams { streams, .. } => Generator::TcpStreams { streams, time: brief },
            Generator::RoundTrip { .. } => Generator::RoundTrip { time: least },
            Generator::Datagrams { octets, count, .. } => Generator::Datagrams { octets, count, time: brief },
        }
    }
}

/// One thing that is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name in the report and on the command line.
    pub id: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// How it is measured.
    pub work: Work,
}

/// How a scenario is measured.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Containers on Weft, and the same on a peer.
    Beside(Comparison),
    /// Containers that come and go on Weft, and on the reference plugins.
    Containers(Churn),
    /// The daemon by itself, beside what does the same.
    Daemon(Trial),
    /// The stack by itself, under each of these loads. The first is the scenario's figure.
    Stack {
        /// What it is to do.
        loads: &'static [Load],
        /// What others say of themselves, where it is about the same thing.
        reference: Option<Reference>,
    },
}

impl Scenario {
    /// The same as a quick look: it shows that all works, and the order of magnitude.
    pub fn quick(&self) -> Scenario {
        Scenario { work: self.work.quick(), ..*self }
    }
}

impl Work {
    fn quick(self) -> Work {
        match self {
            Work::Beside(comparison) => {
                Work::Beside(Comparison { generator: comparison.generator.quick(), ..comparison })
            }
            Work::Containers(churn) => Work::Containers(churn.quick()),
            Work::Daemon(trial) => Work::Daemon(trial.quick()),
            Work::Stack { loads, reference } => {
                Work::Stack { loads: &loads[..1.min(loads.len())], reference }
            }
        }
    }
}

/// Weft and a peer, with the same traffic.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    /// Whom Weft is compared with.
    pub peer: Peer,
    /// What joins the two ends.
    pub fabric: Fabric,
    /// How Weft attaches the two containers.
    pub port: PortKind,
    /// What makes the traffic.
    pub generator: Generator,
}

/// A figure that somebody published; it was not measured here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reference {
    /// Whose it is, and where it is from.
    pub name: &'static str,
    /// In the scenario's unit.
    pub figure: f64,
}
