//! Source check: a port may only speak with its own MAC and IP addresses.
//!
//! Where a port has no addresses, it may use any that is nobody else's. Neighbour discovery and ARP
//! are looked into, since they claim addresses in their payload. A port that is not checked may claim what it
//! likes, but for the gateway's addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dhcp;
use super::neighbor::announce;
use super::{Frame, Layer3};
use crate::MacAddr;
use crate::config::{Config, Port};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::{icmpv6, igmp, ipv4, ipv6, mld};

pub(crate) fn check(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port) -> Result<(), DropReason> {
    if !from.source_check {
        step!(cx, "source", "not checked on this port");
        return announce::refuse_claims(cx, packet, frame, from);
    }
    let result = check_all(packet.frame(), frame, Sender { port: from, vlan: frame.vlan, config: cx.config });
    match result {
        Ok(()) => step!(cx, "source", "MAC and addresses belong to port {}", from.name),
        Err(reason) => step!(cx, "source", "{}", reason.description()),
    }
    result
}

/// Whose claims are looked at.
#[derive(Clone, Copy)]
struct Sender<'a> {
    port: &'a Port,
    vlan: u16,
    config: &'a Config,
}

#[inline]
fn check_all(bytes: &[u8], frame: &Frame, from: Sender) -> Result<(), DropReason> {
    if frame.ethernet.source != from.port.mac {
        return Err(DropReason::SourceMacSpoofed);
    }
    match &frame.network {
        Layer3::Other => Ok(()),
        Layer3::Arp(message) => {
            mac_is_own(message.sender_mac, from)?;
            // A probe (RFC 5227) claims nothing yet.
            if message.sender.is_unspecified() { Ok(()) } else { may_use_v4(message.sender, from) }
        }
        Layer3::Ipv4(header) => check_v4(header, frame.transport(bytes), from),
        Layer3::Ipv6(header) => {
            let message = frame.transport(bytes);
            if header.protocol == ipv6::ICMPV6 && header.fragment_offset == 0 {
                check_discovery(message, header.fragment, from)?;
                if header.source.is_unspecified() && speaks_without_address(message) {
                    return Ok(());
                }
            }
            may_use_v6(header.source, from)
        }
    }
}

fn check_v4(header: &ipv4::Header, transport: &[u8], from: Sender) -> Result<(), DropReason> {
    if dhcp::is_servers(header, transport) && serves_dhcp(from) {
        return Err(DropReason::DhcpSpoofed);
    }
    if header.protocol == igmp::PROTOCOL && header.fragment_offset == 0 {
        let kind = transport.first();
        // Whoever asks for listeners gets all groups: only routers do.
        if kind == Some(&igmp::QUERY) {
            return Err(DropReason::RouterMessageSpoofed);
        }
        // A host that starts reports without an address (RFC 3376 section 4.2.13).
        if header.source.is_unspecified() && kind.is_some_and(|kind| igmp::is_report(*kind)) {
            return Ok(());
        }
    }
    // Who asks for its address has none yet. It claims nothing, whoever may be the one to answer.
    if dhcp::is_from_nobody(header, transport) { Ok(()) } else { may_use_v4(header.source, from) }
}

fn serves_dhcp(from: Sender) -> bool {
    let interface = from.config.interface(from.port.network, from.vlan);
    interface.is_some_and(|interface| interface.dhcp.is_some())
}

/// Looks into neighbour discovery. A fragment is none (RFC 6980), nor may it hide one by a header chain
/// that goes on in the next (RFC 7112).
fn check_discovery(message: &[u8], fragment: bool, from: Sender) -> Result<(), DropReason> {
    match message.first() {
        None => Err(DropReason::NdMalformed),
        Some(icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT) if fragment => Err(DropReason::NdMalformed),
        Some(&(icmpv6::ROUTER_ADVERTISEMENT | icmpv6::REDIRECT | mld::QUERY)) => {
            Err(DropReason::RouterMessageSpoofed)
        }
        Some(&(icmpv6::NEIGHBOR_SOLICITATION | icmpv6::NEIGHBOR_ADVERTISEMENT)) => {
            let message = icmpv6::Neighbor::parse(message).map_err(|_| DropReason::NdMalformed)?;
            message.link_layer.map_or(Ok(()), |mac| mac_is_own(mac, from))?;
            if message.solicitation { Ok(()) } else { may_use_v6(message.target, from) }
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

fn mac_is_own(mac: MacAddr, from: Sender) -> Result<(), DropReason> {
    if mac == from.port.mac { Ok(()) } else { Err(DropReason::SourceMacSpoofed) }
}

#[inline]
fn may_use_v4(address: Ipv4Addr, from: Sender) -> Result<(), DropReason> {
    may_use(address.into(), from, IpAddr::is_ipv4)
}

fn may_use_v6(address: Ipv6Addr, from: Sender) -> Result<(), DropReason> {
    if address == from.port.mac.link_local() {
        Ok(())
    } else {
        may_use(address.into(), from, IpAddr::is_ipv6)
    }
}

/// The port's addresses are those of its own VLAN. Elsewhere, and where it has none of the family, it may use what
/// is nobody else's.
#[inline(always)] // two comparisons for most packets
fn may_use(address: IpAddr, from: Sender, same_family: fn(&IpAddr) -> bool) -> Result<(), DropReason> {
    let at_home = from.port.vlans.own() == Some(from.vlan);
    let own = from.port.addresses.contains(&address);
    let allowed = match at_home {
        true if own => true,
        true if from.port.addresses.iter().any(same_family) => false,
        _ => is_nobody_elses(address, from),
    };
    if allowed { Ok(()) } else { Err(DropReason::SourceAddressSpoofed) }
}

fn is_nobody_elses(address: IpAddr, from: Sender) -> bool {
    let (network, config) = (from.port.network, from.config);
    let gateway = config.interface(network, from.vlan).is_some_and(|interface| interface.has(address));
    let owner = config.networks[network].owners.get(&address).and_then(|id| config.port(*id));
    let taken = owner.is_some_and(|owner| owner.id != from.port.id && owner.vlans.carries(from.vlan));
    !gateway && !taken
}
