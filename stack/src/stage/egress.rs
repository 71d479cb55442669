//! Egress: hands a frame to a port, if the port may have it and its device can take it.

use std::net::IpAddr;
use std::ops::Range;

use super::bridge::Station;
use super::{Answer, Frame, L3, Layer3, Rejection, fragment, icmp_error, segment};
use crate::batch::Origin;
use crate::config::{Config, Interface, Network, Offloads, Port, PortId, PortVlans};
use crate::offload;
use crate::packet::{GsoKind, Packet};
use crate::pipeline::Context;
use crate::trace::step;
use crate::verdict::{DropReason, Rewrite, Verdict};
use crate::wire::vlan::{self, Tci};
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

/// To whom a frame goes on a network.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Targets<'a> {
    /// One port.
    One(&'a Port),
    /// Every port of the VLAN, but not the one that it came from.
    All,
    /// The ports of the VLAN that carry customers' frames unseen.
    Tunnels,
    /// Those of the VLAN that may have a multicast router behind them: all whose sources are not checked.
    Routers,
    /// Those of the VLAN that want a group, and those with a multicast router.
    Listeners {
        /// Ascending.
        members: &'a [PortId],
        routers: &'a [PortId],
    },
}

/// How a frame goes out on a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub network: &'a Network,
    pub vlan: u16,
    /// The tag that it came with, whose priority stays.
    pub tag: Tci,
    /// The port of the same network that it came from, if it was bridged. Routed packets come from the gateway,
    /// which is no isolated port: as in Linux they pass between isolated ports, and a filter on the way may
    /// refuse them (RFC 5517 calls such a router's port promiscuous).
    pub from: Option<&'a Port>,
    pub targets: Targets<'a>,
}

impl<'a> Delivery<'a> {
    /// What the router sends by one of its interfaces: to a port, or to all.
    pub fn by(cx: &Context<'a>, interface: &Interface, to: Option<&'a Port>) -> Delivery<'a> {
        let network = &cx.config.networks[interface.network];
        Delivery { targets: to.map_or(Targets::All, Targets::One), ..Delivery::on(network, interface.vlan) }
    }

    /// What the stack sends to all ports of a VLAN.
    pub fn on(network: &'a Network, vlan: u16) -> Delivery<'a> {
        Delivery { network, vlan, tag: Tci::default(), from: None, targets: Targets::All }
    }
}

impl Delivery<'_> {
    /// Shows every port that the frame goes to.
    pub fn each(&self, config: &Config, mut show: impl FnMut(&Port)) {
        let mut offer = |id: PortId| {
            if let Some(port) = config.port(id).filter(|port| self.reaches(port)) {
                show(port);
            }
        };
        match self.targets {
            Targets::One(port) => show(port),
            Targets::All | Targets::Routers | Targets::Tunnels => {
                self.network.members(self.vlan).for_each(offer)
            }
            Targets::Listeners { members, routers } => {
                members.iter().copied().for_each(&mut offer);
                let others = routers.iter().filter(|router| members.binary_search(router).is_err());
                others.copied().for_each(offer);
            }
        }
    }

    /// Whether the frame goes to any port.
    fn has_taker(&self, config: &Config) -> bool {
        let mut any = false;
        self.each(config, |_| any = true);
        any
    }

    /// Octets of the largest IP packet that all tunnels take by which the frame goes.
    fn narrowest(&self, cx: &Context) -> usize {
        let mut least = usize::MAX;
        self.each(cx.config, |port| {
            if port.far_end.is_some() {
                least = least.min(port.mtu_now(cx.now));
            }
        });
        least
    }

    /// Whether a frame to many goes to this port of the network, too.
    pub fn reaches(&self, port: &Port) -> bool {
        let with_sender = self.from.is_none_or(|from| {
            from.id != port.id && !(from.isolated && port.isolated) && !from.is_beside(port)
        });
        with_sender
            && port.vlans.carries(self.vlan)
            && !port.is_mirror
            && !port.is_blocked()
            && self.is_for(port)
    }

    fn is_for(&self, port: &Port) -> bool {
        let tunnel = |port: &Port| matches!(port.vlans, PortVlans::Tunnel(_));
        match self.targets {
            Targets::One(_) | Targets::All | Targets::Listeners { .. } => true,
            Targets::Routers => !port.source_check,
            // From one customer's port to the others, here and, with the service's tag, elsewhere.
            Targets::Tunnels => {
                let tagged = port.vlans.tag(self.vlan, self.tag).is_some();
                tunnel(port) || tagged && self.from.is_some_and(tunnel)
            }
        }
    }
}

