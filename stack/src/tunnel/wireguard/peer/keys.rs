//! What a peer was told of itself, and which of its keys and ours a handshake begins with.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::handshake::{LocalKey, RemoteKey};
use super::super::{PresharedKey, PublicKey};
use crate::Prefix;
use crate::config::WireGuardPeer;

/// What a peer was told of itself.
pub(in super::super) struct Settings {
    /// The last is the newest.
    pub keys: Vec<RemoteKey>,
    pub psk: Option<PresharedKey>,
    /// Where it is said to be.
    pub endpoint: Option<SocketAddr>,
    pub allowed: Vec<Prefix>,
    /// Zero: never.
    pub keepalive: Duration,
}

impl From<&WireGuardPeer> for Settings {
    fn from(peer: &WireGuardPeer) -> Settings {
        Settings {
            keys: peer.keys.iter().copied().map(RemoteKey::new).collect(),
            psk: peer.preshared_key.clone(),
            endpoint: peer.endpoint,
            allowed: peer.allowed.clone(),
            keepalive: Duration::from_secs(peer.keepalive.into()),
        }
    }
}

impl Settings {
    pub fn has(&self, key: &PublicKey) -> bool {
        self.keys.iter().any(|own| own.public == *key)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.public)).finish()
    }
}

/// A key of ours and one of the peer's.
pub(super) type Pair = (PublicKey, PublicKey);

/// The keys that the handshake's `attempt` begins with: the newest of both, then those that worked before, then the
/// others in turn. So both ends may get new keys in any order, and the last that both know is found.
pub(super) fn choose(
    locals: &[Arc<LocalKey>],
    remotes: &[RemoteKey],
    worked: Option<Pair>,
    attempt: u32,
) -> Option<(Arc<LocalKey>, RemoteKey)> {
    let mut pairs: Vec<_> = locals
        .iter()
        .flat_map(|local| remotes.iter().rev().map(move |remote| (Arc::clone(local), *remote)))
        .collect();
    let known = pairs.iter().position(|(local, remote)| Some((local.public, remote.public)) == worked);
    if let Some(known) = known.filter(|known| *known > 1) {
        pairs[1..=known].rotate_right(1);
    }
    let count = pairs.len().max(1);
    pairs.into_iter().nth(attempt as usize % count)
}

#[cfg(test)]
mod tests {
    use super::super::super::PrivateKey;
    use super::*;

    #[test]
    fn the_newest_keys_go_first_then_those_that_worked_then_all_others() {
        let locals: Vec<_> = (1..3).map(|n| Arc::new(LocalKey::new(PrivateKey::new([n; 32])))).collect();
        let remotes: Vec<_> = (3..5).map(|n| RemoteKey::new(PublicKey::new([n; 32]))).collect();
        let order = |worked| {
            let attempts = (0..5).map(|attempt| choose(&locals, &remotes, worked, attempt).unwrap());
            attempts.map(|(local, remote)| (local.public, remote.public)).collect::<Vec<_>>()
        };
        let (new, old) = (locals[0].public, locals[1].public);
        let (their_old, their_new) = (remotes[0].public, remotes[1].public);
        let plain =
            [(new, their_new), (new, their_old), (old, their_new), (old, their_old), (new, their_new)];
        assert_eq!(order(None), plain);
        let known =
            [(new, their_new), (old, their_old), (new, their_old), (old, their_new), (new, their_new)];
        assert_eq!(order(Some((old, their_old))), known);
        assert_eq!(order(Some((new, their_new))), plain);
        assert!(choose(&[], &remotes, None, 0).is_none());
    }
}
