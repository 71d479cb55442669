//! Tunnels: ports whose device is an encapsulation.
//!
//! To the stages a tunnel's end is a port like others: frames come from it and go to it. What a port of another kind
//! leaves to its device is done here, without I/O: frames become datagrams for a socket of the node, or packets that
//! a router sends, and the other way round.

pub mod datagram;
mod ecn;
mod frames;
mod merged;
pub(crate) mod numbers;
pub(crate) mod path;
pub(crate) mod peers;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod trouble;
pub mod wireguard;

pub use datagram::{Datagram, Inbox, Load, Underlay, UnderlayError};
