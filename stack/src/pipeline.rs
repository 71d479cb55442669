//! The stages in order, and the worker's part of the stack that runs them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::MacAddr;
use crate::batch::{BATCH, Batch, Origin, Output};
use crate::config::{Config, Port, PortId};
use crate::counters::StackCounters;
use crate::limit::Limits;
use crate::packet::Packet;
use crate::stage::{Frame, Rejection, bridge, egress, icmp_error, ingress, local, neighbor, route, source};
use crate::time::Instant;
use crate::trace::{self, PacketSpec, Trace, Tracer};
use crate::verdict::Verdict;

/// All stages, in the order in which a frame meets them.
fn stages(cx: &mut Context, packet: &mut Packet, origin: Origin, from: &Port) -> Result<Verdict, Rejected> {
    let frame = ingress::check(cx, packet, from)?;
    let refuse = |rejection: Rejection| Rejected { rejection, frame: Some(frame) };

    source::check(cx, packet, &frame, from)?;
    bridge::learn(cx, &frame, from);
    match bridge::decide(cx, packet.frame(), &frame, from)? {
        bridge::Next::Port(to) => return egress::to_port(cx, packet, origin, to).map_err(refuse),
        bridge::Next::Flood => {
            neighbor::overhear(cx, packet, &frame, from);
            let destination = frame.ethernet.destination;
            return egress::flood(cx, packet, origin, from, destination).map_err(refuse);
        }
        bridge::Next::Gateway => {}
    }

    if let Some(verdict) = neighbor::receive(cx, packet, &frame, from).map_err(refuse)? {
        return Ok(verdict);
    }
    let hop = match route::decide(cx, packet, &frame, from).map_err(refuse)? {
        route::Next::Local => return local::deliver(cx, packet, origin, &frame, from).map_err(refuse),
        route::Next::Hop(hop) => hop,
    };
    let Some(mac) = neighbor::resolve(cx, packet, from, &hop).map_err(refuse)? else {
        return Ok(Verdict::Queued);
    };
    let network = &cx.config.networks[hop.network];
    egress::routed(cx, packet, origin, &frame, network, mac).map_err(refuse)
}

/// A rejection, with the frame's headers where they were read.
struct Rejected {
    rejection: Rejection,
    frame: Option<Frame>,
}

impl<T: Into<Rejection>> From<T> for Rejected {
    fn from(rejection: T) -> Self {
        Rejected { rejection: rejection.into(), frame: None }
    }
}

/// Runs a frame through the stages and sees to what was refused.
fn run(cx: &mut Context, packet: &mut Packet, origin: Origin, from: &Port) -> Verdict {
    match stages(cx, packet, origin, from) {
        Ok(verdict) => verdict,
        Err(Rejected { rejection, frame: Some(frame) }) => cx.reject(rejection, packet.frame(), &frame, from),
        Err(Rejected { rejection, frame: None }) => {
            from.counters(cx.worker).drop(rejection.reason);
            Verdict::Dropped(rejection.reason)
        }
    }
}

/// What the stages work with.
pub(crate) struct Context<'a> {
    pub now: Instant,
    pub worker: usize,
    pub config: &'a Config,
    pub counters: &'a StackCounters,
    pub state: &'a mut State,
    pub output: &'a mut Output,
    /// Somebody follows this packet: nothing may be learned, asked for or set.
    pub tracer: Option<Tracer>,
}

impl Context<'_> {
    /// Counts a drop and tells the sender, if it is to be told.
    pub fn reject(&mut self, rejection: Rejection, bytes: &[u8], frame: &Frame, from: &Port) -> Verdict {
        from.counters(self.worker).drop(rejection.reason);
        if let Some(answer) = rejection.answer {
            icmp_error::send(self, bytes, frame, from, answer);
        }
        Verdict::Dropped(rejection.reason)
    }
}

/// A neighbour as a worker looked it up last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedNeighbor {
    pub network: u32,
    pub address: IpAddr,
    pub mac: MacAddr,
    pub epoch: u64,
    pub until: Instant,
}

const CACHE_SLOTS: usize = 1024;

/// What one worker remembers by itself.
#[derive(Debug)]
pub(crate) struct State {
    pub limits: Limits,
    cache: Box<[Option<CachedNeighbor>]>,
    hash: RandomState,
    timers: BinaryHeap<Reverse<(Instant, u32, IpAddr)>>,
}

impl State {
    fn new() -> State {
        State {
            limits: Limits::new(),
            cache: vec![None; CACHE_SLOTS].into(),
            hash: RandomState::default(),
            timers: BinaryHeap::new(),
        }
    }