/// Sends a bridged frame to one port.
pub(crate) fn to_port(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    port: &Port,
) -> Result<Verdict, Rejection> {
    let mtu = port.mtu_now(cx.now);
    if segment_length(packet) > mtu {
        step!(cx, "egress", "larger than the {mtu} octets of port {}", port.name);
        if port.far_end.is_none() {
            return Err(DropReason::FrameTooLong.into());
        }
        let delivery = Delivery {
            tag: frame.tag,
            targets: Targets::One(port),
            ..Delivery::on(&cx.config.networks[port.network], frame.vlan)
        };
        squeeze(cx, packet, frame, mtu, &delivery)?;
        return Ok(Verdict::Forwarded { port: port.id, tag: None, rewrite: None });
    }
    let tag = port.vlans.tag(frame.vlan, frame.tag);
    send(cx, packet, origin, (port, tag), &mut None)?;
    match tag {
        Some(tag) => step!(cx, "egress", "to port {} with VLAN tag {}", port.name, tag.id()),
        None => step!(cx, "egress", "to port {}", port.name),
    }
    Ok(Verdict::Forwarded { port: port.id, tag, rewrite: None })
}

/// Sends a frame by a tunnel whose way does not carry it whole, but only `mtu` octets: its packet in pieces, if it may be
/// cut. Its sender is to be told otherwise, since it cannot know of the way.
fn squeeze(
    cx: &mut Context,
    packet: &mut Packet,
    frame: &Frame,
    mtu: usize,
    delivery: &Delivery,
) -> Result<(), Rejection> {
    let length = segment_length(packet);
    match &frame.network {
        Layer3::Ipv4(_) | Layer3::Ipv6(_) if must_fragment(cx, frame, length, mtu)? => {
            cut(cx, packet, frame, mtu, delivery);
            Ok(())
        }
        _ => Err(DropReason::FrameTooLong.into()),
    }
}

/// Sends a bridged frame to ports of its VLAN, but not to the one it came from.
pub(crate) fn flood(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    from: &Port,
    targets: Targets,
) -> Result<Verdict, Rejection> {
    let customers = frame.ethernet.destination.is_reserved_multicast();
    let delivery = Delivery {
        network: &cx.config.networks[from.network],
        vlan: frame.vlan,
        tag: frame.tag,
        from: Some(from),
        targets: if customers { Targets::Tunnels } else { targets },
    };
    let spread = spread_or_cut(cx, packet, origin, &delivery, Some(frame));
    if let Some((_, answer)) = spread.too_big {
        // Once, for all far ends.
        icmp_error::send(cx, packet, frame, from, answer);
    }
    if spread == Spread::default() {
        return Err(Rejection::from(match delivery.targets {
            Targets::Tunnels => DropReason::ReservedMulticast,
            Targets::Listeners { .. } | Targets::Routers => DropReason::NoMember,
            Targets::One(_) | Targets::All => DropReason::NoOtherPort,
        }));
    }
    step!(cx, "egress", "to {} port{}", spread.sent, if spread.sent == 1 { "" } else { "s" });
    Ok(Verdict::Flooded)
}

/// What became of a frame that goes to several ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Ports that it went to.
    pub sent: usize,
    /// Ports that could not take it, each of which has counted it.
    pub refused: usize,
    /// What its sender is to be told, and the MTU of the far end that takes least, if some do not take it whole.
    too_big: Option<(usize, Answer)>,
}

/// Sends a frame that the stack has made to whom it is for.
pub(crate) fn spread(cx: &mut Context, packet: &mut Packet, origin: Origin, delivery: &Delivery) -> Spread {
    spread_or_cut(cx, packet, origin, delivery, None)
}

/// Sends a frame to whom it is for, by tunnels that do not carry it whole in pieces, if its headers are in `frame` and it
/// may be cut.
fn spread_or_cut(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    delivery: &Delivery,
    frame: Option<&Frame>,
) -> Spread {
    let (mut spread, mut segments) = (Spread::default(), None);
    let config = cx.config;
    delivery.each(config, |port| {
        let mtu = port.mtu_now(cx.now);
        let sent = match frame.filter(|_| port.far_end.is_some()) {
            _ if segment_length(packet) <= mtu => {
                let tag = port.vlans.tag(delivery.vlan, delivery.tag);
                send(cx, packet, origin, (port, tag), &mut segments).map_err(Rejection::from)
            }
            Some(frame) => {
                squeeze(cx, packet, frame, mtu, &Delivery { targets: Targets::One(port), ..*delivery })
            }
            None => Err(DropReason::FrameTooLong.into()),
        };
        spread.take_in(sent, mtu, |reason| port.counters(cx.worker).drop(reason));
    });
    spread
}

