//! IPv6 packets for the gateway itself.

use std::net::Ipv6Addr;

use super::Draft;
use crate::oracle::packet::{Ipv6, icmpv6, tcp, udp};
use crate::oracle::random::Random;
use crate::oracle::topology::{Net, Wire};

/// A source and one of the gateway's addresses that fit together.
fn ends(random: &mut Random, from: Wire) -> (Ipv6Addr, Ipv6Addr) {
    match random.below(6) {
        0 => (from.link_local(), from.net().gateway_link_local()),
        1 => (from.v6(), from.net().gateway_link_local()),
        2 => (from.v6(), random.pick(&Net::ALL).segment().gateway6),
        _ => (from.v6(), from.net().segment().gateway6),
    }
}

fn packet(random: &mut Random, ends: (Ipv6Addr, Ipv6Addr), next: u8, payload: Vec<u8>) -> Ipv6 {
    let mut packet = Ipv6::new(ends.0, ends.1, next, payload);
    packet.class = random.pick(&[0u8, 0, 0xb8, 0x03]);
    packet.flow = random.pick(&[0u32, 0, 0x12345]);
    packet.hops = random.pick(&[0u8, 1, 2, 64, 255]);
    packet
}

fn draft(title: String, packet: &Ipv6, from: Wire) -> Draft {
    Draft::one(title, from, packet.frame(from.net().segment().gateway_mac, from.mac()))
}

pub fn echo(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let ends = ends(random, from);
    let length = random.pick(&[0usize, 1, 7, 56, 57, 999, 1232]);
    let data = random.octets(length);
    let code = if random.one_in(8) { 3 } else { 0 };
    let mut packet = packet(random, ends, 58, icmpv6(ends.0, ends.1, 128, code, [1, 2, 3, 4], &data));
    let mut what = "an echo request";
    if random.one_in(6) {
        packet.payload[2] ^= 0x11;
        what = "an echo request with a wrong checksum";
    }
    draft(format!("{what} of {length} octets to {}", ends.1), &packet, from)
}

pub fn icmp_other(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let ends = ends(random, from);
    let kind = random.pick(&[1u8, 2, 3, 4, 100, 127, 129, 130, 131, 138, 139, 144, 200]);
    let length = random.pick(&[0usize, 12, 48, 60]);
    let data = random.octets(length);
    let mut packet = packet(random, ends, 58, icmpv6(ends.0, ends.1, kind, 0, [0, 0, 5, 0], &data));
    packet.hops = 64;
    if random.one_in(5) {
        packet.payload.truncate(random.below(8));
        return draft(format!("ICMPv6 cut to {} octets", packet.payload.len()), &packet, from);
    }
    draft(format!("ICMPv6 type {kind}"), &packet, from)
}

pub fn udp_closed(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let ends = ends(random, from);
    let length = random.pick(&[0usize, 10, 300, 900, 1184, 1185]);
    let data = random.octets(length);
    let payload = udp(ends.0.into(), ends.1.into(), (40_000, random.word() | 1), &data);
    let mut packet = packet(random, ends, 17, payload);
    let what = match random.below(6) {
        0 => {
            packet.payload[7] ^= 1;
            "wrong checksum"
        }
        1 => {
            packet.payload[6..8].copy_from_slice(&[0, 0]);
            "no checksum"
        }
        2 => {
            packet.payload[5] ^= 4;
            "wrong length"
        }
        3 => {
            packet.payload.truncate(random.below(8));
            "cut short"
        }
        _ => "whole",
    };
    draft(format!("UDP of {length} octets, {what}, to {}", ends.1), &packet, from)
}

pub fn tcp_closed(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let ends = ends(random, from);
    let flags = random.pick(&[0x02u8, 0x10, 0x12, 0x18, 0x11, 0x04, 0x00]);
    let length = random.pick(&[0usize, 0, 1, 64]);
    let data = random.octets(length);
    let payload = tcp(ends.0.into(), ends.1.into(), (40_000, 80), flags, &data);
    let mut packet = packet(random, ends, 6, payload);
    let mut what = "whole";
    if random.one_in(6) {
        packet.payload[16] ^= 1;
        what = "wrong checksum";
    }
    draft(format!("TCP flags {flags:02x}, {length} octets, {what}, to {}", ends.1), &packet, from)
}

pub fn other_protocol(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let ends = ends(random, from);
    let next = random.pick(&[1u8, 2, 4, 41, 47, 50, 59, 89, 99, 132, 255]);
    let length = random.pick(&[0usize, 4, 40, 700]);
    let data = random.octets(length);
    let packet = packet(random, ends, next, data);
    draft(format!("next header {next} to {}", ends.1), &packet, from)
}

/// Echo requests behind extension headers, and in pieces.
pub fn extended(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let ends = (from.v6(), from.net().segment().gateway6);
    let message = icmpv6(ends.0, ends.1, 128, 0, [1, 2, 3, 4], &random.octets(40));
    let mut packet = packet(random, ends, 58, message);
    packet.hops = 64;
    let unknown = random.pick(&[0x1eu8, 0x5e, 0x9e, 0xde]);
    let what = match random.below(6) {
        0 => {
            packet.extend(60, &[0, 1, 4, 0, 0, 0, 0]);
            "destination options, padding"
        }
        1 => {
            packet.extend(60, &[0, unknown, 4, 0, 0, 0, 0]);
            "destination options, an unknown one"
        }
        2 => {
            packet.extend(0, &[0, unknown, 4, 0, 0, 0, 0]);
            "hop-by-hop options, an unknown one"
        }
        3 => {
            packet.extend(43, &[&[2, 0, 1, 0, 0, 0, 0][..], &Wire::C.v6().octets()].concat());
            "routing header 0"
        }
        4 => {
            packet.extend(43, &[0, 4, 0, 0, 0, 0, 0]);
            "routing header 4, used up"
        }
        _ => {
            packet.extend(44, &[0, 0, 0, 0, 0, 0, 5]);
            "an atomic fragment"
        }
    };
    draft(format!("an echo request behind {what}"), &packet, from)
}

pub fn fragments(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let ends = (from.v6(), from.net().segment().gateway6);
    let message = icmpv6(ends.0, ends.1, 128, 0, [9, 9, 0, 1], &random.octets(1200));
    let id = u32::from(random.word()) << 16 | u32::from(random.word());
    let piece = |offset_and_flag: u16, payload: &[u8]| {
        let mut packet = Ipv6::new(ends.0, ends.1, 58, payload.to_vec());
        packet.extend(44, &[&[0][..], &offset_and_flag.to_be_bytes(), &id.to_be_bytes()].concat());
        packet.frame(from.net().segment().gateway_mac, from.mac())
    };
    let first = piece(1, &message[..608]);
    let second = piece(608, &message[608..]);
    match random.below(4) {
        0 => Draft::new("an echo request in two pieces").send(from, first).send(from, second),
        1 => Draft::new("an echo request in two pieces, last first").send(from, second).send(from, first),
        2 => {
            let overlapping = piece(600, &message[600..]);
            Draft::new("an echo request in two pieces that overlap").send(from, first).send(from, overlapping)
        }
        _ => Draft::new("an echo request of which a piece is missing").send(from, first),
    }
}
