//! What is fuzzed, and what must hold whatever comes in.
//!
//! A target is a plain function of bytes that panics when something is wrong. `fuzz/runner` runs it under
//! libFuzzer (`make fuzz TARGET=frames SECONDS=600`); `tests/seeds.rs` runs it over the committed seeds.
#![forbid(unsafe_code)]

mod crossing;
mod dress;
mod eye;
mod fabric;
mod far_end;
mod input;
mod overlay;
mod pair;
mod question;
mod site;
mod target;

/// Something that is fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of the folder of its seeds.
    pub name: &'static str,
    /// Takes any bytes; panics when something is wrong.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: target::frames::run },
    Target { name: "virtio", run: target::virtio::run },
    Target { name: "sequence", run: target::sequence::run },
    Target { name: "manifest", run: target::manifest::run },
    Target { name: "trace", run: target::trace::run },
    Target { name: "tunnels", run: target::tunnels::run },
    Target { name: "wireguard", run: target::wireguard::run },
];
