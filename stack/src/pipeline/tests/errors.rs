//! ICMP errors: about what, from where, and what they quote.

use super::*;
use crate::packet::{Gso, GsoKind, PartialChecksum};
use crate::testing::gateway_mac;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6, tcp};

const UNKNOWN: [&str; 2] = ["203.0.113.1", "2001:db8:ffff::1"];

/// A frame from a1 to its gateway, for an address that there is no route to.
fn unroutable(fabric: &Fabric, destination: &str, protocol: Protocol, length: u16) -> Vec<u8> {
    fabric.frame("a1", |spec| {
        spec.destination = destination.parse().unwrap();
        spec.destination_mac = Some(gateway_mac("a"));
        spec.protocol = protocol;
        spec.length = Some(length);
    })
}

/// The error's ICMP message.
fn message(sent: &[Sent]) -> Vec<u8> {
    assert_eq!(ports(sent), ["a1"]);
    let frame = sent[0].1.frame();
    let ip = &frame[14..];
    if ip[0] >> 4 == 4 {
        let header = ipv4::Header::parse(ip).unwrap();
        assert_eq!(header.total_length, ip.len());
        icmpv4::check(&ip[20..]).unwrap();
        ip[20..].to_vec()
    } else {
        let header = ipv6::Header::parse(ip).unwrap();
        assert_eq!(header.total_length, ip.len());
        icmpv6::check(header.source, header.destination, &ip[40..]).unwrap();
        ip[40..].to_vec()
    }
}

#[test]
fn an_error_quotes_as_much_as_fits_and_no_more() {
    let mut fabric = Fabric::two_networks();
    for (destination, length, whole) in
        [(UNKNOWN[0], 1500, 576), (UNKNOWN[0], 60, 88), (UNKNOWN[1], 1500, 1280), (UNKNOWN[1], 60, 108)]
    {
        let frame = unroutable(&fabric, destination, Protocol::Udp, length);
        let sent = fabric.receive_frame("a1", &frame);
        assert_eq!(sent[0].1.len(), 14 + whole, "{destination} {length}");
        let message = message(&sent);
        assert_eq!(message[8..], frame[14..14 + message.len() - 8]);
        assert_eq!(message[4..8], [0; 4], "no extension follows (RFC 4884 section 4)");
    }
}

#[test]
fn an_error_is_of_its_own_precedence_and_atomic() {
    let mut fabric = Fabric::two_networks();
    let mut frame = unroutable(&fabric, UNKNOWN[0], Protocol::Udp, 60);
    frame[15] = 0x13; // minimize delay, congestion experienced
    ipv4::fill_checksum(&mut frame[14..34]);
    let sent = fabric.receive_frame("a1", &frame);
    let header = ipv4::Header::parse(&sent[0].1.frame()[14..]).unwrap();
    assert_eq!((header.tos, header.dont_fragment, header.ttl), (0xd0, true, 64));
    assert_eq!(message(&sent)[9], 0x13, "the quote is as it came");
}

#[test]
fn nothing_is_told_to_groups_nor_about_packets_to_them() {
    let mut fabric = Fabric::two_networks();
    let mut spec = testing::two_networks();
    spec.ports[0].source_check = false;
    fabric.reconfigure(&spec);
    let mut frame = unroutable(&fabric, UNKNOWN[0], Protocol::Udp, 60);
    frame[26..30].copy_from_slice(&[198, 18, 1, 255]);
    ipv4::fill_checksum(&mut frame[14..34]);
    assert!(fabric.receive_frame("a1", &frame).is_empty(), "a subnet's broadcast");
    frame[26..30].copy_from_slice(&[198, 18, 1, 77]);
    ipv4::fill_checksum(&mut frame[14..34]);
    let asked = told(&fabric.receive_frame("a1", &frame));
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(_, what)| what.contains("198.18.1.77")), "whoever it is: {asked:?}");
}

