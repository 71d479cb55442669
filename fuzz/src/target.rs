//! The targets, one file each.

pub mod frames;
pub mod manifest;
pub mod sequence;
pub mod trace;
pub mod tunnels;
pub mod virtio;
pub mod wireguard;
