//! Route: where a packet for the gateway's MAC address goes next (RFC 1812 section 5, RFC 8200).
//! Decides only; egress carries it out.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::fast::FixedState;

use super::{Frame, L3, Layer3, Rejection};
use crate::config::{Config, Interface};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::table::fib::{NextHop, Target};
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::{icmpv4, icmpv6, ipv4, ipv6};

/// What routing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The packet is for the gateway itself.
    Local,
    /// The packet goes on to this neighbour.
    Hop(NextHop),
}

pub(crate) fn decide(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    interface: &Interface,
) -> Result<Next, Rejection> {
    let next = match &frame.network {
        Layer3::Ipv4(header) => decide_v4(cx, packet, frame, interface, header),
        Layer3::Ipv6(header) => decide_v6(cx, packet, frame, interface, header),
        Layer3::Arp(_) | Layer3::Other => Err(DropReason::NoRouter.into()),
    };
    match &next {
        Ok(Next::Local) => step!(cx, "route", "the destination is the gateway itself"),
        Ok(Next::Hop(hop)) => {
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
    next
}

fn decide_v4(
    cx: &Context,
    packet: &Packet,
    frame: &Frame,
    interface: &Interface,
    header: &ipv4::Header,
) -> Result<Next, Rejection> {
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
    check_options_v4(&bytes[ipv4::HEADER_LENGTH..])?;
    let destination = IpAddr::V4(header.destination);
    let router = &cx.config.routers[interface.router];
    if router.addresses.contains(&destination) {
        return Ok(Next::Local);
    }
    let no_route = Rejection::v4(DropReason::NoRoute, icmpv4::Error::NetUnreachable);
    let target =
        router.fib.lookup_v4(header.destination).map(|id| &router.targets[id.index()]).ok_or(no_route)?;
    if header.ttl <= 1 {
        return Err(Rejection::v4(DropReason::TtlExpired, icmpv4::Error::TtlExceeded));
    }
    let hop = next_hop(packet, frame, destination, target);
    if is_subnet_broadcast(cx, hop, header) {
        return Err(DropReason::DestinationInvalid.into());
    }
    Ok(Next::Hop(hop))
}

/// Record routes and timestamps pass as they are: nobody inside needs them, and RFC 7126 asks for less.
fn check_options_v4(options: &[u8]) -> Result<(), Rejection> {
    ipv4::check_options(options).map_err(|problem| match problem {
        ipv4::OptionProblem::SourceRoute => DropReason::Ipv4SourceRoute.into(),
        // RFC 1812 section 4.3.3.5.
        ipv4::OptionProblem::Malformed(at) => {
            Rejection::v4(DropReason::Ipv4Malformed, icmpv4::Error::ParameterProblem(at))
        }
    })
}

/// Directed broadcasts are not forwarded (RFC 2644).
fn is_subnet_broadcast(cx: &Context, hop: NextHop, header: &ipv4::Header) -> bool {
    cx.config.interfaces[hop.interface].v4.iter().any(|(_, prefix)| {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix.length())).unwrap_or(0);
        let host = header.destination.to_bits() & host_bits;
        prefix.length() <= 30
            && prefix.contains(header.destination.into())
            && (host == 0 || host == host_bits)
    })
}

fn decide_v6(
    cx: &Context,
    packet: &Packet,
    frame: &Frame,
    interface: &Interface,
    header: &ipv6::Header,
) -> Result<Next, Rejection> {
    if !ipv6::is_routable(header.source) {
        return Err(DropReason::SourceInvalid.into());
    }
    if !ipv6::is_routable(header.destination) {
        return Err(DropReason::DestinationInvalid.into());
    }
    if let Err(problem) = ipv6::extension::check_hop_by_hop(&packet.frame()[L3..L3 + header.total_length]) {
        return Err(problem.into());
    }
    let router = &cx.config.routers[interface.router];
    if interface.has_v6(header.destination) || router.addresses.contains(&header.destination.into()) {
        return Ok(Next::Local);
    }
    if header.destination.is_unicast_link_local() || header.source.is_unicast_link_local() {
        return Err(Rejection::v6(DropReason::ScopeExceeded, icmpv6::Error::BeyondScope));
    }
    let no_route = Rejection::v6(DropReason::NoRoute, icmpv6::Error::NoRoute);
    let target =
        router.fib.lookup_v6(header.destination).map(|id| &router.targets[id.index()]).ok_or(no_route)?;
    if header.hop_limit <= 1 {
        return Err(Rejection::v6(DropReason::TtlExpired, icmpv6::Error::HopLimitExceeded));
    }
    Ok(Next::Hop(next_hop(packet, frame, header.destination.into(), target)))
}

fn network_name(config: &Config, interface: usize) -> &str {
    &config.networks[config.interfaces[interface].network].name
}

fn next_hop(packet: &Packet, frame: &Frame, destination: IpAddr, target: &Target) -> NextHop {
    match target {
        Target::Connected(interface) => NextHop { address: destination, interface: *interface },
        Target::Via(hops) if hops.len() == 1 => hops[0],
        Target::Via(hops) => hops[flow_hash(packet, frame) as usize % hops.len()],
    }
}

/// The same for all packets of a flow: addresses, protocol, and ports where there are some.
fn flow_hash(packet: &Packet, frame: &Frame) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    let ports = frame.transport(packet.frame()).get(..4).unwrap_or_default();
    let (protocol, fragment) = match &frame.network {
        Layer3::Ipv4(header) => {
            hasher.write_u32(header.source.to_bits());
            hasher.write_u32(header.destination.to_bits());
            (header.protocol, header.is_fragment())
        }
        Layer3::Ipv6(header) => {
            hasher.write_u128(header.source.to_bits());
            hasher.write_u128(header.destination.to_bits());
            (header.protocol, header.fragment)
        }
        Layer3::Arp(_) | Layer3::Other => return 0,
    };
    hasher.write_u8(protocol);
    if matches!(protocol, ipv4::TCP | ipv4::UDP) && !fragment {
        hasher.write(ports);
    }
    hasher.finish()
}
