//! Handshakes with a peer: beginning, answering, and taking in answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::super::cookie::Jar;
use super::super::event::{Event, HANDSHAKE_TOS, Transmit};
use super::super::handshake::{Initiator, LocalKey, RemoteKey, Responder};
use super::super::index::Entry;
use super::super::session::Terms;
use super::super::tai64n::{Stamper, Tai64n, Watermark};
use super::super::timers::{JITTER, REKEY_TIMEOUT, Timer};
use super::super::wire::{CookieReply, Maced, Response};
use super::super::{Moment, PublicKey, Refusal};
use super::keys::{Pair, choose};
use super::{Peer, State};
use crate::jitter;
use crate::time::Instant;

/// Initiations of one peer are at least this far apart, as the kernel has it: 50 a second.
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

/// An initiation that was sent and not answered.
struct Pending {
    initiator: Initiator,
    index: u32,
    local: PublicKey,
    remote: RemoteKey,
}

/// What a peer's handshakes leave behind.
#[derive(Default)]
pub(super) struct Handshaking {
    pending: Option<Pending>,
    /// Initiations since the first that was not answered.
    pub attempts: u32,
    /// The keys of the last session that was sent by.
    pub worked: Option<Pair>,
    /// When the last message of a handshake was sent.
    sent: Option<Instant>,
    /// When the last initiation was taken in.
    taken: Option<Instant>,
    stamper: Stamper,
    /// For each key of the peer: another device may have it, with a clock of its own.
    watermarks: Vec<(PublicKey, Watermark)>,
    jar: Jar,
}

impl Handshaking {
    fn watermark(&mut self, key: PublicKey) -> &mut Watermark {
        let position = self.watermarks.iter().position(|(own, _)| *own == key).unwrap_or_else(|| {
            self.watermarks.push((key, Watermark::default()));
            self.watermarks.len() - 1
        });
        &mut self.watermarks[position].1
    }
}

/// An initiation that was read.
pub(in super::super) struct Offer<'a> {
    pub responder: Responder,
    pub local: &'a LocalKey,
    pub remote: RemoteKey,
    pub timestamp: Tai64n,
    /// The peer's index.
    pub index: u32,
}

impl Peer {
    /// Sends an initiation, unless one was sent a moment ago.
    pub(super) fn initiate(
        self: &Arc<Peer>,
        state: &mut State,
        moment: Moment,
        locals: &[Arc<LocalKey>],
        events: &mut Vec<Event>,
    ) {
        let Some(endpoint) = self.endpoint() else { return };
        let again =
            state.handshaking.sent.map(|sent| sent + REKEY_TIMEOUT).filter(|again| *again > moment.now);
        if let Some(again) = again {
            if !self.timers.is_set(Timer::Retransmit) {
                self.arm(Timer::Initiate, again);
            }
            return;
        }
        self.abandon(state);
        // Where it cannot be made, since a key is none of Curve25519's, another may do next time.
        if let Some(message) = self.begin(state, moment, locals) {
            events.push(Event::Transmit(Transmit::new(endpoint, HANDSHAKE_TOS, message)));
        }
        self.sent_handshake(state, moment.now);
        let jitter = jitter::between((self.id, moment.now.as_nanos(), 1), Duration::ZERO, JITTER);
        self.arm(Timer::Retransmit, moment.now + REKEY_TIMEOUT + jitter);
    }

    /// Makes an initiation. `None`: there are no keys, or no randomness.
    fn begin(
        self: &Arc<Peer>,
        state: &mut State,
        moment: Moment,
        locals: &[Arc<LocalKey>],
    ) -> Option<Vec<u8>> {
        let handshaking = &mut state.handshaking;
        let settings = self.settings.load();
        let (local, remote) = choose(locals, &settings.keys, handshaking.worked, handshaking.attempts)?;
        let index = self.shared.indices.insert(|_| Entry::Handshake(Arc::clone(self)))?;
        let timestamp = handshaking.stamper.stamp(moment.wall);
        let Ok((initiator, mut message)) = Initiator::begin(&local, &remote.public, index, timestamp) else {
            self.shared.indices.remove(index);
            return None;
        };
        handshaking.jar.seal(moment.now, &remote.macs, &mut message);
        handshaking.pending = Some(Pending { initiator, index, local: local.public, remote });
        Some(message.to_vec())
    }

    /// Gives up an initiation that was not answered.
    pub(super) fn abandon(&self, state: &mut State) {
        if let Some(pending) = state.handshaking.pending.take() {
            self.shared.indices.remove(pending.index);
        }
    }

