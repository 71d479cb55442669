//! What Weft asks of Linux: namespaces, devices, TAP queues, packet, UDP and raw sockets, netlink, netfilter, epoll.
//!
//! This crate does what it is told to the kernel and reports what it sees; it holds no policy and knows
//! nothing of the stack or the daemon. It is the only crate with `unsafe`. Everything is synchronous, and
//! what depends on a network namespace works in the one that the calling thread is in (see
//! [`netns::NetNs::enter`]).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod conntrack;
pub mod cycles;
pub mod datagram;
pub mod error;
pub mod fastpath;
pub mod gre;
pub mod ingress;
pub mod limits;
pub mod link;
pub mod monitor;
pub mod mounts;
pub mod netns;
pub mod nft;
pub mod packet;
pub mod poll;
pub mod sysctl;
pub mod tap;
pub mod udp;

mod descriptor;
mod netfilter;
mod socket;
#[cfg(test)]
mod testing;

pub use error::{Error, Result};
