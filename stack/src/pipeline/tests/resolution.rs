//! Finding neighbours: what the gateway believes, whom it asks, and what becomes of packets that wait.

use super::*;
use crate::config::PortSpec;
use crate::config::PortVlans;
use crate::testing::mac;
use crate::wire::{icmpv6, ipv6};
use crate::{MacAddr, Prefix};

const GATEWAYS_B: [&str; 2] = ["198.18.2.1", "2001:db8:2::1"];
const ELSEWHERE: MacAddr = MacAddr([2, 9, 9, 9, 9, 9]);

/// The MAC address that a routed packet to b1 goes to.
fn next_mac(fabric: &mut Fabric, destination: &str) -> Option<MacAddr> {
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", destination));
    let echo = sent.iter().zip(told(&sent)).find(|(_, (_, text))| text.contains("echo request"));
    echo.map(|((_, packet), _)| ethernet_of(packet).destination)
}

/// An advertisement by b1 to all nodes that its address is at `at`.
fn advertisement(at: MacAddr, override_known: bool, solicited: bool) -> Vec<u8> {
    let (source, group) = ("2001:db8:2::a".parse().unwrap(), "ff02::1".parse().unwrap());
    let mut frame = vec![0; 14 + 40 + icmpv6::NEIGHBOR_LENGTH];
    let destination = MacAddr::ipv6_multicast(group);
    ethernet::Header { destination, source: mac("b1"), ethertype: ethernet::IPV6 }.emit(&mut frame);
    let fields = ipv6::Fields {
        payload_length: icmpv6::NEIGHBOR_LENGTH,
        next_header: ipv6::ICMPV6,
        hop_limit: 255,
        source,
        destination: group,
    };
    fields.emit(&mut frame[14..]);
    let message = icmpv6::Neighbor {
        solicitation: false,
        router: false,
        solicited,
        override_known,
        target: source,
        link_layer: Some(at),
    };
    message.emit(source, group, &mut frame[54..]);
    frame
}

fn unchecked_b1() -> Fabric {
    let mut spec = testing::two_networks();
    spec.ports[3].source_check = false;
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", GATEWAYS_B);
    fabric
}

#[test]
fn an_advertisement_to_all_moves_a_neighbour_only_with_override() {
    let mut fabric = unchecked_b1();
    assert_eq!(next_mac(&mut fabric, "2001:db8:2::a"), Some(mac("b1")));
    fabric.receive_frame("b1", &advertisement(ELSEWHERE, false, false));
    assert_eq!(next_mac(&mut fabric, "2001:db8:2::a"), Some(mac("b1")));
    fabric.receive_frame("b1", &advertisement(ELSEWHERE, true, true));
    assert_eq!(next_mac(&mut fabric, "2001:db8:2::a"), Some(mac("b1")), "solicited, but to a group");
    fabric.receive_frame("b1", &advertisement(ELSEWHERE, true, false));
    assert_eq!(next_mac(&mut fabric, "2001:db8:2::a"), Some(ELSEWHERE));
}

#[test]
fn a_question_from_another_subnet_makes_no_neighbour() {
    let mut spec = testing::two_networks();
    spec.ports[0].source_check = false;
    let mut fabric = Fabric::new(&spec);
    for (source, gateway) in [("203.0.113.5", "198.18.1.1"), ("2001:db8:77::5", "2001:db8:1::1")] {
        let question = fabric.frame("a1", |spec| {
            spec.source = Some(source.parse().unwrap());
            spec.destination = gateway.parse().unwrap();
            spec.protocol = Protocol::Resolve;
        });
        assert_eq!(fabric.receive_frame("a1", &question).len(), 1);
    }
    assert_eq!(fabric.stack.config().table_sizes("a", fabric.now).unwrap().1, 0);
}

#[test]
fn an_address_that_another_port_takes_over_is_found_there_at_once() {
    let mut spec = testing::two_networks();
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", GATEWAYS_B);
    assert_eq!(next_mac(&mut fabric, "198.18.2.10"), Some(mac("b1")));
    spec.ports[3] = testing::port("b9", "b", 2, 10);
    fabric.reconfigure(&spec);
    for destination in ["198.18.2.10", "2001:db8:2::a"] {
        let sent = fabric.receive_frame("a1", &fabric.echo("a1", destination));
        assert_eq!(ports(&sent), ["b9"]);
        assert!(told(&sent)[0].1.contains("who has"), "{:?}", told(&sent));
    }
}

#[test]
fn an_owner_in_another_vlan_is_not_asked() {
    let mut spec = testing::two_networks();
    spec.ports.push(PortSpec { vlans: PortVlans::Access(7), ..testing::port("b7", "b", 2, 77) });
    let mut fabric = Fabric::new(&spec);
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.77"));
    assert_eq!(ports(&sent), ["b1"]);
}

