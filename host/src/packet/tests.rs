//! Packet sockets, against the kernel.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::link::{LinkChange, Netlink};
use crate::netns::NetNs;
use crate::poll::{Epoll, Events};
use crate::tap::VNET_HEADER_LEN;
use crate::testing::{DEADLINE, MAC_B, arp_request, own_namespace, receive, set_up, socket_at, veth_up};

const ONE: [u8; 4] = [198, 18, 5, 1];
const TWO: [u8; 4] = [198, 18, 5, 2];
const STREAM: usize = 4 << 20;

/// Gives the device of a container an address, and a MAC address that differs from the other containers'.
fn address(name: &str, there: &NetNs, address: [u8; 4]) {
    let index = set_up(name, there);
    let _entered = there.enter().unwrap();
    let mut netlink = Netlink::open().unwrap();
    let mac = Some([2, 0, 0x5e, 0, 1, address[3]]);
    netlink.set_link(index, &LinkChange { mac, ..LinkChange::default() }).unwrap();
    netlink.add_address(index, address.into(), 24).unwrap();
}

/// Moves all waiting frames from one socket to the other; the length of the longest.
fn forward(from: &PacketSocket, to: &PacketSocket, storage: &mut [Vec<u8>]) -> usize {
    let mut lengths = [0; MAX_BATCH];
    let mut buffers: Vec<&mut [u8]> = storage.iter_mut().map(Vec::as_mut_slice).collect();
    let received = match from.recv_batch(&mut buffers, &mut lengths) {
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
        Err(error) => panic!("{error}"),
    };
    let frames: Vec<&[u8]> = storage.iter().zip(lengths).take(received).map(|(b, l)| &b[..l]).collect();
    let mut sent = 0;
    while sent < frames.len() {
        sent += to.send_batch(&frames[sent..]).unwrap();
    }
    lengths[..received].iter().copied().max().unwrap_or(0)
}

fn serve(there: &NetNs, ready: &AtomicBool) -> Vec<u8> {
    let _entered = there.enter().unwrap();
    let listener = TcpListener::bind((std::net::Ipv4Addr::from(TWO), 7000)).unwrap();
    ready.store(true, Ordering::Release);
    let mut received = Vec::new();
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_to_end(&mut received).unwrap();
    received
}

fn connect(there: &NetNs, payload: &[u8]) {
    let _entered = there.enter().unwrap();
    let address = (std::net::Ipv4Addr::from(TWO), 7000).into();
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(payload).unwrap();
}

#[test]
fn a_tcp_stream_crosses_two_sockets_in_super_packets_and_arrives_whole() {
    let (_entered, _here) = own_namespace();
    let (one, two) = (NetNs::create_anonymous().unwrap(), NetNs::create_anonymous().unwrap());
    let sockets = [("h1", &one, ONE), ("h2", &two, TWO)].map(|(name, there, ip)| {
        let index = veth_up(name, "eth0", there);
        address("eth0", there, ip);
        PacketSocket::bind(index).unwrap()
    });
    let (epoll, mut events) = (Epoll::new().unwrap(), Events::with_capacity(2));
    sockets.iter().for_each(|socket| epoll.add(socket.as_fd(), 0).unwrap());
    let payload: Vec<u8> = (0..STREAM).map(|at| ((at * 31) >> 3) as u8).collect();
    let mut storage = vec![vec![0; 70_000]; MAX_BATCH];
    let (ready, mut longest, end) = (AtomicBool::new(false), 0, Instant::now() + DEADLINE);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&two, &ready));
        while !ready.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        scope.spawn(|| connect(&one, &payload));
        while !server.is_finished() {
            assert!(Instant::now() < end, "the stream takes too long");
            epoll.wait(&mut events, Some(std::time::Duration::from_millis(20))).unwrap();
            longest = longest.max(forward(&sockets[0], &sockets[1], &mut storage));
            forward(&sockets[1], &sockets[0], &mut storage);
        }
        assert!(server.join().unwrap() == payload, "the stream is changed");
    });
    assert!(longest > 10_000, "the longest frame has {longest} octets");
    assert_eq!(sockets[0].drops().unwrap(), 0);
}

#[test]
fn a_vlan_tag_is_put_back_into_the_frame() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let near = PacketSocket::bind(veth_up("h1", "eth0", &there)).unwrap();
    let far = socket_at("eth0", &there);
    let mut tagged = arp_request(MAC_B, TWO, ONE);
    tagged.splice(VNET_HEADER_LEN + 12..VNET_HEADER_LEN + 12, [0x81, 0x00, 0x60, 0x0a]);
    for ethertype in [[0x81, 0x00], [0x88, 0xa8]] {
        tagged[VNET_HEADER_LEN + 12..VNET_HEADER_LEN + 14].copy_from_slice(&ethertype);
        assert_eq!(far.send(&tagged).unwrap(), tagged.len());
        let ours = |seen: &[u8]| seen.get(VNET_HEADER_LEN + 14..VNET_HEADER_LEN + 16) == Some(&[0x60, 0x0a]);
        assert_eq!(receive(&near, |buffer| near.recv(buffer), DEADLINE, ours).as_deref(), Some(&*tagged));
    }
}

#[test]
fn a_frame_that_does_not_fit_has_no_length() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("h1", "eth0", &there);
    crate::sysctl::set("net/ipv6/conf/h1/disable_ipv6", "1").unwrap();
    {
        let _entered = there.enter().unwrap();
        crate::sysctl::set("net/ipv6/conf/eth0/disable_ipv6", "1").unwrap();
    }
    let far = socket_at("eth0", &there);
    let near = PacketSocket::bind(index).unwrap();
    let request = arp_request(MAC_B, TWO, ONE);
    far.send(&request).unwrap();
    let end = Instant::now() + DEADLINE;
    let length = loop {
        match near.recv(&mut vec![0; request.len() - 1]) {
            Ok(length) => break length,
            Err(_) => assert!(Instant::now() < end),
        }
    };
    assert_eq!(length, 0);
}

#[test]
fn a_socket_hears_neither_itself_nor_an_older_error_and_tells_when_its_link_is_gone() {
    let (_entered, here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("h1", "eth0", &there);
    let mut netlink = Netlink::open().unwrap();
    netlink.set_link(index, &LinkChange { up: Some(false), ..LinkChange::default() }).unwrap();
    let socket = PacketSocket::bind(index).unwrap();
    crate::sysctl::set("net/ipv6/conf/h1/disable_ipv6", "1").unwrap();
    set_up("h1", &here);
    socket.send(&arp_request(MAC_B, TWO, ONE)).unwrap();
    let own = |seen: &[u8]| seen.ends_with(&ONE);
    let silence = crate::testing::SILENCE;
    assert_eq!(receive(&socket, |buffer| socket.recv(buffer), silence, own), None);
    netlink.delete_link(index).unwrap();
    let error = loop {
        match socket.recv(&mut [0; 2048]) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
    assert_eq!(socket.send(&arp_request(MAC_B, TWO, ONE)).unwrap_err().raw_os_error(), Some(libc::ENXIO));
    assert!(PacketSocket::bind(index).unwrap_err().is_gone());
}
