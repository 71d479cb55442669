//! The secrets of a WireGuard tunnel: its private keys, and what it shares with peers.
//!
//! They are never part of a message that is stored or answered. Where they are kept is the
//! [`store`](crate::store)'s to know.

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

/// The secrets that came with a message, taken out of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GivenKeys {
    /// The private key.
    pub private: Option<PrivateKey>,
    /// The peers, those whose keys are keys.
    pub peers: Vec<GivenPeer>,
}

/// What came with a message of one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenPeer {
    /// The peer's keys.
    pub keys: Vec<PublicKey>,
    /// What is shared with it. Zeros stand for nothing, as in WireGuard's protocol.
    pub preshared: Option<PresharedKey>,
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

    /// The same with another key to speak with; those before are kept.
    #[must_use]
    pub fn rotated(&self, next: PrivateKey) -> TunnelKeys {
        let previous = self.private().filter(|key| **key != next).cloned().collect();
        TunnelKeys::new(next, previous, self.preshared.clone())
    }

    /// The same without the keys before.
    #[must_use]
    pub fn finished(&self) -> TunnelKeys {
        TunnelKeys::new(self.current.clone(), Vec::new(), self.preshared.clone())
    }
}

impl GivenKeys {
    /// The keys after these were given to a tunnel with those `before`. What was not given stays; a private key that
    /// there is none of is made by `make`.
    pub fn merged<E>(
        self,
        before: Option<&TunnelKeys>,
        make: impl FnOnce() -> Result<PrivateKey, E>,
    ) -> Result<TunnelKeys, E> {
        let preshared = shared(self.peers, before);
        let keys = match (self.private, before) {
            // One that is kept already: nobody who knows the tunnel by the others is shut out.
            (Some(given), Some(before)) if before.private().any(|key| *key == given) => before.rotated(given),
            (Some(given), _) => TunnelKeys::new(given, Vec::new(), BTreeMap::new()),
            (None, Some(before)) => before.clone(),
            (None, None) => TunnelKeys::new(make()?, Vec::new(), BTreeMap::new()),
        };
        Ok(TunnelKeys { preshared, ..keys })
    }
}

/// What is shared with the peers, by each of their keys: so it outlives a change of the peer's key.
fn shared(peers: Vec<GivenPeer>, before: Option<&TunnelKeys>) -> BTreeMap<PublicKey, PresharedKey> {
    let mut shared = BTreeMap::new();
    for GivenPeer { keys, preshared } in peers {
        let kept = || keys.iter().find_map(|key| before?.preshared(key)).cloned();
        let secret =
            preshared.or_else(kept).filter(|secret| secret.as_bytes().iter().any(|octet| *octet != 0));
        if let Some(secret) = secret {
            shared.extend(keys.into_iter().map(|key| (key, secret.clone())));
        }
    }
    shared
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn private(number: u8) -> PrivateKey {
        PrivateKey::new([number; 32])
    }

    fn public(number: u8) -> PublicKey {
        private(number).public_key()
    }

    fn made() -> Result<PrivateKey, Infallible> {
        Ok(private(99))
    }

    fn merged(private: Option<PrivateKey>, peers: Vec<GivenPeer>, before: Option<&TunnelKeys>) -> TunnelKeys {
        let Ok(keys) = GivenKeys { private, peers }.merged(before, made);
        keys
    }

    fn numbers(keys: &TunnelKeys) -> Vec<u8> {
        keys.private().map(|key| key.as_bytes()[0]).collect()
    }

    #[test]
    fn a_private_key_is_made_once_and_stays() {
        let first = merged(None, vec![], None);
        assert_eq!((numbers(&first), first.public()), (vec![99], &[public(99)][..]));
        let rotated = first.rotated(private(1));
        assert_eq!(numbers(&merged(None, vec![], Some(&rotated))), [1, 99]);
    }

    #[test]
    fn a_given_key_takes_the_place_of_all_others_unless_it_is_kept_already() {
        let before = merged(None, vec![], None).rotated(private(1)).rotated(private(2));
        assert_eq!(numbers(&before), [2, 1, 99]);
        assert_eq!(numbers(&merged(Some(private(7)), vec![], Some(&before))), [7]);
        assert_eq!(numbers(&merged(Some(private(2)), vec![], Some(&before))), [2, 1, 99]);
        assert_eq!(numbers(&merged(Some(private(99)), vec![], Some(&before))), [99, 2, 1]);
        assert_eq!(numbers(&before.finished()), [2]);
    }

    #[test]
    fn what_is_shared_stays_while_the_peer_does_and_moves_with_it_to_its_next_key() {
        let secret = || Some(PresharedKey::new([5; 32]));
        let peer =
            |keys: &[u8], preshared| GivenPeer { keys: keys.iter().map(|n| public(*n)).collect(), preshared };
        let first = merged(None, vec![peer(&[1], secret()), peer(&[2], None)], None);
        assert_eq!((first.preshared(&public(1)), first.preshared(&public(2))), (secret().as_ref(), None));
        let changing = merged(None, vec![peer(&[1, 3], None)], Some(&first));
        let changed = merged(None, vec![peer(&[3], None)], Some(&changing));
        assert_eq!((changed.preshared(&public(3)), changed.preshared(&public(1))), (secret().as_ref(), None));
        let zeros = Some(PresharedKey::new([0; 32]));
        assert!(merged(None, vec![peer(&[3], zeros)], Some(&changed)).all_preshared().is_empty());
        assert!(merged(None, vec![], Some(&changed)).all_preshared().is_empty());
    }
}
