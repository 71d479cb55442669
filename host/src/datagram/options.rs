//! What the sockets that carry datagrams have in common.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libc::c_int;

use super::SOCKET_BUFFER;
use super::name::Name;
use crate::descriptor::{checked, owned};
use crate::socket::{grow_buffer, option, set_option};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6, and nothing else.
    V6,
}

/// A socket that does not block, with large buffers. What it receives comes with addresses and TOS, and errors
/// for what it sends wait in its error queue. What it sends is never fragmented, whatever the kernel believes
/// of the path.
pub(crate) fn open(family: Family, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    let domain = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: on success the call returns a descriptor that nobody else owns.
    let fd = unsafe { owned(libc::socket(domain, kind, protocol)) }?;
    let options = match family {
        Family::V4 => [
            (libc::SOL_IP, libc::IP_PKTINFO, 1),
            (libc::SOL_IP, libc::IP_RECVTOS, 1),
            (libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
            (libc::SOL_IP, libc::IP_RECVERR, 1),
        ],
        Family::V6 => [
            (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1),
            (libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1),
            (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
            (libc::SOL_IPV6, libc::IPV6_RECVERR, 1),
        ],
    };
    for (level, name, value) in options {
        set_option(fd.as_fd(), level, name, value)?;
    }
    grow_buffer(fd.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, SOCKET_BUFFER)?;
    grow_buffer(fd.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SOCKET_BUFFER)?;
    Ok(fd)
}

/// How many datagrams the kernel has dropped because they were not received in time, since the socket was made.
pub(crate) fn drops(fd: BorrowedFd<'_>) -> io::Result<u64> {
    const NUMBERS: usize = libc::SK_MEMINFO_DROPS as usize + 1;
    // SAFETY: this option fills numbers, as many as there is room for.
    let numbers: [u32; NUMBERS] = unsafe { option(fd, libc::SOL_SOCKET, SO_MEMINFO) }?;
    Ok(numbers[NUMBERS - 1].into())
}

/// The port that a socket is bound to.
pub(crate) fn local_port(fd: BorrowedFd<'_>) -> io::Result<u16> {
    let mut name = Name::NONE;
    let mut length = size_of::<Name>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets to the live name.
    checked(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut name).cast(), &raw mut length) })?;
    Ok(name.address().map_or(0, |address| address.port()))
}

/// `asm-generic/socket.h`.
const SO_MEMINFO: c_int = 55;
