//! Destinations that a worker remembers the way to: it is gone as soon as anything on it changes.

use super::*;
use crate::MacAddr;
use crate::config::{Hop, PolicyRule, RouteAction, RouteTable, StaticRoute};
use crate::testing::{mac, port};

/// Where an echo request from a1 to `destination` is sent: the port's name and the MAC address.
fn way(fabric: &mut Fabric, destination: &str) -> Vec<(String, MacAddr)> {
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", destination));
    sent.iter().map(|(port, packet)| (port.clone(), ethernet_of(packet).destination)).collect()
}

/// Two networks whose hosts have spoken, and a second port on network b.
fn introduced(change: impl FnOnce(&mut FabricSpec)) -> Fabric {
    let mut spec = testing::two_networks();
    spec.ports.push(port("b2", "b", 2, 11));
    change(&mut spec);
    let mut fabric = Fabric::new(&spec);
    for port in ["b1", "b2"] {
        fabric.introduce(port, ["198.18.2.1", "2001:db8:2::1"]);
    }
    fabric
}

fn remembered(fabric: &Fabric, destination: &str) -> bool {
    let router = fabric.stack.config().interfaces[0].router;
    fabric.stack.state.shortcuts.find(router, destination.parse().unwrap()).is_some()
}

fn via(hops: &[&str]) -> RouteAction {
    RouteAction::Via(hops.iter().map(|hop| Hop { address: hop.parse().unwrap(), weight: 1 }).collect())
}

fn default_route(hops: &[&str]) -> StaticRoute {
    StaticRoute { prefix: "0.0.0.0/0".parse().unwrap(), action: via(hops) }
}

#[test]
fn the_second_packet_goes_the_way_of_the_first() {
    let mut fabric = introduced(|spec| spec.routers[0].routes.push(default_route(&["198.18.2.10"])));
    for destination in ["198.18.2.10", "2001:db8:2::a", "203.0.113.9"] {
        let first = way(&mut fabric, destination);
        assert_eq!(first, [("b1".to_owned(), mac("b1"))]);
        assert!(remembered(&fabric, destination));
        assert_eq!(way(&mut fabric, destination), first);
    }
}

#[test]
fn a_neighbour_that_moves_is_followed_at_once() {
    let mut fabric = introduced(|spec| spec.ports.iter_mut().for_each(|port| port.source_check = false));
    for port in ["b1", "b2", "b1"] {
        fabric.claim(port, "198.18.2.50", "198.18.2.1");
        for _ in 0..2 {
            assert_eq!(way(&mut fabric, "198.18.2.50"), [(port.to_owned(), mac(port))]);
        }
        assert!(remembered(&fabric, "198.18.2.50"));
    }
}

#[test]
fn nothing_of_another_picture_is_remembered() {
    let mut fabric = introduced(|_| ());
    way(&mut fabric, "198.18.2.10");
    let mut spec = testing::two_networks();
    spec.ports.retain(|port| port.name != "b1");
    fabric.reconfigure(&spec);
    assert!(!remembered(&fabric, "198.18.2.10"));
    assert!(way(&mut fabric, "198.18.2.10").iter().all(|(port, _)| port != "b1"));
}

#[test]
fn a_way_is_looked_up_again_when_the_neighbour_is_due() {
    let mut fabric = introduced(|_| ());
    way(&mut fabric, "198.18.2.10");
    fabric.now = fabric.now + Duration::from_secs(3600);
    assert_eq!(way(&mut fabric, "198.18.2.10"), [("b1".to_owned(), mac("b1"))]);
    fabric.advance(Duration::from_secs(10));
    let asked = fabric.counted("arp_requests");
    assert!(asked > 0, "whether the neighbour is still there was asked");
}

#[test]
fn the_last_hop_of_a_packet_is_no_shortcut() {
    let mut fabric = introduced(|_| ());
    way(&mut fabric, "198.18.2.10");
    let last = fabric.frame("a1", |spec| {
        spec.destination = "198.18.2.10".parse().unwrap();
        spec.ttl = 1;
    });
    fabric.receive_frame("a1", &last);
    assert_eq!(fabric.dropped("a1", DropReason::TtlExpired), 1);
}

#[test]
fn ways_that_depend_on_more_than_the_destination_are_not_remembered() {
    let several = default_route(&["198.18.2.10", "198.18.2.11"]);
    let mut fabric = introduced(|spec| spec.routers[0].routes.push(several.clone()));
    assert_eq!(way(&mut fabric, "203.0.113.9").len(), 1);
    assert!(!remembered(&fabric, "203.0.113.9"));

    let mut fabric = introduced(|spec| {
        let router = &mut spec.routers[0];
        let routes = vec![default_route(&["198.18.2.10"])];
        router.tables.push(RouteTable { name: "other".into(), routes });
        let rule = PolicyRule { priority: 1, source: None, port: Some("a1".into()), table: "other".into() };
        router.rules.push(rule);
    });
    assert_eq!(way(&mut fabric, "203.0.113.9").len(), 1);
    assert!(!remembered(&fabric, "203.0.113.9"));
}

#[test]
fn a_trace_tells_all_stages_and_remembers_nothing() {
    let mut fabric = introduced(|_| ());
    let id = fabric.stack.config().port_by_name("a1").unwrap().id;
    let frame = fabric.echo("a1", "198.18.2.10");
    for known in [false, true] {
        let trace = fabric.stack.trace(fabric.now, id, &mut Packet::from_frame(&frame)).unwrap();
        assert!(trace.steps.iter().any(|step| step.stage == "neighbor"), "{:?}", trace.steps);
        assert_eq!(remembered(&fabric, "198.18.2.10"), known);
        way(&mut fabric, "198.18.2.10");
    }
}
