//! Whether neighbours are still there, whose the gateway's addresses are, and what a scan costs.

use std::net::Ipv6Addr;

use super::*;
use crate::MacAddr;
use crate::config::PortSpec;
use crate::testing::{gateway_mac, mac};
use crate::wire::{arp, icmpv6, ipv6};

const GATEWAYS_B: [&str; 2] = ["198.18.2.1", "2001:db8:2::1"];
const ELSEWHERE: MacAddr = MacAddr([2, 9, 9, 9, 9, 9]);
const SECOND: Duration = Duration::from_secs(1);

/// An ARP message of a port without source check.
fn arp(destination: MacAddr, operation: arp::Operation, sender: (MacAddr, &str), target: &str) -> Vec<u8> {
    let mut frame = vec![0; 14 + arp::LENGTH];
    ethernet::Header { destination, source: sender.0, ethertype: ethernet::ARP }.emit(&mut frame);
    let message = arp::Message {
        operation,
        sender_mac: sender.0,
        sender: sender.1.parse().unwrap(),
        target_mac: MacAddr::default(),
        target: target.parse().unwrap(),
    };
    message.emit(&mut frame[14..]);
    frame
}

fn gratuitous(mac: MacAddr, address: &str) -> Vec<u8> {
    arp(MacAddr::BROADCAST, arp::Operation::Request, (mac, address), address)
}

/// An unsolicited advertisement to all nodes.
fn advertisement(mac: MacAddr, address: &str) -> Vec<u8> {
    advertise(mac, address, MacAddr::ipv6_multicast(ipv6::ALL_NODES), ipv6::ALL_NODES)
}

/// The answer of b1 to a question of its gateway.
fn answer() -> Vec<u8> {
    advertise(mac("b1"), "2001:db8:2::a", gateway_mac("b"), "2001:db8:2::1".parse().unwrap())
}

fn advertise(mac: MacAddr, address: &str, to: MacAddr, group: Ipv6Addr) -> Vec<u8> {
    let address = address.parse().unwrap();
    let mut frame = vec![0; 14 + 40 + icmpv6::NEIGHBOR_LENGTH];
    ethernet::Header { destination: to, source: mac, ethertype: ethernet::IPV6 }.emit(&mut frame);
    let fields = ipv6::Fields {
        payload_length: icmpv6::NEIGHBOR_LENGTH,
        next_header: ipv6::ICMPV6,
        hop_limit: 255,
        source: address,
        destination: group,
    };
    fields.emit(&mut frame[14..]);
    let message = icmpv6::Neighbor {
        solicitation: false,
        router: false,
        solicited: !group.is_multicast(),
        override_known: true,
        target: address,
        link_layer: Some(mac),
    };
    message.emit(address, group, &mut frame[54..]);
    frame
}

/// Two networks whose port b2 may say what it likes, and has no addresses.
fn with_unchecked_b2() -> FabricSpec {
    let mut spec = testing::two_networks();
    let b2 = testing::port("b2", "b", 2, 99);
    spec.ports.push(PortSpec { addresses: Vec::new(), source_check: false, ..b2 });
    spec
}

fn conflicts(fabric: &Fabric) -> u64 {
    fabric.stack.config().stack_counters()[0].address_conflicts.get()
}

/// To which MAC address an echo request of a1 goes, and by which port.
fn echo_goes(fabric: &mut Fabric, destination: &str) -> Option<(String, MacAddr)> {
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", destination));
    let echo =
        sent.into_iter().find(|(_, packet)| trace::describe(packet.frame()).contains("echo request"))?;
    Some((echo.0, ethernet_of(&echo.1).destination))
}

