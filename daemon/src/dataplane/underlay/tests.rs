//! The sockets of an underlay, against the kernel. They need root.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use weft_host::datagram::SocketErrorKind;
use weft_host::netns::{Entered, NetNs};

use super::*;

const PORT: u16 = 4789;
const DEADLINE: Duration = Duration::from_secs(10);
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

fn own_namespace() -> Entered {
    NetNs::create_anonymous().unwrap().enter().unwrap()
}

fn open(underlay: Underlay, workers: usize) -> UnderlayIo {
    UnderlayIo::open(underlay, workers).unwrap()
}

/// Sends one datagram as a worker does.
fn send(io: &UnderlayIo, destination: SocketAddr, entropy: Option<u16>, octets: &[u8]) {
    let end = io.end_for(destination, entropy);
    io.open_now(end);
    let message = Message { destination, octets, ..Message::NONE };
    io.send((0, end), [message].into_iter(), |_, error| panic!("{error}"));
}

/// What a worker receives within the deadline by the end of a family.
fn received(io: &UnderlayIo, worker: usize, end: End) -> (Arrival, Vec<u8>) {
    let mut inbox = Inbox::new();
    let until = Instant::now() + DEADLINE;
    while inbox.is_empty() {
        assert!(Instant::now() < until, "nothing comes");
        io.receive(worker, end, &mut inbox, false);
    }
    let (arrival, octets) = inbox.get_mut(0).unwrap();
    (arrival, octets.to_vec())
}

#[test]
fn flows_leave_by_ports_of_their_own_and_the_rest_by_the_port_of_the_tunnel() {
    let _entered = own_namespace();
    let io = open(Underlay::Udp(PORT), 2);
    for loopback in LOOPBACK {
        let far = std::net::UdpSocket::bind((loopback, 0)).unwrap();
        far.set_read_timeout(Some(DEADLINE)).unwrap();
        let port_for = |entropy| {
            send(&io, far.local_addr().unwrap(), entropy, &[1]);
            far.recv_from(&mut [0; 9]).unwrap().1.port()
        };
        let first: Vec<u16> = (0..SENDERS as u16).map(|entropy| port_for(Some(entropy))).collect();
        let second: Vec<u16> = (0..SENDERS as u16).map(|entropy| port_for(Some(entropy))).collect();
        assert_eq!(first, second);
        assert_eq!(BTreeSet::from_iter(&first).len(), SENDERS);
        assert_eq!(port_for(Some(SENDERS as u16)), first[0]);
        assert_eq!((port_for(None), first.contains(&PORT)), (PORT, false));
    }
}

#[test]
fn what_arrives_is_read_by_one_of_the_workers_with_what_is_known_of_it() {
    let _entered = own_namespace();
    let io = open(Underlay::Udp(PORT), 1);
    let ends: Vec<End> = io.read_by(0, 1).collect();
    assert_eq!(ends, OWN);
    for (loopback, end) in LOOPBACK.into_iter().zip(ends) {
        let far = std::net::UdpSocket::bind((loopback, 0)).unwrap();
        far.send_to(&[1, 2, 3], (loopback, PORT)).unwrap();
        let (arrival, octets) = received(&io, 0, end);
        let expected = Arrival {
            source: far.local_addr().unwrap(),
            local: loopback.parse().unwrap(),
            tos: 0,
            length: 3,
            segment: 0,
        };
        assert_eq!((arrival, octets), (expected, vec![1, 2, 3]));
    }
}

#[test]
fn gre_is_read_by_the_last_worker_alone() {
    let _entered = own_namespace();
    let io = open(Underlay::Gre, 3);
    assert_eq!(io.read_by(0, 3).chain(io.read_by(1, 3)).count(), 0);
    assert_eq!(io.read_by(2, 3).collect::<Vec<_>>(), OWN);
    for (loopback, end) in LOOPBACK.into_iter().zip(OWN) {
        // GRE without options (RFC 2784 section 2) and an IPv4 packet's first octet.
        let packet = [0, 0, 0x08, 0x00, 0x45];
        send(&io, SocketAddr::new(loopback.parse().unwrap(), 0), None, &packet);
        assert_eq!(received(&io, 2, end).1, packet);
    }
}

#[test]
fn an_error_is_heard_at_the_end_that_sent() {
    let _entered = own_namespace();
    let io = open(Underlay::Udp(PORT), 1);
    for entropy in [None, Some(3)] {
        let closed: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let end = io.end_for(closed, entropy);
        send(&io, closed, entropy, &[1, 2, 3]);
        let mut quoted = [0; 100];
        let error = io.error(0, end, &mut quoted).unwrap();
        assert_eq!((error.destination, error.kind), (closed, SocketErrorKind::Unreachable { code: 3 }));
        assert_eq!(error.quoted, [1, 2, 3]);
        assert_eq!(io.error(0, end, &mut quoted), None);
    }
}

#[test]
fn a_port_in_use_is_told() {
    let _entered = own_namespace();
    let _held = open(Underlay::Udp(PORT), 2);
    let error = UnderlayIo::open(Underlay::Udp(PORT), 2).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot bind a UDP socket to 0.0.0.0:{PORT}"));
    let _every_raw_socket_hears_all = [open(Underlay::Gre, 1), open(Underlay::Gre, 1)];
}
