//! Frames that a bridge moves by their Ethernet header alone.

use std::net::IpAddr;

use weft_testkit::frame::{BROADCAST, IPV4, Mac};

use super::Draft;
use crate::oracle::packet::{Ipv4, address, ethernet, group_mac, udp};
use crate::oracle::random::Random;
use crate::oracle::topology::{Net, TRUNK_VLANS, Wire};

/// A datagram from one host to another, as an IPv4 packet.
fn datagram(random: &mut Random, from: Wire, to: IpAddr) -> Vec<u8> {
    let length = random.below(200);
    let data = random.octets(length);
    let IpAddr::V4(destination) = to else { return data };
    let payload = udp(from.v4().into(), to, (40_000, 9), &data);
    Ipv4::new(from.v4(), destination, 17, payload).bytes()
}

/// Another host of the same network.
fn beside(random: &mut Random, from: Wire) -> Option<Wire> {
    let others: Vec<Wire> = from.net().segment().wires.iter().copied().filter(|wire| *wire != from).collect();
    (!others.is_empty()).then(|| random.pick(&others))
}

/// A MAC address that nobody has: `low` tells it from others.
fn nobody(random: &mut Random) -> Mac {
    [0x02, 0xee, random.octet(), random.octet(), random.octet(), random.octet()]
}

pub fn station(random: &mut Random) -> Draft {
    let from = random.pick(&Wire::PLAIN);
    match beside(random, from).filter(|_| !random.one_in(8)) {
        Some(to) => {
            let packet = datagram(random, from, to.v4().into());
            let title = format!("a frame for {} beside it", to.name());
            Draft::one(title, from, ethernet(to.mac(), from.mac(), IPV4, &packet))
        }
        None => {
            let packet = datagram(random, from, from.v4().into());
            Draft::one("a frame for its own sender", from, ethernet(from.mac(), from.mac(), IPV4, &packet))
        }
    }
}

pub fn flooded(random: &mut Random) -> Draft {
    let from = if random.one_in(4) { Wire::G } else { random.pick(&Wire::PLAIN) };
    let v4: IpAddr = address(random.pick(&["224.0.0.251", "239.1.2.3", "232.7.8.9"]));
    let v6: IpAddr = address(random.pick(&["ff02::fb", "ff05::1:3", "ff0e::1234"]));
    let reserved = [0x01, 0x80, 0xc2, 0, 0, random.pick(&[0u8, 1, 2, 3, 7, 0x0e, 0x0f, 0x10, 0x21])];
    let (what, destination): (&str, Mac) = match random.below(7) {
        0 => ("broadcast", BROADCAST),
        1 => ("an unknown station", nobody(random)),
        2 => ("an IPv4 group", group_mac(v4)),
        3 => ("an IPv6 group", group_mac(v6)),
        4 => ("any group", [0x03, 0xee, random.octet(), 7, 8, 9]),
        _ => ("a group of IEEE 802.1", reserved),
    };
    let payload = random.octets(46);
    let kind = random.pick(&[0x88b6u16, 0x88cc, 0x8809, 0x9000, 0x0026]);
    Draft::one(format!("{what}, type {kind:04x}"), from, ethernet(destination, from.mac(), kind, &payload))
}

pub fn ethertype(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::D]);
    let gateway = from.net().segment().gateway_mac;
    let to = beside(random, from).unwrap_or(Wire::E);
    let (whom, destination) = if random.one_in(3) { ("the gateway", gateway) } else { (to.name(), to.mac()) };
    let kind = match random.below(4) {
        0 => random.below(0x600) as u16,
        1 => random.pick(&[0x8847u16, 0x8863, 0x8864, 0x88e5, 0x8035, 0x22f0, 0x88f7]),
        2 => random.pick(&[0x05ffu16, 0x0600, 0xffff, 0x0000]),
        _ => random.word() | 0x9000,
    };
    // A kernel with br_netfilter drops PPPoE frames that are shorter than their header.
    let length = random.within(8..=300);
    let payload = random.octets(length);
    Draft::one(format!("type {kind:04x} to {whom}"), from, ethernet(destination, from.mac(), kind, &payload))
}

