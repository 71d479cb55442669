//! Packet sockets: all frames that arrive at a link, and sending there, each with a virtio-net header.
//!
//! Buffers look like those of a TAP queue ([`crate::tap`]): a header of 10 octets in the machine's byte
//! order, then the frame with its VLAN tag in place. GSO super-packets and partial checksums come and go as
//! they are.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_int, c_uint};

use crate::descriptor::{checked, owned, write};
use crate::socket::{grow_buffer, option, set_option, set_structure};
use crate::{Error, Result};

pub use filter::Tags;
use vlan::{Tag, put_back};

mod filter;
mod group;
#[cfg(test)]
mod tests;
mod vlan;

/// The most frames that one call moves.
pub const MAX_BATCH: usize = 64;

/// What the kernel may hold in each direction (it doubles this): some hundred super-packets. A daemon that
/// stalls holds that much for each socket.
const SOCKET_BUFFER: c_int = 8 * 1024 * 1024;

/// How a link is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketOptions {
    /// Hear frames for other stations too. The link goes back when its last such socket is closed.
    pub promiscuous: bool,
    /// Send by way of the link's queueing discipline, which also segments what the link cannot take. Without
    /// it sending is quicker, and what the link cannot take is lost.
    pub queueing: bool,
}

/// A raw packet socket bound to one link. It does not block, and does not hear what it or others send there.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    /// The kernel forgets its count whenever it is read.
    drops: AtomicU64,
}

impl PacketSocket {
    /// Binds to the link with this index in the thread's namespace. The link may be down still.
    ///
    /// # Errors
    /// [`Error::is_gone`] when there is no such link.
    pub fn bind(index: u32) -> Result<PacketSocket> {
        PacketSocket::bind_with(index, PacketOptions::default(), None)
    }

    /// As [`PacketSocket::bind`], in the way that `options` say. From its first frame on it hears those with these
    /// tags alone; `None`: all.
    ///
    /// # Errors
    /// As [`PacketSocket::bind`] and [`PacketSocket::admit`].
    pub fn bind_with(index: u32, options: PacketOptions, tags: Option<&Tags>) -> Result<PacketSocket> {
        let opened = open(options).and_then(|fd| {
            filter::admit(fd.as_fd(), tags)?;
            bind(&fd, index)?;
            forget_error(&fd)?;
            Ok(fd)
        });
        opened.and_then(|fd| PacketSocket::finish(fd, index, options)).map_err(|source| failed(index, source))
    }

    fn finish(fd: OwnedFd, index: u32, options: PacketOptions) -> io::Result<PacketSocket> {
        if options.promiscuous {
            hear_everything(&fd, index)?;
        }
        Ok(PacketSocket { fd, drops: AtomicU64::new(0) })
    }

    /// Receives one header and frame; returns their length together, or 0 for a frame that did not fit.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; ENETDOWN once when the link went down or was removed.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = [0];
        self.recv_batch(&mut [buffer], &mut length)?;
        Ok(length[0])
    }

    /// Receives up to as many frames as there are buffers and lengths (and at most [`MAX_BATCH`]); returns
    /// how many. The length of a frame that did not fit is 0. Nothing is allocated.
    ///
    /// # Errors
    /// As [`PacketSocket::recv`].
    pub fn recv_batch(&self, buffers: &mut [&mut [u8]], lengths: &mut [usize]) -> io::Result<usize> {
        let count = buffers.len().min(lengths.len()).min(MAX_BATCH);
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; MAX_BATCH];
        let mut slots = Slots::new();
        slots.describe(buffers.iter_mut().take(count).map(|buffer| (buffer.as_mut_ptr(), buffer.len())));
        slots.attach(&mut controls, count);
        // SAFETY: the first `count` messages are initialized, and their pointers are to buffers and control
        // data which are exclusively borrowed through the call.
        let received = checked(unsafe {
            let messages = slots.messages.as_mut_ptr().cast();
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages,
                count as c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        })?;
        // Not negative, as checked.
        let received = received as usize;
        for at in 0..received {
            // SAFETY: `received` is at most `count`, and both were initialized that far.
            let (message, control) =
                unsafe { (slots.messages[at].assume_init_ref(), controls[at].assume_init_ref()) };
            let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            let length = if whole { message.msg_len as usize } else { 0 };
            lengths[at] = match control.tag() {
                Some(tag) => put_back(buffers[at], length, tag),
                None => length,
            };
        }
        Ok(received)
    }

    /// Sends one header and frame.
    ///
    /// # Errors
    /// `WouldBlock` or ENOBUFS when the link takes no more now; EINVAL when the header contradicts the frame;
    /// EMSGSIZE when the frame is longer than the MTU allows; ENETDOWN or ENXIO when the link is down or
    /// gone.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        write(self.fd.as_fd(), buffer)
    }

    /// Sends the buffers in order (at most [`MAX_BATCH`]); returns how many went out. It stops at the first
    /// that is refused: a caller that goes on with the rest gets that one's error first.
    ///
    /// # Errors
    /// As [`PacketSocket::send`], when the first is refused.
    pub fn send_batch(&self, buffers: &[&[u8]]) -> io::Result<usize> {
        let count = buffers.len().min(MAX_BATCH);
        let mut slots = Slots::new();
        slots.describe(buffers.iter().take(count).map(|buffer| (buffer.as_ptr().cast_mut(), buffer.len())));
        // SAFETY: the first `count` messages are initialized, and the kernel only reads the buffers, which
        // are borrowed through the call.
        let sent = checked(unsafe {
            let messages = slots.messages.as_mut_ptr().cast();
            libc::sendmmsg(self.fd.as_raw_fd(), messages, count as c_uint, libc::MSG_DONTWAIT as _)
        })?;
        Ok(sent as usize)
    }

    /// How many frames the kernel has dropped because they were not received in time, since the socket was
    /// made.
    pub fn drops(&self) -> io::Result<u64> {
        // SAFETY: tpacket_stats is what this option fills: two numbers.
        let statistics: libc::tpacket_stats =
            unsafe { option(self.fd.as_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS) }?;
        let more = u64::from(statistics.tp_drops);
        Ok(self.drops.fetch_add(more, Ordering::Relaxed) + more)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn failed(index: u32, source: io::Error) -> Error {
    Error::os("bind a packet socket to", format!("link {index}"), source)
}

fn open(options: PacketOptions) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // Protocol 0: nothing is heard before the socket is bound to its link.
    // SAFETY: on success the call returns a descriptor that nobody else owns.
    let fd = unsafe { owned(libc::socket(libc::AF_PACKET, flags, 0)) }?;
    for on in [libc::PACKET_VNET_HDR, libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
        set_option(fd.as_fd(), libc::SOL_PACKET, on, 1)?;
    }
    set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, c_int::from(!options.queueing))?;
    grow_buffer(fd.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, SOCKET_BUFFER)?;
    grow_buffer(fd.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SOCKET_BUFFER)?;
    Ok(fd)
}

