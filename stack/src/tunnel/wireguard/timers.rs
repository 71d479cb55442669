//! A peer's timers, with the times of the kernel's.
//!
//! They are plain numbers that workers set and clear without a lock. When the earliest of them is due,
//! `schedule` knows; what is done then, `peer` does.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::time::Instant;

/// An initiation that was not answered is followed by another after this time.
pub(super) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// So that two peers do not go on beginning at the same time, up to this much later.
pub(super) const JITTER: Duration = Duration::from_millis(333);
/// Initiations after the first one before the peer is given up: 90 seconds.
pub(super) const MAX_ATTEMPTS: u32 = 90 / 5;
/// Who only receives says so after this time.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Keys are wiped this long after the last of them were made.
pub(super) const ZERO_AFTER: Duration = Duration::from_secs(3 * 180);

/// What is to be done at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Begin a handshake: there is something to send and no good session.
    Initiate,
    /// Send what waits.
    Flush,
    /// The initiation was not answered.
    Retransmit,
    /// Data came and nothing went: show that we are there.
    Keepalive,
    /// Data went and nothing came: the peer may have lost its session.
    Unheard,
    /// Wipe the keys.
    Zero,
    /// Nothing went for as long as firewalls may remember.
    Persistent,
}

impl Timer {
    pub const ALL: [Timer; 7] = [
        Timer::Zero,
        Timer::Retransmit,
        Timer::Initiate,
        Timer::Unheard,
        Timer::Flush,
        Timer::Keepalive,
        Timer::Persistent,
    ];
}

/// When each timer is due.
#[derive(Debug, Default)]
pub(super) struct Timers([AtomicU64; Timer::ALL.len()]);

/// The number of a timer that is not set. Nothing is due at the origin of time: such a timer is set a nanosecond later.
const UNSET: u64 = 0;

impl Timers {
    fn slot(&self, timer: Timer) -> &AtomicU64 {
        &self.0[timer as usize]
    }

    pub fn set(&self, timer: Timer, at: Instant) {
        // The order between this and what the schedule knows matters: see there.
        self.slot(timer).store(at.as_nanos().max(1), SeqCst);
    }

    pub fn clear(&self, timer: Timer) {
        if self.is_set(timer) {
            self.slot(timer).store(UNSET, SeqCst);
        }
    }

    pub fn is_set(&self, timer: Timer) -> bool {
        self.slot(timer).load(SeqCst) != UNSET
    }

    /// Clears a timer that is due, and says whether it was.
    pub fn take_due(&self, timer: Timer, now: Instant) -> bool {
        let due = |at| (at != UNSET && at <= now.as_nanos()).then_some(UNSET);
        self.slot(timer).fetch_update(SeqCst, SeqCst, due).is_ok()
    }

    /// When the first of them is due.
    pub fn earliest(&self) -> Option<Instant> {
        let set = self.0.iter().map(|slot| slot.load(SeqCst)).filter(|at| *at != UNSET);
        set.min().map(Instant::from_nanos)
    }
}
