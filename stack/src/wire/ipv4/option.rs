//! IPv4 options (RFC 791 section 3.1), as far as every router has to know them (RFC 1812 section 5.3.13):
//! which packets cannot be taken, and what a record route or timestamp gets on its way.

use std::net::Ipv4Addr;

use super::{HEADER_LENGTH, fill_checksum};
use crate::time::Instant;
use crate::wire::read_u32;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// In an option: where the next free octet is, counted from 1.
const POINTER: usize = 2;
/// In a timestamp option: how many routers found no room (4 bits), and what each writes (4 bits).
const FLAGS: usize = 3;
/// Only the time.
const TIME_ALONE: u8 = 0;
/// Address and time.
const ADDRESS_AND_TIME: u8 = 1;
/// The time, by whoever has the address that stands there.
const GIVEN_ADDRESSES: u8 = 3;

/// Why a packet cannot be taken for its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// A loose or strict source route.
    SourceRoute,
    /// What the octet at this offset from the start of the header says cannot be.
    Malformed(u8),
}

/// Walks the options, which stand behind the fixed header. The wrong octet is the one that Linux points
/// at.
pub fn check(options: &[u8]) -> Result<(), Problem> {
    let mut seen = [false; 3];
    let mut at = 0;
    while let Some(kind) = options.get(at) {
        match *kind {
            END => break,
            NO_OPERATION => at += 1,
            kind => {
                let malformed = |offset: usize| Problem::Malformed((HEADER_LENGTH + at + offset) as u8);
                let option = option_at(options, at).ok_or(malformed(0))?;
                let once = [RECORD_ROUTE, TIMESTAMP, ROUTER_ALERT].iter().position(|once| *once == kind);
                if once.is_some_and(|index| std::mem::replace(&mut seen[index], true)) {
                    return Err(malformed(0));
                }
                check_option(option, malformed)?;
                at += option.len();
            }
        }
    }
    Ok(())
}

/// The option of at least two octets that begins at `at`, if it ends within the options.
fn option_at(options: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(*options.get(at + 1)?);
    options.get(at..at + length).filter(|option| option.len() >= 2)
}

fn check_option(option: &[u8], malformed: impl Fn(usize) -> Problem) -> Result<(), Problem> {
    match *option {
        [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => Err(Problem::SourceRoute),
        [RECORD_ROUTE, _] => Err(malformed(1)),
        [RECORD_ROUTE, _, pointer, ..] if pointer < 4 => Err(malformed(POINTER)),
        [RECORD_ROUTE, ..] => check_slot(option, 4).ok_or(malformed(POINTER)),
        [TIMESTAMP, _] | [TIMESTAMP, _, _] => Err(malformed(1)),
        [TIMESTAMP, _, pointer, ..] if pointer < 5 => Err(malformed(POINTER)),
        [TIMESTAMP, _, _, flags, ..] => {
            let no_count_left = is_full(option) && flags & 0x0f != GIVEN_ADDRESSES && flags >> 4 == 15;
            if no_count_left {
                return Err(malformed(FLAGS));
            }
            check_slot(option, timestamp_slot(flags)).ok_or(malformed(POINTER))
        }
        [ROUTER_ALERT, length, ..] if length < 4 => Err(malformed(1)),
        _ => Ok(()),
    }
}

/// Octets that each router writes into a timestamp option.
fn timestamp_slot(flags: u8) -> usize {
    if matches!(flags & 0x0f, ADDRESS_AND_TIME | GIVEN_ADDRESSES) { 8 } else { 4 }
}

fn is_full(option: &[u8]) -> bool {
    usize::from(option[POINTER]) > option.len()
}

/// The next slot of so many octets ends within the option, or there is none.
fn check_slot(option: &[u8], octets: usize) -> Option<()> {
    (is_full(option) || usize::from(option[POINTER]) - 1 + octets <= option.len()).then_some(())
}

/// A router that a packet passes.
pub struct Passage<'a> {
    /// The address that it goes on by.
    pub address: Ipv4Addr,
    /// When.
    pub at: Instant,
    /// Whether an address is the router's.
    pub is_own: &'a dyn Fn(Ipv4Addr) -> bool,
}

