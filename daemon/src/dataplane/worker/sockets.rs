//! The sockets of tunnels that a worker waits on, and those that epoll would not take and that are tried again.

use std::collections::HashMap;
use std::sync::Arc;

use weft_host::poll::Epoll;
use weft_stack::tunnel::Underlay;

use crate::dataplane::underlay::{End, UnderlayIo};

/// Tokens of sockets have this bit, those of queues do not.
const SOCKET: u64 = 1 << 63;

/// A socket that a worker waits on.
#[derive(Debug)]
pub(super) struct Socket {
    pub underlay: Underlay,
    pub io: Arc<UnderlayIo>,
    pub end: End,
    /// Long runs of datagrams come.
    pub long: bool,
}

/// Those of one worker.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    waited_on: HashMap<u64, Socket>,
    refused: Vec<Socket>,
}

/// Whether a token is that of a socket.
pub(super) fn is_socket(token: u64) -> bool {
    token & SOCKET != 0
}

fn token(underlay: Underlay, end: End) -> u64 {
    let underlay = match underlay {
        Underlay::Udp(port) => u64::from(port),
        Underlay::Gre => 1 << 16,
    };
    SOCKET | underlay << 16 | u64::from(end.number())
}

impl Sockets {
    pub fn get_mut(&mut self, token: u64) -> Option<&mut Socket> {
        self.waited_on.get_mut(&token)
    }

    /// Waits on a socket of worker number `worker`, for what it receives and for errors.
    pub fn wait_on(&mut self, epoll: &Epoll, worker: usize, socket: Socket) {
        let known = self.refused.iter().any(|refused| refused.is(&socket));
        if !known && let Err((socket, error)) = self.add(epoll, worker, socket) {
            tracing::error!(%error, underlay = ?socket.underlay, "cannot wait on a socket of a tunnel; trying again");
            self.refused.push(socket);
        }
    }

    /// Whether there are some to be tried again.
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Tries those again that epoll has refused.
    pub fn try_again(&mut self, epoll: &Epoll, worker: usize) {
        for socket in std::mem::take(&mut self.refused) {
            if let Err((socket, _)) = self.add(epoll, worker, socket) {
                self.refused.push(socket);
            }
        }
    }

    fn add(&mut self, epoll: &Epoll, worker: usize, socket: Socket) -> Result<(), (Socket, std::io::Error)> {
        let token = token(socket.underlay, socket.end);
        if self.waited_on.contains_key(&token) {
            return Ok(());
        }
        let Some(fd) = socket.io.fd(worker, socket.end) else { return Ok(()) };
        match epoll.add(fd, token) {
            Ok(()) => drop(self.waited_on.insert(token, socket)),
            Err(error) => return Err((socket, error)),
        }
        Ok(())
    }

    /// Lets go of those of which this is not true, and shows their tokens.
    pub fn retain(
        &mut self,
        epoll: &Epoll,
        worker: usize,
        lives: impl Fn(&Socket) -> bool,
        mut gone: impl FnMut(u64),
    ) {
        self.refused.retain(&lives);
        for (token, socket) in self.waited_on.extract_if(|_, socket| !lives(socket)) {
            gone(token);
            if let Some(fd) = socket.io.fd(worker, socket.end) {
                // Closing the descriptor ends the registration too, should this fail.
                let _ = epoll.remove(fd);
            }
        }
    }
}

impl Socket {
    fn is(&self, other: &Socket) -> bool {
        (self.underlay, self.end) == (other.underlay, other.end)
    }
}

#[cfg(test)]
mod tests {
    use weft_host::netns::NetNs;

    use super::*;

    #[test]
    fn a_socket_that_epoll_refuses_is_tried_again() {
        let _entered = NetNs::create_anonymous().unwrap().enter().unwrap();
        let underlay = Underlay::Udp(4789);
        let io = Arc::new(UnderlayIo::open(underlay, 1).unwrap());
        let end = io.read_by(0, 1).next().unwrap();
        let socket = || Socket { underlay, io: Arc::clone(&io), end, long: false };
        let (epoll, mut sockets) = (Epoll::new().unwrap(), Sockets::default());
        // What it has already it does not take.
        epoll.add(io.fd(0, end).unwrap(), 7).unwrap();
        sockets.wait_on(&epoll, 0, socket());
        sockets.wait_on(&epoll, 0, socket());
        assert!(sockets.has_refused() && sockets.get_mut(token(underlay, end)).is_none());
        sockets.try_again(&epoll, 0);
        assert!(sockets.has_refused());
        epoll.remove(io.fd(0, end).unwrap()).unwrap();
        sockets.try_again(&epoll, 0);
        assert!(!sockets.has_refused() && sockets.get_mut(token(underlay, end)).is_some());
        // It is not waited on any more then.
        sockets.retain(&epoll, 0, |_| false, |gone| assert_eq!(gone, token(underlay, end)));
        epoll.add(io.fd(0, end).unwrap(), 7).unwrap();
        sockets.wait_on(&epoll, 0, socket());
        sockets.retain(&epoll, 0, |_| false, |_| panic!("it was not waited on"));
        assert!(!sockets.has_refused() && Arc::strong_count(&io) == 1);
    }
}
