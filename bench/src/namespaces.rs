//! The kernel's network namespaces: it goes on removing them long after who made them has ended, which slows down whoever
//! makes devices meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use weft_testkit::wait::wait_until;

/// Longest time to wait for the kernel.
const PATIENCE: Duration = Duration::from_secs(120);
/// Namespaces that the kernel may have more of than before: others come and go, and its caches count in slabs.
const OTHERS: u64 = 64;
/// For how long nobody removes any, when all are removed: what was freed counts as used until its slab is looked at.
const REST: Duration = Duration::from_secs(2);

/// Does `work`, and returns when the kernel has removed the namespaces that it left.
pub fn alone<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = namespaces();
    let result = work();
    let mut resting = None;
    // A kernel that does not tell, or somebody else's namespaces, are no reason to stop measuring.
    let _ = wait_until(PATIENCE, "the kernel to remove namespaces", || {
        let few = namespaces().zip(before).is_none_or(|(now, before)| now <= before + OTHERS);
        let since = resting.take().unwrap_or_else(Instant::now);
        resting = is_removing().is_some_and(|removing| !removing).then_some(since);
        few || resting.is_some_and(|since| since.elapsed() >= REST)
    });
    result
}

/// Whether a thread of the kernel is removing namespaces just now; `None`: no such threads are seen from here.
fn is_removing() -> Option<bool> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let names = processes.filter_map(|process| fs::read_to_string(process.path().join("comm")).ok());
    removes(names.filter(|name| name.starts_with("kworker/")))
}

/// The same by the names of the kernel's workers: with `+` stands what one is at, with `-` what it did last.
fn removes(mut workers: impl Iterator<Item = String>) -> Option<bool> {
    let first = workers.next()?;
    Some(std::iter::once(first).chain(workers).any(|name| name.trim_end().ends_with("+netns")))
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
    fn objects_of_a_cache_are_those_in_use() {
        let slabinfo = "slabinfo - version: 2.1\n\
            # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>\n\
            net_namespace_x       1      2      3    4    5 : tunables    0    0    0\n\
            net_namespace        35     63   4288    7    8 : tunables    0    0    0\n";
        assert_eq!(active(slabinfo, "net_namespace"), Some(35));
        assert_eq!(active(slabinfo, "none"), None);
    }

    #[test]
    fn a_worker_that_is_at_namespaces_removes_them() {
        let removes = |names: &[&str]| super::removes(names.iter().map(ToString::to_string));
        assert_eq!(removes(&["kworker/u8:0-netns\n", "kworker/u8:1+netns\n"]), Some(true));
        assert_eq!(removes(&["kworker/u8:0-netns\n", "kworker/0:1+events\n"]), Some(false));
        assert_eq!(removes(&[]), None);
    }
}
