//! Ways to far ends that carry less than was thought.

use super::*;
use crate::tunnel::UnderlayError;

/// Node a of [`secured`] with two peers: b, which has 198.18.20.0/24, and c, which has 198.18.30.0/24.
fn with_two_peers() -> (Node, Node) {
    let (mut a, b) = secured();
    a.fabric.reconfigure(&two_peers(C));
    a.fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    (a, b)
}

/// What a is made of then; the second peer is at `other`.
fn two_peers(other: &str) -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.ports.truncate(3);
    let Encapsulation::WireGuard(mut means) = wireguard(1, 2, Some(B), &["198.18.20.0/24", "198.18.9.2/32"])
    else {
        panic!()
    };
    let Encapsulation::WireGuard(second) = wireguard(1, 3, Some(other), &["198.18.30.0/24"]) else {
        panic!()
    };
    means.peers.extend(second.peers);
    let joins = on_router(&[("198.18.9.1", "198.18.9.0/30")], &[]);
    spec.tunnels = vec![tunnel("far", joins, Encapsulation::WireGuard(means))];
    spec
}

/// A packet of `length` octets from a1 to `destination` by its gateway.
fn long(a: &mut Node, destination: &str, length: u16) -> (Vec<super::super::Sent>, Sent) {
    let frame = a.fabric.frame("a1", |spec| {
        spec.destination = destination.parse().unwrap();
        spec.destination_mac = Some(testing::gateway_mac("a"));
        spec.length = Some(length);
        spec.dont_fragment = true;
    });
    a.receive("a1", Packet::from_frame(&frame))
}

/// The MTU that an ICMP error tells, the only frame there.
fn told_mtu(frames: &[super::super::Sent]) -> u16 {
    let [(_, told)] = frames else { panic!("{} frames", frames.len()) };
    let told = told.frame();
    assert_eq!(told[34..36], [3, 4], "fragmentation needed");
    u16::from_be_bytes([told[40], told[41]])
}

/// Where a peer is that was not heard yet.
fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), PORT)
}

fn too_big<'a>(endpoint: SocketAddr, mtu: u32, quote: Option<&'a [u8]>) -> UnderlayError<'a> {
    UnderlayError {
        destination: endpoint,
        mtu: Some(mtu),
        by_node: quote.is_none(),
        quote: quote.unwrap_or_default(),
    }
}

#[test]
fn a_narrow_way_to_one_peer_is_not_that_to_the_others() {
    let (mut a, mut b) = with_two_peers();
    let (_, none) = long(&mut a, "198.18.20.10", 1400);
    assert!(none.is_empty(), "there is no session yet");
    settle(&mut a, &mut b, Sent::new());
    let (_, sent) = long(&mut a, "198.18.20.10", 1400);
    let [(datagram, message)] = &sent[..] else { panic!("{sent:?}") };
    let at_b = datagram.destination;
    let (now, underlay) = (a.fabric.now, Underlay::Udp(PORT));
    // Not believed: a session that b does not have, and c's way for what was sent to b.
    let mut other = message.clone();
    other[4] ^= 1;
    a.fabric.stack.underlay_error(now, underlay, &too_big(at_b, 1400, Some(&other)));
    a.fabric.stack.underlay_error(now, underlay, &too_big(at(C), 1400, Some(message)));
    assert_eq!(long(&mut a, "198.18.20.10", 1400).1.len(), 1);
    a.fabric.stack.underlay_error(now, underlay, &too_big(at_b, 1400, Some(message)));
    let (frames, sent) = long(&mut a, "198.18.20.10", 1400);
    assert_eq!((told_mtu(&frames), sent.len()), (1340, 0));
    // Padding stays within what the way takes.
    assert_eq!(long(&mut a, "198.18.20.10", 1338).1[0].1.len(), 1340 + 32);
    assert!(long(&mut a, "198.18.30.10", 1400).0.is_empty(), "c's way is as wide as ever");
    let view = a.fabric.stack.config().tunnel("far", now).unwrap();
    assert_eq!((view.paths, view.mtu), (vec![Some(1340), None], Some(1340)));
}

#[test]
fn the_nodes_own_word_counts_for_the_peers_at_that_address() {
    let (mut a, _) = with_two_peers();
    let (now, underlay) = (a.fabric.now, Underlay::Udp(PORT));
    let no_port = SocketAddr::new(at(C).ip(), 0);
    a.fabric.stack.underlay_error(now, underlay, &too_big(no_port, 1380, None));
    assert_eq!(told_mtu(&long(&mut a, "198.18.30.10", 1400).0), 1320);
    assert!(long(&mut a, "198.18.20.10", 1400).0.is_empty());
    // The peer is elsewhere then: nobody has said anything of the way to there.
    a.fabric.reconfigure(&two_peers("192.0.2.4"));
    assert!(long(&mut a, "198.18.30.10", 1400).0.is_empty());
}

