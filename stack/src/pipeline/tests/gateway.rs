//! The gateway itself: ARP, neighbour discovery, echo, and refusing what it does not serve.

use super::*;
use crate::packet::PartialChecksum;
use crate::testing::{gateway_mac, mac};
use crate::wire::checksum::pseudo_header;
use crate::wire::{arp, icmpv6, ipv4, ipv6};

#[test]
fn arp_for_the_gateway_is_answered_to_the_asker_alone() {
    let mut fabric = Fabric::two_networks();
    let sent = fabric.receive_frame("a1", &fabric.resolve("a1", "198.18.1.1"));
    assert_eq!(ports(&sent), ["a1"]);
    assert_eq!(ethernet_of(&sent[0].1).destination, mac("a1"));
    let reply = arp::Message::parse(&sent[0].1.frame()[14..]).unwrap();
    assert_eq!(reply.operation, arp::Operation::Reply);
    assert_eq!((reply.sender_mac, reply.sender.to_string()), (gateway_mac("a"), "198.18.1.1".into()));
    assert_eq!((reply.target_mac, reply.target.to_string()), (mac("a1"), "198.18.1.10".into()));
}

#[test]
fn an_arp_probe_for_the_gateway_is_answered_and_not_learned() {
    let mut fabric = Fabric::two_networks();
    let mut probe = fabric.resolve("a1", "198.18.1.1");
    probe[28..32].fill(0);
    assert_eq!(fabric.receive_frame("a1", &probe).len(), 1);
    assert_eq!(fabric.stack.config().table_sizes("a", fabric.now).unwrap().1, 0);
}

#[test]
fn a_solicitation_for_the_gateway_is_advertised() {
    let mut fabric = Fabric::two_networks();
    for target in ["2001:db8:1::1".to_owned(), gateway_mac("a").link_local().to_string()] {
        let sent = fabric.receive_frame("a1", &fabric.resolve("a1", &target));
        assert_eq!(ports(&sent), ["a1"]);
        let frame = sent[0].1.frame();
        let (source, destination) = (target.parse().unwrap(), "2001:db8:1::a".parse().unwrap());
        assert_eq!(icmpv6::check(source, destination, &frame[54..]), Ok(icmpv6::NEIGHBOR_ADVERTISEMENT));
        let message = icmpv6::Neighbor::parse(&frame[54..]).unwrap();
        assert!(message.router && message.solicited && message.override_known);
        assert_eq!(message.link_layer, Some(gateway_mac("a")));
        assert_eq!(frame[21], 255);
    }
}

#[test]
fn discovery_that_crossed_a_router_is_refused() {
    let mut fabric = Fabric::two_networks();
    let mut question = fabric.resolve("a1", "2001:db8:1::1");
    question[21] = 254;
    assert!(fabric.receive_frame("a1", &question).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::NdMalformed), 1);
}

#[test]
fn the_gateway_answers_echo_in_both_families_and_for_its_other_networks() {
    let mut fabric = Fabric::two_networks();
    for destination in ["198.18.1.1", "2001:db8:1::1", "198.18.2.1", "2001:db8:2::1"] {
        let sent = fabric.receive_frame("a1", &fabric.echo("a1", destination));
        let (port, text) = &told(&sent)[0];
        assert_eq!(port, "a1");
        assert!(text.contains(&format!("{destination} >")) && text.contains("echo reply"), "{text}");
    }
}

#[test]
fn an_echo_with_a_wrong_checksum_is_not_answered() {
    let mut fabric = Fabric::two_networks();
    let mut frame = fabric.echo("a1", "198.18.1.1");
    frame[41] ^= 1;
    assert!(fabric.receive_frame("a1", &frame).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::IcmpChecksumBad), 1);
}

#[test]
fn an_echo_whose_checksum_was_left_open_is_answered_with_the_right_one() {
    let mut fabric = Fabric::two_networks();
    let mut frame = fabric.echo("a1", "2001:db8:1::1");
    let (source, gateway) = ("2001:db8:1::a".parse().unwrap(), "2001:db8:1::1".parse().unwrap());
    let pseudo = pseudo_header(IpAddr::V6(source), IpAddr::V6(gateway), ipv6::ICMPV6, frame.len() - 54);
    frame[56..58].copy_from_slice(&pseudo.folded().to_be_bytes());
    let mut packet = Packet::from_frame(&frame);
    packet.offload.checksum = Some(PartialChecksum { start: 54, offset: 2 });
    let sent = fabric.receive("a1", packet);
    assert_eq!(icmpv6::check(gateway, source, &sent[0].1.frame()[54..]), Ok(icmpv6::ECHO_REPLY));
}

