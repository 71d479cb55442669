//! The fast path between two veth pairs, with frames as they come and with such as it must leave alone.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::link::Netlink;
use crate::netns::{Entered, NetNs};
use crate::tap::VNET_HEADER_LEN;
use crate::testing::{DEADLINE, own_namespace, receive, socket_at, veth_up};

const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 3];
const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 18, 5, 1);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(198, 18, 5, 2);
const SOURCE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 1);
const DESTINATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 2);
const TCP: u8 = 6;
const UDP: u8 = 17;
const MTU: u32 = 1400;
/// Where the IP header begins.
const IP: usize = 14;

/// Two containers with a veth pair each, whose near ends a socket listens at.
struct Pairs {
    path: Arc<FastPath>,
    near: [PacketSocket; 2],
    far: [PacketSocket; 2],
    passages: [Passage; 2],
    _there: [NetNs; 2],
    _entered: Entered,
}

impl Pairs {
    fn new() -> Pairs {
        let (_entered, _) = own_namespace();
        let there = [(); 2].map(|()| NetNs::create_anonymous().unwrap());
        // The kernel has nothing to say by itself then.
        let silence = || crate::sysctl::set("net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        silence();
        for namespace in &there {
            let _entered = namespace.enter().unwrap();
            silence();
        }
        let path = Arc::new(FastPath::load().unwrap());
        let index = |at: usize| veth_up(["h1", "h2"][at], "eth0", &there[at]);
        let ends = [index(0), index(1)].map(|index| {
            let near = PacketSocket::bind(index).unwrap();
            let passage = path.admit(index, std::slice::from_ref(&near)).unwrap();
            (near, passage)
        });
        let [(one, first), (two, second)] = ends;
        let far = [0, 1].map(|at: usize| socket_at("eth0", &there[at]));
        Pairs { path, near: [one, two], far, passages: [first, second], _there: there, _entered }
    }

    fn flow(&self, addresses: (IpAddr, IpAddr)) -> Flow<'_> {
        Flow { from: &self.passages[0], destination: TO, source: FROM, addresses }
    }

    fn action(&self) -> Action<'_> {
        Action { to: &self.passages[1], mtu: MTU, routed: None, stamps: Stamps::default(), until: None }
    }

    /// Lets packets of both families pass like this.
    fn keep(&self, action: Action<'_>) {
        for addresses in [(SOURCE.into(), DESTINATION.into()), (SOURCE6.into(), DESTINATION6.into())] {
            self.path.keep(&self.flow(addresses), &action).unwrap();
        }
    }

    fn send(&self, frame: &[u8]) {
        self.far[0].send(&[&[0; VNET_HEADER_LEN], frame].concat()).unwrap();
    }

    /// The frame comes to the other container, like this.
    #[track_caller]
    fn passes(&self, frame: &[u8], expected: &[u8]) {
        self.send(frame);
        let far = &self.far[1];
        let seen = receive(far, |buffer| far.recv(buffer), DEADLINE, |_| true).expect("nothing came");
        assert_eq!(&seen[VNET_HEADER_LEN..], expected);
    }

    /// The frame comes to whoever listens, as it is.
    #[track_caller]
    fn is_heard(&self, frame: &[u8]) {
        self.send(frame);
        let near = &self.near[0];
        let seen = receive(near, |buffer| near.recv(buffer), DEADLINE, |_| true).expect("nothing was heard");
        assert_eq!(&seen[VNET_HEADER_LEN..], frame);
    }
}

fn checksum(header: &[u8]) -> [u8; 2] {
    let words = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(((folded & 0xffff) + (folded >> 16)) as u16)).to_be_bytes()
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    [&TO[..], &FROM, &ethertype.to_be_bytes()].concat()
}