/// Binding to a link that is down leaves an error for the first receive; it would only mislead.
fn forget_error(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: SO_ERROR is an int.
    unsafe { option::<c_int>(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR) }.map(drop)
}

fn hear_everything(fd: &OwnedFd, index: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        // The kernel's indexes are positive ints.
        mr_ifindex: index as c_int,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_structure(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

fn bind(fd: &OwnedFd, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        // The kernel's indexes are positive ints.
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is live and its size is given.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(())
}

/// The one control message that the socket asks for.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    data: libc::tpacket_auxdata,
}

impl Control {
    // SAFETY: both are plain numbers; zero is valid for each, and is no control message that the kernel
    // sends.
    const EMPTY: Control = unsafe { MaybeUninit::zeroed().assume_init() };

    /// The VLAN tag that the kernel took out of the frame.
    fn tag(&self) -> Option<Tag> {
        let present = self.header.cmsg_level == libc::SOL_PACKET
            && self.header.cmsg_type == libc::PACKET_AUXDATA
            && self.data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        let has_type = self.data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        let ethertype = if has_type { self.data.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
        present.then_some(Tag { ethertype, tci: self.data.tp_vlan_tci })
    }
}

/// The kernel's descriptions of a batch; only those that are filled are initialized.
struct Slots {
    messages: [MaybeUninit<libc::mmsghdr>; MAX_BATCH],
    vectors: [MaybeUninit<libc::iovec>; MAX_BATCH],
}

impl Slots {
    fn new() -> Slots {
        Slots {
            messages: [const { MaybeUninit::uninit() }; MAX_BATCH],
            vectors: [const { MaybeUninit::uninit() }; MAX_BATCH],
        }
    }

    /// Describes the buffers, at most [`MAX_BATCH`]. The descriptions point into `self`, which must stay
    /// where it is and whose `vectors` must not be touched while they are in use.
    fn describe(&mut self, buffers: impl Iterator<Item = (*mut u8, usize)>) {
        let mut count = 0;
        for (vector, (base, length)) in self.vectors.iter_mut().zip(buffers) {
            vector.write(libc::iovec { iov_base: base.cast(), iov_len: length });
            count += 1;
        }
        let vectors: *mut libc::iovec = self.vectors.as_mut_ptr().cast();
        for (at, message) in self.messages.iter_mut().take(count).enumerate() {
            // SAFETY: all zero is a valid mmsghdr: no name, no buffers, no control data.
            let message = message.write(unsafe { MaybeUninit::zeroed().assume_init() });
            // `at` is below MAX_BATCH, the length of the array.
            message.msg_hdr.msg_iov = vectors.wrapping_add(at);
            message.msg_hdr.msg_iovlen = 1;
        }
    }

    /// Gives the first `count` messages, which must have been described, room for control data.
    fn attach(&mut self, controls: &mut [MaybeUninit<Control>; MAX_BATCH], count: usize) {
        for control in controls.iter_mut().take(count) {
            control.write(Control::EMPTY);
        }
        let controls: *mut Control = controls.as_mut_ptr().cast();
        for (at, message) in self.messages.iter_mut().take(count).enumerate() {
            // SAFETY: the caller has described this message.
            let message = unsafe { message.assume_init_mut() };
            message.msg_hdr.msg_control = controls.wrapping_add(at).cast();
            message.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
    }
}
