//! VLANs: access ports, trunks, tunnels and the router's interfaces on them.

use super::*;
use crate::config::{PortSpec, PortVlans, SubnetSpec, UNTAGGED, VlanSet};
use crate::packet::{Gso, GsoKind, PartialChecksum};
use crate::wire::vlan::{self, Tci};

fn trunk(native: Option<u16>, allowed: &[u16]) -> PortVlans {
    let allowed: VlanSet = allowed.iter().copied().collect();
    PortVlans::Trunk { native, allowed: Box::new(allowed) }
}

fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    let mut packet = Packet::from_frame(frame);
    packet.dress(Some(Tci(tci)));
    packet.frame().to_vec()
}

/// Network `a` with a1 on VLAN 10, a2 a trunk of 10 and 20 with native untagged, a3 on VLAN 20, a4 untagged.
fn trunked() -> Fabric {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = PortVlans::Access(10);
    spec.ports[1].vlans = trunk(Some(UNTAGGED), &[10, 20]);
    spec.ports[2].vlans = PortVlans::Access(20);
    spec.ports.push(testing::port("a4", "a", 1, 13));
    Fabric::new(&spec)
}

fn broadcast(from: &str) -> Vec<u8> {
    let mut frame = testing::tcp_frame(20);
    let header =
        ethernet::Header { destination: MacAddr::BROADCAST, source: testing::mac(from), ethertype: 0x88b5 };
    header.emit(&mut frame);
    frame
}

#[test]
fn a_trunk_gets_tags_and_an_access_port_does_not() {
    let mut fabric = trunked();
    let sent = fabric.receive_frame("a1", &broadcast("a1"));
    assert_eq!(ports(&sent), ["a2"]);
    assert_eq!(sent[0].1.frame(), tagged(&broadcast("a1"), 10));
    let sent = fabric.receive_frame("a2", &tagged(&broadcast("a2"), 0x6014));
    assert_eq!(ports(&sent), ["a3"]);
    assert_eq!(sent[0].1.frame(), broadcast("a2"));
}

#[test]
fn the_native_vlan_goes_without_a_tag() {
    let mut fabric = trunked();
    let sent = fabric.receive_frame("a4", &broadcast("a4"));
    assert_eq!((ports(&sent), sent[0].1.frame()), (vec!["a2"], &broadcast("a4")[..]));
    let priority_tagged = fabric.receive_frame("a2", &tagged(&broadcast("a2"), 0xe000));
    assert_eq!((ports(&priority_tagged), priority_tagged[0].1.frame()), (vec!["a4"], &broadcast("a2")[..]));
}

#[test]
fn a_trunk_keeps_the_priority_of_a_tag() {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = trunk(None, &[10]);
    spec.ports[1].vlans = trunk(None, &[10]);
    spec.ports[2].vlans = trunk(None, &[20]);
    let mut fabric = Fabric::new(&spec);
    let frame = tagged(&broadcast("a1"), 0xb00a);
    let sent = fabric.receive_frame("a1", &frame);
    assert_eq!((ports(&sent), sent[0].1.frame()), (vec!["a2"], &frame[..]));
}

#[test]
fn what_a_port_may_not_send_is_dropped_by_name() {
    let mut spec = testing::two_networks();
    spec.ports[1].vlans = trunk(None, &[10]);
    let mut fabric = Fabric::new(&spec);
    assert!(fabric.receive_frame("a1", &tagged(&broadcast("a1"), 10)).is_empty());
    assert!(fabric.receive_frame("a2", &tagged(&broadcast("a2"), 11)).is_empty());
    assert!(fabric.receive_frame("a2", &broadcast("a2")).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::VlanNotAllowed), 1);
    assert_eq!(fabric.dropped("a2", DropReason::VlanNotAllowed), 1);
    assert_eq!(fabric.dropped("a2", DropReason::UntaggedNotAllowed), 1);
}