/// An IPv4 packet with so many octets behind its header, and its checksum put right after `change`.
fn v4(protocol: u8, behind: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = ethernet(0x0800);
    let length = (20 + behind as u16).to_be_bytes();
    frame.extend([0x45, 0, length[0], length[1], 0, 7, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(SOURCE.octets());
    frame.extend(DESTINATION.octets());
    frame.extend(transport(protocol, behind));
    change(&mut frame);
    let header = IP..IP + usize::from(frame[IP] & 15) * 4;
    frame[IP + 10..IP + 12].fill(0);
    let sum = checksum(&frame[header]);
    frame[IP + 10..IP + 12].copy_from_slice(&sum);
    frame
}

fn v6(protocol: u8, behind: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = ethernet(0x86dd);
    let length = (behind as u16).to_be_bytes();
    frame.extend([0x60, 0, 0, 0, length[0], length[1], protocol, 64]);
    frame.extend(SOURCE6.octets());
    frame.extend(DESTINATION6.octets());
    frame.extend(transport(protocol, behind));
    change(&mut frame);
    frame
}

/// From port 1000 to 2000, without a checksum that anybody looks at.
fn transport(protocol: u8, octets: usize) -> Vec<u8> {
    let mut bytes = vec![0x5a; octets];
    let ports = [3, 232, 7, 208];
    bytes.iter_mut().zip(ports).for_each(|(byte, port)| *byte = port);
    if protocol == TCP {
        bytes[12] = 0x50;
    }
    bytes
}

fn plain() -> Vec<Vec<u8>> {
    let each = [TCP, UDP].map(|protocol| [v4(protocol, 40, |_| ()), v6(protocol, 40, |_| ())]);
    each.concat()
}

#[test]
fn what_is_known_passes_and_is_counted_and_nobody_hears_it() {
    let pairs = Pairs::new();
    plain().iter().for_each(|frame| pairs.is_heard(frame));
    pairs.keep(pairs.action());
    let longest = [v4(UDP, MTU as usize - 20, |_| ()), v6(TCP, MTU as usize - 40, |_| ())];
    let mut octets = 0;
    for frame in plain().iter().chain(&longest) {
        pairs.passes(frame, frame);
        octets += frame.len() as u64;
    }
    let [sent, got] = [0, 1].map(|at: usize| pairs.passages[at].totals());
    assert_eq!(sent, Totals { rx_packets: 6, rx_bytes: octets, ..Totals::default() });
    assert_eq!(got, Totals { tx_packets: 6, tx_bytes: octets, ..Totals::default() });
    assert!(pairs.near.iter().all(|near| near.recv(&mut [0; 2048]).is_err()));
}

#[test]
fn what_is_routed_gets_other_addresses_and_a_ttl_less_by_one() {
    let pairs = Pairs::new();
    pairs.keep(Action { routed: Some((GATEWAY, TO)), ..pairs.action() });
    let routed = |mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&GATEWAY);
        frame[6..12].copy_from_slice(&TO);
        frame
    };
    // All sums there are, near the ends among them.
    for id in (0..=u16::MAX).step_by(251).chain(0xff00..=0xffff) {
        let packet = |ttl: u8| {
            v4(UDP, 8, |frame| {
                frame[IP + 4..IP + 6].copy_from_slice(&id.to_be_bytes());
                frame[IP + 8] = ttl;
            })
        };
        pairs.passes(&packet(64), &routed(packet(63)));
    }
    let packet = |hop_limit| v6(TCP, 40, |frame| frame[IP + 7] = hop_limit);
    pairs.passes(&packet(2), &routed(packet(1)));
    pairs.is_heard(&packet(1));
    for ttl in [0, 1] {
        pairs.is_heard(&v4(TCP, 40, |frame| frame[IP + 8] = ttl));
    }
}

#[test]
fn addresses_of_one_family_are_not_taken_for_those_of_the_other() {
    let pairs = Pairs::new();
    let v4_in_front = |address: Ipv4Addr| [&address.octets()[..], &[0; 12]].concat();
    let alike = v6(UDP, 40, |frame| {
        frame[IP + 8..IP + 24].copy_from_slice(&v4_in_front(SOURCE));
        frame[IP + 24..IP + 40].copy_from_slice(&v4_in_front(DESTINATION));
    });
    let flow = pairs.flow((SOURCE.into(), DESTINATION.into()));
    pairs.path.keep(&flow, &pairs.action()).unwrap();
    pairs.is_heard(&alike);
    let of = |address: Ipv4Addr| <[u8; 16]>::try_from(v4_in_front(address)).unwrap().into();
    pairs.path.set_picture_stamp(1).unwrap();
    let action = Action { stamps: Stamps { picture: 1, neighbors: 0 }, ..pairs.action() };
    pairs.path.keep(&pairs.flow((of(SOURCE), of(DESTINATION))), &action).unwrap();
    pairs.passes(&alike, &alike);
    pairs.is_heard(&v4(UDP, 40, |_| ()));
}