#[test]
fn what_has_waited_is_padded_within_what_the_way_carries() {
    let (mut a, mut b) = with_two_peers();
    let (now, underlay) = (a.fabric.now, Underlay::Udp(PORT));
    a.fabric.stack.underlay_error(now, underlay, &too_big(at(B), 1402, None));
    assert!(long(&mut a, "198.18.20.10", 1340).1.is_empty(), "there is no session yet");
    // An initiation, its answer, and what has waited: 1340 octets would be padded to 1344, and the way carries 1342
    // inside.
    let initiation = a.poll();
    let (_, answer) = b.hear(&a, &initiation, None);
    let (_, sent) = a.hear(&b, &answer, None);
    let lengths: Vec<_> = sent.iter().map(|(_, octets)| octets.len()).collect();
    assert_eq!(lengths, [1342 + 32]);
}

#[test]
fn a_way_that_carries_less_is_told_to_senders_and_packets_that_may_be_cut_are() {
    let Encapsulation::Vxlan(mut spec) = vxlan(42, &[B]) else { panic!() };
    spec.remotes[0].macs = vec![testing::mac("b1")];
    let (mut a, _) = stretched(Encapsulation::Vxlan(spec), vxlan(42, &[A]));
    a.fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    let long = |a: &mut Node, dont_fragment: bool| {
        let frame = a.fabric.frame("a1", |spec| {
            spec.destination = "198.18.1.20".parse().unwrap();
            spec.destination_mac = Some(testing::mac("b1"));
            spec.length = Some(1400);
            spec.dont_fragment = dont_fragment;
        });
        a.receive("a1", Packet::from_frame(&frame))
    };
    assert_eq!(long(&mut a, true).1.len(), 1, "it fits");
    let error = |quote: &'static [u8]| crate::tunnel::UnderlayError {
        destination: format!("{B}:4789").parse().unwrap(),
        mtu: Some(1350),
        by_node: false,
        quote,
    };
    let (now, underlay) = (a.fabric.now, Underlay::Udp(4789));
    // Who does not know what was sent is not believed.
    a.fabric.stack.underlay_error(now, underlay, &error(&[8, 0, 0, 0, 0, 0, 43, 0]));
    a.fabric.stack.underlay_error(now, underlay, &error(&[]));
    assert_eq!(long(&mut a, true).1.len(), 1);
    a.fabric.stack.underlay_error(now, underlay, &error(&[8, 0, 0, 0, 0, 0, 42, 0]));
    let (frames, sent) = long(&mut a, true);
    assert!(sent.is_empty());
    let told = frames[0].1.frame();
    assert_eq!((ports(&frames), &told[34..36]), (vec!["a1"], &[3, 4][..]));
    assert_eq!(told[40..42], 1300u16.to_be_bytes(), "1350 less what the tunnel adds");
    // Both pieces fit.
    let (frames, sent) = long(&mut a, false);
    let [(datagram, octets)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((frames.len(), octets.len().div_ceil(datagram.segment)), (0, 2));
    assert!(datagram.segment <= 1300 + 14 + 8);
    assert_eq!(a.fabric.counted("tunnel_errors"), 3);
}

/// A Network that reaches over a narrow way to b, 1300 octets, and by a wider one to c, 1350 octets.
fn unequal() -> Node {
    let (mut a, _) = stretched(vxlan(42, &[B, C]), vxlan(42, &[A]));
    a.fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    for (remote, mtu) in [(B, 1350), (C, 1400)] {
        let error = UnderlayError {
            destination: format!("{remote}:4789").parse().unwrap(),
            mtu: Some(mtu),
            by_node: true,
            quote: &[],
        };
        a.fabric.stack.underlay_error(a.fabric.now, Underlay::Udp(4789), &error);
    }
    a
}

/// A packet of `length` octets from a1 on its own Network.
fn bridged(
    a: &mut Node,
    to: (&str, MacAddr),
    length: u16,
    dont_fragment: bool,
) -> (Vec<super::super::Sent>, Sent) {
    let frame = a.fabric.frame("a1", |spec| {
        spec.destination = to.0.parse().unwrap();
        spec.destination_mac = Some(to.1);
        spec.length = Some(length);
        spec.dont_fragment = dont_fragment;
    });
    a.receive("a1", Packet::from_frame(&frame))
}

/// To which far end how many datagrams go.
fn datagrams(sent: &Sent) -> Vec<(String, usize)> {
    let count = |(datagram, octets): &(Datagram, Vec<u8>)| {
        let pieces = if datagram.segment == 0 { 1 } else { octets.len().div_ceil(datagram.segment) };
        (datagram.destination.ip().to_string(), pieces)
    };
    sent.iter().map(count).collect()
}

const GROUP: MacAddr = MacAddr([0x01, 0, 0x5e, 1, 2, 3]);

#[test]
fn what_goes_to_many_and_may_be_cut_is_cut_for_those_that_need_it() {
    let mut a = unequal();
    for to in [("198.18.1.20", testing::mac("b1")), ("239.1.2.3", GROUP)] {
        let (frames, sent) = bridged(&mut a, to, 1340, false);
        assert_eq!(ports(&frames), ["a2", "a3"]);
        assert!(frames.iter().all(|(_, frame)| frame.len() == 1354), "whole");
        assert_eq!(datagrams(&sent), [(B.to_owned(), 2), (C.to_owned(), 1)]);
        assert!(sent[0].0.segment <= 1300 + 14 + 8);
        assert_eq!(sent[1].1.len(), 1340 + 14 + 8);
    }
    assert_eq!(a.fabric.dropped(&format!("far/{B}"), DropReason::FrameTooLong), 0);
}

