//! What the stack does for devices that do less: cutting, coalescing and checksums, and buffers that run out.

use super::*;
use crate::config::{Offloads, PortSpec, PortVlans};
use crate::packet::{Gso, GsoKind, PartialChecksum};
use crate::testing::{mac, tcp_frame};
use crate::wire::checksum::pseudo_header;
use crate::wire::vlan::Tci;
use crate::wire::{ipv4, read_u16, write_u16};

const NOTHING: Offloads = Offloads { checksum: false, tso4: false, tso6: false, tso_ecn: false, uso: false };
const CHECKSUMS: Offloads = Offloads { checksum: true, ..NOTHING };

/// Ports a2 and a3 with these offloads; the others have all.
fn fabric(a2: Offloads, a3: Offloads) -> Fabric {
    let mut spec = testing::two_networks();
    spec.ports[1].offloads = a2;
    spec.ports[2].offloads = a3;
    Fabric::new(&spec)
}

/// A super-packet from a1 to a2, as its kernel would set it up.
fn super_packet(payload: usize, size: u16) -> Packet {
    let mut frame = tcp_frame(payload);
    let (source, destination) = ([198, 18, 1, 10].into(), [198, 18, 1, 11].into());
    let pseudo = pseudo_header(source, destination, 6, payload + 20);
    write_u16(&mut frame, 50, pseudo.folded());
    with_offload(&frame, size)
}

fn with_offload(frame: &[u8], size: u16) -> Packet {
    let mut packet = Packet::from_frame(frame);
    packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
    packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size, header_length: 54, ecn: false });
    packet
}

/// The payload of whole TCP segments with right checksums, put together by sequence number.
fn stream<'a>(segments: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut data = Vec::new();
    for frame in segments {
        let ip = ipv4::Header::parse(&frame[14..]).unwrap();
        assert!(ipv4::checksum_is_valid(&frame[14..34]));
        let segment = &frame[34..];
        let sum = pseudo_header(ip.source.into(), ip.destination.into(), 6, segment.len()).bytes(segment);
        assert_eq!(sum.folded(), 0xffff);
        assert_eq!(frame[38..42], (data.len() as u32).to_be_bytes());
        data.extend(&frame[54..]);
    }
    data
}

fn counter(fabric: &Fabric, name: &str) -> u64 {
    fabric.stack.config().stack_counters()[0].values().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn a_super_packet_is_cut_for_a_device_that_does_not_take_it() {
    let mut fabric = fabric(NOTHING, NOTHING);
    let sent = fabric.receive("a1", super_packet(60_000, 1448));
    assert_eq!(sent.len(), 42);
    assert!(sent.iter().all(|(port, packet)| port == "a2" && packet.offload.checksum.is_none()));
    assert_eq!(stream(sent.iter().map(|(_, packet)| packet.frame())), tcp_frame(60_000)[54..]);
    assert_eq!(counter(&fabric, "segments_made"), 42);
}

#[test]
fn segments_keep_partial_checksums_for_a_device_that_takes_these() {
    let mut fabric = fabric(CHECKSUMS, NOTHING);
    let sent = fabric.receive("a1", super_packet(3000, 1448));
    let partial = Some(PartialChecksum { start: 34, offset: 16 });
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|(_, packet)| packet.offload.checksum == partial));
}

#[test]
fn a_flooded_super_packet_is_whole_for_those_that_take_it_and_cut_once_for_all_others() {
    let mut spec = testing::two_networks();
    spec.ports.push(PortSpec { offloads: CHECKSUMS, ..testing::port("a4", "a", 1, 13) });
    spec.ports[2].offloads = NOTHING;
    let mut fabric = Fabric::new(&spec);
    let mut packet = super_packet(3000, 1448);
    packet.frame_mut()[..6].copy_from_slice(&MacAddr::BROADCAST.0);
    let sent = fabric.receive("a1", packet);
    assert_eq!(ports(&sent), ["a2", "a3", "a3", "a3", "a4", "a4", "a4"]);
    let to = |name: &'static str| sent.iter().filter(move |(port, _)| port == name).map(|(_, p)| p.frame());
    assert_eq!(sent[0].1.len(), 3054);
    assert!(sent[0].1.offload.gso.is_some());
    for port in ["a3", "a4"] {
        assert_eq!(stream(to(port)), tcp_frame(3000)[54..]);
    }
    assert_eq!(counter(&fabric, "segments_made"), 3);
}

