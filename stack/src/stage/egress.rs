//! Egress: hands a frame to a port, if the port may have it and its device can take it.

use super::{Frame, L3, Layer3, Rejection, bridge, fragment};
use crate::MacAddr;
use crate::batch::Origin;
use crate::config::{Network, Offloads, Port, PortId};
use crate::offload;
use crate::packet::{GsoKind, Packet};
use crate::pipeline::Context;
use crate::trace::step;
use crate::verdict::{DropReason, Rewrite, Verdict};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

/// Sends a bridged frame to one port.
pub(crate) fn to_port(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    port: &Port,
) -> Result<Verdict, Rejection> {
    if segment_length(packet) > port.mtu {
        step!(cx, "egress", "larger than the {} octets of port {}", port.mtu, port.name);
        return Err(DropReason::FrameTooLong.into());
    }
    fit_offloads(packet, port.offloads)?;
    step!(cx, "egress", "to port {}", port.name);
    cx.output.push(origin, port.id);
    Ok(Verdict::Forwarded { port: port.id, rewrite: None })
}

/// Sends a bridged frame to every port of a VLAN but the one it came from.
pub(crate) fn flood(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    from: &Port,
    destination: MacAddr,
) -> Result<Verdict, Rejection> {
    let config = cx.config;
    let members = config.networks[from.network].members(from.vlan);
    let sent = spread(cx, packet, origin, members, Some(from.id));
    if sent == 0 && !destination.is_multicast() {
        return Err(DropReason::NoOtherPort.into());
    }
    step!(cx, "egress", "to {sent} port{}", if sent == 1 { "" } else { "s" });
    Ok(Verdict::Flooded)
}

/// Sends a frame to all these ports but one; tells to how many.
pub(crate) fn spread(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    ports: &[PortId],
    except: Option<PortId>,
) -> usize {
    let config = cx.config;
    let length = segment_length(packet);
    let mut sent = 0;
    for port in ports.iter().filter(|id| Some(**id) != except).filter_map(|id| config.port(*id)) {
        let fits = if length > port.mtu { Err(DropReason::FrameTooLong) } else { Ok(()) };
        match fits.and_then(|()| fit_offloads(packet, port.offloads)) {
            Ok(()) => {
                cx.output.push(origin, port.id);
                sent += 1;
            }
            Err(reason) => port.counters(cx.worker).drop(reason),
        }
    }
    sent
}

/// Sends a routed packet to a neighbour on a network: finds the port, makes the packet fit, rewrites it.
pub(crate) fn routed(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    network: &Network,
    neighbor: MacAddr,
) -> Result<Verdict, Rejection> {
    if let Some(length) = ip_length(frame) {
        // What follows the packet is padding, and needs no room on the next link.
        packet.truncate(L3 + length);
    }
    let port = bridge::find(cx, network, 0, neighbor);
    let targets = match port {
        Some(port) => std::slice::from_ref(&port.id),
        None => network.members(0),
    };
    if targets.is_empty() {
        step!(cx, "egress", "network {} has no ports", network.name);
        return Err(DropReason::NoOtherPort.into());
    }
    let mtu = port.map_or(network.mtu, |port| port.mtu.min(network.mtu));
    let fragment = segment_length(packet) > mtu && must_fragment(cx, packet, frame, mtu)?;
    if let Some(port) = port {
        fit_offloads(packet, port.offloads)?;
    }
    let rewrite = Rewrite { destination: neighbor, source: network.gateway.mac, decrement_ttl: true };
    apply(packet, frame, &rewrite);
    step!(cx, "egress", "on network {} from {} to {neighbor}, TTL down by one", network.name, rewrite.source);
    if fragment {
        step!(cx, "fragment", "into pieces of at most {mtu} octets");
        fragment::split(cx, packet, mtu, targets);
    } else {
        spread(cx, packet, origin, targets, None);
    }
    match port {
        Some(port) => Ok(Verdict::Forwarded { port: port.id, rewrite: Some(rewrite) }),
        None => Ok(Verdict::Flooded),
    }
}

/// Octets of the IP packet that the frame carries.
fn ip_length(frame: &Frame) -> Option<usize> {
    match &frame.network {
        Layer3::Ipv4(ip) => Some(ip.total_length),
        Layer3::Ipv6(ip) => Some(ip.total_length),
        Layer3::Arp(_) | Layer3::Other => None,
    }
}

/// A packet is larger than the MTU: whether it may be cut, or its sender must be told.
fn must_fragment(cx: &mut Context, packet: &Packet, frame: &Frame, mtu: usize) -> Result<bool, Rejection> {
    if let Layer3::Ipv4(ip) = frame.network
        && !ip.dont_fragment
        && packet.offload.gso.is_none()
    {
        return Ok(true);
    }
    step!(cx, "egress", "larger than the MTU of {mtu} octets, and not to be fragmented");
    Err(match frame.network {
        Layer3::Ipv6(_) => Rejection::v6(DropReason::PacketTooBig, icmpv6::Error::PacketTooBig(mtu as u32)),
        _ => Rejection::v4(DropReason::PacketTooBig, icmpv4::Error::FragmentationNeeded(mtu as u16)),
    })
}

/// Carries out what routing decided.
fn apply(packet: &mut Packet, frame: &Frame, rewrite: &Rewrite) {
    let bytes = packet.frame_mut();
    bytes[0..6].copy_from_slice(&rewrite.destination.0);
    bytes[6..12].copy_from_slice(&rewrite.source.0);
    match frame.network {
        Layer3::Ipv4(_) => ipv4::decrement_ttl(&mut bytes[L3..]),
        Layer3::Ipv6(_) => ipv6::decrement_hop_limit(&mut bytes[L3..]),
        Layer3::Arp(_) | Layer3::Other => {}
    }
}

/// Octets of the largest IP packet that the frame stands for: what an MTU is compared with.
fn segment_length(packet: &Packet) -> usize {
    match packet.offload.gso {
        Some(gso) => usize::from(gso.header_length) + usize::from(gso.size) - L3,
        None => packet.len() - L3,
    }
    .min(packet.len() - L3)
}

/// Does here what the device cannot.
fn fit_offloads(packet: &mut Packet, device: Offloads) -> Result<(), DropReason> {
    if let Some(gso) = packet.offload.gso {
        let taken = match gso.kind {
            GsoKind::TcpV4 => device.tso4,
            GsoKind::TcpV6 => device.tso6,
            GsoKind::Udp => device.uso,
        };
        let taken = taken && (device.tso_ecn || !gso.ecn) && device.checksum;
        return if taken { Ok(()) } else { Err(DropReason::OffloadUnsupported) };
    }
    if !device.checksum {
        offload::checksum::complete(packet);
    }
    Ok(())
}
