//! Times a load.

use anyhow::{Context, Result};
use weft_stack::batch::BATCH;

use super::clock::Clock;
use super::drive::Drive;
use super::load::Load;
use crate::statistics::median;

/// Batches before the first that counts.
const WARM_UP: usize = 1_000;
/// Batches of a run.
const ROUNDS: usize = 10_000;

/// What a run gave, for each packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// In the unit of its [`Figure`].
    pub ticks: f64,
    /// The same in nanoseconds.
    pub nanoseconds: f64,
}

/// The runs of one load.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Of the ticks.
    pub unit: &'static str,
    /// One by one.
    pub runs: Vec<Run>,
}

/// Times a load `runs` times; each gives the median of its batches, so that interruptions do not count.
pub fn measure(load: &Load, runs: u32) -> Result<Figure> {
    let clock = Clock::new();
    let mut drive = Drive::new(load)?;
    for _ in 0..WARM_UP {
        drive.fill();
        drive.process();
    }
    let runs = (0..runs).map(|_| run(&clock, &mut drive)).collect::<Result<_>>()?;
    Ok(Figure { unit: clock.unit(), runs })
}

fn run(clock: &Clock, drive: &mut Drive) -> Result<Run> {
    let mut batches = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        drive.fill();
        let start = clock.ticks();
        drive.process();
        batches.push(clock.ticks().wrapping_sub(start) as f64);
    }
    let ticks = median(&batches).context("no batch was processed")? / BATCH as f64;
    Ok(Run { ticks, nanoseconds: clock.nanoseconds(ticks) })
}
