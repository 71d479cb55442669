//! Within a network: who gets which frame, and what is refused.

use super::*;
use crate::MacAddr;
use crate::config::PortSpec;
use crate::config::PortVlans;
use crate::packet::{Gso, GsoKind, PartialChecksum};
use crate::testing::{mac, tcp_frame};
use crate::wire::arp;

fn unchecked(spec: &mut FabricSpec) {
    spec.ports.iter_mut().for_each(|port| port.source_check = false);
}

fn with_source(mut frame: Vec<u8>, source: MacAddr) -> Vec<u8> {
    frame[6..12].copy_from_slice(&source.0);
    frame
}

#[test]
fn a_frame_for_a_port_reaches_it_alone_and_unchanged() {
    let mut fabric = Fabric::two_networks();
    let sent = fabric.receive_frame("a1", &tcp_frame(100));
    assert_eq!(ports(&sent), ["a2"]);
    assert_eq!(sent[0].1.frame(), tcp_frame(100));
}

#[test]
fn a_broadcast_reaches_every_other_port_of_the_network_and_no_other() {
    let mut fabric = Fabric::two_networks();
    let question = fabric.resolve("a1", "198.18.1.11");
    assert_eq!(ports(&fabric.receive_frame("a1", &question)), ["a2", "a3"]);
}

#[test]
fn an_unknown_station_is_flooded_until_it_was_heard_and_after_it_aged() {
    let mut spec = testing::two_networks();
    unchecked(&mut spec);
    let mut fabric = Fabric::new(&spec);
    let guest = MacAddr([2, 9, 9, 9, 9, 9]);
    let frame = fabric.frame("a1", |spec| {
        spec.destination = "198.18.1.99".parse().unwrap();
        spec.destination_mac = Some(guest);
    });
    assert_eq!(ports(&fabric.receive_frame("a1", &frame)), ["a2", "a3"]);
    fabric.receive_frame("a2", &with_source(fabric.echo("a2", "198.18.1.10"), guest));
    assert_eq!(ports(&fabric.receive_frame("a1", &frame)), ["a2"]);
    fabric.advance(Duration::from_secs(300));
    assert_eq!(ports(&fabric.receive_frame("a1", &frame)), ["a2", "a3"]);
}

#[test]
fn a_full_fdb_keeps_forwarding_and_says_so() {
    let mut spec = testing::two_networks();
    unchecked(&mut spec);
    let mut fabric = Fabric::new(&spec);
    for number in 0..1000u16 {
        let [high, low] = number.to_be_bytes();
        let frame = with_source(fabric.echo("a2", "198.18.1.10"), MacAddr([2, 1, 1, 1, high, low]));
        assert_eq!(ports(&fabric.receive_frame("a2", &frame)), ["a1"]);
    }
    let (macs, _) = fabric.stack.config().table_sizes("a", fabric.now).unwrap();
    assert_eq!(macs, 64 + 3);
    assert!(fabric.stack.config().stack_counters()[0].fdb_full.get() > 900);
    assert_eq!(ports(&fabric.receive_frame("a1", &tcp_frame(10))), ["a2"]);
}

#[test]
fn a_configured_address_cannot_be_taken_by_an_unchecked_port() {
    let mut spec = testing::two_networks();
    spec.ports[2].source_check = false;
    let mut fabric = Fabric::new(&spec);
    fabric.receive_frame("a3", &with_source(fabric.echo("a3", "198.18.1.10"), mac("a2")));
    assert_eq!(ports(&fabric.receive_frame("a1", &tcp_frame(10))), ["a2"]);
}

#[test]
fn foreign_sources_are_refused_by_name() {
    let mut fabric = Fabric::two_networks();
    let cases: Vec<(Vec<u8>, DropReason)> = vec![
        (with_source(fabric.echo("a1", "198.18.1.11"), mac("a2")), DropReason::SourceMacSpoofed),
        (with_source(fabric.echo("a1", "198.18.1.11"), MacAddr::BROADCAST), DropReason::SourceMacInvalid),
        (foreign(&fabric, "198.18.1.11", "198.18.1.12"), DropReason::SourceAddressSpoofed),
        (foreign(&fabric, "2001:db8:1::11", "2001:db8:1::12"), DropReason::SourceAddressSpoofed),
        (foreign(&fabric, "fe80::1", "2001:db8:1::12"), DropReason::SourceAddressSpoofed),
        (arp_claim("198.18.1.1"), DropReason::SourceAddressSpoofed),
        (advertisement(&fabric, 134), DropReason::RouterMessageSpoofed),
        (advertisement(&fabric, 137), DropReason::RouterMessageSpoofed),
    ];
    for (frame, reason) in cases {
        let before = fabric.dropped("a1", reason);
        assert!(fabric.receive_frame("a1", &frame).is_empty(), "{reason:?}");
        assert_eq!(fabric.dropped("a1", reason), before + 1, "{reason:?}");
    }
}

