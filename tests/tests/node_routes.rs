//! Nodes whose containers reach each other by routes of the nodes' kernels (`spec.nodeRoutes`), without a tunnel.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::process::Process;
use weft_testkit::tunnel::{self, CONTAINER, End, NETWORK, ROUTER, SOON};
use weft_testkit::wait::retry_until;
use weft_testkit::wire::DEVICE;
use weft_testkit::{Family, Manifest, Node, Nodes, PortKind, Sniffer, Wire};

/// The `host` Port and its device.
const HOST: &str = "weft0";

/// A prefix of what is behind node `number`.
fn prefix(number: u8, family: Family) -> String {
    let [v4, v6, ..] = tunnel::prefixes(number);
    if family == Family::V4 { v4 } else { v6 }
}

/// A route to what is behind node `number`, which is at `node`.
fn to(number: u8, node: &Node, family: Family) -> Value {
    json!({ "prefix": prefix(number, family), "via": node.address(family) })
}

/// Node `number`: a container on a Network that is masqueraded but for other nodes, and these routes of the node.
fn manifest(number: u8, routes: &[Value]) -> Manifest {
    let host4 = format!("198.18.{number}.2");
    let host6 = format!("2001:db8:{number}::2");
    let out = json!([
        { "prefix": "0.0.0.0/0", "nextHops": [host4] },
        { "prefix": "::/0", "nextHops": [host6] },
    ]);
    let host = json!({
        "network": NETWORK, "type": "host", "device": HOST, "sourceCheck": false,
        "addresses": [host4 + "/24", host6 + "/64"],
        "nodeRoutes": routes,
    });
    tunnel::behind_a_router(number, PortKind::Veth)
        .with("Router", ROUTER, "routes", out)
        .with("Network", NETWORK, "masquerade", json!({ "except": ["198.18.0.0/15", "2001:db8::/32"] }))
        .port(HOST, host)
}

/// The routes of node `from` (from 0) of two to the other.
fn routes(nodes: &Nodes, from: usize) -> Vec<Value> {
    let to_other = |family| to(2 - from as u8, &nodes.nodes[1 - from], family);
    Family::BOTH.map(to_other).to_vec()
}

/// Runs a test with two nodes that route to each other.
fn on_two_nodes(test: impl FnOnce(&mut Nodes) -> Result<()>) {
    Nodes::test(Wire::link(1500), 2, |nodes| {
        for node in [0, 1] {
            nodes.nodes[node].apply(&manifest(node as u8 + 1, &routes(nodes, node)))?;
        }
        test(nodes)
    });
}

fn container(nodes: &Nodes, node: usize) -> End<'_> {
    End::behind_link(nodes.nodes[node].container(CONTAINER), node as u8 + 1)
}

/// Weft's routes of a node that are by no device of Weft's.
fn of_node(node: &Node) -> Result<Vec<String>> {
    let listed = [node.must("ip -4 route show proto 87")?, node.must("ip -6 route show proto 87")?].concat();
    Ok(listed.lines().filter(|line| !line.contains(HOST)).map(str::to_owned).collect())
}

fn has_routes(node: &Node, count: usize) -> Result<()> {
    retry_until(SOON, "the routes of the node", || {
        let routes = of_node(node)?;
        ensure!(routes.len() == count, "{count} expected: {routes:#?}");
        Ok(())
    })
}

#[test]
fn containers_meet_with_their_own_addresses_and_without_a_tunnel() {
    on_two_nodes(|nodes| {
        let (a, b) = (container(nodes, 0), container(nodes, 1));
        let sniffer = Sniffer::start(&nodes.wire, &nodes.nodes[0], "ip or ip6")?;
        a.meets(&b)?;
        b.meets(&a)?;
        let recording = sniffer.finish()?;
        for (from, to) in [(&a, &b), (&b, &a)] {
            let plain = format!("icmp.type == 8 && ip.src == {} && ip.dst == {}", from.v4, to.v4);
            ensure!(recording.count(&plain)? > 0, "no such packet: {plain}");
            let plain = format!("icmpv6.type == 128 && ipv6.src == {} && ipv6.dst == {}", from.v6, to.v6);
            ensure!(recording.count(&plain)? > 0, "no such packet: {plain}");
        }
        tunnel::carries_packets(&a, &b, 1500)?;
        tunnel::carries_traffic(&a, &b, 1e7)
    });
}

#[test]
fn a_route_that_is_removed_by_hand_comes_back() {
    on_two_nodes(|nodes| {
        let node = &nodes.nodes[0];
        has_routes(node, 2)?;
        for family in Family::BOTH {
            let version = if family == Family::V4 { "-4" } else { "-6" };
            node.must(&format!("ip {version} route delete {}", prefix(2, family)))?;
            has_routes(node, 2)?;
        }
        container(nodes, 0).meets(&container(nodes, 1))
    });
}

