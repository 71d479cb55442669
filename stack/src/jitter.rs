//! Times that protocols want random, so that many do not speak at once.
//!
//! They come from a seed, not from chance: the same events give the same times, in tests and when a recording is
//! played again. Nothing here is fit for secrets.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use foldhash::fast::FixedState;

/// A time from `least` to `most`, in whole milliseconds, the same for the same seed.
pub(crate) fn between(seed: impl Hash, least: Duration, most: Duration) -> Duration {
    let range = most.saturating_sub(least).as_millis() as u64 + 1;
    // The upper bits of the hash are mixed best: multiply and shift takes from those, evenly.
    let drawn = u128::from(FixedState::default().hash_one(seed)) * u128::from(range);
    least + Duration::from_millis((drawn >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lie_between_the_bounds_and_come_near_to_both() {
        let (least, most) = (Duration::from_secs(200), Duration::from_secs(600));
        let mut drawn: Vec<_> = (0..1000).map(|seed| between(seed, least, most)).collect();
        drawn.sort_unstable();
        assert!(drawn[0] >= least && drawn[0] < Duration::from_secs(210), "{:?}", drawn[0]);
        assert!(drawn[999] <= most && drawn[999] > Duration::from_secs(590), "{:?}", drawn[999]);
        assert!(drawn[500] > Duration::from_secs(370) && drawn[500] < Duration::from_secs(430));
        assert_eq!(between(7, least, least), least);
    }
}