#[test]
fn what_is_out_of_the_ordinary_is_heard() {
    let pairs = Pairs::new();
    pairs.keep(pairs.action());
    let set = |at: usize, octets: &'static [u8]| {
        move |frame: &mut Vec<u8>| frame[at..at + octets.len()].copy_from_slice(octets)
    };
    let ports = |source: u16, destination: u16| {
        move |frame: &mut Vec<u8>| {
            let at = frame.len() - 40;
            frame[at..at + 2].copy_from_slice(&source.to_be_bytes());
            frame[at + 2..at + 4].copy_from_slice(&destination.to_be_bytes());
        }
    };
    let odd = [
        v4(UDP, 40, set(0, &[2, 0, 0, 0, 0, 9])),
        v4(UDP, 40, set(6, &[2, 0, 0, 0, 0, 9])),
        v4(UDP, 40, set(12, &[0x88, 0xb5])),
        v4(UDP, 40, set(IP + 15, &[9])),
        v4(UDP, 40, set(IP + 19, &[9])),
        v4(UDP, 40, set(IP, &[0x46])),
        v4(UDP, 40, set(IP, &[0x65])),
        v4(UDP, 40, set(IP + 3, &[59])),
        v4(UDP, 40, set(IP + 3, &[61])),
        v4(UDP, 40, set(IP + 6, &[0x20, 0])),
        v4(UDP, 40, set(IP + 6, &[0, 1])),
        v4(UDP, 40, set(IP + 6, &[0x80, 0])),
        v4(1, 40, |_| ()),
        v4(47, 40, |_| ()),
        v4(132, 40, |_| ()),
        v4(UDP, 2, |_| ()),
        v4(UDP, 40, ports(68, 67)),
        v4(UDP, 40, ports(67, 1000)),
        v6(UDP, 40, ports(1000, 546)),
        v6(UDP, 40, ports(547, 1000)),
        v4(UDP, 40, |frame| frame.push(0)),
        v4(UDP, MTU as usize - 19, |_| ()),
        v6(TCP, MTU as usize - 39, |_| ()),
        v6(UDP, 40, set(IP + 23, &[9])),
        v6(UDP, 40, set(IP + 39, &[9])),
        v6(UDP, 40, set(IP, &[0x40])),
        v6(UDP, 40, set(IP + 5, &[39])),
        v6(44, 40, |_| ()),
        v6(0, 40, |_| ()),
        v6(58, 40, |_| ()),
        [&v4(UDP, 40, |_| ())[..12], &[0x81, 0, 0, 10], &v4(UDP, 40, |_| ())[12..]].concat(),
        ethernet(0x0800),
        ethernet(0x86dd),
    ];
    odd.iter().for_each(|frame| pairs.is_heard(frame));
    let mut wrong = v4(UDP, 40, |_| ());
    wrong[IP + 11] ^= 1;
    pairs.is_heard(&wrong);
    // DHCP's ports mean nothing to TCP.
    let other = v4(TCP, 40, ports(68, 67));
    pairs.passes(&other, &other);
}

