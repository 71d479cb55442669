//! Segmentation and coalescing together, on packets that these tests build by themselves.

use proptest::collection::vec;
use proptest::prelude::*;

use super::checksum;
use super::coalesce::{Coalescer, Rules};
use super::segment::Segments;
use crate::packet::{Gso, GsoKind, Packet, PartialChecksum};
use crate::stage::ingress;

const RULES: Rules = Rules { mtu: 65_535, tagged: true, udp: true };

const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;
const CWR: u8 = 128;

/// A TCP segment or UDP datagram in words.
#[derive(Debug, Clone)]
struct Spec {
    v4: bool,
    tcp: bool,
    /// Tells flows apart.
    port: u8,
    id: u16,
    dont_fragment: bool,
    ttl: u8,
    sequence: u32,
    flags: u8,
    options: usize,
    payload: Vec<u8>,
}

impl Spec {
    fn tcp(payload: usize) -> Spec {
        Spec {
            v4: true,
            tcp: true,
            port: 1,
            id: 7,
            dont_fragment: true,
            ttl: 64,
            sequence: 1000,
            flags: ACK,
            options: 12,
            payload: (0..payload).map(|at| (at % 251) as u8).collect(),
        }
    }

    fn transport(&self) -> usize {
        if self.v4 { 34 } else { 54 }
    }

    fn headers(&self) -> usize {
        self.transport() + if self.tcp { 20 + self.options } else { 8 }
    }

    /// The frame with all checksums right.
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        let length = (self.headers() - self.transport() + self.payload.len()) as u16;
        let protocol = if self.tcp { 6 } else { 17 };
        if self.v4 {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend(self.id.to_be_bytes());
            frame.extend([if self.dont_fragment { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
            frame.extend([198, 18, 1, 10, 198, 18, 1, 11]);
            let sum = !sum(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, self.ttl]);
            frame.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10]);
            frame.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);
        }
        frame.extend([0x9c, self.port, 0, 80]);
        if self.tcp {
            frame.extend(self.sequence.to_be_bytes());
            frame.extend([0, 0, 0, 9, ((20 + self.options) / 4 * 16) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
            frame.extend(vec![1; self.options]);
        } else {
            frame.extend(length.to_be_bytes());
            frame.extend([0, 0]);
        }
        frame.extend(&self.payload);
        let at = self.transport() + if self.tcp { 16 } else { 6 };
        let sum = match !self.transport_sum(&frame) {
            0 if !self.tcp => 0xffff,
            sum => sum,
        };
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    fn transport_sum(&self, frame: &[u8]) -> u16 {
        let (addresses, protocol) = if self.v4 { (26..34, frame[23]) } else { (22..54, frame[20]) };
        let mut bytes = frame[addresses].to_vec();
        bytes.extend(((frame.len() - self.transport()) as u32).to_be_bytes());
        bytes.extend([0, protocol]);
        bytes.extend(&frame[self.transport()..]);
        sum(&bytes)
    }

    /// The super-packet for segments of `size` octets, its partial checksum set up as Linux does it.
    fn super_packet(&self, size: usize) -> Packet {
        let mut frame = self.frame();
        let offset = if self.tcp { 16 } else { 6 };
        let at = self.transport() + offset;
        let mut pseudo = self.clone();
        pseudo.payload.clear();
        frame[at..at + 2].fill(0);
        let (covered, all) = (sum(&frame[self.transport()..]), self.transport_sum(&frame));
        // all = pseudo-header + covered
        let sum = u32::from(all) + u32::from(!covered);
        frame[at..at + 2].copy_from_slice(&((sum % 0xffff) as u16).to_be_bytes());
        let mut packet = Packet::from_frame(&frame);
        let kind = match (self.tcp, self.v4) {
            (true, true) => GsoKind::TcpV4,
            (true, false) => GsoKind::TcpV6,
            _ => GsoKind::Udp,
        };
        packet.offload.checksum =
            Some(PartialChecksum { start: self.transport() as u16, offset: offset as u16 });
        let ecn = self.tcp && self.flags & CWR != 0;
        packet.offload.gso = Some(Gso { kind, size: size as u16, header_length: self.headers() as u16, ecn });
        packet
    }

    /// The segments that the payload makes, each built by itself.
    fn segments(&self, size: usize) -> Vec<Spec> {
        let count = self.payload.len().div_ceil(size);
        let segment = |(index, payload): (usize, &[u8])| {
            let mut flags = self.flags;
            if index != 0 {
                flags &= !CWR;
            }
            if index + 1 != count {
                flags &= !(FIN | PSH);
            }
            let zero = self.id == 0 && self.dont_fragment;
            Spec {
                id: if zero { 0 } else { self.id.wrapping_add(index as u16) },
                sequence: self.sequence.wrapping_add((index * size) as u32),
                flags,
                payload: payload.to_vec(),
                ..self.clone()
            }
        };
        self.payload.chunks(size).enumerate().map(segment).collect()
    }
}

/// The definition of RFC 1071, word by word.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn frames(specs: &[Spec]) -> Vec<Vec<u8>> {
    specs.iter().map(Spec::frame).collect()
}

