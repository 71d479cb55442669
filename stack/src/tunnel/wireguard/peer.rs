//! A peer, as the packet path sees it: where it is, the session to send by, and what was sent and received.
//!
//! Nothing here waits for a lock in the usual case: who has the session reserves numbers by one addition, and timers are
//! numbers, too. Handshakes (`peer/handshake.rs`), sessions that come and go (`peer/sessions.rs`) and timers that are
//! due (`peer/run.rs`) are behind the peer's own lock.

mod handshake;
mod keys;
mod run;
mod sessions;
mod staging;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use self::handshake::Handshaking;
pub(super) use self::handshake::Offer;
pub(super) use self::keys::Settings;
use self::sessions::Sessions;
use self::staging::Staging;
pub(super) use self::staging::Store;
use super::Session;
use super::index::IndexTable;
use super::schedule::{Place, Schedule};
use super::session::REJECT_AFTER;
use super::timers::{JITTER, KEEPALIVE_TIMEOUT, REKEY_TIMEOUT, Timer, Timers};
use crate::jitter;
use crate::time::Instant;
use crate::tunnel::path::PathMtu;

/// What all peers of a device share.
#[derive(Debug)]
pub(super) struct Shared {
    pub indices: IndexTable,
    pub schedule: Schedule,
    pub store: Store,
    /// Octets of the largest packet inside.
    pub mtu: AtomicU32,
}

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address and port.
    pub remote: SocketAddr,
    /// The node's address that it knows us by; `None`: the node chooses.
    pub local: Option<IpAddr>,
}

/// A peer.
pub struct Peer {
    id: u64,
    shared: Arc<Shared>,
    settings: ArcSwap<Settings>,
    endpoint: ArcSwapOption<Endpoint>,
    /// What is sent by.
    sending: ArcSwapOption<Session>,
    /// What the way to there carries.
    path: PathMtu,
    timers: Timers,
    place: Place,
    /// Data came again after a keepalive was planned: another one will be due.
    keepalive_again: AtomicBool,
    /// A handshake was begun since the session is near its end and only receives.
    renewing: AtomicBool,
    traffic: Traffic,
    state: Mutex<State>,
}

/// What is behind a peer's lock.
#[derive(Default)]
struct State {
    sessions: Sessions,
    handshaking: Handshaking,
    staging: Staging,
    /// The peer was removed: nothing begins any more.
    retired: bool,
}

/// Counts of a peer.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub received_packets: AtomicU64,
    pub received_octets: AtomicU64,
    pub sent_packets: AtomicU64,
    pub sent_octets: AtomicU64,
    pub handshakes: AtomicU64,
    /// Nanoseconds; 0: never.
    pub last_handshake: AtomicU64,
}

/// Leave to send a run of packets.
#[derive(Debug)]
pub struct Reservation {
    /// What seals them.
    pub session: Arc<Session>,
    /// The number of the first; the others follow.
    pub first_counter: u64,
    /// Where they go.
    pub endpoint: Endpoint,
}

/// A run of messages of one session that were opened.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Where the last of them came from.
    pub source: SocketAddr,
    /// The node's address that it was sent to.
    pub local: IpAddr,
    /// Octets of all of them, headers and tags and all.
    pub octets: u64,
    /// How many of them hold a packet: the others only keep alive.
    pub packets: u64,
}

impl Peer {
    pub(super) fn new(id: u64, shared: Arc<Shared>, settings: Settings) -> Peer {
        let endpoint = settings.endpoint.map(|remote| Arc::new(Endpoint { remote, local: None }));
        Peer {
            id,
            shared,
            settings: ArcSwap::from_pointee(settings),
            endpoint: ArcSwapOption::new(endpoint),
            sending: ArcSwapOption::empty(),
            path: PathMtu::default(),
            timers: Timers::default(),
            place: Place::new(id),
            keepalive_again: AtomicBool::new(false),
            renewing: AtomicBool::new(false),
            traffic: Traffic::default(),
            state: Mutex::default(),
        }
    }

    /// Tells it from every other peer that the device has or had.
    pub fn id(&self) -> u64 {
        self.id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is; `None`: it was not heard yet.
    #[inline]
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint.load().as_deref().copied()
    }

    /// What the way to it carries; `None`: nobody has said that this is less than the tunnel's MTU.
    #[inline]
    pub(super) fn path_mtu(&self, now: Instant) -> Option<usize> {
        self.path.get(now)
    }

    /// Octets of the largest packet that gets to it.
    #[inline]
    pub fn mtu_now(&self, now: Instant) -> usize {
        let mtu = self.shared.mtu.load(Relaxed) as usize;
        self.path_mtu(now).map_or(mtu, |path| path.min(mtu))
    }

    /// The way to it carries no packets inside that are larger than `mtu` octets.
    pub(super) fn narrow(&self, now: Instant, mtu: u32) {
        self.path.lower(now, mtu);
    }