#[test]
fn closed_ports_are_refused_the_way_hosts_do() {
    let mut fabric = Fabric::two_networks();
    for (protocol, destination, expected) in [
        (Protocol::Udp, "198.18.1.1", "ICMP port unreachable"),
        (Protocol::Udp, "2001:db8:1::1", "ICMPv6 port unreachable"),
        (Protocol::Tcp, "198.18.1.1", "TCP port 80 > 40000"),
        (Protocol::Tcp, "2001:db8:1::1", "TCP port 80 > 40000"),
    ] {
        let frame = fabric.frame("a1", |spec| {
            spec.protocol = protocol;
            spec.destination = destination.parse().unwrap();
        });
        let sent = fabric.receive_frame("a1", &frame);
        assert!(told(&sent)[0].1.contains(expected), "{:?}", told(&sent));
    }
    assert_eq!(fabric.dropped("a1", DropReason::GatewayPortClosed), 4);
}

#[test]
fn damaged_segments_and_datagrams_are_dropped_in_silence() {
    let mut fabric = Fabric::two_networks();
    let mut dropped = 0;
    for (destination, start) in [("198.18.1.1", 34), ("2001:db8:1::1", 54)] {
        for (protocol, checksum, length) in [(Protocol::Tcp, 16, 12), (Protocol::Udp, 6, 5)] {
            let frame = fabric.frame("a1", |spec| {
                spec.protocol = protocol;
                spec.destination = destination.parse().unwrap();
            });
            for at in [checksum, length] {
                let mut damaged = frame.clone();
                damaged[start + at] ^= 0xf0;
                assert!(fabric.receive_frame("a1", &damaged).is_empty(), "{destination} {protocol:?} {at}");
                dropped += 1;
                assert_eq!(fabric.dropped("a1", DropReason::TransportMalformed), dropped);
            }
            let mut damaged = Packet::from_frame(&frame);
            damaged.frame_mut()[start + checksum] ^= 0xf0;
            damaged.offload.verified = true;
            assert_eq!(fabric.receive("a1", damaged).len(), 1, "whoever verified it says that it is right");
        }
    }
    let mut without = fabric.frame("a1", |spec| spec.protocol = Protocol::Udp);
    without[40..42].fill(0);
    assert_eq!(fabric.receive_frame("a1", &without).len(), 1, "RFC 768: no checksum");
}

#[test]
fn an_unknown_next_header_is_told_of_but_not_the_one_that_says_nothing_follows() {
    let mut fabric = Fabric::two_networks();
    for (next, answers) in [(132, 1), (ipv6::NO_NEXT_HEADER, 0)] {
        let mut frame = fabric.echo("a1", "2001:db8:1::1");
        frame[20] = next;
        assert_eq!(fabric.receive_frame("a1", &frame).len(), answers, "{next}");
    }
    assert_eq!(fabric.dropped("a1", DropReason::GatewayPortClosed), 2);
}

#[test]
fn errors_are_not_sent_about_fragments_or_other_errors() {
    let mut fabric = Fabric::two_networks();
    let unroutable = |spec: &mut PacketSpec| {
        spec.destination = "203.0.113.1".parse().unwrap();
        spec.destination_mac = Some(gateway_mac("a"));
    };
    let mut fragment = fabric.frame("a1", unroutable);
    fragment[20..22].copy_from_slice(&[0, 5]);
    ipv4::fill_checksum(&mut fragment[14..34]);
    assert!(fabric.receive_frame("a1", &fragment).is_empty());
    let mut error = fabric.frame("a1", unroutable);
    error[34] = 3;
    assert!(fabric.receive_frame("a1", &error).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::NoRoute), 2);
}

#[test]
fn errors_are_rate_limited_and_the_limit_is_counted() {
    let mut fabric = Fabric::two_networks();
    let udp = fabric.frame("a1", |spec| spec.protocol = Protocol::Udp);
    let answers: usize = (0..200).map(|_| fabric.receive_frame("a1", &udp).len()).sum();
    assert_eq!(answers, 50);
    assert_eq!(fabric.stack.config().stack_counters()[0].icmp_errors_limited.get(), 150);
    fabric.advance(Duration::from_secs(1));
    assert_eq!(fabric.receive_frame("a1", &udp).len(), 1);
}
