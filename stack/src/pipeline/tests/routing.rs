//! Between networks: next hops, TTL, MTU, neighbours, and what a trace tells.

use super::*;
use crate::config::{Hop, RouteAction, StaticRoute};
use crate::packet::{Gso, GsoKind, PartialChecksum};
use crate::testing::{gateway_mac, mac};
use crate::wire::arp::{Message, Operation};
use crate::wire::{ipv4, ipv6};

const GATEWAYS_B: [&str; 2] = ["198.18.2.1", "2001:db8:2::1"];

/// The two networks, with 1400 octets at most on `b`, and b1 known to the gateway.
fn narrow(mtu: u32) -> Fabric {
    let mut spec = testing::two_networks();
    spec.networks[1].mtu = mtu;
    spec.ports[3].mtu = mtu;
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", GATEWAYS_B);
    fabric
}

#[test]
fn a_routed_packet_has_new_addresses_and_one_hop_less() {
    let mut fabric = narrow(1500);
    for destination in ["198.18.2.10", "2001:db8:2::a"] {
        let sent = fabric.receive_frame("a1", &fabric.echo("a1", destination));
        assert_eq!(ports(&sent), ["b1"]);
        let header = ethernet_of(&sent[0].1);
        assert_eq!((header.source, header.destination), (gateway_mac("b"), mac("b1")));
        let text = &told(&sent)[0].1;
        assert!(text.contains("TTL 63") || text.contains("hop limit 63"), "{text}");
        if destination.contains('.') {
            assert!(ipv4::checksum_is_valid(&sent[0].1.frame()[14..34]));
        }
    }
}

#[test]
fn the_first_packet_waits_for_the_neighbour_and_then_goes() {
    let mut fabric = Fabric::two_networks();
    let question = fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.10"));
    assert_eq!(
        told(&question),
        [("b1".into(), "ARP who has 198.18.2.10? tell 198.18.2.1, 42 octets".into())]
    );
    let again = fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.10"));
    assert!(again.is_empty());
    let answer = answer_arp(&question[0].1);
    let sent = fabric.receive_frame("b1", &answer);
    assert_eq!(ports(&sent), ["b1", "b1"]);
    assert!(told(&sent)[0].1.contains("198.18.1.10 > 198.18.2.10 TTL 63"));
}

/// The reply that b1's kernel gives to a question.
fn answer_arp(question: &Packet) -> Vec<u8> {
    let asked = Message::parse(&question.frame()[14..]).unwrap();
    let mut frame = vec![0; 42];
    let header =
        ethernet::Header { destination: asked.sender_mac, source: mac("b1"), ethertype: ethernet::ARP };
    header.emit(&mut frame);
    let reply = Message {
        operation: Operation::Reply,
        sender_mac: mac("b1"),
        sender: asked.target,
        target_mac: asked.sender_mac,
        target: asked.sender,
    };
    reply.emit(&mut frame[14..]);
    frame
}

#[test]
fn a_silent_neighbour_is_asked_three_times_and_the_sender_told() {
    for (destination, expected) in
        [("198.18.2.10", "ICMP host unreachable"), ("2001:db8:2::a", "ICMPv6 address unreachable")]
    {
        let mut fabric = Fabric::two_networks();
        assert_eq!(fabric.receive_frame("a1", &fabric.echo("a1", destination)).len(), 1);
        assert_eq!(ports(&fabric.advance(Duration::from_secs(1))), ["b1"]);
        assert_eq!(ports(&fabric.advance(Duration::from_secs(1))), ["b1"]);
        let sent = fabric.advance(Duration::from_secs(1));
        assert_eq!(ports(&sent), ["a1"]);
        assert!(told(&sent)[0].1.contains(expected), "{:?}", told(&sent));
        assert_eq!(fabric.dropped("a1", DropReason::NeighborUnreachable), 1);
        assert_eq!(fabric.stack.poll_at(), None);
    }
}

#[test]
fn a_stale_neighbour_is_asked_again_while_packets_flow() {
    let mut fabric = narrow(1500);
    fabric.advance(Duration::from_secs(46));
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.10"));
    assert!(told(&sent)[0].1.contains("echo request"));
    let asked = fabric.advance(Duration::from_secs(5));
    assert_eq!(ports(&asked), ["b1"]);
    assert!(told(&asked)[0].1.contains("ARP who has 198.18.2.10?"));
    assert_eq!(ethernet_of(&asked[0].1).destination, mac("b1"));
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.10"));
    assert!(told(&sent)[0].1.contains("echo request"));
}