fn packets(frames: &[Vec<u8>]) -> Vec<Packet> {
    frames.iter().map(|frame| Packet::from_frame(frame)).collect()
}

/// What a device without any offload would get.
fn cut(packet: &Packet) -> Vec<Vec<u8>> {
    let Some(segments) = Segments::of(packet) else { return vec![packet.frame().to_vec()] };
    let write = |position| {
        let mut segment = Packet::new();
        segments.write(position, &mut segment);
        checksum::complete(&mut segment);
        segment.frame().to_vec()
    };
    (0..segments.count()).map(write).collect()
}

fn merge(frames: &[Vec<u8>]) -> Vec<Packet> {
    let mut packets = packets(frames);
    let kept = Coalescer::default().merge(&mut packets, RULES);
    assert!(packets[kept..].iter().all(Packet::is_empty));
    packets.truncate(kept);
    packets
}

/// EtherType, protocol, addresses and ports; of what is no IP, all of it.
fn flow_of(frame: &[u8]) -> (&[u8], u8, &[u8]) {
    let kind = &frame[12..14];
    match kind {
        [0x08, 0x00] => (kind, frame[23], &frame[26..38]),
        [0x86, 0xdd] => (kind, frame[20], &frame[22..58]),
        _ => (kind, 0, frame),
    }
}

fn lengths(packets: &[Packet]) -> Vec<usize> {
    packets.iter().map(Packet::len).collect()
}

fn spec() -> impl Strategy<Value = (Spec, usize)> {
    let network = (any::<bool>(), prop_oneof![Just(0), any::<u16>()], any::<bool>(), any::<u8>());
    let transport = (any::<bool>(), any::<u32>(), 0u8..8, 0usize..=10);
    (network, transport, 1usize..1461, 1usize..64, any::<u8>()).prop_map(
        |((v4, id, dont_fragment, ttl), (tcp, sequence, flags, options), size, count, seed)| {
            let length = (size * count).saturating_sub(usize::from(seed) % size).clamp(1, 65_000);
            let flags =
                ACK | [0, FIN, PSH, FIN | PSH, CWR, CWR | PSH, 64, 64 | CWR | FIN][usize::from(flags)];
            let payload = (0..length).map(|at| (at * 31) as u8 ^ seed).collect();
            let options = options * 4;
            (Spec { v4, tcp, port: 1, id, dont_fragment, ttl, sequence, flags, options, payload }, size)
        },
    )
}

#[test]
fn a_super_packet_becomes_the_segments_that_its_sender_would_have_made() {
    let whole = Spec { flags: ACK | PSH | FIN | CWR, ..Spec::tcp(4000) };
    let segments = cut(&whole.super_packet(1448));
    assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [66 + 1448, 66 + 1448, 66 + 1104]);
    let field = |at: usize| segments.iter().map(|s| [s[at], s[at + 1]]).collect::<Vec<_>>();
    assert_eq!(field(16), [1500u16, 1500, 1156].map(u16::to_be_bytes), "total length");
    assert_eq!(field(18), [[0, 7], [0, 8], [0, 9]], "identification");
    assert_eq!(field(40), [1000u16, 2448, 3896].map(u16::to_be_bytes), "sequence number");
    assert_eq!(field(46), [[0x80, ACK | CWR], [0x80, ACK], [0x80, ACK | PSH | FIN]], "flags");
}

#[test]
fn segments_for_a_device_with_checksum_offload_are_left_partial() {
    let packet = Spec::tcp(3000).super_packet(1448);
    let mut segment = Packet::new();
    Segments::of(&packet).unwrap().write(1, &mut segment);
    assert_eq!(segment.offload.checksum, packet.offload.checksum);
    assert_eq!(segment.offload.gso, None);
}

