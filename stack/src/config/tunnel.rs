//! The plain description of tunnels.

use std::net::{IpAddr, SocketAddr};

use crate::tunnel::wireguard::{PresharedKey, PrivateKey, PublicKey};
use crate::wire::gre;
use crate::{MacAddr, Prefix};

/// A tunnel: an encapsulation by which a network or a router reaches far ends.
#[derive(Debug, Clone)]
pub struct TunnelSpec {
    /// Unique among tunnels.
    pub name: String,
    /// What it joins.
    pub joins: Joins,
    /// Octets of the largest IP packet inside.
    pub mtu: u32,
    /// What carries its datagrams.
    pub carrier: Carrier,
    /// The node's or the carrier's address that it speaks from; `None`: whichever leads to the far end.
    pub local: Option<IpAddr>,
    /// How it encapsulates.
    pub encapsulation: Encapsulation,
}

/// What a tunnel joins.
#[derive(Debug, Clone)]
pub enum Joins {
    /// A network, to which its far ends are like ports: for encapsulations of Ethernet frames.
    Network {
        /// The network.
        network: String,
        /// The VLAN that the far ends are on, untagged; 0 is the network's untagged segment.
        vlan: u16,
    },
    /// A router, to which it is a link of its own: for encapsulations of IP packets.
    Router {
        /// The router.
        router: String,
        /// The router's addresses on the link, with the prefixes that are on it.
        addresses: Vec<(IpAddr, Prefix)>,
        /// What is reached by it beside those. WireGuard's allowed prefixes are, without being named here.
        routes: Vec<Prefix>,
    },
}

/// What carries a tunnel's datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// The sockets of the node.
    Node,
    /// A router of the fabric, which may send them through another tunnel.
    Router(String),
}

/// How a tunnel encapsulates.
#[derive(Debug, Clone)]
pub enum Encapsulation {
    /// RFC 7348.
    Vxlan(VxlanSpec),
    /// RFC 2784 and 2890.
    Gre(GreSpec),
    /// As the Linux kernel's.
    WireGuard(WireGuardSpec),
}

/// VXLAN (RFC 7348).
#[derive(Debug, Clone)]
pub struct VxlanSpec {
    /// Names the segment, below 2^24.
    pub vni: u32,
    /// The UDP port that all ends listen on.
    pub port: u16,
    /// The far ends. What goes to many is sent to each of them.
    pub remotes: Vec<VxlanRemote>,
    /// Questions for neighbours that are known are answered here, and not sent through the tunnel.
    pub suppress_neighbors: bool,
}

/// A far end of a VXLAN tunnel.
#[derive(Debug, Clone)]
pub struct VxlanRemote {
    /// Its address on the carrier.
    pub address: IpAddr,
    /// MAC addresses that are there for good.
    pub macs: Vec<MacAddr>,
}

/// GRE (RFC 2784, RFC 2890): of Ethernet frames where the tunnel joins a network, of IP packets where it joins a router.
#[derive(Debug, Clone)]
pub struct GreSpec {
    /// The far end's address on the carrier.
    pub remote: IpAddr,
    /// Tells several tunnels between the same ends apart; both ends have the same.
    pub key: Option<u32>,
    /// A checksum over header and payload goes along. One that comes is verified in any case.
    pub checksum: bool,
    /// Packets are numbered, and such that come late are dropped.
    pub sequence: bool,
}

impl GreSpec {
    /// The header of what it carries; the number is filled in when it is sent.
    pub(crate) fn header(&self, protocol: u16) -> gre::Header {
        gre::Header { checksum: self.checksum, key: self.key, sequence: self.sequence.then_some(0), protocol }
    }
}

/// WireGuard.
#[derive(Debug, Clone)]
pub struct WireGuardSpec {
    /// The UDP port that it listens on.
    pub listen_port: u16,
    /// Its keys. It speaks with the first, and lets peers in that know it by another.
    pub keys: Vec<PrivateKey>,
    /// Those that it speaks with.
    pub peers: Vec<WireGuardPeer>,
}

/// A peer of a WireGuard tunnel.
#[derive(Debug, Clone)]
pub struct WireGuardPeer {
    /// Its keys, of which it uses any: the last is the newest.
    pub keys: Vec<PublicKey>,
    /// A secret that goes into the handshake beside the keys.
    pub preshared_key: Option<PresharedKey>,
    /// Where it is, until it is heard from elsewhere; `None`: it speaks first.
    pub endpoint: Option<SocketAddr>,
    /// What is reached by it, and what it may speak from.
    pub allowed: Vec<Prefix>,
    /// Seconds of silence after which it is sent something, so that firewalls on the way keep it reachable; 0: never.
    pub keepalive: u16,
}
