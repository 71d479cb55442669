//! A WireGuard device: its keys, its peers and their prefixes, and whom a message is for.
//!
//! The control side changes it by [`Device::configure`] while workers send and receive: they read a picture that is
//! swapped as a whole, and peers live on in the next one.

mod admit;
mod picture;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use self::picture::Picture;
use super::cookie::Admission;
use super::event::Event;
use super::index::{Entry, IndexTable};
use super::peer::{Endpoint, Peer, Settings, Shared, Store};
use super::schedule::Schedule;
use super::session::Session;
use super::wire::DataHeader;
use super::{Moment, PublicKey, Refusal};
use crate::Prefix;
use crate::config::WireGuardSpec;
use crate::time::Instant;
use crate::tunnel::path::LIFETIME;

/// Peers whose timers are looked at in one poll: the handshakes that may begin take
/// a good part of a millisecond each in the worst case.
const PEERS_PER_POLL: usize = 16;

/// One end of WireGuard tunnels.
#[derive(Debug)]
pub struct Device {
    shared: Arc<Shared>,
    picture: ArcSwap<Picture>,
    admission: Admission,
    /// Nanoseconds until which the way to some peer may carry less than the tunnel's MTU.
    narrow_until: AtomicU64,
    /// The number of the next peer; also: one configures at a time.
    next_id: Mutex<u64>,
}

/// What is known of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its keys, the newest last.
    pub keys: Vec<PublicKey>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// The node's address that it was heard at and is answered from; `None`: the node chooses.
    pub local: Option<IpAddr>,
    /// When the last handshake was completed.
    pub last_handshake: Option<Instant>,
    /// How many were.
    pub handshakes: u64,
    /// Packets that came in messages.
    pub received_packets: u64,
    /// Octets of messages received and opened.
    pub received_octets: u64,
    /// Packets that were sent in messages.
    pub sent_packets: u64,
    /// Octets of messages with packets, or without, that were sent.
    pub sent_octets: u64,
    /// What is reached by it, and what it may speak from.
    pub allowed: Vec<Prefix>,
    /// The key of ours by which the session was made that is used now; `None`: there is none.
    pub local_key: Option<PublicKey>,
    /// The peer's key of it.
    pub remote_key: Option<PublicKey>,
    /// Packets that wait for a session.
    pub waiting: usize,
}

impl Device {
    /// A device as described, for packets of `mtu` octets inside at most.
    pub fn new(now: Instant, spec: &WireGuardSpec, mtu: u32) -> Device {
        let shared = Shared {
            indices: IndexTable::new(),
            schedule: Schedule::new(),
            store: Store::default(),
            mtu: AtomicU32::new(mtu),
        };
        let device = Device {
            shared: Arc::new(shared),
            picture: ArcSwap::from_pointee(Picture::default()),
            admission: Admission::new(),
            narrow_until: AtomicU64::new(0),
            next_id: Mutex::new(0),
        };
        device.configure(now, spec, mtu);
        device
    }

    /// Makes the device as described. Peers that share a key with one that was there are that one: sessions, endpoint
    /// and counters live on. A change of the preshared key counts from the next handshake on. Says how many packets
    /// waited for peers that are gone ([`Refusal::PeerRemoved`]).
    pub fn configure(&self, now: Instant, spec: &WireGuardSpec, mtu: u32) -> usize {
        let mut next_id = self.next_id.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.mtu.store(mtu, Relaxed);
        let before = self.picture.load_full();
        let locals: Vec<_> = spec.keys.iter().map(|key| before.local(key)).collect();
        let mut kept = HashSet::new();
        let peers = spec.peers.iter().map(|described| {
            // A peer of before goes on as one peer: the first that has a key of it.
            let known = before.peer_with_any(described).filter(|known| kept.insert(known.id()));
            known.cloned().unwrap_or_else(|| {
                *next_id += 1;
                Arc::new(Peer::new(*next_id, Arc::clone(&self.shared), Settings::from(described)))
            })
        });
        let peers = peers.collect();
        let after = Arc::new(Picture::new(locals, peers, spec));
        self.picture.store(Arc::clone(&after));
        after.settle(now, &before, spec)
    }

    /// The peer that has the longest prefix with this address.
    #[inline]
    pub fn peer_for(&self, destination: IpAddr) -> Option<Arc<Peer>> {
        self.picture.load().route(destination).map(Arc::clone)
    }

    /// Whether a packet from this address may come from this peer: whether what goes there goes to it.
    #[inline]
    pub fn allows(&self, peer: &Peer, source: IpAddr) -> bool {
        self.picture.load().route(source).is_some_and(|owner| owner.id() == peer.id())
    }

    /// The session that a data message is for, by the message's receiver index.
    #[inline]
    pub fn session(&self, receiver: u32) -> Result<(Arc<Peer>, Arc<Session>), Refusal> {
        match self.shared.indices.get(receiver) {
            Some(Entry::Session(peer, session)) => Ok((peer, session)),
            _ => Err(Refusal::UnknownIndex),
        }
    }