#[test]
fn a_neighbour_that_is_gone_is_probed_three_times_and_then_asked_for_from_the_beginning() {
    for (destination, question) in [("198.18.2.10", "ARP who has"), ("2001:db8:2::a", "ICMPv6 who has")] {
        let mut fabric = Fabric::two_networks();
        fabric.introduce("b1", GATEWAYS_B);
        assert!(echo_goes(&mut fabric, destination).is_some());
        for wait in [5, 1, 1] {
            let sent = fabric.advance(SECOND * wait);
            assert_eq!(ports(&sent), ["b1"]);
            assert_eq!(ethernet_of(&sent[0].1).destination, mac("b1"), "a question to b1 alone");
            assert!(echo_goes(&mut fabric, destination).is_some(), "packets go on flowing");
        }
        assert!(fabric.advance(SECOND).is_empty());
        let sent = fabric.receive_frame("a1", &fabric.echo("a1", destination));
        assert!(told(&sent)[0].1.contains(question), "{:?}", told(&sent));
        assert!(ethernet_of(&sent[0].1).destination.is_multicast());
        assert_eq!(fabric.stack.config().stack_counters()[0].neighbor_failures.get(), 1);
    }
}

#[test]
fn a_neighbour_that_answers_its_probe_stays() {
    let mut fabric = Fabric::two_networks();
    fabric.introduce("b1", GATEWAYS_B);
    assert!(echo_goes(&mut fabric, "198.18.2.10").is_some());
    assert_eq!(fabric.advance(SECOND * 5).len(), 1);
    let reply = arp(gateway_mac("b"), arp::Operation::Reply, (mac("b1"), "198.18.2.10"), "198.18.2.1");
    fabric.receive_frame("b1", &reply);
    assert!(fabric.advance(SECOND * 10).is_empty());
    assert!(echo_goes(&mut fabric, "198.18.2.10").is_some());
    assert_eq!(fabric.stack.poll_at(), None, "it is reachable: nothing is to be asked");
}

#[test]
fn for_a_while_nobody_asks_for_who_did_not_answer() {
    let mut fabric = Fabric::two_networks();
    fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.50"));
    (0..3).for_each(|_| drop(fabric.advance(SECOND)));
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.50"));
    assert_eq!(ports(&sent), ["a1"]);
    assert!(told(&sent)[0].1.contains("host unreachable"), "{:?}", told(&sent));
    assert_eq!(fabric.dropped("a1", DropReason::NeighborUnreachable), 2);
    fabric.advance(SECOND * 3);
    let sent = fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.50"));
    assert!(told(&sent)[0].1.contains("who has 198.18.2.50?"), "{:?}", told(&sent));
}

#[test]
fn a_port_that_gets_the_address_is_asked_at_once() {
    let mut spec = testing::two_networks();
    let mut fabric = Fabric::new(&spec);
    fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.50"));
    (0..3).for_each(|_| drop(fabric.advance(SECOND)));
    spec.ports.push(testing::port("b2", "b", 2, 50));
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a1", &fabric.echo("a1", "198.18.2.50"))), ["b2"]);
}

#[test]
fn neighbours_behind_a_port_that_is_removed_are_forgotten_at_once() {
    let mut spec = with_unchecked_b2();
    let mut fabric = Fabric::new(&spec);
    let question = arp(MacAddr::BROADCAST, arp::Operation::Request, (ELSEWHERE, "198.18.2.77"), "198.18.2.1");
    fabric.receive_frame("b2", &question);
    assert_eq!(echo_goes(&mut fabric, "198.18.2.77"), Some(("b2".into(), ELSEWHERE)));
    spec.ports.pop();
    fabric.reconfigure(&spec);
    assert_eq!(echo_goes(&mut fabric, "198.18.2.77"), None);
}

#[test]
fn a_neighbour_whose_mac_address_changed_is_found_at_the_new_one() {
    let mut fabric = Fabric::new(&with_unchecked_b2());
    let from = |mac| arp(MacAddr::BROADCAST, arp::Operation::Request, (mac, "198.18.2.77"), "198.18.2.1");
    fabric.receive_frame("b2", &from(mac("b2")));
    assert_eq!(echo_goes(&mut fabric, "198.18.2.77"), Some(("b2".into(), mac("b2"))));
    fabric.receive_frame("b2", &gratuitous(ELSEWHERE, "198.18.2.77"));
    assert_eq!(echo_goes(&mut fabric, "198.18.2.77"), Some(("b2".into(), ELSEWHERE)));
}

