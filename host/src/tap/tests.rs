//! TAP devices, against the kernel.

use super::*;
use crate::link::LinkChange;
use crate::netns::NetNs;
use crate::testing::{DEADLINE, MAC_B, arp_request, is_arp_reply, own_namespace, receive, set_up, veth_up};

const HERE: [u8; 4] = [198, 18, 3, 1];
const NEIGHBOR: [u8; 4] = [198, 18, 3, 2];

fn link(name: &str) -> Option<crate::link::Link> {
    Netlink::open().unwrap().link_by_name(name).unwrap()
}

#[test]
fn every_offload_of_a_current_kernel_is_agreed_on() {
    let (_entered, _here) = own_namespace();
    let tap = Tap::open("tap0", 2).unwrap();
    assert_eq!((tap.queues.len(), tap.name.as_str()), (2, "tap0"));
    assert_eq!(tap.offloads, Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true });
    assert_eq!(link("tap0").unwrap().kind.as_deref(), Some("tun"));
}

#[test]
fn a_device_stays_when_it_is_closed_and_is_taken_over_again() {
    let (_entered, here) = own_namespace();
    let first = Tap::open("tap0", 2).unwrap();
    let index = set_up("tap0", &here);
    assert!(link("tap0").unwrap().carrier);
    drop(first);
    let left = link("tap0").unwrap();
    assert_eq!((left.index, left.carrier), (index, false));
    let again = Tap::open("tap0", 3).unwrap();
    assert_eq!((link("tap0").unwrap().index, again.queues.len()), (index, 3));
    Netlink::open().unwrap().delete_link(index).unwrap();
    let gone = again.queues[0].recv(&mut [0; 2048]).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::EBADFD));
}

#[test]
fn an_attached_device_goes_away_unless_it_is_made_persistent() {
    let (_entered, _here) = own_namespace();
    drop(Tap::attach("tap0", 1).unwrap());
    assert_eq!(link("tap0"), None);
    let tap = Tap::attach("tap0", 1).unwrap();
    tap.persist(true).unwrap();
    drop(tap);
    assert!(link("tap0").is_some());
    Tap::attach("tap0", 1).unwrap().persist(false).unwrap();
    assert_eq!(link("tap0"), None);
}

#[test]
fn a_device_in_use_or_of_another_kind_is_refused() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    veth_up("veth0", "far0", &there);
    let held = Tap::open("tap0", 2).unwrap();
    let error = Tap::open("tap0", 1).unwrap_err();
    assert_eq!(error.to_string(), "device tap0 is already used: 2 of its queues are open");
    assert!(matches!(Tap::open("veth0", 1), Err(Error::AlreadyUsed { .. })));
    assert!(matches!(Tap::open("lo", 1), Err(Error::AlreadyUsed { .. })));
    drop(held);
    Tap::open("tap0", 1).unwrap();
}

#[test]
fn a_tap_of_a_single_queue_is_refused() {
    let (_entered, _here) = own_namespace();
    let made =
        std::process::Command::new("ip").args(["tuntap", "add", "tap0", "mode", "tap"]).status().unwrap();
    assert!(made.success());
    let error = Tap::open("tap0", 1).unwrap_err();
    assert_eq!(error.to_string(), "device tap0 is already used: it is no multi-queue TAP device");
}

#[test]
fn a_name_that_the_kernel_would_change_is_refused() {
    for name in ["", "tap%d", "a/b", "a b", "..", "sixteen-bytes-xx"] {
        assert!(matches!(Tap::open(name, 1), Err(Error::DeviceName { .. })), "{name:?}");
    }
}

#[test]
fn the_kernel_answers_what_is_written_and_its_answer_is_read() {
    let (_entered, here) = own_namespace();
    let tap = Tap::open("tap0", 1).unwrap();
    let index = set_up("tap0", &here);
    let mut netlink = Netlink::open().unwrap();
    let mac = [2, 0, 0x5e, 0, 0, 0x33];
    netlink.set_link(index, &LinkChange { mac: Some(mac), ..LinkChange::default() }).unwrap();
    netlink.add_address(index, HERE.into(), 24).unwrap();
    let queue = &tap.queues[0];
    let request = arp_request(MAC_B, NEIGHBOR, HERE);
    assert_eq!(queue.send(&request).unwrap(), request.len());
    let answer =
        receive(queue, |buffer| queue.recv(buffer), DEADLINE, |seen| is_arp_reply(seen, HERE)).unwrap();
    assert_eq!(answer[VNET_HEADER_LEN..VNET_HEADER_LEN + 12], [MAC_B, mac].concat());
}

#[test]
fn a_lying_header_is_refused() {
    let (_entered, here) = own_namespace();
    let tap = Tap::open("tap0", 1).unwrap();
    set_up("tap0", &here);
    let mut request = arp_request(MAC_B, NEIGHBOR, HERE);
    // A checksum that starts beyond the frame.
    request[0] = 1;
    request[6..8].copy_from_slice(&9000u16.to_ne_bytes());
    assert_eq!(tap.queues[0].send(&request).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn a_device_tells_what_was_not_read_in_time() {
    let (_entered, here) = own_namespace();
    let tap = Tap::open("tap0", 2).unwrap();
    crate::sysctl::set("net/ipv6/conf/tap0/disable_ipv6", "1").unwrap();
    let index = set_up("tap0", &here);
    let length = link("tap0").unwrap().txqueuelen;
    let sender = crate::packet::PacketSocket::bind(index).unwrap();
    let before = tap.queues[1].device_drops().unwrap();
    for _ in 0..2 * length + 10 {
        // Newer kernels tell the sender, too, that the queue is full.
        let _ = sender.send(&arp_request(MAC_B, NEIGHBOR, HERE));
    }
    assert!(tap.queues[1].device_drops().unwrap() >= before + 10);
}