    /// Leave to send `count` packets, whose numbers are taken. `None`: there is no session, or nobody knows where the
    /// peer is; [`Peer::stage`] says which.
    #[inline]
    pub fn reserve(&self, now: Instant, count: u32) -> Option<Reservation> {
        let session = self.sending.load();
        let session = session.as_ref().filter(|session| !session.is_over(now))?;
        let endpoint = self.endpoint()?;
        let first_counter = session.take(count)?;
        if session.is_stale(now) {
            self.want_session(now);
        }
        Some(Reservation { session: Arc::clone(session), first_counter, endpoint })
    }

    /// Whether what it is sent bears this receiver index.
    pub(super) fn sends_by(&self, index: u32) -> bool {
        self.sending.load().as_ref().is_some_and(|session| session.terms().remote_index == index)
    }

    /// Says that a run of messages was sent: how many octets they have together, headers and tags and all, and how
    /// many of them hold a packet.
    #[inline]
    pub fn sent(&self, now: Instant, octets: u64, packets: u64) {
        self.traffic.sent_octets.fetch_add(octets, Relaxed);
        self.traffic.sent_packets.fetch_add(packets, Relaxed);
        self.timers.clear(Timer::Keepalive);
        if packets > 0 && !self.timers.is_set(Timer::Unheard) {
            let jitter = jitter::between((self.id, now.as_nanos()), Duration::ZERO, JITTER);
            self.arm(Timer::Unheard, now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter);
        }
        self.traversed(now);
    }

    /// Says that a run of messages of one of its sessions was opened.
    #[inline]
    pub fn received(&self, now: Instant, session: &Session, run: Received) {
        self.traffic.received_octets.fetch_add(run.octets, Relaxed);
        self.traffic.received_packets.fetch_add(run.packets, Relaxed);
        if !session.is_confirmed() {
            self.confirm(now, session);
        }
        self.roam(run.source, run.local);
        self.timers.clear(Timer::Unheard);
        self.traversed(now);
        if session.terms().initiator && now.since(session.terms().born) >= RENEW_AFTER {
            self.renew(now);
        }
        if run.packets > 0 {
            self.answer_with_silence(now);
        }
    }

    /// A peer that sends is answered within some time, with nothing if there is nothing to say.
    fn answer_with_silence(&self, now: Instant) {
        if !self.timers.is_set(Timer::Keepalive) {
            self.arm(Timer::Keepalive, now + KEEPALIVE_TIMEOUT);
        } else if !self.keepalive_again.load(Relaxed) {
            self.keepalive_again.store(true, Relaxed);
        }
    }

    /// Begins a handshake before a session ends by which we only receive.
    fn renew(&self, now: Instant) {
        if !self.renewing.swap(true, Relaxed) {
            self.want_session(now);
        }
    }

    /// Something authentic went or came.
    fn traversed(&self, now: Instant) {
        let keepalive = self.settings.load().keepalive;
        if !keepalive.is_zero() {
            self.arm(Timer::Persistent, now + keepalive);
        }
    }

    /// Takes in where it speaks from now.
    fn roam(&self, remote: SocketAddr, local: IpAddr) {
        let endpoint = Endpoint { remote, local: Some(local).filter(|local| !local.is_unspecified()) };
        if self.endpoint() != Some(endpoint) {
            self.move_to(endpoint);
        }
    }

    /// Takes in where it is and speaks from. What the way to another address carries nobody has said yet.
    fn move_to(&self, endpoint: Endpoint) {
        let before = self.endpoint.swap(Some(Arc::new(endpoint)));
        if before.is_none_or(|before| before.remote.ip() != endpoint.remote.ip()) {
            self.path.forget();
        }
    }

    /// Forgets the node's address that it was heard at: it may be what does not work any more.
    pub(super) fn forget_local(&self) {
        if let Some(endpoint) = self.endpoint().filter(|endpoint| endpoint.local.is_some()) {
            self.endpoint.store(Some(Arc::new(Endpoint { local: None, ..endpoint })));
        }
    }

    /// Sees to it that a handshake begins, if none is going on.
    fn want_session(&self, now: Instant) {
        if !self.timers.is_set(Timer::Retransmit) && !self.timers.is_set(Timer::Initiate) {
            self.arm(Timer::Initiate, now);
        }
    }

    fn arm(&self, timer: Timer, at: Instant) {
        self.timers.set(timer, at);
        self.shared.schedule.arm(&self.place, at);
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }
}

/// From this age on a session by which we only receive is renewed: there is time for one handshake and a keepalive.
const RENEW_AFTER: Duration = REJECT_AFTER.saturating_sub(KEEPALIVE_TIMEOUT).saturating_sub(REKEY_TIMEOUT);

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} ({:?})", self.id, self.settings.load().keys.last().map(|key| key.public))
    }
}
