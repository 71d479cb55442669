//! Kernel parameters under /proc/sys. Those below `net/` are of the namespace that the calling thread is in.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

pub use own::OwnParameters;

mod own;

/// Where they are found.
const FOLDER: &str = "/proc/sys";

/// The value of a parameter, without the line's end.
///
/// # Errors
/// As [`set`].
pub fn get(name: &str) -> Result<String> {
    let read = path(name).and_then(std::fs::read_to_string);
    let value = read.map_err(|source| Error::os("read", format!("sysctl {name}"), source))?;
    Ok(value.trim_end().to_owned())
}

/// What is in a folder of parameters, in order: `net/ipv6/conf` has one for each device.
///
/// # Errors
/// As [`set`].
pub fn list(folder: &str) -> Result<Vec<String>> {
    let read = || -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(path(folder)?)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = read().map_err(|source| Error::os("list", format!("sysctl {folder}"), source))?;
    names.sort();
    Ok(names)
}

/// Sets a parameter, named with slashes: `net/ipv6/conf/eth0/disable_ipv6`.
///
/// # Errors
/// [`Error::is_gone`] when there is no such parameter (a device that is gone, a protocol that is not built
/// in).
pub fn set(name: &str, value: &str) -> Result<()> {
    write(name, value).map_err(|source| Error::os("set", format!("sysctl {name} to {value}"), source))
}

fn write(name: &str, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path(name)?)?.write_all(value.as_bytes())
}

fn path(name: &str) -> io::Result<PathBuf> {
    if inside(name) { Ok(Path::new(FOLDER).join(name)) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Whether a name leads to something below /proc/sys.
fn inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
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
            assert_eq!(get("net/ipv4/conf/lo/tag").unwrap(), "17");
            assert_eq!(list("net/ipv4/conf").unwrap(), ["all", "default", "lo"]);
        }
        assert_eq!(read(), outside);
    }

    #[test]
    fn an_absent_parameter_is_gone_and_a_way_out_of_proc_sys_is_refused() {
        assert!(set("net/ipv6/conf/absent0/disable_ipv6", "1").unwrap_err().is_gone());
        assert!(get("net/ipv6/conf/absent0/disable_ipv6").unwrap_err().is_gone());
        assert!(!set("../sys/net/ipv4/conf/lo/tag", "1").unwrap_err().is_gone());
        assert!(!set("/proc/sys/net/ipv4/conf/lo/tag", "1").unwrap_err().is_gone());
    }
}