#[test]
fn who_is_not_spoken_to_for_ten_minutes_is_forgotten() {
    let mut fabric = Fabric::beginning(&testing::two_networks());
    fabric.advance(Duration::ZERO);
    fabric.introduce("b1", GATEWAYS_B);
    let known = |fabric: &Fabric| fabric.stack.config().table_sizes("b", fabric.now).unwrap().1;
    (0..9).for_each(|_| drop(fabric.advance(SECOND * 60)));
    assert_eq!(known(&fabric), 2);
    (0..2).for_each(|_| drop(fabric.advance(SECOND * 60)));
    assert_eq!(known(&fabric), 0);
}

#[test]
fn a_new_gateway_says_whose_its_addresses_are() {
    let spec = testing::two_networks();
    let mut fabric = Fabric::beginning(&spec);
    let mut heard = Vec::new();
    for _ in 0..5 {
        let sent = fabric.advance(if heard.is_empty() { Duration::ZERO } else { SECOND });
        heard.extend(sent.into_iter().filter(|(port, _)| port == "b1"));
    }
    let told = told(&heard);
    let count = |text: &str| told.iter().filter(|(_, line)| line.contains(text)).count();
    assert_eq!(count("ARP who has 198.18.2.1? tell 198.18.2.1"), 2);
    assert_eq!(count("ICMPv6 2001:db8:2::1 is here"), 3);
    assert_eq!(count(&format!("ICMPv6 {} is here", gateway_mac("b").link_local())), 3);
    let first =
        &heard.iter().zip(&told).find(|(_, (_, line))| line.contains("2001:db8:2::1 is here")).unwrap().0.1;
    let message = icmpv6::Neighbor::parse(&first.frame()[54..]).unwrap();
    assert!(message.override_known && message.router && !message.solicited);
    assert_eq!(icmpv6::check(message.target, ipv6::ALL_NODES, &first.frame()[54..]), Ok(136));
    fabric.reconfigure(&spec);
    assert!(fabric.advance(SECOND).is_empty(), "nothing changed");
}

#[test]
fn a_gateway_whose_mac_address_changed_says_so() {
    let mut spec = testing::two_networks();
    let mut fabric = Fabric::new(&spec);
    spec.networks[1].gateway_mac = ELSEWHERE;
    fabric.reconfigure(&spec);
    let sent = fabric.advance(Duration::ZERO);
    assert!(sent.iter().all(|(port, packet)| port == "b1" && ethernet_of(packet).source == ELSEWHERE));
    assert_eq!(sent.len(), 3);
}

#[test]
fn a_port_with_the_address_of_one_that_is_gone_says_so() {
    let mut spec = testing::two_networks();
    spec.ports.push(testing::port("b2", "b", 2, 20));
    let mut fabric = Fabric::new(&spec);
    spec.ports.pop();
    fabric.reconfigure(&spec);
    assert!(fabric.advance(SECOND).is_empty(), "nobody has it");
    spec.ports.push(PortSpec { mac: ELSEWHERE, ..testing::port("b3", "b", 2, 20) });
    fabric.reconfigure(&spec);
    let mut heard = fabric.advance(Duration::ZERO);
    (0..5).for_each(|_| heard.extend(fabric.advance(SECOND)));
    assert!(heard.iter().all(|(port, packet)| port == "b1" && ethernet_of(packet).source == ELSEWHERE));
    let told = told(&heard);
    let count = |text: &str| told.iter().filter(|(_, line)| line.contains(text)).count();
    assert_eq!(count("ARP who has 198.18.2.20? tell 198.18.2.20"), 2);
    assert_eq!(count("ICMPv6 2001:db8:2::14 is here"), 3);
    assert_eq!(told.len(), 5);
    let first = heard.iter().zip(&told).find(|(_, (_, line))| line.contains("ICMPv6")).unwrap().0;
    let message = icmpv6::Neighbor::parse(&first.1.frame()[54..]).unwrap();
    assert!(message.override_known && !message.router && !message.solicited);
}

#[test]
fn a_port_that_stays_or_comes_back_as_it_was_says_nothing() {
    let mut spec = testing::two_networks();
    let mut fabric = Fabric::new(&spec);
    let b2 = testing::port("b2", "b", 2, 20);
    spec.ports.push(b2.clone());
    fabric.reconfigure(&spec);
    assert!(fabric.advance(Duration::ZERO).is_empty(), "nobody knew it");
    spec.ports.pop();
    fabric.reconfigure(&spec);
    spec.ports.push(b2.clone());
    fabric.reconfigure(&spec);
    assert!(fabric.advance(Duration::ZERO).is_empty(), "whoever knew it knows it still");
    spec.ports.pop();
    spec.ports.push(PortSpec { mac: ELSEWHERE, addresses: Vec::new(), ..b2 });
    fabric.reconfigure(&spec);
    assert!(fabric.advance(Duration::ZERO).is_empty(), "it has no address");
}