#[test]
fn a_batch_of_two_flows_becomes_two_super_packets_in_their_order() {
    let (a, b) = (Spec::tcp(4000), Spec { port: 2, v4: false, ..Spec::tcp(3000) });
    let (a, b) = (frames(&a.segments(1000)), frames(&b.segments(1000)));
    let mixed: Vec<_> = [&a[0], &b[0], &a[1], &b[1], &a[2], &b[2], &a[3]].into_iter().cloned().collect();
    let merged = merge(&mixed);
    assert_eq!(lengths(&merged), [66 + 4000, 86 + 3000]);
    assert_eq!(cut(&merged[0]), a);
    assert_eq!(cut(&merged[1]), b);
}

#[test]
fn what_does_not_follow_is_not_merged() {
    let two = |change: fn(&mut Spec)| {
        let mut segments = Spec::tcp(2000).segments(1000);
        change(&mut segments[1]);
        merge(&frames(&segments)).len()
    };
    assert_eq!(two(|_| ()), 1);
    for (what, change) in [
        ("a gap", (|s| s.sequence += 1) as fn(&mut Spec)),
        ("another TTL", |s| s.ttl = 63),
        ("another identification", |s| s.id = 9),
        ("no DF", |s| s.dont_fragment = false),
        ("more options", |s| s.options = 16),
        ("SYN", |s| s.flags |= 2),
        ("RST", |s| s.flags |= 4),
        ("URG", |s| s.flags |= 32),
        ("ECE", |s| s.flags |= 64),
        ("CWR", |s| s.flags |= CWR),
        ("a longer segment", |s| s.payload.push(1)),
        ("no payload", |s| s.payload.clear()),
    ] {
        assert_eq!(two(change), 2, "{what}");
    }
}

#[test]
fn an_end_in_the_middle_closes_the_super_packet() {
    for flags in [ACK | PSH, ACK | FIN] {
        let mut segments = Spec::tcp(4000).segments(1000);
        segments[1].flags = flags;
        let merged = merge(&frames(&segments));
        assert_eq!(lengths(&merged), [66 + 2000, 66 + 2000]);
    }
    let mut segments = Spec::tcp(4000).segments(1000);
    segments[1].payload.truncate(900);
    segments[2].sequence -= 100;
    segments[3].sequence -= 100;
    assert_eq!(lengths(&merge(&frames(&segments))), [66 + 1900, 66 + 2000]);
}

#[test]
fn a_wrong_checksum_is_not_made_right() {
    for flipped in [0, 1] {
        let mut frames = frames(&Spec::tcp(2000).segments(1000));
        frames[flipped][100] ^= 1;
        let merged = merge(&frames);
        assert_eq!(merged.iter().map(Packet::frame).collect::<Vec<_>>(), frames);
    }
    let mut frames = frames(&Spec::tcp(2000).segments(1000));
    frames[1][24] ^= 1;
    assert_eq!(merge(&frames).len(), 2, "of the IPv4 header");
}

#[test]
fn a_super_packet_ends_below_the_longest_packet() {
    let segments = Spec { options: 0, ..Spec::tcp(1460) };
    let stream: Vec<_> = (0..60u16)
        .map(|n| Spec { id: 7 + n, sequence: u32::from(n) * 1460, ..segments.clone() }.frame())
        .collect();
    let merged = merge(&stream);
    assert_eq!(lengths(&merged), [54 + 44 * 1460, 54 + 16 * 1460]);
    assert_eq!(merged.iter().flat_map(cut).collect::<Vec<_>>(), stream);
}

