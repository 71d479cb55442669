//! An overlay that routes and never asks: a VXLAN tunnel on a Network with an IPv6 subnet alone, whose far gateways are
//! static neighbours and next hops of IPv4 and IPv6 routes (RFC 8950).

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::tunnel::{self, CONTAINER, End, NETWORK, ROUTER, SOON, TUNNEL};
use weft_testkit::wait::retry_until;
use weft_testkit::{Family, Manifest, Node, Nodes, PortKind, Sniffer, Wire};

const VNI: u32 = 7;
const MTU: u32 = 1450;
const COUNT: u8 = 3;

/// The gateway of node `number` on the overlay.
fn gateway(number: u8) -> String {
    format!("fd00:7::{number}")
}

fn gateway_mac(number: u8) -> String {
    format!("02:00:00:00:07:{number:02x}")
}

/// Node `number` among nodes at `underlay`, whose Networks are reached by it.
fn manifest(number: u8, underlay: &[IpAddr]) -> Manifest {
    let far: Vec<(u8, IpAddr)> =
        (1..).zip(underlay.iter().copied()).filter(|(it, _)| *it != number).collect();
    let each = |make: &dyn Fn(u8, IpAddr) -> Value| -> Vec<Value> {
        far.iter().map(|(number, address)| make(*number, *address)).collect()
    };
    let remotes = each(&|it, address| json!({ "address": address, "macs": [gateway_mac(it)] }));
    let neighbors = each(&|it, _| json!({ "address": gateway(it), "mac": gateway_mac(it) }));
    let [v4, v6] = [0, 1].map(|family: usize| {
        each(&|it, _| json!({ "prefix": tunnel::prefixes(it)[family], "nextHops": [gateway(it)] }))
    });
    let overlay = json!({
        "router": ROUTER,
        "mtu": MTU,
        "gatewayMac": gateway_mac(number),
        "subnets": [{ "prefix": "fd00:7::/64", "gateway": gateway(number) }],
        "staticNeighbors": neighbors,
    });
    tunnel::behind_a_router(number, PortKind::Veth)
        .with("Router", ROUTER, "routes", json!([v4, v6].concat()))
        .with("Network", NETWORK, "mtu", json!(MTU))
        .network("overlay", overlay)
        .resource(
            "Tunnel",
            TUNNEL,
            json!({ "network": "overlay", "mtu": MTU, "vxlan": { "vni": VNI, "remotes": remotes } }),
        )
}

fn container(node: &Node, number: u8) -> End<'_> {
    End::behind_link(node.container(CONTAINER), number)
}

/// Runs a test with nodes that all have the overlay, and what they look on from before anything was sent.
fn on_an_overlay(test: impl FnOnce(&Nodes) -> Result<()>) {
    Nodes::test(Wire::link(1500), COUNT.into(), |nodes| {
        let underlay: Vec<IpAddr> = nodes.nodes.iter().map(|node| node.address(Family::V4)).collect();
        for (number, node) in (1..).zip(&nodes.nodes) {
            node.apply(&manifest(number, &underlay))?;
        }
        test(nodes)
    });
}

#[test]
fn containers_meet_over_it_in_both_families_and_no_gateway_is_asked_for() {
    on_an_overlay(|nodes| {
        let [a, b, c] = [1, 2, 3].map(|number: u8| container(&nodes.nodes[usize::from(number) - 1], number));
        let sniffer = Sniffer::start(&nodes.wire, &nodes.nodes[0], "udp port 4789")?;
        for (from, to) in [(&a, &b), (&b, &a), (&a, &c), (&c, &a)] {
            from.meets(to)?;
        }
        let recording = sniffer.finish()?;
        let met = recording.count("icmp.type == 8 && ip.dst == 198.18.2.10")?;
        ensure!(met > 0, "the packets of the containers are not in the recording");
        let asked = recording.count("arp || icmpv6.type == 135")?;
        ensure!(asked == 0, "{asked} questions went through the tunnel");
        Ok(())
    });
}

#[test]
fn streams_fragments_and_errors_go_over_it() {
    on_an_overlay(|nodes| {
        let (a, b) = (container(&nodes.nodes[0], 1), container(&nodes.nodes[1], 2));
        tunnel::carries_packets(&a, &b, MTU)?;
        tunnel::carries_traffic(&a, &b, 1e7)?;
        // The far router, which has no IPv4 address on the overlay, tells of itself by another.
        let told = a.ping("198.18.2.10", "-t 2")?.text();
        ensure!(told.contains("From 198.18.2.1") && told.contains("Time to live exceeded"), "{told}");
        Ok(())
    });
}

#[test]
fn a_changed_neighbour_is_used_at_once_and_a_trace_tells_of_it() {
    on_an_overlay(|nodes| {
        let (a, b) = (container(&nodes.nodes[0], 1), container(&nodes.nodes[1], 2));
        a.meets(&b)?;
        let underlay: Vec<IpAddr> = nodes.nodes.iter().map(|node| node.address(Family::V4)).collect();
        let trace = |expected: &str| -> Result<()> {
            let told = nodes.nodes[0].weft(&["trace", CONTAINER, "--to", "198.18.2.10"])?.ok()?;
            ensure!(told.contains(expected), "{expected} expected: {told}");
            Ok(())
        };
        trace("fd00:7::2 on network overlay is at 02:00:00:00:07:02 for good")?;
        let astray = json!([{ "address": gateway(2), "mac": gateway_mac(3) }, { "address": gateway(3), "mac": gateway_mac(2) }]);
        let changed = manifest(1, &underlay).with("Network", "overlay", "staticNeighbors", astray);
        nodes.nodes[0].apply(&changed)?;
        trace("fd00:7::2 on network overlay is at 02:00:00:00:07:03 for good")?;
        // By way of the third node, which sends it on.
        let told = a.ping("198.18.2.10", "-R")?.text();
        ensure!(told.contains("198.18.3.1"), "the way by the third node expected: {told}");
        nodes.nodes[0].apply(&manifest(1, &underlay))?;
        retry_until(SOON, "the straight way", || {
            let told = a.ping("198.18.2.10", "-R")?.ok()?;
            ensure!(!told.contains("198.18.3.1"), "{told}");
            Ok(())
        })
        .context("after the change was taken back")
    });
}
