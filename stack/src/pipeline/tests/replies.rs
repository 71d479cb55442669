//! How the router's answers and errors find the one that they are for, and from which address they come.

use super::*;
use crate::config::{Hop, RouteAction, StaticRoute};
use crate::testing::gateway_mac;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

const GATEWAYS_A: [&str; 2] = ["198.18.1.1", "2001:db8:1::1"];
const GATEWAYS_B: [&str; 2] = ["198.18.2.1", "2001:db8:2::1"];

/// The two networks; b1 forwards for others, so that its sources are not checked.
fn with_a_forwarder(routes: &[(&str, &str)]) -> Fabric {
    let mut spec = testing::two_networks();
    spec.ports[3].source_check = false;
    spec.routers[0].routes = routes
        .iter()
        .map(|(prefix, hop)| StaticRoute {
            prefix: prefix.parse().unwrap(),
            action: RouteAction::Via(vec![Hop { address: hop.parse().unwrap(), weight: 1 }]),
        })
        .collect();
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", GATEWAYS_B);
    fabric
}

/// An echo request that b1 forwards for `source`.
fn forwarded(fabric: &Fabric, source: &str, destination: &str, ttl: u8) -> Vec<u8> {
    fabric.frame("b1", |spec| {
        spec.source = Some(source.parse().unwrap());
        spec.destination = destination.parse().unwrap();
        spec.destination_mac = Some(gateway_mac("b"));
        spec.ttl = ttl;
    })
}

/// Port, source and destination, and the ICMP type of what left.
fn seen(sent: &[Sent]) -> (&str, String, String, u8) {
    let [(port, packet)] = sent else { panic!("{:?}", told(sent)) };
    let bytes = &packet.frame()[14..];
    match bytes[0] >> 4 {
        4 => {
            let header = ipv4::Header::parse(bytes).unwrap();
            assert!(ipv4::checksum_is_valid(&bytes[..20]) && icmpv4::check(&bytes[20..]).is_ok());
            (port, header.source.to_string(), header.destination.to_string(), bytes[20])
        }
        _ => {
            let header = ipv6::Header::parse(bytes).unwrap();
            icmpv6::check(header.source, header.destination, &bytes[40..]).unwrap();
            (port, header.source.to_string(), header.destination.to_string(), bytes[40])
        }
    }
}

#[test]
fn an_error_goes_to_the_packets_source_and_not_to_who_forwarded_it() {
    let mut fabric = with_a_forwarder(&[]);
    fabric.introduce("a1", GATEWAYS_A);
    let expired = fabric.receive_frame("b1", &forwarded(&fabric, "198.18.1.10", "198.18.1.11", 1));
    let told = |address: &str| address.to_owned();
    assert_eq!(seen(&expired), ("a1", told("198.18.1.1"), told("198.18.1.10"), 11));
    assert_eq!(ethernet_of(&expired[0].1).source, gateway_mac("a"));
    let expired = fabric.receive_frame("b1", &forwarded(&fabric, "2001:db8:1::a", "2001:db8:1::b", 1));
    assert_eq!(seen(&expired), ("a1", told("2001:db8:1::1"), told("2001:db8:1::a"), 3));
    assert_eq!(expired[0].1.frame()[14 + 7], 64, "the hop limit is whole");
}

#[test]
fn an_answer_takes_the_route_to_its_asker() {
    let mut fabric =
        with_a_forwarder(&[("203.0.113.0/24", "198.18.1.10"), ("2001:db8:f::/48", "2001:db8:1::a")]);
    fabric.introduce("a1", GATEWAYS_A);
    for (asker, asked) in [("203.0.113.9", "198.18.2.1"), ("2001:db8:f::9", "2001:db8:2::1")] {
        let sent = fabric.receive_frame("b1", &forwarded(&fabric, asker, asked, 64));
        let (port, source, destination, _) = seen(&sent);
        assert_eq!((port, source.as_str(), destination.as_str()), ("a1", asked, asker));
    }
}

#[test]
fn what_cannot_be_routed_back_is_not_answered() {
    let mut fabric = with_a_forwarder(&[]);
    for (asker, asked) in
        [("203.0.113.9", "198.18.2.1"), ("203.0.113.9", "192.0.2.1"), ("2001:db8:f::9", "2001:db8:2::1")]
    {
        let sent = fabric.receive_frame("b1", &forwarded(&fabric, asker, asked, 64));
        assert!(sent.is_empty(), "{asker} asks {asked}: {:?}", told(&sent));
    }
    assert_eq!(fabric.dropped("b1", DropReason::NoRoute), 3);
}

