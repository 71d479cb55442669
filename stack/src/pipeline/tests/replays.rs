//! Verdicts that may be replayed: which ones are, and that the stack would have said the same of every packet that they
//! are about.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::config::{
    BandwidthSpec, Hop, MirrorSpec, PortSpec, PortVlans, RateSpec, RouteAction, StaticRoute, UNTAGGED,
    VlanSet,
};
use crate::replay::Replay;
use crate::testing::{gateway_mac, mac, port};
use crate::verdict::Rewrite;
use crate::wire::checksum::Sum;
use crate::wire::vlan::Tci;

/// Two networks whose hosts have spoken and whose verdicts may be replayed, with this change.
fn replayed(change: impl FnOnce(&mut FabricSpec)) -> Fabric {
    let mut spec = testing::two_networks();
    spec.ports.push(port("b2", "b", 2, 11));
    spec.ports.iter_mut().for_each(|port| port.replay = true);
    change(&mut spec);
    let mut fabric = Fabric::new(&spec);
    for port in ["b1", "b2"] {
        fabric.introduce(port, ["198.18.2.1", "2001:db8:2::1"]);
    }
    fabric.stack.forget_replays();
    fabric
}

/// What may be replayed after a1 has sent a datagram like this one.
fn after(fabric: &mut Fabric, destination: &str, change: impl FnOnce(&mut PacketSpec)) -> Vec<Replay> {
    let frame = fabric.frame("a1", |spec| {
        spec.destination = destination.parse().unwrap();
        spec.protocol = Protocol::Udp;
        change(spec);
    });
    fabric.receive_frame("a1", &frame);
    fabric.stack.take_replays().collect()
}

fn id(fabric: &Fabric, port: &str) -> PortId {
    fabric.stack.config().port_by_name(port).unwrap().id
}

#[test]
fn a_bridged_verdict_changes_nothing_and_holds_for_good() {
    for (destination, source) in [("198.18.1.11", "198.18.1.10"), ("2001:db8:1::b", "2001:db8:1::a")] {
        let mut fabric = replayed(|spec| spec.ports[1].mtu = 1400);
        let expected = Replay {
            from: id(&fabric, "a1"),
            destination: mac("a2"),
            source: mac("a1"),
            addresses: (source.parse().unwrap(), destination.parse().unwrap()),
            to: id(&fabric, "a2"),
            rewrite: None,
            mtu: 1400,
            until: None,
        };
        assert_eq!(after(&mut fabric, destination, |_| ()), [expected]);
        assert!(!fabric.stack.has_replays());
    }
}

#[test]
fn a_routed_verdict_holds_until_its_neighbour_is_due() {
    for destination in ["198.18.2.10", "2001:db8:2::a"] {
        let mut fabric = replayed(|spec| spec.networks[1].mtu = 1300);
        let first = after(&mut fabric, destination, |_| ());
        let [replay] = first[..] else { panic!("{first:?}") };
        let rewrite = Rewrite { destination: mac("b1"), source: gateway_mac("b"), decrement_ttl: true };
        assert_eq!((replay.rewrite, replay.mtu), (Some(rewrite), 1300));
        assert_eq!((replay.destination, replay.to), (gateway_mac("a"), id(&fabric, "b1")));
        let until = replay.until.unwrap();
        assert!(fabric.now < until);
        fabric.advance(until - fabric.now);
        // It is asked whether it is there, and used all the same.
        let again = after(&mut fabric, destination, |_| ());
        assert!(again.iter().all(|replay| until < replay.until.unwrap()), "{again:?}");
        assert_eq!(again.len(), 1);
    }
}

