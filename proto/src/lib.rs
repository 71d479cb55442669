//! The contract of Weft: the messages and services of `weft.v1`, their YAML and JSON form, and the client.
//!
//! The generated code is in [`v1`]; the rest is what every user of it needs. What a value may be (which
//! names, prefixes or VLANs are valid) is the daemon's to judge, not this crate's.

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

pub mod client;
pub mod detach_queue;
pub mod encoding;
pub mod error_detail;
pub mod kind;
pub mod manifest;
mod secret;

pub use client::Client;

/// Messages, clients and servers of the package `weft.v1`, made from the .proto files.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod v1 {
    include!("generated/weft.v1.rs");
}

/// The descriptors of `weft.v1` and what it imports, as the reflection service gives them out.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/weft.v1.bin");

/// The `apiVersion` of every resource in YAML and JSON.
pub const API_VERSION: &str = "weft.dev/v1";
