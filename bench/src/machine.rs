//! What the whole machine has spent: processor time and context switches, of every process and of the kernel.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::statistics::{busy_seconds, context_switches};

/// Since the machine started, or between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// CPU seconds.
    pub cpu: f64,
    /// Context switches.
    pub switches: f64,
}

impl Spent {
    /// All until now.
    pub fn until_now() -> Result<Spent> {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let cpu = busy_seconds(&stat).context("/proc/stat has no line of all CPUs")?;
        let switches = context_switches(&stat).context("/proc/stat has no line ctxt")?;
        Ok(Spent { cpu, switches })
    }

    /// What came since this moment.
    pub fn since_then(self) -> Result<Spent> {
        let now = Spent::until_now()?;
        Ok(Spent { cpu: now.cpu - self.cpu, switches: now.switches - self.switches })
    }
}
