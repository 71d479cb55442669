//! Which addresses a port may have, and which stay where they are.

use super::*;
use crate::config::StaticMac;
use crate::testing::{mac, tcp_frame};

fn unchecked() -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.ports.iter_mut().for_each(|port| port.source_check = false);
    spec
}

fn guest(number: u8) -> MacAddr {
    MacAddr([2, 9, 9, 9, 9, number])
}

/// A frame to a3 from a guest.
fn from_guest(number: u8) -> Vec<u8> {
    addressed(tcp_frame(10), mac("a3"), guest(number))
}

fn to_guest(number: u8) -> Vec<u8> {
    addressed(tcp_frame(10), guest(number), mac("a3"))
}

#[test]
fn a_static_address_is_found_without_having_spoken_and_does_not_move() {
    let mut spec = unchecked();
    spec.networks[0].static_macs.push(StaticMac { mac: guest(1), vlan: 0, port: "a2".into() });
    let mut fabric = Fabric::new(&spec);
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(1))), ["a2"]);
    assert_eq!(ports(&fabric.receive_frame("a1", &from_guest(1))), ["a3"], "forwarded, not learned");
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(1))), ["a2"]);
    fabric.advance(Duration::from_secs(1000));
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(1))), ["a2"], "it does not age");
}

#[test]
fn a_static_address_of_a_port_without_a_device_is_unknown() {
    let mut spec = unchecked();
    spec.networks[0].static_macs.push(StaticMac { mac: guest(1), vlan: 0, port: "later".into() });
    spec.networks[0].static_macs.push(StaticMac { mac: guest(2), vlan: 0, port: "b1".into() });
    let mut fabric = Fabric::new(&spec);
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(1))), ["a1", "a2"]);
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(2))), ["a1", "a2"], "a port of another network");
    spec.ports.push(testing::port("later", "a", 1, 60));
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(1))), ["later"]);
}

#[test]
fn a_static_entry_does_not_take_a_ports_own_address() {
    let mut spec = unchecked();
    spec.networks[0].static_macs.push(StaticMac { mac: mac("a2"), vlan: 0, port: "a1".into() });
    let mut fabric = Fabric::new(&spec);
    assert_eq!(ports(&fabric.receive_frame("a1", &tcp_frame(10))), ["a2"]);
}

#[test]
fn a_port_speaks_with_as_many_addresses_as_it_may() {
    let mut spec = unchecked();
    spec.ports[0].max_macs = Some(2);
    let mut fabric = Fabric::new(&spec);
    for (number, allowed) in [(1, true), (2, true), (3, false), (1, true)] {
        assert_eq!(!fabric.receive_frame("a1", &from_guest(number)).is_empty(), allowed, "guest {number}");
    }
    assert_eq!(fabric.dropped("a1", DropReason::MacLimit), 1);
    assert_eq!(ports(&fabric.receive_frame("a1", &tcp_frame(10))), ["a2"], "its own address does not count");
    fabric.reconfigure(&spec);
    assert!(fabric.receive_frame("a1", &from_guest(3)).is_empty(), "the count goes on");
    fabric.advance(Duration::from_secs(301));
    assert!(!fabric.receive_frame("a1", &from_guest(3)).is_empty(), "the others have aged");
}

#[test]
fn an_address_that_moves_away_makes_room_at_once() {
    let mut spec = unchecked();
    spec.ports[0].max_macs = Some(1);
    let mut fabric = Fabric::new(&spec);
    fabric.receive_frame("a1", &from_guest(1));
    assert!(fabric.receive_frame("a1", &from_guest(2)).is_empty());
    fabric.receive_frame("a2", &from_guest(1));
    assert!(!fabric.receive_frame("a1", &from_guest(2)).is_empty());
    assert!(fabric.receive_frame("a1", &from_guest(1)).is_empty(), "and it may not come back");
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(1))), ["a2"]);
}

#[test]
fn a_port_that_comes_back_begins_anew() {
    let mut spec = unchecked();
    spec.ports[0].max_macs = Some(1);
    let mut fabric = Fabric::new(&spec);
    fabric.receive_frame("a1", &from_guest(1));
    let a1 = spec.ports.remove(0);
    fabric.reconfigure(&spec);
    spec.ports.push(a1);
    fabric.reconfigure(&spec);
    assert!(!fabric.receive_frame("a1", &from_guest(2)).is_empty());
}

#[test]
fn a_flapping_address_is_damped_and_the_others_are_not() {
    let mut fabric = Fabric::new(&unchecked());
    fabric.receive_frame("a1", &from_guest(1));
    fabric.receive_frame("a1", &from_guest(2));
    for round in 0..10 {
        let on = ["a2", "a1"][round % 2];
        fabric.receive_frame(on, &from_guest(1));
    }
    // The fifth move was to a2: there it stays.
    assert_eq!((fabric.counted("mac_moves"), fabric.counted("macs_damped")), (5, 1));
    assert_eq!(fabric.dropped("a1", DropReason::MacMoveDamped), 3);
    assert_eq!(fabric.dropped("a2", DropReason::MacMoveDamped), 0);
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(1))), ["a2"]);
    fabric.receive_frame("a2", &from_guest(2));
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(2))), ["a2"]);
    fabric.advance(Duration::from_secs(31));
    assert!(!fabric.receive_frame("a1", &from_guest(1)).is_empty());
    assert_eq!(ports(&fabric.receive_frame("a3", &to_guest(1))), ["a1"]);
}

#[test]
fn a_trace_learns_nothing_and_is_not_limited() {
    let mut spec = unchecked();
    spec.ports[0].max_macs = Some(1);
    let mut fabric = Fabric::new(&spec);
    let id = fabric.stack.config().port_by_name("a1").unwrap().id;
    for number in 1..4 {
        let mut packet = Packet::from_frame(&from_guest(number));
        fabric.stack.trace(fabric.now, id, &mut packet).unwrap();
    }
    assert!(!fabric.receive_frame("a1", &from_guest(9)).is_empty());
}
