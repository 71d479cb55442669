//! Sessions that come and go.
//!
//! A session that we began is used at once. One that the peer began is used when the peer has shown, by a message in
//! it, that it has the keys. Older ones are kept for what is still on its way.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::handshake::Keys;
use super::super::index::Entry;
use super::super::session::{Session, Terms};
use super::super::timers::{Timer, ZERO_AFTER};
use super::super::{PublicKey, Refusal};
use super::{Peer, State};
use crate::time::Instant;

/// How many sessions are kept beside the one that is sent by. The kernel has one; with more, nothing is lost when both
/// ends begin a handshake at the same time while packets are on their way.
const EARLIER: usize = 3;

/// The sessions of a peer.
#[derive(Default)]
pub(super) struct Sessions {
    /// What is sent by, and received.
    current: Option<Arc<Session>>,
    /// Begun by the peer, and not heard of since.
    next: Option<Arc<Session>>,
    /// What was sent by before, the latest last.
    earlier: Vec<Arc<Session>>,
}

impl Sessions {
    pub fn current(&self) -> Option<&Arc<Session>> {
        self.current.as_ref()
    }

    fn take_all(&mut self) -> impl Iterator<Item = Arc<Session>> {
        self.current.take().into_iter().chain(self.next.take()).chain(std::mem::take(&mut self.earlier))
    }
}

impl Peer {
    /// Makes a session of the keys that a handshake gave, and uses it or waits for the peer to.
    pub(super) fn establish(
        self: &Arc<Peer>,
        state: &mut State,
        terms: Terms,
        keys: &Keys,
    ) -> Result<Arc<Session>, Refusal> {
        let Some(session) = Session::new(terms, keys).map(Arc::new) else {
            self.shared.indices.remove(terms.local_index);
            return Err(Refusal::AuthenticationFailed);
        };
        let entry = Entry::Session(Arc::clone(self), Arc::clone(&session));
        self.shared.indices.replace(terms.local_index, entry);
        let unheard = state.sessions.next.take();
        if terms.initiator {
            // Both began at the same time: the peer may send by either.
            state.sessions.earlier.extend(unheard);
            self.make_current(state, Arc::clone(&session));
        } else {
            self.end(unheard);
            state.sessions.next = Some(Arc::clone(&session));
        }
        self.prune(state, terms.born);
        self.arm(Timer::Zero, terms.born + ZERO_AFTER);
        Ok(session)
    }

    fn make_current(&self, state: &mut State, session: Arc<Session>) {
        let worked = (session.terms().local, session.terms().remote);
        state.handshaking.worked = Some(worked);
        self.sending.store(Some(Arc::clone(&session)));
        let before = state.sessions.current.replace(session);
        state.sessions.earlier.extend(before);
    }

    /// Lets go what is over, and what is too much.
    fn prune(&self, state: &mut State, now: Instant) {
        let earlier = &mut state.sessions.earlier;
        let excess = earlier.len().saturating_sub(EARLIER);
        self.end(earlier.drain(..excess));
        self.end(earlier.extract_if(.., |session| session.is_over(now)));
    }

    fn end(&self, sessions: impl IntoIterator<Item = Arc<Session>>) {
        for session in sessions {
            self.shared.indices.remove(session.terms().local_index);
        }
    }

    /// The peer has shown that it has the keys of a session that it began.
    pub(super) fn confirm(&self, now: Instant, session: &Session) {
        let mut state = self.lock();
        let is_next = state.sessions.next.as_ref().is_some_and(|next| std::ptr::eq(&**next, session));
        session.confirm();
        let Some(next) = state.sessions.next.take_if(|_| is_next) else { return };
        self.make_current(&mut state, next);
        self.prune(&mut state, now);
        self.complete(&mut state, now);
        if !state.staging.is_empty() {
            self.arm(Timer::Flush, now);
        }
    }

    /// A handshake is complete: both have the keys.
    pub(super) fn complete(&self, state: &mut State, now: Instant) {
        self.timers.clear(Timer::Retransmit);
        self.timers.clear(Timer::Initiate);
        self.renewing.store(false, Relaxed);
        state.handshaking.attempts = 0;
        self.traffic.handshakes.fetch_add(1, Relaxed);
        self.traffic.last_handshake.store(now.as_nanos().max(1), Relaxed);
    }

    /// Ends the sessions of which this is true. Says whether there is none left to send by.
    pub(super) fn end_sessions(&self, state: &mut State, which: impl Fn(&Session) -> bool) -> bool {
        let sessions = &mut state.sessions;
        let next = sessions.next.take_if(|session| which(session));
        let current = sessions.current.take_if(|session| which(session));
        let earlier = sessions.earlier.extract_if(.., |session| which(session));
        self.end(next.into_iter().chain(earlier));
        let ended = current.is_some();
        if ended {
            self.sending.store(None);
            self.end(current);
        }
        ended
    }

    /// Wipes all keys.
    pub(super) fn wipe(&self, state: &mut State) {
        self.sending.store(None);
        self.end(state.sessions.take_all());
        self.abandon(state);
    }

    /// The keys of both ends that the session which is sent by was made with.
    pub(in super::super) fn keys_in_use(&self) -> Option<(PublicKey, PublicKey)> {
        self.sending.load().as_ref().map(|session| (session.terms().local, session.terms().remote))
    }
}
