//! The pieces of one datagram, kept in order.

use crate::verdict::DropReason;

/// Congestion experienced (RFC 3168 section 5).
const CONGESTION: u8 = 0b11;

/// A fragment, as its headers tell.
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    /// The frame up to what was cut: Ethernet header, IP header, and for IPv6 all up to and with the
    /// fragment header.
    pub head: &'a [u8],
    /// Octets of IP header in `head` that the whole datagram will have; for IPv6 behind the fixed one.
    pub header_length: usize,
    /// Where it belongs, in octets; a multiple of 8.
    pub offset: usize,
    /// The octets; not empty, and a multiple of 8 where more follow.
    pub payload: &'a [u8],
    /// Others follow.
    pub more: bool,
    /// The ECN codepoint.
    pub ecn: u8,
}

/// All pieces of a datagram.
#[derive(Debug)]
pub struct Whole {
    /// The frame of the first fragment, up to what was cut.
    pub head: Box<[u8]>,
    /// The ECN codepoint that the datagram shall have (RFC 3168 section 5.3).
    pub ecn: u8,
    pieces: Vec<Piece>,
}

impl Whole {
    /// Octets of what had been cut.
    pub fn length(&self) -> usize {
        self.pieces.last().map_or(0, Piece::end)
    }

    /// How many fragments it came in.
    pub fn fragments(&self) -> usize {
        self.pieces.len()
    }

    /// Writes what had been cut into `target`, which has [`Whole::length`] octets.
    pub fn copy_to(&self, target: &mut [u8]) {
        for piece in &self.pieces {
            target[piece.offset..piece.end()].copy_from_slice(&piece.bytes);
        }
    }
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    bytes: Box<[u8]>,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.bytes.len()
    }
}

/// What adding a fragment did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is kept and takes this room.
    New { octets: usize },
    /// Nothing: it is there, octet for octet (RFC 8200 section 4.5 lets those pass).
    Duplicate,
    /// It is kept, and none is missing.
    Whole,
    /// The datagram is to be given up.
    Refused(DropReason),
}

/// What has come of one datagram.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    head: Option<Box<[u8]>>,
    header_length: usize,
    /// By offset; no two overlap.
    pieces: Vec<Piece>,
    held: usize,
    /// Octets of the whole, once the last fragment has told.
    length: Option<usize>,
    /// The ECN codepoints seen, a bit for each.
    ecn: u8,
}

impl Pieces {
    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    pub fn add(&mut self, fragment: &Fragment, most: usize) -> Added {
        let end = fragment.offset + fragment.payload.len();
        let index = self.pieces.partition_point(|piece| piece.offset < fragment.offset);
        if self.is_duplicate(index, fragment, end) {
            return Added::Duplicate;
        }
        if self.contradicts(index, fragment, end) {
            return Added::Refused(DropReason::FragmentOverlap);
        }
        if self.pieces.len() == most {
            return Added::Refused(DropReason::ReassemblyFull);
        }
        let mut octets = fragment.payload.len();
        if fragment.offset == 0 {
            self.head = Some(fragment.head.into());
            self.header_length = fragment.header_length;
            octets += fragment.head.len();
        }
        if !fragment.more {
            self.length = Some(end);
        }
        self.ecn |= 1 << (fragment.ecn & CONGESTION);
        self.held += fragment.payload.len();
        self.pieces.insert(index, Piece { offset: fragment.offset, bytes: fragment.payload.into() });
        // No two overlap and none is beyond the end: as many octets as the whole has are the whole.
        if self.length == Some(self.held) { Added::Whole } else { Added::New { octets } }
    }

    fn is_duplicate(&self, index: usize, fragment: &Fragment, end: usize) -> bool {
        self.pieces.get(index).is_some_and(|piece| {
            piece.offset == fragment.offset
                && *piece.bytes == *fragment.payload
                && fragment.more == (self.length != Some(end))
        })
    }