#[test]
fn the_gateway_defends_its_addresses_also_against_ports_that_are_not_checked() {
    let mut fabric = Fabric::new(&with_unchecked_b2());
    for (claim, expected) in [
        (gratuitous(ELSEWHERE, "198.18.2.1"), "ARP who has 198.18.2.1? tell 198.18.2.1"),
        (advertisement(ELSEWHERE, "2001:db8:2::1"), "ICMPv6 2001:db8:2::1 is here"),
    ] {
        let sent = fabric.receive_frame("b2", &claim);
        assert_eq!(ports(&sent), ["b1", "b2"]);
        assert!(told(&sent).iter().all(|(_, line)| line.contains(expected)), "{:?}", told(&sent));
        assert!(fabric.receive_frame("b2", &claim).is_empty(), "once in ten seconds");
        fabric.advance(SECOND * 10);
        assert_eq!(fabric.receive_frame("b2", &claim).len(), 2);
    }
    assert_eq!(fabric.dropped("b2", DropReason::GatewayAddressClaimed), 6);
    assert_eq!(conflicts(&fabric), 6);
}

#[test]
fn the_same_gateway_on_another_node_is_no_conflict() {
    let mut fabric = Fabric::new(&with_unchecked_b2());
    let sent = fabric.receive_frame("b2", &gratuitous(gateway_mac("b"), "198.18.2.1"));
    assert_eq!((conflicts(&fabric), fabric.dropped("b2", DropReason::GatewayAddressClaimed)), (0, 0));
    assert_eq!(ports(&sent), ["b1"], "it is no question, and goes on to all: {:?}", told(&sent));
}

#[test]
fn what_one_port_says_about_the_configured_address_of_another_is_not_believed() {
    let mut fabric = Fabric::new(&with_unchecked_b2());
    fabric.introduce("b1", GATEWAYS_B);
    fabric.receive_frame("b2", &gratuitous(ELSEWHERE, "198.18.2.10"));
    fabric.receive_frame("b2", &advertisement(ELSEWHERE, "2001:db8:2::a"));
    assert_eq!(conflicts(&fabric), 2);
    for destination in ["198.18.2.10", "2001:db8:2::a"] {
        assert_eq!(echo_goes(&mut fabric, destination), Some(("b1".into(), mac("b1"))));
    }
}

#[test]
fn a_scan_of_a_whole_64_leaves_memory_bounded_and_neighbours_in_use_reachable() {
    let mut fabric = Fabric::two_networks();
    fabric.introduce("b1", GATEWAYS_B);
    let config = fabric.stack.config().clone();
    let mut asked = 0;
    for second in 0..20u32 {
        for host in 0..500u32 {
            let scan = fabric.echo("a1", &format!("2001:db8:2::{second:x}:{host:x}:1"));
            asked += fabric.receive_frame("a1", &scan).len();
        }
        assert!(config.table_sizes("b", fabric.now).unwrap().1 <= 64);
        assert!(fabric.stack.state.timers.len() <= 3 * 2400, "{}", fabric.stack.state.timers.len());
        assert!(echo_goes(&mut fabric, "2001:db8:2::a").is_some(), "in second {second}");
        let next = fabric.now + SECOND;
        while fabric.stack.poll_at().is_some_and(|at| at <= next) {
            let due = fabric.stack.poll_at().unwrap().since(fabric.now);
            let sent = fabric.advance(due);
            if sent.iter().any(|(_, packet)| ethernet_of(packet).destination == mac("b1")) {
                fabric.receive_frame("b1", &answer());
            }
        }
        fabric.now = next;
    }
    assert!(asked > 1000, "the scan was held back: {asked}");
    let counters = &config.stack_counters()[0];
    assert!(counters.neighbor_evictions.get() > 1000, "{}", counters.neighbor_evictions.get());
}