    /// Gives up an initiation that one of these keys is not good for.
    pub(super) fn abandon_unless(&self, state: &mut State, good: impl Fn(&PublicKey, &PublicKey) -> bool) {
        let pending = state.handshaking.pending.as_ref();
        if pending.is_some_and(|pending| !good(&pending.local, &pending.remote.public)) {
            self.abandon(state);
        }
    }

    fn sent_handshake(&self, state: &mut State, now: Instant) {
        state.handshaking.sent = Some(now);
        self.timers.clear(Timer::Keepalive);
        self.timers.clear(Timer::Initiate);
        self.traversed(now);
    }

    /// Answers an initiation of this peer.
    pub(in super::super) fn answer(
        self: &Arc<Peer>,
        moment: Moment,
        source: SocketAddr,
        arrived_at: IpAddr,
        offer: Offer<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let now = moment.now;
        let mut state = self.lock();
        if state.retired {
            return Err(Refusal::PeerRemoved);
        }
        state.handshaking.check(moment, &offer)?;
        let index = self.shared.indices.insert(|_| Entry::Handshake(Arc::clone(self)));
        let index = index.ok_or(Refusal::AuthenticationFailed)?;
        let settings = self.settings.load();
        let Ok((mut message, keys)) = offer.responder.answer(index, offer.index, settings.psk.as_ref())
        else {
            self.shared.indices.remove(index);
            return Err(Refusal::AuthenticationFailed);
        };
        state.handshaking.jar.seal(now, &offer.remote.macs, &mut message);
        let terms = Terms {
            local_index: index,
            remote_index: offer.index,
            local: offer.local.public,
            remote: offer.remote.public,
            initiator: false,
            born: now,
        };
        self.establish(&mut state, terms, &keys)?;
        self.roam(source, arrived_at);
        self.timers.clear(Timer::Unheard);
        self.sent_handshake(&mut state, now);
        let endpoint = super::Endpoint { remote: source, local: self.endpoint().and_then(|own| own.local) };
        events.push(Event::Transmit(Transmit::new(endpoint, HANDSHAKE_TOS, message.to_vec())));
        Ok(())
    }

    /// Takes in the answer to an initiation.
    pub(in super::super) fn take_response(
        self: &Arc<Peer>,
        moment: Moment,
        source: SocketAddr,
        arrived_at: IpAddr,
        response: Response<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let now = moment.now;
        let mut state = self.lock();
        let settings = self.settings.load();
        let mut pending = state.handshaking.pending.take().ok_or(Refusal::UnknownIndex)?;
        if pending.index != response.receiver() {
            state.handshaking.pending = Some(pending);
            return Err(Refusal::UnknownIndex);
        }
        if pending.initiator.accept(response, settings.psk.as_ref()).is_err() {
            // It may be forged: the true one can still come.
            state.handshaking.pending = Some(pending);
            return Err(Refusal::AuthenticationFailed);
        }
        let terms = Terms {
            local_index: pending.index,
            remote_index: response.sender(),
            local: pending.local,
            remote: pending.remote.public,
            initiator: true,
            born: now,
        };
        self.establish(&mut state, terms, &pending.initiator.finish())?;
        self.roam(source, arrived_at);
        self.timers.clear(Timer::Unheard);
        self.complete(&mut state, now);
        // The peer waits for something in the session, before it uses it.
        self.flush_or_keep_alive(&mut state, now, events);
        Ok(())
    }

    /// Takes in a cookie for the last message of a handshake.
    pub(in super::super) fn take_cookie(&self, now: Instant, reply: CookieReply<'_>) -> Result<(), Refusal> {
        let accepted = self.lock().handshaking.jar.accept(now, reply);
        if accepted { Ok(()) } else { Err(Refusal::AuthenticationFailed) }
    }
}

impl Handshaking {
    /// Whether an authentic initiation is new, and not too soon. If it is, it is taken in.
    fn check(&mut self, moment: Moment, offer: &Offer<'_>) -> Result<(), Refusal> {
        if !self.watermark(offer.remote.public).is_new(offer.timestamp, moment.wall) {
            return Err(Refusal::HandshakeReplayed);
        }
        if self.taken.is_some_and(|taken| moment.now < taken + INITIATION_INTERVAL) {
            return Err(Refusal::Flood);
        }
        self.taken = Some(moment.now);
        self.watermark(offer.remote.public).accept(offer.timestamp, moment.wall);
        Ok(())
    }
}