#[test]
fn one_verdict_is_kept_for_all_packets_of_two_hosts() {
    let mut fabric = replayed(|_| ());
    for source_port in 0..10 {
        for destination in ["198.18.1.11", "198.18.1.12"] {
            let frame = fabric.frame("a1", |spec| {
                spec.destination = destination.parse().unwrap();
                spec.protocol = Protocol::Tcp;
                spec.source_port = 1000 + source_port;
            });
            fabric.receive_frame("a1", &frame);
        }
    }
    assert_eq!(fabric.stack.take_replays().len(), 2);
    assert_eq!(after(&mut fabric, "198.18.1.11", |_| ()), [], "it was told");
    fabric.now = fabric.now + Duration::from_millis(100);
    assert_eq!(after(&mut fabric, "198.18.1.11", |_| ()).len(), 1, "it may be forgotten");
    fabric.stack.forget_replays();
    assert_eq!(after(&mut fabric, "198.18.1.11", |_| ()).len(), 1, "it was");
    for host in 0..200 {
        let destination = format!("198.18.1.{host}");
        let frame = fabric.frame("a1", |spec| {
            spec.destination = destination.parse().unwrap();
            spec.destination_mac = Some(mac("a2"));
            spec.protocol = Protocol::Udp;
        });
        fabric.receive_frame("a1", &frame);
    }
    assert_eq!(fabric.stack.take_replays().len(), 64, "no more wait at a time");
}

#[test]
fn a_port_has_no_more_than_so_many_new_pairs_a_second() {
    let mut fabric = replayed(|_| ());
    let new = |fabric: &mut Fabric, hosts: std::ops::Range<u32>| {
        hosts.fold(0, |sum, host| {
            let destination = Ipv4Addr::from(0xc612_6400 + host).to_string();
            sum + after(fabric, &destination, |spec| spec.destination_mac = Some(mac("a2"))).len()
        })
    };
    assert_eq!(new(&mut fabric, 0..3000), 1000);
    fabric.now = fabric.now + Duration::from_millis(100);
    assert_eq!(new(&mut fabric, 3000..6000), 100);
    let spec = testing::two_networks();
    let ports = spec.ports.into_iter().map(|port| PortSpec { replay: true, ..port }).collect();
    fabric.reconfigure(&FabricSpec { ports, ..spec });
    assert_eq!(new(&mut fabric, 6000..6010), 0, "another picture gives no more");
    fabric.now = fabric.now + Duration::from_millis(100);
    assert_eq!(new(&mut fabric, 6010..7000), 100);
}

#[test]
fn a_neighbour_that_moves_is_told() {
    let mut fabric = replayed(|spec| spec.ports.iter_mut().for_each(|port| port.source_check = false));
    let mut changes = fabric.stack.config().neighbor_changes();
    for port in ["b1", "b2", "b1"] {
        fabric.claim(port, "198.18.2.50", "198.18.2.1");
        let replays = after(&mut fabric, "198.18.2.50", |_| ());
        assert_eq!(replays.iter().map(|replay| replay.to).collect::<Vec<_>>(), [id(&fabric, port)]);
        let now = fabric.stack.config().neighbor_changes();
        assert!(port == "b1" && changes == 0 || changes < now, "{port} {changes} {now}");
        changes = now;
    }
    let spec = testing::two_networks();
    fabric.reconfigure(&spec);
    assert!(fabric.stack.config().neighbor_changes() >= changes, "pictures follow on each other");
}

