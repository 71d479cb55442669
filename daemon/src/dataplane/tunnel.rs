//! What the packet side tells of tunnels.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use weft_host::udp::source_for;
use weft_stack::config::TunnelView;
use weft_stack::time::Instant;
use weft_stack::tunnel::wireguard::{PeerStatus, PublicKey};

use super::{Dataplane, PortTotals};

/// A tunnel at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TunnelReport {
    /// Octets of the largest IP packet inside, where the way was found to carry less than was thought.
    pub mtu: Option<u32>,
    /// The address that it speaks from, when that is known.
    pub local: Option<IpAddr>,
    /// Its far ends, in the order of its description.
    pub ends: Vec<EndReport>,
    /// Drops by reason, those above zero, over all of them.
    pub drops: Vec<(&'static str, u64)>,
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
    /// Octets of the largest IP packet inside that the way to it carries, where that is known.
    pub path_mtu: Option<u32>,
    /// Drops by reason, those above zero.
    pub drops: Vec<(&'static str, u64)>,
}

impl Dataplane {
    /// A tunnel of the running picture; `None` when it is not there.
    pub fn tunnel(&self, name: &str) -> Option<TunnelReport> {
        let snapshot = self.shared.snapshot.load_full();
        let now = self.shared.now();
        let view = snapshot.config.tunnel(name, now)?;
        let mut drops = BTreeMap::new();
        let mut totals = Vec::new();
        for port in &view.ports {
            let of_port = self.port_totals(&port.name).unwrap_or_default();
            of_port.drops.iter().for_each(|(reason, count)| *drops.entry(*reason).or_default() += count);
            totals.push(of_port);
        }
        let local = local(&view);
        let ends = match view.peers {
            Some(peers) => {
                let ends = peers.into_iter().zip(view.paths);
                ends.map(|(peer, path)| self.peer(peer, path, now)).collect()
            }
            None => totals.into_iter().zip(view.paths).map(|(totals, path)| end(totals, path)).collect(),
        };
        let mtu = view.mtu.and_then(|mtu| u32::try_from(mtu).ok());
        Some(TunnelReport { mtu, local, ends, drops: drops.into_iter().collect() })
    }

    /// What is known of a WireGuard peer, with its times by the calendar.
    fn peer(&self, peer: PeerStatus, path: Option<usize>, now: Instant) -> EndReport {
        let at = |then: Instant| SystemTime::now().checked_sub(now.since(then));
        EndReport {
            endpoint: peer.endpoint,
            public_key: peer.remote_key.or(peer.keys.last().copied()),
            last_handshake: peer.last_handshake.and_then(at),
            handshakes: peer.handshakes,
            rx_packets: peer.received_packets,
            rx_bytes: peer.received_octets,
            tx_packets: peer.sent_packets,
            tx_bytes: peer.sent_octets,
            path_mtu: path.and_then(|mtu| u32::try_from(mtu).ok()),
            drops: Vec::new(),
        }
    }
}

/// The address that a tunnel speaks from: the one that it is to, or that a peer was heard at, or that the node's routes
/// choose. Far ends may each see another one; then it is the first's of which it is known.
fn local(view: &TunnelView) -> Option<IpAddr> {
    let heard = || view.peers.iter().flatten().find_map(|peer| peer.local);
    let routed = || view.remotes.iter().find_map(|remote| source_for(*remote).ok());
    view.local.or_else(heard).or_else(routed)
}

fn end(totals: PortTotals, path: Option<usize>) -> EndReport {
    EndReport {
        rx_packets: totals.rx_packets,
        rx_bytes: totals.rx_bytes,
        tx_packets: totals.tx_packets,
        tx_bytes: totals.tx_bytes,
        path_mtu: path.and_then(|mtu| u32::try_from(mtu).ok()),
        drops: totals.drops,
        ..EndReport::default()
    }
}