#[test]
fn padding_does_not_get_into_the_stream() {
    let mut stream = frames(&Spec { options: 0, ..Spec::tcp(8) }.segments(4));
    stream.iter_mut().for_each(|frame| frame.resize(60, 0xee));
    let merged = merge(&stream);
    assert_eq!(lengths(&merged), [54 + 8]);
    assert_eq!(merged[0].frame()[54..], [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_fragment_between_keeps_its_place() {
    let mut stream = frames(&Spec::tcp(3000).segments(1000));
    let mut fragment = stream[1].clone();
    fragment[20] = 0x20;
    stream.insert(1, fragment);
    let merged = merge(&stream);
    assert_eq!(lengths(&merged), [1066, 1066, 66 + 2000]);
}

#[test]
fn datagrams_are_merged_only_where_that_is_asked_for() {
    let stream = frames(&Spec { tcp: false, ..Spec::tcp(3000) }.segments(1200));
    let merged = merge(&stream);
    assert_eq!(merged[0].offload.gso.map(|gso| (gso.kind, gso.size)), Some((GsoKind::Udp, 1200)));
    assert_eq!(cut(&merged[0]), stream);
    let mut apart = packets(&stream);
    assert_eq!(Coalescer::default().merge(&mut apart, Rules { udp: false, ..RULES }), 3);
}

#[test]
fn frames_that_the_port_may_not_send_are_left_to_be_dropped() {
    let mut stream = packets(&frames(&Spec::tcp(3000).segments(1000)));
    assert_eq!(Coalescer::default().merge(&mut stream, Rules { mtu: 1051, ..RULES }), 3);
}

proptest! {
    #[test]
    fn cutting_gives_the_packets_that_the_sender_would_have_built((spec, size) in spec()) {
        prop_assert_eq!(cut(&spec.super_packet(size)), frames(&spec.segments(size)));
    }

    #[test]
    fn merging_what_was_cut_gives_the_super_packet((spec, size) in spec()) {
        let whole = spec.super_packet(size);
        let merged = merge(&cut(&whole));
        if spec.payload.len() > size {
            prop_assert_eq!(merged.len(), 1);
            prop_assert_eq!(merged[0].frame(), whole.frame());
            prop_assert_eq!(merged[0].offload.gso, whole.offload.gso);
            prop_assert_eq!(merged[0].offload.checksum, whole.offload.checksum);
        }
    }

    #[test]
    fn cutting_what_was_merged_gives_each_flow_as_it_came(
        order in vec((0usize..4, 0usize..12, any::<u8>()), 1..64), (first, size) in spec(),
    ) {
        let mut flows: Vec<_> = (0..4u8)
            .map(|n| Spec { port: n, tcp: n < 3, v4: n != 1, ..first.clone() }.segments(size))
            .map(|segments| segments.into_iter().cycle())
            .collect();
        let bent = |(flow, what, value): (usize, usize, u8)| {
            let mut segment = flows[flow].next().unwrap();
            match what {
                0 => segment.flags = value,
                1 => segment.ttl = value,
                2 => segment.payload.truncate(usize::from(value)),
                3 => segment.id = u16::from(value),
                4 => segment.options = usize::from(value % 11) * 4,
                _ => {}
            }
            let mut frame = segment.frame();
            if what == 5 {
                let at = usize::from(value) % frame.len();
                frame[at] ^= 0x10;
            }
            frame
        };
        let stream: Vec<_> = order.into_iter().map(bent).collect();
        let again: Vec<_> = merge(&stream).iter().flat_map(cut).collect();
        prop_assert_eq!(again.len(), stream.len());
        for flow in stream.iter().map(|frame| flow_of(frame)) {
            let of = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                frames.iter().filter(|frame| flow_of(frame) == flow).cloned().collect()
            };
            prop_assert_eq!(of(&again), of(&stream));
        }
    }

    #[test]
    fn every_segment_is_one_that_ingress_lets_in((spec, size) in spec()) {
        for frame in cut(&spec.super_packet(size)) {
            prop_assert!(ingress::parse(&frame).is_ok());
        }
    }

    #[test]
    fn no_bytes_make_them_panic(
        mut bytes in vec(any::<u8>(), 0..200), v6 in any::<bool>(), start in 0u16..100, offset in any::<u16>(),
        size in any::<u16>(), header_length in 0u16..250,
    ) {
        if bytes.len() >= 24 {
            bytes[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
            bytes[14] = if v6 { 0x60 } else { 0x45 };
            bytes[if v6 { 20 } else { 23 }] = if size % 2 == 0 { 6 } else { 17 };
        }
        for kind in [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp] {
            let mut packet = Packet::from_frame(&bytes);
            let offset = if offset % 3 == 0 { offset } else { [6, 16][usize::from(offset % 2)] };
            packet.offload.checksum = Some(PartialChecksum { start, offset });
            packet.offload.gso = Some(Gso { kind, size, header_length, ecn: false });
            cut(&packet);
        }
        merge(&[bytes.clone(), bytes]);
    }
}