#[test]
fn the_last_hop_is_told_of_and_so_is_a_missing_route() {
    let mut fabric = Fabric::two_networks();
    for (destination, ttl, expected) in [
        ("198.18.2.10", 1, "ICMP TTL exceeded"),
        ("2001:db8:2::a", 1, "ICMPv6 hop limit exceeded"),
        ("203.0.113.1", 64, "ICMP net unreachable"),
        ("2001:db8:ffff::1", 64, "ICMPv6 no route"),
    ] {
        let frame = fabric.frame("a1", |spec| {
            spec.destination = destination.parse().unwrap();
            spec.ttl = ttl;
        });
        let sent = fabric.receive_frame("a1", &frame);
        assert_eq!(ports(&sent), ["a1"]);
        assert!(told(&sent)[0].1.contains(expected), "{:?}", told(&sent));
    }
}

#[test]
fn too_big_packets_are_told_of_with_the_mtu() {
    let mut fabric = narrow(1400);
    for (destination, at) in [("198.18.2.10", 14 + 20 + 6), ("2001:db8:2::a", 14 + 40 + 6)] {
        let frame = fabric.frame("a1", |spec| {
            spec.destination = destination.parse().unwrap();
            spec.length = Some(1401);
            spec.dont_fragment = true;
        });
        let sent = fabric.receive_frame("a1", &frame);
        assert_eq!(ports(&sent), ["a1"]);
        assert_eq!(sent[0].1.frame()[at..at + 2], 1400u16.to_be_bytes());
    }
    assert_eq!(fabric.dropped("a1", DropReason::PacketTooBig), 2);
}

#[test]
fn packets_that_may_be_cut_are_and_add_up_to_the_original() {
    let mut fabric = narrow(600);
    let frame = fabric.frame("a1", |spec| {
        spec.destination = "198.18.2.10".parse().unwrap();
        spec.length = Some(1500);
    });
    let sent = fabric.receive_frame("a1", &frame);
    let mut payload = Vec::new();
    for (index, (port, packet)) in sent.iter().enumerate() {
        assert_eq!(port, "b1");
        let bytes = &packet.frame()[14..];
        let header = ipv4::Header::parse(bytes).unwrap();
        assert!(bytes.len() <= 600 && ipv4::checksum_is_valid(&bytes[..20]));
        assert_eq!((header.fragment_offset, header.ttl), (payload.len(), 63));
        assert_eq!(header.more_fragments, index + 1 < sent.len());
        payload.extend_from_slice(&bytes[20..]);
    }
    assert_eq!(payload, frame[34..]);
}

#[test]
fn padding_takes_no_room_on_the_next_link() {
    let mut fabric = narrow(1400);
    let mut frame = fabric.frame("a1", |spec| {
        spec.destination = "198.18.2.10".parse().unwrap();
        spec.dont_fragment = true;
    });
    frame.resize(1514, 0xaa);
    let sent = fabric.receive_frame("a1", &frame);
    assert_eq!((ports(&sent), sent[0].1.len()), (vec!["b1"], 14 + 28));
}

#[test]
fn the_smallest_mtu_takes_the_longest_options() {
    let mut spec = testing::two_networks();
    spec.ports[3].mtu = 68;
    let mut fabric = Fabric::new(&spec);
    fabric.receive_frame("b1", &fabric.resolve("b1", "198.18.2.1"));
    let mut frame = fabric.frame("a1", |spec| {
        spec.destination = "198.18.2.10".parse().unwrap();
        spec.length = Some(600);
    });
    frame[14] = 0x4f;
    frame[34..74].fill(1);
    frame[34] = 130;
    frame[35] = 40;
    ipv4::fill_checksum(&mut frame[14..74]);
    let sent = fabric.receive_frame("a1", &frame);
    assert!(sent.iter().all(|(_, packet)| packet.len() <= 14 + 68));
    assert_eq!(sent.iter().map(|(_, packet)| packet.len() - 74).sum::<usize>(), 540);
    let too_long_for_b = fabric.frame("b1", |spec| {
        spec.destination = "203.0.113.1".parse().unwrap();
        spec.length = Some(68);
    });
    let told = fabric.receive_frame("b1", &too_long_for_b);
    assert_eq!(told[0].1.len(), 14 + 68);
}

#[test]
fn an_mtu_without_room_for_a_header_loses_packets_and_nothing_else() {
    let mut fabric = narrow(1500);
    let mut spec = testing::two_networks();
    spec.ports[3].mtu = 10;
    fabric.reconfigure(&spec);
    assert!(fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.10")).is_empty());
    assert!(fabric.dropped("b1", DropReason::FrameTooLong) > 0);
}

#[test]
fn a_super_packet_is_measured_by_its_segments() {
    let mut fabric = narrow(1400);
    let mut send = |size: u16| {
        let frame = fabric.frame("a1", |spec| {
            spec.destination = "198.18.2.10".parse().unwrap();
            spec.protocol = Protocol::Tcp;
            spec.length = Some(30_000);
            spec.dont_fragment = true;
        });
        let mut packet = Packet::from_frame(&frame);
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
        packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size, header_length: 54, ecn: false });
        fabric.receive("a1", packet)
    };
    let fits = send(1360);
    assert_eq!((ports(&fits), fits[0].1.len()), (vec!["b1"], 30_014));
    assert!(told(&send(1361))[0].1.contains("fragmentation needed"));
}

