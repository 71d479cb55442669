//! Neighbours that are known for good, and IPv4 routes by IPv6 next hops (RFC 8950): nobody is asked for anything.

use super::*;
use crate::config::{Hop, RouteAction, StaticMac, StaticRoute};
use crate::testing::{gateway_mac, mac};
use crate::wire::ipv4;

/// The gateways of two other nodes.
const FAR: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 7, 2]), MacAddr([2, 0, 0, 0, 7, 3])];
const HOP: &str = "2001:db8:2::99";

/// Network `b` has only an IPv6 subnet. 203.0.113.0/24 and 2001:db8:77::/64 are behind [`HOP`], which is for good at
/// the address `at`, if any; both addresses of [`FAR`] are at b1.
fn overlay(at: Option<MacAddr>) -> FabricSpec {
    let mut spec = testing::two_networks();
    let network = &mut spec.networks[1];
    network.subnets.remove(0);
    network.static_macs = FAR.iter().map(|mac| StaticMac { mac: *mac, vlan: 0, port: "b1".into() }).collect();
    network.static_neighbors = Arc::new(at.map(|mac| (HOP.parse().unwrap(), mac)).into_iter().collect());
    spec.ports[3].addresses.remove(0);
    spec.ports[3].source_check = false;
    let hop = Hop { address: HOP.parse().unwrap(), weight: 1 };
    for prefix in ["203.0.113.0/24", "2001:db8:77::/64"] {
        let route = StaticRoute { prefix: prefix.parse().unwrap(), action: RouteAction::Via(vec![hop]) };
        spec.routers[0].routes.push(route);
    }
    spec
}

/// The address that a packet from a1 is sent to.
fn destination(fabric: &mut Fabric, to: &str) -> Vec<MacAddr> {
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", to));
    sent.iter().map(|(_, packet)| ethernet_of(packet).destination).collect()
}

/// b1 says to the gateway that the next hop is at b1 itself (a neighbour solicitation with its address).
fn claim(fabric: &mut Fabric) -> Vec<Sent> {
    let question = fabric.frame("b1", |spec| {
        spec.source = Some(HOP.parse().unwrap());
        spec.destination = "2001:db8:2::1".parse().unwrap();
        spec.protocol = Protocol::Resolve;
    });
    fabric.receive_frame("b1", &question)
}

#[test]
fn packets_of_both_families_go_at_once_and_nobody_is_asked() {
    let mut fabric = Fabric::new(&overlay(Some(FAR[0])));
    for to in ["203.0.113.5", "2001:db8:77::5", HOP] {
        for _ in 0..3 {
            let sent = fabric.receive_frame("a1", &fabric.echo("a1", to));
            assert_eq!(ports(&sent), ["b1"], "{to}");
            let header = ethernet_of(&sent[0].1);
            assert_eq!((header.source, header.destination), (gateway_mac("b"), FAR[0]), "{to}");
        }
    }
    fabric.advance(Duration::from_secs(3600));
    assert_eq!(destination(&mut fabric, "203.0.113.5"), [FAR[0]], "also after a long time");
    assert_eq!((fabric.counted("arp_requests"), fabric.counted("neighbor_solicitations")), (0, 0));
}

#[test]
fn an_ipv4_packet_stays_one_on_its_way_by_an_ipv6_next_hop() {
    let mut fabric = Fabric::new(&overlay(Some(FAR[0])));
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", "203.0.113.5"));
    let frame = sent[0].1.frame();
    assert_eq!(frame[12..14], [8, 0], "an IPv4 packet by its EtherType");
    let header = ipv4::Header::parse(&frame[14..]).unwrap();
    assert_eq!((header.source.to_string(), header.ttl), ("198.18.1.10".to_owned(), 63));
    assert!(ipv4::checksum_is_valid(&frame[14..34]));
}

#[test]
fn the_way_by_a_next_hop_of_another_family_is_remembered() {
    let mut fabric = Fabric::new(&overlay(Some(FAR[0])));
    destination(&mut fabric, "203.0.113.5");
    let router = fabric.stack.config().interfaces[0].router;
    assert!(fabric.stack.state.shortcuts.find(router, "203.0.113.5".parse().unwrap()).is_some());
}

#[test]
fn an_ipv6_next_hop_that_is_not_known_is_asked_for_by_discovery() {
    let mut fabric = Fabric::new(&overlay(None));
    let asked = told(&fabric.receive_frame("a1", &fabric.echo("a1", "203.0.113.5")));
    assert!(asked[0].1.contains(&format!("who has {HOP}?")), "{asked:?}");
    let sent = claim(&mut fabric);
    let echo = told(&sent).into_iter().find(|(_, text)| text.contains("203.0.113.5"));
    assert!(echo.is_some(), "what waited goes: {:?}", told(&sent));
}

