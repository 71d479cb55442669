//! For this crate's tests: namespaces that vanish with the test, temporary folders, frames, waiting with a
//! deadline.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::datagram::{Arrival, MAX_ARRIVALS};
use crate::link::{LinkChange, Netlink, Route, VethSpec};
use crate::netns::{Entered, NetNs};
use crate::packet::PacketSocket;
use crate::poll::{Epoll, Events};
use crate::tap::VNET_HEADER_LEN;

/// Nothing here takes this long on a machine that works.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long a test waits to be sure that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(100);

pub(crate) const MAC_A: [u8; 6] = [2, 0, 0x5e, 0, 0, 0xa];
pub(crate) const MAC_B: [u8; 6] = [2, 0, 0x5e, 0, 0, 0xb];

/// The test's thread is in an empty namespace of its own while this lives.
pub(crate) fn own_namespace() -> (Entered, NetNs) {
    let namespace = NetNs::create_anonymous().unwrap();
    (namespace.enter().unwrap(), namespace)
}

/// A veth pair whose near end is in the thread's namespace, both ends up; the near end's index.
pub(crate) fn veth_up(near: &str, far: &str, there: &NetNs) -> u32 {
    let mut netlink = Netlink::open().unwrap();
    netlink
        .add_veth(&VethSpec {
            name: near,
            mac: Some(MAC_A),
            peer_name: far,
            peer_mac: Some(MAC_B),
            peer_netns: there,
            mtu: 1500,
            txqueuelen: 1000,
        })
        .unwrap();
    set_up(far, there);
    let index = netlink.link_by_name(near).unwrap().unwrap().index;
    netlink.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    index
}

/// Sets a device of a namespace up; its index there.
pub(crate) fn set_up(name: &str, there: &NetNs) -> u32 {
    let _entered = there.enter().unwrap();
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link_by_name(name).unwrap().unwrap().index;
    netlink.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
    index
}

/// A packet socket at a device of another namespace, which is up afterwards.
pub(crate) fn socket_at(name: &str, there: &NetNs) -> PacketSocket {
    let index = set_up(name, there);
    let _entered = there.enter().unwrap();
    PacketSocket::bind(index).unwrap()
}

/// Gives a device of a namespace addresses, a /24 or a /64 each.
pub(crate) fn give_addresses(index: u32, there: &NetNs, addresses: &[&str]) {
    let _entered = there.enter().unwrap();
    let mut netlink = Netlink::open().unwrap();
    for address in addresses {
        let address: IpAddr = address.parse().unwrap();
        netlink.add_address(index, address, if address.is_ipv4() { 24 } else { 64 }).unwrap();
    }
}