    /// Whether it overlaps another, or the two disagree on where the datagram ends.
    fn contradicts(&self, index: usize, fragment: &Fragment, end: usize) -> bool {
        let before = index.checked_sub(1).and_then(|before| self.pieces.get(before));
        let overlaps = before.is_some_and(|piece| piece.end() > fragment.offset)
            || self.pieces.get(index).is_some_and(|piece| piece.offset < end);
        let reach = self.pieces.last().map_or(0, Piece::end);
        let beyond = match self.length {
            Some(length) => end > length || (!fragment.more && end != length),
            None => !fragment.more && reach > end,
        };
        // A piece that others are to follow must leave room for them.
        let no_room = fragment.more && self.length == Some(end);
        overlaps || beyond || no_room
    }

    /// The frame of the first fragment, if it came.
    pub fn first_frame(self) -> Option<Box<[u8]>> {
        let first = self.pieces.into_iter().next().filter(|piece| piece.offset == 0)?;
        Some([&self.head?[..], &first.bytes].concat().into())
    }

    /// Puts the pieces together; all are there.
    pub fn into_whole(self) -> Result<Whole, DropReason> {
        let longest = usize::from(u16::MAX);
        let head = self.head.filter(|_| self.header_length + self.held <= longest);
        match (head, combined_ecn(self.ecn)) {
            (Some(head), Some(ecn)) => Ok(Whole { head, ecn, pieces: self.pieces }),
            _ => Err(DropReason::FragmentMalformed),
        }
    }
}

/// The codepoint of the whole from those of its fragments, a bit for each. `None`: somebody changed
/// what must not be (RFC 3168 section 5.3; mixed with others, not-ECT is refused as in Linux).
fn combined_ecn(seen: u8) -> Option<u8> {
    const NOT_ECT: u8 = 1;
    match seen {
        NOT_ECT => Some(0),
        _ if seen & NOT_ECT != 0 => None,
        _ if seen & 1 << CONGESTION != 0 => Some(CONGESTION),
        // ECT(0) where there is a mixture: the weaker promise.
        _ if seen & 1 << 0b10 != 0 => Some(0b10),
        _ => Some(0b01),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(offset: usize, payload: &[u8], more: bool) -> Fragment<'_> {
        Fragment { head: b"head", header_length: 20, offset, payload, more, ecn: 0 }
    }

    #[test]
    fn congestion_anywhere_is_congestion_of_the_whole() {
        let whole = |seen: &[u8]| combined_ecn(seen.iter().fold(0, |bits, ecn| bits | 1 << ecn));
        assert_eq!(whole(&[0, 0]), Some(0));
        assert_eq!(whole(&[2, 3]), Some(3));
        assert_eq!(whole(&[1, 3]), Some(3));
        assert_eq!(whole(&[1]), Some(1));
        assert_eq!(whole(&[0, 3]), None);
        assert_eq!(whole(&[0, 2]), None);
    }

    #[test]
    fn pieces_that_disagree_on_the_end_are_refused() {
        let refused = Added::Refused(DropReason::FragmentOverlap);
        let after = |first: Fragment, second: Fragment| {
            let mut pieces = Pieces::default();
            assert!(matches!(pieces.add(&first, 9), Added::New { .. }));
            pieces.add(&second, 9)
        };
        let (eight, sixteen) = ([1; 8], [1; 16]);
        assert_eq!(after(fragment(16, &eight, false), fragment(24, &eight, true)), refused);
        assert_eq!(after(fragment(16, &eight, false), fragment(24, &eight, false)), refused);
        assert_eq!(after(fragment(16, &eight, false), fragment(16, &eight, true)), refused);
        assert_eq!(after(fragment(16, &eight, false), fragment(8, &sixteen, true)), refused);
        assert_eq!(after(fragment(16, &eight, true), fragment(16, &eight, false)), refused);
        assert_eq!(after(fragment(16, &eight, true), fragment(8, &eight, false)), refused);
        assert_eq!(after(fragment(16, &eight, true), fragment(16, &eight, true)), Added::Duplicate);
        assert_eq!(after(fragment(16, &eight, false), fragment(16, &eight, false)), Added::Duplicate);
    }

    #[test]
    fn the_same_place_with_other_octets_is_an_overlap() {
        let mut pieces = Pieces::default();
        pieces.add(&fragment(0, &[1; 8], true), 9);
        assert_eq!(pieces.add(&fragment(0, &[2; 8], true), 9), Added::Refused(DropReason::FragmentOverlap));
    }
}
