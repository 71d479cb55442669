//! A frame in words: the list of its fields, for comparing and for reading.
//!
//! Knows Ethernet, ARP (RFC 826), IPv4 (RFC 791), ICMP (RFC 792), IPv6 (RFC 8200), ICMPv6 (RFC 4443), UDP
//! (RFC 768) and TCP (RFC 9293). Written apart from the stack's own views, so that the two share no mistake.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::{checksum, transport_checksum};

/// The fields of a frame, outermost first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dissection {
    /// Names and values.
    pub fields: Vec<(&'static str, String)>,
}

impl Dissection {
    /// Takes a frame apart as far as it can be understood; the rest is a field too.
    pub fn of(frame: &[u8]) -> Dissection {
        let mut dissection = Dissection::default();
        dissection.ethernet(frame);
        dissection
    }

    /// A field's value, or nothing where the frame has no such field.
    pub fn get(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }

    /// Whether a field has this value.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    /// Whether the frame has this field.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| *field == name)
    }

    /// What sort of frame it is: what is likely to be its counterpart is of the same sort.
    pub fn sort(&self) -> String {
        let names =
            ["eth.type", "arp.operation", "ip.protocol", "ip.offset", "ip6.next", "ip6.offset", "icmp.type"];
        names.map(|name| self.get(name)).join("/")
    }

    fn put(&mut self, name: &'static str, value: impl ToString) {
        self.fields.push((name, value.to_string()));
    }

    fn rest(&mut self, name: &'static str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put(name, hex(bytes));
        }
    }

    fn ethernet(&mut self, frame: &[u8]) {
        let Some((header, payload)) = frame.split_at_checked(14) else {
            return self.rest("eth.short", frame);
        };
        self.put("eth.destination", mac(&header[..6]));
        self.put("eth.source", mac(&header[6..12]));
        let (mut kind, mut payload) = (word(header, 12), payload);
        while matches!(kind, 0x8100 | 0x88a8) && payload.len() >= 4 {
            self.put("vlan.tag", format!("{kind:04x} {:04x}", word(payload, 0)));
            kind = word(payload, 2);
            payload = &payload[4..];
        }
        self.put("eth.type", format!("{kind:04x}"));
        match kind {
            0x0800 => self.ipv4(payload),
            0x0806 => self.arp(payload),
            0x86dd => self.ipv6(payload),
            _ => self.rest("eth.payload", payload),
        }
    }

    fn arp(&mut self, bytes: &[u8]) {
        if bytes.len() < 28 || bytes[..6] != [0, 1, 8, 0, 6, 4] {
            return self.rest("arp.raw", bytes);
        }
        self.put("arp.operation", word(bytes, 6));
        self.put("arp.sender mac", mac(&bytes[8..14]));
        self.put("arp.sender", v4(bytes, 14));
        self.put("arp.target mac", mac(&bytes[18..24]));
        self.put("arp.target", v4(bytes, 24));
        self.rest("eth.padding", &bytes[28..]);
    }

    fn ipv4(&mut self, bytes: &[u8]) {
        let length = bytes.first().map_or(0, |first| usize::from(first & 15) * 4);
        if bytes.len() < 20 || bytes[0] >> 4 != 4 || length < 20 || length > bytes.len() {
            return self.rest("ip.raw", bytes);
        }
        let total = usize::from(word(bytes, 2));
        self.put("ip.length", total);
        self.put("ip.tos", format!("{:02x}", bytes[1]));
        self.put("ip.id", format!("{:04x}", word(bytes, 4)));
        let flags = word(bytes, 6);
        let (more, offset) = (flags & 0x2000 != 0, flags & 0x1fff);
        self.put("ip.df", flags & 0x4000 != 0);
        self.put("ip.mf", more);
        self.put("ip.reserved", flags & 0x8000 != 0);
        self.put("ip.offset", usize::from(offset) * 8);
        self.put("ip.ttl", bytes[8]);
        self.put("ip.protocol", bytes[9]);
        self.put("ip.checksum", verdict(checksum(&bytes[..length]) == 0, word(bytes, 10)));
        self.put("ip.source", v4(bytes, 12));
        self.put("ip.destination", v4(bytes, 16));
        self.rest("ip.options", &bytes[20..length]);
        if total < length || total > bytes.len() {
            return self.rest("ip.payload", &bytes[length..]);
        }
        let payload = &bytes[length..total];
        if more || offset != 0 {
            self.rest("ip.payload", payload);
        } else {
            self.transport(bytes[9], v4(bytes, 12).into(), v4(bytes, 16).into(), payload);
        }
        self.rest("eth.padding", &bytes[total..]);
    }

    fn ipv6(&mut self, bytes: &[u8]) {
        if bytes.len() < 40 || bytes[0] >> 4 != 6 {
            return self.rest("ip6.raw", bytes);
        }
        let total = 40 + usize::from(word(bytes, 4));
        self.put("ip6.length", total);
        self.put("ip6.class", format!("{:02x}", bytes[0] << 4 | bytes[1] >> 4));
        self.put("ip6.flow", format!("{:05x}", u32::from(bytes[1] & 15) << 16 | u32::from(word(bytes, 2))));
        self.put("ip6.next", bytes[6]);
        self.put("ip6.hops", bytes[7]);
        let (source, destination) = (v6(bytes, 8), v6(bytes, 24));
        self.put("ip6.source", source);
        self.put("ip6.destination", destination);
        if total > bytes.len() {
            return self.rest("ip6.payload", &bytes[40..]);
        }
        let (mut next, mut payload, mut fragment) = (bytes[6], &bytes[40..total], false);
        while let Some((length, rest)) = extension(next, payload) {
            if next == 44 {
                let flags = word(payload, 2);
                self.put("ip6.id", hex(&payload[4..8]));
                self.put("ip6.offset", flags & 0xfff8);
                self.put("ip6.mf", flags & 1);
                fragment = flags & 0xfff9 != 0;
            } else {
                self.put("ip6.extension", format!("{next} {}", hex(&payload[..length])));
            }
            next = payload[0];
            payload = rest;
            if fragment {
                break;
            }
        }
        self.put("ip6.protocol", next);
        if fragment {
            self.rest("ip6.payload", payload);
        } else {
            self.transport(next, source.into(), destination.into(), payload);
        }
        self.rest("eth.padding", &bytes[total..]);
    }

    fn transport(&mut self, protocol: u8, source: IpAddr, destination: IpAddr, payload: &[u8]) {
        let sum_is_right = || transport_checksum(source, destination, protocol, payload) == 0;
        match (protocol, source, payload.len()) {
            (1, IpAddr::V4(_), 8..) => self.icmp(payload, checksum(payload) == 0, &[3, 4, 5, 11, 12]),
            (58, IpAddr::V6(_), 8..) => self.icmp(payload, sum_is_right(), &[1, 2, 3, 4]),
            (17, _, 8..) => self.udp(payload, sum_is_right()),
            (6, _, 20..) => self.tcp(payload, sum_is_right()),
            _ => self.rest("ip.payload", payload),
        }
    }

    fn icmp(&mut self, bytes: &[u8], right: bool, errors: &[u8]) {
        self.put("icmp.type", bytes[0]);
        self.put("icmp.code", bytes[1]);
        self.put("icmp.checksum", verdict(right, word(bytes, 2)));
        self.put("icmp.value", hex(&bytes[4..8]));
        if errors.contains(&bytes[0]) {
            self.put("icmp.quoted octets", bytes.len() - 8);
            self.rest("icmp.quote", &bytes[8..]);
        } else {
            self.rest("icmp.data", &bytes[8..]);
        }
    }

    fn udp(&mut self, bytes: &[u8], right: bool) {
        self.put("udp.ports", format!("{} to {}", word(bytes, 0), word(bytes, 2)));
        self.put("udp.length", word(bytes, 4));
        self.put("udp.checksum", verdict(right, word(bytes, 6)));
        self.rest("udp.data", &bytes[8..]);
    }

    fn tcp(&mut self, bytes: &[u8], right: bool) {
        self.put("tcp.ports", format!("{} to {}", word(bytes, 0), word(bytes, 2)));
        self.put("tcp.sequence", hex(&bytes[4..8]));
        self.put("tcp.acknowledged", hex(&bytes[8..12]));
        self.put("tcp.flags", format!("{:04x}", word(bytes, 12)));
        self.put("tcp.window", word(bytes, 14));
        self.put("tcp.checksum", verdict(right, word(bytes, 16)));
        self.rest("tcp.rest", &bytes[18..]);
    }
}

