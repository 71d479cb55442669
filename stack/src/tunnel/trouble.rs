//! Trouble on the way to far ends: routers that take no packets as large as are sent (RFC 1191, RFC 8201).
//!
//! Whoever says so is believed only if what it quotes was sent by a tunnel: VNI, key or session must be right.

use std::net::IpAddr;

use super::datagram::{Underlay, UnderlayError};
use super::wireguard::OVERHEAD;
use crate::config::{Carried, Port};
use crate::pipeline::Context;
use crate::wire::{gre, ipv4, ipv6, udp, vxlan};

/// Takes note of an error about a datagram.
pub(crate) fn hear(cx: &mut Context, underlay: Underlay, error: &UnderlayError) {
    cx.counters.tunnel_errors.add(1);
    let Some(mtu) = error.mtu else { return };
    if !cx.state.limits.path_mtus.allow(cx.now) {
        return;
    }
    let remote = error.destination.ip();
    if let Underlay::Udp(port) = underlay
        && let Some((_, ward)) = cx.config.tunnels.wireguard(port)
    {
        let quote = Some(error.quote).filter(|_| !error.by_node);
        let room = inside(mtu, remote, udp::HEADER_LENGTH + OVERHEAD);
        ward.device.narrow(cx.now, error.destination, quote, room);
    } else if error.by_node || is_ours(cx, underlay, error) {
        // All tunnels to there take the same way.
        cx.config.tunnels.at(remote, cx.config).for_each(|port| lower(cx, &port, remote, mtu));
    }
}

/// Takes note of a router's word that a packet of a tunnel which the router at position `router` carries is larger than
/// `mtu` octets allow; `quote` is the packet as it is quoted.
pub(crate) fn hear_router(cx: &mut Context, router: usize, quote: &[u8], mtu: u32) {
    cx.counters.tunnel_errors.add(1);
    if !cx.state.limits.path_mtus.allow(cx.now) {
        return;
    }
    if let Some((port, remote)) = quoted_by_router(cx, router, quote) {
        lower(cx, port, remote, mtu);
    }
}

fn quoted_by_router<'a>(cx: &Context<'a>, router: usize, quote: &[u8]) -> Option<(&'a Port, IpAddr)> {
    let (remote, protocol, transport): (IpAddr, u8, usize) = match quote.first()? >> 4 {
        4 => {
            let address = quote.get(16..20)?.first_chunk::<4>()?;
            ((*address).into(), *quote.get(9)?, usize::from(quote[0] & 0xf) * 4)
        }
        _ => {
            let address = quote.get(24..40)?.first_chunk::<16>()?;
            ((*address).into(), *quote.get(6)?, ipv6::HEADER_LENGTH)
        }
    };
    let datagram = quote.get(transport..).filter(|_| protocol == ipv4::UDP)?;
    let udp_port = u16::from_be_bytes(*datagram.get(2..)?.first_chunk()?);
    let vni = vxlan::parse(datagram.get(udp::HEADER_LENGTH..)?).ok()?;
    let id = cx.config.tunnels.vxlan(Carried::ByRouter(router), udp_port, vni, remote)?;
    Some((&**cx.config.port(id)?, remote))
}

/// Has a far end at `remote` get no packets that are larger than `mtu` octets outside.
pub(super) fn lower(cx: &Context, port: &Port, remote: IpAddr, mtu: u32) {
    let Some(far_end) = &port.far_end else { return };
    let added = cx.config.tunnels.list[far_end.tunnel].means.added();
    far_end.path.lower(cx.now, inside(mtu, remote, added));
}

/// What is left of `mtu` octets on the way to `remote` for an IP packet inside, before which a tunnel puts `added` octets
/// behind the outer IP header.
fn inside(mtu: u32, remote: IpAddr, added: usize) -> u32 {
    let outer = if remote.is_ipv4() { ipv4::HEADER_LENGTH } else { ipv6::HEADER_LENGTH };
    mtu.saturating_sub((outer + added) as u32)
}

/// Whether a tunnel may have sent what is quoted.
fn is_ours(cx: &Context, underlay: Underlay, error: &UnderlayError) -> bool {
    let (tunnels, remote) = (&cx.config.tunnels, error.destination.ip());
    match underlay {
        Underlay::Udp(port) => vxlan::parse(error.quote)
            .is_ok_and(|vni| tunnels.vxlan(Carried::ByNode, port, vni, remote).is_some()),
        Underlay::Gre => {
            gre::Header::parse(error.quote).is_ok_and(|header| tunnels.gre(remote, header.key).is_some())
        }
    }
}
