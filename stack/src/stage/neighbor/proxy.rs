//! Proxy ARP and neighbour discovery: the gateway answers for addresses that are elsewhere (RFC 1027, RFC 4861
//! section 7.2.8), so that hosts reach them which take them to be on their link.
//!
//! It answers for what its router has a route to by another interface, and for nothing on the link itself: also
//! isolated ports are not brought together that way, since they are not to speak with each other. The question goes
//! to nobody else, so that the answer need not wait for a better one.

use std::net::IpAddr;

use crate::config::{Config, Interface, Port, Target};
use crate::wire::{ipv4, ipv6};

/// Whether the gateway answers `sender`, who is at `from`, for `target`, which is not its own.
pub(crate) fn answers_for(
    config: &Config,
    interface: &Interface,
    from: &Port,
    sender: IpAddr,
    target: IpAddr,
) -> bool {
    interface.proxy_neighbors
        && may_be_elsewhere(target)
        // Who looks whether an address is free, or tells of its own, is not to find it taken.
        && !sender.is_unspecified()
        && sender != target
        && !from.addresses.contains(&target)
        && leads_elsewhere(config, interface, from, sender, target)
}

fn may_be_elsewhere(target: IpAddr) -> bool {
    match target {
        IpAddr::V4(address) => ipv4::is_routable(address) && !address.is_link_local(),
        IpAddr::V6(address) => ipv6::is_routable(address) && !address.is_unicast_link_local(),
    }
}

fn leads_elsewhere(
    config: &Config,
    interface: &Interface,
    from: &Port,
    sender: IpAddr,
    target: IpAddr,
) -> bool {
    let out = match config.routers[interface.router].route(sender, target, Some(from.id)) {
        Some(Target::Local) => return !interface.has(target),
        Some(Target::Connected(interface)) => *interface,
        Some(Target::Via(hops)) => hops.select(|| 0).interface,
        _ => return false,
    };
    config.interfaces[out].id != interface.id
}
