//! Tunnels between two fabrics, node a and node b, whose sockets are joined by hand.

use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::config::{
    Carrier, Encapsulation, GreSpec, Joins, NetworkSpec, RouterSpec, TunnelSpec, VxlanRemote, VxlanSpec,
    WireGuardPeer, WireGuardSpec,
};
use crate::packet::{Gso, GsoKind, Offload, PartialChecksum};
use crate::tunnel::datagram::run_payload;
use crate::tunnel::datagram::{Arrival, Datagram};
use crate::tunnel::wireguard::{PresharedKey, PrivateKey};
use crate::tunnel::{Inbox, Load, Underlay};
use crate::wire::{icmpv4, ipv4};

mod counts;
mod ways;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";

/// A fabric at an address of the node's network.
struct Node {
    fabric: Fabric,
    address: IpAddr,
}

/// Datagrams with their octets.
type Sent = Vec<(Datagram, Vec<u8>)>;

impl Node {
    fn new(address: &str, spec: &FabricSpec) -> Node {
        Node { fabric: Fabric::new(spec), address: address.parse().unwrap() }
    }

    /// Lets a packet come in at a port; what left by ports, and by sockets.
    fn receive(&mut self, port: &str, packet: Packet) -> (Vec<super::Sent>, Sent) {
        let id = self.fabric.stack.config().port_by_name(port).unwrap().id;
        let mut batch = Batch::new();
        *batch.vacant() = packet;
        batch.commit(1);
        self.process(id, &mut batch)
    }

    /// Does what is due.
    fn poll(&mut self) -> Sent {
        let mut output = Output::new();
        self.fabric.stack.poll(self.fabric.now, &mut output);
        self.fabric.stack.number(&mut output);
        taken(&output)
    }

    fn process(&mut self, port: PortId, batch: &mut Batch) -> (Vec<super::Sent>, Sent) {
        let mut output = Output::new();
        self.fabric.stack.process(self.fabric.now, port, batch, &mut output);
        self.fabric.stack.number(&mut output);
        let datagrams = taken(&output);
        (self.fabric.collect(batch, &mut output), datagrams)
    }

    /// Lets datagrams of `from` come in by the sockets.
    fn hear(&mut self, from: &Node, sent: &Sent, tos: Option<u8>) -> (Vec<super::Sent>, Sent) {
        let (mut frames, mut datagrams, own) = (Vec::new(), Vec::new(), self.address);
        for (datagram, octets) in sent.iter().filter(|(datagram, _)| datagram.destination.ip() == own) {
            let mut inbox = Inbox::new();
            inbox.vacant()[0][..octets.len()].copy_from_slice(octets);
            inbox.commit(Arrival {
                source: SocketAddr::new(from.address, 50_000),
                local: self.address,
                tos: tos.unwrap_or(datagram.tos),
                length: octets.len(),
                segment: datagram.segment,
            });
            let mut batch = Batch::new();
            loop {
                let mut output = Output::new();
                batch.clear();
                let (now, underlay) = (self.fabric.now, datagram.underlay);
                let port = self.fabric.stack.receive(now, underlay, &mut inbox, &mut batch, &mut output);
                datagrams.extend(taken(&output));
                let Some(port) = port else { break };
                let (more, answers) = self.process(port, &mut batch);
                frames.extend(more);
                datagrams.extend(answers);
            }
        }
        (frames, datagrams)
    }
}

/// Lets both nodes do what is due, and carries what they send, until nothing more is said. `sent` is on its way from a
/// to b. The frames that left by ports, of a and of b.
fn settle(a: &mut Node, b: &mut Node, sent: Sent) -> [Vec<super::Sent>; 2] {
    let mut frames = [Vec::new(), Vec::new()];
    let (mut to_b, mut to_a) = (sent, Sent::new());
    for _ in 0..20 {
        to_b.extend(a.poll());
        to_a.extend(b.poll());
        let (left, answers) = b.hear(a, &std::mem::take(&mut to_b), None);
        frames[1].extend(left);
        to_a.extend(answers);
        let (left, answers) = a.hear(b, &std::mem::take(&mut to_a), None);
        frames[0].extend(left);
        to_b.extend(answers);
        if to_b.is_empty() && frames.iter().any(|frames| !frames.is_empty()) {
            break;
        }
    }
    frames
}

fn taken(output: &Output) -> Sent {
    output.datagrams().iter().map(|it| (it.clone(), output.octets(it).to_vec())).collect()
}