#[test]
fn what_was_kept_ends_with_its_stamps_its_time_and_its_link() {
    let pairs = Pairs::new();
    let frame = &v4(UDP, 40, |_| ());
    let action = pairs.action();
    let routed = Action { routed: Some((TO, FROM)), ..action };
    pairs.keep(action);
    pairs.path.set_neighbor_stamp(1).unwrap();
    pairs.passes(frame, frame);
    pairs.keep(routed);
    pairs.is_heard(frame);
    pairs.keep(Action { stamps: Stamps { picture: 0, neighbors: 1 }, ..routed });
    pairs.passes(frame, &v4(UDP, 40, |frame| frame[IP + 8] = 63));

    pairs.path.set_picture_stamp(1).unwrap();
    pairs.is_heard(frame);
    pairs.keep(action);
    pairs.is_heard(frame);
    let action = Action { stamps: Stamps { picture: 1, neighbors: 0 }, ..action };
    pairs.keep(action);
    pairs.passes(frame, frame);

    pairs.keep(Action { until: Some(monotonic_nanos() - 1_000_000_000), ..action });
    pairs.is_heard(frame);
    pairs.keep(Action { until: Some(monotonic_nanos() + 60_000_000_000), ..action });
    pairs.passes(frame, frame);

    // Nobody is where they went to; the next frame shows that the one before is gone.
    Netlink::open().unwrap().delete_link(pairs.passages[1].index).unwrap();
    pairs.send(frame);
    pairs.is_heard(&v4(1, 40, |_| ()));
}

#[test]
fn super_packets_pass_whole_as_long_as_their_segments_fit() {
    let pairs = Pairs::new();
    pairs.keep(pairs.action());
    let udp = v4(UDP, 4000, |frame| frame[IP + 24..IP + 26].copy_from_slice(&4000_u16.to_be_bytes()));
    for (protocol, frame, [kind, ip, headers, offset]) in [
        (TCP, v4(TCP, 4000, |_| ()), [1, 20, 20, 16]),
        (TCP, v6(TCP, 4000, |_| ()), [4, 40, 20, 16]),
        // It may be a tunnel's: the kernel does not tell programs of what kind it is.
        (UDP, udp, [5, 20, 8, 6]),
    ] {
        for size in [MTU as u16 - ip - headers, MTU as u16 - ip - headers + 1] {
            // The virtio-net header, in the machine's byte order: its checksum is wanted, its kind, its size.
            let lengths = [IP as u16 + ip + headers, size, IP as u16 + ip, offset];
            let header = [&[1, kind as u8][..], &lengths.map(u16::to_ne_bytes).concat()].concat();
            pairs.far[0].send(&[&header, &frame[..]].concat()).unwrap();
            let fits = protocol == TCP && size + ip + headers <= MTU as u16;
            let at = if fits { &pairs.far[1] } else { &pairs.near[0] };
            let seen = receive(at, |buffer| at.recv(buffer), DEADLINE, |_| true).expect("nothing came");
            assert_eq!(&seen[VNET_HEADER_LEN..], &frame[..], "{protocol} {size}");
            assert_eq!(&seen[4..6], size.to_ne_bytes(), "{protocol} {size}");
        }
    }
}

#[test]
fn a_link_that_is_opened_anew_is_counted_anew() {
    let mut pairs = Pairs::new();
    let frame = &v4(UDP, 40, |_| ());
    pairs.keep(pairs.action());
    pairs.passes(frame, frame);
    let index = pairs.passages[0].index;
    let anew = pairs.path.admit(index, &pairs.near[..1]).unwrap();
    let former = std::mem::replace(&mut pairs.passages[0], anew);
    pairs.passes(frame, frame);
    assert_eq!((former.totals().rx_packets, pairs.passages[0].totals().rx_packets), (2, 0));
    drop(former);
    pairs.keep(pairs.action());
    pairs.passes(frame, frame);
    assert_eq!(pairs.passages[0].totals().rx_packets, 1);
    assert_eq!(pairs.passages[1].totals().tx_packets, 3);
    let counted = |path: &FastPath| lock(&path.ports).keys().count();
    assert_eq!(counted(&pairs.path), 2);
    let path = Arc::clone(&pairs.path);
    drop(pairs);
    assert_eq!(counted(&path), 0);
}

#[test]
fn a_link_that_is_not_there_is_gone() {
    let (_entered, _here) = own_namespace();
    let path = Arc::new(FastPath::load().unwrap());
    assert!(path.admit(4000, &[]).unwrap_err().is_gone());
}
