//! Receiving and sending several datagrams with one system call.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_uint, iovec, mmsghdr};

use super::control::Control;
use super::name::Name;
use super::{Arrival, MAX_ARRIVALS, MAX_MESSAGES, Message};
use crate::descriptor::checked;

/// Octets of an IPv4 header without options (RFC 791 section 3.1).
const IPV4_HEADER: usize = 20;

/// What one message is received with.
struct Incoming {
    name: Name,
    control: Control,
    /// The IPv4 header, and the buffer behind it.
    vectors: [iovec; 2],
    header: [u8; IPV4_HEADER],
}

/// What one message is sent with.
struct Outgoing {
    name: Name,
    control: Control,
    vector: iovec,
}

/// Receives up to as many datagrams as there are buffers and arrivals, and at most [`MAX_ARRIVALS`]; returns
/// how many. `header`: the socket gives an IPv4 header in front of each, which is taken off.
pub(crate) fn receive<B: AsMut<[u8]>>(
    fd: BorrowedFd<'_>,
    buffers: &mut [B],
    arrivals: &mut [Arrival],
    header: bool,
) -> io::Result<usize> {
    let count = buffers.len().min(arrivals.len()).min(MAX_ARRIVALS);
    let mut rooms = [const { MaybeUninit::<Incoming>::uninit() }; MAX_ARRIVALS];
    let mut messages = [const { MaybeUninit::<mmsghdr>::uninit() }; MAX_ARRIVALS];
    for ((room, message), buffer) in rooms.iter_mut().zip(&mut messages).zip(&mut buffers[..count]) {
        let room = room.write(Incoming {
            name: Name::NONE,
            control: Control::EMPTY,
            vectors: [vector(&mut []), vector(buffer.as_mut())],
            header: [0; IPV4_HEADER],
        });
        room.vectors[0] = vector(&mut room.header);
        // SAFETY: all zero is a valid mmsghdr: no name, no buffers, no control data.
        let message = message.write(unsafe { MaybeUninit::zeroed().assume_init() });
        let vectors = if header { &mut room.vectors[..] } else { &mut room.vectors[1..] };
        message.msg_hdr.msg_name = (&raw mut room.name).cast();
        message.msg_hdr.msg_namelen = Name::LENGTH;
        message.msg_hdr.msg_iov = vectors.as_mut_ptr();
        message.msg_hdr.msg_iovlen = vectors.len() as _;
        message.msg_hdr.msg_control = (&raw mut room.control).cast();
        message.msg_hdr.msg_controllen = Control::LENGTH as _;
    }
    let received = again_if_told_of_another(|| {
        // SAFETY: the first `count` messages are initialized; they point into `rooms`, which stays where it
        // is, and to buffers that are exclusively borrowed through the call.
        checked(unsafe {
            let messages = messages.as_mut_ptr().cast();
            libc::recvmmsg(
                fd.as_raw_fd(),
                messages,
                count as c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        })
    })?;
    // Not negative, as checked.
    let received = received as usize;
    for at in 0..received {
        // SAFETY: `received` is at most `count`, and both were initialized that far.
        let (room, message) = unsafe { (rooms[at].assume_init_ref(), messages[at].assume_init_ref()) };
        let mut arrival = arrival(room, message);
        if header {
            arrival.length = without_header(arrival.length, &room.header, buffers[at].as_mut());
        }
        arrivals[at] = arrival;
    }
    Ok(received)
}

fn arrival(room: &Incoming, message: &mmsghdr) -> Arrival {
    let source = room.name.address().unwrap_or(Arrival::NONE.source);
    let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
    let length = if whole { message.msg_len as usize } else { 0 };
    let mut arrival = Arrival { source, length, ..Arrival::NONE };
    for item in room.control.items(message.msg_hdr.msg_controllen) {
        if let Some(local) = item.local() {
            arrival.local = local;
        } else if let Some(tos) = item.tos() {
            arrival.tos = tos;
        } else if let Some(segment) = item.segment() {
            arrival.segment = if segment < length { segment } else { 0 };
        }
    }
    arrival
}

/// The length of what is behind an IPv4 header. `length` counts the header too, of which options are in the
/// buffer; they are taken out.
fn without_header(length: usize, header: &[u8; IPV4_HEADER], buffer: &mut [u8]) -> usize {
    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header_length < IPV4_HEADER || length < header_length {
        return 0;
    }
    if header_length > IPV4_HEADER {
        // The length is that of the header and of what is in the buffer, so this is within it.
        buffer.copy_within(header_length - IPV4_HEADER..length - IPV4_HEADER, 0);
    }
    length - header_length
}

/// Sends the messages in order (at most [`MAX_MESSAGES`]); returns how many went out. It stops at the first
/// that is refused: that one's error is for whoever goes on with the rest.
pub(crate) fn send(fd: BorrowedFd<'_>, list: &[Message<'_>]) -> io::Result<usize> {
    let count = list.len().min(MAX_MESSAGES);
    let mut rooms = [const { MaybeUninit::<Outgoing>::uninit() }; MAX_MESSAGES];
    let mut messages = [const { MaybeUninit::<mmsghdr>::uninit() }; MAX_MESSAGES];
    for ((room, message), wanted) in rooms.iter_mut().zip(&mut messages).zip(&list[..count]) {
        let (name, name_length) = Name::of(wanted.destination);
        let octets =
            iovec { iov_base: wanted.octets.as_ptr().cast_mut().cast(), iov_len: wanted.octets.len() };
        let room = room.write(Outgoing { name, control: Control::EMPTY, vector: octets });
        let control_length = room.control.write(wanted);
        // SAFETY: all zero is a valid mmsghdr: no name, no buffers, no control data.
        let message = message.write(unsafe { MaybeUninit::zeroed().assume_init() });
        message.msg_hdr.msg_name = (&raw mut room.name).cast();
        message.msg_hdr.msg_namelen = name_length;
        message.msg_hdr.msg_iov = &raw mut room.vector;
        message.msg_hdr.msg_iovlen = 1;
        if control_length > 0 {
            message.msg_hdr.msg_control = (&raw mut room.control).cast();
            message.msg_hdr.msg_controllen = control_length as _;
        }
    }
    let sent = again_if_told_of_another(|| {
        // SAFETY: the first `count` messages are initialized; they point into `rooms`, which stays where it
        // is, and to octets that are borrowed through the call and only read.
        checked(unsafe {
            let messages = messages.as_mut_ptr().cast();
            libc::sendmmsg(fd.as_raw_fd(), messages, count as c_uint, libc::MSG_DONTWAIT as _)
        })
    })?;
    Ok(sent as usize)
}