#[test]
fn what_rests_on_more_than_two_addresses_is_not_replayed() {
    let rate = Some(RateSpec {
        bits_per_second: 1_000_000_000,
        burst_bits: 1_000_000,
        queue: Duration::from_millis(1),
    });
    let via = |hops: &[&str]| StaticRoute {
        prefix: "203.0.113.0/24".parse().unwrap(),
        action: RouteAction::Via(
            hops.iter().map(|hop| Hop { address: hop.parse().unwrap(), weight: 1 }).collect(),
        ),
    };
    type Change = fn(&mut FabricSpec);
    let changes: [(&str, &str, Change); 8] = [
        ("nobody replays what a1 sends", "198.18.1.11", |spec| spec.ports[0].replay = false),
        ("nobody replays what a2 gets", "198.18.1.11", |spec| spec.ports[1].replay = false),
        ("a1 is mirrored", "198.18.1.11", |spec| {
            spec.ports.push(port("w", "b", 2, 99));
            spec.ports[0].mirror = Some(MirrorSpec { to: "w".into(), received: true, sent: false });
        }),
        ("a2 is mirrored", "198.18.1.11", |spec| {
            spec.ports.push(port("w", "b", 2, 99));
            spec.ports[1].mirror = Some(MirrorSpec { to: "w".into(), received: false, sent: true });
        }),
        ("a trunk", "198.18.1.11", |spec| {
            let allowed: Box<VlanSet> = Box::new([5].into_iter().collect());
            spec.ports[1].vlans = PortVlans::Trunk { allowed, native: Some(UNTAGGED) };
        }),
        ("isolated ports", "198.18.1.11", |spec| {
            spec.ports[0].isolated = true;
            spec.ports[1].isolated = true;
        }),
        ("somebody's address who was only seen", "198.18.1.11", |spec| spec.ports[1].mac = mac("other")),
        ("the gateway itself", "198.18.1.1", |_| ()),
    ];
    for (why, destination, change) in changes {
        let mut fabric = replayed(change);
        if why.contains("only seen") {
            let seen = addressed(fabric.echo("a2", "198.18.1.10"), mac("a1"), mac("a2"));
            fabric.receive_frame("a2", &seen);
        }
        let replays = after(&mut fabric, destination, |spec| {
            if destination == "198.18.1.11" {
                spec.destination_mac = Some(mac("a2"));
            }
        });
        assert_eq!(replays, [], "{why}");
    }
    for bandwidth in [
        BandwidthSpec { ingress: rate, ..BandwidthSpec::default() },
        BandwidthSpec { egress: rate, ..BandwidthSpec::default() },
    ] {
        for limited in [0, 1] {
            let mut fabric = replayed(|spec| spec.ports[limited].bandwidth = bandwidth);
            assert_eq!(after(&mut fabric, "198.18.1.11", |_| ()), []);
        }
    }
    let mut fabric = replayed(|spec| spec.routers[0].routes.push(via(&["198.18.2.10", "198.18.2.11"])));
    assert_eq!(after(&mut fabric, "203.0.113.9", |_| ()), [], "two next hops");
    let mut fabric = replayed(|spec| spec.routers[0].routes.push(via(&["198.18.2.10"])));
    assert_eq!(after(&mut fabric, "203.0.113.9", |_| ()).len(), 1, "one next hop");
}

#[test]
fn packets_out_of_the_ordinary_are_not_replayed() {
    let mut fabric = replayed(|_| ());
    let a2 = "198.18.1.11";
    assert_eq!(after(&mut fabric, a2, |spec| spec.protocol = Protocol::Icmp), []);
    assert_eq!(after(&mut fabric, a2, |spec| spec.source_mac = Some(mac("a3"))), [], "spoofed");
    assert_eq!(after(&mut fabric, a2, |spec| spec.length = Some(1501)), [], "too long");
    let frame = fabric.frame("a1", |spec| {
        spec.destination = a2.parse().unwrap();
        spec.protocol = Protocol::Udp;
        spec.length = Some(100);
    });
    let options = {
        let mut frame = frame.clone();
        frame[14] = 0x46;
        frame
    };
    let fragment = {
        let mut frame = frame.clone();
        frame[20] = 0x20;
        frame
    };
    for odd in [options, fragment] {
        assert_eq!(fabric.receive_frame("a1", &odd).len(), 1);
        assert!(!fabric.stack.has_replays());
    }
    let mut tagged = Packet::from_frame(&frame);
    tagged.dress(Some(Tci(5 << 13)));
    assert_eq!(fabric.receive("a1", tagged).len(), 1);
    assert!(!fabric.stack.has_replays(), "a priority tag");
    fabric.receive_frame("a1", &frame);
    assert!(fabric.stack.has_replays());
}

#[test]
fn what_is_watched_is_not_replayed() {
    let mut fabric = replayed(|_| ());
    fabric.stack.watch([(7, LiveFilter::default())]);
    assert_eq!(after(&mut fabric, "198.18.1.11", |_| ()), []);
    fabric.stack.watch([]);
    assert_eq!(after(&mut fabric, "198.18.1.11", |_| ()).len(), 1);
}

