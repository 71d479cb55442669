//! Isolated ports, and frames that nobody takes.

use super::*;
use crate::testing::{mac, tcp_frame};

/// a1 and a2 are isolated, a3 is not.
fn isolated() -> Fabric {
    let mut spec = testing::two_networks();
    spec.ports[0].isolated = true;
    spec.ports[1].isolated = true;
    Fabric::new(&spec)
}

fn to(destination: MacAddr, from: &str) -> Vec<u8> {
    let mut frame = addressed(tcp_frame(10), destination, mac(from));
    frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    frame
}

#[test]
fn isolated_ports_do_not_reach_each_other() {
    let mut fabric = isolated();
    assert!(fabric.receive_frame("a1", &to(mac("a2"), "a1")).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::PortIsolated), 1);
    for many in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 1, 1, 1]), MacAddr([2, 9, 9, 9, 9, 9])] {
        assert_eq!(ports(&fabric.receive_frame("a1", &to(many, "a1"))), ["a3"]);
        assert_eq!(ports(&fabric.receive_frame("a3", &to(many, "a3"))), ["a1", "a2"]);
    }
}

#[test]
fn isolated_ports_reach_the_others_and_the_gateway() {
    let mut fabric = isolated();
    assert_eq!(ports(&fabric.receive_frame("a1", &to(mac("a3"), "a1"))), ["a3"]);
    assert_eq!(ports(&fabric.receive_frame("a3", &to(mac("a2"), "a3"))), ["a2"]);
    fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    let ping = fabric.echo("b1", "198.18.1.10");
    assert_eq!(ports(&fabric.receive_frame("b1", &ping)), ["a1"]);
}

#[test]
fn what_the_gateway_routes_between_isolated_ports_passes() {
    let mut fabric = isolated();
    fabric.introduce("a2", ["198.18.1.1", "2001:db8:1::1"]);
    let through = fabric.frame("a1", |spec| {
        spec.destination = "198.18.1.11".parse().unwrap();
        spec.destination_mac = Some(testing::gateway_mac("a"));
    });
    assert_eq!(ports(&fabric.receive_frame("a1", &through)), ["a2"]);
}

#[test]
fn a_frame_to_many_that_nobody_may_have_is_counted() {
    let mut spec = testing::two_networks();
    spec.ports.remove(2);
    spec.ports[0].isolated = true;
    spec.ports[1].isolated = true;
    let mut fabric = Fabric::new(&spec);
    for (many, count) in [(MacAddr::BROADCAST, 1), (MacAddr([2, 9, 9, 9, 9, 9]), 2)] {
        assert!(fabric.receive_frame("a1", &to(many, "a1")).is_empty());
        assert_eq!(fabric.dropped("a1", DropReason::NoOtherPort), count);
    }
}

#[test]
fn a_flood_that_no_port_can_take_is_counted_where_it_would_leave() {
    let mut spec = testing::two_networks();
    spec.ports[1].mtu = 100;
    spec.ports[2].mtu = 100;
    let mut fabric = Fabric::new(&spec);
    assert!(fabric.receive_frame("a1", &addressed(tcp_frame(500), MacAddr::BROADCAST, mac("a1"))).is_empty());
    let counts = ["a1", "a2", "a3"].map(|port| fabric.dropped(port, DropReason::FrameTooLong));
    assert_eq!((counts, fabric.dropped("a1", DropReason::NoOtherPort)), ([0, 1, 1], 0));
}

#[test]
fn a_routed_packet_whose_vlan_has_no_port_is_counted() {
    let mut spec = testing::two_networks();
    spec.ports.retain(|port| port.name == "b1" || port.name == "a1");
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    spec.ports[0].vlans = crate::config::PortVlans::Access(7);
    // What the gateway knows is kept for a moment by who has not let go of the picture before.
    let config = Config::build(&spec, Some(fabric.stack.config()), 1).unwrap();
    fabric.stack = Stack::new(0, Arc::new(config));
    let ping = fabric.echo("b1", "198.18.1.10");
    assert!(fabric.receive_frame("b1", &ping).is_empty());
    assert_eq!(fabric.dropped("b1", DropReason::NoOtherPort), 1);
}
