//! VXLAN tunnels (RFC 7348) with the kernel's vxlan device as the far end, and between two nodes of Weft.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::peer::vxlan;
use weft_testkit::tunnel::{self, CONTAINER, End, SOON};
use weft_testkit::wait::retry_until;
use weft_testkit::{Family, Manifest, Node, Nodes, PortKind, Sniffer, Wire};

const VNI: u32 = 7;

/// The MTU that VXLAN over 1500 octets leaves.
fn mtu(family: Family) -> u32 {
    match family {
        Family::V4 => 1450,
        Family::V6 => 1430,
    }
}

fn manifest(number: u8, family: Family, remotes: &[IpAddr]) -> Manifest {
    let remotes: Vec<Value> = remotes.iter().map(|remote| json!({ "address": remote })).collect();
    let vxlan = json!({ "vni": VNI, "remotes": remotes });
    tunnel::segment(number, PortKind::Tap, mtu(family), "vxlan", vxlan)
}

/// A kernel as far end `number`.
fn kernel(wire: &Wire, number: u8, vni: u32, remotes: &[IpAddr]) -> Result<Node> {
    let peer = Node::bare(wire)?;
    let family = if remotes.iter().all(IpAddr::is_ipv4) { Family::V4 } else { Family::V6 };
    let [v4, v6] = Family::BOTH.map(|family| tunnel::on_segment(number, family));
    vxlan::add(&peer, vni, peer.address(family), remotes, &[&(v4 + "/24"), &(v6 + "/64")])?;
    wire.complete_packets(&peer)?;
    Ok(peer)
}

/// Runs a test with Weft as node 1 and a kernel as far end 2.
fn beside_the_kernel(wire: Result<Wire>, family: Family, test: impl FnOnce(&mut Nodes, &Node) -> Result<()>) {
    Nodes::test(wire, 1, |nodes| {
        let weft = nodes.nodes[0].address(family);
        let peer = kernel(&nodes.wire, 2, VNI, &[weft])?;
        nodes.nodes[0].apply(&manifest(1, family, &[peer.address(family)]))?;
        test(nodes, &peer).with_context(|| format!("{family:?}"))
    });
}

fn container(node: &Node, number: u8) -> End<'_> {
    End::on_segment(node.container(CONTAINER), number)
}

fn far_end(peer: &Node, number: u8) -> End<'_> {
    End::on_segment(peer.node(), number)
}

#[test]
fn frames_go_to_the_kernels_device_and_come_from_it() {
    for family in Family::BOTH {
        beside_the_kernel(Wire::link(1500), family, |nodes, peer| {
            let (near, far) = (container(&nodes.nodes[0], 1), far_end(peer, 2));
            tunnel::carries_packets(&near, &far, mtu(family))?;
            tunnel::carries_traffic(&near, &far, 1e7)
        });
    }
}

#[test]
fn two_nodes_share_a_segment() {
    for family in Family::BOTH {
        Nodes::test(Wire::link(1500), 2, |nodes| {
            let [a, b] = [0, 1].map(|side: usize| nodes.nodes[side].address(family));
            nodes.nodes[0].apply(&manifest(1, family, &[b]))?;
            nodes.nodes[1].apply(&manifest(2, family, &[a]))?;
            let (near, far) = (container(&nodes.nodes[0], 1), container(&nodes.nodes[1], 2));
            tunnel::carries_packets(&near, &far, mtu(family))?;
            tunnel::carries_traffic(&near, &far, 1e7)
        });
    }
}

#[test]
fn tshark_finds_no_fault_with_what_is_sent() {
    for family in Family::BOTH {
        beside_the_kernel(Wire::link(1500), family, |nodes, peer| {
            let weft = &nodes.nodes[0];
            let (near, far) = (container(weft, 1), far_end(peer, 2));
            let sniffer = Sniffer::start(&nodes.wire, weft, "udp port 4789")?;
            near.meets(&far)?;
            near.ping(&far.v4, "-s 4000 -Q 2")?.ok()?;
            tunnel::show_traffic(&near, &far)?;
            let recording = sniffer.finish()?;
            recording.is_sound(&weft.address(family).to_string())?;
            let vnis = recording.values("vxlan.vni")?;
            ensure!(vnis.iter().all(|vni| vni == "7"), "VNI 7 alone expected: {vnis:?}");
            // RFC 6040 section 4.1: what the sender understands of congestion is shown outside.
            let version = if family == Family::V4 { "ip.dsfield.ecn" } else { "ipv6.tclass.ecn" };
            let echo = format!("vxlan && icmp.type == 8 && {version} == 2");
            ensure!(recording.count(&echo)? > 0, "the mark of ECN is not copied outside");
            Ok(())
        });
    }
}

