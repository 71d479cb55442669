//! What the gateway asks the hosts (ARP, neighbour discovery), and what they answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_stack::wire::{arp, ethernet, icmpv6, ipv6};

use crate::{eye, fabric};

/// A question that the stack sent out of a port: whose address it wants to know, and who asks.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Where it was heard.
    pub port: usize,
    target: IpAddr,
    asker: IpAddr,
}

/// The question that a frame to a port is, if it is one.
pub fn question(port: &str, frame: &[u8]) -> Option<Question> {
    let port = (0..fabric::COUNT).find(|number| fabric::name(*number) == port)?;
    match eye::ethertype(frame)? {
        (0x0806, at) => {
            let message = arp::Message::parse(&frame[at..]).ok()?;
            let asks = message.operation == arp::Operation::Request;
            asks.then(|| Question { port, target: message.target.into(), asker: message.sender.into() })
        }
        (0x86dd, at) => {
            let header = ipv6::Header::parse(&frame[at..]).ok()?;
            let message = icmpv6::Neighbor::parse(frame.get(at + header.payload_offset..)?).ok()?;
            let asks = header.protocol == ipv6::ICMPV6 && message.solicitation;
            asks.then(|| Question { port, target: message.target.into(), asker: header.source.into() })
        }
        _ => None,
    }
}

impl Question {
    /// The frame in which the port says that the address is its own.
    pub fn answer(&self) -> Option<Vec<u8>> {
        match (self.target, self.asker) {
            (IpAddr::V4(target), IpAddr::V4(asker)) => Some(reply(self.port, target, asker)),
            (IpAddr::V6(target), IpAddr::V6(asker)) => Some(advertisement(self.port, target, asker)),
            _ => None,
        }
    }
}

fn reply(port: usize, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let (sender_mac, target_mac) = (fabric::mac(port), fabric::gateway_mac(port));
    let mut frame = header(port, ethernet::ARP, arp::LENGTH);
    let operation = arp::Operation::Reply;
    arp::Message { operation, sender_mac, sender, target_mac, target }
        .emit(&mut frame[ethernet::HEADER_LENGTH..]);
    frame
}

fn advertisement(port: usize, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mut frame = header(port, ethernet::IPV6, ipv6::HEADER_LENGTH + icmpv6::NEIGHBOR_LENGTH);
    let packet = &mut frame[ethernet::HEADER_LENGTH..];
    let (payload_length, next_header) = (icmpv6::NEIGHBOR_LENGTH, ipv6::ICMPV6);
    ipv6::Fields { payload_length, next_header, hop_limit: 255, source, destination }.emit(packet);
    let message = icmpv6::Neighbor {
        solicitation: false,
        router: false,
        solicited: true,
        override_known: true,
        target: source,
        link_layer: Some(fabric::mac(port)),
    };
    message.emit(source, destination, &mut packet[ipv6::HEADER_LENGTH..]);
    frame
}

fn header(port: usize, ethertype: u16, payload: usize) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LENGTH + payload];
    let (destination, source) = (fabric::gateway_mac(port), fabric::mac(port));
    ethernet::Header { destination, source, ethertype }.emit(&mut frame);
    frame
}
