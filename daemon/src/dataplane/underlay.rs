//! The sockets of the node by which tunnels reach their far ends, as a worker sees them.
//!
//! UDP has a socket for each worker and family on the tunnel's port: the kernel gives all of one sender to one of
//! them. VXLAN sends by further ones, whose ports tell flows apart. What the datagrams are is the stack's matter.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use weft_host::datagram::{self, Family, Message, SocketError};
use weft_host::gre::GreSocket;
use weft_host::udp::UdpSocket;
use weft_stack::tunnel::datagram::{Arrival, INBOX};
use weft_stack::tunnel::{Inbox, Underlay};

use super::port::{Received, is_full};

#[cfg(test)]
mod tests;

/// Sockets of each family by which VXLAN sends: so many paths are used at most where the network on the way spreads
/// flows by their ports (RFC 7348 section 5).
const SENDERS: usize = 32;

/// Datagrams, or runs of them, that are sent by one call.
const SENT: usize = 32;

/// Buffers offered at once while long runs come: they stay in the cache until they are handled.
const LONG_RUNS: usize = 2;

/// A run of this size or more is long.
const LONG: usize = 8 * 1024;

/// The open sockets of one underlay. Dropping it closes them.
#[derive(Debug)]
pub struct UnderlayIo {
    ends: Ends,
}

#[derive(Debug)]
enum Ends {
    Udp {
        /// By family, one for each worker. A kernel without IPv6 has none of it.
        own: [Vec<UdpSocket>; 2],
        /// By family. They are opened when they are needed first; `None`: that failed.
        senders: [Box<[OnceLock<Option<UdpSocket>>]>; 2],
    },
    /// By family.
    Gre([Option<GreSocket>; 2]),
}

/// One of the sockets of an underlay, as a worker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct End(u16);

/// Those that a worker reads: IPv4 and IPv6.
const OWN: [End; 2] = [End(0), End(1)];

/// An end that is open.
#[derive(Debug, Clone, Copy)]
enum Open<'a> {
    Udp(&'a UdpSocket),
    Gre(&'a GreSocket),
}

impl End {
    /// Its number among those of one underlay, below 2^16.
    pub fn number(self) -> u16 {
        self.0
    }

    fn sender(family: usize, entropy: u16) -> End {
        // Below 2 + 2 * SENDERS.
        End((OWN.len() + family * SENDERS + usize::from(entropy) % SENDERS) as u16)
    }

    /// Family and position, when it is one that only sends.
    fn position(self) -> Option<(usize, usize)> {
        let position = usize::from(self.0).checked_sub(OWN.len())?;
        Some((position / SENDERS, position % SENDERS))
    }
}

impl UnderlayIo {
    /// Opens the sockets in the thread's namespace.
    ///
    /// # Errors
    /// EADDRINUSE when somebody else has the port.
    pub fn open(underlay: Underlay, workers: usize) -> weft_host::Result<UnderlayIo> {
        let ends = match underlay {
            Underlay::Udp(port) => {
                let bind = |any: IpAddr| UdpSocket::bind_group(SocketAddr::new(any, port), workers.max(1));
                let v4 = bind(Ipv4Addr::UNSPECIFIED.into())?;
                let v6 = where_there_is(bind(Ipv6Addr::UNSPECIFIED.into()))?.unwrap_or_default();
                let senders = [(); 2].map(|()| (0..SENDERS).map(|_| OnceLock::new()).collect());
                Ends::Udp { own: [v4, v6], senders }
            }
            Underlay::Gre => {
                let v4 = GreSocket::open(Family::V4)?;
                Ends::Gre([Some(v4), where_there_is(GreSocket::open(Family::V6))?])
            }
        };
        Ok(UnderlayIo { ends })
    }

    /// The ends that worker number `worker` of `workers` reads.
    pub(super) fn read_by(&self, worker: usize, workers: usize) -> impl Iterator<Item = End> + '_ {
        let mine = match self.ends {
            Ends::Udp { .. } => true,
            // Each raw socket hears everything, so one worker has them.
            Ends::Gre(_) => worker + 1 == workers,
        };
        OWN.into_iter().filter(move |end| mine && self.get(worker, *end).is_some())
    }

    /// The end by which to send there. `entropy` tells flows apart, where the far end wants to see that.
    pub(super) fn end_for(&self, destination: SocketAddr, entropy: Option<u16>) -> End {
        let family = usize::from(destination.is_ipv6());
        match (&self.ends, entropy) {
            (Ends::Udp { .. }, Some(entropy)) => End::sender(family, entropy),
            (Ends::Udp { .. } | Ends::Gre(_), _) => OWN[family],
        }
    }

    /// Makes sure that an end is open. Says whether this has opened it just now: it is to be waited on for errors.
    pub(super) fn open_now(&self, end: End) -> bool {
        let (Ends::Udp { senders, .. }, Some((family, position))) = (&self.ends, end.position()) else {
            return false;
        };
        let sender = &senders[family][position];
        if sender.get().is_some() {
            return false;
        }
        let mut opened = false;
        let socket = sender.get_or_init(|| {
            opened = true;
            open_sender(family)
        });
        opened && socket.is_some()
    }

    /// An end of a worker. One that only sends and could not be opened is replaced by the worker's own.
    fn get(&self, worker: usize, end: End) -> Option<Open<'_>> {
        match (&self.ends, end.position()) {
            (Ends::Udp { own, senders }, Some((family, position))) => {
                let sender = senders[family][position].get().and_then(Option::as_ref);
                sender.or_else(|| of_worker(&own[family], worker)).map(Open::Udp)
            }
            (Ends::Udp { own, .. }, None) => of_worker(&own[usize::from(end.0)], worker).map(Open::Udp),
            (Ends::Gre(sockets), _) => sockets.get(usize::from(end.0))?.as_ref().map(Open::Gre),
        }
    }

    /// What to wait on for an end.
    pub(super) fn fd(&self, worker: usize, end: End) -> Option<BorrowedFd<'_>> {
        self.get(worker, end).map(|open| match open {
            Open::Udp(socket) => socket.as_fd(),
            Open::Gre(socket) => socket.as_fd(),
        })
    }

    /// Receives a round's worth into `inbox`. `long`: the last round's runs were long.
    pub(super) fn receive(&self, worker: usize, end: End, inbox: &mut Inbox, long: bool) -> Received {
        let buffers = inbox.vacant();
        let room = if long { LONG_RUNS } else { buffers.len() };
        let mut arrivals = [datagram::Arrival::NONE; INBOX];
        let (buffers, arrivals) = (&mut buffers[..room], &mut arrivals[..room]);
        let received = match self.get(worker, end) {
            Some(Open::Udp(socket)) => socket.recv_batch(buffers, arrivals),
            Some(Open::Gre(socket)) => socket.recv_batch(buffers, arrivals),
            None => return Received::Drained,
        };
        match received {
            Ok(count) => {
                arrivals[..count].iter().for_each(|arrival| inbox.commit(told(arrival)));
                if count < room { Received::Drained } else { Received::Some }
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%error, "a socket of a tunnel cannot be read");
                }
                Received::Drained
            }
        }
    }

    /// Takes an error that came back for what an end has sent.
    pub(super) fn error<'a>(&self, worker: usize, end: End, buffer: &'a mut [u8]) -> Option<SocketError<'a>> {
        match self.get(worker, end)? {
            Open::Udp(socket) => socket.recv_error(buffer),
            Open::Gre(socket) => socket.recv_error(buffer),
        }
        .unwrap_or_default()
    }

    /// Sends messages by an end. Calls `refused` with the position and error of each that did not go out.
    pub(super) fn send<'a>(
        &self,
        (worker, end): (usize, End),
        wanted: impl Iterator<Item = Message<'a>>,
        mut refused: impl FnMut(usize, io::Error),
    ) {
        let Some(open) = self.get(worker, end) else {
            let none = || io::ErrorKind::Unsupported.into();
            return wanted.enumerate().for_each(|(position, _)| refused(position, none()));
        };
        let mut messages = [Message::NONE; SENT];
        let mut wanted = wanted.peekable();
        let mut position = 0;
        while wanted.peek().is_some() {
            let mut count = 0;
            for (message, next) in messages.iter_mut().zip(wanted.by_ref()) {
                *message = next;
                count += 1;
            }
            send_all(open, &messages[..count], |at, error| refused(position + at, error));
            position += count;
        }
    }
}

