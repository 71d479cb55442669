//! Memory of processes.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weft_testkit::wait::wait_until;

use super::PATIENCE;

/// How long memory stays the same before it counts as steady.
const STEADY: Duration = Duration::from_secs(1);

/// Resident memory of these processes together, once it has not changed for a second; in KiB.
pub fn resident(pids: &[u32]) -> Result<f64> {
    let mut last = (Vec::new(), Instant::now());
    wait_until(PATIENCE, "memory to be steady", || {
        let now: Vec<_> = pids.iter().map(|pid| fs::read(format!("/proc/{pid}/statm")).ok()).collect();
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() >= STEADY
    })?;
    pids.iter().map(|pid| one(*pid)).sum()
}

fn one(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    rss(&text).with_context(|| format!("{path} has no line Rss"))
}

/// KiB of resident memory, as smaps_rollup tells it: pages that are shared with others count in full.
fn rss(rollup: &str) -> Option<f64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_kibibytes() {
        let rollup = "55d0c0400000-7ffd3a5f0000 ---p 00000000 00:00 0   [rollup]\n\
                      Rss:               14404 kB\nPss:               12830 kB\n";
        assert_eq!(rss(rollup), Some(14404.0));
        assert_eq!(rss("Pss: 1 kB\n"), None);
    }

    #[test]
    fn memory_of_processes_is_added_up() {
        let own = std::process::id();
        let (once, twice) = (one(own).unwrap(), resident(&[own, own]).unwrap());
        assert!(once > 100.0 && twice > 1.5 * once, "{once} {twice}");
    }
}
