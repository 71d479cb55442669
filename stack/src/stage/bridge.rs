//! Bridge: learns where stations are, and decides where a frame goes on its network.

use super::neighbor::proxy;
use super::{Frame, Layer3, dhcp, storm};
use crate::MacAddr;
use crate::config::{Config, Interface, Network, Port, PortId};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::table::fdb::{Learned, Sighting};
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::{arp, icmpv6, ipv6};

/// Where a frame goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next<'a> {
    /// To one port of the network.
    Port(&'a Port),
    /// To all other ports of the VLAN.
    Flood,
    /// To the router's interface.
    Gateway(&'a Interface),
}

/// Notes where the sender is. A frame whose sender may not be there goes no further.
///
/// Addresses that belong to a port by configuration are known better than by learning: like a static entry of IEEE
/// 802.1Q clause 8.8.1 they stay where they are, and a frame that comes from elsewhere with such a source is
/// forwarded all the same (the source check is there to refuse it).
pub(crate) fn learn(cx: &mut Context, frame: &Frame, from: &Port) -> Result<(), DropReason> {
    let network = &cx.config.networks[from.network];
    let mac = frame.ethernet.source;
    // A port's own address is among them, and the one that most frames come from.
    let own = mac == from.mac && from.vlans.own() == Some(frame.vlan);
    if cx.dry_run || own || network.stations.contains_key(&(frame.vlan, mac)) {
        return Ok(());
    }
    let seen = Sighting { vlan: frame.vlan, mac, port: from.id, quota: from.quota.as_deref() };
    match network.fdb.learn(cx.now, network.ageing, seen) {
        Learned::Known | Learned::New => {}
        Learned::Moved { from: before, held } => {
            cx.counters.mac_moves.add(1);
            cx.counters.macs_damped.add(u64::from(held));
            let quota = cx.config.port(before).and_then(|port| port.quota.as_deref());
            quota.inspect(|quota| quota.give_back());
        }
        Learned::Held => return Err(DropReason::MacMoveDamped),
        Learned::Limited => return Err(DropReason::MacLimit),
        Learned::Full => cx.counters.fdb_full.add(1),
    }
    Ok(())
}

/// Decides where a frame that came from `from` goes.
pub(crate) fn decide<'a>(
    cx: &mut Context<'a>,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
) -> Result<Next<'a>, DropReason> {
    let network = &cx.config.networks[from.network];
    let destination = frame.ethernet.destination;
    let interface = cx.config.interface(from.network, frame.vlan);
    if let Some(interface) = interface
        && (destination == interface.mac
            || asks_for_gateway(cx.config, packet.frame(), frame, from, interface))
    {
        step!(cx, "bridge", "{destination} on network {}: for the gateway", network.name);
        return Ok(Next::Gateway(interface));
    }
    if matches!(frame.network, Layer3::Ipv6(header) if header.endless) {
        // Neighbour discovery could hide in it from the source check (RFC 7113 section 2).
        step!(cx, "bridge", "the extension headers have no end");
        return Err(DropReason::Ipv6Malformed);
    }
    if destination.is_multicast() {
        step!(cx, "bridge", "{destination} is a group: to all ports of network {}", network.name);
        return Ok(Next::Flood);
    }
    match find_on(cx, network, frame.vlan, destination) {
        Some(port) if port.id == from.id => {
            step!(cx, "bridge", "{destination} is on the port it came from");
            Err(DropReason::SamePort)
        }
        Some(port) if from.isolated && port.isolated => {
            step!(cx, "bridge", "{destination} is on port {}, and both are isolated", port.name);
            Err(DropReason::PortIsolated)
        }
        Some(port) if from.is_beside(port) => {
            step!(cx, "bridge", "{destination} is on port {}, which the sender reaches by itself", port.name);
            Err(DropReason::TunnelSplitHorizon)
        }
        Some(port) => {
            step!(cx, "bridge", "{destination} on network {}: to port {}", network.name, port.name);
            Ok(Next::Port(port))
        }
        None => {
            step!(cx, "bridge", "{destination} is unknown on network {}: to all ports", network.name);
            storm::unknown_unicast(cx, packet, from)?;
            Ok(Next::Flood)
        }
    }
}

/// Where a station is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Station<'a> {
    pub mac: MacAddr,
    /// `None`: nobody knows.
    pub port: Option<&'a Port>,
}

/// A station on the link of an interface.
pub(crate) fn station<'a>(cx: &Context<'a>, interface: &Interface, mac: MacAddr) -> Station<'a> {
    Station { mac, port: find(cx, interface, mac) }
}

/// The port that has this address on the link of an interface by configuration.
pub(crate) fn configured(cx: &Context, interface: &Interface, mac: MacAddr) -> Option<PortId> {
    cx.config.networks[interface.network].stations.get(&(interface.vlan, mac)).copied()
}

/// The port where a station on the link of an interface is.
pub(crate) fn find<'a>(cx: &Context<'a>, interface: &Interface, mac: MacAddr) -> Option<&'a Port> {
    find_on(cx, &cx.config.networks[interface.network], interface.vlan, mac)
}

/// The port where a station is. A worker may still have learned it there while the port went away or
/// changed its VLAN: then nobody knows.
pub(crate) fn find_on<'a>(cx: &Context<'a>, network: &Network, vlan: u16, mac: MacAddr) -> Option<&'a Port> {
    let configured = network.stations.get(&(vlan, mac)).copied();
    let id = configured.or_else(|| network.fdb.lookup(cx.now, network.ageing, vlan, mac))?;
    open_port(cx, vlan, id)
}

/// A port, if what is on this VLAN may go there now.
#[inline]
pub(crate) fn open_port<'a>(cx: &Context<'a>, vlan: u16, id: PortId) -> Option<&'a Port> {
    let port = &**cx.config.port(id)?;
    (port.vlans.carries(vlan) && !port.is_mirror && !port.is_blocked()).then_some(port)
}

/// An ARP request or neighbour solicitation for an address that the gateway answers for, or a question to its DHCP server: it needs
/// to reach nobody else.
fn asks_for_gateway(
    config: &Config,
    packet: &[u8],
    frame: &Frame,
    from: &Port,
    interface: &Interface,
) -> bool {
    let proxies = |sender, target| proxy::answers_for(config, interface, from, sender, target);
    match frame.network {
        Layer3::Arp(message) => {
            // Whoever names itself asks nothing: it tells all (RFC 5227 section 3).
            let asks = message.operation == arp::Operation::Request && message.sender != message.target;
            let proxied = || proxies(message.sender.into(), message.target.into());
            asks && (interface.has_v4(message.target) || proxied())
        }
        Layer3::Ipv4(header) => header.destination.is_broadcast() && dhcp::is_for(interface, frame, packet),
        Layer3::Ipv6(header) if header.protocol == ipv6::ICMPV6 && header.destination.is_multicast() => {
            icmpv6::Neighbor::parse(frame.transport(packet)).is_ok_and(|message| {
                let proxied = || proxies(header.source.into(), message.target.into());
                message.solicitation && (interface.has_v6(message.target) || proxied())
            })
        }
        _ => false,
    }
}
