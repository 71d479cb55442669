//! What Noise is made of, for `snow`: X25519, ChaCha20-Poly1305 and randomness by `aws-lc-rs`, BLAKE2s by `blake2`. The
//! handshake itself is in `handshake`.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ParsedPublicKey, UnparsedPublicKey, X25519};
use blake2::{Blake2s256, Digest};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use super::key::KEY_LENGTH;
use super::wire::TAG_LENGTH;

/// Finds the parts that `snow` asks for.
pub(super) struct Primitives;

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<Curve25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::Blake2s).then(|| Box::<Blake2s>::default() as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly).then(|| Box::<ChaChaPoly>::default() as Box<dyn Cipher>)
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), Error> {
        aws_lc_rs::rand::fill(octets).map_err(|_| Error::Rng)
    }
}

/// A pair of keys on Curve25519 (RFC 7748).
#[derive(Default)]
pub(super) struct Curve25519 {
    private: Zeroizing<[u8; KEY_LENGTH]>,
    pair: Option<agreement::PrivateKey>,
    public: [u8; KEY_LENGTH],
}

impl Dh for Curve25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LENGTH
    }

    fn priv_len(&self) -> usize {
        KEY_LENGTH
    }

    fn set(&mut self, private: &[u8]) {
        let Ok(octets) = <[u8; KEY_LENGTH]>::try_from(private) else { return };
        *self.private = octets;
        self.pair = agreement::PrivateKey::from_private_key(&X25519, private).ok();
        let public = self.pair.as_ref().and_then(|pair| pair.compute_public_key().ok());
        self.public = public.and_then(|public| public.as_ref().try_into().ok()).unwrap_or_default();
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut private = Zeroizing::new([0; KEY_LENGTH]);
        random.try_fill_bytes(private.as_mut())?;
        self.set(private.as_ref());
        if self.pair.is_some() { Ok(()) } else { Err(Error::Dh) }
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.private.as_ref()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let (Some(pair), Some(public)) = (&self.pair, public.get(..KEY_LENGTH)) else {
            return Err(Error::Dh);
        };
        let public =
            ParsedPublicKey::try_from(UnparsedPublicKey::new(&X25519, public)).map_err(|_| Error::Dh)?;
        // It refuses public keys of small order, by which the secret would be zero, as the kernel does.
        agreement::agree(pair, public, Error::Dh, |secret| {
            out.get_mut(..secret.len()).ok_or(Error::Dh)?.copy_from_slice(secret);
            Ok(())
        })
    }
}

/// BLAKE2s (RFC 7693) with 32 octets.
#[derive(Default)]
struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}

/// ChaCha20-Poly1305 (RFC 8439) with the nonces of Noise: four octets of zero, and the counter, little-endian.
#[derive(Default)]
struct ChaChaPoly {
    key: Option<LessSafeKey>,
}

/// The key that seals or opens with these octets. `None`: it cannot be made.
pub(super) fn cipher(key: &[u8; KEY_LENGTH]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new)
}

/// The nonce of a message's number. A number must never come twice with one key.
#[inline]
pub(super) fn nonce(counter: u64) -> Nonce {
    let mut octets = [0; 12];
    octets[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(octets)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LENGTH]) {
        self.key = cipher(key);
    }

    fn encrypt(&self, counter: u64, data: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (sealed, rest) = out.split_at_mut(plaintext.len());
        sealed.copy_from_slice(plaintext);
        let tag = self
            .key
            .as_ref()
            .and_then(|key| key.seal_in_place_separate_tag(nonce(counter), Aad::from(data), sealed).ok());
        match tag {
            Some(tag) => rest[..TAG_LENGTH].copy_from_slice(tag.as_ref()),
            // It cannot say that it failed: nothing of the plaintext may leave then, and nobody will take the message.
            None => out[..plaintext.len() + TAG_LENGTH].fill(0),
        }
        plaintext.len() + TAG_LENGTH
    }

    fn decrypt(&self, counter: u64, data: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let key = self.key.as_ref().ok_or(Error::Decrypt)?;
        let length = sealed.len().checked_sub(TAG_LENGTH).ok_or(Error::Decrypt)?;
        let (sealed, tag) = sealed.split_at(length);
        let out = out.get_mut(..length).ok_or(Error::Decrypt)?;
        key.open_separate_gather(nonce(counter), Aad::from(data), sealed, tag, out)
            .map_err(|_| Error::Decrypt)?;
        Ok(length)
    }
}
