//! Memory of processes, and of the kernel's namespaces.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weft_testkit::wait::wait_until;

use super::PATIENCE;

/// How long memory stays the same before it counts as steady.
const STEADY: Duration = Duration::from_secs(1);
/// Namespaces that the kernel may have more of than before: others come and go, and its caches count in slabs.
const OTHERS: u64 = 64;

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

/// Does `work`, and returns when the kernel has removed the namespaces that it left.
pub fn alone<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = namespaces();
    let result = work()?;
    // A kernel that does not tell, or somebody else's namespaces, are no reason to stop measuring.
    let _ = wait_until(PATIENCE, "the kernel to remove namespaces", || {
        namespaces().zip(before).is_none_or(|(now, before)| now <= before + OTHERS)
    });
    Ok(result)
}

/// Network namespaces that the kernel has memory for.
fn namespaces() -> Option<u64> {
    active(&fs::read_to_string("/proc/slabinfo").ok()?, "net_namespace")
}

/// Objects of a cache of the kernel that are in use (slabinfo(5)).
fn active(slabinfo: &str, cache: &str) -> Option<u64> {
    let mut words = slabinfo.lines().map(str::split_whitespace);
    words.find_map(|mut line| (line.next() == Some(cache)).then(|| line.next())?)?.parse().ok()
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
    fn objects_of_a_cache_are_those_in_use() {
        let slabinfo = "slabinfo - version: 2.1\n\
            # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n\
            net_namespace_x       1      2      3    4    5 : tunables    0    0    0\n\
            net_namespace        35     63   4288    7    8 : tunables    0    0    0\n";
        assert_eq!(active(slabinfo, "net_namespace"), Some(35));
        assert_eq!(active(slabinfo, "none"), None);
    }

    #[test]
    fn memory_of_processes_is_added_up() {
        let own = std::process::id();
        let (once, twice) = (one(own).unwrap(), resident(&[own, own]).unwrap());
        assert!(once > 100.0 && twice > 1.5 * once, "{once} {twice}");
    }
}