#[test]
fn a_mac_address_is_learned_in_each_vlan_by_itself() {
    let mut fabric = trunked();
    let to_a2 = |vlan: u16| {
        let mut frame = broadcast("a1");
        frame[..6].copy_from_slice(&testing::mac("a2").0);
        tagged(&frame, vlan)
    };
    let answer = |from: &str| {
        let mut frame = broadcast(from);
        frame[..6].copy_from_slice(&testing::mac("a2").0);
        frame
    };
    // The trunk speaks on 10: known there, unknown on 20 until it speaks there too.
    fabric.receive_frame("a2", &tagged(&broadcast("a2"), 10));
    let on_10 = fabric.receive_frame("a1", &answer("a1"));
    assert_eq!(on_10[0].1.frame(), {
        let expected = to_a2(10);
        assert_eq!(vlan::outer(&expected), Some(Tci(10)));
        expected
    });
    assert_eq!(fabric.stack.config().table_sizes("a", fabric.now).unwrap().0, 4 + 1);
    fabric.receive_frame("a2", &tagged(&broadcast("a2"), 20));
    assert_eq!(fabric.stack.config().table_sizes("a", fabric.now).unwrap().0, 4 + 2);
}

#[test]
fn a_super_packet_gets_its_tag_with_the_offsets_moved() {
    let mut fabric = trunked();
    let mut frame = testing::tcp_frame(3000);
    frame[..6].copy_from_slice(&MacAddr::BROADCAST.0);
    let mut packet = Packet::from_frame(&frame);
    packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
    packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1448, header_length: 54, ecn: false });
    let sent = fabric.receive("a1", packet);
    let out = &sent[0].1;
    assert_eq!((sent.len(), out.frame()), (1, &tagged(&frame, 10)[..]));
    assert_eq!(out.offload.checksum.unwrap().start, 38);
    assert_eq!(out.offload.gso.unwrap().header_length, 58);
    let mut back = Packet::from_frame(out.frame());
    back.frame_mut()[6..12].copy_from_slice(&testing::mac("a2").0);
    back.offload = out.offload;
    // Its addresses are those of the untagged segment: on VLAN 10 a trunk may use what is nobody else's.
    back.frame_mut()[30..34].copy_from_slice(&[198, 18, 1, 200]);
    back.frame_mut()[34..38].copy_from_slice(&[198, 18, 1, 255]);
    let sent = fabric.receive("a2", back);
    assert_eq!(ports(&sent), ["a1"]);
    assert_eq!(sent[0].1.offload.checksum.unwrap().start, 34);
    assert_eq!(sent[0].1.offload.gso.unwrap().header_length, 54);
}

#[test]
fn a_tunnel_port_carries_tags_of_both_kinds_unseen() {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = PortVlans::Tunnel(30);
    spec.ports[1].vlans = PortVlans::Tunnel(30);
    spec.ports[2].vlans = trunk(None, &[30]);
    let mut fabric = Fabric::new(&spec);
    let inner = tagged(&broadcast("a1"), 99);
    let sent = fabric.receive_frame("a1", &inner);
    assert_eq!(ports(&sent), ["a2", "a3"]);
    for (port, packet) in &sent {
        let expected = if port == "a3" { tagged(&inner, 30) } else { inner.clone() };
        assert_eq!(packet.frame(), expected);
    }
    let mut service = inner.clone();
    service[12..14].copy_from_slice(&[0x88, 0xa8]);
    assert_eq!(fabric.receive_frame("a1", &service).len(), 2);
}

#[test]
fn tags_that_are_carried_along_do_not_count_against_the_mtu() {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = PortVlans::Tunnel(30);
    spec.ports[1].vlans = PortVlans::Tunnel(30);
    let mut fabric = Fabric::new(&spec);
    let mut frame = broadcast("a1");
    frame.resize(1514, 0);
    assert_eq!(fabric.receive_frame("a1", &tagged(&tagged(&frame, 5), 6)).len(), 1);
    frame.push(0);
    assert!(fabric.receive_frame("a1", &tagged(&frame, 5)).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::FrameTooLong), 1);
}

/// VLAN 10 of network `a` has a gateway of its own, beside that of the untagged segment.
fn routed_vlan() -> Fabric {
    let mut spec = testing::two_networks();
    spec.networks[0].subnets.push(SubnetSpec {
        prefix: "198.19.10.0/24".parse().unwrap(),
        gateway: Some([198, 19, 10, 1].into()),
        vlan: 10,
    });
    spec.ports[1].vlans = trunk(Some(UNTAGGED), &[10]);
    spec.ports.push(PortSpec {
        vlans: PortVlans::Access(10),
        addresses: vec![[198, 19, 10, 5].into()],
        ..testing::port("v", "a", 1, 50)
    });
    Fabric::new(&spec)
}