#[test]
fn another_vni_gets_nothing_through_and_is_counted() {
    Nodes::test(Wire::link(1500), 1, |nodes| {
        let weft = &nodes.nodes[0];
        let peer = kernel(&nodes.wire, 2, VNI + 1, &[weft.address(Family::V4)])?;
        weft.apply(&manifest(1, Family::V4, &[peer.address(Family::V4)]))?;
        container(weft, 1).misses(&far_end(&peer, 2))?;
        far_end(&peer, 2).misses(&container(weft, 1))?;
        tunnel::wait_for_drops(weft, "tunnel_vni_unknown")
    });
}

#[test]
fn congestion_on_the_way_is_told_inside() {
    for family in Family::BOTH {
        beside_the_kernel(Wire::link(1500), family, |nodes, peer| {
            let (near, far) = (container(&nodes.nodes[0], 1), far_end(peer, 2));
            near.meets(&far)?;
            nodes.wire.congest(&nodes.nodes[0].at)?;
            tunnel::tells_congestion(&far, &near, "eth0")?;
            tunnel::wait_for_drops(&nodes.nodes[0], "tunnel_congestion")
        });
    }
}

#[test]
fn an_underlay_that_comes_back_is_used_again() {
    for family in Family::BOTH {
        beside_the_kernel(Wire::link(1500), family, |nodes, peer| {
            let (weft, wire) = (&nodes.nodes[0], &nodes.wire);
            let (near, far) = (container(weft, 1), far_end(peer, 2));
            near.meets(&far)?;
            wire.cut(&weft.at)?;
            near.misses(&far)?;
            wire.mend(&weft.at)?;
            near.meets(&far)?;
            // The node's own device, which then loses its addresses.
            weft.must("ip link set wire down")?;
            near.misses(&far)?;
            weft.must("ip link set wire up")?;
            wire.address(weft, &weft.at, "wire")?;
            near.meets(&far)
        });
    }
}

#[test]
fn a_narrow_way_is_told_to_the_container() {
    for family in Family::BOTH {
        beside_the_kernel(Wire::routed(), family, |nodes, peer| {
            let (weft, wire) = (&nodes.nodes[0], &nodes.wire);
            let (near, far) = (container(weft, 1), far_end(peer, 2));
            near.meets(&far)?;
            wire.narrow(1400)?;
            let inside = mtu(family) - 100;
            retry_until(SOON, "a too-big for the container", || {
                let told = near.ping(&far.v4, "-M do -s 1380")?.text();
                ensure!(told.contains(&format!("{inside}")), "an MTU of {inside} expected: {told}");
                Ok(())
            })?;
            tunnel::has_mtu(weft, inside)?;
            near.ping(&far.v4, &format!("-M do -s {}", inside - 28))?.ok()?;
            tunnel::show_traffic(&near, &far)
        });
    }
}

#[test]
fn each_far_end_gets_what_is_for_all_and_only_its_own_else() {
    Nodes::test(Wire::link(1500), 1, |nodes| {
        let (weft, wire) = (&nodes.nodes[0], &nodes.wire);
        let at = weft.address(Family::V4);
        let peers = [kernel(wire, 2, VNI, &[at])?, kernel(wire, 3, VNI, &[at])?];
        let remotes = [0, 1].map(|peer: usize| peers[peer].address(Family::V4));
        weft.apply(&manifest(1, Family::V4, &remotes))?;
        let near = container(weft, 1);
        near.meets(&far_end(&peers[0], 2))?;
        near.meets(&far_end(&peers[1], 3))?;
        let sniffer = Sniffer::start(wire, weft, "udp port 4789")?;
        near.place.reaches(&tunnel::on_segment(3, Family::V4))?;
        let recording = sniffer.finish()?;
        let strayed = format!("icmp.type == 8 && ip.dst == {}", remotes[0]);
        ensure!(recording.count(&strayed)? == 0, "what is for one far end went to another too");
        // Far ends reach each other by themselves.
        far_end(&peers[0], 2).misses(&far_end(&peers[1], 3))
    });
}

