//! Socket options.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::descriptor::checked;

/// Sets an option that is an int.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_structure(fd, level, name, &value)
}

/// Sets an option that is a plain C structure. What it points to, if it does, must live through the call; the
/// kernel only reads.
pub(crate) fn set_structure<T: Copy>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is live and its size is given; the kernel only reads it.
    checked(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, ptr::from_ref(value).cast(), length) })?;
    Ok(())
}

/// Reads an option.
///
/// # Safety
/// `T` must be the plain C structure that the kernel fills for this option: any bytes are a valid value.
pub(crate) unsafe fn option<T: Copy>(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `value`.
    checked(unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    })?;
    // SAFETY: it was zeroed, and by the caller's word any bytes are a valid T.
    Ok(unsafe { value.assume_init() })
}

/// Asks for a socket buffer of `size` bytes, beyond the system's limit where that is allowed.
pub(crate) fn grow_buffer(fd: BorrowedFd<'_>, forced: i32, limited: i32, size: i32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, forced, size)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, limited, size))
}

/// `ret 0` of the classic BPF: no octet of anything is wanted.
const NOTHING: libc::sock_filter = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };

/// Makes a socket receive nothing, until SO_DETACH_FILTER. Errors still come.
pub(crate) fn refuse_all(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nothing = [NOTHING];
    // The kernel copies the program and keeps no pointer to it.
    let program = libc::sock_fprog { len: 1, filter: nothing.as_ptr().cast_mut() };
    set_structure(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}
