//! Groups whose members a bridge knows by listening in on IGMP and MLD (RFC 4541; IGMPv2 and v3, RFC 2236 and 3376;
//! MLDv1 and v2, RFC 2710 and 3810).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Draft;
use crate::oracle::packet::{Ipv4, Ipv6, address, checksum, group_mac, icmpv6, udp};
use crate::oracle::random::Random;
use crate::oracle::topology::Wire;

/// Who asks for members.
pub const ROUTER: Wire = Wire::N;
/// Those who may be members, or send.
const HOSTS: [Wire; 3] = [Wire::O, Wire::P, Wire::Q];

const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
const ALL_IGMPV3: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_MLDV2: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// Hop-by-hop options with a router alert for MLD, the first octet left out (RFC 2711).
const ROUTER_ALERT: [u8; 7] = [0, 5, 2, 0, 0, 1, 0];

fn frame_v4(from: Wire, packet: &Ipv4) -> Vec<u8> {
    packet.frame(group_mac(packet.destination.into()), from.mac())
}

fn frame_v6(from: Wire, packet: &Ipv6) -> Vec<u8> {
    packet.frame(group_mac(packet.destination.into()), from.mac())
}

fn igmp(from: Wire, destination: Ipv4Addr, mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let options = vec![148, 4, 0, 0];
    frame_v4(from, &Ipv4 { ttl: 1, options, ..Ipv4::new(from.v4(), destination, 2, message) })
}

fn mld(from: Wire, destination: Ipv6Addr, kind: u8, value: [u8; 4], data: &[u8]) -> Vec<u8> {
    let message = icmpv6(from.link_local(), destination, kind, 0, value, data);
    let mut packet = Ipv6 { hops: 1, ..Ipv6::new(from.link_local(), destination, 58, message) };
    packet.extend(0, &ROUTER_ALERT);
    frame_v6(from, &packet)
}

/// The router's question, to be answered within 0.1 s: for all groups, or for one.
pub fn igmp_query(version: u8, group: Option<Ipv4Addr>) -> Vec<u8> {
    let mut message = vec![0x11, 1, 0, 0];
    message.extend(group.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    if version == 3 {
        message.extend([2, 125, 0, 0]);
    }
    igmp(ROUTER, group.unwrap_or(ALL_HOSTS), message)
}

/// As [`igmp_query`], for IPv6.
pub fn mld_query(version: u8, group: Option<Ipv6Addr>) -> Vec<u8> {
    let mut data = group.unwrap_or(Ipv6Addr::UNSPECIFIED).octets().to_vec();
    if version == 2 {
        data.extend([2, 125, 0, 0]);
    }
    mld(ROUTER, group.unwrap_or(ALL_NODES), 130, [0, 100, 0, 0], &data)
}

fn igmp_report(from: Wire, version: u8, group: Ipv4Addr) -> Vec<u8> {
    match version {
        2 => igmp(from, group, [&[0x16, 0, 0, 0][..], &group.octets()].concat()),
        // One record: to exclude nobody, which is to join.
        _ => igmp(from, ALL_IGMPV3, [&[0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0][..], &group.octets()].concat()),
    }
}

fn mld_report(from: Wire, version: u8, group: Ipv6Addr) -> Vec<u8> {
    match version {
        1 => mld(from, group, 131, [0; 4], &group.octets()),
        _ => mld(from, ALL_MLDV2, 143, [0, 0, 0, 1], &[&[4, 0, 0, 0][..], &group.octets()].concat()),
    }
}

/// A datagram for a group.
fn data(from: Wire, group: IpAddr) -> Vec<u8> {
    match group {
        IpAddr::V4(group) => {
            let payload = udp(from.v4().into(), group.into(), (5000, 5000), &[7; 40]);
            frame_v4(from, &Ipv4::new(from.v4(), group, 17, payload))
        }
        IpAddr::V6(group) => {
            let payload = udp(from.v6().into(), group.into(), (5000, 5000), &[7; 40]);
            frame_v6(from, &Ipv6::new(from.v6(), group, 17, payload))
        }
    }
}

/// The router asks, some join, and somebody sends to a group.
pub fn group(random: &mut Random) -> Draft {
    let v4 = random.one_in(2);
    let version = random.within(1..=2) as u8 + u8::from(v4);
    let group4 = Ipv4Addr::new(239, random.octet(), random.octet(), random.octet());
    let group6 = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, random.word(), random.word());
    let members: Vec<Wire> = HOSTS.into_iter().filter(|_| random.one_in(2)).collect();
    let sender = random.pick(&[Wire::N, Wire::O, Wire::P, Wire::Q]);
    let mut draft = Draft::default();
    draft = draft.ask(ROUTER, if v4 { igmp_query(version, None) } else { mld_query(version, None) });
    for member in &members {
        let report =
            if v4 { igmp_report(*member, version, group4) } else { mld_report(*member, version, group6) };
        draft = draft.send(*member, report);
    }
    let group: IpAddr = match random.below(6) {
        0 if v4 => address(random.pick(&["224.0.0.5", "224.0.0.251"])),
        0 => ALL_NODES.into(),
        _ if v4 => group4.into(),
        _ => group6.into(),
    };
    draft.title =
        format!("{} members of {group}, version {version}, sent by {}", members.len(), sender.name());
    if v4 && version == 2 && random.one_in(4) {
        let leaver = random.pick(&HOSTS);
        let leave = igmp(leaver, ALL_ROUTERS, [&[0x17, 0, 0, 0][..], &group4.octets()].concat());
        draft.title.push_str(", one of which says that it leaves");
        draft = draft.send(leaver, leave);
    }
    draft.send(sender, data(sender, group))
}
