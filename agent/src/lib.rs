//! The agent: it hears what a cluster is, and tells the daemon of its node what to make of it.
//!
//! [`cluster`] is what is known, from whoever keeps it; [`mesh`] works out what the daemon shall have; [`program`]
//! tells it. All that it does to the node goes through the daemon's public API.

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

pub mod cache;
pub mod cluster;
pub mod cni;
pub mod config;
pub mod connectivity;
pub mod crd;
pub mod daemon;
pub mod declared;
pub mod error;
pub mod file;
pub mod http;
pub mod mesh;
pub mod metrics;
pub mod pods;
pub mod pools;
pub mod program;
pub mod rotation;
pub mod status;
pub mod steward;
pub mod underlay;

pub use error::{Error, Result};
