//! A Tunnel as the model has it: which far ends, how they are spoken to, and what that takes of a packet.
//!
//! Keys are no part of it: they are kept apart from all that is stored and shown, in [`keys`](super::TunnelKeys).

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use weft_stack::tunnel::wireguard::PublicKey;
use weft_stack::{MacAddr, Prefix};

use super::{InterfaceAddress, Mtu, Name, Vni};

/// Octets of the largest packet that the way to a far end is taken to carry while nothing else is known.
pub const ASSUMED_PATH: u32 = 1500;

const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
/// A UDP and a VXLAN header (RFC 7348 section 5), and the Ethernet header inside.
const VXLAN: u32 = 8 + 8 + ETHERNET_HEADER;
const ETHERNET_HEADER: u32 = 14;
/// RFC 2784 section 2: flags and protocol. Checksum, key and sequence number (RFC 2890) take as much each.
const GRE: u32 = 4;
const GRE_FIELD: u32 = 4;
/// A UDP header, type and receiver, the counter, and the tag.
const WIREGUARD: u32 = 8 + 8 + 8 + 16;

/// An encapsulation by which a Network or a Router reaches far ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Tunnel {
    /// Largest IP packet inside; `None`: it is worked out.
    pub mtu: Option<Mtu>,
    /// The address to speak from; of the family of all far ends.
    pub local: Option<IpAddr>,
    /// What it joins, and how it encapsulates.
    pub form: TunnelForm,
}

/// What a Tunnel joins, and how it encapsulates.
#[derive(Debug, Clone, PartialEq)]
pub enum TunnelForm {
    /// RFC 7348.
    Vxlan {
        /// What it joins.
        segment: Segment,
        /// What carries its datagrams.
        carrier: Carrier,
        /// Its far ends.
        vxlan: Vxlan,
    },
    /// GRE with Ethernet frames inside.
    Gretap {
        /// What it joins.
        segment: Segment,
        /// Its far end.
        gre: Gre,
    },
    /// GRE with IP packets inside.
    Gre {
        /// What it joins.
        link: Link,
        /// What is reached by it beside what is on the link.
        routes: Vec<Prefix>,
        /// Its far end.
        gre: Gre,
    },
    /// What is reached by it are the allowed prefixes of its peers.
    WireGuard {
        /// What it joins.
        link: Link,
        /// Its far ends.
        wireguard: WireGuard,
    },
}

/// Where a Tunnel joins a Network.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// The Network.
    pub network: Name,
    /// The VLAN that the far ends are on; 0 is untagged.
    pub vlan: u16,
}

/// Where a Tunnel joins a Router.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// The Router.
    pub router: Name,
    /// The Router's addresses there.
    pub addresses: Vec<InterfaceAddress>,
}

/// What carries a Tunnel's datagrams.
#[derive(Debug, Clone, PartialEq)]
pub enum Carrier {
    /// The node's own network.
    Node,
    /// A Router; the Tunnel has a `local` address then, which is the Router's.
    Router(Name),
}

/// VXLAN.
#[derive(Debug, Clone, PartialEq)]
pub struct Vxlan {
    /// Names the segment.
    pub vni: Vni,
    /// The UDP port that all ends listen on.
    pub port: NonZeroU16,
    /// The far ends, each address once.
    pub remotes: Vec<VxlanRemote>,
    /// Questions for known neighbours are answered here.
    pub suppress_neighbors: bool,
}

/// A far end of a VXLAN tunnel.
#[derive(Debug, Clone, PartialEq)]
pub struct VxlanRemote {
    /// Its address on the carrier.
    pub address: IpAddr,
    /// MAC addresses that are there for good.
    pub macs: Vec<MacAddr>,
}

/// GRE.
#[derive(Debug, Clone, PartialEq)]
pub struct Gre {
    /// The far end's address.
    pub remote: IpAddr,
    /// Tells tunnels between the same ends apart.
    pub key: Option<u32>,
    /// A checksum goes along.
    pub checksum: bool,
    /// Packets are numbered.
    pub sequence: bool,
}

