//! The Weft node daemon: it keeps the wish, makes the kernel follow it, and moves the frames.
//!
//! A wish comes in by [`api`], is checked by [`model`], kept by [`store`] and made true by
//! [`reconcile`]; [`dataplane`] runs the forwarding stack, [`status`] tells what is.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod collector;
pub mod config;
pub mod dataplane;
pub mod error;
#[cfg(test)]
mod fixture;
pub mod ipam;
pub mod model;
pub mod reconcile;
pub mod service;
pub mod status;
pub mod store;
pub mod survivors;
pub mod telemetry;