#[test]
fn a_change_holds_for_the_next_packet() {
    let mut fabric = Fabric::new(&overlay(Some(FAR[0])));
    assert_eq!(destination(&mut fabric, "203.0.113.5"), [FAR[0]]);
    fabric.reconfigure(&overlay(Some(FAR[1])));
    for to in ["203.0.113.5", HOP] {
        assert_eq!(destination(&mut fabric, to), [FAR[1]], "{to}");
    }
    fabric.reconfigure(&overlay(None));
    let asked = told(&fabric.receive_frame("a1", &fabric.echo("a1", HOP)));
    assert!(asked[0].1.contains("who has"), "{asked:?}");
}

#[test]
fn a_packet_that_waits_goes_when_its_next_hop_becomes_known_for_good() {
    let mut fabric = Fabric::new(&overlay(None));
    fabric.receive_frame("a1", &fabric.echo("a1", "203.0.113.5"));
    fabric.reconfigure(&overlay(Some(FAR[0])));
    let sent = fabric.advance(Duration::from_secs(1));
    let header = sent.first().map(|(_, packet)| ethernet_of(packet).destination);
    assert_eq!((sent.len(), header), (1, Some(FAR[0])), "{:?}", told(&sent));
    assert!(fabric.advance(Duration::from_secs(10)).is_empty(), "and nobody is asked again");
}

#[test]
fn what_is_heard_does_not_override_it_and_is_counted() {
    let mut fabric = Fabric::new(&overlay(Some(FAR[0])));
    claim(&mut fabric);
    assert_eq!(fabric.counted("address_conflicts"), 1);
    assert_eq!(destination(&mut fabric, "203.0.113.5"), [FAR[0]]);
    assert_eq!(fabric.stack.config().table_sizes("b", fabric.now).unwrap().1, 0);
    // The same again is no conflict.
    fabric.reconfigure(&overlay(Some(mac("b1"))));
    claim(&mut fabric);
    assert_eq!(fabric.counted("address_conflicts"), 1);
}

#[test]
fn what_was_heard_before_gives_way() {
    let mut fabric = Fabric::new(&overlay(None));
    claim(&mut fabric);
    assert_eq!(destination(&mut fabric, "203.0.113.5"), [mac("b1")]);
    fabric.reconfigure(&overlay(Some(FAR[0])));
    assert_eq!(destination(&mut fabric, "203.0.113.5"), [FAR[0]]);
}

#[test]
fn a_trace_says_that_it_is_known_for_good() {
    let mut fabric = Fabric::new(&overlay(Some(FAR[0])));
    let id = fabric.stack.config().port_by_name("a1").unwrap().id;
    let mut packet = Packet::from_frame(&fabric.echo("a1", "203.0.113.5"));
    let trace = fabric.stack.trace(fabric.now, id, &mut packet).unwrap();
    let step = trace.steps.iter().find(|step| step.stage == "neighbor").unwrap();
    assert_eq!(step.message, format!("{HOP} on network b is at {} for good", FAR[0]));
}

#[test]
fn an_error_by_an_interface_without_ipv4_comes_from_another_address_of_the_router() {
    let mut fabric = Fabric::new(&overlay(Some(FAR[0])));
    // From a container of the far node, by its gateway; nobody has a route to where it goes.
    let mut frame = fabric.frame("a1", |spec| {
        spec.source = Some("203.0.113.5".parse().unwrap());
        spec.destination = "192.0.2.1".parse().unwrap();
    });
    frame = addressed(frame, gateway_mac("b"), FAR[0]);
    let sent = fabric.receive_frame("b1", &frame);
    assert_eq!(ports(&sent), ["b1"]);
    assert_eq!(ethernet_of(&sent[0].1).destination, FAR[0]);
    let text = &told(&sent)[0].1;
    assert!(text.contains("198.18.1.1 > 203.0.113.5") && text.contains("net unreachable"), "{text}");
}

#[test]
fn a_packet_too_large_for_the_overlay_is_told_of_by_the_containers_gateway() {
    let mut spec = overlay(Some(FAR[0]));
    spec.networks[1].mtu = 1400;
    let mut fabric = Fabric::new(&spec);
    let frame = fabric.frame("a1", |spec| {
        spec.destination = "203.0.113.5".parse().unwrap();
        spec.length = Some(1500);
        spec.dont_fragment = true;
    });
    let sent = fabric.receive_frame("a1", &frame);
    assert_eq!(ports(&sent), ["a1"]);
    let error = &sent[0].1.frame()[14..];
    assert_eq!((&error[12..16], &error[20..22]), (&[198, 18, 1, 1][..], &[3, 4][..]), "fragmentation needed");
    assert_eq!(error[26..28], [0x05, 0x78], "an MTU of 1400");
}

#[test]
fn descriptions_share_their_neighbours_with_the_picture() {
    let spec = overlay(Some(FAR[0]));
    let fabric = Fabric::new(&spec);
    let interface = fabric.stack.config().interfaces.iter().find(|it| it.mac == gateway_mac("b")).unwrap();
    assert!(Arc::ptr_eq(&interface.static_neighbors, &spec.networks[1].static_neighbors));
}