    /// Octets of the largest packet that gets to the peer of this destination; `None`: as large as the tunnel's MTU.
    #[inline]
    pub fn path_mtu(&self, destination: IpAddr, now: Instant) -> Option<usize> {
        // In the usual case nobody has said anything of any way, and nobody has to be looked up.
        if now.as_nanos() >= self.narrow_until.load(Relaxed) {
            return None;
        }
        self.picture.load().route(destination)?.path_mtu(now)
    }

    /// No packets larger than `mtu` octets inside get to the peers at `destination`: so said the node itself, about an
    /// address, or about the message that begins with `quote` somebody on the way, who is believed if this may be one
    /// that was sent there not long ago, in a session that a peer there has.
    pub fn narrow(&self, now: Instant, destination: SocketAddr, quote: Option<&[u8]>, mtu: u32) {
        let receiver = quote.map(DataHeader::receiver_of);
        let is_meant = |peer: &Peer, remote: SocketAddr| match receiver {
            // The node knows of addresses, and of no ports.
            None => remote.ip() == destination.ip(),
            Some(receiver) => remote == destination && receiver.is_some_and(|index| peer.sends_by(index)),
        };
        let picture = self.picture.load();
        let all = picture.peers().iter();
        let there =
            all.filter(|peer| peer.endpoint().is_some_and(|endpoint| is_meant(peer, endpoint.remote)));
        for peer in there {
            // Before the peer's own: who sees that looks for no peer otherwise.
            self.narrow_until.fetch_max((now + LIFETIME).as_nanos(), Relaxed);
            peer.narrow(now, mtu);
        }
    }

    /// What the way to each peer carries, in the order of the description; `None`: as much as the tunnel's MTU.
    pub fn path_mtus(&self, now: Instant) -> Vec<Option<usize>> {
        self.picture.load().peers().iter().map(|peer| peer.path_mtu(now)).collect()
    }

    /// Forgets by which of the node's addresses the peers at `destination` know it: it does not work any more.
    pub fn forget_local(&self, destination: SocketAddr) {
        let picture = self.picture.load();
        let there =
            |peer: &&Arc<Peer>| peer.endpoint().is_some_and(|endpoint| endpoint.remote == destination);
        picture.peers().iter().filter(there).for_each(|peer| peer.forget_local());
    }

    /// Does what is due for some peers. To be called when [`Device::poll_at`] has come, by any worker; if that is still
    /// in the past afterwards, there is more to do.
    pub fn poll(&self, moment: Moment, events: &mut Vec<Event>) {
        for _ in 0..PEERS_PER_POLL {
            let Some(id) = self.shared.schedule.due(moment.now) else { return };
            // Looked at after the number was found: a peer is in the picture before it is in the queue.
            let picture = self.picture.load();
            match picture.peer(id) {
                Some(peer) => peer.run(moment, picture.locals(), events),
                None => self.shared.schedule.forget(id),
            }
        }
    }

    /// When [`Device::poll`] is to be called; `None`: not before something else happens.
    #[inline]
    pub fn poll_at(&self) -> Option<Instant> {
        self.shared.schedule.next()
    }

    /// The public keys of the device, the current one first.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.picture.load().locals().iter().map(|local| local.public).collect()
    }

    /// What is known of each peer, in the order of the description.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.picture.load().peers().iter().map(|peer| status(peer)).collect()
    }

    #[cfg(test)]
    pub(super) fn taken_indices(&self) -> usize {
        self.shared.indices.len()
    }

    #[cfg(test)]
    pub(super) fn admitted_sources(&self) -> usize {
        self.admission.sources()
    }

    /// What is known of the peer with this key.
    pub fn status_of(&self, key: &PublicKey) -> Option<PeerStatus> {
        self.picture.load().owner(key).map(|(peer, _)| status(peer))
    }
}

fn status(peer: &Peer) -> PeerStatus {
    let (settings, traffic) = (peer.settings(), peer.traffic());
    let (keys, endpoint) = (peer.keys_in_use(), peer.endpoint());
    let last_handshake = Some(traffic.last_handshake.load(Relaxed)).filter(|at| *at != 0);
    PeerStatus {
        keys: settings.keys.iter().map(|key| key.public).collect(),
        endpoint: endpoint.map(|endpoint| endpoint.remote),
        local: endpoint.and_then(|endpoint| endpoint.local),
        last_handshake: last_handshake.map(Instant::from_nanos),
        handshakes: traffic.handshakes.load(Relaxed),
        received_packets: traffic.received_packets.load(Relaxed),
        received_octets: traffic.received_octets.load(Relaxed),
        sent_packets: traffic.sent_packets.load(Relaxed),
        sent_octets: traffic.sent_octets.load(Relaxed),
        allowed: settings.allowed.clone(),
        local_key: keys.map(|(local, _)| local),
        remote_key: keys.map(|(_, remote)| remote),
        waiting: peer.waiting(),
    }
}

impl Drop for Device {
    /// Wipes all keys: peers and what they share know each other, so they would not go by themselves.
    fn drop(&mut self) {
        for peer in self.picture.load().peers() {
            peer.retire();
        }
        self.shared.indices.clear();
    }
}
