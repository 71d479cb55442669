//! IPv4 packets that the router is to forward, or not (RFC 791, RFC 1812).

use std::net::Ipv4Addr;

use weft_testkit::frame::BROADCAST;

use super::Draft;
use crate::oracle::packet::{DONT_FRAGMENT, Ipv4, MORE_FRAGMENTS, address, icmp, tcp, udp};
use crate::oracle::random::Random;
use crate::oracle::topology::Wire;

/// Somewhere that the router knows a way to: a host, or an address behind one.
fn far(random: &mut Random, from: Wire) -> Ipv4Addr {
    let there: Vec<Wire> = Wire::PLAIN.into_iter().filter(|wire| wire.net() != from.net()).collect();
    match random.below(6) {
        0 => Ipv4Addr::new(198, 19, random.octet(), random.octet()),
        _ => random.pick(&there).v4(),
    }
}

/// A packet for somewhere else, of any protocol, with any service and id.
fn packet(random: &mut Random, from: Wire, to: Ipv4Addr, length: usize) -> Ipv4 {
    let source = from.v4();
    let data = random.octets(length);
    let ports = (random.word(), random.word());
    let (protocol, payload) = match random.below(5) {
        0 => (6, tcp(source.into(), to.into(), ports, random.octet(), &data)),
        1 => (1, icmp(random.pick(&[8u8, 0, 3, 11, 13, 42]), 0, [0, 7, 0, 1], &data)),
        2 => (random.pick(&[2u8, 4, 41, 47, 50, 89, 132, 253]), data),
        _ => (17, udp(source.into(), to.into(), ports, &data)),
    };
    let mut packet = Ipv4::new(source, to, protocol, payload);
    packet.tos = random.octet();
    packet.id = random.word();
    packet.flags = random.pick(&[0, DONT_FRAGMENT]);
    packet.ttl = random.pick(&[2u8, 3, 64, 128, 255]);
    packet
}

fn to_gateway(packet: &Ipv4, from: Wire) -> Vec<u8> {
    packet.frame(from.net().segment().gateway_mac, from.mac())
}

pub fn forwarded(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = if random.one_in(10) { from.net().segment().wires[0].v4() } else { far(random, from) };
    let length = random.below(600);
    let packet = packet(random, from, to, length);
    let mut frame = to_gateway(&packet, from);
    if random.one_in(4) {
        frame.extend(random.octets(9));
    }
    Draft::one(format!("protocol {} to {to}", packet.protocol), from, frame)
}

pub fn time_to_live(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = far(random, from);
    let length = random.pick(&[0usize, 8, 100, 600, 1100]);
    let mut packet = packet(random, from, to, length);
    packet.ttl = random.pick(&[0u8, 1, 1, 2]);
    if random.one_in(4) {
        packet.flags = random.pick(&[MORE_FRAGMENTS, 4, MORE_FRAGMENTS | 8]);
    }
    Draft::one(format!("TTL {} protocol {}", packet.ttl, packet.protocol), from, to_gateway(&packet, from))
}

pub fn bent_header(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = far(random, from);
    let mut packet = packet(random, from, to, 64);
    let what = match random.below(6) {
        0 => {
            packet.checksum_error = random.word() | 1;
            "checksum"
        }
        1 => {
            packet.version_and_length = Some(random.pick(&[0x40u8, 0x44, 0x4f, 0x55, 0x65, 0x05]));
            "version or header length"
        }
        2 => {
            packet.total_length = Some(random.pick(&[0u16, 19, 20, 21, 40, 60]));
            "total length too short"
        }
        3 => {
            packet.total_length = Some(packet.bytes().len() as u16 + random.pick(&[1u16, 4, 1000]));
            "total length too long"
        }
        4 => {
            packet.flags = 0x8000;
            "reserved flag"
        }
        _ => {
            packet.flags = random.pick(&[0x1fffu16, 0x3fff, 0x1ff8]);
            "fragment beyond the longest packet"
        }
    };
    Draft::one(format!("wrong: {what}"), from, to_gateway(&packet, from))
}

