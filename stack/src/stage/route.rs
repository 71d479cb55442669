//! Route: where a packet for the gateway's MAC address goes next (RFC 1812 section 5, RFC 8200).
//! Decides only; egress carries it out.
//!
//! No redirects are sent where a packet goes back to its link (RFC 1812 section 5.2.7.2, RFC 4861 section
//! 8.2 say that a router should): a host that took one would pass by what the router checks and counts
//! from then on, and the fabric's own source checks let nobody redirect a container.

mod flow;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bridge::{self, Station};
use super::{Frame, L3, Layer3, Rejection};
use crate::MacAddr;
use crate::config::{Config, Interface, Port, Router, Target};
use crate::packet::Packet;
use crate::pipeline::{CachedNeighbor, Context};
use crate::table::next_hops::{NextHop, NextHops};
use crate::table::shortcut::Shortcut;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

/// What routing found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next<'a> {
    /// The packet is for the gateway itself.
    Local,
    /// The packet goes out by this interface to this station, as packets to its destination did before.
    Shortcut(&'a Interface, Station<'a>),
    /// The packet goes on to this neighbour. True: so do all packets to its destination, while the picture is this.
    Hop(NextHop, bool),
}

#[inline(always)] // the answer is read at once, and would be copied on the way
pub(crate) fn decide<'a>(
    cx: &mut Context<'a>,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    interface: &Interface,
) -> Result<Next<'a>, Rejection> {
    let next = match &frame.network {
        Layer3::Ipv4(header) => decide_v4(cx, packet, frame, from, interface, header),
        Layer3::Ipv6(header) => decide_v6(cx, packet, frame, from, interface, header),
        Layer3::Arp(_) | Layer3::Other => Err(DropReason::NoRouter.into()),
    };
    if cx.tracer.is_some() {
        tell(cx, &next);
    }
    next
}

#[cold]
fn tell(cx: &mut Context, next: &Result<Next, Rejection>) {
    match next {
        Ok(Next::Local) => step!(cx, "route", "the destination is the gateway itself"),
        Ok(Next::Shortcut(..)) => {}
        Ok(Next::Hop(hop, _)) => {
            step!(
                cx,
                "route",
                "next hop {} on network {}",
                hop.address,
                network_name(cx.config, hop.interface)
            );
        }
        Err(rejection) => step!(cx, "route", "{}", rejection.reason.description()),
    }
}

#[inline(always)] // see decide
fn decide_v4<'a>(
    cx: &Context<'a>,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    interface: &Interface,
    header: &ipv4::Header,
) -> Result<Next<'a>, Rejection> {
    let bytes = &packet.frame()[L3..L3 + header.header_length];
    if !ipv4::checksum_is_valid(bytes) {
        return Err(DropReason::Ipv4ChecksumBad.into());
    }
    if !ipv4::is_routable(header.source) {
        return Err(DropReason::SourceInvalid.into());
    }
    if !ipv4::is_routable(header.destination) {
        return Err(DropReason::DestinationInvalid.into());
    }
    if header.header_length > ipv4::HEADER_LENGTH {
        check_options_v4(&bytes[ipv4::HEADER_LENGTH..])?;
    }
    let destination = IpAddr::V4(header.destination);
    let router = &cx.config.routers[interface.router];
    if is_no_hosts(cx, router, from, header.source) {
        return Err(DropReason::SourceInvalid.into());
    }
    if header.ttl > 1
        && let Some(shortcut) = shortcut(cx, interface.router, destination)
    {
        return Ok(shortcut);
    }
    let target = router.route(header.source.into(), destination, Some(from.id));
    if matches!(target, Some(Target::Local)) {
        return Ok(Next::Local);
    }
    let way = way_of(target).map_err(Refusal::v4)?;
    if header.ttl <= 1 {
        return Err(Rejection::v4(DropReason::TtlExpired, icmpv4::Error::TtlExceeded));
    }
    let hop = way.next_hop(destination, || flow::hash(packet, frame, router.seed));
    if is_subnet_broadcast(cx, hop, header) {
        return Err(DropReason::DestinationInvalid.into());
    }
    Ok(Next::Hop(hop, way.is_one() && !router.has_rules()))
}

