//! A frame in words, one line.

use std::fmt::Write;

use crate::stage::{Frame, Layer3, ingress};
use crate::wire::{arp, icmpv6, ipv4, ipv6, router_advertisement, vlan};

/// Says what a frame is: `IPv4 198.18.1.10 > 198.18.2.10 TTL 64 ICMP echo request, 98 octets`.
pub fn describe(bytes: &[u8]) -> String {
    let mut text = describe_tagged(bytes);
    // Writing to a String cannot fail.
    let _ = write!(text, ", {} octets", bytes.len());
    text
}

/// VLAN tags that are told one by one; what is behind more of them is somebody's game.
const TAGS: usize = 2;

/// Says first what VLAN tags there are: `VLAN 10 IPv4 198.18.1.10 > ...`.
fn describe_tagged(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut frame = bytes.to_vec();
    while let Some(tag) = vlan::outer(&frame).filter(|_| bytes.len() - frame.len() < TAGS * vlan::TAG_LENGTH)
    {
        // Writing to a String cannot fail.
        let _ = write!(text, "VLAN {} ", tag.id());
        frame.drain(12..12 + vlan::TAG_LENGTH);
    }
    text + &match ingress::parse(&frame) {
        Ok(headers) => describe_frame(&headers, &frame),
        Err((_, malformed)) => format!("malformed frame: {malformed}"),
    }
}

fn describe_frame(frame: &Frame, bytes: &[u8]) -> String {
    let transport = frame.transport(bytes);
    match &frame.network {
        Layer3::Arp(message) => describe_arp(message),
        Layer3::Other => format!("ethertype {:#06x}", frame.ethernet.ethertype),
        Layer3::Ipv4(ip) => {
            let payload = if ip.fragment_offset > 0 {
                format!("fragment at {} of protocol {}", ip.fragment_offset, ip.protocol)
            } else {
                describe_transport(ip.protocol, transport)
            };
            let flag = if ip.dont_fragment { " DF" } else { "" };
            format!("IPv4 {} > {} TTL {}{flag} {payload}", ip.source, ip.destination, ip.ttl)
        }
        Layer3::Ipv6(ip) => {
            let payload = if ip.fragment_offset > 0 {
                format!("fragment at {}", ip.fragment_offset)
            } else {
                describe_transport(ip.protocol, transport)
            };
            format!("IPv6 {} > {} hop limit {} {payload}", ip.source, ip.destination, ip.hop_limit)
        }
    }
}

fn describe_arp(message: &arp::Message) -> String {
    match message.operation {
        arp::Operation::Request => format!("ARP who has {}? tell {}", message.target, message.sender),
        arp::Operation::Reply => format!("ARP {} is at {}", message.sender, message.sender_mac),
    }
}

fn describe_transport(protocol: u8, bytes: &[u8]) -> String {
    match (protocol, bytes) {
        (ipv4::TCP, [a, b, c, d, ..]) => {
            format!("TCP port {} > {}", u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        (ipv4::UDP, [a, b, c, d, ..]) => {
            format!("UDP port {} > {}", u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))
        }
        (ipv4::ICMP, [kind, code, ..]) => describe_icmpv4(*kind, *code),
        (ipv6::ICMPV6, [kind, code, ..]) => describe_icmpv6(*kind, *code, bytes),
        _ => format!("protocol {protocol}"),
    }
}

fn describe_icmpv4(kind: u8, code: u8) -> String {
    match (kind, code) {
        (0, _) => "ICMP echo reply".into(),
        (8, _) => "ICMP echo request".into(),
        (3, 0) => "ICMP net unreachable".into(),
        (3, 1) => "ICMP host unreachable".into(),
        (3, 2) => "ICMP protocol unreachable".into(),
        (3, 3) => "ICMP port unreachable".into(),
        (3, 13) => "ICMP administratively prohibited".into(),
        (3, 4) => "ICMP fragmentation needed".into(),
        (11, 0) => "ICMP TTL exceeded".into(),
        (11, 1) => "ICMP fragment reassembly time exceeded".into(),
        (12, _) => "ICMP parameter problem".into(),
        _ => format!("ICMP type {kind} code {code}"),
    }
}

fn describe_icmpv6(kind: u8, code: u8, bytes: &[u8]) -> String {
    match (kind, code) {
        (128, _) => "ICMPv6 echo request".into(),
        (129, _) => "ICMPv6 echo reply".into(),
        (1, 0) => "ICMPv6 no route".into(),
        (1, 1) => "ICMPv6 administratively prohibited".into(),
        (1, 3) => "ICMPv6 address unreachable".into(),
        (1, 4) => "ICMPv6 port unreachable".into(),
        (2, _) => "ICMPv6 packet too big".into(),
        (3, 0) => "ICMPv6 hop limit exceeded".into(),
        (3, 1) => "ICMPv6 fragment reassembly time exceeded".into(),
        (4, _) => "ICMPv6 parameter problem".into(),
        (133, _) => "ICMPv6 router solicitation".into(),
        (134, _) => match router_advertisement::Advertisement::parse(bytes) {
            Ok(message) => format!("ICMPv6 router advertisement, lifetime {} s", message.router_lifetime),
            Err(malformed) => format!("ICMPv6 router advertisement, {malformed}"),
        },
        (135 | 136, _) => match icmpv6::Neighbor::parse(bytes) {
            Ok(message) if message.solicitation => format!("ICMPv6 who has {}?", message.target),
            Ok(message) => format!("ICMPv6 {} is here", message.target),
            Err(malformed) => format!("ICMPv6 neighbour discovery, {malformed}"),
        },
        _ => format!("ICMPv6 type {kind} code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn frames_are_told_in_a_line() {
        assert_eq!(
            describe(&testing::tcp_frame(0)),
            "IPv4 198.18.1.10 > 198.18.1.11 TTL 64 DF TCP port 40000 > 80, 54 octets"
        );
        let mut tagged = crate::packet::Packet::from_frame(&testing::tcp_frame(0));
        tagged.dress(Some(vlan::Tci(0xa00a)));
        assert_eq!(
            describe(tagged.frame()),
            "VLAN 10 IPv4 198.18.1.10 > 198.18.1.11 TTL 64 DF TCP port 40000 > 80, 58 octets"
        );
        assert_eq!(describe(&[0; 4]), "malformed frame: shorter than an Ethernet header, 4 octets");
    }
}
