//! Errors that come back for datagrams: what ICMP (RFC 792, RFC 4443) and the kernel itself say.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{iovec, sock_extended_err};

use super::control::{Control, Item};
use super::name::Name;
use crate::descriptor::checked_length;

/// What became of a datagram that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketError<'a> {
    /// Where it was to go; the port is 0 where the protocol has none, and when the kernel itself refused it.
    pub destination: SocketAddr,
    /// What happened.
    pub kind: SocketErrorKind,
    /// Who said so; `None`: the kernel itself.
    pub offender: Option<IpAddr>,
    /// The start of the datagram, without UDP or IP header, as it was quoted: maybe of no octets.
    pub quoted: &'a [u8],
}

/// Why a datagram did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketErrorKind {
    /// It is longer than a link on the way takes.
    TooBig {
        /// Octets of the longest IP packet that the link takes; 0: it was not told.
        mtu: u32,
    },
    /// Destination unreachable: type 3 of ICMP, 1 of ICMPv6.
    Unreachable {
        /// The code of the ICMP message.
        code: u8,
    },
    /// Something else.
    Other {
        /// The kernel's error number for it.
        errno: i32,
    },
}

/// What the kernel writes of an error, with who said so. The offender's room is of an address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
struct Extended {
    error: sock_extended_err,
    offender: Name,
}

/// Takes the oldest error from the socket's queue, and writes what it quotes to `buffer`.
pub(crate) fn receive_error<'a>(
    fd: BorrowedFd<'_>,
    buffer: &'a mut [u8],
) -> io::Result<Option<SocketError<'a>>> {
    loop {
        let mut name = Name::NONE;
        let mut control = Control::EMPTY;
        let mut vector = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all zero is a valid msghdr: no name, no buffers, no control data.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = Name::LENGTH;
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = Control::LENGTH as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the message points to live structures and to a buffer that is exclusively borrowed.
        let received = checked_length(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) });
        let length = match received {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let told = control.items(message.msg_controllen).find_map(extended);
        // An entry of another kind, such as a timestamp, is not asked for.
        if let (Some(told), Some(destination)) = (told, name.address()) {
            let offender = told.offender.address().map(|address| address.ip());
            let quoted = &buffer[..length.min(buffer.len())];
            return Ok(Some(SocketError { destination, kind: kind(&told.error), offender, quoted }));
        }
    }
}

fn extended(item: Item<'_>) -> Option<Extended> {
    if !matches!(
        (item.level, item.kind),
        (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
    ) {
        return None;
    }
    let mut octets = [0; size_of::<Extended>()];
    let length = item.data.len().min(octets.len());
    octets[..length].copy_from_slice(&item.data[..length]);
    // SAFETY: it is plain numbers, of which any octets are valid, and of the size of the array.
    Some(unsafe { std::ptr::read_unaligned(octets.as_ptr().cast()) })
}

fn kind(error: &sock_extended_err) -> SocketErrorKind {
    const UNREACHABLE: u8 = 3;
    const FRAGMENTATION_NEEDED: u8 = 4;
    const UNREACHABLE_V6: u8 = 1;
    const TOO_BIG_V6: u8 = 2;
    // The kernel's error numbers are small.
    let errno = error.ee_errno as i32;
    match (error.ee_origin, error.ee_type, error.ee_code) {
        (libc::SO_EE_ORIGIN_ICMP, UNREACHABLE, FRAGMENTATION_NEEDED)
        | (libc::SO_EE_ORIGIN_ICMP6, TOO_BIG_V6, _) => SocketErrorKind::TooBig { mtu: error.ee_info },
        (libc::SO_EE_ORIGIN_LOCAL, ..) if errno == libc::EMSGSIZE => {
            SocketErrorKind::TooBig { mtu: error.ee_info }
        }
        (libc::SO_EE_ORIGIN_ICMP, UNREACHABLE, code) | (libc::SO_EE_ORIGIN_ICMP6, UNREACHABLE_V6, code) => {
            SocketErrorKind::Unreachable { code }
        }
        _ => SocketErrorKind::Other { errno },
    }
}