#[test]
fn a_stale_neighbour_is_asked_on_its_own_port_whatever_else_is_asked_for() {
    let mut spec = testing::two_networks();
    spec.ports.push(PortSpec { addresses: Vec::new(), ..testing::port("b2", "b", 2, 11) });
    let mut fabric = Fabric::new(&spec);
    let question = fabric.frame("b2", |spec| {
        spec.source = Some("198.18.2.50".parse().unwrap());
        spec.destination = "198.18.2.1".parse().unwrap();
        spec.protocol = Protocol::Resolve;
    });
    fabric.receive_frame("b2", &question);
    fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.50"));
    fabric.now = fabric.now + Duration::from_secs(5);
    while fabric.stack.state.limits.solicitations.allow(fabric.now) {}
    let sent = fabric.advance(Duration::ZERO);
    assert_eq!(ports(&sent), ["b2"]);
    assert!(told(&sent)[0].1.contains("who has 198.18.2.50?"));
}

/// Networks with a table for two neighbours, and a question out for 198.18.2.100 with a packet waiting.
fn nearly_full() -> Fabric {
    let mut spec = testing::two_networks();
    spec.networks[1].max_neighbors = 2;
    let mut fabric = Fabric::new(&spec);
    fabric.receive_frame("a1", &to(&fabric, 100));
    fabric
}

fn to(fabric: &Fabric, host: u32) -> Vec<u8> {
    fabric.echo("a1", &format!("198.18.2.{host}"))
}

#[test]
fn a_packet_whose_question_goes_early_is_counted() {
    let mut fabric = nearly_full();
    for host in [101, 102, 103] {
        fabric.receive_frame("a1", &to(&fabric, host));
    }
    assert_eq!(fabric.dropped("a1", DropReason::NeighborTableFull), 2);
    assert_eq!(fabric.stack.config().stack_counters()[0].neighbor_evictions.get(), 2);
}

#[test]
fn a_scan_is_held_to_a_rate_and_sets_no_more_timers() {
    let mut spec = testing::two_networks();
    spec.networks[1].subnets[0].prefix = Prefix::new([198, 19, 0, 0].into(), 16).unwrap();
    spec.networks[1].subnets[0].gateway = Some([198, 19, 0, 1].into());
    let mut fabric = Fabric::new(&spec);
    let asked: usize = (0..2000u32)
        .map(|host| format!("198.19.{}.{}", 1 + host / 250, 1 + host % 250))
        .map(|destination| {
            let frame = fabric.echo("a1", &destination);
            fabric.receive_frame("a1", &frame).len()
        })
        .sum();
    assert_eq!(asked, 400);
    assert_eq!(fabric.dropped("a1", DropReason::NeighborTableFull), 2000 - 64);
    assert_eq!(fabric.stack.state.timers.len(), 400);
    // Whoever is known by configuration is asked all the same.
    spec.ports[3].addresses = vec![[198, 19, 0, 10].into()];
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a1", &fabric.echo("a1", "198.19.0.10"))), ["b1"]);
}

#[test]
fn refused_connections_do_not_keep_the_gateway_from_asking() {
    let mut fabric = Fabric::two_networks();
    let syn = fabric.frame("a1", |spec| spec.protocol = Protocol::Tcp);
    (0..1000).for_each(|_| drop(fabric.receive_frame("a1", &syn)));
    let sent = fabric.receive_frame("a1", &to(&fabric, 100));
    assert_eq!(ports(&sent), ["b1"]);
}

#[test]
fn what_is_due_at_once_is_done_in_batches() {
    let mut spec = testing::two_networks();
    spec.networks[1].max_neighbors = 1024;
    let mut fabric = Fabric::new(&spec);
    for host in 20..(20 + BATCH as u32 + 10) {
        fabric.receive_frame("a1", &to(&fabric, host));
    }
    assert_eq!(fabric.advance(Duration::from_secs(1)).len(), BATCH);
    assert!(fabric.stack.poll_at().is_some_and(|at| at <= fabric.now));
    fabric.advance(Duration::ZERO);
    assert!(fabric.stack.poll_at().is_some_and(|at| at > fabric.now));
}

#[test]
fn a_packet_to_a_network_without_ports_is_counted() {
    let mut spec = testing::two_networks();
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", GATEWAYS_B);
    spec.ports.truncate(3);
    fabric.reconfigure(&spec);
    assert!(fabric.receive_frame("a1", &to(&fabric, 10)).is_empty());
    (0..3).for_each(|_| drop(fabric.advance(Duration::from_secs(1))));
    assert_eq!(fabric.dropped("a1", DropReason::NeighborUnreachable), 1);
}