impl Passage<'_> {
    /// Writes the address and the time into the options of `header` that ask for them, and mends the
    /// checksum. The options have passed [`check`].
    pub fn record(&self, header: &mut [u8]) {
        let options = &mut header[HEADER_LENGTH..];
        let mut at = 0;
        while let Some(kind) = options.get(at) {
            match *kind {
                END => break,
                NO_OPERATION => at += 1,
                _ => {
                    let Some(length) = option_at(options, at).map(<[u8]>::len) else { break };
                    match &mut options[at..at + length] {
                        option @ [RECORD_ROUTE, _, _, ..] => self.record_route(option),
                        option @ [TIMESTAMP, _, _, _, ..] => self.record_time(option),
                        _ => {}
                    }
                    at += length;
                }
            }
        }
        fill_checksum(header);
    }

    fn record_route(&self, option: &mut [u8]) {
        if let Some(slot) = take_slot(option, 4) {
            slot.copy_from_slice(&self.address.octets());
        }
    }

    fn record_time(&self, option: &mut [u8]) {
        let flags = option[FLAGS];
        // Milliseconds of a clock that is not the day's have the highest bit set.
        let time = ((self.at.as_nanos() / 1_000_000) as u32 | 0x8000_0000).to_be_bytes();
        if is_full(option) {
            if flags & 0x0f != GIVEN_ADDRESSES {
                option[FLAGS] = flags.saturating_add(0x10);
            }
            return;
        }
        match flags & 0x0f {
            TIME_ALONE => {
                if let Some(slot) = take_slot(option, 4) {
                    slot.copy_from_slice(&time);
                }
            }
            ADDRESS_AND_TIME => {
                if let Some(slot) = take_slot(option, 8) {
                    slot[..4].copy_from_slice(&self.address.octets());
                    slot[4..].copy_from_slice(&time);
                }
            }
            GIVEN_ADDRESSES => {
                let start = usize::from(option[POINTER]).saturating_sub(1);
                let given = option.get(start..start + 8).map(|slot| Ipv4Addr::from(read_u32(slot, 0)));
                if given.is_some_and(self.is_own)
                    && let Some(slot) = take_slot(option, 8)
                {
                    slot[4..].copy_from_slice(&time);
                }
            }
            _ => {}
        }
    }
}