#[test]
fn a_super_packet_whose_segments_are_too_large_is_cut_and_fragmented_unless_it_has_df() {
    for dont_fragment in [false, true] {
        let mut spec = testing::two_networks();
        spec.networks[1].mtu = 1000;
        spec.ports[3].mtu = 1000;
        let mut fabric = Fabric::new(&spec);
        fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
        let mut frame = tcp_frame(3000);
        frame[..6].copy_from_slice(&testing::gateway_mac("a").0);
        frame[20] = if dont_fragment { 0x40 } else { 0 };
        frame[30..34].copy_from_slice(&[198, 18, 2, 10]);
        ipv4::fill_checksum(&mut frame[14..34]);
        let pseudo = pseudo_header([198, 18, 1, 10].into(), [198, 18, 2, 10].into(), 6, 3020);
        write_u16(&mut frame, 50, pseudo.folded());
        let sent = fabric.receive("a1", with_offload(&frame, 1400));
        if dont_fragment {
            assert!(told(&sent)[0].1.contains("fragmentation needed"), "{:?}", told(&sent));
            continue;
        }
        // Segments of 1440, 1440 and 240 octets; the first two in two pieces each.
        let lengths: Vec<_> = sent.iter().map(|(_, packet)| packet.len() - 14).collect();
        assert_eq!(lengths, [996, 464, 996, 464, 240]);
        let mut segments = Vec::new();
        for (_, packet) in &sent {
            let header = ipv4::Header::parse(&packet.frame()[14..]).unwrap();
            if header.fragment_offset == 0 {
                segments.push(packet.frame()[..34].to_vec());
            }
            segments.last_mut().unwrap().extend(&packet.frame()[34..]);
        }
        for segment in &mut segments {
            let length = segment.len() as u16 - 14;
            write_u16(segment, 16, length);
            write_u16(segment, 20, 0);
            ipv4::fill_checksum(&mut segment[14..34]);
        }
        assert_eq!(stream(segments.iter().map(Vec::as_slice)), tcp_frame(3000)[54..]);
    }
}

#[test]
fn a_super_packet_with_a_users_own_tag_is_cut_behind_the_tag() {
    let mut spec = testing::two_networks();
    spec.ports[0].vlans = PortVlans::Tunnel(0);
    spec.ports[1].vlans = PortVlans::Tunnel(0);
    spec.ports[1].offloads = NOTHING;
    let mut fabric = Fabric::new(&spec);
    let mut packet = super_packet(3000, 1448);
    packet.dress(Some(Tci(7)));
    let mut sent = fabric.receive("a1", packet);
    assert_eq!(ports(&sent), ["a2", "a2", "a2"]);
    for (_, segment) in &mut sent {
        assert_eq!(segment.frame()[12..16], [0x81, 0, 0, 7]);
        segment.strip_tag();
    }
    assert_eq!(stream(sent.iter().map(|(_, packet)| packet.frame())), tcp_frame(3000)[54..]);
}

#[test]
fn sctp_is_completed_even_for_a_device_that_takes_partial_checksums() {
    let mut fabric = Fabric::two_networks();
    let mut frame = tcp_frame(100);
    frame[23] = 132;
    ipv4::fill_checksum(&mut frame[14..34]);
    let mut packet = Packet::from_frame(&frame);
    packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 8 });
    let sent = fabric.receive("a1", packet);
    assert_eq!(sent[0].1.offload.checksum, None);
    let mut covered = sent[0].1.frame()[34..].to_vec();
    let found: [u8; 4] = covered[8..12].try_into().unwrap();
    covered[8..12].fill(0);
    assert_eq!(found, crate::wire::crc32c::crc32c(&covered).to_le_bytes());
}

#[test]
fn where_buffers_run_out_packets_are_counted_and_the_next_round_is_as_ever() {
    let mut fabric = fabric(NOTHING, NOTHING);
    // 60,000 segments of one octet would take 130 MB.
    assert!(fabric.receive("a1", super_packet(60_000, 1)).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::BuffersExhausted), 1);

    let (mut batch, mut output) = (Batch::new(), Output::new());
    for _ in 0..60 {
        *batch.vacant() = super_packet(60_000, 100);
        batch.commit(1);
    }
    *batch.vacant() = Packet::from_frame(&fabric.resolve("a1", "198.18.1.1"));
    batch.commit(1);
    *batch.vacant() = Packet::from_frame(&tcp_frame(100));
    batch.commit(1);
    let a1 = fabric.stack.config().port_by_name("a1").unwrap().id;
    fabric.stack.process(fabric.now, a1, &mut batch, &mut output);
    let octets: usize = output.made().iter().map(Packet::len).sum();
    assert!(octets <= 16 << 20 && output.made().len() > 7000, "{} packets", output.made().len());
    let full = fabric.dropped("a1", DropReason::BuffersExhausted);
    assert!(full > 1 && full < 60, "{full}");
    // What needs no buffer goes on.
    assert!(matches!(output.sends().last().unwrap().origin, Origin::Received(61)));

    output.clear();
    assert_eq!(fabric.receive("a1", super_packet(3000, 1448)).len(), 3);
}

#[test]
fn an_answer_without_a_buffer_is_counted_where_it_should_have_left() {
    let mut fabric = fabric(NOTHING, NOTHING);
    let mut output = Output::new();
    while output.has_room(1, 0) {
        output.make_for(0);
    }
    let mut batch = Batch::new();
    for frame in [fabric.resolve("a1", "198.18.1.1"), fabric.echo("a1", "203.0.113.9"), tcp_frame(10)] {
        *batch.vacant() = Packet::from_frame(&frame);
        batch.commit(1);
    }
    let a1 = fabric.stack.config().port_by_name("a1").unwrap().id;
    fabric.stack.process(fabric.now, a1, &mut batch, &mut output);
    assert_eq!(output.sends().len(), 1);
    assert_eq!(fabric.dropped("a1", DropReason::BuffersExhausted), 2);
}

