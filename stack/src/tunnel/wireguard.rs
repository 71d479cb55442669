//! WireGuard as the Linux kernel speaks it ("WireGuard: Next Generation Kernel Network Tunnel", Donenfeld, NDSS 2017).
//!
//! [`Device`] is one end: its keys, its peers, and the messages between. Workers share it, without a lock that all of
//! them want. It has no sockets and no clock: messages and times go in, messages and the time of the next poll come
//! out. Which frames go to which tunnel, and the sockets, are for others.
//!
//! Sending: [`Device::peer_for`] the packet's destination; [`Peer::reserve`] for a run of packets; [`Session::seal`] for
//! each, where it lies; [`Peer::sent`] once. Without a session, [`Peer::stage`]: the packet waits for one.
//!
//! Receiving: by [`Kind::of`] a message is one of a handshake, for [`Device::handle`], or data: [`Device::session`] once
//! for a run with the same receiver, [`Session::open`] for each, [`Peer::received`] once, and [`Device::allows`] for the
//! source of what was inside.
//!
//! All that is not the packet path happens in [`Device::poll`], which is to be called whenever [`Device::poll_at`] has
//! come: handshakes begin there, and packets that waited leave.

mod cookie;
mod device;
mod event;
mod handshake;
mod index;
mod inner;
mod key;
mod mac;
mod noise;
mod peer;
mod refusal;
mod replay;
mod schedule;
mod session;
mod tai64n;
mod timers;
pub mod wire;

#[cfg(test)]
mod tests;

pub use device::{Device, PeerStatus};
pub use event::{Event, Transmit};
pub use inner::Inner;
pub use key::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
pub use peer::{Endpoint, Peer, Received, Reservation};
pub use refusal::Refusal;
pub use session::{OVERHEAD, Session, padded};
pub use wire::Kind;

use std::time::Duration;

use crate::time::Instant;

/// The time by both clocks that the protocol needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the clock that only goes forward.
    pub now: Instant,
    /// By the one on the wall, since 1970 (UTC). It may jump.
    pub wall: Duration,
}
