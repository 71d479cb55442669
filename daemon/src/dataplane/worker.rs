//! A worker: a plain thread that owns receive queues and runs each of their frames to completion.
//!
//! It sleeps in epoll while there is nothing to do. After work it looks again for a while, giving way
//! to others in between, since a wake-up from another core is the dearest thing on the way of a packet.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::Sender;
use std::time::Duration;

use weft_host::fastpath::Stamps;
use weft_host::poll::{Epoll, Events, Wake};
use weft_stack::Stack;
use weft_stack::batch::{Batch, Output, Send};
use weft_stack::config::PortId;
use weft_stack::packet::Packet;
use weft_stack::time::Instant;
use weft_stack::tunnel::Inbox;
use weft_stack::verdict::DropReason;

use super::Shared;
use super::fastpath::Replayer;
use super::live::{self, Watcher};
use super::port::{PortIo, Received, Refused, is_full};
use super::snapshot::Snapshot;
use sockets::Sockets;

mod sockets;
mod underlay;

/// The token of the eventfd by which the control side wakes a worker.
const WAKE: u64 = u64::MAX;

/// Rounds that one queue may have before the others get their turn: 256 small packets, or some
/// super-packets.
const ROUNDS: usize = 4;

const EVENTS: usize = 256;

/// After so long those queues and sockets are tried again that epoll would not take.
const RETRY: Duration = Duration::from_secs(1);

/// Queues that had packets lately are read without asking epoll, this many of them...
const HOT: usize = 4;

/// ...and so many times in a row before the other queues are looked at.
const HOT_ROUNDS: u32 = 4;

/// What the stack has said of packets goes to the kernel when their queue is empty: those in it would be overtaken. While
/// it never is, that waits for so many rounds.
const OVERTAKE_AFTER: u32 = 64;

/// A worker that looks again in vain comes down to this part of the configured time.
const LEAST_PATIENCE: u32 = 16;

/// A frame of this size or more is large: fewer buffers are offered at once then.
const LARGE: usize = 8 * 1024;

/// What a worker did; written by it alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct WorkerCounters {
    pub queues: AtomicU64,
    pub rx_packets: AtomicU64,
    pub tx_packets: AtomicU64,
    pub sleeps: AtomicU64,
    pub polls_hit: AtomicU64,
    pub busy_nanos: AtomicU64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

struct Queue {
    port: PortId,
    io: Arc<PortIo>,
    index: usize,
    large: bool,
}

/// Who watches packets, as this worker knows.
#[derive(Default)]
struct Watching {
    version: u64,
    list: Arc<Vec<Arc<Watcher>>>,
    /// When more packets may be followed.
    renew: Instant,
}

impl Queue {
    fn count(&self, packets: &[Packet]) {
        let counters = &self.io.counters()[self.index];
        add(&counters.rx_packets, packets.len() as u64);
        add(&counters.rx_bytes, packets.iter().map(|packet| packet.len() as u64).sum());
    }
}

pub(super) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    wake: Arc<Wake>,
    counters: Arc<WorkerCounters>,
    acknowledge: Sender<u64>,
    epoll: Epoll,
    queues: HashMap<u64, Queue>,
    sockets: Sockets,
    /// When to try those queues and sockets again that epoll would not take.
    retry: Option<Instant>,
    /// There are such queues.
    queues_refused: bool,
    inbox: Inbox,
    /// Tokens of the queues and sockets that had packets since the last sleep, the latest first.
    hot: Vec<u64>,
    /// How long to look for more packets after the last one.
    patience: Duration,
    snapshot: Arc<Snapshot>,
    watching: Watching,
    /// Of verdicts that may be replayed: see [`Replayer`].
    stamps: Stamps,
    /// A queue that had its turn in this round holds more.
    behind: bool,
    /// Rounds since there are such verdicts.
    waited: u32,
    stack: Stack,
    batch: Batch,
    output: Output,
}