#[test]
fn an_address_that_is_there_for_good_is_not_searched_for() {
    Nodes::test(Wire::link(1500), 1, |nodes| {
        let (weft, wire) = (&nodes.nodes[0], &nodes.wire);
        let at = weft.address(Family::V4);
        let peers = [kernel(wire, 2, VNI, &[at])?, kernel(wire, 3, VNI, &[at])?];
        let mac = "02:00:00:00:00:33";
        let vxlan = json!({ "vni": VNI, "remotes": [
            { "address": peers[0].address(Family::V4) },
            { "address": peers[1].address(Family::V4), "macs": [mac] },
        ]});
        weft.apply(&tunnel::segment(1, PortKind::Tap, 1450, "vxlan", vxlan))?;
        let near = container(weft, 1);
        near.place.run(&format!("ip neighbour replace 198.18.1.3 lladdr {mac} dev eth0"))?.ok()?;
        let sniffer = Sniffer::start(wire, weft, "udp port 4789")?;
        near.ping("198.18.1.3", "")?;
        let recording = sniffer.finish()?;
        let to = |peer: usize| format!("icmp.type == 8 && ip.dst == {}", peers[peer].address(Family::V4));
        ensure!(recording.count(&to(1))? == 1, "the far end with the address got nothing");
        ensure!(recording.count(&to(0))? == 0, "the other far end got it too");
        Ok(())
    });
}

#[test]
fn known_neighbours_are_answered_for_without_the_tunnel() {
    Nodes::test(Wire::link(1500), 1, |nodes| {
        let (weft, wire) = (&nodes.nodes[0], &nodes.wire);
        let peer = kernel(wire, 2, VNI, &[weft.address(Family::V4)])?;
        let remotes = json!([{ "address": peer.address(Family::V4) }]);
        let vxlan = json!({ "vni": VNI, "remotes": remotes, "suppressNeighbors": true });
        weft.apply(&tunnel::segment(1, PortKind::Tap, 1450, "vxlan", vxlan))?;
        let (near, far) = (container(weft, 1), far_end(&peer, 2));
        near.meets(&far)?;
        near.place.run("ip neighbour flush dev eth0")?.ok()?;
        let sniffer = Sniffer::start(wire, weft, "udp port 4789")?;
        near.place.reaches(&far.v4)?;
        near.place.reaches(&far.v6)?;
        let recording = sniffer.finish()?;
        let outer = weft.address(Family::V4);
        let asked = format!("ip.src == {outer} && (arp.opcode == 1 || icmpv6.type == 135)");
        ensure!(recording.count(&asked)? == 0, "the far end was asked for what is known");
        Ok(())
    });
}

#[test]
fn many_segments_share_a_port_and_stay_apart() {
    Nodes::test(Wire::link(1500), 1, |nodes| {
        let (weft, wire) = (&nodes.nodes[0], &nodes.wire);
        let at = weft.address(Family::V4);
        let peers = [kernel(wire, 2, 7, &[at])?, kernel(wire, 2, 8, &[at])?];
        let [first, second] =
            [0, 1].map(|peer: usize| json!([{ "address": peers[peer].address(Family::V4) }]));
        let other = json!({ "mtu": 1450, "subnets": [{ "prefix": "198.18.1.0/24" }] });
        let port =
            json!({ "network": "other", "namespace": "d", "type": "tap", "addresses": ["198.18.1.1/24"] });
        let manifest =
            tunnel::segment(1, PortKind::Tap, 1450, "vxlan", json!({ "vni": 7, "remotes": first }))
                .namespace("d")
                .network("other", other)
                .port("d", port)
                .resource(
                    "Tunnel",
                    "u",
                    json!({
                        "network": "other", "mtu": 1450, "vxlan": { "vni": 8, "remotes": second },
                    }),
                );
        weft.apply(&manifest)?;
        for (name, peer) in [(CONTAINER, &peers[0]), ("d", &peers[1])] {
            weft.container(name).reaches("198.18.1.2")?;
            let neighbour = weft.container(name).run("ip neighbour show 198.18.1.2")?.ok()?;
            let device = peer.must(&format!("ip -o link show dev {}", vxlan::DEVICE))?;
            let mac = neighbour.split("lladdr ").nth(1).and_then(|rest| rest.split(' ').next());
            let mac = mac.with_context(|| format!("a neighbour expected: {neighbour}"))?;
            ensure!(device.contains(mac), "{name} is answered by another segment's {mac}: {device}");
        }
        Ok(())
    });
}
