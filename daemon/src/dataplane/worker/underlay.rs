//! What a worker does with the sockets by which tunnels reach their far ends: reading, sending, hearing of errors.

use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use weft_host::datagram::{Message, SocketErrorKind};
use weft_host::poll::{Epoll, Event};
use weft_stack::Stack;
use weft_stack::batch::Output;
use weft_stack::time::Instant;
use weft_stack::tunnel::{Datagram, Underlay, UnderlayError};
use weft_stack::verdict::DropReason;

use super::sockets::{Socket, Sockets};
use super::{ROUNDS, Worker, add, drop_reason};
use crate::dataplane::port::Received;
use crate::dataplane::snapshot::Snapshot;
use crate::dataplane::underlay::{UnderlayIo, is_long};

/// Errors that are heard of one socket before others get their turn.
const ERRORS: usize = 64;

/// Octets of a quoted datagram that are looked at: routers quote no more (RFC 1812 section 4.3.2.3, RFC 4443
/// section 2.4).
const QUOTED: usize = 1280;

/// Datagrams among which those for one socket are looked for: as many as a `u64` has bits.
const WINDOW: usize = 64;

impl Worker {
    /// Sees to what epoll told of a socket.
    pub(super) fn serve_event(&mut self, now: Instant, event: Event) -> bool {
        if event.hangup {
            self.hear_errors(now, event.token);
        }
        // Also without anything to read: reading forgets an error for which there was no room in the queue.
        self.serve_socket(now, event.token)
    }

    /// Moves what a socket holds, a bounded number of rounds.
    pub(super) fn serve_socket(&mut self, now: Instant, token: u64) -> bool {
        let mut worked = false;
        for _ in 0..ROUNDS {
            let Some(socket) = self.sockets.get_mut(token) else { return worked };
            let underlay = socket.underlay;
            let received = socket.io.receive(self.index, socket.end, &mut self.inbox, socket.long);
            socket.long = is_long(&mut self.inbox);
            if !self.inbox.is_empty() {
                worked = true;
                self.heat(token);
                self.open_datagrams(now, underlay);
            }
            if received != Received::Some {
                break;
            }
        }
        worked
    }

    /// Tells the stack the time of the calendar, where there are tunnels that may want to know.
    pub(super) fn tell_wall(&mut self) {
        if self.snapshot.underlays().next().is_some() {
            // Before 1970 it is not any time that a handshake could bear.
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.stack.set_wall(wall);
        }
    }

    /// Runs what is in the datagrams through the stack, and sends what the tunnels themselves answer.
    fn open_datagrams(&mut self, now: Instant, underlay: Underlay) {
        self.tell_wall();
        loop {
            self.batch.clear();
            let (inbox, batch, output) = (&mut self.inbox, &mut self.batch, &mut self.output);
            let Some(port) = self.stack.receive(now, underlay, inbox, batch, output) else { break };
            add(&self.counters.rx_packets, self.batch.packets().len() as u64);
            self.process(now, port);
        }
        self.flush();
    }

    /// Tells the stack what became of datagrams that a socket has sent.
    fn hear_errors(&mut self, now: Instant, token: u64) {
        let mut quoted = [0; QUOTED];
        for _ in 0..ERRORS {
            let Some(socket) = self.sockets.get_mut(token) else { return };
            let Some(error) = socket.io.error(self.index, socket.end, &mut quoted) else { return };
            let underlay = socket.underlay;
            tracing::trace!(?underlay, ?error, "a datagram did not arrive");
            let heard = UnderlayError {
                destination: error.destination,
                mtu: match error.kind {
                    SocketErrorKind::TooBig { mtu } => Some(mtu).filter(|mtu| *mtu > 0),
                    _ => None,
                },
                by_node: error.offender.is_none(),
                quote: error.quoted,
            };
            self.stack.underlay_error(now, underlay, &heard);
        }
    }

    /// Sends the stack's datagrams, those for one socket together. Their order within a socket stays.
    pub(super) fn send_datagrams(&mut self) {
        let shared = Arc::clone(&self.shared);
        // Those with numbers leave in the order of these, whichever worker sends.
        let _order = self.output.has_numbered().then(|| {
            let order = shared.numbering.lock().unwrap_or_else(PoisonError::into_inner);
            self.stack.number(&mut self.output);
            order
        });
        let Worker { index, output, snapshot, sockets, epoll, counters, stack, .. } = self;
        let mut sender = Sender { worker: *index, snapshot, sockets, epoll, stack };
        for window in output.datagrams().chunks(WINDOW) {
            let mut left = u64::MAX >> (WINDOW - window.len());
            while let Some(first) = window.get(left.trailing_zeros() as usize) {
                let io = snapshot.underlay(first.underlay);
                let run = Run::take(window, &mut left, io);
                match io {
                    Some(io) => sender.send(&run, io, output),
                    None => run
                        .datagrams()
                        .for_each(|it| sender.drop(it, count(it, output), DropReason::PortDown)),
                }
            }
        }
        add(&counters.tx_packets, output.datagrams().iter().map(|it| count(it, output)).sum());
    }