/// Option bytes, whole words: source routes, record route, timestamps, router alert, unknown and broken ones.
fn options(random: &mut Random) -> (&'static str, Vec<u8>) {
    let route = [random.octet(), 18, 1, 99];
    match random.below(12) {
        0 => ("no operation", vec![1, 1, 1, 0]),
        1 => ("record route", [&[7, 11, 4][..], &[0; 8], &[0]].concat()),
        2 => ("record route, full", [&[7, 7, 8][..], &route, &[0]].concat()),
        3 => ("timestamp", vec![68, 8, 5, 0, 0, 0, 0, 0]),
        4 => ("timestamp with address", [&[68, 12, 5, 1][..], &[0; 8]].concat()),
        5 => ("timestamp, full", vec![68, 8, 9, 0x10, 1, 2, 3, 4]),
        6 => ("router alert", vec![148, 4, 0, 0]),
        7 => ("loose source route", [&[131, 7, 4][..], &route, &[0]].concat()),
        8 => ("strict source route, used up", [&[137, 7, 8][..], &route, &[0]].concat()),
        9 => ("unknown option", vec![random.pick(&[30u8, 94, 158, 222]), 4, 9, 9]),
        10 => ("security", [&[130, 11][..], &[0; 9], &[0]].concat()),
        _ => {
            let (what, bytes) = random.pick(&BROKEN_OPTIONS);
            (what, bytes.to_vec())
        }
    }
}

const BROKEN_OPTIONS: [(&str, [u8; 4]); 5] = [
    ("an option of length 0", [7, 0, 4, 0]),
    ("an option of length 1", [94, 1, 0, 0]),
    ("an option beyond the header", [7, 39, 4, 0]),
    ("a record route with pointer 2", [7, 4, 2, 0]),
    ("a length at the very end", [1, 1, 1, 148]),
];

pub fn with_options(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = far(random, from);
    let mut packet = packet(random, from, to, 64);
    let (what, bytes) = options(random);
    packet.options = bytes;
    if random.one_in(8) {
        packet.ttl = 1;
    }
    Draft::one(format!("{what}, TTL {}", packet.ttl), from, to_gateway(&packet, from))
}

pub fn martian(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::D, Wire::F]);
    let odd: Ipv4Addr = address(random.pick(&[
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.9.9.9",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.1.0",
        "198.18.1.255",
        "198.18.2.255",
        "198.18.2.0",
        "169.254.7.7",
        "198.18.1.1",
        "198.18.2.1",
    ]));
    let outward = random.one_in(2);
    let to = if outward { odd } else { far(random, from) };
    let mut packet = packet(random, from, to, 40);
    packet.flags = 0;
    if !outward {
        packet.source = odd;
    }
    let side = if outward { "to" } else { "from" };
    Draft::one(format!("{side} {odd}, protocol {}", packet.protocol), from, to_gateway(&packet, from))
}

/// The kernel limits these answers by their receiver, and that cannot be turned off in a namespace alone: so
/// they go to ever other addresses behind a host.
pub fn unreachable(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::D, Wire::F]);
    let to: Ipv4Addr = address(random.pick(&["198.18.77.1", "192.0.2.9", "198.18.44.1", "198.18.99.5"]));
    let length = random.pick(&[0usize, 1, 500, 548, 549, 900]);
    let mut packet = packet(random, from, to, length);
    packet.ttl = random.pick(&[1u8, 2, 64]);
    let half = if from == Wire::D { 0 } else { 0x80 };
    packet.source = Ipv4Addr::new(198, 19, half | random.octet() & 0x7f, random.octet());
    if random.one_in(4) {
        packet.flags = random.pick(&[MORE_FRAGMENTS, 4, MORE_FRAGMENTS | 8]);
    }
    let title = format!("no route to {to}, protocol {}, TTL {}", packet.protocol, packet.ttl);
    Draft::one(title, from, to_gateway(&packet, from))
}

/// Routes that lead nowhere, and sources with a table of their own.
pub fn special_route(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::D, Wire::F]);
    let away = far(random, from);
    let nowhere = Ipv4Addr::new(198, 18, random.pick(&[64u8, 65, 66]), random.octet());
    let to = if random.one_in(4) { away } else { nowhere };
    let length = random.pick(&[0usize, 30, 600]);
    let mut packet = packet(random, from, to, length);
    let third = match (from, random.one_in(3)) {
        (Wire::D, true) => 64 | random.octet() & 0x0f,
        (Wire::D, false) => random.octet() & 0x3f,
        _ => 0x80 | random.octet() & 0x7f,
    };
    packet.source = Ipv4Addr::new(198, 19, third, random.octet());
    packet.ttl = random.pick(&[1u8, 2, 64]);
    let title = format!("from {} to {to}, protocol {}, TTL {}", packet.source, packet.protocol, packet.ttl);
    Draft::one(title, from, to_gateway(&packet, from))
}

