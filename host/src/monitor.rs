//! What changes in the kernel: links, addresses and routes, of this namespace and of all that are numbered in
//! it, and tables of nf_tables, of this namespace alone.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use ruleset::Rulesets;

use crate::descriptor::checked_length;
use crate::link::decode;
use crate::poll::{Wake, wait_for_any};
use crate::socket::grow_buffer;
use crate::{Error, Result};

mod ruleset;
#[cfg(test)]
mod tests;

const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
];
/// Notifications are a few hundred bytes; this is room for the largest link message.
const BUFFER_LENGTH: usize = 32 * 1024;
/// What the kernel may hold for us while we are busy: thousands of notifications.
const RECEIVE_BUFFER: i32 = 8 * 1024 * 1024;
/// At most this many datagrams are one burst, so that a storm cannot keep the caller waiting.
const BURST: usize = 1024;

/// Hears what the kernel tells about changes. It belongs to the namespace that the thread was in when it was
/// opened.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    /// `None`: this kernel has no nf_tables.
    rulesets: Option<Rulesets>,
    wake: Arc<Wake>,
    buffer: Vec<u8>,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelEvent {
    /// The number of the namespace where it changed ([`crate::netns::namespace_id`]); `None` is the monitor's
    /// own.
    pub nsid: Option<i32>,
    /// What changed.
    pub what: KernelChange,
}

/// What changed. The details are the caller's to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelChange {
    /// A device appeared, changed or disappeared.
    Link {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// Whether it disappeared; moving to another namespace is that too.
        removed: bool,
    },
    /// An address was added, changed or removed.
    Address,
    /// A route was added, changed or removed.
    Route,
    /// Something in a table of nf_tables, of any family, was changed by the transaction that made this
    /// generation.
    Table {
        /// The table's name.
        name: String,
        /// See [`crate::nft::Nft::generation`].
        generation: u32,
    },
    /// There were more changes than the kernel could keep for us: anything may have changed, anywhere.
    Overrun,
}

impl Monitor {
    /// Listens from now on.
    pub fn open() -> Result<Monitor> {
        let failed = |source| Error::os("open", "the kernel event socket", source);
        let socket = listen().map_err(failed)?;
        let wake = Arc::new(Wake::new().map_err(failed)?);
        let rulesets = Rulesets::listen().ok();
        Ok(Monitor { socket, rulesets, wake, buffer: vec![0; BUFFER_LENGTH] })
    }

    /// Ends a [`Monitor::next`] that waits, or the next one, with no events.
    pub fn waker(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }

    /// Waits for the next burst of changes. Repetitions of one change that follow each other are one event.
    // It waits and fails, unlike an iterator.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Vec<KernelEvent>> {
        let failed = |source| Error::os("read", "the kernel event socket", source);
        let mut events = Vec::new();
        loop {
            // A descriptor that is twice among them stands for the one that is not there.
            let rulesets = self.rulesets.as_ref().map_or(self.socket.as_fd(), |it| it.socket().as_fd());
            let waited = wait_for_any([self.wake.as_fd(), self.socket.as_fd(), rulesets]);
            let [woken, readable, ruled] = waited.map_err(failed)?;
            if readable {
                self.read_burst(&mut events).map_err(failed)?;
            }
            if let Some(rulesets) = self.rulesets.as_mut().filter(|_| ruled) {
                rulesets.read_burst(&mut self.buffer, &mut events).map_err(failed)?;
            }
            if woken {
                self.wake.drain();
            }
            if woken || !events.is_empty() {
                return Ok(events);
            }
        }
    }

    fn read_burst(&mut self, events: &mut Vec<KernelEvent>) -> io::Result<()> {
        for _ in 0..BURST {
            match self.receive() {
                Ok((length, nsid)) => interpret(&self.buffer[..length], nsid, events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    note(events, KernelEvent { nsid: None, what: KernelChange::Overrun });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One datagram: its length, and the number of the namespace that it is about.
    fn receive(&mut self) -> io::Result<(usize, Option<i32>)> {
        let mut control = Control::default();
        let mut vector =
            libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        // SAFETY: all zero is a valid msghdr: no name, no buffers, no control data.
        let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>() as _;
        // SAFETY: the message's pointers are to the buffer and the control data, which live through the call,
        // with their sizes.
        let length = checked_length(unsafe {
            libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT)
        })?;
        Ok((length, control.nsid()))
    }
}

/// The one control message that the socket asks for: the number of the namespace, an int.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    nsid: i32,
    _padding: i32,
}

impl Default for Control {
    fn default() -> Control {
        // SAFETY: a cmsghdr is three numbers; zero is valid for each.
        let header = unsafe { MaybeUninit::<libc::cmsghdr>::zeroed().assume_init() };
        Control { header, nsid: -1, _padding: 0 }
    }
}

impl Control {
    fn nsid(&self) -> Option<i32> {
        let present = self.header.cmsg_level == libc::SOL_NETLINK
            && self.header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID;
        present.then_some(self.nsid)
    }
}

fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    grow_buffer(socket.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
    socket.set_listen_all_namespaces(true)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

/// Adds what a datagram says. What cannot be understood is an overrun: something changed that was not heard.
fn interpret(datagram: &[u8], nsid: Option<i32>, events: &mut Vec<KernelEvent>) {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            return note(events, KernelEvent { nsid: None, what: KernelChange::Overrun });
        };
        if let Some(what) = change(message.message_type(), message.payload()) {
            note(events, KernelEvent { nsid, what });
        }
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
}

fn change(kind: u16, payload: &[u8]) -> Option<KernelChange> {
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => match decode::link(payload) {
            // A bridge tells about its ports with its own family; to their owners that is nothing.
            Ok(_) if payload.first() != Some(&(libc::AF_UNSPEC as u8)) => None,
            Ok(link) => {
                let removed = kind == libc::RTM_DELLINK;
                Some(KernelChange::Link { index: link.index, name: link.name, removed })
            }
            Err(_) => Some(KernelChange::Overrun),
        },
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(KernelChange::Address),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Some(KernelChange::Route),
        _ => None,
    }
}

fn note(events: &mut Vec<KernelEvent>, event: KernelEvent) {
    if events.last() != Some(&event) {
        events.push(event);
    }
}
