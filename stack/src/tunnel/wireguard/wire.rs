//! The four messages (section 5.4 of the paper): checked views, and buffers with their headers filled in.
//!
//! All numbers are little-endian. The first octet is the type; the three after it are reserved and zero. What the
//! fields hold is for `handshake`, `mac`, `cookie` and `session`.

use super::Refusal;

/// Octets of a handshake initiation.
pub const INITIATION_LENGTH: usize = 148;
/// Octets of a handshake response.
pub const RESPONSE_LENGTH: usize = 92;
/// Octets of a cookie reply.
pub const COOKIE_LENGTH: usize = 64;
/// Octets before the encrypted packet of a data message.
pub const HEADER_LENGTH: usize = 16;
/// Octets after it: the authentication tag.
pub const TAG_LENGTH: usize = 16;
/// Octets of each MAC.
pub const MAC_LENGTH: usize = 16;
/// Octets of the Noise message in an initiation: ephemeral key, static key, timestamp.
pub const NOISE_INITIATION_LENGTH: usize = 108;
/// Octets of the Noise message in a response: ephemeral key, and nothing with its tag.
pub const NOISE_RESPONSE_LENGTH: usize = 48;

const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE: u32 = 3;
const DATA: u32 = 4;

/// What a message is, by its type and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Begins a handshake.
    Initiation,
    /// Answers an initiation.
    Response,
    /// Asks a sender to show that it is where it says.
    Cookie,
    /// An encrypted packet; shorter ones than header and tag are none.
    Data,
}

impl Kind {
    /// What `message` is; `None`: no message.
    #[inline]
    pub fn of(message: &[u8]) -> Option<Kind> {
        match (number(message, 0)?, message.len()) {
            (DATA, HEADER_LENGTH..) if message.len() >= HEADER_LENGTH + TAG_LENGTH => Some(Kind::Data),
            (INITIATION, INITIATION_LENGTH) => Some(Kind::Initiation),
            (RESPONSE, RESPONSE_LENGTH) => Some(Kind::Response),
            (COOKIE, COOKIE_LENGTH) => Some(Kind::Cookie),
            _ => None,
        }
    }
}

/// The number of four octets at `at`.
fn number(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// The `N` octets of a message of known length from `AT` on.
fn field<const AT: usize, const N: usize, const LENGTH: usize>(message: &[u8; LENGTH]) -> &[u8; N] {
    const { assert!(AT + N <= LENGTH) };
    // The bounds were proven above when this was compiled.
    message[AT..].first_chunk().unwrap_or(&[0; N])
}

/// The header of a data message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// The index that its receiver gave the session.
    pub receiver: u32,
    /// Counts the messages of the session; the nonce.
    pub counter: u64,
}

impl DataHeader {
    /// The header of a data message.
    #[inline]
    pub fn parse(message: &[u8]) -> Result<DataHeader, Refusal> {
        if Kind::of(message) != Some(Kind::Data) {
            return Err(Refusal::Malformed);
        }
        let receiver = number(message, 4).ok_or(Refusal::Malformed)?;
        let counter =
            message[8..].first_chunk().copied().map(u64::from_le_bytes).ok_or(Refusal::Malformed)?;
        Ok(DataHeader { receiver, counter })
    }

    /// The receiver's index of a data message of which only the beginning is there.
    pub fn receiver_of(beginning: &[u8]) -> Option<u32> {
        let kind = number(beginning, 0)?;
        (kind == DATA).then(|| number(beginning, 4)).flatten()
    }

    /// Its octets.
    #[inline]
    pub fn emit(self) -> [u8; HEADER_LENGTH] {
        let mut octets = [0; HEADER_LENGTH];
        octets[..4].copy_from_slice(&DATA.to_le_bytes());
        octets[4..8].copy_from_slice(&self.receiver.to_le_bytes());
        octets[8..].copy_from_slice(&self.counter.to_le_bytes());
        octets
    }
}

