//! A /proc of one's own, for whoever sets parameters in many namespaces.
//!
//! The kernel keeps what was looked up below /proc/sys/net by name, and `net/ipv6` has the same name in every namespace:
//! in the one /proc of the node a look-up passes by those of all of them. A /proc that nobody else uses, and that is
//! made anew now and then, has few.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::{FOLDER, inside};
use crate::descriptor::{checked, owned, write};
use crate::{Error, Result};

/// After so many look-ups another /proc is made.
const MOST_USES: u32 = 64;

/// Of `linux/mount.h`.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
/// Of `linux/mount.h`.
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
/// Of `linux/mount.h`.
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// A way to the parameters that nobody else uses. Nothing is mounted where others would see it.
#[derive(Debug, Default)]
pub struct OwnParameters {
    root: Option<OwnedFd>,
    uses: u32,
}

impl OwnParameters {
    /// Sets parameters of one folder, such as `net/ipv6/conf/eth0`, in the namespace that the calling thread is in.
    ///
    /// # Errors
    /// As [`set`](super::set). Those before the one that failed are set.
    pub fn set_all(&mut self, folder: &str, values: &[(&str, &str)]) -> Result<()> {
        let failed = |operation, object: String| move |source| Error::os(operation, object, source);
        let opened = self.open_folder(folder);
        let opened = opened.map_err(failed("open", format!("sysctl folder {folder}")))?;
        for (name, value) in values {
            let set = || -> io::Result<()> {
                let file = open_at(&opened, name, libc::O_WRONLY)?;
                write(file.as_fd(), value.as_bytes()).map(drop)
            };
            set().map_err(failed("set", format!("sysctl {folder}/{name} to {value}")))?;
        }
        Ok(())
    }

    fn open_folder(&mut self, folder: &str) -> io::Result<OwnedFd> {
        if !inside(folder) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.uses >= MOST_USES {
            self.root = None;
        }
        let root = match self.root.take() {
            Some(root) => root,
            None => {
                self.uses = 0;
                // A kernel or a sandbox that gives none: the node's is as right, and slower.
                mounted().and_then(|proc| below(&proc, "sys")).or_else(|_| open_path(FOLDER))?
            }
        };
        let root = self.root.insert(root);
        self.uses += 1;
        below(root, folder)
    }
}

fn below(folder: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    open_at(folder, path, libc::O_PATH | libc::O_DIRECTORY)
}

/// The root of a new instance of proc(5), mounted nowhere.
fn mounted() -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends in a zero byte; the call makes a descriptor.
    let context = unsafe { made(libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC)) }?;
    let (none, fd) = (std::ptr::null::<libc::c_char>(), context.as_raw_fd());
    // SAFETY: this command takes neither key nor value.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) };
    checked(narrow(result))?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    // SAFETY: the call takes three numbers and makes a descriptor.
    unsafe { made(libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes as libc::c_uint)) }
}

fn open_path(path: &str) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: the path is a string that ends in a zero byte; the call makes a descriptor.
    unsafe { owned(libc::open(path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)) }
}

fn open_at(folder: &OwnedFd, path: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = CString::new(path)?;
    // SAFETY: the path is a string that ends in a zero byte; the call makes a descriptor.
    unsafe { owned(libc::openat(folder.as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC)) }
}

/// The descriptor that a call through `syscall` has made.
///
/// # Safety
/// As for [`owned`].
unsafe fn made(result: libc::c_long) -> io::Result<OwnedFd> {
    // SAFETY: the caller guarantees it.
    unsafe { owned(narrow(result)) }
}

/// Descriptors and error returns are ints.
fn narrow(result: libc::c_long) -> libc::c_int {
    libc::c_int::try_from(result).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use crate::sysctl::get;

    #[test]
    fn each_namespace_has_its_own_parameters_however_often_the_way_is_used() {
        let mut own = OwnParameters::default();
        let spaces: Vec<NetNs> = (0..3).map(|_| NetNs::create_anonymous().unwrap()).collect();
        for round in 1..=MOST_USES {
            for (index, space) in spaces.iter().enumerate() {
                let _entered = space.enter().unwrap();
                let (tag, ttl) = (format!("{round}{index}"), index.to_string());
                own.set_all("net/ipv4/conf/lo", &[("tag", &tag), ("medium_id", &ttl)]).unwrap();
            }
        }
        for (index, space) in spaces.iter().enumerate() {
            let _entered = space.enter().unwrap();
            assert_eq!(get("net/ipv4/conf/lo/tag").unwrap(), format!("{MOST_USES}{index}"));
            assert_eq!(get("net/ipv4/conf/lo/medium_id").unwrap(), index.to_string());
        }
    }

    #[test]
    fn a_device_that_is_absent_is_gone_and_no_path_leads_out() {
        let mut own = OwnParameters::default();
        assert!(own.set_all("net/ipv6/conf/absent0", &[("accept_ra", "0")]).unwrap_err().is_gone());
        assert!(!own.set_all("../sys/net/ipv4/conf/lo", &[("tag", "1")]).unwrap_err().is_gone());
    }

    #[test]
    fn a_proc_of_ones_own_is_to_be_had() {
        assert!(open_at(&mounted().unwrap(), "sys/net/ipv4", libc::O_PATH | libc::O_DIRECTORY).is_ok());
    }
}