#[test]
fn the_next_packet_of_each_kind_is_replayed() {
    for destination in ["198.18.1.11", "2001:db8:1::b", "198.18.2.10", "2001:db8:2::a"] {
        let mut fabric = replayed(|_| ());
        let known = after(&mut fabric, destination, |_| ());
        let next = fabric.frame("a1", |spec| {
            spec.destination = destination.parse().unwrap();
            spec.protocol = Protocol::Tcp;
            spec.ttl = 9;
        });
        let sent = fabric.receive_frame("a1", &next);
        let expected = replay(&known[0], &next).unwrap();
        assert_eq!((sent.len(), sent[0].1.frame()), (1, &expected[..]), "{destination}");
    }
}

/// What somebody who replays makes of a frame; `None`: it is for the stack to look at.
fn replay(replay: &Replay, frame: &[u8]) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let v4 = frame[12..14] == [0x08, 0];
    let (ttl, ports) = if v4 { (22, 34) } else { (21, 54) };
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let dhcp = [port(ports), port(ports + 2)].iter().any(|port| [67, 68, 546, 547].contains(port));
    if frame.len() - 14 > replay.mtu || dhcp {
        return None;
    }
    if let Some(rewrite) = replay.rewrite {
        if frame[ttl] <= 1 {
            return None;
        }
        frame[..6].copy_from_slice(&rewrite.destination.0);
        frame[6..12].copy_from_slice(&rewrite.source.0);
        frame[ttl] -= 1;
        if v4 {
            frame[24..26].fill(0);
            let sum = Sum::default().bytes(&frame[14..34]).finish();
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    }
    Some(frame)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_replay_does_what_the_stack_does(
        destination in prop::sample::select(vec![
            "198.18.1.11", "198.18.1.12", "198.18.2.10", "198.18.2.11", "203.0.113.9", "198.18.1.1", "192.0.2.1",
            "2001:db8:1::b", "2001:db8:2::a", "2001:db8:2::b", "2001:db8:2::1", "2001:db8:9::9",
        ]),
        source in prop::sample::select(vec![None, Some("198.18.1.11"), Some("198.18.9.9"), Some("2001:db8:7::7")]),
        to in prop::sample::select(vec![None, Some("a2"), Some("b1"), Some("nobody")]),
        packets in prop::collection::vec(
            (any::<bool>(), prop_oneof![Just(67u16), Just(546), any::<u16>()], any::<u16>(), 0u16..1600,
             prop_oneof![0u8..3, any::<u8>()], any::<bool>()),
            2..6,
        ),
        checked in any::<bool>(), isolated in any::<[bool; 2]>(), mtu in 1280u32..1600, wide in any::<bool>(),
    ) {
        let source: Option<IpAddr> = source.map(|source| source.parse().unwrap());
        let destination: IpAddr = destination.parse().unwrap();
        let source = source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        let mut fabric = replayed(|spec| {
            spec.ports[0].source_check = checked;
            spec.ports[0].isolated = isolated[0];
            spec.ports[1].isolated = isolated[1];
            spec.ports[1].mtu = mtu;
            spec.ports[3].mtu = mtu;
            spec.networks[1].mtu = if wide { 1600 } else { 1290 };
            let hop = Hop { address: "198.18.2.11".parse().unwrap(), weight: 1 };
            let action = RouteAction::Via(vec![hop]);
            spec.routers[0].routes.push(StaticRoute { prefix: "203.0.113.0/24".parse().unwrap(), action });
        });
        let mut known: Vec<Replay> = Vec::new();
        for (tcp, source_port, destination_port, length, ttl, dont_fragment) in packets {
            let frame = fabric.frame("a1", |spec| {
                spec.source = source;
                spec.destination = destination;
                spec.destination_mac = to.map(mac);
                spec.protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
                (spec.source_port, spec.destination_port) = (source_port, destination_port);
                spec.length = Some(length.max(100));
                spec.ttl = ttl;
                spec.dont_fragment = dont_fragment;
            });
            let sent = fabric.receive_frame("a1", &frame);
            if let Some(way) = known.first()
                && let Some(expected) = replay(way, &frame)
            {
                prop_assert_eq!(sent.len(), 1);
                prop_assert_eq!(id(&fabric, &sent[0].0), way.to);
                prop_assert_eq!(sent[0].1.frame(), &expected[..]);
            }
            known.extend(fabric.stack.take_replays());
            known.dedup();
            prop_assert!(known.len() <= 1, "{:?}", known);
        }
    }
}
