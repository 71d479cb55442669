//! All scenarios, in the order in which they run.

use std::time::Duration;

use weft_testkit::PortKind;
use weft_testkit::PortKind::{Tap, Veth};

use super::Encapsulation::{self, Gretap, Vxlan, WireGuard};
use super::{Comparison, Count, Fabric, Generator, Peer, Reference, Scenario, WireGuardProgram, Work};
use crate::cni::Churn;
use crate::daemon::{Task, Trial};
use crate::stack::{Frames, Load};

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

/// Beside one veth pair between the containers.
const fn pair(id: &'static str, about: &'static str, generator: Generator) -> Scenario {
    beside(id, about, Peer::Pair, Fabric::Network, Veth, generator)
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
    port: PortKind,
    generator: Generator,
) -> Scenario {
    beside(id, about, peer, Fabric::Tunnel(encapsulation), port, generator)
}

const fn stack(id: &'static str, about: &'static str, loads: &'static [Load]) -> Scenario {
    Scenario { id, about, work: Work::Stack { loads, reference: None } }
}

const fn containers(
    id: &'static str,
    about: &'static str,
    verb: &'static str,
    port: PortKind,
    at_once: usize,
) -> Scenario {
    Scenario { id, about, work: Work::Containers(Churn::new(verb, port, at_once)) }
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
    pair("l2-tcp1-pair-veth", "one TCP stream on one Network, veth to veth", STREAM),
    pair("l2-rr-pair-veth", "round trips on one Network, veth to veth", ROUND_TRIP),
    switch("l2-tcp1-ovs", "one TCP stream on one Network, tap to tap", Tap, STREAM),
    switch("l2-tcp1-ovs-veth", "one TCP stream on one Network, veth to veth", Veth, STREAM),
    switch("l2-udp64", "64-octet frames on one Network, tap to tap", Tap, SMALLEST),
    switch("l2-udp64-veth", "64-octet frames on one Network, veth to veth", Veth, SMALLEST),
    router("l3-tcp1", "one TCP stream between two Networks, tap to tap", Tap, STREAM),
    router("l3-tcp1-veth", "one TCP stream between two Networks, veth to veth", Veth, STREAM),
    tunnel("wg-tcp1", "one TCP stream over WireGuard", WireGuard, WIREGUARD_GO, Tap, STREAM),
    tunnel(
        "wg-tcp1-veth",
        "one TCP stream over WireGuard, containers by veth",
        WireGuard,
        WIREGUARD_GO,
        Veth,
        STREAM,
    ),
    tunnel("wg-tcp4", "four TCP streams over WireGuard", WireGuard, WIREGUARD_GO, Tap, STREAMS),
    tunnel(
        "wg-tcp4-veth",
        "four TCP streams over WireGuard, containers by veth",
        WireGuard,
        WIREGUARD_GO,
        Veth,
        STREAMS,
    ),
    tunnel("wg-rr", "round trips over WireGuard", WireGuard, WIREGUARD_GO, Tap, ROUND_TRIP),
    tunnel(
        "wg-rr-veth",
        "round trips over WireGuard, containers by veth",
        WireGuard,
        WIREGUARD_GO,
        Veth,
        ROUND_TRIP,
    ),
    tunnel("wg-udp1400", "UDP packets of 1,400 octets over WireGuard", WireGuard, WIREGUARD_GO, Tap, LARGE),
    tunnel(
        "wg-udp1400-veth",
        "UDP packets of 1,400 octets over WireGuard, containers by veth",
        WireGuard,
        WIREGUARD_GO,
        Veth,
        LARGE,
    ),
    tunnel("wg-tcp1-boringtun", "one TCP stream over WireGuard", WireGuard, BORINGTUN, Tap, STREAM),
    tunnel("wg-tcp1-gotatun", "one TCP stream over WireGuard", WireGuard, GOTATUN, Tap, STREAM),
    tunnel("vxlan-tcp1", "one TCP stream over VXLAN", Vxlan, Peer::KernelVxlan, Tap, STREAM),
    tunnel(
        "vxlan-tcp1-veth",
        "one TCP stream over VXLAN, containers by veth",
        Vxlan,
        Peer::KernelVxlan,
        Veth,
        STREAM,
    ),
    tunnel("gre-tcp1", "one TCP stream over GRE", Gretap, Peer::OpenVSwitch, Tap, STREAM),
    tunnel(
        "gre-tcp1-veth",
        "one TCP stream over GRE, containers by veth",
        Gretap,
        Peer::OpenVSwitch,
        Veth,
        STREAM,
    ),
    containers("cni-add", "attaching a container by CNI, one after the other", "ADD", Veth, 1),
    containers("cni-add-tap", "attaching a container by CNI to a tap, one after the other", "ADD", Tap, 1),
    containers("cni-del", "detaching a container by CNI, one after the other", "DEL", Veth, 1),
    containers("cni-del-tap", "detaching a container by CNI from a tap, one after the other", "DEL", Tap, 1),
    containers("cni-add-50", "attaching a container by CNI, 50 at once", "ADD", Veth, 50),
    containers("cni-add-50-tap", "attaching a container by CNI to a tap, 50 at once", "ADD", Tap, 50),
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