fn vector(octets: &mut [u8]) -> iovec {
    iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: octets.len() }
}

/// An ICMP error that came for an earlier datagram makes the next call fail, whatever it is about, once. The
/// error queue tells more of it, so it is not an answer to this call.
fn again_if_told_of_another(mut call: impl FnMut() -> io::Result<libc::c_int>) -> io::Result<libc::c_int> {
    match call() {
        Err(error) if may_be_of_another(&error) => call(),
        answer => answer,
    }
}

/// What the kernel makes of ICMP errors (`icmp_err_convert` and `icmpv6_err_convert`).
fn may_be_of_another(error: &io::Error) -> bool {
    use libc::{
        EACCES, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EMSGSIZE, ENETUNREACH, ENONET, ENOPROTOOPT,
        EOPNOTSUPP, EPROTO,
    };
    matches!(
        error.raw_os_error(),
        Some(
            EACCES
                | ECONNREFUSED
                | EHOSTDOWN
                | EHOSTUNREACH
                | EMSGSIZE
                | ENETUNREACH
                | ENONET
                | ENOPROTOOPT
                | EOPNOTSUPP
                | EPROTO
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 header (RFC 791 section 3.1) of protocol 47 with an option of four octets: router alert,
    /// RFC 2113.
    const WITH_OPTION: [u8; 24] =
        [0x46, 0xb8, 0x00, 0x1c, 0, 0, 0x40, 0, 64, 47, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, 0x94, 0x04, 0, 0];

    fn behind(packet: &[u8]) -> Vec<u8> {
        let (header, buffer) = packet.split_first_chunk().unwrap();
        let mut buffer = buffer.to_vec();
        let length = without_header(packet.len(), header, &mut buffer);
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn the_options_of_an_ipv4_header_go_with_it() {
        let packet = [&WITH_OPTION[..], &[0, 0, 0x08, 0x00]].concat();
        assert_eq!(behind(&packet), [0, 0, 0x08, 0x00]);
    }

    #[test]
    fn a_header_that_is_longer_than_the_packet_leaves_nothing() {
        let cut = &WITH_OPTION[..22];
        let mut short = WITH_OPTION;
        short[0] = 0x44;
        for packet in [cut, &short, &WITH_OPTION] {
            assert_eq!(behind(packet), []);
        }
    }
}
