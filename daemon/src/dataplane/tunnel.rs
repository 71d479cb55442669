//! What the packet side tells of tunnels.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use weft_stack::tunnel::wireguard::PublicKey;

use super::Dataplane;

/// A tunnel at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TunnelReport {
    /// Octets of the largest IP packet inside, where the way was found to carry less than was thought.
    pub mtu: Option<u32>,
    /// The address that it speaks from, when that is known.
    pub local: Option<IpAddr>,
    /// Its far ends, in the order of its description.
    pub ends: Vec<EndReport>,
}

/// A far end of a tunnel at one moment; numbers are of all workers together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EndReport {
    /// WireGuard: where it was heard from last.
    pub endpoint: Option<SocketAddr>,
    /// WireGuard: the key that it used last.
    pub public_key: Option<PublicKey>,
    /// WireGuard: when keys were agreed on last.
    pub last_handshake: Option<SystemTime>,
    /// WireGuard: how often that was.
    pub handshakes: u64,
    /// Packets inside that came from it.
    pub rx_packets: u64,
    /// Octets of them.
    pub rx_bytes: u64,
    /// Packets inside that were sent to it.
    pub tx_packets: u64,
    /// Octets of them.
    pub tx_bytes: u64,
    /// Octets of the largest packet that the way to it carries, outer headers included.
    pub path_mtu: Option<u32>,
    /// Drops by reason, those above zero.
    pub drops: Vec<(&'static str, u64)>,
}

impl Dataplane {
    /// A tunnel of the running picture; `None` when it is not there.
    pub fn tunnel(&self, _name: &str) -> Option<TunnelReport> {
        None
    }
}
