//! Proxy ARP and neighbour discovery: for whom the gateway answers beside itself.

use super::*;
use crate::config::{Hop, RouteAction, StaticRoute};
use crate::testing::{gateway_mac, mac};
use crate::wire::{arp, icmpv6};

/// Network `a` proxies; routes lead from `b` to 203.0.113.0/24 and 2001:db8:77::/48, and from `a` to 192.0.2.0/24;
/// 198.51.100.0/24 is a black hole.
fn proxying() -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.networks[0].proxy_neighbors = true;
    let via = |prefix: &str, hop: &str| StaticRoute {
        prefix: prefix.parse().unwrap(),
        action: RouteAction::Via(vec![Hop { address: hop.parse().unwrap(), weight: 1 }]),
    };
    spec.routers[0].routes = vec![
        via("203.0.113.0/24", "198.18.2.10"),
        via("2001:db8:77::/48", "2001:db8:2::a"),
        via("192.0.2.0/24", "198.18.1.12"),
        StaticRoute { prefix: "198.51.100.0/24".parse().unwrap(), action: RouteAction::Blackhole },
    ];
    spec
}

fn asks(fabric: &mut Fabric, target: &str) -> Vec<Sent> {
    let question = fabric.resolve("a1", target);
    fabric.receive_frame("a1", &question)
}

#[test]
fn the_gateway_answers_for_what_is_behind_another_interface() {
    let mut fabric = Fabric::new(&proxying());
    for target in ["198.18.2.10", "198.18.2.1", "203.0.113.7"] {
        let sent = asks(&mut fabric, target);
        assert_eq!(ports(&sent), ["a1"], "{target}");
        let reply = arp::Message::parse(&sent[0].1.frame()[14..]).unwrap();
        assert_eq!((reply.sender.to_string().as_str(), reply.sender_mac), (target, gateway_mac("a")));
        assert_eq!((reply.target_mac, reply.target.to_string()), (mac("a1"), "198.18.1.10".into()));
    }
    for target in ["2001:db8:2::a", "2001:db8:77:1::7"] {
        let sent = asks(&mut fabric, target);
        assert_eq!(ports(&sent), ["a1"], "{target}");
        let source = "2001:db8:1::1".parse().unwrap();
        let frame = sent[0].1.frame();
        assert_eq!(icmpv6::check(source, "2001:db8:1::a".parse().unwrap(), &frame[54..]), Ok(136));
        let message = icmpv6::Neighbor::parse(&frame[54..]).unwrap();
        assert_eq!(
            (message.target.to_string().as_str(), message.link_layer),
            (target, Some(gateway_mac("a")))
        );
        assert!(message.solicited && !message.override_known, "who has the address knows better");
    }
    assert_eq!(fabric.stack.config().stack_counters()[0].proxy_answers.get(), 5);
}

#[test]
fn packets_to_whom_it_answers_for_are_routed() {
    let mut fabric = Fabric::new(&proxying());
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    let frame = fabric.frame("a1", |spec| {
        spec.destination = "203.0.113.7".parse().unwrap();
        spec.destination_mac = Some(gateway_mac("a"));
    });
    assert_eq!(ports(&fabric.receive_frame("a1", &frame)), ["b1"]);
}

#[test]
fn it_does_not_answer_for_what_is_on_the_link_or_nowhere() {
    let mut fabric = Fabric::new(&proxying());
    let same_link = ["198.18.1.11", "198.18.1.77", "192.0.2.7", "2001:db8:1::b", "2001:db8:1::77"];
    let nowhere = ["198.51.100.7", "100.64.0.1", "169.254.1.1", "2001:db8:99::1", "fe80::7"];
    for target in same_link.into_iter().chain(nowhere) {
        let sent = asks(&mut fabric, target);
        assert_eq!(ports(&sent), ["a2", "a3"], "{target}");
    }
    assert_eq!(fabric.stack.config().stack_counters()[0].proxy_answers.get(), 0);
}

#[test]
fn isolated_ports_are_not_brought_together() {
    let mut spec = proxying();
    spec.ports[0].isolated = true;
    spec.ports[1].isolated = true;
    let mut fabric = Fabric::new(&spec);
    assert_eq!(ports(&asks(&mut fabric, "198.18.1.11")), ["a3"]);
}

#[test]
fn who_looks_whether_an_address_is_free_or_tells_of_its_own_is_not_answered() {
    let mut fabric = Fabric::new(&proxying());
    let mut probe = fabric.resolve("a1", "203.0.113.7");
    probe[28..32].fill(0);
    assert_eq!(ports(&fabric.receive_frame("a1", &probe)), ["a2", "a3"]);
    let mut spec = proxying();
    spec.ports[0].source_check = false;
    let mut fabric = Fabric::new(&spec);
    let mut announcement = fabric.resolve("a1", "203.0.113.7");
    announcement[28..32].copy_from_slice(&[203, 0, 113, 7]);
    assert_eq!(ports(&fabric.receive_frame("a1", &announcement)), ["a2", "a3"]);
    let mut detection = fabric.resolve("a1", "2001:db8:77::7");
    detection.truncate(78);
    detection[19] = 24;
    detection[22..38].fill(0);
    let group = crate::wire::ipv6::solicited_node("2001:db8:77::7".parse().unwrap());
    icmpv6::fill_checksum(std::net::Ipv6Addr::UNSPECIFIED, group, &mut detection[54..]);
    assert_eq!(ports(&fabric.receive_frame("a1", &detection)), ["a2", "a3"]);
}

#[test]
fn a_network_that_does_not_ask_for_it_has_no_proxy() {
    let mut spec = proxying();
    spec.networks[0].proxy_neighbors = false;
    let mut fabric = Fabric::new(&spec);
    for target in ["203.0.113.7", "2001:db8:77::7"] {
        assert_eq!(ports(&asks(&mut fabric, target)), ["a2", "a3"]);
    }
}
