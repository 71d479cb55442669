//! UDP sockets, against the kernel.

use std::time::{Duration, Instant};

use super::*;
use crate::datagram::SocketErrorKind;
use crate::netns::NetNs;
use crate::poll::{Epoll, Events};
use crate::testing::{DEADLINE, arrivals, neighbors, own_namespace, route_beyond, wait_for_error};

const PORT: u16 = 4789;

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn bind(ip: &str, port: u16) -> UdpSocket {
    UdpSocket::bind(address(ip, port)).unwrap()
}

fn bind_in(there: &NetNs, ip: &str, port: u16) -> UdpSocket {
    let _entered = there.enter().unwrap();
    bind(ip, port)
}

fn received(socket: &UdpSocket) -> Vec<(Arrival, Vec<u8>)> {
    arrivals(socket, |buffers, arrivals| socket.recv_batch(buffers, arrivals))
}

/// Receives until this many datagrams are there, runs taken apart.
fn datagrams(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    while seen.len() < count {
        for (arrival, octets) in received(socket) {
            let size = if arrival.segment == 0 { octets.len().max(1) } else { arrival.segment };
            seen.extend(octets.chunks(size).map(<[u8]>::to_vec));
        }
    }
    seen
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

fn next_error(socket: &UdpSocket) -> Option<(SocketAddr, SocketErrorKind, Option<IpAddr>, Vec<u8>)> {
    let mut buffer = [0; 2048];
    let error = socket.recv_error(&mut buffer).unwrap()?;
    Some((error.destination, error.kind, error.offender, error.quoted.to_vec()))
}

/// Destination far, wildcard, a second address of this end.
const FAMILIES: [(&str, &str, &str); 2] =
    [("198.18.7.2", "0.0.0.0", "198.18.7.3"), ("2001:db8:7::2", "::", "2001:db8:7::3")];

#[test]
fn a_run_crosses_a_veth_as_one_with_its_tos_and_both_addresses() {
    let (_entered, _here, there, _) = neighbors();
    for (far, any, second) in FAMILIES {
        let (near, other) = (bind(any, 51_820), bind_in(&there, any, PORT));
        let octets = pattern(20_300);
        let message = Message {
            destination: address(far, PORT),
            local: Some(second.parse().unwrap()),
            tos: 0xb9,
            segment: 1000,
            octets: &octets,
        };
        assert_eq!(near.send_batch(&[message]).unwrap(), 1);
        let seen = received(&other);
        let expected = Arrival {
            source: address(second, 51_820),
            local: far.parse().unwrap(),
            tos: 0xb9,
            length: 20_300,
            segment: 1000,
        };
        assert_eq!(seen, [(expected, octets)]);
    }
}

#[test]
fn single_datagrams_of_a_batch_arrive_each_by_itself_and_in_order() {
    let (_entered, _here, there, _) = neighbors();
    for (far, any, _) in FAMILIES {
        let (near, other) = (bind(any, 0), bind_in(&there, any, PORT));
        let octets: Vec<Vec<u8>> = (1..=5).map(|length| pattern(length * 100)).collect();
        let message = |octets| Message { destination: address(far, PORT), octets, ..Message::NONE };
        let messages: Vec<_> = octets.iter().map(|octets| message(octets)).collect();
        assert_eq!(near.send_batch(&messages).unwrap(), 5);
        let source = near.port().unwrap();
        let mut seen = Vec::new();
        while seen.len() < 5 {
            seen.extend(received(&other));
        }
        assert!(
            seen.iter().all(|(arrival, _)| {
                (arrival.source.port(), arrival.tos, arrival.segment) == (source, 0, 0)
            })
        );
        assert_eq!(seen.into_iter().map(|(_, octets)| octets).collect::<Vec<_>>(), octets);
    }
}

#[test]
fn a_run_that_the_kernel_refuses_goes_out_in_pieces() {
    let (_entered, _here, there, _) = neighbors();
    let (near, other) = (bind("0.0.0.0", 0), bind_in(&there, "0.0.0.0", PORT));
    // More datagrams than the kernel cuts from one run.
    let octets = pattern(300);
    let message =
        Message { destination: address("198.18.7.2", PORT), segment: 1, octets: &octets, ..Message::NONE };
    assert_eq!(near.send_batch(&[message]).unwrap(), 1);
    let expected: Vec<_> = octets.chunks(1).map(<[u8]>::to_vec).collect();
    assert_eq!(datagrams(&other, 300), expected);
    assert!(near.segments.load(Ordering::Relaxed), "that was about the run, not about the device");
}

#[test]
fn without_segmentation_runs_and_single_datagrams_stay_in_order() {
    let (_entered, _here, there, _) = neighbors();
    let (near, other) = (bind("0.0.0.0", 0), bind_in(&there, "0.0.0.0", PORT));
    near.segments.store(false, Ordering::Relaxed);
    let octets = pattern(2500);
    let single = Message { destination: address("198.18.7.2", PORT), octets: &[7], ..Message::NONE };
    let run = Message { segment: 1000, octets: &octets, ..single };
    let mut rest = &[single, run, single][..];
    let mut calls = Vec::new();
    while !rest.is_empty() {
        calls.push(near.send_batch(rest).unwrap());
        rest = &rest[calls[calls.len() - 1]..];
    }
    assert_eq!(calls, [1, 1, 1]);
    let lengths: Vec<_> = datagrams(&other, 5).iter().map(Vec::len).collect();
    assert_eq!(lengths, [1, 1000, 1000, 500, 1]);
}

#[test]
fn a_router_that_cannot_pass_a_datagram_on_is_heard_and_no_later_send_fails_for_it() {
    let (_entered, _here, router, near) = neighbors();
    let beyond = route_beyond(&router, near, 1300);
    for (far, any, offender) in
        [("198.18.8.2", "0.0.0.0", "198.18.7.2"), ("2001:db8:8::2", "::", "2001:db8:7::2")]
    {
        let (socket, other) = (bind(any, 51_820), bind_in(&beyond, any, PORT));
        let octets = pattern(1400);
        let long = Message { destination: address(far, PORT), octets: &octets, ..Message::NONE };
        let short = Message { octets: &octets[..100], ..long };
        for _ in 0..2 {
            // The kernel knows the path's MTU now, and still does not cut or refuse anything.
            assert_eq!(socket.send_batch(&[long]).unwrap(), 1);
            assert!(wait_for_error(&socket));
            assert_eq!(socket.send_batch(&[short]).unwrap(), 1);
            let (destination, kind, who, quoted) = next_error(&socket).unwrap();
            assert_eq!((destination, kind), (address(far, PORT), SocketErrorKind::TooBig { mtu: 1300 }));
            assert_eq!(who, Some(offender.parse().unwrap()));
            assert!(quoted.len() >= 500 && octets.starts_with(&quoted), "{}", quoted.len());
            assert_eq!(next_error(&socket), None);
        }
        assert!(datagrams(&other, 2).iter().all(|octets| octets.len() == 100));
    }
}

#[test]
fn what_the_device_does_not_take_is_refused_with_its_mtu() {
    let (_entered, _here, _there, _) = neighbors();
    for (far, any, _) in FAMILIES {
        let socket = bind(any, 0);
        let octets = pattern(8000);
        let single = Message { destination: address(far, PORT), octets: &octets[..1600], ..Message::NONE };
        let run = Message { segment: 1600, octets: &octets, ..single };
        for message in [single, run] {
            assert_eq!(socket.send_batch(&[message]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
            let (destination, kind, who, _) = next_error(&socket).unwrap();
            assert_eq!(destination.ip(), address(far, PORT).ip());
            assert_eq!((kind, who), (SocketErrorKind::TooBig { mtu: 1500 }, None));
            while next_error(&socket).is_some() {}
        }
    }
}

#[test]
fn a_closed_port_is_told_as_unreachable_and_neither_receiving_nor_the_wait_fails_for_it() {
    let (_entered, _here, there, _) = neighbors();
    for (far, any, _) in FAMILIES {
        let socket = bind(any, 51_820);
        let message = Message { destination: address(far, PORT), octets: &[1, 2, 3], ..Message::NONE };
        socket.send_batch(&[message]).unwrap();
        assert!(wait_for_error(&socket));
        let nothing = socket.recv_batch(&mut [vec![0; 100]], &mut [Arrival::NONE]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let code = if far.contains(':') { 4 } else { 3 };
        let expected = (
            message.destination,
            SocketErrorKind::Unreachable { code },
            Some(message.destination.ip()),
            vec![1, 2, 3],
        );
        assert_eq!(next_error(&socket), Some(expected));
        let (epoll, mut events) = (Epoll::new().unwrap(), Events::with_capacity(1));
        epoll.add(socket.as_fd(), 0).unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        drop(bind_in(&there, any, PORT));
    }
}

#[test]
fn sockets_that_share_a_port_have_each_sender_for_themselves() {
    const SENDERS: usize = 32;
    let (_entered, _here, there, _) = neighbors();
    for (far, any, _) in FAMILIES {
        let sockets = {
            let _entered = there.enter().unwrap();
            UdpSocket::bind_group(address(any, PORT), 2).unwrap()
        };
        let senders: Vec<_> = (0..SENDERS).map(|_| bind(any, 0)).collect();
        for _ in 0..2 {
            for sender in &senders {
                let message = Message { destination: address(far, PORT), octets: &[1], ..Message::NONE };
                sender.send_batch(&[message]).unwrap();
            }
        }
        let mut heard = [Vec::new(), Vec::new()];
        let end = Instant::now() + DEADLINE;
        while heard.iter().map(Vec::len).sum::<usize>() < 2 * SENDERS {
            assert!(Instant::now() < end, "{heard:?}");
            for (socket, heard) in sockets.iter().zip(&mut heard) {
                let mut seen = [Arrival::NONE; 8];
                let count = socket.recv_batch(&mut vec![vec![0; 9]; 8], &mut seen).unwrap_or(0);
                heard.extend(seen[..count].iter().map(|arrival| arrival.source.port()));
            }
        }
        assert!(heard.iter().all(|ports| !ports.is_empty()), "{heard:?}");
        assert!(!heard[0].iter().any(|port| heard[1].contains(port)), "{heard:?}");
    }
}

#[test]
fn a_port_in_use_and_a_foreign_address_are_refused() {
    let (_entered, _here) = own_namespace();
    let held = UdpSocket::bind_group(address("0.0.0.0", PORT), 2).unwrap();
    assert_eq!(held.len(), 2);
    let _v6_is_another = bind("::", PORT);
    for count in [1, 2] {
        let error = UdpSocket::bind_group(address("0.0.0.0", PORT), count).unwrap_err();
        assert_eq!(error.code(), Some(libc::EADDRINUSE));
        assert_eq!(error.to_string(), "cannot bind a UDP socket to 0.0.0.0:4789");
    }
    let error = UdpSocket::bind(address("198.18.7.9", PORT)).unwrap_err();
    assert!(error.is_gone());
    drop(held);
    bind("0.0.0.0", PORT);
}

#[test]
fn a_socket_for_sending_hears_errors_and_no_datagrams() {
    let (_entered, _here, there, _) = neighbors();
    for (far, any, _) in FAMILIES {
        let socket = UdpSocket::for_sending(address(any, 0)).unwrap();
        let other = bind_in(&there, any, PORT);
        let hello = Message { destination: address(far, PORT), octets: &[1], ..Message::NONE };
        socket.send_batch(&[hello]).unwrap();
        let source = received(&other)[0].0.source;
        other.send_batch(&[Message { destination: source, ..hello }]).unwrap();
        let end = Instant::now() + DEADLINE;
        while socket.drops().unwrap() == 0 {
            assert!(Instant::now() < end, "the answer does not come");
        }
        drop(other);
        socket.send_batch(&[hello]).unwrap();
        assert!(wait_for_error(&socket));
        assert!(next_error(&socket).is_some());
        let nothing = socket.recv_batch(&mut [vec![0; 100]], &mut [Arrival::NONE]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn a_datagram_without_checksum_is_received_over_ipv6_too() {
    // `linux/udp.h`.
    const UDP_NO_CHECK6_TX: c_int = 101;
    let (_entered, _here, there, _) = neighbors();
    for (far, any, _) in FAMILIES {
        let (near, other) = (bind(any, 0), bind_in(&there, any, PORT));
        let (level, name) = match far.contains(':') {
            true => (libc::SOL_UDP, UDP_NO_CHECK6_TX),
            false => (libc::SOL_SOCKET, libc::SO_NO_CHECK),
        };
        set_option(near.as_fd(), level, name, 1).unwrap();
        let message = Message { destination: address(far, PORT), octets: &[1, 2, 3], ..Message::NONE };
        near.send_batch(&[message]).unwrap();
        assert_eq!(datagrams(&other, 1), [[1, 2, 3]]);
    }
}

#[test]
fn a_datagram_that_does_not_fit_has_no_length() {
    let (_entered, _here, there, _) = neighbors();
    let (near, other) = (bind("0.0.0.0", 0), bind_in(&there, "0.0.0.0", PORT));
    let message = Message { destination: address("198.18.7.2", PORT), octets: &[7; 101], ..Message::NONE };
    near.send_batch(&[message]).unwrap();
    let seen = arrivals(&other, |buffers, arrivals| {
        other.recv_batch(
            &mut buffers.iter_mut().map(|buffer| &mut buffer[..100]).collect::<Vec<_>>(),
            arrivals,
        )
    });
    assert_eq!(seen.iter().map(|(arrival, _)| arrival.length).collect::<Vec<_>>(), [0]);
}

#[test]
fn the_routes_tell_the_address_that_the_node_speaks_from() {
    let _entered = own_namespace();
    for address in ["127.0.0.1", "::1"] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(source_for(address).unwrap(), address);
    }
    let nowhere = source_for("192.0.2.1".parse().unwrap()).unwrap_err();
    assert_eq!(nowhere.raw_os_error(), Some(libc::ENETUNREACH));
}