/// WireGuard.
#[derive(Debug, Clone, PartialEq)]
pub struct WireGuard {
    /// The UDP port that it listens on.
    pub listen_port: NonZeroU16,
    /// Whom it speaks with: no key and no allowed prefix stands twice.
    pub peers: Vec<Peer>,
}

/// A peer of a WireGuard tunnel.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// What people call it.
    pub name: Option<Name>,
    /// The key that it has.
    pub public_key: PublicKey,
    /// The key that it changes to.
    pub next_public_key: Option<PublicKey>,
    /// Where it is until it is heard from elsewhere.
    pub endpoint: Option<SocketAddr>,
    /// What is reached by it and what it may speak from.
    pub allowed: Vec<Prefix>,
    /// Seconds of silence after which it is sent something; 0: never.
    pub keepalive: u16,
}

impl Peer {
    /// Its keys, the newest last.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> + use<> {
        [Some(self.public_key), self.next_public_key].into_iter().flatten()
    }
}

impl Tunnel {
    /// The kind of encapsulation, as users write it.
    pub fn word(&self) -> &'static str {
        match &self.form {
            TunnelForm::Vxlan { .. } => "vxlan",
            TunnelForm::Gretap { .. } => "gretap",
            TunnelForm::Gre { .. } => "gre",
            TunnelForm::WireGuard { .. } => "wireguard",
        }
    }

    /// Where it joins a Network.
    pub fn segment(&self) -> Option<&Segment> {
        match &self.form {
            TunnelForm::Vxlan { segment, .. } | TunnelForm::Gretap { segment, .. } => Some(segment),
            TunnelForm::Gre { .. } | TunnelForm::WireGuard { .. } => None,
        }
    }

    /// Where it joins a Router.
    pub fn link(&self) -> Option<&Link> {
        match &self.form {
            TunnelForm::Gre { link, .. } | TunnelForm::WireGuard { link, .. } => Some(link),
            TunnelForm::Vxlan { .. } | TunnelForm::Gretap { .. } => None,
        }
    }

    /// The Router that carries its datagrams.
    pub fn carrier(&self) -> Option<&Name> {
        match &self.form {
            TunnelForm::Vxlan { carrier: Carrier::Router(router), .. } => Some(router),
            _ => None,
        }
    }

    /// What it is told of WireGuard, when it is one.
    pub fn wireguard(&self) -> Option<&WireGuard> {
        match &self.form {
            TunnelForm::WireGuard { wireguard, .. } => Some(wireguard),
            _ => None,
        }
    }

    /// What it is told of GRE, when it is one, with either inside.
    pub fn gre(&self) -> Option<&Gre> {
        match &self.form {
            TunnelForm::Gre { gre, .. } | TunnelForm::Gretap { gre, .. } => Some(gre),
            _ => None,
        }
    }

    /// The prefixes that its Router reaches by it, with their fields.
    pub fn prefixes(&self) -> Vec<(String, Prefix)> {
        let on_link = self.link().into_iter().flat_map(|link| link.addresses.iter().enumerate());
        let mut prefixes: Vec<(String, Prefix)> = on_link
            .filter_map(|(index, own)| Some((format!("spec.addresses[{index}]"), own.on_link()?)))
            .collect();
        match &self.form {
            TunnelForm::Gre { routes, .. } => {
                let field = |(index, prefix): (usize, &Prefix)| (format!("spec.routes[{index}]"), *prefix);
                prefixes.extend(routes.iter().enumerate().map(field));
            }
            TunnelForm::WireGuard { wireguard, .. } => {
                for (peer, it) in wireguard.peers.iter().enumerate() {
                    let path = |index| format!("spec.wireguard.peers[{peer}].allowedPrefixes[{index}]");
                    prefixes
                        .extend(it.allowed.iter().enumerate().map(|(index, prefix)| (path(index), *prefix)));
                }
            }
            TunnelForm::Vxlan { .. } | TunnelForm::Gretap { .. } => {}
        }
        prefixes
    }

    /// The far ends' addresses, as far as they are given; `None` for a peer that speaks first.
    pub fn remotes(&self) -> Vec<Option<IpAddr>> {
        match &self.form {
            TunnelForm::Vxlan { vxlan, .. } => vxlan.remotes.iter().map(|it| Some(it.address)).collect(),
            TunnelForm::Gretap { gre, .. } | TunnelForm::Gre { gre, .. } => vec![Some(gre.remote)],
            TunnelForm::WireGuard { wireguard, .. } => {
                wireguard.peers.iter().map(|peer| Some(peer.endpoint?.ip())).collect()
            }
        }
    }

    /// The largest IP packet inside: as wished, or what a way that carries packets of `path` octets leaves.
    pub fn inner_mtu(&self, path: u32) -> Mtu {
        self.mtu.unwrap_or_else(|| {
            let octets = path.saturating_sub(self.overhead()).clamp(Mtu::MIN, Mtu::MAX);
            // It was brought into the range just now.
            Mtu::new(octets).unwrap_or(Mtu::DEFAULT)
        })
    }

    /// Octets that the encapsulation puts before and behind an IP packet, at most.
    pub fn overhead(&self) -> u32 {
        let outer = if self.may_be_carried_by_ipv6() { IPV6_HEADER } else { IPV4_HEADER };
        outer
            + match &self.form {
                TunnelForm::Vxlan { .. } => VXLAN,
                TunnelForm::Gretap { gre, .. } => gre.header() + ETHERNET_HEADER,
                TunnelForm::Gre { gre, .. } => gre.header(),
                TunnelForm::WireGuard { .. } => WIREGUARD,
            }
    }

    /// Whether a far end is reached by IPv6, or may turn out to be.
    fn may_be_carried_by_ipv6(&self) -> bool {
        if let Some(local) = self.local {
            return local.is_ipv6();
        }
        let remotes = self.remotes();
        remotes.is_empty() || remotes.iter().any(|remote| remote.is_none_or(|address| address.is_ipv6()))
    }
}

