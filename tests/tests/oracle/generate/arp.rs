//! ARP: questions for the gateway, claims, probes, and what is wrong with them (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use weft_testkit::frame::{ARP, BROADCAST, IPV4, Mac, arp};

use super::Draft;
use crate::oracle::packet::{Ipv4, ethernet, udp};
use crate::oracle::random::Random;
use crate::oracle::topology::{Net, Wire};

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const ZERO: Mac = [0; 6];

fn anyone(random: &mut Random) -> Wire {
    random.pick(&Wire::PLAIN)
}

pub fn question(random: &mut Random) -> Draft {
    let from = anyone(random);
    let segment = from.net().segment();
    let other = random.pick(&Net::ALL).segment();
    let (whom, target) = match random.below(6) {
        0..3 => ("the gateway", segment.gateway4),
        3 => ("a host beside it", segment.wires[0].v4()),
        4 => ("a gateway somewhere", other.gateway4),
        _ => ("nobody", Ipv4Addr::from(segment.prefix4.0.to_bits() | 250)),
    };
    let (who, sender) = match random.below(8) {
        0 => ("a probe", NOBODY),
        1 => ("from outside of the subnet", Ipv4Addr::new(198, 19, 7, 7)),
        2 if whom != "a host beside it" => ("about itself", target),
        _ => ("a question", from.v4()),
    };
    let destination = if random.one_in(4) { segment.gateway_mac } else { BROADCAST };
    let target_mac = random.pick(&[ZERO, ZERO, BROADCAST, segment.gateway_mac]);
    let mut message = arp(1, (from.mac(), sender), (target_mac, target));
    if random.one_in(2) {
        message.resize(46, 0);
    }
    let how = if destination == BROADCAST { "" } else { ", unicast" };
    Draft::one(format!("{who} for {whom}{how}"), from, ethernet(destination, from.mac(), ARP, &message))
}

pub fn claim(random: &mut Random) -> Draft {
    let from = anyone(random);
    let segment = from.net().segment();
    let operation = random.pick(&[1u16, 2]);
    let (what, address) = match random.below(4) {
        0 => ("the gateway's address", segment.gateway4),
        1 => ("a free address", Ipv4Addr::from(segment.prefix4.0.to_bits() | random.pick(&[240u32, 241]))),
        _ => ("its own address", from.v4()),
    };
    let destination = random.pick(&[BROADCAST, segment.gateway_mac, segment.wires[0].mac()]);
    let message = arp(operation, (from.mac(), address), (random.pick(&[ZERO, BROADCAST]), address));
    Draft::one(format!("a claim of {what}"), from, ethernet(destination, from.mac(), ARP, &message))
}

pub fn malformed(random: &mut Random) -> Draft {
    let from = anyone(random);
    let segment = from.net().segment();
    let mut message = arp(1, (from.mac(), from.v4()), (ZERO, segment.gateway4));
    let what = match random.below(7) {
        0 => {
            message.truncate(random.pick(&[0usize, 7, 8, 20, 27]));
            "cut short"
        }
        1 => {
            message[1] = random.pick(&[0u8, 6, 7, 15]);
            "hardware type"
        }
        2 => {
            message[2..4].copy_from_slice(&random.pick(&[0x0806u16, 0x86dd, 0]).to_be_bytes());
            "protocol type"
        }
        3 => {
            message[4] = random.pick(&[0u8, 5, 8]);
            "hardware address length"
        }
        4 => {
            message[5] = random.pick(&[0u8, 5, 16]);
            "protocol address length"
        }
        5 => {
            message[7] = random.pick(&[0u8, 3, 4, 8, 9, 255]);
            "operation"
        }
        _ => {
            // What it claims may be believed: so it is nobody's address.
            let nobody = Ipv4Addr::from(segment.prefix4.0.to_bits() | random.within(242..=249) as u32);
            let liar = random.pick(&[ZERO, BROADCAST, segment.gateway_mac]);
            message = arp(1, (liar, nobody), (ZERO, segment.gateway4));
            "sender's MAC address"
        }
    };
    let destination = random.pick(&[BROADCAST, BROADCAST, segment.gateway_mac]);
    Draft::one(format!("wrong: {what}"), from, ethernet(destination, from.mac(), ARP, &message))
}

/// A host that nobody knows asks for the gateway; then somebody speaks to it, and the gateway need not ask.
pub fn learned(random: &mut Random) -> Draft {
    let from = random.pick(&[Wire::B, Wire::C]);
    let segment = from.net().segment();
    let address = Ipv4Addr::new(198, 18, 1, random.within(20..=219) as u8);
    let mac = [0x02, 0xaa, random.octet(), random.octet(), random.octet(), random.octet()];
    let question = arp(1, (mac, address), (ZERO, segment.gateway4));
    let data = random.octets(32);
    let datagram = udp(Wire::D.v4().into(), address.into(), (40_000, 9), &data);
    let packet = Ipv4::new(Wire::D.v4(), address, 17, datagram).bytes();
    let gateway = Net::Back.segment().gateway_mac;
    Draft::new("a host that asked first is not asked for")
        .send(from, ethernet(BROADCAST, mac, ARP, &question))
        .send(Wire::D, ethernet(gateway, Wire::D.mac(), IPV4, &packet))
}