impl Spread {
    /// Takes in what became of the frame at one port, which takes `mtu` octets.
    fn take_in(&mut self, sent: Result<(), Rejection>, mtu: usize, count: impl FnOnce(DropReason)) {
        let Err(rejection) = sent else {
            self.sent += 1;
            return;
        };
        self.refused += 1;
        count(rejection.reason);
        if let Some(answer) = rejection.answer
            && self.too_big.is_none_or(|(least, _)| mtu < least)
        {
            self.too_big = Some((mtu, answer));
        }
    }
}

/// Sends a frame by a port, with this tag, and does before what the device cannot. `segments` are those of
/// the packet, if another port needed them already.
#[inline(always)] // a few comparisons in the usual case
pub(crate) fn send(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    (port, tag): (&Port, Option<Tci>),
    segments: &mut Option<Range<usize>>,
) -> Result<(), DropReason> {
    // On a trunk's native VLAN, a tag that belongs to the user would be taken for the fabric's: it leads elsewhere.
    if tag.is_none() && matches!(port.vlans, PortVlans::Trunk { .. }) && vlan::outer(packet.frame()).is_some()
    {
        return Err(DropReason::VlanNotAllowed);
    }
    if takes_whole(packet, port.offloads) {
        fit_checksum(packet, port.offloads);
        cx.output.push(origin, port.id, tag);
        return Ok(());
    }
    let made = match segments {
        Some(made) => made.clone(),
        None => segments.insert(segment::cut(cx, packet)?).clone(),
    };
    for origin in segment::origins(made) {
        fit_checksum(cx.output.made_packet_mut(origin), port.offloads);
        cx.output.push(origin, port.id, tag);
    }
    Ok(())
}

/// Sends a routed packet to a neighbour by an interface: makes it fit, and rewrites it.
pub(crate) fn routed(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    interface: &Interface,
    Station { mac, port }: Station,
) -> Result<Verdict, Rejection> {
    if let Some(length) = frame.ip_length() {
        // What follows the packet is padding, and needs no room on the next link.
        packet.truncate(L3 + length);
    }
    let rewrite = Rewrite { destination: mac, source: interface.mac, decrement_ttl: !frame.own };
    // A routed packet is IP right behind its MAC addresses.
    let length = length_behind(packet, L3);
    let Some(port) = port.filter(|port| length <= mtu_of(cx, port, frame).min(interface.mtu)) else {
        return routed_in_pieces(cx, packet, origin, frame, interface, port, rewrite);
    };
    apply(cx, packet, frame, interface, &rewrite);
    let tag = port.vlans.tag(interface.vlan, frame.tag);
    if let Err(reason) = send(cx, packet, origin, (port, tag), &mut None) {
        port.counters(cx.worker).drop(reason);
    }
    Ok(Verdict::Forwarded { port: port.id, tag, rewrite: Some(rewrite) })
}

/// Octets of the largest packet like this one that a port takes now.
#[inline]
fn mtu_of(cx: &Context, port: &Port, frame: &Frame) -> usize {
    match port.far_end {
        None => port.mtu,
        Some(_) => cx.config.mtu_to(port, frame.addresses().map(|(_, to)| to), cx.now),
    }
}

/// Sends a routed packet that is too long for its next link, or goes to all ports since nobody knows which.
fn routed_in_pieces(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    interface: &Interface,
    port: Option<&Port>,
    rewrite: Rewrite,
) -> Result<Verdict, Rejection> {
    let delivery = Delivery { tag: frame.tag, ..Delivery::by(cx, interface, port) };
    if port.is_none() && !delivery.has_taker(cx.config) {
        step!(cx, "egress", "network {} has no ports", delivery.network.name);
        return Err(DropReason::NoOtherPort.into());
    }
    let least = match port {
        Some(port) => mtu_of(cx, port, frame),
        None => delivery.narrowest(cx),
    };
    let mtu = least.min(interface.mtu);
    let length = length_behind(packet, L3);
    let fragment = length > mtu && must_fragment(cx, frame, length, mtu)?;
    apply(cx, packet, frame, interface, &rewrite);
    if fragment {
        step!(cx, "fragment", "into pieces of at most {mtu} octets");
        cut(cx, packet, frame, mtu, &delivery);
    } else {
        spread(cx, packet, origin, &delivery);
    }
    match port {
        Some(port) => {
            let tag = port.vlans.tag(delivery.vlan, delivery.tag);
            Ok(Verdict::Forwarded { port: port.id, tag, rewrite: Some(rewrite) })
        }
        None => Ok(Verdict::Flooded),
    }
}

