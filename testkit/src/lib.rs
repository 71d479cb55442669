//! Labs of network namespaces for Weft's tests and benchmarks.
//!
//! A [`Lab`] is a private copy of a node: a network and a mount namespace with its own `/run`, where a daemon,
//! the command line and real programs run. Nothing in it is visible outside, and it disappears with the
//! process that made it, also when that panics or is killed. Needs root.
//!
//! [`Nodes`] are several labs on one [`Wire`], and [`mod@peer`] holds other implementations of what is to be tested between
//! them.
//!
//! This crate starts programs and reads what they say; what is expected of them is the tests' business.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod binaries;
pub mod cluster;
pub mod endpoints;
pub mod frame;
pub mod image;
pub mod iperf3;
pub mod keeper;
pub mod kernel;
pub mod lab;
pub mod manifest;
pub mod node;
pub mod peer;
pub mod process;
pub mod raw;
pub mod runtimes;
pub mod sniffer;
pub mod topology;
pub mod traffic;
pub mod tunnel;
pub mod wait;
pub mod wire;

pub use keeper::Kept;
pub use lab::{Lab, LabOptions, Place};
pub use manifest::Manifest;
pub use node::{Node, Nodes};
pub use process::{Output, Process};
pub use sniffer::Sniffer;
pub use topology::PortKind;
pub use traffic::Traffic;
pub use wait::wait_until;
pub use wire::{Family, Plug, Wire};