fn foreign(fabric: &Fabric, source: &str, destination: &str) -> Vec<u8> {
    fabric.frame("a1", |spec| {
        spec.source = Some(source.parse().unwrap());
        spec.destination = destination.parse().unwrap();
    })
}

fn arp_claim(address: &str) -> Vec<u8> {
    let mut frame = vec![0; 60];
    let header =
        ethernet::Header { destination: MacAddr::BROADCAST, source: mac("a1"), ethertype: ethernet::ARP };
    header.emit(&mut frame);
    let message = arp::Message {
        operation: arp::Operation::Reply,
        sender_mac: mac("a1"),
        sender: address.parse().unwrap(),
        target_mac: MacAddr::BROADCAST,
        target: address.parse().unwrap(),
    };
    message.emit(&mut frame[14..]);
    frame
}

/// An ICMPv6 message of this type from a1's link-local address to all nodes.
fn advertisement(fabric: &Fabric, kind: u8) -> Vec<u8> {
    let mut frame = fabric.frame("a1", |spec| {
        spec.source = Some(mac("a1").link_local().into());
        spec.destination = "ff02::1".parse().unwrap();
        spec.ttl = 255;
        spec.length = Some(56);
    });
    frame[54] = kind;
    frame
}

#[test]
fn a_port_without_addresses_may_use_what_is_nobody_elses() {
    let mut spec = testing::two_networks();
    spec.ports[0].addresses.clear();
    let mut fabric = Fabric::new(&spec);
    let free = foreign(&fabric, "198.18.1.77", "198.18.1.11");
    assert_eq!(ports(&fabric.receive_frame("a1", &free)), ["a2"]);
    for taken in ["198.18.1.11", "198.18.1.1"] {
        let frame = foreign(&fabric, taken, "198.18.1.12");
        assert!(fabric.receive_frame("a1", &frame).is_empty(), "{taken}");
    }
}

#[test]
fn access_vlans_keep_ports_apart() {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = PortVlans::Access(7);
    spec.ports[1].vlans = PortVlans::Access(7);
    spec.ports.push(PortSpec { vlans: PortVlans::Access(8), ..testing::port("a4", "a", 1, 13) });
    let mut fabric = Fabric::new(&spec);
    let question = fabric.resolve("a1", "198.18.1.1");
    assert_eq!(ports(&fabric.receive_frame("a1", &question)), ["a2"]);
}

#[test]
fn what_was_learned_on_a_port_does_not_follow_it_into_another_vlan() {
    let mut spec = testing::two_networks();
    unchecked(&mut spec);
    let mut fabric = Fabric::new(&spec);
    let guest = MacAddr([2, 9, 9, 9, 9, 9]);
    fabric.receive_frame("a2", &with_source(fabric.echo("a2", "198.18.1.10"), guest));
    let mut frame = tcp_frame(10);
    frame[..6].copy_from_slice(&guest.0);
    assert_eq!(ports(&fabric.receive_frame("a1", &frame)), ["a2"]);
    spec.ports[1].vlans = PortVlans::Access(7);
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a1", &frame)), ["a3"]);
}

#[test]
fn a_station_learned_on_a_port_that_went_meanwhile_is_flooded() {
    let mut spec = testing::two_networks();
    unchecked(&mut spec);
    let mut fabric = Fabric::new(&spec);
    let before = fabric.stack.config().clone();
    let guest = MacAddr([2, 9, 9, 9, 9, 9]);
    spec.ports.remove(1);
    let after = Arc::new(Config::build(&spec, Some(&before), 1).unwrap());
    // The worker still has the picture before when the one after is ready.
    fabric.receive_frame("a2", &with_source(fabric.echo("a2", "198.18.1.10"), guest));
    fabric.stack.set_config(after);
    let mut frame = tcp_frame(10);
    frame[..6].copy_from_slice(&guest.0);
    assert_eq!(ports(&fabric.receive_frame("a1", &frame)), ["a3"]);
}

#[test]
fn a_fragment_cannot_hide_a_router_advertisement() {
    let mut fabric = Fabric::two_networks();
    let plain = advertisement(&fabric, 134);
    for header in [[58, 0, 0, 0, 0, 0, 0, 1], [58, 0, 0, 1, 0, 0, 0, 1]] {
        let mut frame = plain.clone();
        frame.splice(54..54, header);
        let length = frame.len() as u16 - 54;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        frame[20] = 44;
        assert!(fabric.receive_frame("a1", &frame).is_empty());
    }
    assert_eq!(fabric.dropped("a1", DropReason::NdMalformed), 2);
    // The header chain goes on in a second fragment.
    let mut frame = plain[..54].to_vec();
    frame.extend([60, 0, 0, 1, 0, 0, 0, 1, 58, 0, 1, 4, 0, 0, 0, 0]);
    frame[18..20].copy_from_slice(&16u16.to_be_bytes());
    frame[20] = 44;
    assert!(fabric.receive_frame("a1", &frame).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::NdMalformed), 3);
}

