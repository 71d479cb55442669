//! From a packet in words to the frame that a port's kernel would send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{PacketSpec, Protocol};
use crate::MacAddr;
use crate::config::{Config, Port};
use crate::wire::checksum::pseudo_header;
use crate::wire::vlan::Tci;
use crate::wire::{arp, ethernet, icmpv4, icmpv6, ipv4, ipv6, tcp, write_u16};

/// The description cannot become a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// The port has no address of that family, and none was given.
    #[error("port {0} has no {1} address: a source address is needed")]
    NoSource(String, &'static str),
    /// Source and destination differ in family.
    #[error("source {0} and destination {1} are of different families")]
    Families(IpAddr, IpAddr),
    /// The length does not fit.
    #[error("{length} octets are not a length for this packet, {least} to 65535 expected")]
    Length {
        /// What was asked for.
        length: usize,
        /// The headers alone.
        least: usize,
    },
}

pub(crate) fn synthesize(config: &Config, port: &Port, spec: &PacketSpec) -> Result<Vec<u8>, InvalidSpec> {
    let source = source_of(port, spec)?;
    let header = ethernet::Header {
        destination: spec.destination_mac.unwrap_or_else(|| destination_mac(config, port, spec)),
        source: spec.source_mac.unwrap_or(port.mac),
        ethertype: match (spec.protocol, spec.destination) {
            (Protocol::Resolve, IpAddr::V4(_)) => ethernet::ARP,
            (_, IpAddr::V4(_)) => ethernet::IPV4,
            (_, IpAddr::V6(_)) => ethernet::IPV6,
        },
    };
    let mut frame = vec![0; ethernet::HEADER_LENGTH];
    header.emit(&mut frame);
    if let Some(id) = spec.vlan {
        let [high, low] = Tci::default().with_id(id).0.to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, high, low]);
    }
    frame.extend(match (source, spec.destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) if spec.protocol == Protocol::Resolve => request(header.source, s, d),
        (IpAddr::V4(s), IpAddr::V4(d)) => packet_v4(spec, s, d)?,
        (IpAddr::V6(s), IpAddr::V6(d)) => packet_v6(spec, header.source, s, d)?,
        (s, d) => return Err(InvalidSpec::Families(s, d)),
    });
    Ok(frame)
}

fn source_of(port: &Port, spec: &PacketSpec) -> Result<IpAddr, InvalidSpec> {
    let v4 = spec.destination.is_ipv4();
    let own = port.addresses.iter().find(|address| address.is_ipv4() == v4).copied();
    let family = if v4 { "IPv4" } else { "IPv6" };
    spec.source.or(own).ok_or_else(|| InvalidSpec::NoSource(port.name.to_string(), family))
}

/// Whom the container's kernel would send to: the port that has the address, a group, or the gateway.
fn destination_mac(config: &Config, port: &Port, spec: &PacketSpec) -> MacAddr {
    if spec.protocol == Protocol::Resolve {
        return match spec.destination {
            IpAddr::V4(_) => MacAddr::BROADCAST,
            IpAddr::V6(address) => MacAddr::ipv6_multicast(ipv6::solicited_node(address)),
        };
    }
    match spec.destination {
        IpAddr::V4(address) if address.is_broadcast() => return MacAddr::BROADCAST,
        IpAddr::V4(address) if address.is_multicast() => {
            let [_, b, c, d] = address.octets();
            return MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d]);
        }
        IpAddr::V6(address) if address.is_multicast() => return MacAddr::ipv6_multicast(address),
        _ => {}
    }
    let vlan = spec.vlan.or(port.vlans.own());
    let owner = config.networks[port.network].owners.get(&spec.destination).and_then(|id| config.port(*id));
    let near = owner.filter(|owner| vlan.is_some_and(|vlan| owner.vlans.carries(vlan)));
    let gateway = || config.interface(port.network, vlan?);
    near.map(|port| port.mac).or_else(|| Some(gateway()?.mac)).unwrap_or_default()
}

fn request(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0; arp::LENGTH];
    let operation = arp::Operation::Request;
    arp::Message { operation, sender_mac: mac, sender, target_mac: MacAddr::default(), target }
        .emit(&mut bytes);
    bytes
}