/// Where a packet that the router itself makes goes, from its address `source` if it has one yet. `None`: nowhere.
pub(crate) fn own(router: &Router, source: Option<IpAddr>, destination: IpAddr) -> Option<NextHop> {
    let any = if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = source.unwrap_or(any);
    let way = way_of(router.route(source, destination, None)).ok()?;
    Some(way.next_hop(destination, || flow::of_pair(source, destination, router.seed)))
}

fn check_options_v4(options: &[u8]) -> Result<(), Rejection> {
    ipv4::option::check(options).map_err(|problem| match problem {
        ipv4::option::Problem::SourceRoute => DropReason::Ipv4SourceRoute.into(),
        // RFC 1812 section 4.3.3.5.
        ipv4::option::Problem::Malformed(at) => {
            Rejection::v4(DropReason::Ipv4Malformed, icmpv4::Error::ParameterProblem(at))
        }
    })
}

/// Whether a source is the router's own, or stands for all of a subnet (RFC 1812 section 5.3.7). A port's own
/// addresses are neither.
#[inline(always)] // see decide
fn is_no_hosts(cx: &Context, router: &Router, from: &Port, source: Ipv4Addr) -> bool {
    !from.speaks_as_itself && stands_for_others(cx, router, source)
}

fn stands_for_others(cx: &Context, router: &Router, source: Ipv4Addr) -> bool {
    match router.route(source.into(), source.into(), None) {
        Some(Target::Local) => true,
        Some(Target::Connected(interface)) => cx.config.interfaces[*interface].is_broadcast(source),
        _ => false,
    }
}

/// Directed broadcasts are not forwarded (RFC 2644), in neither of their forms.
fn is_subnet_broadcast(cx: &Context, hop: NextHop, header: &ipv4::Header) -> bool {
    cx.config.interfaces[hop.interface].v4.iter().any(|(_, prefix)| {
        prefix.broadcast().is_some_and(|last| {
            header.destination == last || prefix.address() == IpAddr::V4(header.destination)
        })
    })
}

fn decide_v6<'a>(
    cx: &Context<'a>,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    interface: &Interface,
    header: &ipv6::Header,
) -> Result<Next<'a>, Rejection> {
    if !ipv6::is_routable(header.source) {
        return Err(DropReason::SourceInvalid.into());
    }
    if !ipv6::is_routable(header.destination) {
        return Err(DropReason::DestinationInvalid.into());
    }
    if let Err(problem) = ipv6::extension::check_hop_by_hop(&packet.frame()[L3..L3 + header.total_length]) {
        return Err(problem.into());
    }
    let beyond_scope = Rejection::v6(DropReason::ScopeExceeded, icmpv6::Error::BeyondScope);
    if header.destination.is_unicast_link_local() {
        return if interface.has_v6(header.destination) { Ok(Next::Local) } else { Err(beyond_scope) };
    }
    let destination = IpAddr::V6(header.destination);
    let router = &cx.config.routers[interface.router];
    if header.hop_limit > 1
        && !header.source.is_unicast_link_local()
        && let Some(shortcut) = shortcut(cx, interface.router, destination)
    {
        return Ok(shortcut);
    }
    let target = router.route(header.source.into(), destination, Some(from.id));
    if matches!(target, Some(Target::Local)) {
        return Ok(Next::Local);
    }
    if header.source.is_unicast_link_local() {
        return Err(beyond_scope);
    }
    let way = way_of(target).map_err(Refusal::v6)?;
    if header.hop_limit <= 1 {
        return Err(Rejection::v6(DropReason::TtlExpired, icmpv6::Error::HopLimitExceeded));
    }
    let hop = way.next_hop(destination, || flow::hash(packet, frame, router.seed));
    Ok(Next::Hop(hop, way.is_one() && !router.has_rules()))
}

