//! What a peer does when a timer is due, and what is done to it by the control side.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::event::{Event, Transmit};
use super::super::handshake::LocalKey;
use super::super::session::{OVERHEAD, padded};
use super::super::timers::{KEEPALIVE_TIMEOUT, MAX_ATTEMPTS, Timer, ZERO_AFTER};
use super::super::{Inner, Moment, Refusal};
use super::{Endpoint, Peer, Settings, State};
use crate::time::Instant;

impl Peer {
    /// Does what is due, and says when to come again.
    pub(in super::super) fn run(
        self: &Arc<Peer>,
        moment: Moment,
        locals: &[Arc<LocalKey>],
        events: &mut Vec<Event>,
    ) {
        // First: a timer that is set from here on brings the peer up again.
        self.shared.schedule.release(&self.place);
        let mut state = self.lock();
        for timer in Timer::ALL {
            if !state.retired && self.timers.take_due(timer, moment.now) {
                self.expire(&mut state, timer, moment, locals, events);
            }
        }
        if let Some(at) = self.timers.earliest().filter(|_| !state.retired) {
            self.shared.schedule.arm(&self.place, at);
        }
    }

    fn expire(
        self: &Arc<Peer>,
        state: &mut State,
        timer: Timer,
        moment: Moment,
        locals: &[Arc<LocalKey>],
        events: &mut Vec<Event>,
    ) {
        let now = moment.now;
        match timer {
            Timer::Zero => self.wipe(state),
            Timer::Retransmit if state.handshaking.attempts >= MAX_ATTEMPTS => {
                self.give_up(state, now, events)
            }
            Timer::Retransmit => {
                state.handshaking.attempts += 1;
                self.forget_local();
                self.initiate(state, moment, locals, events);
            }
            Timer::Initiate => self.initiate(state, moment, locals, events),
            Timer::Unheard => {
                self.forget_local();
                self.initiate(state, moment, locals, events);
            }
            Timer::Flush => {
                if !self.flush(state, now, events) {
                    self.want_session(now);
                }
            }
            Timer::Keepalive => self.keep_alive(state, now, events),
            // It may have been turned off since.
            Timer::Persistent if self.settings.load().keepalive.is_zero() => {}
            Timer::Persistent => {
                // Set again now, since nothing may go: while the peer cannot be reached, it is tried again by this.
                self.traversed(now);
                if !self.flush_or_keep_alive(state, now, events) {
                    self.want_session(now);
                }
            }
        }
    }

    /// The peer did not answer for 90 seconds.
    fn give_up(&self, state: &mut State, now: Instant, events: &mut Vec<Event>) {
        self.timers.clear(Timer::Keepalive);
        self.abandon(state);
        state.handshaking.attempts = 0;
        let packets = state.staging.clear(&self.shared.store);
        if packets > 0 {
            events.push(Event::Dropped { refusal: Refusal::Unanswered, packets });
        }
        if !self.timers.is_set(Timer::Zero) {
            self.arm(Timer::Zero, now + ZERO_AFTER);
        }
    }

    fn keep_alive(&self, state: &mut State, now: Instant, events: &mut Vec<Event>) {
        let again = self.keepalive_again.swap(false, Relaxed);
        if !self.flush_or_keep_alive(state, now, events) {
            self.want_session(now);
        }
        if again {
            self.arm(Timer::Keepalive, now + KEEPALIVE_TIMEOUT);
        }
    }

    /// Sends what waits, or an empty packet if nothing does. Says whether there was a session.
    pub(super) fn flush_or_keep_alive(
        &self,
        state: &mut State,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> bool {
        if state.staging.is_empty() { self.seal(now, &[], events) } else { self.flush(state, now, events) }
    }

    /// Sends what waits. Says whether all of it went.
    fn flush(&self, state: &mut State, now: Instant, events: &mut Vec<Event>) -> bool {
        while !state.staging.is_empty() {
            if self.reserve(now, 0).is_none() {
                return false;
            }
            let Some(packet) = state.staging.pop(&self.shared.store) else { break };
            self.seal(now, &packet, events);
        }
        true
    }

    /// Sends one packet. Says whether there was a session.
    fn seal(&self, now: Instant, packet: &[u8], events: &mut Vec<Event>) -> bool {
        let Some(reservation) = self.reserve(now, 1) else { return false };
        let mut slot = vec![0; OVERHEAD + padded(packet.len(), self.mtu_now(now))];
        slot[super::super::wire::HEADER_LENGTH..][..packet.len()].copy_from_slice(packet);
        if reservation.session.seal(reservation.first_counter, &mut slot, packet.len()).is_ok() {
            self.sent(now, slot.len() as u64, u64::from(!packet.is_empty()));
            let ecn = Inner::parse(packet).map_or(0, |inner| inner.ecn);
            let message = Transmit::new(reservation.endpoint, ecn, slot);
            events.push(Event::Transmit(Transmit { packet: packet.len(), ..message }));
        }
        true
    }

    /// Takes in what it is told anew. What was there lives on as far as it is still true.
    pub(in super::super) fn configure(&self, now: Instant, settings: Settings, locals: &[Arc<LocalKey>]) {
        let mut state = self.lock();
        let before = self.settings.load_full();
        let endpoint = settings.endpoint.filter(|_| settings.endpoint != before.endpoint);
        let keepalive = settings.keepalive;
        self.settings.store(Arc::new(settings));
        let settings = self.settings.load();
        if let Some(remote) = endpoint {
            self.move_to(Endpoint { remote, local: None });
        }
        let is_ours = |key| locals.iter().any(|local| local.public == key);
        self.abandon_unless(&mut state, |local, remote| is_ours(*local) && settings.has(remote));
        // What the peer's old key opened is closed with it.
        let ended = self.end_sessions(&mut state, |session| !settings.has(&session.terms().remote));
        // With an old key of ours nothing was wrong: the session serves until there is another.
        let outdated = state.sessions.current().is_some_and(|session| !is_ours(session.terms().local));
        if outdated || (ended && !state.staging.is_empty()) {
            self.want_session(now);
        }
        drop(state);
        if !keepalive.is_zero() && keepalive != before.keepalive {
            self.arm(Timer::Persistent, now);
        }
    }

    /// Begins to keep the peer reachable, if that is wanted.
    pub(in super::super) fn start(&self, now: Instant) {
        if !self.settings.load().keepalive.is_zero() {
            self.arm(Timer::Persistent, now);
        }
    }

    /// Ends all that there is with this peer. Says how many packets waited.
    pub(in super::super) fn retire(&self) -> usize {
        let mut state = self.lock();
        state.retired = true;
        self.wipe(&mut state);
        let waiting = state.staging.clear(&self.shared.store);
        drop(state);
        self.shared.schedule.release(&self.place);
        waiting
    }

    /// How many packets wait.
    pub(in super::super) fn waiting(&self) -> usize {
        self.lock().staging.len()
    }
}
