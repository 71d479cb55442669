//! Addresses and prefixes as the trie sees them: bits that are taken eight at a time.

use std::fmt::Debug;
use std::ops::{BitAnd, BitXor};

/// The bits of an address, the one of most weight first.
pub(super) trait Key: Copy + Eq + Ord + Debug + BitAnd<Output = Self> + BitXor<Output = Self> {
    /// How many bits an address of the family has.
    const WIDTH: u8;

    /// An address as words, the one of most weight first.
    type Words: AsRef<[u32]>;

    /// The address as words.
    fn to_words(self) -> Self::Words;

    /// An address from the first of `words`; words that are missing are zero.
    fn from_words(words: &[u32]) -> Self;

    /// The eight bits from bit `depth` on. `depth` is at most `WIDTH` - 8.
    fn byte(self, depth: u8) -> u8;

    /// The first `length` bits set.
    fn mask(length: u8) -> Self;

    /// How many bits from the first on are the same in both.
    fn common(self, other: Self) -> u8;
}

macro_rules! key {
    ($bits:ty, $words:literal) => {
        impl Key for $bits {
            const WIDTH: u8 = <$bits>::BITS as u8;

            type Words = [u32; $words];

            fn to_words(self) -> [u32; $words] {
                std::array::from_fn(|word| (self >> (32 * ($words - 1 - word))) as u32)
            }

            #[inline]
            fn from_words(words: &[u32]) -> Self {
                words
                    .iter()
                    .take($words)
                    .fold(0, |bits, word| bits.checked_shl(32).unwrap_or(0) | <$bits>::from(*word))
            }

            #[inline]
            fn byte(self, depth: u8) -> u8 {
                (self >> (Self::WIDTH - 8 - depth)) as u8
            }

            fn mask(length: u8) -> Self {
                <$bits>::MAX.checked_shl(u32::from(Self::WIDTH - length)).unwrap_or(0)
            }

            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }
        }
    };
}

key!(u32, 1);
key!(u128, 4);

/// A prefix: the first `length` bits of `path`, whose bits behind them are zero.
///
/// The order puts a prefix before all that it contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits<K> {
    pub path: K,
    pub length: u8,
}

impl<K: Key> Bits<K> {
    /// The bit at which the stride begins that holds the prefix: the prefix ends in one of the eight
    /// bits from there on. The prefix of length 0 is held by the first stride.
    pub fn home(self) -> u8 {
        self.length.saturating_sub(1) / 8 * 8
    }

    /// The prefix among those of its stride, numbered as in a binary heap: 1 is the whole stride, 2 and
    /// 3 are its halves, 256 to 511 its single slots. A shorter prefix has a lower number.
    pub fn position(self) -> u16 {
        let inside = self.length - self.home();
        1 << inside | u16::from(self.path.byte(self.home())) >> (8 - inside)
    }
}

/// The first slot of the prefix at `position` of a stride, and how many slots it covers.
pub(super) fn span(position: u16) -> (u8, usize) {
    let rest = 8 - position.ilog2();
    ((position << rest) as u8, 1 << rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_one_place_in_one_stride() {
        for (path, length, home, position, slots) in [
            (0_u32, 0, 0, 1, (0, 256)),
            (0x8000_0000, 1, 0, 3, (128, 128)),
            (0xc600_0000, 8, 0, 256 + 0xc6, (0xc6, 1)),
            (0xc612_0000, 15, 8, 128 + 0x09, (0x12, 2)),
            (0xc612_0101, 32, 24, 256 + 1, (1, 1)),
        ] {
            let prefix = Bits { path, length };
            assert_eq!((prefix.home(), prefix.position()), (home, position));
            assert_eq!(span(position), slots);
        }
    }
}
