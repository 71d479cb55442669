//! System calls that make or use a file descriptor, with their -1 turned into an error.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The result of a call that returns -1 and sets errno on failure.
pub(crate) fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The result of a call that returns a length, or -1 and sets errno on failure.
pub(crate) fn checked_length(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The descriptor that a call has just made, or its error.
///
/// # Safety
/// A `result` of 0 or more must be an open descriptor that nothing else owns.
pub(crate) unsafe fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the caller guarantees that a descriptor that is not negative is open and not owned.
    checked(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads into `buffer` once.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one exclusively borrowed slice.
    checked_length(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Writes `buffer` once.
pub(crate) fn write(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one borrowed slice.
    checked_length(unsafe { libc::write(fd.as_raw_fd(), buffer.as_ptr().cast(), buffer.len()) })
}
