//! What workers read of a device: keys and peers as they are at one time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::super::handshake::{LocalKey, RemoteKey};
use super::super::peer::{Peer, Settings};
use super::super::{PrivateKey, PublicKey};
use crate::config::{WireGuardPeer, WireGuardSpec};
use crate::table::fib::{Fib, TargetId};
use crate::time::Instant;

/// Keys and peers of a device.
#[derive(Debug, Default)]
pub(super) struct Picture {
    /// The first is the current one.
    locals: Vec<Arc<LocalKey>>,
    /// As described.
    peers: Vec<Arc<Peer>>,
    by_id: HashMap<u64, Arc<Peer>, RandomState>,
    by_key: HashMap<PublicKey, (Arc<Peer>, RemoteKey), RandomState>,
    /// From prefixes to positions in `peers`.
    routes: Fib,
}

impl Picture {
    pub fn new(locals: Vec<Arc<LocalKey>>, peers: Vec<Arc<Peer>>, spec: &WireGuardSpec) -> Picture {
        let by_id = peers.iter().map(|peer| (peer.id(), Arc::clone(peer))).collect();
        let mut by_key = HashMap::default();
        for (peer, described) in peers.iter().zip(&spec.peers) {
            for key in &described.keys {
                by_key.entry(*key).or_insert_with(|| (Arc::clone(peer), RemoteKey::new(*key)));
            }
        }
        // The table keeps the first of equal prefixes; as everywhere with WireGuard, the last peer that has it counts.
        let prefixes = spec.peers.iter().enumerate().rev().flat_map(|(position, peer)| {
            peer.allowed.iter().filter_map(move |prefix| Some((*prefix, TargetId::new(position)?)))
        });
        Picture { routes: Fib::new(prefixes), locals, peers, by_id, by_key }
    }

    pub fn locals(&self) -> &[Arc<LocalKey>] {
        &self.locals
    }

    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    /// The local key of this private one, the same as before if it was there.
    pub fn local(&self, private: &PrivateKey) -> Arc<LocalKey> {
        let known = self.locals.iter().find(|local| local.private == *private);
        known.cloned().unwrap_or_else(|| Arc::new(LocalKey::new(private.clone())))
    }

    pub fn peer(&self, id: u64) -> Option<&Arc<Peer>> {
        self.by_id.get(&id)
    }

    /// The peer that has this key.
    pub fn owner(&self, key: &PublicKey) -> Option<&(Arc<Peer>, RemoteKey)> {
        self.by_key.get(key)
    }

    /// The peer that has one of the keys of this one.
    pub fn peer_with_any(&self, described: &WireGuardPeer) -> Option<&Arc<Peer>> {
        described.keys.iter().find_map(|key| self.owner(key)).map(|(peer, _)| peer)
    }

    /// The peer that has the longest prefix with this address.
    #[inline]
    pub fn route(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.peers.get(self.routes.lookup(address)?.index())
    }

    /// Tells peers that go on what is new, begins with new ones, and ends what is no more. Says how many packets waited
    /// for those.
    pub fn settle(&self, now: Instant, before: &Picture, spec: &WireGuardSpec) -> usize {
        for (peer, described) in self.peers.iter().zip(&spec.peers) {
            if before.by_id.contains_key(&peer.id()) {
                peer.configure(now, Settings::from(described), &self.locals);
            } else {
                peer.start(now);
            }
        }
        let gone = before.peers.iter().filter(|peer| !self.by_id.contains_key(&peer.id()));
        gone.map(|peer| peer.retire()).sum()
    }
}