#[test]
fn later_fragments_are_told_of_in_ipv6_alone() {
    let mut spec = testing::two_networks();
    spec.ports[3].mtu = 1280;
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    let frame = fabric.frame("a1", |spec| {
        spec.destination = "2001:db8:2::a".parse().unwrap();
        spec.protocol = Protocol::Udp;
        spec.length = Some(1400);
    });
    let mut later = [&frame[..54], &[17, 0, 0x05, 0xa9, 0, 0, 0, 7], &frame[54..]].concat();
    later[18..20].copy_from_slice(&1368u16.to_be_bytes());
    later[20] = 44;
    let told = message(&fabric.receive_frame("a1", &later));
    assert_eq!((told[0], &told[4..8]), (2, &1280u32.to_be_bytes()[..]));

    let mut v4 = fabric.frame("a1", |spec| {
        spec.destination = "198.18.2.10".parse().unwrap();
        spec.length = Some(1400);
    });
    v4[20..22].copy_from_slice(&[0x40, 5]);
    ipv4::fill_checksum(&mut v4[14..34]);
    assert!(fabric.receive_frame("a1", &v4).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::PacketTooBig), 2);
}

#[test]
fn no_mtu_below_the_least_of_ipv6_is_told() {
    let mut spec = testing::two_networks();
    spec.ports[3].mtu = 1000;
    let mut fabric = Fabric::new(&spec);
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    let mut send = |length| {
        let frame = fabric.frame("a1", |spec| {
            spec.destination = "2001:db8:2::a".parse().unwrap();
            spec.length = Some(length);
        });
        fabric.receive_frame("a1", &frame)
    };
    assert_eq!(message(&send(1281))[4..8], 1280u32.to_be_bytes());
    assert!(send(1280).is_empty(), "nobody makes smaller ones");
    assert_eq!(fabric.dropped("a1", DropReason::PacketTooBig), 2);
}

#[test]
fn an_error_about_a_packet_to_the_router_comes_from_the_address_that_it_was_sent_to() {
    let mut fabric = Fabric::two_networks();
    for gateway in ["198.18.1.1", "198.18.2.1", "2001:db8:1::1", "2001:db8:2::1"] {
        let frame = fabric.frame("a1", |spec| {
            spec.destination = gateway.parse().unwrap();
            spec.protocol = Protocol::Udp;
        });
        let sent = fabric.receive_frame("a1", &frame);
        assert!(told(&sent)[0].1.contains(&format!(" {gateway} > ")), "{:?}", told(&sent));
    }
    let beyond = unroutable(&fabric, UNKNOWN[0], Protocol::Udp, 60);
    assert!(told(&fabric.receive_frame("a1", &beyond))[0].1.contains(" 198.18.1.1 > "));
}

/// Puts the pseudo-header's sum where the checksum of the transport at `start` belongs.
fn leave_open(frame: &mut [u8], start: usize, field: usize) {
    let (source, destination, protocol) = if start == 34 {
        let ip = ipv4::Header::parse(&frame[14..]).unwrap();
        (IpAddr::V4(ip.source), IpAddr::V4(ip.destination), ip.protocol)
    } else {
        let ip = ipv6::Header::parse(&frame[14..]).unwrap();
        (IpAddr::V6(ip.source), IpAddr::V6(ip.destination), ip.protocol)
    };
    let pseudo = pseudo_header(source, destination, protocol, frame.len() - start).folded();
    frame[start + field..start + field + 2].copy_from_slice(&pseudo.to_be_bytes());
}

#[test]
fn a_checksum_that_was_left_open_is_right_in_the_quote() {
    let mut fabric = Fabric::two_networks();
    for (destination, start) in [(UNKNOWN[0], 34), (UNKNOWN[1], 54)] {
        let complete = unroutable(&fabric, destination, Protocol::Udp, 200);
        let mut open = complete.clone();
        leave_open(&mut open, start, 6);
        let mut packet = Packet::from_frame(&open);
        packet.offload.checksum = Some(PartialChecksum { start: start as u16, offset: 6 });
        assert_eq!(message(&fabric.receive("a1", packet))[8..], complete[14..]);
    }
}