/// Sends a packet that may be cut in pieces of at most `mtu` octets.
fn cut(cx: &mut Context, packet: &mut Packet, frame: &Frame, mtu: usize, delivery: &Delivery) {
    match packet.offload.gso {
        Some(_) => segment::fragment(cx, packet, mtu, delivery),
        None if matches!(frame.network, Layer3::Ipv6(_)) => {
            fragment::split_own_v6(cx, packet, mtu, delivery);
        }
        None => fragment::split(cx, packet, mtu, delivery),
    }
}

/// Writes the router's address and the time where the packet's options ask for them.
fn record_passage(cx: &Context, packet: &mut Packet, header: &ipv4::Header, interface: &Interface) {
    let router = &cx.config.routers[interface.router];
    let other = || match router.lowest_address(true) {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    };
    let Some(address) = interface.source_v4(header.destination).or_else(other) else { return };
    let addresses = &router.addresses;
    let passage =
        ipv4::option::Passage { address, at: cx.now, is_own: &|own| addresses.contains(&own.into()) };
    passage.record(&mut packet.frame_mut()[L3..L3 + header.header_length]);
}

/// A packet of `length` octets is larger than the MTU: whether it may be cut, or its sender must be told.
fn must_fragment(cx: &mut Context, frame: &Frame, length: usize, mtu: usize) -> Result<bool, Rejection> {
    let may_cut = match frame.network {
        Layer3::Ipv4(ip) => frame.own || !ip.dont_fragment,
        _ => frame.own,
    };
    if may_cut {
        return Ok(true);
    }
    step!(cx, "egress", "larger than the MTU of {mtu} octets, and not to be fragmented");
    Err(match frame.network {
        // No link may have a smaller MTU, and no sender makes smaller packets (RFC 8200 section 5).
        Layer3::Ipv6(_) if length <= ipv6::MIN_MTU => DropReason::PacketTooBig.into(),
        Layer3::Ipv6(_) => Rejection::v6(
            DropReason::PacketTooBig,
            icmpv6::Error::PacketTooBig(mtu.max(ipv6::MIN_MTU) as u32),
        ),
        _ => Rejection::v4(DropReason::PacketTooBig, icmpv4::Error::FragmentationNeeded(mtu as u16)),
    })
}

/// Carries out what routing decided.
#[inline(always)] // a few stores
fn apply(cx: &mut Context, packet: &mut Packet, frame: &Frame, interface: &Interface, rewrite: &Rewrite) {
    let Rewrite { source, destination, .. } = rewrite;
    step!(
        cx,
        "egress",
        "on network {} from {source} to {destination}{}",
        cx.config.networks[interface.network].name,
        if rewrite.decrement_ttl { ", TTL down by one" } else { "" }
    );
    let bytes = packet.frame_mut();
    bytes[0..6].copy_from_slice(&rewrite.destination.0);
    bytes[6..12].copy_from_slice(&rewrite.source.0);
    match frame.network {
        _ if !rewrite.decrement_ttl => {}
        Layer3::Ipv4(ip) => {
            ipv4::decrement_ttl(&mut bytes[L3..]);
            if ip.header_length > ipv4::HEADER_LENGTH {
                record_passage(cx, packet, &ip, interface);
            }
        }
        Layer3::Ipv6(_) => ipv6::decrement_hop_limit(&mut bytes[L3..]),
        Layer3::Arp(_) | Layer3::Other => {}
    }
}

/// Octets of the largest IP packet that the frame stands for: what an MTU is compared with. VLAN tags that a
/// user's frame carries inside are not counted.
fn segment_length(packet: &Packet) -> usize {
    length_behind(packet, L3 + vlan::tags_length(packet.frame()))
}

/// The same, where it is known how long the headers before the payload of Ethernet are.
#[inline]
fn length_behind(packet: &Packet, headers: usize) -> usize {
    match packet.offload.gso {
        Some(gso) => usize::from(gso.header_length) + usize::from(gso.size),
        None => packet.len(),
    }
    .min(packet.len())
    .saturating_sub(headers)
}

/// Whether a device takes this kind of super-packet; what is none it takes.
#[inline]
fn takes_whole(packet: &Packet, device: Offloads) -> bool {
    packet.offload.gso.is_none_or(|gso| {
        let taken = match gso.kind {
            GsoKind::TcpV4 => device.tso4,
            GsoKind::TcpV6 => device.tso6,
            GsoKind::Udp => device.uso,
        };
        taken && (device.tso_ecn || !gso.ecn) && device.checksum
    })
}

/// Completes a partial checksum that the device would not, or not as it must be.
#[inline]
fn fit_checksum(packet: &mut Packet, device: Offloads) {
    if !device.checksum || offload::checksum::is_crc(packet) {
        offload::checksum::complete(packet);
    }
}