fn tunnel(name: &str, joins: Joins, encapsulation: Encapsulation) -> TunnelSpec {
    TunnelSpec { name: name.into(), joins, mtu: 1400, carrier: Carrier::Node, local: None, encapsulation }
}

fn on_network(network: &str) -> Joins {
    Joins::Network { network: network.into(), vlan: 0 }
}

fn on_router(addresses: &[(&str, &str)], routes: &[&str]) -> Joins {
    let parse = |(own, prefix): &(&str, &str)| (own.parse().unwrap(), prefix.parse().unwrap());
    Joins::Router {
        router: "core".into(),
        addresses: addresses.iter().map(parse).collect(),
        routes: routes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
    }
}

fn vxlan(vni: u32, remotes: &[&str]) -> Encapsulation {
    let remote = |address: &&str| VxlanRemote { address: address.parse().unwrap(), macs: Vec::new() };
    let remotes = remotes.iter().map(remote).collect();
    Encapsulation::Vxlan(VxlanSpec { vni, port: 4789, remotes, suppress_neighbors: false })
}

fn gre(remote: &str, key: Option<u32>) -> GreSpec {
    GreSpec { remote: remote.parse().unwrap(), key, checksum: true, sequence: true }
}

/// Node a has a1 to a3, node b has b1; network `a` is stretched over both.
fn stretched(a: Encapsulation, b: Encapsulation) -> (Node, Node) {
    let mut here = testing::two_networks();
    here.ports.truncate(3);
    here.tunnels = vec![tunnel("far", on_network("a"), a)];
    let mut there = testing::two_networks();
    there.ports = vec![testing::port("b1", "a", 1, 20)];
    there.networks.truncate(1);
    there.networks[0].router = None;
    there.tunnels = vec![tunnel("far", on_network("a"), b)];
    (Node::new(A, &here), Node::new(B, &there))
}

fn frame_to_b1(node: &Node) -> Vec<u8> {
    node.fabric.frame("a1", |spec| {
        spec.destination = "198.18.1.20".parse().unwrap();
        spec.destination_mac = Some(testing::mac("b1"));
    })
}

