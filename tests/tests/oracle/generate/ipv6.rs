//! IPv6 packets that the router is to forward, or not (RFC 8200, RFC 4291, RFC 4443).

use std::net::Ipv6Addr;

use weft_testkit::frame::BROADCAST;

use super::Draft;
use crate::oracle::packet::{Ipv6, address, group_mac, icmpv6, tcp, udp};
use crate::oracle::random::Random;
use crate::oracle::topology::Wire;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

fn far(random: &mut Random, from: Wire) -> Ipv6Addr {
    let there: Vec<Wire> = Wire::PLAIN.into_iter().filter(|wire| wire.net() != from.net()).collect();
    match random.below(6) {
        0 => Ipv6Addr::new(0x2001, 0xdb8, 0xf, random.word(), 0, 0, 0, 9),
        _ => random.pick(&there).v6(),
    }
}

fn packet(random: &mut Random, from: Wire, to: Ipv6Addr, length: usize) -> Ipv6 {
    let source = from.v6();
    let data = random.octets(length);
    let ports = (random.word(), random.word());
    let (next, payload) = match random.below(5) {
        0 => (6, tcp(source.into(), to.into(), ports, random.octet(), &data)),
        1 => (58, icmpv6(source, to, random.pick(&[128u8, 129, 1, 3, 100, 200]), 0, [0, 7, 0, 1], &data)),
        2 => (random.pick(&[4u8, 41, 47, 50, 59, 89, 132, 253]), data),
        _ => (17, udp(source.into(), to.into(), ports, &data)),
    };
    let mut packet = Ipv6::new(source, to, next, payload);
    packet.class = random.octet();
    packet.flow = u32::from(random.word()) << 4 | 5;
    packet.hops = random.pick(&[2u8, 3, 64, 128, 255]);
    packet
}

fn to_gateway(packet: &Ipv6, from: Wire) -> Vec<u8> {
    packet.frame(from.net().segment().gateway_mac, from.mac())
}

pub fn forwarded(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = if random.one_in(10) { from.net().segment().wires[0].v6() } else { far(random, from) };
    let length = random.below(600);
    let packet = packet(random, from, to, length);
    let mut frame = to_gateway(&packet, from);
    if random.one_in(4) {
        frame.extend(random.octets(9));
    }
    Draft::one(format!("next header {} to {to}", packet.next), from, frame)
}

pub fn hop_limit(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = far(random, from);
    let length = random.pick(&[0usize, 8, 100, 600, 1100]);
    let mut packet = packet(random, from, to, length);
    packet.hops = random.pick(&[0u8, 1, 1, 2]);
    if random.one_in(4) {
        let offset = random.pick(&[1u16, 0x40, 0x41]);
        packet.extend(FRAGMENT, &fragment_header(offset, 77));
    }
    Draft::one(
        format!("hop limit {} next header {}", packet.hops, packet.next),
        from,
        to_gateway(&packet, from),
    )
}

/// All of a fragment header but its first octet.
fn fragment_header(offset_and_flag: u16, id: u32) -> Vec<u8> {
    [&[0][..], &offset_and_flag.to_be_bytes(), &id.to_be_bytes()].concat()
}

pub fn bent_header(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = far(random, from);
    let mut packet = packet(random, from, to, 64);
    let length = packet.payload.len() as u16;
    let what = match random.below(3) {
        0 => {
            packet.version = random.pick(&[0u8, 4, 5, 7, 15]);
            "version"
        }
        1 => {
            packet.payload_length = Some(length + random.pick(&[1u16, 8, 1000]));
            "payload length too long"
        }
        _ => {
            packet.payload_length = Some(random.pick(&[0u16, 1, length - 1]));
            "payload length too short"
        }
    };
    Draft::one(format!("wrong: {what}"), from, to_gateway(&packet, from))
}

/// One extension header's body, its first octet left out.
fn extension(random: &mut Random) -> (&'static str, u8, Vec<u8>) {
    let unknown = random.pick(&[0x1eu8, 0x5e, 0x9e, 0xde]);
    match random.below(10) {
        0 => ("destination options, padding", DESTINATION_OPTIONS, vec![0, 1, 4, 0, 0, 0, 0]),
        1 => ("destination options, an unknown one", DESTINATION_OPTIONS, vec![0, unknown, 4, 0, 0, 0, 0]),
        2 => ("hop-by-hop options, padding", HOP_BY_HOP, vec![0, 1, 4, 0, 0, 0, 0]),
        3 => ("hop-by-hop options, an unknown one", HOP_BY_HOP, vec![0, unknown, 4, 0, 0, 0, 0]),
        4 => ("hop-by-hop options, router alert", HOP_BY_HOP, vec![0, 5, 2, 0, 0, 1, 0]),
        5 => ("routing header 0", ROUTING, [&[2, 0, 1, 0, 0, 0, 0][..], &Wire::C.v6().octets()].concat()),
        6 => ("routing header 4, used up", ROUTING, vec![0, 4, 0, 0, 0, 0, 0]),
        7 => ("an atomic fragment", FRAGMENT, fragment_header(0, 5)),
        8 => ("a first fragment", FRAGMENT, fragment_header(1, 6)),
        _ => ("a later fragment", FRAGMENT, fragment_header(0x40, 6)),
    }
}