#[test]
fn of_a_super_packet_the_first_segment_is_quoted() {
    let mut fabric = Fabric::two_networks();
    for (destination, kind, protocol, start) in [
        (UNKNOWN[0], GsoKind::TcpV4, Protocol::Tcp, 34),
        (UNKNOWN[1], GsoKind::TcpV6, Protocol::Tcp, 54),
        (UNKNOWN[0], GsoKind::Udp, Protocol::Udp, 34),
        (UNKNOWN[1], GsoKind::Udp, Protocol::Udp, 54),
    ] {
        let mut frame = unroutable(&fabric, destination, protocol, 9000);
        let (header, field) = if protocol == Protocol::Tcp { (20, tcp::CHECKSUM) } else { (8, 6) };
        if protocol == Protocol::Tcp {
            frame[start + 13] = 0x19; // ACK, PSH, FIN
        }
        for (index, byte) in frame[start + header..].iter_mut().enumerate() {
            *byte = (index * 7) as u8;
        }
        leave_open(&mut frame, start, field);
        let mut packet = Packet::from_frame(&frame);
        packet.offload.checksum = Some(PartialChecksum { start: start as u16, offset: field as u16 });
        packet.offload.gso = Some(Gso { kind, size: 401, header_length: 0, ecn: false });
        let quote = message(&fabric.receive("a1", packet))[8..].to_vec();

        let segment = &quote[start - 14..];
        assert_eq!(segment.len(), header + 401);
        assert_eq!(segment[header..], frame[start + header..start + header + 401]);
        let (source, to, protocol) = if start == 34 {
            let ip = ipv4::Header::parse(&quote).unwrap();
            assert!(ipv4::checksum_is_valid(&quote[..20]));
            assert_eq!(ip.total_length, quote.len());
            (IpAddr::V4(ip.source), IpAddr::V4(ip.destination), ip.protocol)
        } else {
            let ip = ipv6::Header::parse(&quote).unwrap();
            assert_eq!(ip.total_length, quote.len());
            (IpAddr::V6(ip.source), IpAddr::V6(ip.destination), ip.protocol)
        };
        let sum = pseudo_header(source, to, protocol, segment.len()).bytes(segment);
        assert_eq!(sum.folded(), 0xffff, "{destination} {kind:?}");
        match kind {
            GsoKind::Udp => assert_eq!(segment[4..6], 409u16.to_be_bytes()),
            _ => assert_eq!(segment[13], 0x10, "PSH and FIN are the last segment's"),
        }
    }
}

#[test]
fn an_error_about_an_own_packet_is_noted_and_others_are_not() {
    let mut fabric = Fabric::two_networks();
    let mut send = |quoted_source: [u8; 4]| {
        let echo = fabric.echo("a1", "198.18.1.1");
        let mut frame = [&echo[..34], &[3, 4, 0, 0, 0, 0, 5, 0], &echo[14..42]].concat();
        frame[17] = (frame.len() - 14) as u8;
        frame[54..58].copy_from_slice(&quoted_source);
        let sum = Sum::default().bytes(&frame[34..]).finish();
        frame[36..38].copy_from_slice(&sum.to_be_bytes());
        ipv4::fill_checksum(&mut frame[14..34]);
        assert!(fabric.receive_frame("a1", &frame).is_empty());
        let noted = fabric.stack.config().stack_counters()[0].icmp_errors_received.get();
        (noted, fabric.dropped("a1", DropReason::IcmpUnhandled))
    };
    assert_eq!(send([198, 18, 1, 1]), (1, 0));
    assert_eq!(send([198, 18, 1, 10]), (1, 1));
}
