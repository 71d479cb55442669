//! GRE tunnels (RFC 2784, RFC 2890) of frames and of packets, with Open vSwitch's userspace datapath as the far end, and
//! between two nodes of Weft.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::peer::open_vswitch::{DEVICE, Gre, OpenVSwitch};
use weft_testkit::tunnel::{self, CONTAINER, End, SOON, TUNNEL};
use weft_testkit::wait::retry_until;
use weft_testkit::{Family, Manifest, Node, Nodes, PortKind, Sniffer, Wire};

/// Asks a GRE tunnel's end whether it is there, as Cisco's routers do.
const KEEPALIVE: &str = include_str!("gre_keepalive.py");

/// What is put into a tunnel to an address.
type Wish = dyn Fn(IpAddr) -> Gre;

fn frames(remote: IpAddr) -> Gre {
    Gre::plain(remote)
}

fn packets(remote: IpAddr) -> Gre {
    Gre { packets: true, ..Gre::plain(remote) }
}

fn spec(gre: &Gre) -> Value {
    let mut spec = json!({ "remote": gre.remote, "checksum": gre.checksum, "sequence": gre.sequence });
    if let Some(key) = gre.key {
        spec["key"] = json!(key);
    }
    spec
}

/// Node `number` with this tunnel to node or far end `other`.
fn manifest(number: u8, other: u8, gre: &Gre) -> Manifest {
    let mtu = 1500 - gre.overhead();
    if gre.packets {
        let manifest = tunnel::link(number, PortKind::Tap, mtu, "gre", spec(gre));
        manifest.with("Tunnel", TUNNEL, "routes", json!(tunnel::prefixes(other)))
    } else {
        tunnel::segment(number, PortKind::Tap, mtu, "gretap", spec(gre))
    }
}

/// An Open vSwitch as far end 2 of node 1.
fn switch(wire: &Wire, gre: &Gre) -> Result<(Node, OpenVSwitch)> {
    let peer = Node::bare(wire)?;
    let switch = OpenVSwitch::start(wire, &peer)?;
    let addresses = if gre.packets {
        [tunnel::on_link(2, Family::V4) + "/32", tunnel::on_link(2, Family::V6) + "/128"]
    } else {
        [tunnel::on_segment(2, Family::V4) + "/24", tunnel::on_segment(2, Family::V6) + "/64"]
    };
    switch.gre(&peer, gre, 1500, &addresses.each_ref().map(String::as_str))?;
    if gre.packets {
        for prefix in tunnel::prefixes(1) {
            peer.must(&format!("ip route replace {prefix} dev {DEVICE}"))?;
        }
    }
    Ok((peer, switch))
}

/// Weft and another implementation with a tunnel between them.
struct Site<'a> {
    weft: &'a Node,
    wire: &'a Wire,
    near: End<'a>,
    far: End<'a>,
    mtu: u32,
    checksum: bool,
}

/// Runs a test with Weft as node 1 and Open vSwitch as far end 2, both with this tunnel.
fn beside_the_switch(
    wire: Result<Wire>,
    family: Family,
    wish: &Wish,
    test: impl FnOnce(&Site<'_>) -> Result<()>,
) {
    Nodes::test(wire, 1, |nodes| {
        let gre = wish(nodes.nodes[0].address(family));
        let (peer, _switch) = switch(&nodes.wire, &gre)?;
        nodes.nodes[0].apply(&manifest(1, 2, &wish(peer.address(family))))?;
        let far = if gre.packets { End::on_link(peer.node(), 2) } else { End::on_segment(peer.node(), 2) };
        let near = container(&nodes.nodes[0], 1, &gre);
        let (weft, wire, mtu) = (&nodes.nodes[0], &nodes.wire, 1500 - gre.overhead());
        let site = Site { weft, wire, near, far, mtu, checksum: gre.checksum };
        test(&site).with_context(|| format!("{family:?} {gre:?}"))
    });
}

fn container<'a>(node: &'a Node, number: u8, gre: &Gre) -> End<'a> {
    let place = node.container(CONTAINER);
    if gre.packets { End::behind_link(place, number) } else { End::on_segment(place, number) }
}

#[test]
fn frames_go_to_open_vswitch_and_come_from_it_with_every_option() {
    let wishes: [&Wish; 4] = [
        &frames,
        &|remote| Gre { key: Some(0), ..frames(remote) },
        &|remote| Gre { key: Some(0xdead_beef), checksum: true, ..frames(remote) },
        &|remote| Gre { sequence: true, ..frames(remote) },
    ];
    for family in Family::BOTH {
        for wish in wishes {
            beside_the_switch(Wire::link(1500), family, wish, |site| {
                tunnel::carries_packets(&site.near, &site.far, site.mtu)?;
                // Open vSwitch is slow: streams go with the options that take the most work.
                if site.checksum { tunnel::carries_traffic(&site.near, &site.far, 1e7) } else { Ok(()) }
            });
        }
    }
}

#[test]
fn packets_go_to_open_vswitch_and_come_from_it() {
    let wishes: [&Wish; 3] =
        [&packets, &|remote| Gre { key: Some(7), checksum: true, ..packets(remote) }, &|remote| Gre {
            key: Some(7),
            sequence: true,
            ..packets(remote)
        }];
    for family in Family::BOTH {
        for wish in wishes {
            beside_the_switch(Wire::link(1500), family, wish, |site| {
                tunnel::carries_packets(&site.near, &site.far, site.mtu)?;
                // Open vSwitch is slow: streams go with the options that take the most work.
                if site.checksum { tunnel::carries_traffic(&site.near, &site.far, 1e7) } else { Ok(()) }
            });
        }
    }
}