/// A namespace and its neighbour, a veth between them, and the near end's index. The thread is in the first
/// namespace, which has .1 and .3 of each prefix; the other has .2.
pub(crate) fn neighbors() -> (Entered, NetNs, NetNs, u32) {
    let (entered, here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let near = veth_up("eth0", "eth0", &there);
    let far = set_up("eth0", &there);
    give_addresses(near, &here, &["198.18.7.1", "198.18.7.3", "2001:db8:7::1", "2001:db8:7::3"]);
    give_addresses(far, &there, &["198.18.7.2", "2001:db8:7::2"]);
    (entered, here, there, near)
}

/// Makes the neighbour a router, and gives it another neighbour, .2 of the next prefixes, behind a link of
/// this MTU; the near end at `near` knows the way.
pub(crate) fn route_beyond(router: &NetNs, near: u32, mtu: u32) -> NetNs {
    let beyond = NetNs::create_anonymous().unwrap();
    {
        let _entered = router.enter().unwrap();
        crate::sysctl::set("net/ipv4/ip_forward", "1").unwrap();
        crate::sysctl::set("net/ipv6/conf/all/forwarding", "1").unwrap();
        let index = veth_up("eth1", "eth0", &beyond);
        let change = LinkChange { mtu: Some(mtu), ..LinkChange::default() };
        Netlink::open().unwrap().set_link(index, &change).unwrap();
        give_addresses(index, router, &["198.18.8.1", "2001:db8:8::1"]);
    }
    give_addresses(set_up("eth0", &beyond), &beyond, &["198.18.8.2", "2001:db8:8::2"]);
    let mut netlink = Netlink::open().unwrap();
    for (prefix, length, via) in [("198.18.8.0", 24, "198.18.7.2"), ("2001:db8:8::", 64, "2001:db8:7::2")] {
        netlink
            .add_route(&Route {
                prefix: (prefix.parse().unwrap(), length),
                via: Some(via.parse().unwrap()),
                index: Some(near),
                protocol: crate::link::ROUTE_PROTOCOL_WEFT,
                metric: None,
                onlink: false,
            })
            .unwrap();
    }
    beyond
}

/// Receives until there are datagrams, with what is known of each; panics when the time is over.
pub(crate) fn arrivals(
    socket: &impl AsFd,
    recv: impl Fn(&mut [Vec<u8>], &mut [Arrival]) -> io::Result<usize>,
) -> Vec<(Arrival, Vec<u8>)> {
    let mut buffers = vec![vec![0; 65_535]; MAX_ARRIVALS];
    let mut arrivals = [Arrival::NONE; MAX_ARRIVALS];
    let (epoll, mut events) = (Epoll::new().unwrap(), Events::with_capacity(1));
    epoll.add(socket.as_fd(), 0).unwrap();
    let end = Instant::now() + DEADLINE;
    loop {
        match recv(&mut buffers, &mut arrivals) {
            Ok(count) => {
                let seen = arrivals.into_iter().zip(buffers).take(count);
                return seen.map(|(arrival, octets)| (arrival, octets[..arrival.length].to_vec())).collect();
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
        let left = end.checked_duration_since(Instant::now()).expect("datagrams in time");
        epoll.wait(&mut events, Some(left)).unwrap();
    }
}

/// Waits until a socket has something to say, an error or a datagram; whether it is an error.
pub(crate) fn wait_for_error(socket: &impl AsFd) -> bool {
    let (epoll, mut events) = (Epoll::new().unwrap(), Events::with_capacity(1));
    epoll.add(socket.as_fd(), 0).unwrap();
    epoll.wait(&mut events, Some(DEADLINE)).unwrap();
    events.iter().any(|event| event.hangup)
}

/// A folder that vanishes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("weft-host-{}-{test}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = crate::netns::remove(&entry.path());
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A virtio-net header that asks for nothing, and an ARP request (RFC 826) for `target`.
pub(crate) fn arp_request(from: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; VNET_HEADER_LEN];
    bytes.extend([0xff; 6]);
    bytes.extend(from);
    bytes.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    bytes.extend(from);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend(target);
    bytes
}

/// Whether a frame (behind its header) is an ARP reply from `sender`.
pub(crate) fn is_arp_reply(buffer: &[u8], sender: [u8; 4]) -> bool {
    let frame = &buffer[VNET_HEADER_LEN..];
    frame[12..14] == [0x08, 0x06] && frame[20..22] == [0, 2] && frame[28..32] == sender
}

/// Reads frames until one is as wanted, or the time is over.
pub(crate) fn receive(
    device: &impl AsFd,
    recv: impl Fn(&mut [u8]) -> io::Result<usize>,
    within: Duration,
    wanted: impl Fn(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let (epoll, mut events) = (Epoll::new().unwrap(), Events::with_capacity(1));
    epoll.add(device.as_fd(), 0).unwrap();
    let end = Instant::now() + within;
    let mut buffer = vec![0; 70_000];
    loop {
        match recv(&mut buffer) {
            Ok(length) if wanted(&buffer[..length]) => return Some(buffer[..length].to_vec()),
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
        let left = end.checked_duration_since(Instant::now())?;
        epoll.wait(&mut events, Some(left)).unwrap();
    }
}
