//! Neighbour discovery: solicitations of the gateway, probes, advertisements, and what is wrong with them
//! (RFC 4861, RFC 4862).

use std::net::{IpAddr, Ipv6Addr};

use weft_testkit::frame::Mac;

use super::Draft;
use crate::oracle::packet::{Ipv6, address, group_mac, icmpv6, solicited_node};
use crate::oracle::random::Random;
use crate::oracle::topology::Wire;

const NOBODY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

fn to_group(packet: &Ipv6, from: Wire) -> Vec<u8> {
    packet.frame(group_mac(IpAddr::V6(packet.destination)), from.mac())
}

/// A packet of neighbour discovery with this message.
fn packet(source: Ipv6Addr, destination: Ipv6Addr, kind: u8, value: [u8; 4], data: &[u8]) -> Ipv6 {
    let message = icmpv6(source, destination, kind, 0, value, data);
    Ipv6 { hops: 255, ..Ipv6::new(source, destination, 58, message) }
}

pub fn solicitation(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let segment = from.net().segment();
    let (whom, target) = match random.below(7) {
        0..3 => ("the gateway", segment.gateway6),
        3 => ("the gateway's link-local address", from.net().gateway_link_local()),
        4 => ("a host beside it", segment.wires[0].v6()),
        5 => ("another network's gateway", address("2001:db8:2::1")),
        _ => ("nobody", Ipv6Addr::from(segment.prefix6.0.to_bits() | 0xfa)),
    };
    let (who, source) = match random.below(6) {
        0 => ("a probe", NOBODY),
        1 | 2 => ("from a link-local address", from.link_local()),
        _ => ("a question", from.v6()),
    };
    let unicast = source != NOBODY && random.one_in(4);
    let destination = if unicast { target } else { solicited_node(target) };
    let with_mac = source != NOBODY && !random.one_in(5);
    let data = [&target.octets()[..], &if with_mac { option(1, from.mac()) } else { Vec::new() }].concat();
    let packet = packet(source, destination, 135, [0; 4], &data);
    let frame = if unicast { packet.frame(segment.gateway_mac, from.mac()) } else { to_group(&packet, from) };
    let how = if unicast { ", unicast" } else { "" };
    let without = if with_mac { "" } else { ", without its MAC address" };
    Draft::one(format!("{who} for {whom}{how}{without}"), from, frame)
}

pub fn malformed(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::D]);
    let target = from.net().segment().gateway6;
    let mut source = from.v6();
    let mut data = [&target.octets()[..], &option(1, from.mac())].concat();
    let destination = solicited_node(target);
    let what = match random.below(9) {
        0 => "hop limit",
        1 => "checksum",
        2 => "code",
        3 => {
            data[17] = 0;
            "an option without length"
        }
        4 => {
            data.truncate(random.pick(&[0usize, 4, 12]));
            "cut short"
        }
        5 => {
            data[..16].copy_from_slice(&ALL_NODES.octets());
            "target is a group"
        }
        6 => {
            source = NOBODY;
            "a probe with a MAC address"
        }
        7 => {
            data[17] = 4;
            "an option beyond the end"
        }
        _ => {
            data.extend([14, 1, 1, 2, 3, 4, 5, 6]);
            "nothing (RFC 3971 nonce)"
        }
    };
    let mut packet = packet(source, destination, 135, [0; 4], &data);
    match what {
        "hop limit" => packet.hops = random.pick(&[1u8, 64, 254]),
        "checksum" => packet.payload[2] ^= 0x40,
        "code" => packet.payload = icmpv6(source, destination, 135, 1, [0; 4], &data),
        _ => {}
    }
    Draft::one(format!("wrong: {what}"), from, to_group(&packet, from))
}

pub fn advertisement(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let segment = from.net().segment();
    let target =
        random.pick(&[from.v6(), from.link_local(), Ipv6Addr::from(segment.prefix6.0.to_bits() | 0xfb)]);
    let flags = random.pick(&[0u8, 0x20, 0x40, 0x60, 0x80, 0xa0]);
    let data = [&target.octets()[..], &option(2, from.mac())].concat();
    if random.one_in(2) {
        let packet = packet(target, ALL_NODES, 136, [flags & 0xa0, 0, 0, 0], &data);
        return Draft::one("advertised to all", from, to_group(&packet, from));
    }
    let packet = packet(target, from.net().gateway_link_local(), 136, [flags, 0, 0, 0], &data);
    Draft::one("advertised to the gateway", from, packet.frame(segment.gateway_mac, from.mac()))
}

/// What hosts send to groups of their link without being asked.
pub fn announcement(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    let source = random.pick(&[from.link_local(), NOBODY]);
    let (what, destination, mut packet) = match random.below(3) {
        0 => {
            let data = if source == NOBODY { Vec::new() } else { option(1, from.mac()) };
            ("a router solicitation", ALL_ROUTERS, packet(source, ALL_ROUTERS, 133, [0; 4], &data))
        }
        1 => {
            let group: Ipv6Addr = address("ff02::16");
            let record = [&[4u8, 0, 0, 0][..], &solicited_node(from.v6()).octets()].concat();
            ("a listener report", group, packet(source, group, 143, [0, 0, 0, 1], &record))
        }
        _ => {
            let group = solicited_node(from.v6());
            ("a listener report of MLDv1", group, packet(source, group, 131, [0; 4], &group.octets()))
        }
    };
    if destination != ALL_ROUTERS {
        packet.hops = 1;
        packet.extend(0, &[0, 5, 2, 0, 0, 1, 0]);
    }
    Draft::one(what, from, to_group(&packet, from))
}
