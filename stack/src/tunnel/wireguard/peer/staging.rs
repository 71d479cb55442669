//! Packets that wait for a session.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::super::session::OVERHEAD;
use super::super::timers::Timer;
use super::super::{Refusal, wire};
use super::Peer;
use crate::time::Instant;

/// Packets that wait for one peer.
const PACKETS: usize = 128;
/// Octets that wait for all peers of a device.
const OCTETS: usize = 16 << 20;
/// Octets of the longest packet that a UDP datagram can carry, over IPv4.
const LONGEST: usize = 65_535 - 28 - OVERHEAD;
const _: () = assert!(OVERHEAD == wire::HEADER_LENGTH + wire::TAG_LENGTH);

/// What waits over all peers.
#[derive(Debug, Default)]
pub(in super::super) struct Store {
    octets: AtomicUsize,
}

impl Store {
    fn take(&self, octets: usize) -> bool {
        let fits = |taken: usize| Some(taken + octets).filter(|sum| *sum <= OCTETS);
        self.octets.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    fn give_back(&self, octets: usize) {
        self.octets.fetch_sub(octets, Relaxed);
    }
}

/// What waits for one peer.
#[derive(Default)]
pub(super) struct Staging {
    packets: VecDeque<Vec<u8>>,
}

impl Staging {
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn pop(&mut self, store: &Store) -> Option<Vec<u8>> {
        let packet = self.packets.pop_front()?;
        store.give_back(packet.len());
        Some(packet)
    }

    /// Lets all go, and says how many.
    pub fn clear(&mut self, store: &Store) -> usize {
        std::iter::from_fn(|| self.pop(store)).count()
    }
}

impl Peer {
    /// Lets a packet wait for a session, which is asked for. Says how many older ones had to go to make room
    /// ([`Refusal::StagingFull`]): 128 may wait.
    pub fn stage(&self, now: Instant, packet: &[u8]) -> Result<usize, Refusal> {
        if packet.len() > LONGEST {
            return Err(Refusal::Malformed);
        }
        if self.endpoint().is_none() {
            return Err(Refusal::NoEndpoint);
        }
        let mut state = self.lock();
        if state.retired {
            return Err(Refusal::PeerRemoved);
        }
        if !self.shared.store.take(packet.len()) {
            return Err(Refusal::StagingFull);
        }
        state.staging.packets.push_back(packet.to_vec());
        let excess = state.staging.len().saturating_sub(PACKETS);
        for _ in 0..excess {
            state.staging.pop(&self.shared.store);
        }
        drop(state);
        // There may be a session since the caller asked for it.
        let usable = self.sending.load().as_ref().is_some_and(|session| !session.is_over(now));
        if usable {
            self.arm(Timer::Flush, now);
        } else {
            self.want_session(now);
        }
        Ok(excess)
    }
}