impl fmt::Display for Dissection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut layer = "";
        for (name, value) in &self.fields {
            let (of, field) = name.split_once('.').unwrap_or((name, ""));
            if of != layer {
                write!(f, "{}    {of}:", if layer.is_empty() { "" } else { "\n" })?;
                layer = of;
            }
            write!(f, " {field}={}", shortened(value))?;
        }
        Ok(())
    }
}

/// A long run of digits, with its middle left out.
pub fn shortened(value: &str) -> String {
    match (value.get(..48), value.len()) {
        (Some(start), 65..) => format!("{start}…({} octets)", value.len() / 2),
        _ => value.to_owned(),
    }
}

/// Octets of an extension header and what is behind it; nothing where `next` is none or it is cut short.
fn extension(next: u8, payload: &[u8]) -> Option<(usize, &[u8])> {
    let length = match next {
        0 | 43 | 60 => 8 * (1 + usize::from(*payload.get(1)?)),
        44 => 8,
        51 => 4 * (2 + usize::from(*payload.get(1)?)),
        _ => return None,
    };
    Some((length, payload.get(length..)?))
}

fn verdict(right: bool, value: u16) -> String {
    if right { "right".to_owned() } else { format!("wrong {value:04x}") }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn v4(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn v6(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    octets.into()
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
}

/// Two digits for each octet.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}