#[test]
fn flows_stay_on_one_of_several_next_hops() {
    let mut spec = testing::two_networks();
    spec.ports.push(testing::port("b2", "b", 2, 11));
    spec.routers[0].routes = vec![StaticRoute {
        prefix: "203.0.113.0/24".parse().unwrap(),
        action: RouteAction::Via(
            ["198.18.2.10", "198.18.2.11"].map(|hop| Hop { address: hop.parse().unwrap(), weight: 1 }).into(),
        ),
    }];
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", GATEWAYS_B);
    fabric.introduce("b2", GATEWAYS_B);
    let mut by_port = std::collections::BTreeMap::new();
    for source_port in 0..100 {
        let frame = fabric.frame("a1", |spec| {
            spec.destination = "203.0.113.7".parse().unwrap();
            spec.protocol = Protocol::Udp;
            spec.source_port = source_port;
        });
        let first = fabric.receive_frame("a1", &frame).remove(0).0;
        assert_eq!(fabric.receive_frame("a1", &frame)[0].0, first);
        *by_port.entry(first).or_insert(0) += 1;
    }
    assert!(by_port.len() == 2 && by_port.values().all(|count| *count > 20), "{by_port:?}");
}

#[test]
fn what_must_not_be_routed_is_not() {
    let mut fabric = narrow(1500);
    let to_gateway = |fabric: &Fabric, destination: &str| {
        fabric.frame("a1", |spec| {
            spec.destination = destination.parse().unwrap();
            spec.destination_mac = Some(gateway_mac("a"));
        })
    };
    for (destination, reason) in [
        ("127.0.0.1", DropReason::DestinationInvalid),
        ("224.0.0.5", DropReason::DestinationInvalid),
        ("198.18.2.255", DropReason::DestinationInvalid),
        ("255.255.255.255", DropReason::DestinationInvalid),
        ("ff0e::1", DropReason::DestinationInvalid),
        ("::1", DropReason::DestinationInvalid),
        ("fe80::1", DropReason::ScopeExceeded),
    ] {
        let frame = to_gateway(&fabric, destination);
        let before = fabric.dropped("a1", reason);
        let sent = fabric.receive_frame("a1", &frame);
        assert!(!ports(&sent).contains(&"b1"), "{destination}");
        assert_eq!(fabric.dropped("a1", reason), before + 1, "{destination}");
    }
    let mut bad = to_gateway(&fabric, "198.18.2.10");
    bad[24] ^= 0xff;
    assert!(fabric.receive_frame("a1", &bad).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::Ipv4ChecksumBad), 1);
}

#[test]
fn a_trace_tells_every_stage_and_changes_nothing() {
    let mut fabric = Fabric::two_networks();
    let id = fabric.stack.config().port_by_name("a1").unwrap().id;
    let mut packet = Packet::from_frame(&fabric.echo("a1", "198.18.2.10"));
    let trace = fabric.stack.trace(fabric.now, id, &mut packet).unwrap();
    assert_eq!(trace.verdict, Verdict::Queued);
    assert_eq!(fabric.stack.poll_at(), None);
    assert_eq!(fabric.stack.config().table_sizes("b", fabric.now).unwrap().1, 0);

    fabric.introduce("b1", GATEWAYS_B);
    let mut packet = Packet::from_frame(&fabric.echo("a1", "198.18.2.10"));
    let trace = fabric.stack.trace(fabric.now, id, &mut packet).unwrap();
    let stages: Vec<_> = trace.steps.iter().map(|step| step.stage).collect();
    assert_eq!(stages, ["ingress", "source", "bridge", "route", "neighbor", "egress"]);
    assert_eq!(trace.outputs.len(), 1);
    assert!(matches!(trace.verdict, Verdict::Forwarded { rewrite: Some(_), .. }));
    let counters = fabric.stack.config().port_by_name("a1").unwrap().counters(0);
    assert_eq!(counters.rx_packets.get(), 0);
}

