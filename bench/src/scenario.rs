//! The scenarios, as data: what is measured, in which unit, and against whom.

use std::time::Duration;

use serde::Serialize;
use weft_testkit::PortKind;
use weft_testkit::PortKind::{Tap, Veth};

use Encapsulation::{Gretap, Vxlan, WireGuard};

use crate::cni::Churn;
use crate::daemon::{Task, Trial};
use crate::stack::{Frames, Load};

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

const STREAM: Generator = Generator::TcpStreams { streams: 1, time: Duration::from_secs(3) };
const STREAMS: Generator = Generator::TcpStreams { streams: 4, time: Duration::from_secs(3) };
const ROUND_TRIP: Generator = Generator::RoundTrip { time: Duration::from_secs(2) };

/// 60 octets without the frame check sequence: 14 of Ethernet, 20 of IPv4 and 8 of UDP come before.
const SMALLEST: Generator =
    Generator::Datagrams { octets: 18, count: Count::Packets, time: Duration::from_secs(3) };
/// An IP packet of 1,400 octets: less than a tunnel's MTU, so that none is cut.
const LARGE: Generator =
    Generator::Datagrams { octets: 1400 - 28, count: Count::Payload, time: Duration::from_secs(3) };

const WIREGUARD_GO: Peer = Peer::WireGuard(WireGuardProgram {
    name: "wireguard-go",
    file: "wireguard-go",
    options: &["--foreground"],
});
const BORINGTUN: Peer = Peer::WireGuard(WireGuardProgram {
    name: "boringtun",
    file: "boringtun-cli",
    options: &["--foreground", "--disable-drop-privileges"],
});
const GOTATUN: Peer = Peer::WireGuard(WireGuardProgram {
    name: "gotatun",
    file: "gotatun",
    options: &["--foreground", "--disable-drop-privileges"],
});

/// The middle of the 132 to 136 clocks that FD.io's reports give for `ip4base` on one core.
const VPP: Option<Reference> = Some(Reference { name: "VPP, published: 132 to 136", figure: 134.0 });

const fn beside(
    id: &'static str,
    about: &'static str,
    peer: Peer,
    fabric: Fabric,
    port: PortKind,
    generator: Generator,
) -> Scenario {
    Scenario { id, about, work: Work::Beside(Comparison { peer, fabric, port, generator }) }
}

const fn bridge(id: &'static str, about: &'static str, port: PortKind, generator: Generator) -> Scenario {
    beside(id, about, Peer::KernelBridge, Fabric::Network, port, generator)
}

const fn router(id: &'static str, about: &'static str, port: PortKind, generator: Generator) -> Scenario {
    beside(id, about, Peer::KernelRouter, Fabric::Router, port, generator)
}

const fn switch(id: &'static str, about: &'static str, port: PortKind, generator: Generator) -> Scenario {
    beside(id, about, Peer::OpenVSwitch, Fabric::Network, port, generator)
}

const fn tunnel(
    id: &'static str,
    about: &'static str,
    encapsulation: Encapsulation,
    peer: Peer,
    generator: Generator,
) -> Scenario {
    beside(id, about, peer, Fabric::Tunnel(encapsulation), Tap, generator)
}

impl Scenario {
    /// With containers that hang on veth pairs.
    const fn veth(mut self) -> Scenario {
        if let Work::Beside(comparison) = &mut self.work {
            comparison.port = Veth;
        }
        self
    }
}

const fn stack(id: &'static str, about: &'static str, loads: &'static [Load]) -> Scenario {
    Scenario { id, about, work: Work::Stack { loads, reference: None } }
}

const fn containers(id: &'static str, about: &'static str, verb: &'static str, at_once: usize) -> Scenario {
    Scenario { id, about, work: Work::Containers(Churn::new(verb, at_once)) }
}

const fn daemon(id: &'static str, about: &'static str, task: Task) -> Scenario {
    Scenario { id, about, work: Work::Daemon(Trial::new(task)) }
}

const L2: Load = Load::new(Frames::Bridged, 64);
const V4: Load = Load::new(Frames::V4, 64);
const V6: Load = Load::new(Frames::V6, 64);
const V4_LARGE: Load = Load::new(Frames::V4, 1514);
/// As many segments of 1,448 octets as fit into an IP packet, with their headers.
const V4_SUPER: Load = Load::new(Frames::Gso, 45 * 1448 + 54);

