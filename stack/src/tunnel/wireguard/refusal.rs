//! Why something was refused.

/// Why a message or packet went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Its length, type or reserved octets are no message's; or what was inside is no IP packet.
    #[error("malformed message")]
    Malformed,
    /// The first MAC of a handshake message is for none of the device's keys.
    #[error("first MAC wrong")]
    MacInvalid,
    /// A handshake by a key that no peer has.
    #[error("unknown peer")]
    UnknownPeer,
    /// A handshake that is as old as, or older than, one that was taken in.
    #[error("handshake replayed")]
    HandshakeReplayed,
    /// More handshakes than there may be from one source or peer.
    #[error("too many handshakes")]
    Flood,
    /// Under load: the sender was given a cookie, by which to show that it is where it says.
    #[error("cookie wanted")]
    CookieWanted,
    /// No session and no handshake has this receiver index.
    #[error("unknown receiver index")]
    UnknownIndex,
    /// The session is too old, or has had too many messages.
    #[error("session expired")]
    KeyExpired,
    /// A message that came before, or is too far behind to tell.
    #[error("message replayed")]
    Replayed,
    /// It was not made, or not as it is, by who has the keys.
    #[error("authentication failed")]
    AuthenticationFailed,
    /// The packet inside has a source that is not the peer's.
    #[error("source not allowed")]
    SourceNotAllowed,
    /// No peer has the destination.
    #[error("no peer for the destination")]
    NoPeer,
    /// Nobody knows where the peer is.
    #[error("no endpoint")]
    NoEndpoint,
    /// Too many packets wait for a session; the oldest had to go.
    #[error("staging full")]
    StagingFull,
    /// The peer did not answer in time for packets that waited.
    #[error("handshake unanswered")]
    Unanswered,
    /// The peer was removed.
    #[error("peer removed")]
    PeerRemoved,
}

impl Refusal {
    /// Every one.
    pub const ALL: [Refusal; 16] = [
        Refusal::Malformed,
        Refusal::MacInvalid,
        Refusal::UnknownPeer,
        Refusal::HandshakeReplayed,
        Refusal::Flood,
        Refusal::CookieWanted,
        Refusal::UnknownIndex,
        Refusal::KeyExpired,
        Refusal::Replayed,
        Refusal::AuthenticationFailed,
        Refusal::SourceNotAllowed,
        Refusal::NoPeer,
        Refusal::NoEndpoint,
        Refusal::StagingFull,
        Refusal::Unanswered,
        Refusal::PeerRemoved,
    ];
}