/// A handshake initiation.
#[derive(Debug, Clone, Copy)]
pub struct Initiation<'a>(&'a [u8; INITIATION_LENGTH]);

/// A handshake response.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a>(&'a [u8; RESPONSE_LENGTH]);

/// A cookie reply.
#[derive(Debug, Clone, Copy)]
pub struct CookieReply<'a>(&'a [u8; COOKIE_LENGTH]);

/// A message of which both MACs are the end.
pub(super) trait Maced {
    /// All of its octets.
    fn octets(&self) -> &[u8];
    /// The index of its sender.
    fn sender(&self) -> u32;

    /// What the first MAC is over.
    fn before_mac1(&self) -> &[u8] {
        &self.octets()[..self.octets().len() - 2 * MAC_LENGTH]
    }

    /// What the second MAC is over.
    fn before_mac2(&self) -> &[u8] {
        &self.octets()[..self.octets().len() - MAC_LENGTH]
    }

    /// The first MAC.
    fn mac1(&self) -> [u8; MAC_LENGTH] {
        self.before_mac2().last_chunk().copied().unwrap_or_default()
    }

    /// The second MAC, zero if there is none.
    fn mac2(&self) -> [u8; MAC_LENGTH] {
        self.octets().last_chunk().copied().unwrap_or_default()
    }
}

macro_rules! view {
    ($name:ident, $kind:ident) => {
        impl<'a> $name<'a> {
            /// The message in these octets.
            pub fn parse(message: &'a [u8]) -> Result<$name<'a>, Refusal> {
                match Kind::of(message) {
                    Some(Kind::$kind) => message.try_into().map($name).map_err(|_| Refusal::Malformed),
                    _ => Err(Refusal::Malformed),
                }
            }
        }
    };
}

view!(Initiation, Initiation);
view!(Response, Response);
view!(CookieReply, Cookie);

impl<'a> Initiation<'a> {
    /// The Noise message.
    pub fn noise(&self) -> &'a [u8; NOISE_INITIATION_LENGTH] {
        field::<8, NOISE_INITIATION_LENGTH, INITIATION_LENGTH>(self.0)
    }

    /// A buffer for an initiation; Noise message and MACs are zero.
    pub fn vacant(sender: u32) -> [u8; INITIATION_LENGTH] {
        let mut octets = [0; INITIATION_LENGTH];
        octets[..4].copy_from_slice(&INITIATION.to_le_bytes());
        octets[4..8].copy_from_slice(&sender.to_le_bytes());
        octets
    }

    /// Where the Noise message goes.
    pub fn noise_mut(octets: &mut [u8; INITIATION_LENGTH]) -> &mut [u8] {
        &mut octets[8..8 + NOISE_INITIATION_LENGTH]
    }
}

impl Maced for Initiation<'_> {
    fn octets(&self) -> &[u8] {
        self.0
    }

    fn sender(&self) -> u32 {
        u32::from_le_bytes(*field::<4, 4, INITIATION_LENGTH>(self.0))
    }
}

impl<'a> Response<'a> {
    /// The index of whom it answers.
    pub fn receiver(&self) -> u32 {
        u32::from_le_bytes(*field::<8, 4, RESPONSE_LENGTH>(self.0))
    }

    /// The Noise message.
    pub fn noise(&self) -> &'a [u8; NOISE_RESPONSE_LENGTH] {
        field::<12, NOISE_RESPONSE_LENGTH, RESPONSE_LENGTH>(self.0)
    }

    /// A buffer for a response; Noise message and MACs are zero.
    pub fn vacant(sender: u32, receiver: u32) -> [u8; RESPONSE_LENGTH] {
        let mut octets = [0; RESPONSE_LENGTH];
        octets[..4].copy_from_slice(&RESPONSE.to_le_bytes());
        octets[4..8].copy_from_slice(&sender.to_le_bytes());
        octets[8..12].copy_from_slice(&receiver.to_le_bytes());
        octets
    }

    /// Where the Noise message goes.
    pub fn noise_mut(octets: &mut [u8; RESPONSE_LENGTH]) -> &mut [u8] {
        &mut octets[12..12 + NOISE_RESPONSE_LENGTH]
    }
}

