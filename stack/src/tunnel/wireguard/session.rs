//! A session: two keys, the numbers of what is sent, and the window of what was received.
//!
//! Messages are sealed and opened where they lie. Numbers are taken before, many with one addition, so that workers
//! may seal at the same time. When a session is used is for `peer`.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::handshake::Keys;
use super::noise::{cipher, nonce};
use super::replay::Window;
use super::wire::{DataHeader, HEADER_LENGTH, TAG_LENGTH};
use super::{PublicKey, Refusal};
use crate::time::Instant;

/// Octets by which a message is longer than what is sealed in it.
pub const OVERHEAD: usize = HEADER_LENGTH + TAG_LENGTH;

/// After this many messages a session is renewed.
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// After this many it is over.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// After this time who began the session renews it, when sending.
pub(super) const REKEY_AFTER: Duration = Duration::from_secs(120);
/// After this time it is over.
pub(super) const REJECT_AFTER: Duration = Duration::from_secs(180);

/// A packet's length with padding, by which it tells less of what is inside: a multiple of 16 octets, but not more than
/// the MTU inside the tunnel.
#[inline]
pub const fn padded(length: usize, mtu: usize) -> usize {
    let multiple = length.next_multiple_of(16);
    if multiple <= mtu {
        multiple
    } else if length < mtu {
        mtu
    } else {
        length
    }
}

/// Whom a session is between, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub local_index: u32,
    pub remote_index: u32,
    pub local: PublicKey,
    pub remote: PublicKey,
    /// Whether we began it.
    pub initiator: bool,
    pub born: Instant,
}

/// A session with a peer.
pub struct Session {
    terms: Terms,
    sealing: LessSafeKey,
    opening: LessSafeKey,
    /// The number of the next message to send.
    counter: AtomicU64,
    /// One more than the greatest number received: greater ones need no look into the window.
    next: AtomicU64,
    window: Mutex<Window>,
    /// Whether it is known that the peer has the keys.
    confirmed: AtomicBool,
}

impl Session {
    /// `None`: the keys cannot be used.
    pub(super) fn new(terms: Terms, keys: &Keys) -> Option<Session> {
        Some(Session {
            sealing: cipher(&keys.sending)?,
            opening: cipher(&keys.receiving)?,
            counter: AtomicU64::new(0),
            next: AtomicU64::new(0),
            window: Mutex::new(Window::new()),
            confirmed: AtomicBool::new(terms.initiator),
            terms,
        })
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether it is over.
    #[inline]
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.since(self.terms.born) >= REJECT_AFTER
    }

    /// Whether sending should renew it.
    #[inline]
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.counter.load(Relaxed) > REKEY_AFTER_MESSAGES
            || (self.terms.initiator && now.since(self.terms.born) >= REKEY_AFTER)
    }

    #[inline]
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed.load(Acquire)
    }

    pub(super) fn confirm(&self) {
        self.confirmed.store(true, Release);
    }

    /// Takes the numbers of `count` messages: the first of them. `None`: there are no more.
    #[inline]
    pub(super) fn take(&self, count: u32) -> Option<u64> {
        let count = u64::from(count);
        let fits = |first: u64| first.checked_add(count).is_some_and(|end| end <= REJECT_AFTER_MESSAGES);
        // Asked before, too, so that those who are refused do not bring the counter around to its start.
        if !fits(self.counter.load(Relaxed)) {
            return None;
        }
        let first = self.counter.fetch_add(count, Relaxed);
        fits(first).then_some(first)
    }

    /// Seals a packet where it lies. The slot is the message: 16 octets for the header, the packet of `length` octets,
    /// padding up to [`padded`], 16 octets for the tag. `counter` is one of the numbers that were reserved, and is used
    /// once. It is refused if the slot is too short; then nothing of the packet is left in it.
    #[inline]
    pub fn seal(&self, counter: u64, slot: &mut [u8], length: usize) -> Result<(), Refusal> {
        let sealed = slot.len().checked_sub(OVERHEAD).filter(|sealed| length <= *sealed);
        let made = sealed.and_then(|sealed| self.seal_padded(counter, slot, length, sealed));
        made.ok_or_else(|| {
            slot.fill(0);
            Refusal::Malformed
        })
    }

    #[inline]
    fn seal_padded(&self, counter: u64, slot: &mut [u8], length: usize, sealed: usize) -> Option<()> {
        let header = DataHeader { receiver: self.terms.remote_index, counter };
        slot[..HEADER_LENGTH].copy_from_slice(&header.emit());
        let (packet, tag) = slot[HEADER_LENGTH..].split_at_mut(sealed);
        packet[length..].fill(0);
        let made = self.sealing.seal_in_place_separate_tag(nonce(counter), Aad::empty(), packet);
        tag.copy_from_slice(made.ok()?.as_ref());
        Some(())
    }

    /// Opens a data message where it lies: where in it the packet is, with its padding. Nothing: it keeps alive.
    #[inline]
    pub fn open(&self, now: Instant, message: &mut [u8]) -> Result<Range<usize>, Refusal> {
        let header = DataHeader::parse(message)?;
        if header.receiver != self.terms.local_index {
            return Err(Refusal::UnknownIndex);
        }
        if self.is_over(now) || header.counter >= REJECT_AFTER_MESSAGES {
            return Err(Refusal::KeyExpired);
        }
        if !self.may_be_new(header.counter) {
            return Err(Refusal::Replayed);
        }
        let sealed = &mut message[HEADER_LENGTH..];
        let opened = self.opening.open_in_place(nonce(header.counter), Aad::empty(), sealed);
        let length = opened.map_err(|_| Refusal::AuthenticationFailed)?.len();
        // Only now: what is not authentic must not move the window.
        if !self.commit(header.counter) {
            return Err(Refusal::Replayed);
        }
        Ok(HEADER_LENGTH..HEADER_LENGTH + length)
    }

    /// Whether it is worth opening a message.
    fn may_be_new(&self, counter: u64) -> bool {
        counter >= self.next.load(Relaxed)
            || self.window.lock().unwrap_or_else(PoisonError::into_inner).is_new(counter)
    }

    fn commit(&self, counter: u64) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let new = window.commit(counter);
        if new && counter >= self.next.load(Relaxed) {
            self.next.store(counter + 1, Relaxed);
        }
        new
    }

    #[cfg(test)]
    pub(super) fn set_counter(&self, counter: u64) {
        self.counter.store(counter, Relaxed);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {:08x} with {}", self.terms.local_index, self.terms.remote)
    }
}

#[cfg(test)]
mod tests;