    /// Takes up the sockets of a snapshot that is to be this worker's.
    pub(super) fn adopt_underlays(&mut self, snapshot: &Snapshot) {
        let lives = |socket: &Socket| {
            snapshot.underlay(socket.underlay).is_some_and(|io| Arc::ptr_eq(io, &socket.io))
        };
        let (worker, hot) = (self.index, &mut self.hot);
        self.sockets.retain(&self.epoll, worker, lives, |gone| hot.retain(|known| *known != gone));
        for (underlay, io) in snapshot.underlays() {
            for end in io.read_by(worker, snapshot.config.workers()) {
                let socket = Socket { underlay, io: Arc::clone(io), end, long: false };
                self.sockets.wait_on(&self.epoll, worker, socket);
            }
        }
    }
}

/// What a worker sends datagrams with.
struct Sender<'a> {
    worker: usize,
    snapshot: &'a Snapshot,
    sockets: &'a mut Sockets,
    epoll: &'a Epoll,
    stack: &'a Stack,
}

impl Sender<'_> {
    fn send(&mut self, run: &Run<'_>, io: &Arc<UnderlayIo>, output: &Output) {
        let Some(first) = run.datagrams().next() else { return };
        let end = io.end_for(first.destination, first.entropy);
        if io.open_now(end) {
            let socket = Socket { underlay: first.underlay, io: Arc::clone(io), end, long: false };
            self.sockets.wait_on(self.epoll, self.worker, socket);
        }
        let messages = run.datagrams().map(|datagram| message(datagram, output.octets(datagram)));
        // As many bits as a run has datagrams.
        let mut refused = 0_u64;
        io.send((self.worker, end), messages, |position, error| {
            if let Some(datagram) = run.datagrams().nth(position) {
                refused |= 1 << position;
                let reason = drop_reason(&error);
                self.drop(datagram, count(datagram, output), reason);
                if datagram.local.is_some() && reason == DropReason::DeviceError {
                    self.stack.forget_local(datagram);
                }
                tracing::trace!(destination = %datagram.destination, %error, "datagram refused by the socket");
            }
        });
        let sent = run.datagrams().enumerate().filter(|(position, _)| refused & 1 << position == 0);
        sent.for_each(|(_, datagram)| self.count(datagram));
    }

    /// Counts what a datagram carried as sent by its port.
    fn count(&self, datagram: &Datagram) {
        if datagram.load.frames > 0
            && let Some(port) = self.snapshot.config.port(datagram.port)
        {
            let counters = port.counters(self.worker);
            counters.tx_packets.add(datagram.load.frames);
            counters.tx_bytes.add(datagram.load.octets);
        }
    }

    /// Counts a run of `count` datagrams as dropped by its port.
    fn drop(&self, datagram: &Datagram, count: u64, reason: DropReason) {
        if let Some(port) = self.snapshot.config.port(datagram.port) {
            let counters = port.counters(self.worker);
            (0..count).for_each(|_| counters.drop(reason));
        }
    }
}

/// Datagrams of a window that leave by one socket.
struct Run<'a> {
    window: &'a [Datagram],
    order: [u8; WINDOW],
    count: usize,
}

impl<'a> Run<'a> {
    /// Takes the first of those that are `left` (a bit for each of the window), of which there is one at least, and all
    /// that leave by the same socket.
    fn take(window: &'a [Datagram], left: &mut u64, io: Option<&Arc<UnderlayIo>>) -> Run<'a> {
        let end = |datagram: &Datagram| io.map(|io| io.end_for(datagram.destination, datagram.entropy));
        let first = &window[left.trailing_zeros() as usize];
        let alike = |other: &Datagram| other.underlay == first.underlay && end(other) == end(first);
        let mut run = Run { window, order: [0; WINDOW], count: 0 };
        let mut rest = *left;
        while rest != 0 {
            let position = rest.trailing_zeros();
            rest &= rest - 1;
            if alike(&window[position as usize]) {
                *left &= !(1 << position);
                // Below WINDOW.
                run.order[run.count] = position as u8;
                run.count += 1;
            }
        }
        run
    }

    fn datagrams(&self) -> impl Iterator<Item = &'a Datagram> {
        self.order[..self.count].iter().map(|position| &self.window[usize::from(*position)])
    }
}

/// How many datagrams a run of the output is.
fn count(datagram: &Datagram, output: &Output) -> u64 {
    match datagram.segment {
        0 => 1,
        segment => output.octets(datagram).len().div_ceil(segment) as u64,
    }
}

fn message<'a>(datagram: &Datagram, octets: &'a [u8]) -> Message<'a> {
    let Datagram { destination, local, tos, segment, .. } = *datagram;
    Message { destination, local, tos, segment, octets }
}