/// All scenarios, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    bridge("l2-tcp1", "one TCP stream on one Network, tap to tap", Tap, STREAM),
    bridge("l2-tcp4", "four TCP streams on one Network, tap to tap", Tap, STREAMS),
    bridge("l2-rr", "round trips on one Network, tap to tap", Tap, ROUND_TRIP),
    bridge("l2-tcp1-veth", "one TCP stream on one Network, veth to veth", Veth, STREAM),
    bridge("l2-tcp4-veth", "four TCP streams on one Network, veth to veth", Veth, STREAMS),
    bridge("l2-rr-veth", "round trips on one Network, veth to veth", Veth, ROUND_TRIP),
    switch("l2-tcp1-ovs", "one TCP stream on one Network, tap to tap", Tap, STREAM),
    switch("l2-tcp1-ovs-veth", "one TCP stream on one Network, veth to veth", Veth, STREAM),
    switch("l2-udp64", "64-octet frames on one Network, tap to tap", Tap, SMALLEST),
    switch("l2-udp64-veth", "64-octet frames on one Network, veth to veth", Veth, SMALLEST),
    router("l3-tcp1", "one TCP stream between two Networks, tap to tap", Tap, STREAM),
    router("l3-tcp1-veth", "one TCP stream between two Networks, veth to veth", Veth, STREAM),
    tunnel("wg-tcp1", "one TCP stream over WireGuard", WireGuard, WIREGUARD_GO, STREAM),
    tunnel(
        "wg-tcp1-veth",
        "one TCP stream over WireGuard, containers by veth",
        WireGuard,
        WIREGUARD_GO,
        STREAM,
    )
    .veth(),
    tunnel("wg-tcp4", "four TCP streams over WireGuard", WireGuard, WIREGUARD_GO, STREAMS),
    tunnel("wg-rr", "round trips over WireGuard", WireGuard, WIREGUARD_GO, ROUND_TRIP),
    tunnel(
        "wg-rr-veth",
        "round trips over WireGuard, containers by veth",
        WireGuard,
        WIREGUARD_GO,
        ROUND_TRIP,
    )
    .veth(),
    tunnel("wg-udp1400", "UDP packets of 1,400 octets over WireGuard", WireGuard, WIREGUARD_GO, LARGE),
    tunnel("wg-tcp1-boringtun", "one TCP stream over WireGuard", WireGuard, BORINGTUN, STREAM),
    tunnel("wg-tcp1-gotatun", "one TCP stream over WireGuard", WireGuard, GOTATUN, STREAM),
    tunnel("vxlan-tcp1", "one TCP stream over VXLAN", Vxlan, Peer::KernelVxlan, STREAM),
    tunnel(
        "vxlan-tcp1-veth",
        "one TCP stream over VXLAN, containers by veth",
        Vxlan,
        Peer::KernelVxlan,
        STREAM,
    )
    .veth(),
    tunnel("gre-tcp1", "one TCP stream over GRE", Gretap, Peer::OpenVSwitch, STREAM),
    containers("cni-add", "attaching a container by CNI, one after the other", "ADD", 1),
    containers("cni-del", "detaching a container by CNI, one after the other", "DEL", 1),
    containers("cni-add-50", "attaching a container by CNI, 50 at once", "ADD", 50),
    daemon("daemon-rss-idle", "memory of a daemon that has nothing to do", Task::Idle),
    daemon("port-rss", "memory of each further port, tap", Task::EachPort(PortKind::Tap)),
    daemon("port-rss-veth", "memory of each further port, veth", Task::EachPort(PortKind::Veth)),
    daemon("apply-1000-ports", "applying 1,000 ports, tap", Task::Apply(PortKind::Tap)),
    daemon("apply-1000-ports-veth", "applying 1,000 ports, veth", Task::Apply(PortKind::Veth)),
    daemon("restart-1000-ports", "1,000 ports after SIGKILL, tap", Task::Restart(PortKind::Tap)),
    daemon("restart-1000-ports-veth", "1,000 ports after SIGKILL, veth", Task::Restart(PortKind::Veth)),
    stack("stack-l2-64", "the stack alone: 64-byte frames, bridged", &[L2, L2.one_flow()]),
    Scenario {
        id: "stack-v4-64",
        about: "the stack alone: 64-byte frames, IPv4 routed",
        work: Work::Stack { loads: &[V4, V4.one_flow()], reference: VPP },
    },
    stack("stack-v6-64", "the stack alone: 64-byte frames, IPv6 routed", &[V6, V6.one_flow()]),
    stack(
        "stack-v4-1500",
        "the stack alone: IPv4 packets of 1,500 octets, routed",
        &[V4_LARGE, V4_LARGE.one_flow()],
    ),
    stack(
        "stack-v4-gso",
        "the stack alone: TCP super-packets of 64 KiB, routed",
        &[V4_SUPER, V4_SUPER.one_flow()],
    ),
    stack(
        "stack-v4-64-100kflows",
        "the stack alone: 64-byte frames of 100,000 flows, IPv4 routed",
        &[V4.many_flows()],
    ),
    stack(
        "stack-fib-500k",
        "the stack alone: 64-byte frames, IPv4 routed by 500,000 routes",
        &[
            V4.behind("500,000 routes", 500_000),
            V4.behind("10 routes", 8),
            V4.many_flows().behind("500,000 routes, 100,000 flows", 500_000),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_what_containers_hang_on() {
        for Scenario { id, work, .. } in SCENARIOS {
            if let Work::Beside(comparison) = work {
                assert_eq!(comparison.port == Veth, id.ends_with("-veth"), "{id}");
            }
        }
    }
}