/// The slot that the pointer is at, which moves on behind it. `None`: the option is full.
fn take_slot(option: &mut [u8], octets: usize) -> Option<&mut [u8]> {
    let start = usize::from(option[POINTER]).checked_sub(1)?;
    if start + octets > option.len() {
        return None;
    }
    option[POINTER] += octets as u8;
    Some(&mut option[start..start + octets])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::checksum_is_valid;
    use super::*;

    #[test]
    fn source_routes_are_found_behind_other_options() {
        assert_eq!(check(&[1, 7, 3, 4, 131, 3, 4, 0]), Err(Problem::SourceRoute));
        assert_eq!(check(&[137, 3, 4, 0]), Err(Problem::SourceRoute));
        assert_eq!(check(&[1, 1, 0, 131]), Ok(()));
    }

    #[test]
    fn what_is_wrong_in_the_options_is_pointed_at() {
        let cases: [(&[u8], u8); 14] = [
            (&[7, 0, 131, 3], 20),
            (&[1, 7, 200, 4], 21),
            (&[1, 1, 1, 7], 23),
            (&[7, 2, 0, 0], 21),
            (&[1, 7, 7, 3, 0, 0, 0, 0], 23),
            (&[7, 7, 6, 0, 0, 0, 0, 0], 22),
            (&[7, 3, 4, 7, 3, 4, 0, 0], 23),
            (&[68, 3, 5, 0], 21),
            (&[68, 8, 4, 0, 0, 0, 0, 0], 22),
            (&[68, 8, 6, 0, 0, 0, 0, 0], 22),
            (&[68, 8, 5, 1, 0, 0, 0, 0], 22),
            (&[68, 8, 9, 0xf0, 0, 0, 0, 0], 23),
            (&[148, 3, 0, 0], 21),
            (&[148, 4, 0, 0, 148, 4, 0, 0], 24),
        ];
        for (options, pointer) in cases {
            assert_eq!(check(options), Err(Problem::Malformed(pointer)), "{options:?}");
        }
        // A record route with room, a full one, router alert, and one that nobody knows.
        for options in
            [&[7, 7, 4, 0, 0, 0, 0, 0][..], &[7, 7, 8, 198, 18, 1, 1, 0], &[148, 4, 0, 0], &[30, 4, 9, 9]]
        {
            assert_eq!(check(options), Ok(()), "{options:?}");
        }
    }

    /// The options after a router with 198.18.2.1 was passed after 0x010203 milliseconds.
    fn recorded(options: &[u8]) -> Vec<u8> {
        let mut header = [&[0; HEADER_LENGTH], options].concat();
        header[0] = 0x40 | (header.len() / 4) as u8;
        Passage {
            address: [198, 18, 2, 1].into(),
            at: Instant::from_nanos(0x010203 * 1_000_000),
            is_own: &|address| address == Ipv4Addr::from([198, 18, 1, 1]),
        }
        .record(&mut header);
        assert!(checksum_is_valid(&header));
        header[HEADER_LENGTH..].to_vec()
    }

    #[test]
    fn a_record_route_gets_the_address_while_there_is_room() {
        let once = recorded(&[1, 7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(once, [1, 7, 11, 8, 198, 18, 2, 1, 0, 0, 0, 0]);
        let twice = recorded(&once);
        assert_eq!(twice, [1, 7, 11, 12, 198, 18, 2, 1, 198, 18, 2, 1]);
        assert_eq!(recorded(&twice), twice);
    }

    #[test]
    fn timestamps_are_written_as_their_flag_says() {
        assert_eq!(recorded(&[68, 8, 5, 0, 9, 9, 9, 9]), [68, 8, 9, 0, 0x80, 1, 2, 3]);
        assert_eq!(
            recorded(&[68, 12, 5, 1, 9, 9, 9, 9, 9, 9, 9, 9]),
            [68, 12, 13, 1, 198, 18, 2, 1, 0x80, 1, 2, 3]
        );
        assert_eq!(
            recorded(&[68, 12, 5, 3, 198, 18, 1, 1, 9, 9, 9, 9]),
            [68, 12, 13, 3, 198, 18, 1, 1, 0x80, 1, 2, 3]
        );
        let others = [68, 12, 5, 3, 198, 18, 1, 9, 9, 9, 9, 9];
        assert_eq!(recorded(&others), others);
        assert_eq!(
            recorded(&[68, 8, 9, 0x10, 1, 2, 3, 4]),
            [68, 8, 9, 0x20, 1, 2, 3, 4],
            "no room is counted"
        );
        assert_eq!(recorded(&[68, 12, 13, 3, 1, 2, 3, 4, 1, 2, 3, 4])[3], 3);
    }

    proptest! {
        #[test]
        fn no_options_make_it_panic(words in proptest::collection::vec(any::<[u8; 4]>(), 0..10), kind in 0usize..4) {
            let mut options = words.concat();
            if let Some(first) = options.first_mut() {
                *first = [RECORD_ROUTE, TIMESTAMP, ROUTER_ALERT, NO_OPERATION][kind];
            }
            let passes = check(&options).is_ok();
            let after = recorded(&options);
            if passes {
                prop_assert!(check(&after).is_ok() || after[FLAGS] >> 4 == 15);
            }
        }
    }
}
