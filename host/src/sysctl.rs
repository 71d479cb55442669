//! Kernel parameters under /proc/sys. Those below `net/` are of the namespace that the calling thread is in.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Component, Path};

use crate::{Error, Result};

/// Sets a parameter, named with slashes: `net/ipv6/conf/eth0/disable_ipv6`.
///
/// # Errors
/// [`Error::is_gone`] when there is no such parameter (a device that is gone, a protocol that is not built
/// in).
pub fn set(name: &str, value: &str) -> Result<()> {
    write(name, value).map_err(|source| Error::os("set", format!("sysctl {name} to {value}"), source))
}

fn write(name: &str, value: &str) -> io::Result<()> {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !inside {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = OpenOptions::new().write(true).open(Path::new("/proc/sys").join(name))?;
    file.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;

    #[test]
    fn a_parameter_is_set_in_the_threads_namespace_only() {
        let read = || std::fs::read_to_string("/proc/sys/net/ipv4/conf/lo/tag").unwrap();
        let outside = read();
        let inside = NetNs::create_anonymous().unwrap();
        {
            let _entered = inside.enter().unwrap();
            set("net/ipv4/conf/lo/tag", "17").unwrap();
            assert_eq!(read().trim(), "17");
        }
        assert_eq!(read(), outside);
    }

    #[test]
    fn an_absent_parameter_is_gone_and_a_way_out_of_proc_sys_is_refused() {
        assert!(set("net/ipv6/conf/absent0/disable_ipv6", "1").unwrap_err().is_gone());
        assert!(!set("../sys/net/ipv4/conf/lo/tag", "1").unwrap_err().is_gone());
        assert!(!set("/proc/sys/net/ipv4/conf/lo/tag", "1").unwrap_err().is_gone());
    }
}
