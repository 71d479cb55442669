//! The handshake, Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (section 5.4 of the paper; <https://noiseprotocol.org>), by `snow`.
//!
//! Here are the two messages and the keys that come of them. Whose message it may be, when it is sent and what becomes
//! of the keys is for `peer`.

use std::fmt;

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use super::key::KEY_LENGTH;
use super::mac::MacKeys;
use super::noise::Primitives;
use super::tai64n::{TIMESTAMP_LENGTH, Tai64n};
use super::wire::{INITIATION_LENGTH, Initiation, RESPONSE_LENGTH, Response};
use super::{PresharedKey, PrivateKey, PublicKey};

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Where the pattern has its preshared key.
const PSK: usize = 2;

/// A key of the device.
pub(super) struct LocalKey {
    pub private: PrivateKey,
    pub public: PublicKey,
    /// For the MACs of messages to us.
    pub macs: MacKeys,
}

impl LocalKey {
    pub fn new(private: PrivateKey) -> LocalKey {
        let public = private.public_key();
        LocalKey { private, public, macs: MacKeys::new(&public) }
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.public, f)
    }
}

/// A key of a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemoteKey {
    pub public: PublicKey,
    /// For the MACs of messages to it.
    pub macs: MacKeys,
}

impl RemoteKey {
    pub fn new(public: PublicKey) -> RemoteKey {
        RemoteKey { public, macs: MacKeys::new(&public) }
    }
}

/// The keys of a session.
pub(super) struct Keys {
    pub sending: Zeroizing<[u8; KEY_LENGTH]>,
    pub receiving: Zeroizing<[u8; KEY_LENGTH]>,
}

/// The state of who began.
pub(super) struct Initiator(HandshakeState);

/// The state of who answers.
pub(super) struct Responder(HandshakeState);

fn builder(local: &LocalKey) -> Result<Builder<'_>, snow::Error> {
    let params: NoiseParams = PATTERN.parse()?;
    Builder::with_resolver(params, Box::new(Primitives))
        .prologue(PROLOGUE)?
        .local_private_key(local.private.as_bytes())
}

/// Sets the preshared key; zeros stand for none. It overwrites the one that was there.
fn set_psk(state: &mut HandshakeState, key: Option<&PresharedKey>) -> Result<(), snow::Error> {
    state.set_psk(PSK, key.map_or(&[0; KEY_LENGTH], |key| key.as_bytes()))
}

fn split(mut state: HandshakeState, initiator: bool) -> Keys {
    let (first, second) = state.dangerously_get_raw_split();
    // It copies its keys, and does not wipe them: this one can be overwritten.
    let _ = set_psk(&mut state, None);
    let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
    if initiator {
        Keys { sending: first, receiving: second }
    } else {
        Keys { sending: second, receiving: first }
    }
}

impl Initiator {
    /// Begins a handshake with who has the `remote` key. The message's MACs are left zero.
    pub fn begin(
        local: &LocalKey,
        remote: &PublicKey,
        index: u32,
        timestamp: Tai64n,
    ) -> Result<(Initiator, [u8; INITIATION_LENGTH]), snow::Error> {
        Initiator::begin_with(builder(local)?, remote, index, timestamp)
    }

    fn begin_with(
        builder: Builder<'_>,
        remote: &PublicKey,
        index: u32,
        timestamp: Tai64n,
    ) -> Result<(Initiator, [u8; INITIATION_LENGTH]), snow::Error> {
        let mut state = builder.remote_public_key(remote.as_bytes())?.build_initiator()?;
        let mut message = Initiation::vacant(index);
        state.write_message(timestamp.octets(), Initiation::noise_mut(&mut message))?;
        Ok((Initiator(state), message))
    }

    /// Takes in the answer. A false one changes nothing: the true one may still come.
    pub fn accept(&mut self, response: Response<'_>, psk: Option<&PresharedKey>) -> Result<(), snow::Error> {
        // The key may have changed since the handshake began, and it is not used before now.
        set_psk(&mut self.0, psk)?;
        self.0.read_message(response.noise(), &mut []).map(drop)
    }

    /// The keys, once the answer was accepted.
    pub fn finish(self) -> Keys {
        split(self.0, true)
    }
}

impl Responder {
    /// Takes in an initiation to this key: who it is from, and its timestamp.
    pub fn read(
        local: &LocalKey,
        initiation: Initiation<'_>,
    ) -> Result<(Responder, PublicKey, Tai64n), snow::Error> {
        Responder::read_with(builder(local)?, initiation)
    }

    fn read_with(
        builder: Builder<'_>,
        initiation: Initiation<'_>,
    ) -> Result<(Responder, PublicKey, Tai64n), snow::Error> {
        let mut state = builder.build_responder()?;
        let mut timestamp = [0; TIMESTAMP_LENGTH];
        state.read_message(initiation.noise(), &mut timestamp)?;
        let remote =
            state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(snow::Error::Input)?;
        Ok((Responder(state), PublicKey::new(remote), Tai64n::from_octets(timestamp)))
    }

    /// The answer, with MACs left zero, and the keys.
    pub fn answer(
        mut self,
        index: u32,
        remote_index: u32,
        psk: Option<&PresharedKey>,
    ) -> Result<([u8; RESPONSE_LENGTH], Keys), snow::Error> {
        set_psk(&mut self.0, psk)?;
        let mut message = Response::vacant(index, remote_index);
        self.0.write_message(&[], Response::noise_mut(&mut message))?;
        Ok((message, split(self.0, false)))
    }
}

#[cfg(test)]
mod tests;