/// Sizes around the smaller MTU, with DF and without, in pieces and whole.
pub fn too_big(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::F]);
    let to = random.pick(&[Wire::D.v4(), Wire::E.v4(), Ipv4Addr::new(198, 19, 1, 1)]);
    let mut packet = packet(random, from, to, 0);
    packet.options = match random.below(5) {
        0 => vec![148, 4, 0, 0],
        1 => vec![148, 4, 0, 0, 130, 3, 1, 0],
        _ => Vec::new(),
    };
    let size = match random.below(3) {
        0 => random.within(1276..=1284),
        1 => random.within(1400..=1500),
        _ => 1500,
    };
    packet.payload = random.octets(size - 20 - packet.options.len());
    packet.protocol = random.pick(&[17u8, 6, 50]);
    packet.flags =
        random.pick(&[0, 0, DONT_FRAGMENT, MORE_FRAGMENTS, 100, MORE_FRAGMENTS | 185, DONT_FRAGMENT | 4]);
    if packet.flags & MORE_FRAGMENTS != 0 {
        packet.payload.truncate(packet.payload.len() & !7);
    }
    let title = format!("{} octets where 1280 fit, flags {:04x}", packet.bytes().len(), packet.flags);
    Draft::one(title, from, to_gateway(&packet, from))
}

pub fn fragment(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let to = far(random, from);
    let length = random.within(1..=60) * 8;
    let mut packet = packet(random, from, to, length);
    packet.payload.truncate(packet.payload.len() & !7);
    packet.flags =
        random.pick(&[MORE_FRAGMENTS, MORE_FRAGMENTS | 60, 122, 8000, DONT_FRAGMENT | MORE_FRAGMENTS]);
    Draft::one(format!("a fragment, flags {:04x}", packet.flags), from, to_gateway(&packet, from))
}

/// An IP packet in a frame for all, and the other way round.
pub fn wrong_layer(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::D, Wire::F]);
    let segment = from.net().segment();
    let away = far(random, from);
    let to = random.pick(&[segment.gateway4, segment.gateway4, away, segment.wires[0].v4()]);
    let mut packet = packet(random, from, to, 30);
    if random.one_in(2) {
        packet.protocol = 1;
        packet.payload = icmp(8, 0, [0, 3, 0, 4], &[7; 20]);
    }
    let destination = random.pick(&[BROADCAST, [0x01, 0x00, 0x5e, 0, 0, 1], [0x01, 0x00, 0x5e, 0x7f, 1, 1]]);
    Draft::one(
        format!("for {to} to all, protocol {}", packet.protocol),
        from,
        packet.frame(destination, from.mac()),
    )
}

/// Groups and broadcasts as hosts use them.
pub fn to_many(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::D, Wire::E]);
    let subnet = Ipv4Addr::from(from.net().segment().prefix4.0.to_bits() | 255);
    let to = random.pick(&[
        Ipv4Addr::BROADCAST,
        subnet,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(224, 0, 0, 251),
        Ipv4Addr::new(239, 255, 255, 250),
    ]);
    let mut packet = packet(random, from, to, 48);
    packet.ttl = random.pick(&[1u8, 2, 64]);
    packet.flags = 0;
    let destination = if to.is_multicast() { crate::oracle::packet::group_mac(to.into()) } else { BROADCAST };
    Draft::one(format!("to {to}, protocol {}", packet.protocol), from, packet.frame(destination, from.mac()))
}

/// Nobody answers for the next hop: the sender is told.
pub fn silent_neighbor(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::D, Wire::E, Wire::F]);
    let to = Ipv4Addr::new(198, 18, 1, random.within(221..=239) as u8);
    let packet = packet(random, from, to, 20);
    Draft::one(format!("nobody at {to}, protocol {}", packet.protocol), from, to_gateway(&packet, from))
}
