//! The value word of an FDB entry: the port, the second in which the address was seen there last, and how often
//! it moved lately.
//!
//! Moves are damped as by a leaky bucket: each costs [`MOVE_COST`] seconds, and time pays. An address that
//! moves five times at once (the number of RFC 7432 section 15.1), or more often than five times in ten seconds,
//! is held on its port for [`HOLD`] seconds. A bridge sees so many moves where there is a loop or two stations have
//! one address; a station that roams or a virtual machine that migrates does not come near.

use std::time::Duration;

use crate::config::PortId;
use crate::time::Instant;

/// Seconds that must pass between moves, on average.
const MOVE_COST: u32 = 2;
/// Debt at which an address is held: five moves.
const MOVE_LIMIT: u32 = 5 * MOVE_COST;
/// Seconds for which it is held.
pub(super) const HOLD: u32 = 30;

/// 194 days. An entry that is neither used nor reused for so long looks fresh once more until it ages again: frames
/// to its address go to one port meanwhile instead of all.
const SECONDS_BITS: u32 = 24;
const SECONDS: u32 = (1 << SECONDS_BITS) - 1;
/// Another worker's clock may be so many seconds ahead of this one's.
const AHEAD: u32 = 60;

/// Port (32 bits), debt in seconds (8 bits), second of the last sighting (24 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(pub u64);

/// Whether an address may move now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    Allowed(Entry),
    /// For the last time before it is held.
    Last(Entry),
    Refused,
}

impl Entry {
    pub fn new(now: Instant, port: PortId) -> Entry {
        Entry::with_debt(now, port, 0)
    }

    fn with_debt(now: Instant, port: PortId, debt: u32) -> Entry {
        let seconds = now.as_secs() as u32 & SECONDS;
        Entry(u64::from(port.to_u32()) << 32 | u64::from(debt << SECONDS_BITS | seconds))
    }

    pub fn port(self) -> PortId {
        PortId::from_u32((self.0 >> 32) as u32)
    }

    /// The same, seen now.
    pub fn refreshed(self, now: Instant) -> Entry {
        Entry::with_debt(now, self.port(), self.debt(now))
    }

    /// The same on another port.
    pub fn moved(self, now: Instant, port: PortId) -> Move {
        let debt = self.debt(now);
        if debt > MOVE_LIMIT {
            return Move::Refused;
        }
        let debt = debt + MOVE_COST;
        if debt < MOVE_LIMIT {
            Move::Allowed(Entry::with_debt(now, port, debt))
        } else {
            Move::Last(Entry::with_debt(now, port, MOVE_LIMIT + HOLD))
        }
    }

    /// Seconds that moves cost and time has not paid yet.
    fn debt(self, now: Instant) -> u32 {
        let debt = (self.0 as u32) >> SECONDS_BITS;
        debt.saturating_sub(self.age(now))
    }

    /// Whether it was seen too long ago.
    pub fn expired(self, now: Instant, ageing: Duration) -> bool {
        u64::from(self.age(now)) >= ageing.as_secs()
    }

    fn age(self, now: Instant) -> u32 {
        let age = (now.as_secs() as u32).wrapping_sub(self.0 as u32) & SECONDS;
        if age > SECONDS - AHEAD { 0 } else { age }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn port(number: u32) -> PortId {
        PortId::from_u32(number)
    }

    /// How many of moves, one every `pause` seconds, are allowed before the address is held.
    fn moves(pause: u64, most: usize) -> usize {
        let mut entry = Entry::new(at(100), port(0));
        for number in 1..=most {
            match entry.moved(at(100 + number as u64 * pause), port(number as u32)) {
                Move::Allowed(next) => entry = next,
                Move::Last(_) => return number,
                Move::Refused => unreachable!("held before"),
            }
        }
        most
    }

    #[test]
    fn five_moves_at_once_are_the_last() {
        assert_eq!(moves(0, 100), 5);
        assert_eq!(moves(1, 100), 9, "one a second");
        assert_eq!(moves(2, 100), 100, "five in ten seconds");
    }

    #[test]
    fn a_held_address_is_let_go_and_held_again_if_it_goes_on() {
        let Move::Last(held) = Entry::with_debt(at(1), port(1), 8).moved(at(1), port(2)) else {
            panic!("the fifth move")
        };
        assert_eq!(held.moved(at(30), port(1)), Move::Refused);
        assert_eq!(held.refreshed(at(29)).moved(at(30), port(1)), Move::Refused, "being seen does not pay");
        assert!(matches!(held.moved(at(31), port(1)), Move::Last(_)));
        assert!(matches!(held.moved(at(41), port(1)), Move::Allowed(_)));
    }

    #[test]
    fn ages_pass_the_wrap_of_the_clock() {
        let entry = Entry::new(at((1 << 24) - 2), port(1));
        let ageing = Duration::from_secs(300);
        assert!(!entry.expired(at((1 << 24) + 297), ageing));
        assert!(entry.expired(at((1 << 24) + 298), ageing));
        assert!(!entry.expired(at((1 << 24) - 12), ageing), "heard by a clock that is ahead");
    }
}
