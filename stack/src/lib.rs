//! The forwarding stack of Weft.
//!
//! Sans-IO: frames, time and a [`config::Config`] go in; frames, timers and counters come out.
//! There is no socket, no thread, no clock and no file in here, so everything can be tested with
//! bytes and a number for the time.
//!
//! [`pipeline`] lists the stages in order and is the place to begin reading.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod batch;
pub mod config;
pub mod counters;
mod jitter;
mod limit;
mod offload;
pub mod packet;
pub mod pipeline;
pub mod prefix;
pub mod replay;
mod stage;
pub mod table;
#[cfg(test)]
mod testing;
pub mod time;
pub mod trace;
pub mod tunnel;
pub mod verdict;
pub mod wire;

pub use pipeline::Stack;
pub use prefix::Prefix;
pub use wire::ethernet::MacAddr;