#[test]
fn who_floods_what_must_not_be_cut_is_told_once() {
    let mut a = unequal();
    let to = ("198.18.1.20", testing::mac("b1"));
    let (mut frames, sent) = bridged(&mut a, to, 1400, true);
    assert!(sent.is_empty());
    let told = frames.extract_if(.., |(port, _)| *port == "a1").collect::<Vec<_>>();
    assert_eq!((ports(&frames), told_mtu(&told)), (vec!["a2", "a3"], 1300));
    assert_eq!(a.fabric.counted("icmp_errors"), 1);
    for remote in [B, C] {
        assert_eq!(a.fabric.dropped(&format!("far/{remote}"), DropReason::PacketTooBig), 1);
    }
    // The one whose way takes it gets it.
    assert_eq!(datagrams(&bridged(&mut a, to, 1350, true).1), [(C.to_owned(), 1)]);
}

#[test]
fn errors_about_groups_are_told_for_ipv6_only() {
    let mut a = unequal();
    for to in [("239.1.2.3", GROUP), ("198.18.1.255", MacAddr::BROADCAST)] {
        let (frames, sent) = bridged(&mut a, to, 1400, true);
        assert_eq!((ports(&frames), sent.len()), (vec!["a2", "a3"], 0), "RFC 1122 section 3.2.2");
    }
    let to = ("ff0e::1:2:3", MacAddr([0x33, 0x33, 0, 1, 0, 2]));
    let (frames, sent) = bridged(&mut a, to, 1400, true);
    assert!(sent.is_empty());
    let told: Vec<_> = frames.iter().filter(|(port, _)| *port == "a1").collect();
    let [(_, told)] = &told[..] else { panic!("{} are told", told.len()) };
    assert_eq!(told.frame()[54..62], [2, 0, told.frame()[56], told.frame()[57], 0, 0, 5, 20], "1300");
    assert_eq!(a.fabric.counted("icmp_errors"), 1);
}

/// Node a of [`stretched`] with this tunnel to b.
fn retold(a: &mut Node, tunnel: TunnelSpec) {
    let mut spec = testing::two_networks();
    spec.ports.truncate(3);
    spec.tunnels = vec![tunnel];
    a.fabric.reconfigure(&spec);
}

#[test]
fn another_way_begins_anew() {
    let mut a = unequal();
    let path = |a: &Node| a.fabric.stack.config().tunnel("far", a.fabric.now).unwrap().paths[0];
    let now = tunnel("far", on_network("a"), vxlan(42, &[B, C]));
    let local: IpAddr = "198.18.1.1".parse().unwrap();
    retold(&mut a, TunnelSpec { mtu: 1390, ..now.clone() });
    assert_eq!(path(&a), Some(1300), "the same way");
    retold(&mut a, TunnelSpec { local: Some(local), ..now.clone() });
    assert_eq!(path(&a), None, "another address to speak from");
    let mut a = unequal();
    retold(&mut a, TunnelSpec { carrier: Carrier::Router("core".into()), local: Some(local), ..now });
    assert_eq!(path(&a), None, "a Router carries it");
}

#[test]
fn numbers_go_on_in_the_same_tunnel_only() {
    let means = |key| Encapsulation::Gre(gre(B, key));
    let (mut a, _) = stretched(means(None), vxlan(42, &[B]));
    let number = |a: &mut Node| {
        let frame = frame_to_b1(a);
        let (_, sent) = a.receive("a1", Packet::from_frame(&frame));
        crate::wire::gre::Header::parse(&sent[0].1).unwrap().sequence
    };
    assert_eq!((number(&mut a), number(&mut a)), (Some(0), Some(1)));
    let without_checksum = GreSpec { checksum: false, ..gre(B, None) };
    retold(&mut a, tunnel("far", on_network("a"), Encapsulation::Gre(without_checksum)));
    assert_eq!(number(&mut a), Some(2));
    retold(&mut a, tunnel("far", on_network("a"), means(Some(7))));
    assert_eq!(number(&mut a), Some(0), "another tunnel of the far end's");
}

#[test]
fn a_far_end_that_begins_to_number_anew_is_heard() {
    let means = |remote: &str| Encapsulation::Gre(gre(remote, None));
    let (mut a, mut b) = stretched(means(B), means(A));
    let frame = frame_to_b1(&a);
    let mut send = |a: &mut Node| {
        let (_, sent) = a.receive("a1", Packet::from_frame(&frame));
        b.hear(a, &sent, None).0.len()
    };
    assert_eq!((0..100).map(|_| send(&mut a)).sum::<usize>(), 100);
    let (mut anew, _) = stretched(means(B), means(A));
    let heard: Vec<_> = (0..10).map(|_| send(&mut anew)).collect();
    assert_eq!(heard, [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    assert_eq!(b.fabric.dropped("far", DropReason::TunnelOutOfOrder), 7);
}