/// A fabric where a1 coalesces, and the segments that its device gives.
fn coalescing(change: impl FnOnce(&mut PortSpec)) -> (Fabric, Vec<Packet>) {
    let mut cut = fabric(NOTHING, NOTHING);
    let segments = cut.receive("a1", super_packet(6000, 1448)).into_iter().map(|(_, packet)| packet);
    let mut spec = testing::two_networks();
    spec.ports[0].coalesce = true;
    change(&mut spec.ports[0]);
    (Fabric::new(&spec), segments.collect())
}

fn receive_all(fabric: &mut Fabric, packets: Vec<Packet>) -> Vec<Sent> {
    let (mut batch, mut output) = (Batch::new(), Output::new());
    for packet in packets {
        *batch.vacant() = packet;
        batch.commit(1);
    }
    let a1 = fabric.stack.config().port_by_name("a1").unwrap().id;
    fabric.stack.process(fabric.now, a1, &mut batch, &mut output);
    fabric.collect(&mut batch, &mut output)
}

#[test]
fn segments_that_come_together_leave_as_a_super_packet() {
    let (mut fabric, segments) = coalescing(|_| ());
    let octets: u64 = segments.iter().map(|packet| packet.len() as u64).sum();
    let sent = receive_all(&mut fabric, segments);
    assert_eq!(ports(&sent), ["a2"]);
    assert_eq!(sent[0].1.frame(), super_packet(6000, 1448).frame());
    assert_eq!(sent[0].1.offload.gso, super_packet(6000, 1448).offload.gso);
    assert_eq!(counter(&fabric, "segments_coalesced"), 4);
    let a1 = fabric.stack.config().port_by_name("a1").unwrap();
    assert_eq!((a1.counters(0).rx_packets.get(), a1.counters(0).rx_bytes.get()), (5, octets));
}

#[test]
fn tagged_segments_are_put_together_and_their_tag_comes_off() {
    let (mut fabric, mut segments) = coalescing(|_| ());
    segments[1..].iter_mut().for_each(|packet| packet.dress(Some(Tci(0xe000))));
    let sent = receive_all(&mut fabric, segments);
    assert_eq!(counter(&fabric, "segments_coalesced"), 3);
    assert_eq!(read_u16(sent[0].1.frame(), 12), ethernet::IPV4);
    assert_eq!(ethernet_of(&sent[0].1).destination, mac("a2"));
}

#[test]
fn segments_with_a_users_own_tags_are_left_alone() {
    let (mut fabric, mut segments) = coalescing(|port| port.vlans = PortVlans::Tunnel(0));
    segments.iter_mut().for_each(|packet| packet.dress(Some(Tci(7))));
    assert_eq!(receive_all(&mut fabric, segments).len(), 5);
}

#[test]
fn without_being_asked_for_nothing_is_put_together() {
    let (mut fabric, segments) = coalescing(|port| port.coalesce = false);
    assert_eq!(receive_all(&mut fabric, segments).len(), 5);
}

proptest::proptest! {
    #[test]
    fn no_offload_state_makes_the_stack_panic(
        length in 0usize..200, at in 0usize..54, value in proptest::prelude::any::<u8>(), start in 0u16..80,
        offset in 0u16..20, size in proptest::prelude::any::<u16>(), header_length in proptest::prelude::any::<u16>(),
        kind in proptest::sample::select(vec![GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::Udp]),
        routed in proptest::prelude::any::<bool>(), tunnelled in proptest::prelude::any::<bool>(),
    ) {
        let mut spec = testing::two_networks();
        spec.ports[1].offloads = NOTHING;
        spec.ports[0].coalesce = true;
        spec.ports[0].source_check = false;
        spec.ports[3].mtu = 100;
        if tunnelled {
            spec.ports[0].vlans = PortVlans::Tunnel(0);
        }
        let mut fabric = Fabric::new(&spec);
        fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
        let mut frame = tcp_frame(length);
        frame[20] = 0;
        if routed {
            frame[..6].copy_from_slice(&testing::gateway_mac("a").0);
            frame[30..34].copy_from_slice(&[198, 18, 2, 10]);
        }
        frame[at] = value;
        ipv4::fill_checksum(&mut frame[14..34]);
        let mut packet = Packet::from_frame(&frame);
        let (start, offset) = if start % 2 == 0 { (34, 16) } else { (start, offset) };
        packet.offload.checksum = Some(PartialChecksum { start, offset });
        packet.offload.gso = Some(Gso { kind, size, header_length, ecn: false });
        let plain = Packet::from_frame(&frame);
        receive_all(&mut fabric, vec![plain, packet, Packet::from_frame(&frame)]);
    }
}
