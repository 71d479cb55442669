//! UDP sockets that carry tunnels: runs of datagrams at a time, with all that belongs to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;

use crate::datagram::{self, Arrival, Family, MAX_MESSAGES, Message, SocketError};
use crate::descriptor::checked;
use crate::socket::{refuse_all, set_option};
use crate::{Error, Result};

#[cfg(test)]
mod tests;

/// The address from which the node speaks to `destination`, by the routes of the thread's namespace as they are now.
/// Nothing is sent.
///
/// # Errors
/// ENETUNREACH when no route leads there.
pub fn source_for(destination: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    // Any port: routes do not look at it.
    socket.connect((destination, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// For sending and receiving, alone on its port.
    Alone,
    /// As others of its port, which are there already.
    Member,
    /// It receives no datagrams, but errors for those that it sends.
    Sending,
}

/// A UDP socket (RFC 768). It does not block. What it sends is never fragmented on the way.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    /// Whether the kernel cuts runs into datagrams for all devices that it was asked to.
    segments: AtomicBool,
}

impl UdpSocket {
    /// Binds to an address, or to all of its family, and a port, in the thread's namespace. Port 0 is one that
    /// is free. A socket of IPv6 has nothing to do with IPv4.
    ///
    /// # Errors
    /// EADDRINUSE when somebody has the port; [`Error::is_gone`] when the node does not have the address.
    pub fn bind(address: SocketAddr) -> Result<UdpSocket> {
        UdpSocket::bind_for(address, Purpose::Alone)
    }

    /// As [`UdpSocket::bind`], `count` sockets (at least one) that share a port, which must not be 0. The
    /// kernel gives all that comes from one address and port to one of them.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`]; another such group of the port is in the way as well.
    pub fn bind_group(address: SocketAddr, count: usize) -> Result<Vec<UdpSocket>> {
        // Nobody else has the port if one can have it alone; only then it is shared.
        let first = UdpSocket::bind(address)?;
        set_option(first.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
            .map_err(|source| failed(address, source))?;
        let mut sockets = vec![first];
        for _ in 1..count {
            sockets.push(UdpSocket::bind_for(address, Purpose::Member)?);
        }
        Ok(sockets)
    }

    /// As [`UdpSocket::bind`], one that receives no datagrams, but errors for those that it sends.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn for_sending(address: SocketAddr) -> Result<UdpSocket> {
        UdpSocket::bind_for(address, Purpose::Sending)
    }

    fn bind_for(address: SocketAddr, purpose: Purpose) -> Result<UdpSocket> {
        let fd = open(address, purpose).map_err(|source| failed(address, source))?;
        Ok(UdpSocket { fd, segments: AtomicBool::new(true) })
    }

    /// The port that it is bound to.
    pub fn port(&self) -> io::Result<u16> {
        datagram::local_port(self.as_fd())
    }

    /// Receives up to as many datagrams, or runs of them that came one after the other from one sender, as
    /// there are buffers and arrivals, and at most [`datagram::MAX_ARRIVALS`]; returns how many. A run is as
    /// long as 65,535 octets. What is longer than its buffer is lost: its length is 0. Nothing is allocated.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    pub fn recv_batch<B: AsMut<[u8]>>(
        &self,
        buffers: &mut [B],
        arrivals: &mut [Arrival],
    ) -> io::Result<usize> {
        datagram::receive(self.as_fd(), buffers, arrivals, false)
    }

    /// Sends the messages in order, at most [`MAX_MESSAGES`]; returns how many went out. It stops at the first
    /// that is refused: a caller that goes on with the rest gets that one's error first. A run is of 64
    /// datagrams at most; one that the kernel does not cut for this destination is sent piece by piece, and
    /// when one of the pieces is refused the rest of the run is not sent. Nothing is allocated.
    ///
    /// # Errors
    /// When the first is refused: `WouldBlock` or ENOBUFS when no more can be taken now; EMSGSIZE when it is
    /// longer than the device takes (the error queue tells how much that is); EINVAL when the node does not
    /// have the local address; ENETUNREACH or EHOSTUNREACH when there is no way to the destination.
    pub fn send_batch(&self, messages: &[Message<'_>]) -> io::Result<usize> {
        let Some(first) = messages.first() else { return Ok(0) };
        let segments = self.segments.load(Ordering::Relaxed);
        if first.is_run() && !segments {
            return self.send_pieces(first).map(|()| 1);
        }
        let together = if segments {
            messages
        } else {
            let runs = messages.iter().position(Message::is_run);
            &messages[..runs.unwrap_or(messages.len())]
        };
        match datagram::send(self.as_fd(), together) {
            Err(error) if first.is_run() && refuses_runs(&error) => {
                if error.raw_os_error() == Some(libc::EIO) {
                    self.segments.store(false, Ordering::Relaxed);
                }
                self.send_pieces(first).map(|()| 1)
            }
            answer => answer,
        }
    }

    /// Sends each datagram of a run by itself.
    fn send_pieces(&self, run: &Message<'_>) -> io::Result<()> {
        let mut pieces = run.octets.chunks(run.segment).peekable();
        let mut messages = [Message::NONE; MAX_MESSAGES];
        while pieces.peek().is_some() {
            let mut count = 0;
            for (message, octets) in messages.iter_mut().zip(pieces.by_ref()) {
                *message = Message { segment: 0, octets, ..*run };
                count += 1;
            }
            let mut rest = &messages[..count];
            while !rest.is_empty() {
                rest = &rest[datagram::send(self.as_fd(), rest)?..];
            }
        }
        Ok(())
    }

    /// Takes the oldest error that came back for what was sent, and writes what it quotes to `buffer`; `None`
    /// when there is none. As long as there is one, a wait for the socket ends with
    /// [`Event::hangup`](crate::poll::Event::hangup).
    pub fn recv_error<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<SocketError<'a>>> {
        datagram::receive_error(self.as_fd(), buffer)
    }

    /// How many datagrams the kernel has dropped because they were not received in time, since the socket was
    /// made.
    pub fn drops(&self) -> io::Result<u64> {
        datagram::drops(self.as_fd())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn failed(address: SocketAddr, source: io::Error) -> Error {
    Error::os("bind a UDP socket to", address.to_string(), source)
}

fn open(address: SocketAddr, purpose: Purpose) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let fd = datagram::open(family, libc::SOCK_DGRAM, 0)?;
    if family == Family::V6 {
        set_option(fd.as_fd(), libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?;
        // Tunnels are allowed to leave the checksum out over IPv6 as well (RFC 6935).
        set_option(fd.as_fd(), libc::SOL_UDP, UDP_NO_CHECK6_RX, 1)?;
    }
    match purpose {
        Purpose::Alone => {}
        Purpose::Member => set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?,
        Purpose::Sending => refuse_all(fd.as_fd())?,
    }
    if purpose != Purpose::Sending {
        set_option(fd.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)?;
    }
    let (name, length) = datagram::Name::of(address);
    // SAFETY: the name is live and its size is given.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), length) })?;
    Ok(fd)
}

/// `linux/udp.h`.
const UDP_NO_CHECK6_RX: c_int = 102;

/// Whether a run was refused that might go out in pieces. EIO: the device that it leaves by has no checksum
/// offload. EINVAL and EMSGSIZE: too many, too long, or not over this path.
fn refuses_runs(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}
