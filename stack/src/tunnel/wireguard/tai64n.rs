//! Timestamps of initiations (TAI64N: <https://cr.yp.to/libtai/tai64.html>), by which replayed ones are told.
//!
//! A peer must see greater and greater ones. Clocks do not oblige: they step back, or are wrong by years for a while.
//! [`Stamper`] goes on from the last timestamp when the clock is behind it, and [`Watermark`] keeps those that lie in
//! the future apart, so that one of them does not shut out a peer whose clock is set right again.

use std::time::Duration;

/// 2^62 and the ten seconds by which TAI was ahead of UTC in 1970; leap seconds are left out, as by all others.
const EPOCH: u64 = 0x4000_0000_0000_000a;
/// Timestamps are rounded to this, so that they tell little of the clock: the power of two below 1/50 second.
const ROUNDING: u128 = 1 << 24;
const SECOND: u128 = 1_000_000_000;

/// Octets of a timestamp.
pub(super) const TIMESTAMP_LENGTH: usize = 12;

/// How far a peer's clock may be ahead of ours before we take it for wrong.
const TOLERANCE: Duration = Duration::from_secs(60);
/// How many timestamps from the future are remembered.
const FUTURE: usize = 16;

/// A timestamp; they are ordered as their octets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tai64n([u8; TIMESTAMP_LENGTH]);

impl Tai64n {
    pub fn from_octets(octets: [u8; TIMESTAMP_LENGTH]) -> Tai64n {
        Tai64n(octets)
    }

    /// The timestamp of a time since 1970.
    pub fn at(wall: Duration) -> Tai64n {
        let mut octets = [0; TIMESTAMP_LENGTH];
        octets[..8].copy_from_slice(&EPOCH.saturating_add(wall.as_secs()).to_be_bytes());
        octets[8..].copy_from_slice(&wall.subsec_nanos().to_be_bytes());
        Tai64n(octets)
    }

    pub fn octets(&self) -> &[u8; TIMESTAMP_LENGTH] {
        &self.0
    }
}

/// Makes timestamps, each greater than the one before.
#[derive(Debug, Default)]
pub(super) struct Stamper {
    /// The last one, in nanoseconds since 1970.
    last: u128,
}

impl Stamper {
    /// The next one, the clock's if that is not behind the last.
    pub fn stamp(&mut self, wall: Duration) -> Tai64n {
        let clock = wall.as_nanos() / ROUNDING * ROUNDING;
        self.last = clock.max(self.last + ROUNDING);
        let seconds = u64::try_from(self.last / SECOND).unwrap_or(u64::MAX);
        // The remainder of a division by a second in nanoseconds fits.
        Tai64n::at(Duration::new(seconds, (self.last % SECOND) as u32))
    }
}

/// What was seen of one key's timestamps.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    /// The greatest of those that were not ahead of our clock.
    seen: Option<Tai64n>,
    /// The greatest of those that were and still are, in order.
    ahead: Vec<Tai64n>,
}

impl Watermark {
    /// Whether a message with this timestamp is new.
    pub fn is_new(&mut self, timestamp: Tai64n, wall: Duration) -> bool {
        let horizon = Tai64n::at(wall.saturating_add(TOLERANCE));
        let reached = self.ahead.partition_point(|other| *other <= horizon);
        self.seen = self.ahead.drain(..reached).max().max(self.seen);
        let greatest =
            if timestamp > horizon { self.ahead.last().copied().max(self.seen) } else { self.seen };
        greatest.is_none_or(|greatest| timestamp > greatest)
    }

    /// Takes in the timestamp of a message that is new and authentic.
    pub fn accept(&mut self, timestamp: Tai64n, wall: Duration) {
        if timestamp <= Tai64n::at(wall.saturating_add(TOLERANCE)) {
            self.seen = self.seen.max(Some(timestamp));
            return;
        }
        if self.ahead.len() == FUTURE {
            self.ahead.remove(0);
        }
        self.ahead.push(timestamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn comes(watermark: &mut Watermark, timestamp: Tai64n, wall: Duration) -> bool {
        let new = watermark.is_new(timestamp, wall);
        if new {
            watermark.accept(timestamp, wall);
        }
        new
    }

    /// The example of the specification: 1992-06-02 08:07:09 TAI, which is 08:06:43 UTC, 26 leap seconds behind TAI then.
    /// Without leap seconds the second 707,472,403 of UTC is ten ahead.
    #[test]
    fn the_label_of_a_second_is_that_of_the_specification() {
        let octets = *Tai64n::at(Duration::new(0x2a2b_2c2d - 10, 5)).octets();
        assert_eq!(octets, [0x40, 0, 0, 0, 0x2a, 0x2b, 0x2c, 0x2d, 0, 0, 0, 5]);
    }

    #[test]
    fn timestamps_grow_though_the_clock_stands_or_steps_back() {
        let mut stamper = Stamper::default();
        let hour = Duration::from_secs(3600);
        let clock = [NOW, NOW, NOW - hour, NOW - hour, Duration::ZERO, NOW + hour];
        let stamps = clock.map(|wall| stamper.stamp(wall));
        assert!(stamps.is_sorted_by(|a, b| a < b));
        assert!(
            stamps[5] <= Tai64n::at(NOW + hour)
                && stamps[5] > Tai64n::at(NOW + hour - Duration::from_millis(17))
        );
    }

    #[test]
    fn a_timestamp_that_is_not_greater_is_old() {
        let mut watermark = Watermark::default();
        let at = |millis| Tai64n::at(NOW + Duration::from_millis(millis));
        assert!(comes(&mut watermark, at(50), NOW));
        assert!(!comes(&mut watermark, at(50), NOW) && !comes(&mut watermark, at(49), NOW));
        assert!(comes(&mut watermark, at(51), NOW));
    }

    #[test]
    fn one_from_the_future_does_not_shut_out_the_present_and_cannot_be_replayed() {
        let mut watermark = Watermark::default();
        let years = |n: u64| NOW + Duration::from_secs(n * 31_557_600);
        let second = Duration::from_secs(1);
        assert!(comes(&mut watermark, Tai64n::at(years(1)), NOW));
        assert!(comes(&mut watermark, Tai64n::at(years(70)), NOW));
        assert!(!comes(&mut watermark, Tai64n::at(years(70)), NOW));
        assert!(!comes(&mut watermark, Tai64n::at(years(1)), NOW));
        assert!(comes(&mut watermark, Tai64n::at(NOW + second), NOW + second));
        assert!(!comes(&mut watermark, Tai64n::at(NOW + second), NOW + second));
        // A year later the first of them is of the present, and known.
        assert!(!comes(&mut watermark, Tai64n::at(years(1)), years(1)));
        assert!(comes(&mut watermark, Tai64n::at(years(1) + second), years(1) + second));
    }

    #[test]
    fn a_clock_of_ours_that_is_years_behind_shuts_nobody_out() {
        let mut watermark = Watermark::default();
        let at = |seconds| Tai64n::at(NOW + Duration::from_secs(seconds));
        let wrong = Duration::from_secs(1000);
        for seconds in 0..100 {
            assert!(comes(&mut watermark, at(seconds), wrong));
            assert!(!comes(&mut watermark, at(seconds), wrong));
        }
        assert!(!comes(&mut watermark, at(99), NOW + Duration::from_secs(100)), "it is set right");
        assert!(comes(&mut watermark, at(100), NOW + Duration::from_secs(100)));
        assert!(comes(&mut watermark, at(101), wrong), "and wrong again");
    }
}