#[test]
fn a_frame_goes_through_vxlan_and_its_sender_is_learned_there() {
    let (mut a, mut b) = stretched(vxlan(42, &[B]), vxlan(42, &[A]));
    let frame = frame_to_b1(&a);
    let (_, sent) = a.receive("a1", Packet::from_frame(&frame));
    let [(datagram, octets)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(octets[..8], [8, 0, 0, 0, 0, 0, 42, 0]);
    assert_eq!(octets[8..], frame, "unchanged");
    assert_eq!(
        (datagram.underlay, datagram.destination.to_string()),
        (Underlay::Udp(4789), format!("{B}:4789"))
    );
    let (frames, _) = b.hear(&a, &sent, None);
    assert_eq!((ports(&frames), frames[0].1.frame()), (vec!["b1"], &frame[..]));
    // The way back is known: only the far end gets it.
    let back = addressed(frame, testing::mac("a1"), testing::mac("b1"));
    let mut back = Packet::from_frame(&back);
    back.frame_mut()[26..30].copy_from_slice(&[198, 18, 1, 20]);
    ipv4::fill_checksum(&mut back.frame_mut()[14..34]);
    let (_, sent) = b.receive("b1", back);
    assert_eq!(ports(&a.hear(&b, &sent, None).0), ["a1"]);
}

#[test]
fn what_goes_to_many_goes_to_every_far_end_and_not_from_one_to_the_next() {
    let (mut a, b) = stretched(vxlan(42, &[B, C]), vxlan(42, &[A]));
    let question = a.fabric.resolve("a1", "198.18.1.20");
    let (frames, sent) = a.receive("a1", Packet::from_frame(&question));
    assert_eq!(ports(&frames), ["a2", "a3"]);
    let to: Vec<String> = sent.iter().map(|(datagram, _)| datagram.destination.ip().to_string()).collect();
    assert_eq!(to, [B, C]);
    let heard: Sent = sent
        .into_iter()
        .take(1)
        .map(|(datagram, octets)| {
            let destination = SocketAddr::new(a.address, 4789);
            let stranger = addressed(octets[8..].to_vec(), MacAddr::BROADCAST, testing::mac("x"));
            (Datagram { destination, ..datagram }, [&octets[..8], &stranger].concat())
        })
        .collect();
    let (frames, sent) = a.hear(&b, &heard, None);
    assert_eq!(ports(&frames), ["a1", "a2", "a3"]);
    assert!(sent.is_empty(), "{sent:?}");
}

#[test]
fn wrong_vnis_and_strangers_get_nothing_through_and_are_counted() {
    let (mut a, mut b) = stretched(vxlan(42, &[B]), vxlan(43, &[A]));
    let frame = frame_to_b1(&a);
    let (_, sent) = a.receive("a1", Packet::from_frame(&frame));
    assert!(b.hear(&a, &sent, None).0.is_empty());
    assert_eq!(b.fabric.dropped(&format!("far/{A}"), DropReason::TunnelVniUnknown), 1);
    let (mut b, c) = (stretched(vxlan(42, &[B]), vxlan(42, &[A])).1, Node::new(C, &testing::two_networks()));
    assert!(b.hear(&c, &sent, None).0.is_empty());
    assert_eq!(b.fabric.counted("tunnel_strangers"), 1);
}

#[test]
fn a_question_for_who_is_behind_a_tunnel_is_answered_in_its_place() {
    let means = |remote: &str| {
        let Encapsulation::Vxlan(spec) = vxlan(42, &[remote]) else { panic!() };
        Encapsulation::Vxlan(VxlanSpec { suppress_neighbors: true, ..spec })
    };
    let (mut a, mut b) = stretched(means(B), means(A));
    // Asked the first time, b1 answers itself; asked again, by another port, it need not.
    let question = a.fabric.resolve("a1", "198.18.1.20");
    let (frames, sent) = a.receive("a1", Packet::from_frame(&question));
    assert_eq!((ports(&frames), sent.len()), (vec!["a2", "a3"], 1));
    assert_eq!(ports(&b.hear(&a, &sent, None).0), ["b1"]);
    let mut answer = b.fabric.resolve("b1", "198.18.1.10");
    answer[..6].copy_from_slice(&testing::mac("a1").0);
    answer[21] = 2;
    answer[32..38].copy_from_slice(&testing::mac("a1").0);
    let (_, sent) = b.receive("b1", Packet::from_frame(&answer));
    assert_eq!(ports(&a.hear(&b, &sent, None).0), ["a1"]);
    let question = a.fabric.resolve("a2", "198.18.1.20");
    let (frames, sent) = a.receive("a2", Packet::from_frame(&question));
    assert_eq!((ports(&frames), sent.len()), (vec!["a2"], 0));
    let reply = frames[0].1.frame();
    assert_eq!((&reply[22..28], &reply[28..32]), (&testing::mac("b1").0[..], &[198, 18, 1, 20][..]));
    assert_eq!(a.fabric.counted("questions_suppressed"), 1);
    // What nobody has said for long may be wrong.
    a.fabric.now = a.fabric.now + Duration::from_secs(300);
    assert_eq!(a.receive("a2", Packet::from_frame(&question)).1.len(), 1);
}

/// A TCP super-packet from a1 to b1, with its checksum left open.
fn super_packet(payload: usize, size: u16) -> Packet {
    let mut frame = testing::tcp_frame(payload);
    frame[..6].copy_from_slice(&testing::mac("b1").0);
    frame[30..34].copy_from_slice(&[198, 18, 1, 20]);
    ipv4::fill_checksum(&mut frame[14..34]);
    let (source, destination) = (IpAddr::from([198, 18, 1, 10]), IpAddr::from([198, 18, 1, 20]));
    let sum = crate::wire::checksum::pseudo_header(source, destination, 6, payload + 20).folded();
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame[47] = 0x10;
    let mut packet = Packet::from_frame(&frame);
    packet.offload = Offload {
        checksum: Some(PartialChecksum { start: 34, offset: 16 }),
        gso: Some(Gso { kind: GsoKind::TcpV4, size, header_length: 54, ecn: false }),
        verified: false,
    };
    packet
}

#[test]
fn a_super_packet_is_one_run_of_datagrams_and_comes_out_as_it_was() {
    let (mut a, mut b) = stretched(vxlan(42, &[B]), vxlan(42, &[A]));
    let packet = super_packet(50_000, 1300);
    let original = packet.frame().to_vec();
    let (_, sent) = a.receive("a1", packet);
    let [(datagram, octets)] = &sent[..] else { panic!("{} datagrams", sent.len()) };
    assert_eq!(datagram.segment, 8 + 54 + 1300);
    assert_eq!(octets.len().div_ceil(datagram.segment), 39);
    let (frames, _) = b.hear(&a, &sent, None);
    assert_eq!(ports(&frames), ["b1"]);
    let out = &frames[0].1;
    assert_eq!(out.offload.gso.map(|gso| gso.size), Some(1300));
    assert_eq!(out.frame()[54..], original[54..], "the payload");
    assert_eq!(out.frame()[..18], original[..18]);
}

#[test]
fn what_is_not_longer_than_a_runs_payload_leaves_as_one_run() {
    for mtu in [1100, 1280, 1340] {
        let (segment, payload) = (mtu - 52, run_payload(mtu).unwrap());
        let runs = |payload| {
            let (mut a, _) = stretched(vxlan(42, &[B]), vxlan(42, &[A]));
            a.receive("a1", super_packet(payload, segment as u16)).1.len()
        };
        assert_eq!((payload % segment, runs(payload), runs(payload + 2 * segment)), (0, 1, 2), "{mtu}");
    }
    assert_eq!(run_payload(65_000), None);
}

#[test]
fn gre_carries_ethernet_with_key_checksum_and_numbers() {
    let means = |remote: &str| Encapsulation::Gre(gre(remote, Some(7)));
    let (mut a, mut b) = stretched(means(B), means(A));
    let frame = frame_to_b1(&a);
    let (_, first) = a.receive("a1", Packet::from_frame(&frame));
    let (_, second) = a.receive("a1", Packet::from_frame(&frame));
    assert_eq!(first[0].1[..4], [0xb0, 0, 0x65, 0x58]);
    assert_eq!((first[0].1[11], second[0].1[11], second[0].1[15]), (7, 7, 1));
    assert_eq!(ports(&b.hear(&a, &second, None).0), ["b1"]);
    assert!(b.hear(&a, &first, None).0.is_empty(), "late");
    assert_eq!(b.fabric.dropped("far", DropReason::TunnelOutOfOrder), 1);
    let mut broken = a.receive("a1", Packet::from_frame(&frame)).1;
    *broken[0].1.last_mut().unwrap() ^= 1;
    assert!(b.hear(&a, &broken, None).0.is_empty());
    assert_eq!(b.fabric.dropped("far", DropReason::TunnelChecksumBad), 1);
    let mut other_key = a.receive("a1", Packet::from_frame(&frame)).1;
    other_key[0].1[11] = 8;
    assert!(b.hear(&a, &other_key, None).0.is_empty());
    assert_eq!(b.fabric.dropped("far", DropReason::TunnelKeyUnknown), 1);
}

/// Two routers joined by a GRE tunnel: 198.18.1.0/24 behind a, 198.18.20.0/24 behind b.
fn routed() -> (Node, Node) {
    let mut here = testing::two_networks();
    here.ports.truncate(3);
    let joins = on_router(&[("198.18.9.1", "198.18.9.0/30")], &["198.18.20.0/24"]);
    here.tunnels = vec![tunnel("far", joins, Encapsulation::Gre(gre(B, None)))];
    let mut there = testing::two_networks();
    let network: &mut NetworkSpec = &mut there.networks[0];
    network.subnets[0].prefix = "198.18.20.0/24".parse().unwrap();
    network.subnets[0].gateway = Some("198.18.20.1".parse().unwrap());
    network.subnets.truncate(1);
    there.networks.truncate(1);
    there.ports = vec![testing::port("b1", "a", 20, 10)];
    let joins = on_router(&[("198.18.9.2", "198.18.9.0/30")], &["198.18.1.0/24"]);
    there.tunnels = vec![tunnel("far", joins, Encapsulation::Gre(gre(A, None)))];
    (Node::new(A, &here), Node::new(B, &there))
}

#[test]
fn a_router_sends_through_gre_and_answers_through_it() {
    let (mut a, mut b) = routed();
    let gateway = b.fabric.resolve("b1", "198.18.20.1");
    b.fabric.receive_frame("b1", &gateway);
    let ping = a.fabric.echo("a1", "198.18.20.10");
    let (_, sent) = a.receive("a1", Packet::from_frame(&ping));
    assert_eq!(sent[0].1[..4], [0x90, 0, 8, 0]);
    assert_eq!(sent[0].1[12 + 8], 63, "one hop");
    let (frames, _) = b.hear(&a, &sent, None);
    assert_eq!(ports(&frames), ["b1"]);
    assert_eq!(frames[0].1.frame()[22], 62);
    a.fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    // The far router answers for its own address and for what it cannot route.
    for (destination, kind) in [("198.18.9.2", icmpv4::ECHO_REPLY), ("198.18.20.1", icmpv4::ECHO_REPLY)] {
        let ping = a.fabric.echo("a1", destination);
        let (_, sent) = a.receive("a1", Packet::from_frame(&ping));
        let (_, answers) = b.hear(&a, &sent, None);
        assert_eq!(answers.len(), 1, "{destination}");
        let (frames, _) = a.hear(&b, &answers, None);
        assert_eq!((ports(&frames), frames[0].1.frame()[34]), (vec!["a1"], kind), "{destination}");
    }
}

#[test]
fn congestion_on_the_way_is_told_and_who_cannot_hear_of_it_loses_the_packet() {
    let (mut a, mut b) = routed();
    let gateway = b.fabric.resolve("b1", "198.18.20.1");
    b.fabric.receive_frame("b1", &gateway);
    for (class, expected) in [(0x02, Some(0x03)), (0x00, None)] {
        let mut ping = a.fabric.echo("a1", "198.18.20.10");
        ping[15] = class;
        ipv4::fill_checksum(&mut ping[14..34]);
        let (_, sent) = a.receive("a1", Packet::from_frame(&ping));
        assert_eq!(sent[0].0.tos, class);
        let (frames, _) = b.hear(&a, &sent, Some(0x03));
        assert_eq!(frames.first().map(|(_, packet)| packet.frame()[15]), expected);
    }
    assert_eq!(b.fabric.dropped("far", DropReason::TunnelCongestion), 1);
}

#[test]
fn a_keepalive_is_sent_back() {
    let (a, mut b) = routed();
    let inner = ipv4::Header {
        header_length: 20,
        total_length: 24,
        tos: 0,
        id: 1,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 255,
        protocol: 47,
        source: B.parse().unwrap(),
        destination: A.parse().unwrap(),
    };
    let mut octets = vec![0; 4 + 8 + 24];
    crate::wire::gre::Header { checksum: false, key: None, sequence: Some(0), protocol: 0x0800 }
        .emit(&mut octets);
    octets.drain(8..12);
    inner.emit(&mut octets[8..]);
    octets[28..32].fill(0);
    let datagram = Datagram {
        underlay: Underlay::Gre,
        destination: SocketAddr::new(b.address, 0),
        local: None,
        tos: 0,
        port: b.fabric.stack.config().port_by_name("far").unwrap().id,
        entropy: None,
        numbered: false,
        segment: 0,
        load: Load::default(),
        octets: 0..0,
    };
    let (_, answers) = b.hear(&a, &vec![(datagram, octets)], None);
    let [(answer, octets)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((answer.destination.ip(), &octets[..]), (a.address, &[0, 0, 0, 0][..]));
}

#[test]
fn ethernet_goes_through_vxlan_that_a_router_sends_through_another_tunnel() {
    let build = |own: &str, other: &str, address: (&str, &str), port: &str, host: u8| {
        let mut spec = testing::two_networks();
        spec.routers = vec![RouterSpec { name: "core".into(), ..RouterSpec::default() }];
        spec.networks.truncate(1);
        spec.networks[0].router = None;
        spec.ports = vec![testing::port(port, "a", 1, host)];
        let link = on_router(&[(address.0, "198.18.9.0/30")], &[]);
        let gre = tunnel("link", link, Encapsulation::Gre(gre(other, None)));
        let over = TunnelSpec {
            carrier: Carrier::Router("core".into()),
            local: Some(address.0.parse().unwrap()),
            mtu: 1300,
            ..tunnel("over", on_network("a"), vxlan(7, &[address.1]))
        };
        spec.tunnels = vec![gre, over];
        Node::new(own, &spec)
    };
    let mut a = build(A, B, ("198.18.9.1", "198.18.9.2"), "a1", 10);
    let mut b = build(B, A, ("198.18.9.2", "198.18.9.1"), "b1", 20);
    let frame = frame_to_b1(&a);
    let (_, sent) = a.receive("a1", Packet::from_frame(&frame));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0.underlay, Underlay::Gre);
    let (frames, _) = b.hear(&a, &sent, None);
    assert_eq!((ports(&frames), frames[0].1.frame()), (vec!["b1"], &frame[..]));
    // Super-packets, too.
    let (_, sent) = a.receive("a1", super_packet(10_000, 1200));
    assert_eq!(sent.len(), 9);
    assert_eq!(b.hear(&a, &sent, None).0.len(), 9);
}

const PORT: u16 = 51_820;

fn wireguard(own: u8, other: u8, endpoint: Option<&str>, allowed: &[&str]) -> Encapsulation {
    let peer = WireGuardPeer {
        keys: vec![PrivateKey::new([other; 32]).public_key()],
        preshared_key: Some(PresharedKey::new([9; 32])),
        endpoint: endpoint.map(|address| SocketAddr::new(address.parse().unwrap(), PORT)),
        allowed: allowed.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        keepalive: 0,
    };
    Encapsulation::WireGuard(WireGuardSpec {
        listen_port: PORT,
        keys: vec![PrivateKey::new([own; 32])],
        peers: vec![peer],
    })
}

/// As [`routed`], by WireGuard; b does not know where a is.
fn secured() -> (Node, Node) {
    let (a, b) = routed();
    let rebuild = |node: Node, spec: &FabricSpec| Node::new(&node.address.to_string(), spec);
    let mut here = testing::two_networks();
    here.ports.truncate(3);
    let joins = on_router(&[("198.18.9.1", "198.18.9.0/30")], &[]);
    let allowed = ["198.18.20.0/24", "198.18.9.2/32"];
    here.tunnels = vec![tunnel("far", joins, wireguard(1, 2, Some(B), &allowed))];
    let mut there = testing::two_networks();
    there.networks[0].subnets.truncate(1);
    there.networks[0].subnets[0].prefix = "198.18.20.0/24".parse().unwrap();
    there.networks[0].subnets[0].gateway = Some("198.18.20.1".parse().unwrap());
    there.networks.truncate(1);
    there.ports = vec![testing::port("b1", "a", 20, 10)];
    let joins = on_router(&[("198.18.9.2", "198.18.9.0/30")], &[]);
    there.tunnels = vec![tunnel("far", joins, wireguard(2, 1, None, &["198.18.1.0/24", "198.18.9.1/32"]))];
    let (mut a, mut b) = (rebuild(a, &here), rebuild(b, &there));
    a.fabric.introduce("a1", ["198.18.1.1", "2001:db8:1::1"]);
    let gateway = b.fabric.resolve("b1", "198.18.20.1");
    b.fabric.receive_frame("b1", &gateway);
    (a, b)
}

#[test]
fn a_packet_waits_for_wireguards_handshake_and_the_answer_finds_its_way_back() {
    let (mut a, mut b) = secured();
    let ping = a.fabric.echo("a1", "198.18.20.10");
    let (frames, sent) = a.receive("a1", Packet::from_frame(&ping));
    assert!(frames.is_empty() && sent.is_empty(), "there is no session yet");
    let [_, at_b] = settle(&mut a, &mut b, Sent::new());
    assert_eq!(ports(&at_b), ["b1"]);
    assert_eq!(at_b[0].1.frame()[22], 62, "two hops");
    // Now there is a session, both ways.
    let ping = a.fabric.echo("a1", "198.18.9.2");
    let (_, sent) = a.receive("a1", Packet::from_frame(&ping));
    assert_eq!((sent.len(), sent[0].1[0], sent[0].1.len() % 16), (1, 4, 0));
    let [at_a, _] = settle(&mut a, &mut b, sent);
    assert_eq!((ports(&at_a), at_a[0].1.frame()[34]), (vec!["a1"], icmpv4::ECHO_REPLY));
}

#[test]
fn a_super_packet_is_sealed_in_one_run_and_comes_out_as_it_was() {
    let (mut a, mut b) = secured();
    let ping = a.fabric.echo("a1", "198.18.20.10");
    a.receive("a1", Packet::from_frame(&ping));
    settle(&mut a, &mut b, Sent::new());
    let mut packet = super_packet(50_000, 1300);
    let bytes = packet.frame_mut();
    bytes[..6].copy_from_slice(&testing::gateway_mac("a").0);
    bytes[30..34].copy_from_slice(&[198, 18, 20, 10]);
    ipv4::fill_checksum(&mut bytes[14..34]);
    let (source, destination) = (IpAddr::from([198, 18, 1, 10]), IpAddr::from([198, 18, 20, 10]));
    let sum = crate::wire::checksum::pseudo_header(source, destination, 6, 50_020).folded();
    bytes[50..52].copy_from_slice(&sum.to_be_bytes());
    let payload = bytes[54..].to_vec();
    let (_, sent) = a.receive("a1", packet);
    let [(datagram, octets)] = &sent[..] else { panic!("{} runs", sent.len()) };
    assert_eq!(datagram.segment, 16 + 1344 + 16);
    assert_eq!(octets.len().div_ceil(datagram.segment), 39);
    let (frames, _) = b.hear(&a, &sent, None);
    assert_eq!(ports(&frames), ["b1"]);
    assert_eq!(frames[0].1.offload.gso.map(|gso| gso.size), Some(1300));
    assert_eq!(frames[0].1.frame()[54..], payload);
    // All of it again is no news.
    assert!(b.hear(&a, &sent, None).0.is_empty());
    assert_eq!(b.fabric.dropped("far", DropReason::WireguardReplayed), 39);
}

#[test]
fn wireguard_lets_nothing_through_that_is_not_the_peers() {
    let (mut a, mut b) = secured();
    let ping = a.fabric.echo("a1", "198.18.20.10");
    a.receive("a1", Packet::from_frame(&ping));
    settle(&mut a, &mut b, Sent::new());
    let beyond = a.fabric.frame("a1", |spec| {
        spec.destination = "198.18.9.3".parse().unwrap();
        spec.destination_mac = Some(testing::gateway_mac("a"));
    });
    a.receive("a1", Packet::from_frame(&beyond));
    assert_eq!(a.fabric.dropped("a1", DropReason::DestinationInvalid), 1, "the link's broadcast");
    // From b's own network address, which a does not allow.
    let mut spec = testing::two_networks();
    spec.ports.truncate(3);
    let joins = on_router(&[("198.18.9.1", "198.18.9.0/30")], &["198.18.20.0/24"]);
    spec.tunnels = vec![tunnel("far", joins, wireguard(1, 2, Some(B), &["198.18.9.2/32"]))];
    a.fabric.reconfigure(&spec);
    let ping = b.fabric.echo("b1", "198.18.1.10");
    let (_, sent) = b.receive("b1", Packet::from_frame(&ping));
    assert!(a.hear(&b, &sent, None).0.is_empty());
    assert_eq!(a.fabric.dropped("far", DropReason::WireguardSourceNotAllowed), 1);
    let ping = a.fabric.echo("a1", "198.18.20.10");
    a.receive("a1", Packet::from_frame(&ping));
    assert_eq!(a.fabric.dropped("far", DropReason::WireguardNoPeer), 1);
}

/// Node a of [`ethernet_goes_through_vxlan_that_a_router_sends_through_another_tunnel`], and a port `x` on a network of
/// the same router, whose sources are not checked.
fn carried() -> Node {
    let mut spec = testing::two_networks();
    spec.networks[0].router = None;
    spec.ports = vec![testing::port("a1", "a", 1, 10), testing::port("x", "b", 2, 10)];
    spec.ports[1].source_check = false;
    let link = on_router(&[("198.18.9.1", "198.18.9.0/30")], &[]);
    let gre = tunnel("link", link, Encapsulation::Gre(gre(B, None)));
    let over = TunnelSpec {
        carrier: Carrier::Router("core".into()),
        local: Some("198.18.9.1".parse().unwrap()),
        mtu: 1300,
        ..tunnel("over", on_network("a"), vxlan(7, &["198.18.9.2"]))
    };
    spec.tunnels = vec![gre, over];
    Node::new(A, &spec)
}

#[test]
fn what_a_tunnel_brings_is_not_believed_when_it_comes_from_elsewhere() {
    let mut a = carried();
    let inner = addressed(vec![0x88; 60], testing::mac("a1"), testing::mac("far"));
    let mut forged = a.fabric.frame("x", |spec| {
        spec.source = Some("198.18.9.2".parse().unwrap());
        spec.destination = "198.18.9.1".parse().unwrap();
        spec.protocol = Protocol::Udp;
        spec.destination_port = 4789;
        spec.length = Some(28 + 8 + 60);
    });
    forged[40..42].fill(0);
    crate::wire::vxlan::emit(7, &mut forged[42..]);
    forged[50..].copy_from_slice(&inner);
    let (frames, sent) = a.receive("x", Packet::from_frame(&forged));
    assert!(frames.is_empty() && sent.is_empty(), "{:?}", told(&frames));
    assert_eq!(a.fabric.dropped("x", DropReason::SourceAddressSpoofed), 1);
}

#[test]
fn a_tunnel_with_an_address_hears_nothing_at_others() {
    let (mut a, b) = stretched(vxlan(42, &[B]), vxlan(42, &[A]));
    let mut spec = testing::two_networks();
    spec.ports.truncate(3);
    spec.tunnels = vec![TunnelSpec {
        local: Some("198.18.200.1".parse().unwrap()),
        ..tunnel("far", on_network("a"), vxlan(42, &[B]))
    }];
    a.fabric.reconfigure(&spec);
    let mut b = b;
    let question = b.fabric.resolve("b1", "198.18.1.10");
    let (_, sent) = b.receive("b1", Packet::from_frame(&question));
    assert!(a.hear(&b, &sent, None).0.is_empty());
    assert_eq!(a.fabric.counted("tunnel_strangers"), 1);
}

#[test]
fn a_far_end_cannot_take_the_address_of_a_port_here() {
    let Encapsulation::Vxlan(spec) = vxlan(42, &[B]) else { panic!() };
    let means = Encapsulation::Vxlan(VxlanSpec { suppress_neighbors: true, ..spec });
    let (mut a, mut b) = stretched(means, vxlan(42, &[A]));
    let mut claim = b.fabric.resolve("b1", "198.18.1.11");
    claim[28..32].copy_from_slice(&[198, 18, 1, 10]); // a1's
    let claim = Packet::from_frame(&claim);
    let mut spec = testing::two_networks();
    spec.networks.truncate(1);
    spec.networks[0].router = None;
    spec.ports = vec![testing::port("b1", "a", 1, 20)];
    spec.ports[0].source_check = false;
    spec.tunnels = vec![tunnel("far", on_network("a"), vxlan(42, &[A]))];
    b.fabric.reconfigure(&spec);
    let (_, sent) = b.receive("b1", claim);
    assert!(!a.hear(&b, &sent, None).0.is_empty());
    let question = a.fabric.resolve("a2", "198.18.1.10");
    let (frames, _) = a.receive("a2", Packet::from_frame(&question));
    assert!(ports(&frames).contains(&"a1"), "a1 is asked itself");
    assert_eq!(a.fabric.counted("questions_suppressed"), 0);
}

#[test]
fn an_address_that_the_node_no_longer_has_is_not_held_to() {
    let (mut a, mut b) = secured();
    let ping = a.fabric.echo("a1", "198.18.20.10");
    a.receive("a1", Packet::from_frame(&ping));
    settle(&mut a, &mut b, Sent::new());
    let (_, sent) = a.receive("a1", Packet::from_frame(&ping));
    assert_eq!(sent[0].0.local, Some(a.address), "where b has heard it");
    let heard =
        |a: &Node| a.fabric.stack.config().tunnel("far", a.fabric.now).unwrap().peers.unwrap()[0].local;
    assert_eq!(heard(&a), Some(a.address));
    a.fabric.stack.forget_local(&sent[0].0);
    let (_, sent) = a.receive("a1", Packet::from_frame(&ping));
    assert_eq!((sent[0].0.local, heard(&a)), (None, None));
}

#[test]
fn packets_have_their_numbers_in_the_order_in_which_they_are_sent() {
    let means = |remote: &str| Encapsulation::Gre(gre(remote, None));
    let (mut a, mut b) = stretched(means(B), means(A));
    let frame = frame_to_b1(&a);
    let id = a.fabric.stack.config().port_by_name("a1").unwrap().id;
    // As by two workers, of which the second is the first to send.
    let mut encapsulated = || {
        let (mut batch, mut output) = (Batch::new(), Output::new());
        *batch.vacant() = Packet::from_frame(&frame);
        batch.commit(1);
        a.fabric.stack.process(a.fabric.now, id, &mut batch, &mut output);
        output
    };
    let [mut late, mut early] = [encapsulated(), encapsulated()];
    for output in [&mut early, &mut late] {
        assert!(output.has_numbered());
        a.fabric.stack.number(output);
        assert_eq!(ports(&b.hear(&a, &taken(output), None).0), ["b1"]);
    }
    assert_eq!(b.fabric.dropped("far", DropReason::TunnelOutOfOrder), 0);
}