#[test]
fn nobody_but_a_starting_host_speaks_from_the_unspecified_address() {
    let mut fabric = Fabric::two_networks();
    let from_nowhere = |kind: u8, fabric: &Fabric| {
        let mut frame = advertisement(fabric, kind);
        frame[22..38].fill(0);
        frame
    };
    // For routers, of which there is none.
    assert!(fabric.receive_frame("a1", &from_nowhere(143, &fabric)).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::SourceAddressSpoofed), 0);
    assert!(fabric.receive_frame("a1", &from_nowhere(128, &fabric)).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::SourceAddressSpoofed), 1);
}

#[test]
fn a_flooded_frame_is_right_for_ports_with_and_without_checksum_offload() {
    for without in [1, 2] {
        let mut spec = testing::two_networks();
        spec.ports[without].offloads = Default::default();
        let mut fabric = Fabric::new(&spec);
        let mut frame = tcp_frame(100);
        frame[..6].copy_from_slice(&MacAddr::BROADCAST.0);
        let mut packet = Packet::from_frame(&frame);
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
        let sent = fabric.receive("a1", packet);
        assert_eq!(ports(&sent), ["a2", "a3"]);
        assert!(sent.iter().all(|(_, packet)| packet.offload.checksum.is_none()));
        assert_eq!(sent[0].1.frame(), sent[1].1.frame());
    }
}

#[test]
fn reserved_groups_and_tags_are_not_forwarded() {
    let mut fabric = Fabric::two_networks();
    let mut frame = tcp_frame(10);
    frame[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    assert!(fabric.receive_frame("a1", &frame).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::ReservedMulticast), 1);
    let mut tagged = tcp_frame(10);
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    assert!(fabric.receive_frame("a1", &tagged).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::VlanNotAllowed), 1);
}

#[test]
fn a_super_packet_passes_whole_with_its_offload_state() {
    let mut fabric = Fabric::two_networks();
    let mut packet = Packet::from_frame(&tcp_frame(60_000));
    packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
    packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1448, header_length: 54, ecn: false });
    let offload = packet.offload;
    let sent = fabric.receive("a1", packet);
    assert_eq!(sent[0].1.len(), 60_054);
    assert_eq!(sent[0].1.offload, offload);
}

#[test]
fn a_device_without_checksum_offload_gets_it_computed() {
    let mut spec = testing::two_networks();
    spec.ports[1].offloads = Default::default();
    let mut fabric = Fabric::new(&spec);
    let mut packet = Packet::from_frame(&tcp_frame(100));
    packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
    let sent = fabric.receive("a1", packet);
    assert_eq!(sent[0].1.offload.checksum, None);
    assert_ne!(sent[0].1.frame()[50..52], [0, 0]);
}

#[test]
fn frames_larger_than_the_port_allows_are_dropped_by_name() {
    let mut spec = testing::two_networks();
    spec.ports[1].mtu = 1400;
    let mut fabric = Fabric::new(&spec);
    assert!(fabric.receive_frame("a1", &tcp_frame(1461)).is_empty());
    assert!(fabric.receive_frame("a1", &tcp_frame(1400)).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::FrameTooLong), 2);
    assert_eq!(fabric.receive_frame("a1", &tcp_frame(1360)).len(), 1);
}

proptest::proptest! {
    #[test]
    fn no_frame_makes_the_stack_panic(
        mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        to_gateway in proptest::prelude::any::<bool>(),
        checked in proptest::prelude::any::<bool>(),
        ethertype in proptest::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100]),
    ) {
        let mut spec = testing::two_networks();
        spec.ports[0].source_check = checked;
        let mut fabric = Fabric::new(&spec);
        if bytes.len() >= 60 {
            let destination = if to_gateway { testing::gateway_mac("a") } else { mac("a2") };
            ethernet::Header { destination, source: mac("a1"), ethertype }.emit(&mut bytes);
            let rest = bytes.len() as u16 - 14;
            match ethertype {
                0x0800 => {
                    bytes[14] = 0x45 + bytes[14] % 4;
                    bytes[16..18].copy_from_slice(&rest.to_be_bytes());
                }
                0x86dd => {
                    bytes[14] = 0x60;
                    bytes[18..20].copy_from_slice(&(rest - 40).to_be_bytes());
                }
                _ => {}
            }
        }
        fabric.receive_frame("a1", &bytes);
    }
}
