//! The stack's reading of a frame, by its own parsers, under the names that `scapy_eye.py` uses.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use weft_stack::wire::checksum::pseudo_header;
use weft_stack::wire::{arp, ethernet, icmpv4, icmpv6, ipv4, ipv6, tcp, vlan};

/// Field names and values.
pub type Fields = BTreeMap<String, String>;

/// The fields in which two readings differ, with both values.
pub fn disagreements(ours: &Fields, theirs: &Fields) -> Vec<(String, String, String)> {
    let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
    let value =
        |fields: &Fields, name: &String| fields.get(name).cloned().unwrap_or_else(|| "nothing".into());
    names
        .map(|name| (name.clone(), value(ours, name), value(theirs, name)))
        .filter(|(_, ours, theirs)| ours != theirs)
        .collect()
}

/// The stack's reading.
pub fn of(frame: &[u8]) -> Result<Fields> {
    let mut fields = Reading::default();
    let header = ethernet::Header::parse(frame).context("Ethernet")?;
    fields.put("eth.destination", header.destination);
    fields.put("eth.source", header.source);
    let tags = vlan::tags_length(frame);
    if let Some(tag) = vlan::outer(frame) {
        fields.put("vlan.tag", tag.0);
    }
    let at = ethernet::HEADER_LENGTH + tags;
    let kind = u16::from_be_bytes([frame[at - 2], frame[at - 1]]);
    fields.put("eth.type", kind);
    match kind {
        ethernet::ARP => fields.arp(&frame[at..])?,
        ethernet::IPV4 => fields.ipv4(&frame[at..])?,
        ethernet::IPV6 => fields.ipv6(&frame[at..])?,
        _ => {}
    }
    Ok(fields.0)
}

#[derive(Default)]
struct Reading(Fields);

impl Reading {
    fn put(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.into(), value.to_string());
    }

    fn sum(&mut self, name: &str, right: bool) {
        self.put(name, if right { "right" } else { "wrong" });
    }

    fn arp(&mut self, bytes: &[u8]) -> Result<()> {
        let message = arp::Message::parse(bytes).context("ARP")?;
        self.put("arp.operation", if message.operation == arp::Operation::Request { 1 } else { 2 });
        self.put("arp.sender mac", message.sender_mac);
        self.put("arp.sender", message.sender);
        self.put("arp.target mac", message.target_mac);
        self.put("arp.target", message.target);
        Ok(())
    }

    fn ipv4(&mut self, bytes: &[u8]) -> Result<()> {
        let header = ipv4::Header::parse(bytes).context("IPv4")?;
        self.put("ip.header length", header.header_length);
        self.put("ip.length", header.total_length);
        self.put("ip.tos", header.tos);
        self.put("ip.id", header.id);
        self.put("ip.df", u8::from(header.dont_fragment));
        self.put("ip.mf", u8::from(header.more_fragments));
        self.put("ip.offset", header.fragment_offset);
        self.put("ip.ttl", header.ttl);
        self.put("ip.protocol", header.protocol);
        self.put("ip.source", header.source);
        self.put("ip.destination", header.destination);
        self.sum("sum.ip", ipv4::checksum_is_valid(&bytes[..header.header_length]));
        if header.is_fragment() {
            return Ok(());
        }
        let message = &bytes[header.header_length..header.total_length];
        match header.protocol {
            ipv4::ICMP if message.len() >= icmpv4::HEADER_LENGTH => {
                self.put("icmp.type", message[0]);
                self.put("icmp.code", message[1]);
                self.sum("sum.transport", icmpv4::check(message).is_ok());
            }
            ipv4::TCP if message.len() >= tcp::HEADER_LENGTH => {
                self.put("tcp.header length", tcp::header_length(message).context("TCP")?);
                self.transport_sum(header.source.into(), header.destination.into(), ipv4::TCP, message);
            }
            ipv4::UDP if message.len() >= 8 => {
                self.transport_sum(header.source.into(), header.destination.into(), ipv4::UDP, message);
            }
            _ => {}
        }
        Ok(())
    }

    fn ipv6(&mut self, bytes: &[u8]) -> Result<()> {
        let header = ipv6::Header::parse(bytes).context("IPv6")?;
        self.put("ip6.length", header.total_length);
        self.put("ip6.class", header.traffic_class);
        self.put("ip6.hops", header.hop_limit);
        self.put("ip6.source", header.source);
        self.put("ip6.destination", header.destination);
        self.put("ip6.protocol", header.protocol);
        self.put("ip6.fragment", u8::from(header.fragment));
        self.put("ip6.offset", header.fragment_offset);
        let message = &bytes[header.payload_offset..header.total_length];
        if header.fragment {
            return Ok(());
        }
        match header.protocol {
            ipv6::ICMPV6 if message.len() >= icmpv6::HEADER_LENGTH => {
                let right = icmpv6::check(header.source, header.destination, message).is_ok();
                self.sum("sum.transport", right);
                if matches!(message[0], icmpv6::NEIGHBOR_SOLICITATION | icmpv6::NEIGHBOR_ADVERTISEMENT) {
                    self.discovery(&icmpv6::Neighbor::parse(message).context("neighbour discovery")?);
                }
            }
            ipv4::TCP | ipv4::UDP if message.len() >= if header.protocol == ipv4::TCP { 20 } else { 8 } => {
                self.transport_sum(header.source.into(), header.destination.into(), header.protocol, message);
            }
            _ => {}
        }
        Ok(())
    }

    fn discovery(&mut self, message: &icmpv6::Neighbor) {
        self.put("nd.target", message.target);
        let flags = [message.router, message.solicited, message.override_known].map(u8::from);
        self.put("nd.flags", flags.map(|flag| flag.to_string()).concat());
        self.put("nd.mac", message.link_layer.map(|mac| mac.to_string()).unwrap_or_default());
    }

    fn transport_sum(
        &mut self,
        source: std::net::IpAddr,
        destination: std::net::IpAddr,
        protocol: u8,
        message: &[u8],
    ) {
        // A sum over what includes its own checksum folds to all ones.
        let sum = pseudo_header(source, destination, protocol, message.len()).bytes(message);
        self.sum("sum.transport", sum.folded() == 0xffff);
    }
}
