//! What comes of handling a message or of time that passes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Refusal;
use super::peer::Endpoint;

/// The IPv4 TOS or IPv6 traffic class of handshake messages: AF41, as the kernel marks them.
pub(super) const HANDSHAKE_TOS: u8 = 0x88;

/// What came of handling a message, or of time that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message to send.
    Transmit(Transmit),
    /// Packets that waited for a session were let go.
    Dropped {
        /// Why.
        refusal: Refusal,
        /// How many.
        packets: usize,
    },
}

/// A message to send.
#[derive(Clone, PartialEq, Eq)]
pub struct Transmit {
    /// To whom.
    pub destination: SocketAddr,
    /// From this address of the node; `None`: it chooses.
    pub local: Option<IpAddr>,
    /// The IPv4 TOS or IPv6 traffic class.
    pub tos: u8,
    /// Octets of the packet inside; 0: there is none.
    pub packet: usize,
    /// The message.
    pub octets: Vec<u8>,
}

impl Transmit {
    /// A message to `endpoint`.
    pub(super) fn new(endpoint: Endpoint, tos: u8, octets: Vec<u8>) -> Transmit {
        Transmit { destination: endpoint.remote, local: endpoint.local, tos, packet: 0, octets }
    }
}

impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets to {}", self.octets.len(), self.destination)
    }
}
