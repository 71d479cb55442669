//! Cookies: what is asked of senders of handshakes while there are too many (section 5.3 of the paper).
//!
//! [`Admission`] is the side that is asked too much: it tells load by the rate of handshakes whose first MAC is right,
//! gives out cookies for an address and port, and bounds each source that has one. [`Jar`] is the other side: it keeps
//! the cookie of a peer and puts both MACs into messages.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use foldhash::fast::RandomState;
use zeroize::Zeroizing;

use super::handshake::LocalKey;
use super::mac::{MacKeys, Tag, equal, keyed, random};
use super::wire::{COOKIE_LENGTH, CookieReply, MAC_LENGTH, Maced};
use crate::limit::TokenBucket;
use crate::time::Instant;

/// Handshake messages a second, and at once, of all sources, up to which no cookies are asked for.
const CALM: u32 = 512;
/// How long it is asked for them after there were more.
const LOADED: Duration = Duration::from_secs(1);
/// Handshake messages a second of one source while under load.
const RATE: u32 = 20;
/// How many of them at once.
const BURST: u32 = 5;
/// The most sources that are told apart at a time. Only those that have shown where they are come in here.
pub(super) const SOURCES: usize = 16_384;
/// Sources are forgotten no more often than this: it takes a look at all of them.
const SWEEP: Duration = Duration::from_millis(250);
/// How long a secret makes cookies.
const SECRET_AGE: Duration = Duration::from_secs(120);
/// How much less a cookie is used: it is as old as its secret at most, and messages take time.
const LATENCY: Duration = Duration::from_secs(5);

/// A source as far as it is told from others: what one customer has as a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => Source::V4(address),
            IpAddr::V6(address) => Source::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// Why a message is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// The source is to come again with this cookie.
    Cookie(Tag),
    /// The source comes too often, or there are too many.
    Flood,
}

/// Decides which handshake messages are worth the work.
pub(super) struct Admission(Mutex<Gate>);

struct Gate {
    all: TokenBucket,
    loaded_until: Option<Instant>,
    secret: Zeroizing<[u8; 32]>,
    secret_until: Option<Instant>,
    sources: HashMap<Source, TokenBucket, RandomState>,
    swept: Instant,
}

impl Admission {
    pub fn new() -> Admission {
        Admission(Mutex::new(Gate {
            all: TokenBucket::new(CALM, CALM),
            loaded_until: None,
            secret: Zeroizing::default(),
            secret_until: None,
            sources: HashMap::default(),
            swept: Instant::default(),
        }))
    }

    /// Whether a message is let in whose first MAC is right.
    pub fn admit(&self, now: Instant, source: SocketAddr, message: &impl Maced) -> Result<(), Denied> {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !gate.is_loaded(now) {
            return Ok(());
        }
        let Some(cookie) = gate.cookie(now, source) else { return Err(Denied::Flood) };
        if !equal(&keyed(&cookie, &[message.before_mac2()]), &message.mac2()) {
            return Err(Denied::Cookie(cookie));
        }
        if gate.allow(now, source.ip()) { Ok(()) } else { Err(Denied::Flood) }
    }

    #[cfg(test)]
    pub fn sources(&self) -> usize {
        self.0.lock().unwrap().sources.len()
    }
}

impl Gate {
    /// Counts a message. Senders may be made up, so all of them are counted as one.
    fn is_loaded(&mut self, now: Instant) -> bool {
        if !self.all.allow(now) {
            self.loaded_until = Some(now + LOADED);
        }
        self.loaded_until.is_some_and(|until| now < until)
    }

    /// The cookie of a source. Its port is part of it: behind one address there may be many.
    fn cookie(&mut self, now: Instant, source: SocketAddr) -> Option<Tag> {
        if self.secret_until.is_none_or(|until| now >= until) {
            *self.secret = random()?;
            self.secret_until = Some(now + SECRET_AGE);
        }
        let port = source.port().to_be_bytes();
        Some(match source.ip() {
            IpAddr::V4(address) => keyed(self.secret.as_ref(), &[&address.octets(), &port]),
            IpAddr::V6(address) => keyed(self.secret.as_ref(), &[&address.octets(), &port]),
        })
    }

    fn allow(&mut self, now: Instant, address: IpAddr) -> bool {
        let source = Source::from(address);
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&source) {
            if now.since(self.swept) < SWEEP {
                return false;
            }
            self.swept = now;
            self.sources.retain(|_, bucket| !bucket.is_full(now));
            if self.sources.len() >= SOURCES {
                return false;
            }
        }
        self.sources.entry(source).or_insert(TokenBucket::new(RATE, BURST)).allow(now)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("admission of handshakes")
    }
}

/// The reply that gives the sender of `message` its cookie. `None`: there is no randomness.
pub(super) fn reply(local: &LocalKey, message: &impl Maced, mut cookie: Tag) -> Option<[u8; COOKIE_LENGTH]> {
    let nonce = random()?;
    let cipher = XChaCha20Poly1305::new(Key::from_slice(&local.macs.cookie));
    let tag =
        cipher.encrypt_in_place_detached(XNonce::from_slice(&nonce), &message.mac1(), &mut cookie).ok()?;
    let mut sealed = [0; 32];
    sealed[..MAC_LENGTH].copy_from_slice(&cookie);
    sealed[MAC_LENGTH..].copy_from_slice(&tag);
    Some(CookieReply::emit(message.sender(), &nonce, &sealed))
}

/// What was said to a peer and what it may answer.
#[derive(Default)]
pub(super) struct Jar {
    /// The first MAC of the last handshake message, and the key of a reply to it.
    asked: Option<(Tag, [u8; 32])>,
    /// The peer's cookie, and until when it is used.
    cookie: Option<(Zeroizing<Tag>, Instant)>,
}

impl Jar {
    /// Puts both MACs into a message to the owner of the key.
    pub fn seal(&mut self, now: Instant, remote: &MacKeys, message: &mut [u8]) {
        let Some(end) = message.len().checked_sub(2 * MAC_LENGTH) else { return };
        let mac1 = remote.mac1(&message[..end]);
        message[end..end + MAC_LENGTH].copy_from_slice(&mac1);
        self.asked = Some((mac1, remote.cookie));
        let fresh = self.cookie.as_ref().filter(|(_, until)| now < *until);
        let mac2 = fresh
            .map_or([0; MAC_LENGTH], |(cookie, _)| keyed(cookie.as_ref(), &[&message[..end + MAC_LENGTH]]));
        message[end + MAC_LENGTH..].copy_from_slice(&mac2);
    }

    /// Takes in a reply to the last message. Says whether it is one.
    pub fn accept(&mut self, now: Instant, reply: CookieReply<'_>) -> bool {
        let Some((mac1, key)) = &self.asked else { return false };
        let mut cookie = Zeroizing::new(Tag::default());
        let (sealed, tag) = reply.cookie().split_at(MAC_LENGTH);
        cookie.copy_from_slice(sealed);
        let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
        let nonce = XNonce::from_slice(reply.nonce());
        if cipher.decrypt_in_place_detached(nonce, mac1, cookie.as_mut(), tag.into()).is_err() {
            return false;
        }
        self.cookie = Some((cookie, now + (SECRET_AGE - LATENCY)));
        self.asked = None;
        true
    }
}

#[cfg(test)]
mod tests;