#[test]
fn routes_come_back_with_the_device_and_the_port_tells_while_they_are_gone() {
    on_two_nodes(|nodes| {
        let node = &nodes.nodes[0];
        node.must(&format!("ip link set {DEVICE} down"))?;
        node.wait_for_state("port", HOST, false, Some("NodeRouteRefused"))?;
        let (_, _, message) = node.ready("port", HOST)?;
        ensure!(message.contains(&prefix(2, Family::V4)) && message.contains("192.0.2.2"), "{message}");
        node.must(&format!("ip link set {DEVICE} up"))?;
        nodes.wire.address(node, &node.at, DEVICE)?;
        has_routes(node, 2)?;
        node.wait_for_state("port", HOST, true, None)?;
        container(nodes, 0).meets(&container(nodes, 1))?;
        // Its addresses alone go and come: the kernel forgets IPv4 routes with them.
        node.must(&format!("ip address flush dev {DEVICE}"))?;
        node.wait_for_state("port", HOST, false, Some("NodeRouteRefused"))?;
        nodes.wire.address(node, &node.at, DEVICE)?;
        has_routes(node, 2)?;
        node.wait_for_state("port", HOST, true, None)?;
        container(nodes, 0).meets(&container(nodes, 1))
    });
}

#[test]
fn a_restarted_daemon_finds_its_routes_and_removes_what_nobody_wishes() {
    on_two_nodes(|nodes| {
        let node = &mut nodes.nodes[0];
        has_routes(node, 2)?;
        node.kill_daemon();
        node.must("ip route delete 198.18.2.0/24")?;
        node.must("ip route add 198.19.7.0/24 via 192.0.2.2 proto 87")?;
        node.must("ip route add 198.19.8.0/24 via 192.0.2.2 proto static")?;
        node.launch_daemon()?;
        node.wait_for_daemon()?;
        // There are two to begin with, and it is told to be ready before it has looked at them.
        retry_until(SOON, "the route that nobody wishes for to go", || {
            ensure!(node.must("ip route show 198.19.7.0/24")?.is_empty(), "198.19.7.0/24 is there");
            Ok(())
        })?;
        has_routes(node, 2)?;
        ensure!(!node.must("ip route show 198.19.8.0/24")?.is_empty(), "it is somebody else's");
        container(nodes, 0).meets(&container(nodes, 1))
    });
}

#[test]
fn routes_go_with_their_port() {
    on_two_nodes(|nodes| {
        let node = &nodes.nodes[0];
        has_routes(node, 2)?;
        node.apply(&manifest(1, &routes(nodes, 0)[..1]))?;
        has_routes(node, 1)?;
        node.weft(&["delete", "port", HOST])?.ok()?;
        ensure!(of_node(node)?.is_empty(), "{:?}", of_node(node)?);
        Ok(())
    });
}

/// Lines of `ip monitor` about Weft's routes.
fn heard(monitor: &Process) -> Vec<String> {
    monitor.stdout().lines().filter(|line| line.contains("198.19.")).map(str::to_owned).collect()
}

#[test]
fn one_change_among_many_is_one_message_to_the_kernel() {
    Nodes::test(Wire::link(1500), 1, |nodes| {
        let node = &nodes.nodes[0];
        let via = |number: u16| {
            let host = if number == 77 { 77 } else { 2 };
            json!({ "prefix": format!("198.19.{}.{}/32", number >> 8, number & 0xff), "via": format!("192.0.2.{host}") })
        };
        let all: Vec<Value> = (0..500).map(via).collect();
        let mut before = all.clone();
        before[77]["via"] = json!("192.0.2.2");
        node.apply(&manifest(1, &before))?;
        has_routes(node, 500)?;
        let mut monitor = node.node().spawn("stdbuf -oL ip monitor route")?;
        // Once it listens it hears of this one. The kernel tells of changes alone, so that each try is another route.
        let mut tries = 0;
        retry_until(SOON, "the monitor", || {
            tries += 1;
            node.must(&format!("ip route replace 198.19.254.1/32 via 192.0.2.{}", 3 + tries % 2))?;
            ensure!(!heard(&monitor).is_empty(), "nothing heard yet");
            Ok(())
        })?;
        node.apply(&manifest(1, &all))?;
        node.must("ip route replace 198.19.255.255/32 via 192.0.2.3")?;
        monitor.wait_for("198.19.255.255").context("the end")?;
        let changes: Vec<String> =
            heard(&monitor).into_iter().filter(|line| line.contains("proto 87")).collect();
        drop(monitor.kill());
        ensure!(
            changes.len() == 1 && changes[0].contains("via 192.0.2.77"),
            "one message expected: {changes:#?}"
        );
        Ok(())
    });
}
