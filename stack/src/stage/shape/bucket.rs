//! The bucket of one port and direction: it says when a frame may go (the generic cell rate algorithm, ITU-T I.371).
//!
//! Each frame takes the time that the rate needs for it. One moment says it all: up to when time has been taken. Time
//! that nobody took can still be taken later, the burst's worth at most; a frame that finds too little of it waits. A
//! frame that is larger than the burst goes when the bucket is full, and what it took too much is paid for afterwards.
//!
//! Workers share a bucket. It only ever gives time away, so departures of one worker are in the order of its asking.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::config::RateSpec;
use crate::time::Instant;

/// Parts of a nanosecond in which time is counted: 64 octets at 10 Gbit/s are 51.2 ns.
const TICKS: u64 = 16;

/// Ticks that are taken to have passed before the origin of time, so that a new bucket is full: those of the largest
/// burst at the lowest rate, and more.
const BEFORE: u64 = 1 << 57;

/// When frames may go.
#[derive(Debug)]
pub(crate) struct Bucket {
    spec: RateSpec,
    /// Ticks of the burst.
    burst: u64,
    /// Ticks that a frame may wait for others.
    queue: u64,
    /// Up to when time has been taken, in ticks.
    taken: AtomicU64,
}

/// A frame would have to wait too long for those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLate;

/// What a bucket says of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may go at this moment, which may be over.
    At(Instant),
    /// Too much waits before it.
    Full,
    /// It would have to wait, and there is no room for it to do so.
    NoRoom,
}

impl Bucket {
    /// A full one.
    pub fn new(spec: RateSpec) -> Bucket {
        Bucket {
            burst: cost(spec.burst_bits.div_ceil(8), spec.bits_per_second),
            queue: ticks(spec.queue),
            spec,
            taken: AtomicU64::new(0),
        }
    }

    /// What it was made of.
    pub fn spec(&self) -> &RateSpec {
        &self.spec
    }

    /// When a frame of so many octets may go that came `now`; then its time is taken. `has_room`: it can be kept until
    /// then. `is_behind`: it has to wait in any case, since others before it do.
    pub fn admit(&self, now: Instant, octets: u64, has_room: bool, is_behind: bool) -> Admission {
        let mut admission = Admission::Full;
        // The last try says what came of it.
        let _ = self.taken.fetch_update(Relaxed, Relaxed, |taken| {
            let Ok((departure, end)) = self.plan(taken, now, octets) else {
                admission = Admission::Full;
                return None;
            };
            if !has_room && (is_behind || departure > now) {
                admission = Admission::NoRoom;
                return None;
            }
            admission = Admission::At(departure);
            Some(end)
        });
        admission
    }

    /// When such a frame would go. Nothing is taken.
    pub fn outlook(&self, now: Instant, octets: u64) -> Result<Instant, TooLate> {
        self.plan(self.taken.load(Relaxed), now, octets).map(|(departure, _)| departure)
    }

    /// When a frame may go that another bucket had let go at `promised`: at that moment, or earlier if this one allows.
    pub fn readmit(&self, now: Instant, octets: u64, promised: Instant) -> Instant {
        let mut departure = promised;
        let latest = in_ticks(promised.max(now));
        let _ = self.taken.fetch_update(Relaxed, Relaxed, |taken| {
            let (start, cost) = (self.start(taken, now), self.cost(octets));
            departure = self.departure(start, now, cost).min(promised);
            Some(taken.max(start.saturating_add(cost).min(latest)))
        });
        departure
    }

    /// When a frame goes where time is taken up to `taken`, and up to when it is then.
    fn plan(&self, taken: u64, now: Instant, octets: u64) -> Result<(Instant, u64), TooLate> {
        let (start, cost) = (self.start(taken, now), self.cost(octets));
        if start > in_ticks(now).saturating_add(self.queue) {
            return Err(TooLate);
        }
        Ok((self.departure(start, now, cost), start.saturating_add(cost)))
    }

    /// The first moment whose time can still be taken.
    fn start(&self, taken: u64, now: Instant) -> u64 {
        taken.max(in_ticks(now).saturating_sub(self.burst))
    }

    /// When the bucket holds what a frame needs, or is full.
    fn departure(&self, start: u64, now: Instant, cost: u64) -> Instant {
        let ready = start.saturating_add(cost.min(self.burst));
        Instant::from_nanos(ready.saturating_sub(BEFORE).div_ceil(TICKS)).max(now)
    }

    fn cost(&self, octets: u64) -> u64 {
        cost(octets, self.spec.bits_per_second)
    }
}

/// Ticks that so many octets take, rounded up: the rate is never exceeded.
fn cost(octets: u64, bits_per_second: u64) -> u64 {
    const TICKS_PER_SECOND: u64 = 1_000_000_000 * TICKS;
    match octets.checked_mul(8 * TICKS_PER_SECOND) {
        Some(bits) => bits.div_ceil(bits_per_second.max(1)),
        None => {
            let bits = u128::from(octets) * u128::from(8 * TICKS_PER_SECOND);
            u64::try_from(bits.div_ceil(bits_per_second.max(1).into())).unwrap_or(u64::MAX)
        }
    }
}

fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).saturating_mul(TICKS)
}

/// Good for 36 years from the origin of time on.
fn in_ticks(at: Instant) -> u64 {
    at.as_nanos().saturating_mul(TICKS).saturating_add(BEFORE)
}

#[cfg(test)]
mod tests;
