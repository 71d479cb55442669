//! The stack alone: cycles a packet of `Stack::process`, without devices, system calls or threads.
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

pub use instructions::{available as can_count_instructions, count as count_instructions};
pub use load::{Frames, Load};
pub use measure::{Figure, Run, measure};

use anyhow::Result;

/// Puts this many rounds of packets through the stack: what runs under valgrind.
pub fn execute(load: &Load, rounds: usize) -> Result<()> {
    let mut drive = drive::Drive::new(load)?;
    for _ in 0..rounds {
        drive.fill();
        drive.process();
    }
    Ok(())
}