pub fn extended(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = far(random, from);
    let mut packet = packet(random, from, to, 64);
    let (mut what, kind, body) = extension(random);
    packet.extend(kind, &body);
    match random.below(6) {
        0 => packet.extend(DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0]),
        1 => {
            packet.payload[1] = 200;
            what = "an extension header beyond the end";
        }
        _ => {}
    }
    Draft::one(format!("{what}, next header {}", packet.next), from, to_gateway(&packet, from))
}

pub fn many_extensions(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::D]);
    let to = far(random, from);
    let mut packet = packet(random, from, to, 16);
    let count = random.within(2..=12);
    for _ in 0..count {
        packet.extend(DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0]);
    }
    Draft::one(format!("{count} extension headers"), from, to_gateway(&packet, from))
}

pub fn scope(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::D, Wire::F]);
    let odd: Ipv6Addr = address(random.pick(&[
        "::",
        "::1",
        "fe80::1234",
        "ff02::1",
        "ff05::2",
        "ff0e::9",
        "fec0::7",
        "fd00::7",
        "::ffff:198.18.1.11",
        "64:ff9b::1",
        "2001:db8:1::1",
        "2001:db8:2::1",
        "2001:db8:1::",
        "2001:db8:2::",
        "100::1",
    ]));
    let away = far(random, from);
    let (side, source, to) = match random.below(3) {
        0 => ("from its link-local address, not", from.link_local(), away),
        1 => ("from", odd, away),
        _ => ("to", from.v6(), odd),
    };
    let packet = Ipv6 { source, ..packet(random, from, to, 40) };
    Draft::one(format!("{side} {odd}, next header {}", packet.next), from, to_gateway(&packet, from))
}

pub fn unreachable(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to: Ipv6Addr = address(random.pick(&["2001:db8:77::1", "2001:db8:3::5", "fd00:9::1"]));
    let length = random.pick(&[0usize, 1, 700, 1184, 1185, 1200]);
    let mut packet = packet(random, from, to, length);
    packet.hops = random.pick(&[1u8, 2, 64]);
    let length = packet.bytes().len();
    if length > from.net().segment().mtu as usize {
        packet.payload.truncate(1240);
    }
    Draft::one(format!("no route to {to}, next header {}", packet.next), from, to_gateway(&packet, from))
}

/// Routes that lead nowhere, and sources with a table of their own.
pub fn special_route(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::D, Wire::F]);
    let away = far(random, from);
    let nowhere = random.pick(&[0x64u16, 0x65, 0x66]);
    let to = if random.one_in(4) {
        away
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, nowhere, random.word(), 0, 0, 0, 3)
    };
    let length = random.pick(&[0usize, 30, 600]);
    let mut packet = packet(random, from, to, length);
    let fourth = match (from, random.one_in(3)) {
        (Wire::D, true) => 0x4000 | random.word() & 0x0fff,
        (Wire::D, false) => random.word() & 0x3fff,
        _ => 0x8000 | random.word() & 0x7fff,
    };
    packet.source = Ipv6Addr::new(0x2001, 0xdb8, 0xf, fourth, 0, 0, 0, 1);
    packet.hops = random.pick(&[1u8, 2, 64]);
    let title =
        format!("from {} to {to}, next header {}, hop limit {}", packet.source, packet.next, packet.hops);
    Draft::one(title, from, to_gateway(&packet, from))
}

pub fn too_big(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::F]);
    let to = random.pick(&[Wire::D.v6(), Wire::E.v6(), Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1)]);
    let mut packet = packet(random, from, to, 0);
    let size = match random.below(3) {
        0 => random.within(1276..=1284),
        1 => random.within(1400..=1500),
        _ => 1500,
    };
    packet.next = random.pick(&[17u8, 6, 50]);
    packet.payload = random.octets(size - 40);
    if random.one_in(4) {
        packet.payload.truncate(size - 48);
        let offset = random.pick(&[0u16, 1, 0x40]);
        packet.extend(FRAGMENT, &fragment_header(offset, 3));
    }
    let title = format!("{} octets where 1280 fit", packet.bytes().len());
    Draft::one(title, from, to_gateway(&packet, from))
}

pub fn wrong_layer(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::D, Wire::F]);
    let segment = from.net().segment();
    let away = far(random, from);
    let to = random.pick(&[segment.gateway6, away, segment.wires[0].v6()]);
    let packet = packet(random, from, to, 30);
    let destination = random.pick(&[BROADCAST, [0x33, 0x33, 0, 0, 0, 1]]);
    let title = format!("for {to} to all, next header {}", packet.next);
    Draft::one(title, from, packet.frame(destination, from.mac()))
}

pub fn to_many(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::D, Wire::E]);
    let to: Ipv6Addr =
        address(random.pick(&["ff02::1", "ff02::2", "ff02::fb", "ff05::2", "ff0e::123", "ff01::1"]));
    let mut packet = packet(random, from, to, 48);
    packet.source = random.pick(&[from.v6(), from.link_local()]);
    if random.one_in(3) {
        packet.next = 58;
        packet.payload = icmpv6(packet.source, to, 128, 0, [0, 3, 0, 4], &[7; 20]);
    }
    packet.hops = random.pick(&[1u8, 2, 64]);
    Draft::one(
        format!("to {to}, next header {}", packet.next),
        from,
        packet.frame(group_mac(to.into()), from.mac()),
    )
}

pub fn silent_neighbor(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::D, Wire::E, Wire::F]);
    let to = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x1000 + random.word() % 0x4000);
    let packet = packet(random, from, to, 20);
    Draft::one(format!("nobody at {to}, next header {}", packet.next), from, to_gateway(&packet, from))
}
