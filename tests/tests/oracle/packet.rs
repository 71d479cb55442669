//! Packets to send: right by default, and bent field by field.
//!
//! IPv4 (RFC 791), IPv6 with extension headers (RFC 8200), ICMP and ICMPv6 (RFC 792, 4443), UDP, TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub use weft_testkit::frame::checksum;
use weft_testkit::frame::{self, Mac};

/// An IPv4 packet.
#[derive(Debug, Clone)]
pub struct Ipv4 {
    pub tos: u8,
    pub id: u16,
    /// The three flags and the fragment offset, as they stand in the header.
    pub flags: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// A multiple of four octets.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    /// What the header says instead of the truth.
    pub version_and_length: Option<u8>,
    pub total_length: Option<u16>,
    /// Added to the right checksum.
    pub checksum_error: u16,
}

/// DF, as it stands in [`Ipv4::flags`].
pub const DONT_FRAGMENT: u16 = 0x4000;
/// MF.
pub const MORE_FRAGMENTS: u16 = 0x2000;

impl Ipv4 {
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Ipv4 {
        Ipv4 {
            tos: 0,
            id: 0x1234,
            flags: 0,
            ttl: 64,
            protocol,
            source,
            destination,
            options: Vec::new(),
            payload,
            version_and_length: None,
            total_length: None,
            checksum_error: 0,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let header_length = 20 + self.options.len();
        let first = self.version_and_length.unwrap_or(0x40 | (header_length / 4) as u8);
        let total = self.total_length.unwrap_or((header_length + self.payload.len()) as u16);
        let mut bytes = vec![first, self.tos];
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        let sum = checksum(&bytes).wrapping_add(self.checksum_error);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The frame that carries it.
    pub fn frame(&self, destination: Mac, source: Mac) -> Vec<u8> {
        ethernet(destination, source, frame::IPV4, &self.bytes())
    }
}

/// An IPv6 packet.
#[derive(Debug, Clone)]
pub struct Ipv6 {
    pub class: u8,
    pub flow: u32,
    pub hops: u8,
    pub next: u8,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub payload: Vec<u8>,
    /// What the header says instead of the truth.
    pub payload_length: Option<u16>,
    pub version: u8,
}

impl Ipv6 {
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: Vec<u8>) -> Ipv6 {
        Ipv6 {
            class: 0,
            flow: 0,
            hops: 64,
            next,
            source,
            destination,
            payload,
            payload_length: None,
            version: 6,
        }
    }

    /// Puts an extension header before what there is: `body` is all of it but its first octet.
    pub fn extend(&mut self, kind: u8, body: &[u8]) {
        let mut payload = vec![self.next];
        payload.extend(body);
        payload.append(&mut self.payload);
        self.payload = payload;
        self.next = kind;
    }

    pub fn bytes(&self) -> Vec<u8> {
        let first = u32::from(self.version) << 28 | u32::from(self.class) << 20 | self.flow & 0xf_ffff;
        let length = self.payload_length.unwrap_or(self.payload.len() as u16);
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend(length.to_be_bytes());
        bytes.extend([self.next, self.hops]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.payload);
        bytes
    }

    /// The frame that carries it.
    pub fn frame(&self, destination: Mac, source: Mac) -> Vec<u8> {
        ethernet(destination, source, frame::IPV6, &self.bytes())
    }
}

/// A frame without padding: what a veth carries.
pub fn ethernet(destination: Mac, source: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ether_type.to_be_bytes(), payload].concat()
}

/// A UDP datagram with a right checksum.
pub fn udp(source: IpAddr, destination: IpAddr, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    frame::udp((source, ports.0), (destination, ports.1), data)
}

/// A TCP segment with a right checksum: `flags` as they stand in the header, without the data offset.
pub fn tcp(source: IpAddr, destination: IpAddr, ports: (u16, u16), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    segment.extend([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(data);
    fill(&mut segment, 16, source, destination, 6);
    segment
}

/// An ICMP message with a right checksum; `value` are the four octets behind it.
pub fn icmp(kind: u8, code: u8, value: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(value);
    message.extend(data);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An ICMPv6 message with a right checksum.
pub fn icmpv6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    code: u8,
    value: [u8; 4],
    data: &[u8],
) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(value);
    message.extend(data);
    fill(&mut message, 2, source.into(), destination.into(), 58);
    message
}

fn fill(message: &mut [u8], at: usize, source: IpAddr, destination: IpAddr, protocol: u8) {
    let sum = transport_checksum(source, destination, protocol, message);
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The checksum over pseudo-header and message (RFC 768, RFC 8200 section 8.1).
pub fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let mut bytes = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(a) => bytes.extend(a.octets()),
            IpAddr::V6(a) => bytes.extend(a.octets()),
        }
    }
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes.extend(message);
    checksum(&bytes)
}

/// The address that is written so; panics on anything else.
pub fn address<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

/// The solicited-node group of an address (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from(0xff02_0000_0000_0000_0000_0001_ff00_0000_u128 | address.to_bits() & 0xff_ffff)
}

/// The MAC address of an IP group (RFC 1112 section 6.4, RFC 2464 section 7).
pub fn group_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(group) => {
            let [_, a, b, c] = group.octets();
            [0x01, 0x00, 0x5e, a & 0x7f, b, c]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}