impl Maced for Response<'_> {
    fn octets(&self) -> &[u8] {
        self.0
    }

    fn sender(&self) -> u32 {
        u32::from_le_bytes(*field::<4, 4, RESPONSE_LENGTH>(self.0))
    }
}

impl<'a> CookieReply<'a> {
    /// The index of whom it answers.
    pub fn receiver(&self) -> u32 {
        u32::from_le_bytes(*field::<4, 4, COOKIE_LENGTH>(self.0))
    }

    /// The nonce of the encryption.
    pub fn nonce(&self) -> &'a [u8; 24] {
        field::<8, 24, COOKIE_LENGTH>(self.0)
    }

    /// The encrypted cookie with its tag.
    pub fn cookie(&self) -> &'a [u8; 32] {
        field::<32, 32, COOKIE_LENGTH>(self.0)
    }

    /// The octets of a cookie reply.
    pub fn emit(receiver: u32, nonce: &[u8; 24], cookie: &[u8; 32]) -> [u8; COOKIE_LENGTH] {
        let mut octets = [0; COOKIE_LENGTH];
        octets[..4].copy_from_slice(&COOKIE.to_le_bytes());
        octets[4..8].copy_from_slice(&receiver.to_le_bytes());
        octets[8..32].copy_from_slice(nonce);
        octets[32..].copy_from_slice(cookie);
        octets
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_known_by_type_length_and_reserved_octets() {
        let message = |kind: u8, length: usize| {
            let mut octets = vec![0; length];
            octets[0] = kind;
            octets
        };
        assert_eq!(Kind::of(&message(1, 148)), Some(Kind::Initiation));
        assert_eq!(Kind::of(&message(2, 92)), Some(Kind::Response));
        assert_eq!(Kind::of(&message(3, 64)), Some(Kind::Cookie));
        assert_eq!(Kind::of(&message(4, 32)), Some(Kind::Data));
        for (kind, length) in [(0, 148), (1, 147), (1, 149), (2, 148), (3, 63), (4, 31), (5, 148), (4, 3)] {
            assert_eq!(Kind::of(&message(kind, length)), None, "{kind} {length}");
        }
        for reserved in 1..4 {
            let mut octets = message(4, 64);
            octets[reserved] = 1;
            assert_eq!(Kind::of(&octets), None);
        }
    }

    #[test]
    fn the_header_of_data_has_a_counter_of_64_bits() {
        let header = DataHeader { receiver: 0x0403_0201, counter: 0x0807_0605_0403_0201 };
        assert_eq!(header.emit(), [4, 0, 0, 0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8]);
        let message = [header.emit(), [0; 16]].concat();
        assert_eq!(DataHeader::parse(&message), Ok(header));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(
            kind in 0u8..6,
            length in prop_oneof![Just(148usize), Just(92), Just(64), 0usize..200],
            rest in proptest::collection::vec(any::<u8>(), 200),
        ) {
            let mut message = rest[..length].to_vec();
            if let Some(octets) = message.first_chunk_mut::<4>() {
                *octets = [kind, 0, 0, 0];
            }
            let known = [
                Initiation::parse(&message).map(|m| (m.sender(), m.mac1(), m.mac2(), m.noise().len())).is_ok(),
                Response::parse(&message).map(|m| (m.sender(), m.receiver(), m.mac1(), m.noise().len())).is_ok(),
                CookieReply::parse(&message).map(|m| (m.receiver(), m.nonce()[0], m.cookie()[0])).is_ok(),
                DataHeader::parse(&message).is_ok(),
            ];
            prop_assert_eq!(known.contains(&true), Kind::of(&message).is_some());
        }
    }
}