/// The largest of what a round has received tells how long runs are now.
pub(super) fn is_long(inbox: &mut Inbox) -> bool {
    inbox
        .len()
        .checked_sub(1)
        .and_then(|last| inbox.get_mut(last))
        .is_some_and(|(last, _)| last.length >= LONG)
}

fn of_worker(sockets: &[UdpSocket], worker: usize) -> Option<&UdpSocket> {
    sockets.get(worker % sockets.len().max(1))
}

/// `None` where the kernel has no IPv6.
fn where_there_is<T>(opened: weft_host::Result<T>) -> weft_host::Result<Option<T>> {
    const EAFNOSUPPORT: i32 = 97;
    match opened {
        Err(error) if error.code() == Some(EAFNOSUPPORT) => Ok(None),
        other => other.map(Some),
    }
}

fn open_sender(family: usize) -> Option<UdpSocket> {
    let any: IpAddr = if family == 0 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    match UdpSocket::for_sending(SocketAddr::new(any, 0)) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, "fewer source ports for VXLAN: its flows are told apart less well");
            None
        }
    }
}

fn told(arrival: &datagram::Arrival) -> Arrival {
    let datagram::Arrival { source, local, tos, length, segment } = *arrival;
    Arrival { source, local, tos, length, segment }
}

fn send_all(open: Open<'_>, messages: &[Message<'_>], mut refused: impl FnMut(usize, io::Error)) {
    let mut done = 0;
    while let Some(rest) = messages.get(done..).filter(|rest| !rest.is_empty()) {
        let sent = match open {
            Open::Udp(socket) => socket.send_batch(rest),
            Open::Gre(socket) => socket.send_batch(rest),
        };
        match sent {
            Ok(sent) if sent > 0 => done += sent,
            Err(error) if !is_full(&error) => {
                refused(done, error);
                done += 1;
            }
            // The rest would find it full as well.
            Ok(_) | Err(_) => {
                (done..messages.len()).for_each(|at| refused(at, io::ErrorKind::WouldBlock.into()));
                return;
            }
        }
    }
}
