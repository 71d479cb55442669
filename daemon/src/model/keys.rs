//! The secrets of a WireGuard tunnel: its private keys, and what it shares with peers.

use std::collections::BTreeMap;

use weft_stack::tunnel::wireguard::{PresharedKey, PrivateKey, PublicKey};

/// The keys of one Tunnel. There is always one to speak with.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelKeys {
    current: PrivateKey,
    previous: Vec<PrivateKey>,
    /// Those of `current` and `previous`, in this order.
    public: Vec<PublicKey>,
    /// By any key of the peer.
    preshared: BTreeMap<PublicKey, PresharedKey>,
}

impl TunnelKeys {
    /// A key to speak with, and earlier ones by which peers are let in, the latest first.
    pub fn new(
        current: PrivateKey,
        previous: Vec<PrivateKey>,
        preshared: BTreeMap<PublicKey, PresharedKey>,
    ) -> TunnelKeys {
        let public = std::iter::once(&current).chain(&previous).map(PrivateKey::public_key).collect();
        TunnelKeys { current, previous, public, preshared }
    }

    /// All private keys, the one to speak with first.
    pub fn private(&self) -> impl Iterator<Item = &PrivateKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    /// The key to speak with.
    pub fn current(&self) -> &PrivateKey {
        &self.current
    }

    /// Earlier keys by which peers are let in, the latest first.
    pub fn previous(&self) -> &[PrivateKey] {
        &self.previous
    }

    /// What peers shall know the tunnel by, and then what they may still know it by.
    pub fn public(&self) -> &[PublicKey] {
        &self.public
    }

    /// What is shared with the peer of this key.
    pub fn preshared(&self, peer: &PublicKey) -> Option<&PresharedKey> {
        self.preshared.get(peer)
    }

    /// All that is shared, by any key of the peer.
    pub fn all_preshared(&self) -> &BTreeMap<PublicKey, PresharedKey> {
        &self.preshared
    }
}