#[test]
fn a_gateway_answers_on_its_vlan_only() {
    let mut fabric = routed_vlan();
    let question = fabric.resolve("v", "198.19.10.1");
    assert_eq!(ports(&fabric.receive_frame("v", &question)), ["v"]);
    let elsewhere = fabric.resolve("a1", "198.19.10.1");
    assert_eq!(
        ports(&fabric.receive_frame("a1", &elsewhere)),
        ["a2", "a3"],
        "nobody's address here: asked of all"
    );
    // Behind the trunk, on VLAN 10, with the answer tagged.
    let mut behind = fabric.resolve("a2", "198.19.10.1");
    behind[28..32].copy_from_slice(&[198, 19, 10, 77]);
    let sent = fabric.receive_frame("a2", &tagged(&behind, 0x400a));
    assert_eq!(ports(&sent), ["a2"]);
    assert_eq!(vlan::outer(sent[0].1.frame()), Some(Tci(0x400a)));
}

#[test]
fn routing_between_vlans_of_one_network_and_to_others() {
    let mut fabric = routed_vlan();
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    let ping = fabric.echo("v", "198.18.2.10");
    assert_eq!(ports(&fabric.receive_frame("v", &ping)), ["b1"]);
    fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    let ping = fabric.echo("v", "198.18.1.10");
    assert_eq!(ports(&fabric.receive_frame("v", &ping)), ["a1"]);
}

#[test]
fn an_unknown_neighbour_is_asked_for_on_the_vlan_of_its_subnet() {
    let mut fabric = routed_vlan();
    let ping = fabric.echo("b1", "198.19.10.99");
    let sent = fabric.receive_frame("b1", &ping);
    assert_eq!(ports(&sent), ["a2", "v"]);
    let to_trunk = sent.iter().find(|(port, _)| port == "a2").unwrap();
    assert_eq!(vlan::outer(to_trunk.1.frame()), Some(Tci(10)));
}

#[test]
fn a_tag_inside_does_not_lead_to_another_vlan_by_the_native_one() {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = PortVlans::Tunnel(5);
    spec.ports[1].vlans = trunk(Some(5), &[10]);
    spec.ports[2].vlans = trunk(None, &[5]);
    let mut fabric = Fabric::new(&spec);
    let inner = tagged(&broadcast("a1"), 10);
    let sent = fabric.receive_frame("a1", &inner);
    assert_eq!(ports(&sent), ["a3"], "behind a tag of its own it goes along");
    assert_eq!(sent[0].1.frame(), tagged(&inner, 5));
    assert_eq!(fabric.dropped("a2", DropReason::VlanNotAllowed), 1);
}

#[test]
fn an_access_port_has_no_tag_behind_a_priority_tag() {
    let mut fabric = Fabric::two_networks();
    let hopping = tagged(&tagged(&broadcast("a1"), 10), 0);
    assert!(fabric.receive_frame("a1", &hopping).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::VlanNotAllowed), 1);
}

#[test]
fn what_a_receiver_would_take_off_hides_no_address_from_the_source_check() {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = PortVlans::Tunnel(5);
    spec.ports[1].vlans = PortVlans::Tunnel(5);
    let mut fabric = Fabric::new(&spec);
    let mut service = tagged(&broadcast("a1"), 0);
    service[12..14].copy_from_slice(&[0x88, 0xa8]);
    for hidden in [tagged(&broadcast("a1"), 0), tagged(&tagged(&broadcast("a1"), 0xe000), 9), service] {
        assert!(fabric.receive_frame("a1", &hidden).is_empty());
    }
    assert_eq!(fabric.dropped("a1", DropReason::VlanNotAllowed), 3);
    spec.ports[0].source_check = false;
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a1", &tagged(&broadcast("a1"), 0))), ["a2"]);
}

#[test]
fn a_frame_that_ends_within_its_tag_is_dropped() {
    // Padded by a device it would be one of VLAN 1591.
    let mut fabric = Fabric::two_networks();
    let mut frame = fabric.echo("a1", "198.18.1.11");
    frame.truncate(16);
    frame[12..16].copy_from_slice(&[0x81, 0x00, 0x36, 0x37]);
    assert!(fabric.receive_frame("a1", &frame).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::FrameTruncated), 1);
}
