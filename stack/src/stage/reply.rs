//! Reply: sends what the router itself says about a packet, an answer or an error, to the packet's source. It is
//! routed as every packet is: who sent a packet need not be where it came from, as where a host forwards for others.

use std::net::IpAddr;

use super::bridge::{self, Station};
use super::{Frame, L3, Rejection, egress, ingress, neighbor, route};
use crate::batch::Origin;
use crate::config::{Interface, Port};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::table::next_hops::NextHop;
use crate::trace::step;
use crate::verdict::DropReason;

/// A packet that the router has something to say about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause<'a> {
    pub frame: &'a Frame,
    /// The port that it came from.
    pub from: &'a Port,
    /// The interface that it came by.
    pub interface: &'a Interface,
}

/// Has a router send a packet that is its own: from `source`, one of its addresses, to `destination`. What becomes of
/// it is counted on `from`.
pub(crate) fn originate(
    cx: &mut Context,
    router: usize,
    from: &Port,
    packet: &mut Packet,
    origin: Origin,
    (source, destination): (IpAddr, IpAddr),
) -> Result<(), Unsent> {
    let dropped = |rejection: Rejection| Unsent::Dropped(rejection.reason);
    let hop = route::own(&cx.config.routers[router], Some(source), destination);
    let hop = hop.ok_or(Unsent::Dropped(DropReason::TunnelUnrouted))?;
    let frame = ingress::parse(packet.frame()).map_err(|(reason, _)| Unsent::Dropped(reason))?;
    let frame = Frame { own: true, ..frame };
    let out = &cx.config.interfaces[hop.interface];
    let Some(mac) = neighbor::resolve(cx, packet, &frame, from, &hop).map_err(dropped)? else {
        return Ok(());
    };
    let station = bridge::station(cx, out, mac);
    let mtu =
        station.port.map_or(out.mtu, |port| cx.config.mtu_to(port, Some(destination), cx.now).min(out.mtu));
    if packet.len() > L3 + mtu {
        return Err(Unsent::TooBig(mtu));
    }
    egress::routed(cx, packet, origin, &frame, out, station).map(drop).map_err(dropped)
}

/// Why a router could not send a packet of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// For this reason.
    Dropped(DropReason),
    /// It is larger than this many octets of the next link, and not to be cut.
    TooBig(usize),
}

/// How the source of a packet is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WayBack {
    pub hop: NextHop,
    /// The router's address to speak from, of the source's family.
    pub speaker: IpAddr,
}

impl<'a> Cause<'a> {
    /// `None`: the router has no interface where the packet came from.
    pub fn of(cx: &Context<'a>, frame: &'a Frame, from: &'a Port) -> Option<Cause<'a>> {
        Some(Cause { frame, from, interface: cx.config.interface(from.network, frame.vlan)? })
    }

    /// How its source is reached. `None`: not at all, and nobody is to be told of that.
    ///
    /// What the router says comes from the address that the packet was sent to, if that is the router's own (as with
    /// hosts, Linux among them). Otherwise it comes from one of the interface that leads to the source (RFC 1812
    /// section 4.3.2.4, RFC 4443 section 2.2).
    pub fn way_back(&self, cx: &mut Context) -> Option<WayBack> {
        let (source, destination) = self.frame.addresses()?;
        let config = cx.config;
        let router = &config.routers[self.interface.router];
        let own = self.is_to_speaker(cx).then_some(destination);
        let hop = match source {
            // Such a packet was not forwarded: its sender is on this link.
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                let interface = cx.config.interface_position(self.interface.id);
                interface.map(|interface| NextHop { address: source, interface })
            }
            _ => route::own(router, own, source),
        };
        let way = hop.and_then(|hop| {
            let out = &cx.config.interfaces[hop.interface];
            // A tunnel may have no address of its own, and a link that carries IPv4 by IPv6 next hops none of IPv4 (RFC
            // 8950): then another of the router's speaks (RFC 1812 section 2.2.7).
            let other = || router.lowest_address(source.is_ipv4());
            let speaker = own.or_else(|| out.source_for(source)).or_else(other)?;
            Some(WayBack { hop, speaker })
        });
        if way.is_none() {
            step!(cx, "reply", "no way back to {source}");
        }
        way
    }

    /// Whether it was sent to an address that the router speaks from: its own, and not one that several have.
    pub fn is_to_speaker(&self, cx: &Context) -> bool {
        let router = &cx.config.routers[self.interface.router];
        self.frame.addresses().is_some_and(|(_, destination)| {
            self.interface.speaks_from(destination) || router.addresses.contains(&destination)
        })
    }

    /// Sends `packet`, which the router made to be told to the source, by the next hop `hop`.
    pub fn answer(&self, cx: &mut Context, packet: &mut Packet, origin: Origin, hop: NextHop) {
        let Ok(frame) = ingress::parse(packet.frame()) else { return };
        let frame = Frame { vlan: self.frame.vlan, tag: self.frame.tag, own: true, ..frame };
        if let Err(rejection) = self.send(cx, packet, origin, &frame, hop) {
            cx.reject(rejection, packet, &frame, self.from);
        }
    }

    fn send(
        &self,
        cx: &mut Context,
        packet: &mut Packet,
        origin: Origin,
        frame: &Frame,
        hop: NextHop,
    ) -> Result<(), Rejection> {
        let out = &cx.config.interfaces[hop.interface];
        let station = if self.is_from(hop.address, out) {
            Station { mac: self.frame.ethernet.source, port: Some(self.from) }
        } else {
            let Some(mac) = neighbor::resolve(cx, packet, frame, self.from, &hop)? else { return Ok(()) };
            bridge::station(cx, out, mac)
        };
        egress::routed(cx, packet, origin, frame, out, station).map(drop)
    }

    /// Whether the packet came for certain from the station that has this address on the link of `out`: then nobody
    /// needs to be asked where it is.
    fn is_from(&self, station: IpAddr, out: &Interface) -> bool {
        let checked = self.from.source_check && self.from.addresses.contains(&station);
        let link_local = matches!(station, IpAddr::V6(address) if address.is_unicast_link_local());
        let same = self.frame.addresses().is_some_and(|(source, _)| source == station);
        same && out.id == self.interface.id && (checked || link_local)
    }
}
