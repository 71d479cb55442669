//! The stack alone: cycles a packet of `Stack::process`, without devices, system calls or threads; and WireGuard's
//! cipher with what goes with it.
//!
//! A load says what traffic meets what fabric; [`measure()`] times it, and [`mod@instructions`] counts what the
//! processor executes for it, which is the same on a busy machine as on a quiet one.

mod clock;
mod drive;
mod fabric;
mod instructions;
mod load;
mod measure;
mod traffic;
mod wireguard;

pub use instructions::{available as can_count_instructions, count as count_instructions};
pub use load::{Frames, Load};
pub use measure::{Figure, Run, measure};

use anyhow::Result;

/// A batch of packets and what is done with it, again and again.
pub trait Subject {
    /// Makes the next batch.
    fn fill(&mut self);

    /// Does what is measured.
    ///
    /// # Errors
    /// Something else was done: the figures would be of that.
    fn process(&mut self) -> Result<()>;
}

/// The stages under a load.
pub fn forwarding(load: &Load) -> Result<Box<dyn Subject>> {
    Ok(Box::new(drive::Drive::new(load)?))
}

/// WireGuard's sealing of packets of this many octets.
pub fn sealing(octets: usize) -> Result<Box<dyn Subject>> {
    Ok(Box::new(wireguard::Sealing::new(octets)?))
}

/// WireGuard's opening of packets of this many octets.
pub fn opening(octets: usize) -> Result<Box<dyn Subject>> {
    Ok(Box::new(wireguard::Opening::new(octets)?))
}
