//! Trouble on the way to far ends: routers that take no packets as large as are sent (RFC 1191, RFC 8201).
//!
//! Whoever says so is believed only if what it quotes was sent by a tunnel: VNI, key or session must be right.

use std::net::IpAddr;

use super::datagram::{Underlay, UnderlayError};
use super::wireguard::OVERHEAD;
use crate::config::{Carried, Means, Port};
use crate::pipeline::Context;
use crate::wire::{ethernet, gre, ipv4, ipv6, udp, vxlan};

/// Takes note of an error about a datagram.
pub(crate) fn hear(cx: &mut Context, underlay: Underlay, error: &UnderlayError) {
    cx.counters.tunnel_errors.add(1);
    let Some(mtu) = error.mtu else { return };
    if !cx.state.limits.path_mtus.allow(cx.now) {
        return;
    }
    let Some((port, overhead)) = quoted(cx, underlay, error) else { return };
    let outer = if error.destination.is_ipv4() { ipv4::HEADER_LENGTH } else { ipv6::HEADER_LENGTH };
    if let Some(far_end) = &port.far_end {
        far_end.path.lower(cx.now, mtu.saturating_sub((outer + overhead) as u32));
    }
}

/// The port by which the quoted datagram left, and octets of all headers between the outer IP header and the IP packet
/// inside.
fn quoted<'a>(cx: &Context<'a>, underlay: Underlay, error: &UnderlayError) -> Option<(&'a Port, usize)> {
    let tunnels = &cx.config.tunnels;
    let remote = error.destination.ip();
    let (id, overhead) = match underlay {
        Underlay::Udp(port) => match tunnels.wireguard(port) {
            Some((id, ward)) => {
                let ours = error.by_node || ward.device.has_sent(error.destination, error.quote);
                (ours.then_some(id)?, udp::HEADER_LENGTH + OVERHEAD)
            }
            None => (vxlan_port(cx, port, remote, error)?, udp::HEADER_LENGTH + VXLAN),
        },
        Underlay::Gre => {
            let id = match gre::Header::parse(error.quote) {
                Ok(header) => tunnels.gre(remote, header.key)?,
                Err(_) if error.by_node => tunnels.gre_peer(remote)?,
                Err(_) => return None,
            };
            (id, gre_overhead(cx, cx.config.port(id)?))
        }
    };
    Some((&**cx.config.port(id)?, overhead))
}

/// A VXLAN header, and the Ethernet header of the frame inside.
const VXLAN: usize = vxlan::HEADER_LENGTH + ethernet::HEADER_LENGTH;

fn vxlan_port(
    cx: &Context,
    port: u16,
    remote: IpAddr,
    error: &UnderlayError,
) -> Option<crate::config::PortId> {
    match vxlan::parse(error.quote) {
        Ok(vni) => cx.config.tunnels.vxlan(Carried::ByNode, port, vni, remote),
        // What the node refused it does not quote; all tunnels to there take the same way.
        Err(_) if error.by_node => cx.config.tunnels.vxlan_peer(Carried::ByNode, port, remote),
        Err(_) => None,
    }
}

fn gre_overhead(cx: &Context, port: &Port) -> usize {
    let tunnel = port.far_end.as_ref().map(|far_end| &cx.config.tunnels.list[far_end.tunnel]);
    let Some(Means::Gre { spec, ethernet }) = tunnel.map(|tunnel| &tunnel.means) else { return 0 };
    let header = gre::Header {
        checksum: spec.checksum,
        key: spec.key,
        sequence: spec.sequence.then_some(0),
        protocol: 0,
    };
    header.length() + if *ethernet { ethernet::HEADER_LENGTH } else { 0 }
}
