//! Programs that start daemons of their own, as container runtimes do: whatever they start ends with the test.
//!
//! A runtime's shim or monitor forks away from its parent, so that killing what the test started is not enough. A
//! small script stands between: it is the parent of all that is orphaned below it.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{Entrance, Place};
use crate::process::{DEADLINE, Output, Process};
use crate::wait::wait_until;

/// Becomes the parent of orphans; a few lines that every Debian with Python can run.
const SCRIPT: &str = include_str!("keeper.py");

/// Longest time that killing all of them may take.
const END: Duration = Duration::from_secs(10);

/// A running program and all that it started; all of it is killed when this is dropped, or when the test dies.
#[derive(Debug)]
pub struct Kept {
    process: Process,
}

impl Kept {
    /// Starts a program with arguments in a place.
    pub fn start(place: &Place<'_>, command: &[&str]) -> Result<Kept> {
        Kept::enter(&place.entrance(), command)
    }

    /// The same, for what outlives the borrow of its lab.
    pub(crate) fn enter(entrance: &Entrance, command: &[&str]) -> Result<Kept> {
        let words = [&["python3", "-c", SCRIPT], command].concat();
        Ok(Kept { process: entrance.spawn(&words, None)? })
    }

    /// Runs a program to its end, and that of all that it started.
    pub fn run(place: &Place<'_>, command: &[&str]) -> Result<Output> {
        let mut kept = Kept::start(place, command)?;
        let over = wait_until(DEADLINE, "the end of it", || !kept.process.is_running());
        over.with_context(|| format!("`{}`: {}", command.join(" "), kept.process.stderr()))?;
        kept.process.end_of_itself()
    }

    /// The program's keeper: it says what the program says, and runs until the program and all that it started
    /// have ended.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.process.is_running() && self.process.signal("TERM").is_ok() {
            // What does not end in time cannot be ended by more waiting; the process itself is killed after this.
            let _ = wait_until(END, "the end of what was started", || !self.process.is_running());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;

    #[test]
    fn what_forked_away_ends_with_its_keeper() {
        let lab = Lab::empty().unwrap();
        let script = "sleep 600 & setsid sh -c 'sleep 600 & echo $! >/run/lab/pid; echo ready' & exit 0";
        let mut kept = Kept::start(&lab.node(), &["sh", "-c", script]).unwrap();
        kept.process().wait_for("ready").unwrap();
        let pid = std::fs::read_to_string(lab.path("/run/lab/pid")).unwrap();
        let folder = format!("/proc/{}", pid.trim());
        assert!(std::path::Path::new(&folder).exists());
        assert!(kept.process().is_running());
        drop(kept);
        assert!(!std::path::Path::new(&folder).exists(), "{folder} is still there");
    }
}