/// One tag or two, on access ports, tunnels and trunks. The kernel's bridge passes them unread.
pub fn tagged(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::D, Wire::G, Wire::H, Wire::G, Wire::I, Wire::J, Wire::I]);
    let to = beside(random, from).unwrap_or(Wire::E);
    let vlan = match from.net() {
        Net::Trunk if !random.one_in(4) => random.pick(&TRUNK_VLANS),
        _ => random.pick(&[0u16, 0, 1, 5, 9, 4094, 4095]),
    };
    let tag = random.pick(&[0x8100u16, 0x8100, 0x8100, 0x88a8]);
    let mut payload = (vlan | random.word() & 0xf000).to_be_bytes().to_vec();
    if random.one_in(4) {
        payload.extend([0x81, 0x00, 0x00, random.octet()]);
    }
    payload.extend(IPV4.to_be_bytes());
    payload.extend(datagram(random, from, to.v4().into()));
    let destination = match random.below(6) {
        0 | 1 => BROADCAST,
        2 => nobody(random),
        3 => from.net().segment().gateway_mac,
        _ => to.mac(),
    };
    let title = format!("VLAN {vlan} by {tag:04x} on {}", from.net().segment().name);
    Draft::one(title, from, ethernet(destination, from.mac(), tag, &payload))
}

pub fn runt(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::A, Wire::B, Wire::E]);
    let to = if from == Wire::E { Wire::D } else { Wire::C };
    let kind = random.pick(&[IPV4, 0x0806, 0x86dd, 0x88b6]);
    let length = random.below(46);
    let first = match kind {
        IPV4 => 0x45,
        0x86dd => 0x60,
        _ => 0,
    };
    let mut payload = random.octets(length);
    if let Some(octet) = payload.first_mut() {
        *octet = first;
    }
    let destination = random.pick(&[to.mac(), to.mac(), from.net().segment().gateway_mac]);
    let title = format!("type {kind:04x} with {length} octets");
    Draft::one(title, from, ethernet(destination, from.mac(), kind, &payload))
}

pub fn long_frame(random: &mut Random) -> Draft {
    let (from, to) = random.pick(&[(Wire::A, Wire::B), (Wire::B, Wire::C), (Wire::D, Wire::E)]);
    let mtu = from.net().segment().mtu as usize;
    let length = mtu + random.below(14) - 6;
    let destination = if random.one_in(4) { BROADCAST } else { to.mac() };
    let frame = ethernet(destination, from.mac(), 0x88b6, &random.octets(length));
    Draft::one(format!("{length} octets where the MTU is {mtu}"), from, frame)
}

pub fn odd_source(random: &mut Random) -> Draft {
    let (from, to) = random.pick(&[(Wire::A, Wire::B), (Wire::D, Wire::E)]);
    let gateway = from.net().segment().gateway_mac;
    let (whose, source) = match random.below(5) {
        0 => ("nobody's", [0; 6]),
        1 => ("everybody's", BROADCAST),
        2 => ("a group's", [0x01, 0x00, 0x5e, 1, 2, 3]),
        3 => ("the gateway's", gateway),
        _ => ("the receiver's", to.mac()),
    };
    let payload = random.octets(50);
    Draft::one(format!("source {whose}"), from, ethernet(to.mac(), source, 0x88b6, &payload))
}

/// A station speaks, is spoken to, and turns up elsewhere.
pub fn learning(random: &mut Random) -> Draft {
    let station = nobody(random);
    let frame = |destination: Mac, source: Mac| ethernet(destination, source, 0x88b6, &[0x5a; 46]);
    let mut draft = Draft::new("a station that is learned");
    draft = draft.send(Wire::B, frame(BROADCAST, station)).send(Wire::A, frame(station, Wire::A.mac()));
    if random.one_in(2) {
        draft.title = "a station that moves".into();
        draft = draft.send(Wire::C, frame(Wire::A.mac(), station));
        draft = draft.send(Wire::A, frame(station, Wire::A.mac()));
        draft = draft.send(Wire::B, frame(station, Wire::B.mac()));
    }
    draft
}
