//! The mount namespace that a thread is in: what it sees of the file system, and who sees what it mounts.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::descriptor::checked;
use crate::{Error, Result};

/// Moves the calling thread into the mount namespace that `path` stands for, such as `/proc/1/ns/mnt`, for good, and with
/// it the threads that it starts afterwards. Their root and working folder are that namespace's root from then on; what
/// is open stays open. Other threads of the process stay where they are.
///
/// # Errors
/// Of the kernel: it wants CAP_SYS_ADMIN and CAP_SYS_CHROOT, and CAP_SYS_PTRACE for a process that has capabilities
/// which the caller lacks.
pub fn enter(path: &Path) -> Result<()> {
    let failed = |source| Error::os("enter mount namespace", path.display().to_string(), source);
    let namespace = File::open(path).map_err(failed)?;
    // The kernel moves only who shares its root and working folder with no other thread.
    // SAFETY: the call takes a number. Afterwards this thread alone has its root, working folder and umask.
    checked(unsafe { libc::unshare(libc::CLONE_FS) }).map_err(failed)?;
    // SAFETY: the call takes a descriptor, which lives through it, and a number.
    checked(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mount_namespace_is_not_entered() {
        for path in ["/proc/self/ns/net", "/dev/null", "/nonexistent"] {
            let error = enter(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains("enter mount namespace") && error.contains(path), "{error}");
        }
    }
}