impl Worker {
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        wake: Arc<Wake>,
        counters: Arc<WorkerCounters>,
        acknowledge: Sender<u64>,
    ) -> io::Result<Worker> {
        let snapshot = shared.snapshot.load_full();
        let epoll = Epoll::new()?;
        epoll.add(std::os::fd::AsFd::as_fd(&*wake), WAKE)?;
        Ok(Worker {
            index,
            stack: Stack::new(index, snapshot.config.clone()),
            patience: shared.busy_poll,
            shared,
            wake,
            counters,
            acknowledge,
            epoll,
            queues: HashMap::new(),
            sockets: Sockets::default(),
            retry: None,
            queues_refused: false,
            inbox: Inbox::new(),
            hot: Vec::with_capacity(HOT + 1),
            watching: Watching::default(),
            stamps: Stamps::default(),
            behind: false,
            waited: 0,
            snapshot,
            batch: Batch::new(),
            output: Output::new(),
        })
    }

    /// Works until the control side says stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut polling_until: Option<Instant> = None;
        // Rounds in a row that the hot queues alone have had; at the limit epoll is asked first.
        let mut rounds = HOT_ROUNDS;
        let mut working_since: Option<Instant> = None;
        while !self.shared.stop.load(Relaxed) {
            self.take_stamps();
            let mut now = self.shared.now();
            if let Some(start) = working_since {
                add(&self.counters.busy_nanos, now.since(start).as_nanos() as u64);
            }
            self.look_for_watchers(now);
            let mut worked = polling_until.is_some() && rounds < HOT_ROUNDS && self.serve_hot(now);
            rounds += 1;
            if !worked {
                self.wait(&mut events, polling_until.is_some());
                now = self.shared.now();
                self.look_for_watchers(now);
                worked = self.serve_all(now, &events);
                // While nothing comes, one question to epoll is cheaper than one to each hot queue.
                rounds = if worked { 0 } else { HOT_ROUNDS };
            }
            self.replay();
            self.run_timers(now);
            if self.shared.generation.load(Acquire) != self.snapshot.config.generation() {
                self.adopt();
            }
            self.see_to_refused(now);
            polling_until = self.look_again(now, worked, polling_until);
            working_since = worked.then_some(now);
        }
    }

    /// Notes what verdicts bear that are made from now on; those from before are void where it is another.
    fn take_stamps(&mut self) {
        let Some(newest) = self.shared.replayer.as_ref().map(Replayer::stamps) else { return };
        let last = std::mem::replace(&mut self.stamps, newest);
        if newest.picture != last.picture {
            self.waited = 0;
            self.stack.forget_replays();
        } else if newest.neighbors != last.neighbors {
            self.stack.forget_routed_replays();
        }
    }

    /// Gives the kernel what the stack has said, if the queues of this round are empty or have not been for long, and
    /// there is no newer picture.
    fn replay(&mut self) {
        let behind = std::mem::take(&mut self.behind);
        let Some(replayer) = self.shared.replayer.as_ref().filter(|_| self.stack.has_replays()) else {
            return;
        };
        self.waited += 1;
        if behind && self.waited < OVERTAKE_AFTER {
            return;
        }
        self.waited = 0;
        let newest = self.shared.generation.load(Acquire) == self.snapshot.config.generation();
        for replay in self.stack.take_replays().filter(|_| newest) {
            replayer.keep(&replay, self.stamps, &self.snapshot);
        }
    }

    /// Takes up who watches packets, before any packet is looked at.
    fn look_for_watchers(&mut self, now: Instant) {
        let newest = self.shared.watchers.version();
        if newest != self.watching.version {
            self.watching.version = newest;
            self.watching.list = self.shared.watchers.list();
            self.stack.watch(live::filters(&self.watching.list));
        }
        if !self.watching.list.is_empty() && now >= self.watching.renew {
            self.watching.renew = now + live::PERIOD;
            self.stack.allow_live(live::FOLLOWED);
        }
    }

    /// Asks epoll which queues have packets; sleeps until one has, unless it is `polling`.
    fn wait(&mut self, events: &mut Events, polling: bool) {
        let timeout = if polling { Some(Duration::ZERO) } else { self.sleep() };
        if let Err(error) = self.epoll.wait(events, timeout) {
            tracing::error!(worker = self.index, %error, "epoll failed; trying again");
            std::thread::yield_now();
        }
    }

    /// Serves the queues that had packets last.
    fn serve_hot(&mut self, now: Instant) -> bool {
        let mut worked = false;
        let mut tokens = [0; HOT];
        let count = self.hot.len().min(HOT);
        tokens[..count].copy_from_slice(&self.hot[..count]);
        for token in &tokens[..count] {
            worked |= if sockets::is_socket(*token) {
                self.serve_socket(now, *token)
            } else {
                self.serve(now, *token)
            };
        }
        worked
    }

    fn heat(&mut self, token: u64) {
        if self.hot.first() != Some(&token) {
            self.hot.retain(|known| *known != token);
            self.hot.insert(0, token);
            self.hot.truncate(HOT);
        }
    }

    /// Whether to look again without sleeping, and until when. Where looking again finds packets, the
    /// next look lasts longer, up to the limit; where it does not, it is shorter.
    fn look_again(&mut self, now: Instant, worked: bool, polling_until: Option<Instant>) -> Option<Instant> {
        let most = self.shared.busy_poll;
        match polling_until {
            _ if worked => {
                if polling_until.is_some() {
                    add(&self.counters.polls_hit, 1);
                    self.patience = (self.patience * 2).min(most);
                }
                (!most.is_zero()).then(|| now + self.patience)
            }
            Some(until) if now < until => {
                std::thread::yield_now();
                Some(until)
            }
            Some(_) => {
                self.patience = (self.patience / 2).max(most / LEAST_PATIENCE);
                None
            }
            None => None,
        }
    }

    /// How long to sleep at most.
    fn sleep(&mut self) -> Option<Duration> {
        self.hot.clear();
        add(&self.counters.sleeps, 1);
        let due = [self.stack.poll_at(), self.retry].into_iter().flatten().min();
        due.map(|at| at.since(self.shared.now()))
    }

    fn serve_all(&mut self, now: Instant, events: &Events) -> bool {
        let mut worked = false;
        for event in events.iter() {
            if event.token == WAKE {
                self.wake.drain();
            } else if sockets::is_socket(event.token) {
                worked |= self.serve_event(now, event);
            } else {
                worked |= self.serve(now, event.token);
            }
        }
        worked
    }

    /// Moves what a queue holds, a bounded number of rounds.
    fn serve(&mut self, now: Instant, token: u64) -> bool {
        let (mut worked, mut behind) = (false, true);
        for _ in 0..ROUNDS {
            let Some(queue) = self.queues.get_mut(&token) else { return worked };
            let mut refused = Refused::default();
            self.batch.clear();
            let received = queue.io.receive(queue.index, &mut self.batch, queue.large, &mut refused);
            let port = queue.port;
            let packets = self.batch.packets();
            queue.count(packets);
            queue.large = packets.last().is_some_and(|packet| packet.len() >= LARGE);
            self.count_refused(port, refused);
            if !self.batch.packets().is_empty() {
                worked = true;
                self.heat(token);
                add(&self.counters.rx_packets, self.batch.packets().len() as u64);
                self.process(now, port);
            }
            match received {
                Received::Some => {}
                Received::Drained => {
                    behind = false;
                    break;
                }
                Received::Lost { closed } => {
                    self.lose(token, closed);
                    break;
                }
            }
        }
        self.behind |= behind;
        worked
    }

    /// Runs the batch, of a port, through the stack and carries out what comes of it.
    fn process(&mut self, now: Instant, port: PortId) {
        self.stack.process(now, port, &mut self.batch, &mut self.output);
        if self.stack.has_live() {
            live::deliver(&self.watching.list, &self.snapshot.config, self.stack.take_live());
        }
        self.flush();
    }

    fn count_refused(&self, port: PortId, refused: Refused) {
        if refused == Refused::default() {
            return;
        }
        if let Some(port) = self.snapshot.config.port(port) {
            let counters = port.counters(self.index);
            (0..refused.invalid).for_each(|_| counters.drop(DropReason::OffloadInvalid));
            (0..refused.too_long).for_each(|_| counters.drop(DropReason::FrameTooLong));
        }
    }

    fn run_timers(&mut self, now: Instant) {
        if self.stack.poll_at().is_some_and(|at| at <= now) {
            self.batch.clear();
            self.tell_wall();
            self.stack.poll(now, &mut self.output);
            self.flush();
        }
    }

    /// Carries out the stack's sends, runs for one port together.
    fn flush(&mut self) {
        if let Some(replayer) = &self.shared.replayer {
            replayer.look_at_neighbors(self.stack.config());
        }
        let mut done = 0;
        while let Some(first) = self.output.sends().get(done) {
            let run = self.output.sends()[done..].iter().take_while(|send| send.port == first.port).count();
            self.output.seal(&mut self.batch, done..done + run);
            self.send_run(&self.output.sends()[done..done + run]);
            done += run;
        }
        add(&self.counters.tx_packets, done as u64);
        self.send_datagrams();
        self.output.clear();
    }

    fn send_run(&self, run: &[Send]) {
        let Some(port) = self.snapshot.config.port(run[0].port) else { return };
        let counters = port.counters(self.index);
        let packet = |send: &Send| self.output.packet(&self.batch, send);
        let Some(io) = self.snapshot.io(port.id) else {
            run.iter().for_each(|_| counters.drop(DropReason::PortDown));
            return;
        };
        let mut octets: u64 = run.iter().map(|send| packet(send).len() as u64).sum();
        let mut sent = run.len() as u64;
        io.send(self.index, run.iter().map(packet), |position, error| {
            octets -= packet(&run[position]).len() as u64;
            sent -= 1;
            counters.drop(drop_reason(&error));
            tracing::trace!(port = &*port.name, %error, "frame refused by the device");
        });
        counters.tx_packets.add(sent);
        counters.tx_bytes.add(octets);
    }

    fn lose(&mut self, token: u64, closed: bool) {
        let Some(queue) = self.queues.get(&token) else { return };
        let name = self.snapshot.config.port(queue.port).map(|port| port.name.clone());
        if closed {
            self.drop_queue(token);
        }
        if let Some(name) = name {
            (self.shared.on_lost)(&name);
        }
    }

    /// Takes up the newest snapshot.
    fn adopt(&mut self) {
        let snapshot = self.shared.snapshot.load_full();
        self.adopt_queues(&snapshot);
        self.adopt_underlays(&snapshot);
        self.counters.queues.store(self.queues.len() as u64, Relaxed);
        self.stack.set_config(snapshot.config.clone());
        self.stack.forget_replays();
        self.snapshot = snapshot;
        // Nobody listens any more only when the daemon ends.
        let _ = self.acknowledge.send(self.snapshot.config.generation());
    }

    /// Tries queues and sockets again that epoll would not take, for one since the kernel's limit was reached: nothing
    /// else would have them read until the configuration changes.
    fn see_to_refused(&mut self, now: Instant) {
        match self.retry {
            None if self.queues_refused || self.sockets.has_refused() => self.retry = Some(now + RETRY),
            Some(at) if at <= now => {
                self.retry = None;
                let snapshot = Arc::clone(&self.snapshot);
                self.adopt_queues(&snapshot);
                self.counters.queues.store(self.queues.len() as u64, Relaxed);
                self.sockets.try_again(&self.epoll, self.index);
            }
            _ => {}
        }
    }

    /// Lets go of queues that are no longer its own by this snapshot, and takes new ones.
    fn adopt_queues(&mut self, snapshot: &Snapshot) {
        self.queues_refused = false;
        let workers = snapshot.config.workers();
        let wanted: HashMap<u64, (PortId, usize)> = snapshot
            .queues_of(self.index, workers)
            .map(|(port, queue)| (token(port, queue), (port, queue)))
            .collect();
        let stale: Vec<u64> = (self.queues.iter())
            .filter(|(token, queue)| {
                let same = |(port, _): &(PortId, usize)| {
                    *port == queue.port && snapshot.io(*port).is_some_and(|io| Arc::ptr_eq(io, &queue.io))
                };
                !wanted.get(token).is_some_and(same)
            })
            .map(|(token, _)| *token)
            .collect();
        stale.into_iter().for_each(|token| self.drop_queue(token));
        for (token, (port, index)) in wanted {
            if let Some(io) = snapshot.io(port) {
                self.add_queue(token, Queue { port, io: io.clone(), index, large: false });
            }
        }
    }

    fn add_queue(&mut self, token: u64, queue: Queue) {
        if self.queues.contains_key(&token) {
            return;
        }
        match self.epoll.add(queue.io.fd(queue.index), token) {
            Ok(()) => {
                self.queues.insert(token, queue);
            }
            Err(error) => {
                self.queues_refused = true;
                tracing::error!(worker = self.index, %error, "cannot wait on a receive queue; trying again");
            }
        }
    }

    fn drop_queue(&mut self, token: u64) {
        self.hot.retain(|known| *known != token);
        if let Some(queue) = self.queues.remove(&token) {
            // Closing the descriptor ends the registration too, should this fail.
            let _ = self.epoll.remove(queue.io.fd(queue.index));
        }
    }
}

fn token(port: PortId, queue: usize) -> u64 {
    (port.slot() as u64) << 16 | queue as u64
}

fn drop_reason(error: &io::Error) -> DropReason {
    if is_full(error) { DropReason::DeviceFull } else { DropReason::DeviceError }
}