#[test]
fn a_traced_drop_names_its_reason() {
    let mut fabric = Fabric::two_networks();
    let id = fabric.stack.config().port_by_name("a1").unwrap().id;
    let mut packet = Packet::from_frame(&fabric.echo("a1", "203.0.113.1"));
    let trace = fabric.stack.trace(fabric.now, id, &mut packet).unwrap();
    assert_eq!(trace.verdict, Verdict::Dropped(DropReason::NoRoute));
    let answer = trace.steps.iter().find(|step| step.stage == "icmp").unwrap();
    assert_eq!(
        (answer.stage, answer.message.as_str()),
        ("icmp", "net unreachable from 198.18.1.1 to 198.18.1.10")
    );
    assert_eq!(fabric.dropped("a1", DropReason::NoRoute), 0);
}

#[test]
fn ipv6_keeps_its_traffic_class_and_flow_label_on_the_way() {
    let mut fabric = narrow(1500);
    let mut frame = fabric.echo("a1", "2001:db8:2::a");
    frame[14..18].copy_from_slice(&[0x6a, 0xbc, 0xde, 0xf1]);
    let sent = fabric.receive_frame("a1", &frame);
    assert_eq!(sent[0].1.frame()[14..18], [0x6a, 0xbc, 0xde, 0xf1]);
    assert_eq!(ipv6::Header::parse(&sent[0].1.frame()[14..]).unwrap().traffic_class, 0xab);
}

proptest::proptest! {
    #[test]
    fn no_packet_that_is_routed_makes_the_stack_panic(
        mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 74..700),
        v6 in proptest::prelude::any::<bool>(),
        to_gateway in proptest::prelude::any::<bool>(),
        protocol in proptest::sample::select(vec![0u8, 1, 6, 17, 43, 44, 58, 60, 132]),
        lengths in (5u8..16, 0u16..700, 0u32..300),
        checksum in proptest::option::of((0u16..110, 0u16..24)),
        gso in proptest::option::of((0u16..900, 0usize..3)),
        offloads in proptest::prelude::any::<bool>(),
    ) {
        let (words, length, mtu) = lengths;
        let mut spec = testing::two_networks();
        spec.ports[0].source_check = false;
        if !offloads {
            spec.ports.iter_mut().for_each(|port| port.offloads = Default::default());
        }
        let mut fabric = Fabric::new(&spec);
        fabric.introduce("b1", GATEWAYS_B);
        spec.ports[3].mtu = mtu;
        spec.ports[0].mtu = 1500 - mtu * 5;
        fabric.reconfigure(&spec);
        let ethertype = if v6 { ethernet::IPV6 } else { ethernet::IPV4 };
        ethernet::Header { destination: gateway_mac("a"), source: mac("a1"), ethertype }.emit(&mut bytes);
        if v6 {
            let text = if to_gateway { "2001:db8:1::1" } else { "2001:db8:2::a" };
            let fields = ipv6::Fields {
                payload_length: usize::from(length).min(bytes.len() - 54),
                next_header: protocol,
                hop_limit: 255,
                source: "2001:db8:1::a".parse().unwrap(),
                destination: text.parse().unwrap(),
            };
            fields.emit(&mut bytes[14..]);
        } else {
            let last = if to_gateway { [1, 1] } else { [2, 10] };
            bytes[14] = 0x40 | words;
            bytes[16..18].copy_from_slice(&length.to_be_bytes());
            bytes[22..24].copy_from_slice(&[64, protocol]);
            bytes[26..34].copy_from_slice(&[198, 18, 1, 10, 198, 18, last[0], last[1]]);
            ipv4::fill_checksum(&mut bytes[14..14 + usize::from(words) * 4]);
        }
        let mut packet = Packet::from_frame(&bytes);
        packet.offload.checksum = checksum.map(|(start, offset)| PartialChecksum { start, offset });
        packet.offload.gso = gso.map(|(size, kind)| Gso {
            kind: [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp][kind],
            size,
            header_length: 0,
            ecn: false,
        });
        for (_, sent) in fabric.receive("a1", packet) {
            proptest::prop_assert!(crate::stage::ingress::parse(sent.frame()).is_ok());
        }
    }
}

#[test]
fn a_source_that_is_the_routers_or_a_whole_subnets_goes_nowhere() {
    let mut spec = testing::two_networks();
    spec.ports[0].source_check = false;
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    let sources = ["198.18.1.1", "198.18.2.1", "198.18.1.255", "198.18.2.255"];
    for (count, source) in (1..).zip(sources) {
        let ping = fabric.frame("a1", |spec| {
            spec.source = Some(source.parse().unwrap());
            spec.destination = "198.18.2.10".parse().unwrap();
        });
        assert!(fabric.receive_frame("a1", &ping).is_empty(), "{source}");
        assert_eq!(fabric.dropped("a1", DropReason::SourceInvalid), count, "{source}");
    }
    let ping = fabric.echo("a1", "198.18.2.10");
    assert_eq!(ports(&fabric.receive_frame("a1", &ping)), ["b1"]);
}
