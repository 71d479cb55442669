//! Raw sockets of IP protocol 47: GRE (RFC 2784) packets without their IP header.
//!
//! Every such socket of a namespace hears all GRE packets that come for the node. The kernel puts fragments
//! together before. Where a device puts packets together on receiving (GRO), it does so with TCP inside GRE too:
//! such a packet is longer than any that was sent, and its TCP checksum is that of the pseudo-header alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use crate::datagram::Family;
use crate::datagram::{self, Arrival, Message, SocketError};
use crate::{Error, Result};

#[cfg(test)]
mod tests;

/// A raw socket for GRE. It does not block. What it sends is never fragmented.
#[derive(Debug)]
pub struct GreSocket {
    fd: OwnedFd,
    family: Family,
}

impl GreSocket {
    /// Hears all GRE packets of a family in the thread's namespace.
    pub fn open(family: Family) -> Result<GreSocket> {
        let opened = datagram::open(family, libc::SOCK_RAW, libc::IPPROTO_GRE);
        let fd = opened
            .map_err(|source| Error::os("open", format!("a raw socket for GRE ({family:?})"), source))?;
        Ok(GreSocket { fd, family })
    }

    /// Receives up to as many packets as there are buffers and arrivals, and at most
    /// [`datagram::MAX_ARRIVALS`]; returns how many. They begin with the GRE header. What is longer than its
    /// buffer is lost: its length is 0. Nothing is allocated.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    pub fn recv_batch<B: AsMut<[u8]>>(
        &self,
        buffers: &mut [B],
        arrivals: &mut [Arrival],
    ) -> io::Result<usize> {
        datagram::receive(self.as_fd(), buffers, arrivals, self.family == Family::V4)
    }

    /// Sends the messages in order, at most [`datagram::MAX_MESSAGES`]; returns how many went out. It stops at
    /// the first that is refused: a caller that goes on with the rest gets that one's error first. Each is one
    /// packet, whatever its segment is. Nothing is allocated.
    ///
    /// # Errors
    /// When the first is refused: as [`crate::udp::UdpSocket::send_batch`].
    pub fn send_batch(&self, messages: &[Message<'_>]) -> io::Result<usize> {
        datagram::send(self.as_fd(), messages)
    }

    /// Takes the oldest error that came back for what was sent, and writes what it quotes, from the GRE header
    /// on, to `buffer`; `None` when there is none. As long as there is one, a wait for the socket ends with
    /// [`Event::hangup`](crate::poll::Event::hangup).
    ///
    /// Anybody may make the node believe to have sent GRE: the quoted packet tells whether it did.
    pub fn recv_error<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<SocketError<'a>>> {
        datagram::receive_error(self.as_fd(), buffer)
    }

    /// How many packets the kernel has dropped because they were not received in time, since the socket was
    /// made.
    pub fn drops(&self) -> io::Result<u64> {
        datagram::drops(self.as_fd())
    }
}

impl AsFd for GreSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
