//! Dropping at ingress, against the kernel.

use super::{claim_ingress, drop_at_ingress, release_ingress};
use crate::link::Netlink;
use crate::netns::NetNs;
use crate::packet::PacketSocket;
use crate::testing::{
    DEADLINE, MAC_B, SILENCE, arp_request, is_arp_reply, own_namespace, receive, socket_at, veth_up,
};

const HERE: [u8; 4] = [198, 18, 4, 1];
const THERE: [u8; 4] = [198, 18, 4, 2];

#[test]
fn the_socket_sees_what_the_kernel_no_longer_answers() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("h1", "eth0", &there);
    Netlink::open().unwrap().add_address(index, HERE.into(), 24).unwrap();
    let near = PacketSocket::bind(index).unwrap();
    let far = socket_at("eth0", &there);
    let request = arp_request(MAC_B, THERE, HERE);
    let asked = || {
        far.send(&request).unwrap();
        let seen =
            receive(&near, |buffer| near.recv(buffer), DEADLINE, |seen| seen.ends_with(&request[10..]));
        assert!(seen.is_some(), "the socket does not see the request");
    };
    let answered =
        |within| receive(&far, |buffer| far.recv(buffer), within, |seen| is_arp_reply(seen, HERE)).is_some();
    asked();
    assert!(answered(DEADLINE));
    for _ in 0..2 {
        drop_at_ingress(index).unwrap();
        asked();
        assert!(!answered(SILENCE));
    }
    for _ in 0..2 {
        release_ingress(index).unwrap();
        asked();
        assert!(answered(DEADLINE));
    }
}

#[test]
fn an_attach_point_is_claimed_by_one_only() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("h1", "eth0", &there);
    claim_ingress(index).unwrap();
    assert!(claim_ingress(index).unwrap_err().is_exists());
    release_ingress(index).unwrap();
    claim_ingress(index).unwrap();
}

#[test]
fn an_absent_link_is_gone() {
    let (_entered, _here) = own_namespace();
    assert!(drop_at_ingress(4000).unwrap_err().is_gone());
    release_ingress(4000).unwrap();
}