    fn slot(&self, network: u32, address: IpAddr) -> usize {
        self.hash.hash_one((network, address)) as usize % CACHE_SLOTS
    }

    pub fn cached(&self, network: u32, address: IpAddr, epoch: u64, now: Instant) -> Option<MacAddr> {
        let found = self.cache[self.slot(network, address)].as_ref()?;
        let same = found.network == network && found.address == address;
        (same && found.epoch == epoch && now < found.until).then_some(found.mac)
    }

    pub fn cache(&mut self, neighbor: CachedNeighbor) {
        self.cache[self.slot(neighbor.network, neighbor.address)] = Some(neighbor);
    }

    pub fn set_timer(&mut self, at: Instant, network: u32, address: IpAddr) {
        self.timers.push(Reverse((at, network, address)));
    }
}

/// One worker's stack. Several share the tables of one [`Config`].
#[derive(Debug)]
pub struct Stack {
    worker: usize,
    config: Arc<Config>,
    state: State,
}

impl Stack {
    /// The stack of worker number `worker`, counted from 0.
    pub fn new(worker: usize, config: Arc<Config>) -> Stack {
        Stack { worker, config, state: State::new() }
    }

    /// The picture that it works by.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Goes on by another picture.
    pub fn set_config(&mut self, config: Arc<Config>) {
        let previous = std::mem::replace(&mut self.config, config);
        self.config.forget_moved_addresses(&previous);
    }

    /// Puts the packets of `batch`, received on `port`, through the stages. What is to be sent is in
    /// `output` afterwards. Packets of a port that is gone are let go.
    pub fn process(&mut self, now: Instant, port: PortId, batch: &mut Batch, output: &mut Output) {
        let config = self.config.clone();
        let Some(from) = config.port(port) else { return };
        let counters = from.counters(self.worker);
        let mut cx = context(now, self.worker, &config, &mut self.state, output);
        let mut octets = 0;
        for (index, packet) in batch.packets_mut().iter_mut().enumerate() {
            octets += packet.len() as u64;
            run(&mut cx, packet, Origin::Received(index), from);
        }
        counters.rx_packets.add(batch.packets().len() as u64);
        counters.rx_bytes.add(octets);
    }

    /// Does what is due at `now`, a batch of it at most. Call it when [`Stack::poll_at`] says so.
    pub fn poll(&mut self, now: Instant, output: &mut Output) {
        let config = self.config.clone();
        for _ in 0..BATCH {
            let due = self.state.timers.peek().filter(|Reverse((at, ..))| *at <= now);
            let Some(Reverse((_, network, address))) = due.copied() else { break };
            self.state.timers.pop();
            let Some(position) = config.network_by_id(network) else { continue };
            let mut cx = context(now, self.worker, &config, &mut self.state, output);
            neighbor::expire(&mut cx, &config.networks[position], address);
        }
    }

    /// When [`Stack::poll`] has something to do next. Ask again after each `process` and `poll`.
    pub fn poll_at(&self) -> Option<Instant> {
        self.state.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// What would happen to this frame if it came in at `port`. Nothing is sent, learned or counted.
    /// `None`: there is no such port.
    pub fn trace(&mut self, now: Instant, port: PortId, packet: &mut Packet) -> Option<Trace> {
        let config = self.config.clone();
        let from = config.port(port)?;
        let mut output = Output::new();
        // Traces count into the set behind the last worker's, which nobody reads.
        let mut cx = context(now, usize::MAX, &config, &mut self.state, &mut output);
        cx.tracer = Some(Tracer::default());
        let verdict = run(&mut cx, packet, Origin::Received(0), from);
        let steps = cx.tracer.map(|tracer| tracer.steps).unwrap_or_default();
        let frames = output.sends().iter().map(|send| {
            let bytes = match send.origin {
                Origin::Received(_) => packet.frame(),
                Origin::Made(index) => output.made()[index].frame(),
            };
            (send.port, bytes.to_vec())
        });
        Some(Trace { steps, verdict, outputs: frames.collect() })
    }

    /// The frame that `spec` describes, as port `port` would send it.
    ///
    /// # Errors
    /// The description does not fit the port, or cannot be put into a frame.
    pub fn synthesize(&self, port: &Port, spec: &PacketSpec) -> Result<Vec<u8>, trace::InvalidSpec> {
        trace::synthesize(&self.config, port, spec)
    }
}

fn context<'a>(
    now: Instant,
    worker: usize,
    config: &'a Config,
    state: &'a mut State,
    output: &'a mut Output,
) -> Context<'a> {
    Context { now, worker, config, counters: config.counters_of(worker), state, output, tracer: None }
}

#[cfg(test)]
mod tests;