/// Where packets to `destination` went last, if that still holds. Who follows a packet wants to see all of its way.
#[inline(always)] // see decide
fn shortcut<'a>(cx: &Context<'a>, router: usize, destination: IpAddr) -> Option<Next<'a>> {
    let known = cx.state.shortcuts.find(router, destination)?;
    let out = &cx.config.interfaces[known.interface];
    let holds = known.epoch == out.neighbors.epoch() && cx.now < known.until && cx.tracer.is_none();
    let port = bridge::open_port(cx, out.vlan, known.port).filter(|_| holds)?;
    Some(Next::Shortcut(out, Station { mac: known.mac, port: Some(port) }))
}

/// Remembers that all packets to this frame's destination go to `hop`, which is at `mac`, if that is where a port is
/// by configuration: what was only learned may move at any time.
pub(crate) fn remember(cx: &mut Context, frame: &Frame, interface: &Interface, hop: &NextHop, mac: MacAddr) {
    let Some((_, destination)) = frame.addresses() else { return };
    let out = &cx.config.interfaces[hop.interface];
    let cached = cx.state.last_cached(out.id, hop.address).filter(|cached| cached.mac == mac);
    if let (Some(cached), Some(port), false) = (cached, bridge::configured(cx, out, mac), cx.dry_run) {
        let CachedNeighbor { epoch, until, .. } = *cached;
        let (router, interface) = (interface.router, hop.interface);
        cx.state.shortcuts.insert(Shortcut { router, destination, interface, mac, port, epoch, until });
    }
}

fn network_name(config: &Config, interface: usize) -> &str {
    &config.networks[config.interfaces[interface].network].name
}

/// How a route leads on.
enum Way<'a> {
    Connected(usize),
    Via(&'a NextHops),
}

impl Way<'_> {
    /// Whether all flows go the same.
    fn is_one(&self) -> bool {
        match self {
            Way::Connected(_) => true,
            Way::Via(hops) => hops.is_one(),
        }
    }

    fn next_hop(&self, destination: IpAddr, flow: impl FnOnce() -> u64) -> NextHop {
        match self {
            Way::Connected(interface) => NextHop { address: destination, interface: *interface },
            Way::Via(hops) => hops.select(flow),
        }
    }
}

/// Why a destination has no way to it.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    NoRoute,
    Blackhole,
    Unreachable,
    Prohibited,
}

fn way_of(target: Option<&Target>) -> Result<Way<'_>, Refusal> {
    match target {
        Some(Target::Connected(interface)) => Ok(Way::Connected(*interface)),
        Some(Target::Via(hops)) => Ok(Way::Via(hops)),
        Some(Target::Blackhole) => Err(Refusal::Blackhole),
        Some(Target::Unreachable) => Err(Refusal::Unreachable),
        Some(Target::Prohibited) => Err(Refusal::Prohibited),
        // The router itself is looked for before.
        Some(Target::Local | Target::Nowhere) | None => Err(Refusal::NoRoute),
    }
}

impl Refusal {
    fn reason(self) -> DropReason {
        match self {
            Refusal::NoRoute => DropReason::NoRoute,
            Refusal::Blackhole => DropReason::RouteBlackhole,
            Refusal::Unreachable => DropReason::RouteUnreachable,
            Refusal::Prohibited => DropReason::RouteProhibited,
        }
    }

    /// What Linux answers for a route of this type (`ip_error` in net/ipv4/route.c).
    fn v4(self) -> Rejection {
        let answer = match self {
            Refusal::NoRoute => icmpv4::Error::NetUnreachable,
            Refusal::Blackhole => return self.reason().into(),
            Refusal::Unreachable => icmpv4::Error::HostUnreachable,
            Refusal::Prohibited => icmpv4::Error::Prohibited,
        };
        Rejection::v4(self.reason(), answer)
    }

    /// What Linux answers for a route of this type (`ip6_pkt_discard` and `ip6_pkt_prohibit` in
    /// net/ipv6/route.c): for an unreachable route the same as for none.
    fn v6(self) -> Rejection {
        let answer = match self {
            Refusal::NoRoute | Refusal::Unreachable => icmpv6::Error::NoRoute,
            Refusal::Blackhole => return self.reason().into(),
            Refusal::Prohibited => icmpv6::Error::Prohibited,
        };
        Rejection::v6(self.reason(), answer)
    }
}