impl Gre {
    /// Octets of the header.
    fn header(&self) -> u32 {
        let fields = u32::from(self.checksum) + u32::from(self.key.is_some()) + u32::from(self.sequence);
        GRE + GRE_FIELD * fields
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{BASE, fabric, object};

    fn mtu(spec: &str) -> u32 {
        let fabric = fabric(&format!("{BASE}{}", object("Tunnel", "t", spec)));
        fabric.tunnels["t"].spec.inner_mtu(super::ASSUMED_PATH).get()
    }

    #[test]
    fn the_mtu_is_what_the_headers_leave_of_1500_octets() {
        let key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let vxlan = |remotes: &str| format!("  network: front\n  vxlan: {{vni: 7, remotes: [{remotes}]}}");
        let gre = |more: &str| format!("  router: core\n  gre: {{remote: {more}}}");
        let gretap = |more: &str| format!("  network: front\n  gretap: {{remote: {more}}}");
        let peer =
            |more: &str| format!("  router: core\n  wireguard: {{peers: [{{publicKey: '{key}'{more}}}]}}");
        let cases = [
            (vxlan("{address: 192.0.2.2}"), 1450),
            (vxlan("{address: 192.0.2.2}, {address: '2001:db8::2'}"), 1430),
            (gre("192.0.2.2"), 1476),
            (gre("192.0.2.2, key: 0, checksum: true, sequence: true"), 1464),
            (gre("'2001:db8::2'"), 1456),
            (gretap("192.0.2.2"), 1462),
            (gretap("'2001:db8::2', key: 7"), 1438),
            (peer(", endpoint: '192.0.2.2:51820'"), 1440),
            (peer(", endpoint: '[2001:db8::2]:51820'"), 1420),
            (peer(""), 1420),
            (format!("{}\n  local: 192.0.2.1", peer("")), 1440),
            (format!("{}\n  mtu: 1300", gre("192.0.2.2")), 1300),
        ];
        for (spec, expected) in cases {
            assert_eq!(mtu(&spec), expected, "{spec}");
        }
    }
}
