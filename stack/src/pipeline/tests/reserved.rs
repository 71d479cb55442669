//! Reserved link-local groups (IEEE 802.1Q-2022 tables 8-1 and 8-2).

use super::*;
use crate::config::{PortVlans, VlanSet};
use crate::testing::{mac, tcp_frame};
use crate::wire::vlan::Tci;

/// A configuration BPDU as Linux' bridge sends it (IEEE 802.1D-2004 clause 9.3.1), in an LLC frame.
const BPDU: [u8; 60] = [
    0x01, 0x80, 0xc2, 0x00, 0x00, 0x00, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0x00, 0x26, 0x42, 0x42, 0x03,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x00, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00,
    0x80, 0x00, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0x80, 0x01, 0x00, 0x00, 0x14, 0x00, 0x02, 0x00, 0x0f,
    0x00, 0, 0, 0, 0, 0, 0, 0, 0,
];

fn to_group(last: u8, from: &str) -> Vec<u8> {
    let group = MacAddr([0x01, 0x80, 0xc2, 0, 0, last]);
    let mut frame = addressed(tcp_frame(10), group, mac(from));
    frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    frame
}

/// a1 and a2 are a customer's, on service VLAN 30; a3 is a trunk with it; a4 is an access port of it.
fn provider() -> Fabric {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = PortVlans::Tunnel(30);
    spec.ports[1].vlans = PortVlans::Tunnel(30);
    let allowed: VlanSet = [30, 40].into_iter().collect();
    spec.ports[2].vlans = PortVlans::Trunk { native: Some(0), allowed: Box::new(allowed) };
    spec.ports.push(testing::port("a4", "a", 1, 13));
    spec.ports[4].vlans = PortVlans::Access(30);
    spec.ports.iter_mut().for_each(|port| port.source_check = false);
    Fabric::new(&spec)
}

fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut packet = Packet::from_frame(frame);
    packet.dress(Some(Tci(vlan)));
    packet.frame().to_vec()
}

#[test]
fn an_ordinary_bridge_forwards_none() {
    let mut fabric = Fabric::two_networks();
    for last in 0..=0x0f {
        assert!(fabric.receive_frame("a1", &to_group(last, "a1")).is_empty(), "{last:#x}");
    }
    assert_eq!(fabric.dropped("a1", DropReason::ReservedMulticast), 16);
    assert_eq!(ports(&fabric.receive_frame("a1", &to_group(0x10, "a1"))), ["a2", "a3"]);
}

#[test]
fn a_providers_bridge_carries_those_of_its_customers() {
    let mut fabric = provider();
    let carried: Vec<u8> =
        (0..=0x0f).filter(|last| !fabric.receive_frame("a1", &to_group(*last, "a1")).is_empty()).collect();
    assert_eq!(carried, [0x00, 0x0b, 0x0c, 0x0d, 0x0f]);
    assert_eq!(fabric.dropped("a1", DropReason::ReservedMulticast), 11);
}

#[test]
fn a_customers_spanning_tree_goes_to_its_ports_and_into_the_service_vlan_alone() {
    let mut fabric = provider();
    let sent = fabric.receive_frame("a1", &BPDU);
    assert_eq!(ports(&sent), ["a2", "a3"]);
    assert_eq!(sent.iter().find(|(port, _)| port == "a3").unwrap().1.frame(), tagged(&BPDU, 30));
    assert_eq!(ports(&fabric.receive_frame("a3", &tagged(&BPDU, 30))), ["a1", "a2"]);
    // The provider's own: without the service's tag, from a plain port, and on a VLAN that no customer has.
    assert!(fabric.receive_frame("a3", &BPDU).is_empty());
    assert!(fabric.receive_frame("a4", &BPDU).is_empty());
    assert!(fabric.receive_frame("a3", &tagged(&BPDU, 40)).is_empty());
    assert_eq!(fabric.dropped("a3", DropReason::ReservedMulticast), 2);
    assert_eq!(fabric.dropped("a4", DropReason::ReservedMulticast), 1);
}
