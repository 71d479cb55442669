//! The files that namespaces are mounted on.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr;

use crate::descriptor::checked;
use crate::{Error, Result};

/// A file to mount a namespace on. Dropped before [`Point::keep`], it removes what it made.
pub(super) struct Point<'a> {
    path: &'a Path,
    made: bool,
}

impl<'a> Point<'a> {
    /// Makes the file and its folder, or takes an empty file that nothing is mounted on.
    pub(super) fn prepare(path: &'a Path) -> Result<Point<'a>> {
        let failed = |source| Error::os("make namespace", path.display().to_string(), source);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o444).open(path) {
            Ok(_) => Ok(Point { path, made: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if is_left_over(path).map_err(failed)? {
                    Ok(Point { path, made: false })
                } else {
                    Err(failed(error))
                }
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The mount succeeded: the file stays.
    pub(super) fn keep(mut self) {
        self.made = false;
    }
}

impl Drop for Point<'_> {
    fn drop(&mut self) {
        if self.made {
            // The error that led here is the one to report.
            let _ = fs::remove_file(self.path);
        }
    }
}

/// Removes the name of a namespace: the mount and the file. Nothing at `path` is no error.
///
/// The namespace itself lives on while processes, sockets or handles are in it.
///
/// # Errors
/// [`Error::NotANamespace`], and nothing is removed, when `path` is neither a mounted namespace nor an empty
/// file.
pub fn remove(path: &Path) -> Result<()> {
    match take_away(path) {
        Err(Error::Os { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn take_away(path: &Path) -> Result<()> {
    let failed = |source| Error::os("remove namespace", path.display().to_string(), source);
    // Mounts can be stacked: each call of umount takes the topmost away.
    while is_namespace_file(path).map_err(failed)? {
        unmount(path).map_err(failed)?;
    }
    if !is_left_over(path).map_err(failed)? {
        return Err(Error::NotANamespace { path: path.to_owned() });
    }
    fs::remove_file(path).map_err(failed)
}

/// Whether `path` is a file of the kernel's namespace file system. Nothing but its name is touched: a device
/// or a pipe that is given by mistake is not opened.
pub(super) fn is_namespace_file(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?;
    let mut status = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the pointer is to a statfs that lives through the call.
    checked(unsafe { libc::fstatfs(file.as_raw_fd(), status.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the kernel has filled it.
    Ok(unsafe { status.assume_init() }.f_type == libc::NSFS_MAGIC)
}

fn is_left_over(path: &Path) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(metadata.is_file() && metadata.len() == 0 && !is_namespace_file(path)?)
}

/// Makes the folder a mount of its own that propagates to other mount namespaces; it is made when missing.
///
/// iproute2 does the same to the folder of named namespaces before it first uses it. If it came later, it would
/// mount the folder over itself, and hide the mounts in it from those who want to remove them.
pub fn share_folder(folder: &Path) -> Result<()> {
    let failed = |error| Error::os("share folder", folder.display().to_string(), error);
    fs::create_dir_all(folder).map_err(failed)?;
    match mount(folder, folder, libc::MS_SHARED | libc::MS_REC) {
        // The folder is no mount yet.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            mount(folder, folder, libc::MS_BIND | libc::MS_REC).map_err(failed)?;
            mount(folder, folder, libc::MS_SHARED | libc::MS_REC).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// Mounts `source` on `target`.
pub(super) fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(source, target, libc::MS_BIND)
        .map_err(|error| Error::os("mount namespace at", target.display().to_string(), error))
}

fn mount(source: &Path, target: &Path, flags: libc::c_ulong) -> io::Result<()> {
    let (source, target) = (c_path(source)?, c_path(target)?);
    // SAFETY: both paths are live C strings; type and data may be null for these flags.
    checked(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), ptr::null(), flags, ptr::null()) })?;
    Ok(())
}

fn unmount(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is a live C string.
    checked(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) })?;
    Ok(())
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
