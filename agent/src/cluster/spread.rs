//! Spreads over time what many nodes would do at once. A node's place is worked out of its name, so that it stays the
//! same, and nothing has to be drawn.

use std::time::Duration;

use super::block::seed;

/// How much longer the wait is for each node that might do the same.
const EACH: Duration = Duration::from_millis(2);
/// However many there are.
const LONGEST: Duration = Duration::from_secs(10);
/// How much likelier a long wait is than a short one: in each tenth of the longest wait, `e` times as many nodes are
/// due as in the one before. So few are the first, and all others hear of them before their own time comes
/// (Nonnenmacher and Biersack, "Scalable Feedback for Large Groups", 1999).
const STEEPNESS: f64 = 10.0;

/// A number from 0 to below 1 that is this text's.
pub fn portion(text: &str) -> f64 {
    // The last letters of a text hardly reach the high bits of its seed: mixed as SplitMix64 does.
    let mut mixed = seed(text);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    f64::from((mixed >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
}

/// How long one of so many nodes waits before it says what any of them could say.
pub fn wait_of_one(text: &str, nodes: usize) -> Duration {
    let longest = EACH.saturating_mul(u32::try_from(nodes).unwrap_or(u32::MAX)).min(LONGEST);
    // It is above zero, and its logarithm at most zero.
    let portion = 1.0 - portion(text);
    longest.mul_f64((1.0 + portion.ln() / STEEPNESS).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(nodes: usize) -> Vec<Duration> {
        let mut waits: Vec<_> =
            (0..nodes).map(|node| wait_of_one(&format!("node-{node} Network/blue"), nodes)).collect();
        waits.sort();
        waits
    }

    #[test]
    fn of_many_nodes_few_are_first() {
        let waits = waits(5000);
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        let early = waits.iter().filter(|wait| **wait < waits[0] + Duration::from_millis(500)).count();
        assert!((1..=20).contains(&early), "{early} nodes speak before they can have heard the first");
    }

    #[test]
    fn few_nodes_wait_for_nothing_that_a_person_would_notice() {
        assert!(waits(3).iter().all(|wait| *wait < Duration::from_millis(10)));
        assert!(waits(100).iter().all(|wait| *wait <= Duration::from_millis(200)));
    }

    #[test]
    fn names_that_differ_in_one_letter_are_spread_evenly() {
        let mut tenths = [0; 10];
        for node in 0..1000 {
            tenths[(portion(&format!("node-{node}")) * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
    }
}
