//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use std::net::IpAddr;

/// A one's-complement sum that is still open: more can be added before [`Sum::finish`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// Adds octets, as big-endian 16-bit words; an odd last octet counts as the high half of a word.
    /// Only the last call may have an odd number of octets.
    #[inline]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        // Most headers are shorter than a block.
        let mut sum = if blocks.is_empty() { self.0 } else { self.0 + u64::from(sum_blocks(blocks)) };
        let (words, rest) = rest.as_chunks::<4>();
        for word in words {
            sum += u64::from(u32::from_be_bytes(*word));
        }
        sum += match *rest {
            [a] => u64::from(a) << 8,
            [a, b] => u64::from(u16::from_be_bytes([a, b])),
            [a, b, c] => u64::from(u16::from_be_bytes([a, b])) + (u64::from(c) << 8),
            _ => 0,
        };
        Sum(sum)
    }

    /// Adds one 16-bit word.
    pub fn word(self, word: u16) -> Sum {
        Sum(self.0 + u64::from(word))
    }

    /// Adds an IP address.
    pub fn address(self, address: IpAddr) -> Sum {
        match address {
            IpAddr::V4(a) => self.bytes(&a.octets()),
            IpAddr::V6(a) => self.bytes(&a.octets()),
        }
    }

    /// The sum folded to 16 bits, not inverted.
    pub fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum: the folded sum, inverted.
    pub fn finish(self) -> u16 {
        !self.folded()
    }
}

/// Octets that are added at once: enough for the compiler to keep several vector registers busy.
const BLOCK: usize = 64;

/// The sum of whole blocks, folded to 16 bits.
///
/// Words are added in the machine's byte order, which needs no shuffling: a one's-complement sum only
/// has its octets swapped by that (RFC 1071 section 2 B).
fn sum_blocks(blocks: &[[u8; BLOCK]]) -> u16 {
    // Halves of 32 bits into lanes of 64: 2^31 blocks fit before a carry could be lost.
    let mut lanes = [0u64; BLOCK / 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            let word = u64::from_ne_bytes(*word);
            *lane += (word & 0xffff_ffff) + (word >> 32);
        }
    }
    let halves = lanes.iter().map(|lane| (lane & 0xffff_ffff) + (lane >> 32)).sum();
    u16::from_be_bytes(Sum(halves).folded().to_ne_bytes())
}

/// The sum of a pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Sum {
    let length = length as u32;
    Sum::default()
        .address(source)
        .address(destination)
        .word(u16::from(protocol))
        .word((length >> 16) as u16)
        .word(length as u16)
}

/// The checksum after one 16-bit word changed: equation 3 of RFC 1624.
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum(u64::from(!checksum) + u64::from(!old) + u64::from(new)).finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624_is_updated_to_zero() {
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn the_longest_packet_of_ones_loses_no_carry() {
        let ones = vec![0xff; 65_536];
        assert_eq!(Sum::default().bytes(&ones).folded(), 0xffff);
        let mut mixed = ones;
        mixed[65_535] = 0xfe;
        assert_eq!(Sum::default().bytes(&mixed).folded(), 0xfffe);
    }

    proptest! {
        #[test]
        fn an_update_equals_computing_anew(
            mut data in proptest::collection::vec(any::<u8>(), 20..60), at in 0usize..9, new in any::<u16>(),
        ) {
            data[0] |= 1; // an all-zero packet has two right checksums
            let before = Sum::default().bytes(&data).finish();
            let old = u16::from_be_bytes([data[2 + at * 2], data[3 + at * 2]]);
            data[2 + at * 2..4 + at * 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new), Sum::default().bytes(&data).finish());
        }

        #[test]
        fn words_add_up_like_the_definition(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut sum = 0u32;
            for pair in data.chunks(2) {
                sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
                sum = (sum & 0xffff) + (sum >> 16);
            }
            prop_assert_eq!(u32::from(Sum::default().bytes(&data).folded()), sum);
        }
    }
}