fn packet_v4(spec: &PacketSpec, source: Ipv4Addr, destination: Ipv4Addr) -> Result<Vec<u8>, InvalidSpec> {
    let payload = payload(spec, source.into(), destination.into(), ipv4::HEADER_LENGTH)?;
    let mut bytes = vec![0; ipv4::HEADER_LENGTH];
    let header = ipv4::Header {
        header_length: ipv4::HEADER_LENGTH,
        total_length: ipv4::HEADER_LENGTH + payload.len(),
        tos: 0,
        id: 1,
        dont_fragment: spec.dont_fragment,
        more_fragments: false,
        fragment_offset: 0,
        ttl: spec.ttl,
        protocol: match spec.protocol {
            Protocol::Tcp => ipv4::TCP,
            Protocol::Udp => ipv4::UDP,
            Protocol::Icmp | Protocol::Resolve => ipv4::ICMP,
        },
        source,
        destination,
    };
    header.emit(&mut bytes);
    bytes.extend(payload);
    Ok(bytes)
}

fn packet_v6(
    spec: &PacketSpec,
    mac: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Result<Vec<u8>, InvalidSpec> {
    let resolve = spec.protocol == Protocol::Resolve;
    let to = if resolve { ipv6::solicited_node(destination) } else { destination };
    let payload = if resolve {
        solicitation(mac, source, to, destination)
    } else {
        payload(spec, source.into(), to.into(), ipv6::HEADER_LENGTH)?
    };
    let mut bytes = vec![0; ipv6::HEADER_LENGTH];
    let fields = ipv6::Fields {
        payload_length: payload.len(),
        next_header: match spec.protocol {
            Protocol::Tcp => ipv4::TCP,
            Protocol::Udp => ipv4::UDP,
            Protocol::Icmp | Protocol::Resolve => ipv6::ICMPV6,
        },
        hop_limit: if resolve { 255 } else { spec.ttl },
        source,
        destination: to,
    };
    fields.emit(&mut bytes);
    bytes.extend(payload);
    Ok(bytes)
}

fn solicitation(mac: MacAddr, source: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut bytes = vec![0; icmpv6::NEIGHBOR_LENGTH];
    let message = icmpv6::Neighbor {
        solicitation: true,
        router: false,
        solicited: false,
        override_known: false,
        target,
        link_layer: Some(mac),
    };
    message.emit(source, to, &mut bytes);
    bytes
}

/// The transport header and zeros behind it, checksum included.
fn payload(
    spec: &PacketSpec,
    source: IpAddr,
    destination: IpAddr,
    ip_header: usize,
) -> Result<Vec<u8>, InvalidSpec> {
    let (protocol, header, checksum_at) = match spec.protocol {
        Protocol::Tcp => (ipv4::TCP, tcp::HEADER_LENGTH, tcp::CHECKSUM),
        Protocol::Udp => (ipv4::UDP, 8, 6),
        Protocol::Icmp | Protocol::Resolve if source.is_ipv4() => (ipv4::ICMP, icmpv4::HEADER_LENGTH, 2),
        Protocol::Icmp | Protocol::Resolve => (ipv6::ICMPV6, icmpv6::HEADER_LENGTH, 2),
    };
    let least = ip_header + header;
    let length = spec.length.map_or(least, usize::from);
    if length < least {
        return Err(InvalidSpec::Length { length, least });
    }
    let mut bytes = vec![0; length - ip_header];
    match spec.protocol {
        Protocol::Tcp | Protocol::Udp => {
            write_u16(&mut bytes, 0, spec.source_port);
            write_u16(&mut bytes, 2, spec.destination_port);
            if protocol == ipv4::TCP {
                bytes[12] = 0x50;
                bytes[13] = 0x02; // SYN
            } else {
                write_u16(&mut bytes, 4, (length - ip_header) as u16);
            }
        }
        Protocol::Icmp | Protocol::Resolve => {
            bytes[0] = if source.is_ipv4() { icmpv4::ECHO_REQUEST } else { icmpv6::ECHO_REQUEST };
        }
    }
    let sum = if protocol == ipv4::ICMP {
        crate::wire::checksum::Sum::default()
    } else {
        pseudo_header(source, destination, protocol, bytes.len())
    };
    let checksum = sum.bytes(&bytes).finish();
    write_u16(&mut bytes, checksum_at, checksum);
    Ok(bytes)
}