#[test]
fn two_nodes_reach_each_other_with_all_options_at_once() {
    for family in Family::BOTH {
        for plain in [frames, packets] {
            Nodes::test(Wire::link(1500), 2, |nodes| {
                let wish = |side: usize| {
                    let remote = nodes.nodes[side].address(family);
                    Gre { key: Some(7), checksum: true, sequence: true, ..plain(remote) }
                };
                let (to_b, to_a) = (wish(1), wish(0));
                nodes.nodes[0].apply(&manifest(1, 2, &to_b))?;
                nodes.nodes[1].apply(&manifest(2, 1, &to_a))?;
                let (near, far) =
                    (container(&nodes.nodes[0], 1, &to_b), container(&nodes.nodes[1], 2, &to_a));
                tunnel::carries_packets(&near, &far, 1500 - to_b.overhead())?;
                tunnel::carries_traffic(&near, &far, 1e7)
            });
        }
    }
}

#[test]
fn tshark_finds_no_fault_with_what_is_sent() {
    for family in Family::BOTH {
        for plain in [frames, packets] {
            let wish = move |remote| Gre { key: Some(7), checksum: true, ..plain(remote) };
            beside_the_switch(Wire::link(1500), family, &wish, |Site { weft, wire, near, far, .. }| {
                let sniffer = Sniffer::start(wire, weft, "ip proto 47 or ip6 proto 47")?;
                near.meets(far)?;
                near.ping(&far.v4, "-s 4000")?.ok()?;
                tunnel::show_traffic(near, far)?;
                let recording = sniffer.finish()?;
                recording.is_sound(&weft.address(family).to_string())?;
                let keys = recording.values("gre.key")?;
                ensure!(keys.iter().all(|key| key == "0x00000007"), "key 7 alone expected: {keys:?}");
                Ok(())
            });
        }
    }
}

#[test]
fn another_key_gets_nothing_through_and_is_counted() {
    for key in [Some(8), None] {
        Nodes::test(Wire::link(1500), 1, |nodes| {
            let weft = &nodes.nodes[0];
            let other = Gre { key, ..frames(weft.address(Family::V4)) };
            let (peer, _switch) = switch(&nodes.wire, &other)?;
            let own = Gre { key: Some(7), ..frames(peer.address(Family::V4)) };
            weft.apply(&manifest(1, 2, &own))?;
            let (near, far) = (container(weft, 1, &own), End::on_segment(peer.node(), 2));
            near.misses(&far)?;
            far.misses(&near)?;
            tunnel::wait_for_drops(weft, "tunnel_key_unknown")
        });
    }
}

#[test]
fn packets_where_frames_are_expected_get_nothing_through_and_are_counted() {
    Nodes::test(Wire::link(1500), 1, |nodes| {
        let weft = &nodes.nodes[0];
        let (peer, _switch) = switch(&nodes.wire, &packets(weft.address(Family::V4)))?;
        let own = frames(peer.address(Family::V4));
        weft.apply(&manifest(1, 2, &own))?;
        peer.node().does_not_reach(&tunnel::behind_link(1, Family::V4))?;
        tunnel::wait_for_drops(weft, "tunnel_protocol_unknown")
    });
}

#[test]
fn congestion_on_the_way_is_told_inside() {
    for family in Family::BOTH {
        for wish in [frames, packets] {
            beside_the_switch(Wire::link(1500), family, &wish, |Site { weft, wire, near, far, .. }| {
                near.meets(far)?;
                wire.congest(&weft.at)?;
                tunnel::tells_congestion(far, near, "eth0")?;
                tunnel::wait_for_drops(weft, "tunnel_congestion")
            });
        }
    }
}

#[test]
fn an_underlay_that_comes_back_is_used_again() {
    for family in Family::BOTH {
        beside_the_switch(Wire::link(1500), family, &packets, |Site { weft, wire, near, far, .. }| {
            near.meets(far)?;
            wire.cut(&weft.at)?;
            near.misses(far)?;
            wire.mend(&weft.at)?;
            near.meets(far)
        });
    }
}

#[test]
fn a_narrow_way_is_told_to_the_container() {
    for family in Family::BOTH {
        for wish in [frames, packets] {
            Nodes::test(Wire::routed(), 2, |nodes| {
                let gre = [1, 0].map(|side: usize| wish(nodes.nodes[side].address(family)));
                nodes.nodes[0].apply(&manifest(1, 2, &gre[0]))?;
                nodes.nodes[1].apply(&manifest(2, 1, &gre[1]))?;
                let (near, far) =
                    (container(&nodes.nodes[0], 1, &gre[0]), container(&nodes.nodes[1], 2, &gre[1]));
                near.meets(&far)?;
                nodes.wire.narrow(1400)?;
                let inside = 1400 - gre[0].overhead();
                retry_until(SOON, "a too-big for the container", || {
                    let told = near.ping(&far.v4, "-M do -s 1380")?.text();
                    ensure!(told.contains(&format!("{inside}")), "an MTU of {inside} expected: {told}");
                    Ok(())
                })?;
                near.ping(&far.v4, &format!("-M do -s {}", inside - 28))?.ok()?;
                tunnel::show_traffic(&near, &far)
            });
        }
    }
}

#[test]
fn a_keepalive_is_sent_back() {
    Nodes::test(Wire::link(1500), 1, |nodes| {
        let weft = &nodes.nodes[0];
        let peer = Node::bare(&nodes.wire)?;
        weft.apply(&manifest(1, 2, &packets(peer.address(Family::V4))))?;
        let (own, other) = (peer.at.v4.to_string(), weft.at.v4.to_string());
        let answer = peer.node().exec(&["/usr/bin/python3", "-c", KEEPALIVE, &own, &other])?.ok()?;
        ensure!(answer.contains("answered"), "{answer}");
        Ok(())
    });
}
