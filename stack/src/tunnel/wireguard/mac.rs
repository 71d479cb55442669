//! Hashes and MACs by BLAKE2s (RFC 7693; section 5.4.4 of the paper), and comparing secrets.

use aws_lc_rs::constant_time;
use blake2::digest::consts::U16;
use blake2::digest::{Digest, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac};

use super::PublicKey;
use super::wire::MAC_LENGTH;

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

/// A MAC or a cookie.
pub(super) type Tag = [u8; MAC_LENGTH];

/// What is derived from a public key to make and check the MACs of messages to whom it belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct MacKeys {
    mac1: [u8; 32],
    /// Encrypts cookies that its owner gives out.
    pub cookie: [u8; 32],
}

impl MacKeys {
    pub fn new(public: &PublicKey) -> MacKeys {
        MacKeys { mac1: hash(LABEL_MAC1, public.as_bytes()), cookie: hash(LABEL_COOKIE, public.as_bytes()) }
    }

    /// The first MAC of a message to the key's owner.
    pub fn mac1(&self, message: &[u8]) -> Tag {
        keyed(&self.mac1, &[message])
    }
}

fn hash(label: &[u8], octets: &[u8]) -> [u8; 32] {
    Blake2s256::new().chain_update(label).chain_update(octets).finalize().into()
}

/// The keyed hash of 16 octets over these parts. A key has 32 octets at most.
pub(super) fn keyed(key: &[u8], parts: &[&[u8]]) -> Tag {
    // It fails for longer keys only: all callers have one of 16 or 32 octets.
    let Ok(mac) = <Blake2sMac<U16> as KeyInit>::new_from_slice(key) else { return [0; MAC_LENGTH] };
    parts.iter().fold(mac, |mac, part| mac.chain_update(part)).finalize().into_bytes().into()
}

/// Whether both are the same, in a time that does not tell where they differ.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// Octets that nobody can guess. `None`: the system has none to give.
pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).ok().map(|()| octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7693 appendix B.
    #[test]
    fn the_hash_is_blake2s() {
        let expected = [
            0x50, 0x8c, 0x5e, 0x8c, 0x32, 0x7c, 0x14, 0xe2, 0xe1, 0xa7, 0x2b, 0xa3, 0x4e, 0xeb, 0x45, 0x2f,
            0x37, 0x45, 0x8b, 0x20, 0x9e, 0xd6, 0x3a, 0x29, 0x4d, 0x99, 0x9b, 0x4c, 0x86, 0x67, 0x59, 0x82,
        ];
        assert_eq!(hash(b"", b"abc"), expected);
    }

    #[test]
    fn parts_are_hashed_as_one() {
        assert_eq!(keyed(&[7; 32], &[b"ab", b"c"]), keyed(&[7; 32], &[b"abc"]));
        assert_ne!(keyed(&[7; 32], &[b"abc"]), keyed(&[8; 32], &[b"abc"]));
        assert_ne!(keyed(&[7; 16], &[b"abc"]), keyed(&[7; 32], &[b"abc"]));
    }
}