#[test]
fn an_answer_waits_until_its_next_hop_is_known() {
    let mut fabric = with_a_forwarder(&[]);
    let asked = fabric.receive_frame("b1", &forwarded(&fabric, "198.18.1.10", "198.18.2.1", 64));
    assert!(told(&asked).iter().all(|(_, what)| what.contains("198.18.1.10")), "{:?}", told(&asked));
    // a1's own question tells where it is; the answer to it comes with the one that waited.
    let question = fabric.resolve("a1", "198.18.1.1");
    let sent = fabric.receive_frame("a1", &question);
    let reply = sent.iter().find(|(_, packet)| packet.frame()[12..14] == [8, 0]).unwrap();
    assert_eq!(seen(std::slice::from_ref(reply)).0, "a1");
    assert_eq!(reply.1.frame()[14 + 8], 64, "the TTL is whole");
}

#[test]
fn nobody_is_told_of_an_answer_that_found_no_neighbour() {
    let mut fabric = with_a_forwarder(&[]);
    fabric.receive_frame("b1", &forwarded(&fabric, "198.18.1.77", "198.18.2.1", 64));
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.extend(fabric.advance(Duration::from_secs(1)));
    }
    assert!(sent.iter().all(|(_, packet)| packet.frame()[12..14] == [8, 6]), "{:?}", told(&sent));
    assert_eq!(fabric.dropped("b1", DropReason::NeighborUnreachable), 1);
}

#[test]
fn a_long_answer_is_cut_for_the_way_that_it_takes() {
    let mut spec = testing::two_networks();
    spec.networks[0].mtu = 1280;
    spec.ports[0].mtu = 1280;
    spec.ports[3].source_check = false;
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("a1", GATEWAYS_A);
    for (asker, asked) in [("198.18.1.10", "198.18.2.1"), ("2001:db8:1::a", "2001:db8:2::1")] {
        let request = fabric.frame("b1", |spec| {
            spec.source = Some(asker.parse().unwrap());
            spec.destination = asked.parse().unwrap();
            spec.length = Some(1450);
            spec.dont_fragment = true;
        });
        let sent = fabric.receive_frame("b1", &request);
        assert_eq!(ports(&sent), ["a1", "a1"], "{asker}");
        assert!(sent.iter().all(|(_, packet)| packet.len() <= 14 + 1280));
    }
}

#[test]
fn the_first_address_of_a_v6_subnet_is_any_of_its_routers() {
    let mut fabric = Fabric::two_networks();
    let sent = fabric.receive_frame("a1", &fabric.resolve("a1", "2001:db8:1::"));
    let [(port, packet)] = &sent[..] else { panic!("{:?}", told(&sent)) };
    let message = icmpv6::Neighbor::parse(&packet.frame()[54..]).unwrap();
    assert_eq!(port, "a1");
    assert_eq!(message.link_layer, Some(gateway_mac("a")));
    assert!(message.router && message.solicited && !message.override_known, "{message:?}");
    let source = ipv6::Header::parse(&packet.frame()[14..]).unwrap().source;
    assert_eq!(source.to_string(), "2001:db8:1::1", "one of its own");
    for (asked, answers) in [("2001:db8:1::", "2001:db8:1::1"), ("2001:db8:2::", "2001:db8:1::1")] {
        let request = fabric.frame("a1", |spec| {
            spec.destination = asked.parse().unwrap();
            spec.destination_mac = Some(gateway_mac("a"));
        });
        let sent = fabric.receive_frame("a1", &request);
        assert_eq!(seen(&sent), ("a1", answers.to_owned(), "2001:db8:1::a".to_owned(), 129), "{asked}");
        let syn = fabric.frame("a1", |spec| {
            spec.destination = asked.parse().unwrap();
            spec.destination_mac = Some(gateway_mac("a"));
            spec.protocol = Protocol::Tcp;
        });
        assert!(fabric.receive_frame("a1", &syn).is_empty(), "no connection is with several");
    }
}

#[test]
fn several_routers_may_claim_the_address_that_they_share() {
    let mut spec = testing::two_networks();
    spec.ports[0].source_check = false;
    let mut fabric = Fabric::new(&spec);
    let mut claim = fabric.frame("a1", |spec| {
        spec.destination = "2001:db8:1::b".parse().unwrap();
        spec.length = Some(72);
    });
    claim[14 + 7] = 255;
    let message = icmpv6::Neighbor {
        solicitation: false,
        router: true,
        solicited: false,
        override_known: false,
        target: "2001:db8:1::".parse().unwrap(),
        link_layer: Some(testing::mac("a1")),
    };
    let (source, destination) = ("2001:db8:1::a".parse().unwrap(), "2001:db8:1::b".parse().unwrap());
    message.emit(source, destination, &mut claim[54..]);
    assert_eq!(ports(&fabric.receive_frame("a1", &claim)), ["a2"]);
    assert_eq!(fabric.dropped("a1", DropReason::GatewayAddressClaimed), 0);
}
