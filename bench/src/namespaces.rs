//! The kernel's network namespaces: it goes on removing them long after who made them has ended, which slows down whoever
//! makes devices meanwhile.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use weft_testkit::wait::wait_until;

/// Longest time to wait for the kernel.
const PATIENCE: Duration = Duration::from_secs(120);
/// Namespaces that the kernel may have more of than before: others come and go, and its caches count in slabs.
const OTHERS: u64 = 64;

/// Does `work`, and returns when the kernel has removed the namespaces that it left.
pub fn alone<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = namespaces();
    let result = work();
    // A kernel that does not tell, or somebody else's namespaces, are no reason to stop measuring.
    let _ = wait_until(PATIENCE, "the kernel to remove namespaces", || {
        namespaces().zip(before).is_none_or(|(now, before)| now <= before + OTHERS)
    });
    result
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
}
