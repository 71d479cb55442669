//! The frames of a load: a header for each flow, made once and copied for each packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_stack::MacAddr;
use weft_stack::packet::{Gso, GsoKind, Offload, Packet, PartialChecksum};
use weft_stack::wire::{arp, ethernet, icmpv6, ipv4, ipv6};

use super::fabric::{Host, Hosts, gateway};
use super::load::{Frames, Load};

const L3: usize = ethernet::HEADER_LENGTH;
/// Octets of a flow that are copied for each packet: all headers, and all of a small frame.
const HEAD: usize = 64;
/// Payload octets of a segment of a super-packet.
const SEGMENT: u16 = 1448;
const HOPS: u8 = 64;

/// The frames of all flows.
#[derive(Debug)]
pub struct Traffic {
    heads: Vec<[u8; HEAD]>,
    destinations: usize,
    octets: usize,
    offload: Offload,
}

impl Traffic {
    /// The frames of each source to each destination.
    pub fn new(load: &Load, hosts: &Hosts) -> Traffic {
        let mut heads = Vec::with_capacity(load.sources * load.destinations);
        for source in &hosts.sources {
            for (number, destination) in hosts.destinations.iter().enumerate() {
                let mac = match hosts.sinks.get(number) {
                    Some(sink) if !load.frames.are_routed() => sink.mac,
                    _ => gateway(source.network).0,
                };
                let ethernet = ethernet::Header {
                    destination: mac,
                    source: source.mac,
                    ethertype: if load.frames == Frames::V6 { ethernet::IPV6 } else { ethernet::IPV4 },
                };
                heads.push(head(load, &ethernet, source, *destination, number));
            }
        }
        Traffic { heads, destinations: load.destinations, octets: load.octets, offload: offload(load.frames) }
    }

    /// Makes `packet` the next one of the flow from this source to this destination.
    pub fn put(&self, packet: &mut Packet, source: usize, destination: usize) {
        packet.reset(self.octets);
        packet.offload = self.offload;
        packet.frame_mut()[..HEAD].copy_from_slice(&self.heads[source * self.destinations + destination]);
    }
}

fn offload(frames: Frames) -> Offload {
    if frames != Frames::Gso {
        return Offload::default();
    }
    let header_length = (L3 + 40) as u16;
    Offload {
        checksum: Some(PartialChecksum { start: (L3 + 20) as u16, offset: 16 }),
        gso: Some(Gso { kind: GsoKind::TcpV4, size: SEGMENT, header_length, ecn: false }),
        verified: false,
    }
}

fn head(
    load: &Load,
    ethernet: &ethernet::Header,
    source: &Host,
    destination: IpAddr,
    number: usize,
) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    ethernet.emit(&mut head);
    let packet = &mut head[L3..];
    let length = load.octets - L3;
    let protocol = if load.frames == Frames::Gso { ipv4::TCP } else { ipv4::UDP };
    let transport = match destination {
        IpAddr::V4(destination) => emit_v4(packet, length, protocol, source.v4, destination),
        IpAddr::V6(destination) => emit_v6(packet, length, protocol, source.v6, destination),
    };
    emit_transport(load.frames, &mut packet[transport..], length - transport, number);
    head
}

fn emit_v4(
    packet: &mut [u8],
    total_length: usize,
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> usize {
    let header = ipv4::Header {
        header_length: ipv4::HEADER_LENGTH,
        total_length,
        tos: 0,
        id: 1,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: HOPS,
        protocol,
        source,
        destination,
    };
    header.emit(packet);
    ipv4::HEADER_LENGTH
}

fn emit_v6(
    packet: &mut [u8],
    total_length: usize,
    protocol: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> usize {
    let fields = ipv6::Fields {
        payload_length: total_length - ipv6::HEADER_LENGTH,
        next_header: protocol,
        hop_limit: HOPS,
        source,
        destination,
    };
    fields.emit(packet);
    ipv6::HEADER_LENGTH
}

/// The ports, and what the stack looks at behind them.
fn emit_transport(frames: Frames, bytes: &mut [u8], length: usize, number: usize) {
    bytes[..2].copy_from_slice(&(1024 + (number % 60_000) as u16).to_be_bytes());
    bytes[2..4].copy_from_slice(&5201u16.to_be_bytes());
    if frames == Frames::Gso {
        bytes[12] = 5 << 4;
    } else {
        bytes[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    }
}

/// What a host says so that the gateway of its network knows its MAC address: it asks for the gateway's.
pub fn introduction(host: &Host, over_v6: bool) -> Vec<u8> {
    let (mac, v4, v6) = gateway(host.network);
    if over_v6 { solicitation(host, mac, v6) } else { arp_request(host, v4) }
}

fn arp_request(host: &Host, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; L3 + arp::LENGTH];
    let (destination, ethertype) = (MacAddr::BROADCAST, ethernet::ARP);
    ethernet::Header { destination, source: host.mac, ethertype }.emit(&mut frame);
    let request = arp::Message {
        operation: arp::Operation::Request,
        sender_mac: host.mac,
        sender: host.v4,
        target_mac: MacAddr::default(),
        target,
    };
    request.emit(&mut frame[L3..]);
    frame
}

fn solicitation(host: &Host, destination: MacAddr, target: Ipv6Addr) -> Vec<u8> {
    let mut frame = vec![0; L3 + ipv6::HEADER_LENGTH + icmpv6::NEIGHBOR_LENGTH];
    ethernet::Header { destination, source: host.mac, ethertype: ethernet::IPV6 }.emit(&mut frame);
    let fields = ipv6::Fields {
        payload_length: icmpv6::NEIGHBOR_LENGTH,
        next_header: ipv6::ICMPV6,
        hop_limit: 255,
        source: host.v6,
        destination: target,
    };
    fields.emit(&mut frame[L3..]);
    let question = icmpv6::Neighbor {
        solicitation: true,
        router: false,
        solicited: false,
        override_known: false,
        target,
        link_layer: Some(host.mac),
    };
    question.emit(host.v6, target, &mut frame[L3 + ipv6::HEADER_LENGTH..]);
    frame
}
