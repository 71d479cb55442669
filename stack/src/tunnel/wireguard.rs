//! WireGuard: keys, and what a device is told of itself and its peers.

mod key;

pub use key::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
