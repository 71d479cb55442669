//! Keys of WireGuard: 32 octets each, written as Base64. Secret ones are wiped when they are let go, and never shown.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine};
use snow::types::Dh;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::noise::Curve25519;

/// Octets of every key.
pub const KEY_LENGTH: usize = 32;

/// The text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key, 32 octets in Base64 (44 characters, as `wg genkey` writes them) expected")]
pub struct InvalidKey;

/// A peer's name and what is encrypted for it (Curve25519).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_LENGTH]);

/// What a public key is made from.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LENGTH]);

/// A secret that two peers share beside their keys.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LENGTH]);

macro_rules! key {
    ($name:ident) => {
        impl $name {
            /// The key of these octets.
            pub fn new(octets: [u8; KEY_LENGTH]) -> $name {
                $name(octets)
            }

            /// Its octets.
            pub fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
                &self.0
            }

            /// Its text, as WireGuard's tools write it.
            pub fn to_base64(&self) -> String {
                BASE64_STANDARD.encode(self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidKey;

            fn from_str(text: &str) -> Result<Self, InvalidKey> {
                let mut octets = BASE64_STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?;
                let key = <[u8; KEY_LENGTH]>::try_from(octets.as_slice());
                octets.zeroize();
                key.map($name).map_err(|_| InvalidKey)
            }
        }
    };
}

key!(PublicKey);
key!(PrivateKey);
key!(PresharedKey);

impl PrivateKey {
    /// A new one, by the system's randomness. `None`: it has none to give.
    pub fn generate() -> Option<PrivateKey> {
        let mut octets = super::mac::random()?;
        let key = PrivateKey(octets);
        octets.zeroize();
        Some(key)
    }

    /// The public key that goes with it.
    pub fn public_key(&self) -> PublicKey {
        let mut pair = Curve25519::default();
        pair.set(&self.0);
        // A public key of Curve25519 has as many octets as a private one.
        PublicKey(pair.pubkey().try_into().unwrap_or_default())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(private key)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(preshared key)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_written_as_wireguards_tools_do() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let key: PublicKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(key.as_bytes()[..2], [0xc5, 0x32]);
        for wrong in ["", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D", "AAAA", "not a key"] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(InvalidKey), "{wrong}");
        }
    }

    /// RFC 7748 section 6.1.
    #[test]
    fn the_public_key_is_that_of_x25519() {
        let private = PrivateKey::new([
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
            0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ]);
        let public = [
            0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a,
            0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a,
        ];
        assert_eq!(private.public_key(), PublicKey::new(public));
        assert_ne!(PrivateKey::generate(), PrivateKey::generate());
    }

    #[test]
    fn secret_keys_are_not_shown() {
        let key = PrivateKey::new([7; 32]);
        let preshared = PresharedKey::new([7; 32]);
        assert_eq!(format!("{key:?} {preshared:?}"), "(private key) (preshared key)");
    }
}
