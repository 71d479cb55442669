//! Sequence numbers of GRE (RFC 2890 section 2.2): what is sent gets the next one, what comes late is dropped.
//!
//! The RFC has both ends begin at 0 when the tunnel is set up, and says nothing of one that begins anew while the other
//! goes on: it would get nothing through until it has caught up, for days if there was much to number before.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// So many late packets one after the other, in order and with none in between that is not late, are from a far end
/// that has begun anew. Packets that were only overtaken come in such rows too where paths change; then a few get
/// through that need not, and nothing is lost.
const RESTART: u64 = 8;

/// The numbers of a tunnel.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Of the next packet to send.
    sent: AtomicU32,
    /// Of the last that was taken in, plus one; 0 before the first.
    expected: AtomicU32,
    /// Late packets that came in a row: the number that follows the last of them, above 32 bits of how many they are.
    late: AtomicU64,
}

impl Numbers {
    /// The number of the next packet to send.
    pub fn next(&self) -> u32 {
        self.sent.fetch_add(1, Relaxed)
    }

    /// Whether a packet that bears this number is to be taken in. One worker calls this, since one reads the socket.
    pub fn take(&self, number: u32) -> bool {
        let is_late = is_before(number, self.expected.load(Relaxed));
        if is_late && self.row(number) < RESTART {
            return false;
        }
        self.late.store(0, Relaxed);
        self.expected.store(number.wrapping_add(1), Relaxed);
        true
    }

    /// How many late packets have come in a row, with this one.
    fn row(&self, number: u32) -> u64 {
        let late = self.late.load(Relaxed);
        let (follows, count) = ((late >> 32) as u32, late & u64::from(u32::MAX));
        let count = if count > 0 && is_before(number, follows) { 1 } else { count + 1 };
        self.late.store(u64::from(number.wrapping_add(1)) << 32 | count, Relaxed);
        count
    }
}

/// Half of all numbers are before any.
fn is_before(number: u32, other: u32) -> bool {
    (number.wrapping_sub(other) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(numbers: &Numbers, row: impl IntoIterator<Item = u32>) -> Vec<u32> {
        row.into_iter().filter(|number| numbers.take(*number)).collect()
    }

    #[test]
    fn what_comes_late_or_twice_is_not_taken() {
        let numbers = Numbers::default();
        assert_eq!(taken(&numbers, [0, 1, 3, 2, 3, 7, 5, 6, 8]), [0, 1, 3, 7, 8]);
        let numbers = Numbers::default();
        assert_eq!(taken(&numbers, [0x7fff_ffff, u32::MAX, u32::MAX - 1, 0]), [0x7fff_ffff, u32::MAX, 0]);
    }

    #[test]
    fn a_far_end_that_begins_anew_is_heard_after_some_packets() {
        let numbers = Numbers::default();
        taken(&numbers, 0..100_000);
        assert_eq!(taken(&numbers, 0..20), Vec::from_iter(7..20));
        // Some of the first may be lost on the way.
        taken(&numbers, 20..100_000);
        assert_eq!(taken(&numbers, [0, 2, 3, 5, 8, 9, 10, 13, 14]), [13, 14]);
    }

    #[test]
    fn packets_that_were_overtaken_are_no_new_beginning() {
        let numbers = Numbers::default();
        taken(&numbers, 0..1000);
        for first in [500, 600] {
            assert_eq!(taken(&numbers, first..first + 7), [0; 0]);
            let next = numbers.expected.load(Relaxed);
            assert!(numbers.take(next));
        }
        assert_eq!(taken(&numbers, (500..600).rev()), [0; 0], "backwards");
    }
}
