//! Source check: a port may only speak with its own MAC and IP addresses.
//!
//! Where a port has no addresses, it may use any that is nobody else's. Neighbour discovery and ARP
//! are looked into, since they claim addresses in their payload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Frame, Layer3};
use crate::MacAddr;
use crate::config::{Network, Port};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::{icmpv6, ipv6};

pub(crate) fn check(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port) -> Result<(), DropReason> {
    if !from.source_check {
        step!(cx, "source", "not checked on this port");
        return Ok(());
    }
    let network = &cx.config.networks[from.network];
    let result = check_all(packet, frame, from, network);
    match result {
        Ok(()) => step!(cx, "source", "MAC and addresses belong to port {}", from.name),
        Err(reason) => step!(cx, "source", "{}", reason.description()),
    }
    result
}

fn check_all(packet: &Packet, frame: &Frame, from: &Port, network: &Network) -> Result<(), DropReason> {
    if frame.ethernet.source != from.mac {
        return Err(DropReason::SourceMacSpoofed);
    }
    match &frame.network {
        Layer3::Other => Ok(()),
        Layer3::Arp(message) => {
            mac_is_own(message.sender_mac, from)?;
            // A probe (RFC 5227) claims nothing yet.
            if message.sender.is_unspecified() { Ok(()) } else { may_use_v4(message.sender, from, network) }
        }
        Layer3::Ipv4(header) => may_use_v4(header.source, from, network),
        Layer3::Ipv6(header) => {
            let message = frame.transport(packet.frame());
            if header.protocol == ipv6::ICMPV6 && header.fragment_offset == 0 {
                check_discovery(message, header.fragment, from, network)?;
                if header.source.is_unspecified() && speaks_without_address(message) {
                    return Ok(());
                }
            }
            may_use_v6(header.source, from, network)
        }
    }
}

/// Looks into neighbour discovery. A fragment is none (RFC 6980), nor may it hide one by a header chain
/// that goes on in the next (RFC 7112).
fn check_discovery(message: &[u8], fragment: bool, from: &Port, network: &Network) -> Result<(), DropReason> {
    match message.first() {
        None => Err(DropReason::NdMalformed),
        Some(icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT) if fragment => Err(DropReason::NdMalformed),
        Some(&(icmpv6::ROUTER_ADVERTISEMENT | icmpv6::REDIRECT)) => Err(DropReason::RouterMessageSpoofed),
        Some(&(icmpv6::NEIGHBOR_SOLICITATION | icmpv6::NEIGHBOR_ADVERTISEMENT)) => {
            let message = icmpv6::Neighbor::parse(message).map_err(|_| DropReason::NdMalformed)?;
            message.link_layer.map_or(Ok(()), |mac| mac_is_own(mac, from))?;
            if message.solicitation { Ok(()) } else { may_use_v6(message.target, from, network) }
        }
        _ => Ok(()),
    }
}

/// Duplicate address detection, router solicitations and multicast listener reports may come from ::.
fn speaks_without_address(message: &[u8]) -> bool {
    matches!(
        message.first(),
        Some(
            &(icmpv6::NEIGHBOR_SOLICITATION
                | icmpv6::ROUTER_SOLICITATION
                | icmpv6::LISTENER_REPORT
                | icmpv6::LISTENER_DONE
                | icmpv6::LISTENER_REPORT_V2)
        )
    )
}

fn mac_is_own(mac: MacAddr, from: &Port) -> Result<(), DropReason> {
    if mac == from.mac { Ok(()) } else { Err(DropReason::SourceMacSpoofed) }
}

fn may_use_v4(address: Ipv4Addr, from: &Port, network: &Network) -> Result<(), DropReason> {
    let address = IpAddr::V4(address);
    if !from.addresses.iter().any(IpAddr::is_ipv4) {
        return nobody_elses(address, from, network);
    }
    if from.addresses.contains(&address) { Ok(()) } else { Err(DropReason::SourceAddressSpoofed) }
}

fn may_use_v6(address: Ipv6Addr, from: &Port, network: &Network) -> Result<(), DropReason> {
    if address == from.mac.link_local() {
        return Ok(());
    }
    if !from.addresses.iter().any(IpAddr::is_ipv6) {
        return nobody_elses(IpAddr::V6(address), from, network);
    }
    let own = from.addresses.contains(&IpAddr::V6(address));
    if own { Ok(()) } else { Err(DropReason::SourceAddressSpoofed) }
}

fn nobody_elses(address: IpAddr, from: &Port, network: &Network) -> Result<(), DropReason> {
    let gateway = match address {
        IpAddr::V4(a) => network.gateway.has_v4(a),
        IpAddr::V6(a) => network.gateway.has_v6(a),
    };
    let taken = network.owners.get(&address).is_some_and(|owner| *owner != from.id);
    if gateway || taken { Err(DropReason::SourceAddressSpoofed) } else { Ok(()) }
}
