//! IPv4 packets for the gateway itself.

use std::net::Ipv4Addr;

use super::Draft;
use crate::oracle::packet::{DONT_FRAGMENT, Ipv4, MORE_FRAGMENTS, icmp, tcp, udp};
use crate::oracle::random::Random;
use crate::oracle::topology::{Net, Wire};

/// The gateway that is nearest, or one of its other addresses.
fn gateway(random: &mut Random, from: Wire) -> Ipv4Addr {
    let net = if random.one_in(4) { random.pick(&Net::ALL) } else { from.net() };
    net.segment().gateway4
}

fn packet(random: &mut Random, from: Wire, protocol: u8, payload: Vec<u8>) -> Ipv4 {
    let to = gateway(random, from);
    let mut packet = Ipv4::new(from.v4(), to, protocol, payload);
    packet.tos = random.pick(&[0u8, 0, 0x10, 0xb8, 0x03, 0xff]);
    packet.id = random.word();
    packet.flags = random.pick(&[0, DONT_FRAGMENT]);
    packet.ttl = random.pick(&[0u8, 1, 2, 64, 255]);
    packet
}

fn draft(title: String, packet: &Ipv4, from: Wire) -> Draft {
    Draft::one(title, from, packet.frame(from.net().segment().gateway_mac, from.mac()))
}

pub fn echo(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let length = random.pick(&[0usize, 1, 7, 56, 57, 999, 1252]);
    let data = random.octets(length);
    let code = if random.one_in(8) { 3 } else { 0 };
    let mut packet = packet(random, from, 1, icmp(8, code, [1, 2, 3, 4], &data));
    let mut what = "an echo request";
    match random.below(8) {
        0 => {
            packet.payload[2] ^= 0x11;
            what = "an echo request with a wrong checksum";
        }
        1 => {
            packet.options = random.pick(&[[1u8, 1, 1, 0], [148, 4, 0, 0]]).to_vec();
            what = "an echo request with options";
        }
        2 => {
            packet.options = [&[7, 11, 4][..], &[0; 8], &[0]].concat();
            what = "an echo request with a record route";
        }
        _ => {}
    }
    draft(format!("{what} of {length} octets, TTL {}", packet.ttl), &packet, from)
}

/// ICMP that is no echo request, and such as is cut short.
pub fn icmp_other(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let kind = random.pick(&[0u8, 3, 4, 5, 9, 10, 11, 12, 13, 15, 17, 30, 42, 200]);
    let length = random.pick(&[0usize, 12, 28, 40]);
    let data = random.octets(length);
    let mut packet = packet(random, from, 1, icmp(kind, 0, [1, 2, 0, 0], &data));
    packet.ttl = 64;
    if random.one_in(5) {
        packet.payload.truncate(random.below(8));
        return draft(format!("ICMP cut to {} octets", packet.payload.len()), &packet, from);
    }
    draft(format!("ICMP type {kind}"), &packet, from)
}

pub fn udp_closed(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let length = random.pick(&[0usize, 10, 300, 520, 521, 900]);
    let data = random.octets(length);
    let mut packet = packet(random, from, 17, Vec::new());
    packet.payload = udp(packet.source.into(), packet.destination.into(), (40_000, random.word() | 1), &data);
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
    draft(format!("UDP of {length} octets, {what}"), &packet, from)
}

pub fn tcp_closed(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let flags = random.pick(&[0x02u8, 0x10, 0x12, 0x18, 0x11, 0x04, 0x14, 0x00, 0xc2, 0x29]);
    let length = random.pick(&[0usize, 0, 1, 64]);
    let data = random.octets(length);
    let mut packet = packet(random, from, 6, Vec::new());
    packet.payload = tcp(packet.source.into(), packet.destination.into(), (40_000, 80), flags, &data);
    let what = match random.below(7) {
        0 => {
            packet.payload[16] ^= 1;
            "wrong checksum"
        }
        1 => {
            packet.payload[12] = random.pick(&[0x40u8, 0xf0, 0x00]);
            "wrong data offset"
        }
        2 => {
            packet.payload.truncate(random.pick(&[0usize, 8, 19]));
            "cut short"
        }
        _ => "whole",
    };
    draft(format!("TCP flags {flags:02x}, {length} octets, {what}"), &packet, from)
}

pub fn other_protocol(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let protocol = random.pick(&[2u8, 3, 4, 41, 47, 50, 51, 89, 99, 132, 255]);
    let length = random.pick(&[0usize, 4, 40, 700]);
    let data = random.octets(length);
    let packet = packet(random, from, protocol, data);
    draft(format!("protocol {protocol}"), &packet, from)
}

/// A large echo request in two pieces, in either order, or with one missing.
pub fn fragments(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let data = random.octets(1200);
    let message = icmp(8, 0, [9, 9, 0, 1], &data);
    let mut whole = packet(random, from, 1, message.clone());
    whole.ttl = 64;
    whole.id = random.word();
    let piece = |flags: u16, payload: &[u8]| {
        let packet = Ipv4 { flags, payload: payload.to_vec(), ..whole.clone() };
        packet.frame(from.net().segment().gateway_mac, from.mac())
    };
    let first = piece(MORE_FRAGMENTS, &message[..608]);
    let second = piece(76, &message[608..]);
    match random.below(3) {
        0 => Draft::new("an echo request in two pieces").send(from, first).send(from, second),
        1 => Draft::new("an echo request in two pieces, last first").send(from, second).send(from, first),
        _ => Draft::new("an echo request of which a piece is missing").send(from, first),
    }
}
