//! Raw GRE sockets, against the kernel.

use std::net::SocketAddr;

use super::*;
use crate::datagram::SocketErrorKind;
use crate::netns::NetNs;
use crate::testing::{arrivals, neighbors, own_namespace, route_beyond, wait_for_error};

/// GRE with a key (RFC 2890 section 2) and an IPv4 packet's start inside.
const PACKET: [u8; 12] = [0x20, 0x00, 0x08, 0x00, 0, 0, 0, 42, 0x45, 0, 0, 20];

const FAMILIES: [(Family, &str, &str); 2] =
    [(Family::V4, "198.18.7.2", "198.18.7.3"), (Family::V6, "2001:db8:7::2", "2001:db8:7::3")];

fn address(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 0)
}

fn open_in(there: &NetNs, family: Family) -> GreSocket {
    let _entered = there.enter().unwrap();
    GreSocket::open(family).unwrap()
}

fn received(socket: &GreSocket) -> Vec<(Arrival, Vec<u8>)> {
    arrivals(socket, |buffers, arrivals| socket.recv_batch(buffers, arrivals))
}

#[test]
fn packets_cross_without_their_ip_header_with_tos_and_both_addresses() {
    let (_entered, _here, there, _) = neighbors();
    for (family, far, second) in FAMILIES {
        let (near, other) = (GreSocket::open(family).unwrap(), open_in(&there, family));
        let message = Message {
            destination: address(far),
            local: Some(second.parse().unwrap()),
            tos: 0x2a,
            segment: 0,
            octets: &PACKET,
        };
        assert_eq!(near.send_batch(&[message; 3]).unwrap(), 3);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(received(&other));
        }
        let expected = Arrival {
            source: address(second),
            local: far.parse().unwrap(),
            tos: 0x2a,
            length: PACKET.len(),
            segment: 0,
        };
        assert_eq!(seen, vec![(expected, PACKET.to_vec()); 3]);
        let plain = Message { destination: seen[0].0.source, octets: &PACKET, ..Message::NONE };
        other.send_batch(&[plain]).unwrap();
        let answer = received(&near)[0].0;
        assert_eq!((answer.source, answer.local, answer.tos), (address(far), second.parse().unwrap(), 0));
    }
}

#[test]
fn a_router_that_cannot_pass_a_packet_on_is_heard() {
    let (_entered, _here, router, near) = neighbors();
    let beyond = route_beyond(&router, near, 1300);
    for (family, far, offender) in
        [(Family::V4, "198.18.8.2", "198.18.7.2"), (Family::V6, "2001:db8:8::2", "2001:db8:7::2")]
    {
        let (socket, other) = (GreSocket::open(family).unwrap(), open_in(&beyond, family));
        let mut octets = PACKET.to_vec();
        octets.resize(1400, 0xee);
        let long = Message { destination: address(far), octets: &octets, ..Message::NONE };
        let short = Message { octets: &octets[..100], ..long };
        for _ in 0..2 {
            assert_eq!(socket.send_batch(&[long]).unwrap(), 1);
            assert!(wait_for_error(&socket));
            assert_eq!(socket.send_batch(&[short]).unwrap(), 1);
            let mut buffer = [0; 2048];
            let error = socket.recv_error(&mut buffer).unwrap().unwrap();
            assert_eq!(
                (error.destination, error.kind),
                (address(far), SocketErrorKind::TooBig { mtu: 1300 })
            );
            assert_eq!(error.offender, Some(offender.parse().unwrap()));
            assert!(error.quoted.len() >= 500 && octets.starts_with(error.quoted));
            assert_eq!(socket.recv_error(&mut buffer).unwrap(), None);
            assert_eq!(received(&other)[0].1, octets[..100]);
        }
    }
}

#[test]
fn what_the_device_does_not_take_is_refused_with_its_mtu() {
    let (_entered, _here, _there, _) = neighbors();
    for (family, far, _) in FAMILIES {
        let socket = GreSocket::open(family).unwrap();
        let long = Message { destination: address(far), octets: &[0; 1600], ..Message::NONE };
        assert_eq!(socket.send_batch(&[long]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        let mut buffer = [0; 2048];
        let error = socket.recv_error(&mut buffer).unwrap().unwrap();
        assert_eq!((error.kind, error.offender), (SocketErrorKind::TooBig { mtu: 1500 }, None));
    }
}

#[test]
fn the_families_have_nothing_to_do_with_each_other() {
    let (_entered, _here) = own_namespace();
    let (v4, v6) = (GreSocket::open(Family::V4).unwrap(), GreSocket::open(Family::V6).unwrap());
    let here = Message { destination: address("127.0.0.1"), octets: &PACKET, ..Message::NONE };
    v4.send_batch(&[here]).unwrap();
    assert_eq!(received(&v4).len(), 1);
    let nothing = v6.recv_batch(&mut [vec![0; 100]], &mut [Arrival::NONE]).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
}
