//! The stages in order, and the worker's part of the stack that runs them.

mod state;
mod timer;

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{BATCH, Batch, Origin, Output};
use crate::config::{Config, Port, PortId, PortVlans};
use crate::counters::{StackCounters, Stage};
use crate::offload::coalesce;
use crate::packet::Packet;
use crate::replay::{self, Replay};
use crate::stage::neighbor::{announce, suppress};
use crate::stage::{
    Frame, Rejection, advertise, bridge, dhcp, egress, icmp_error, ingress, local, loops, mirror, multicast,
    neighbor, route, shape, source, storm,
};
use crate::time::Instant;
use crate::trace::{self, Live, LiveFilter, LiveTrace, PacketSpec, Trace, Tracer};
use crate::tunnel::{Datagram, Inbox, Underlay, UnderlayError, peers, receive, send, trouble};
use crate::verdict::{DropReason, Verdict};

pub(crate) use state::{CachedNeighbor, State};
pub(crate) use timer::Timer;

/// All stages, in the order in which a frame meets them, but for `shape`: it is before them in [`judge`] and behind them
/// in [`finish`], so that ports without a rate pay for it once a batch and not with each frame. The first one puts the
/// frame's headers into `frame`.
fn stages(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    from: &Port,
    frame: &mut Frame,
) -> Result<Verdict, Rejection> {
    cx.enter(Stage::Ingress);
    ingress::check(cx, packet, from, frame)?;
    let frame = &*frame;

    if let Some(verdict) = loops::receive(cx, packet, frame, from)? {
        return Ok(verdict);
    }
    cx.enter(Stage::Source);
    source::check(cx, packet, frame, from)?;
    cx.enter(Stage::Bridge);
    storm::group(cx, packet, frame, from)?;
    bridge::learn(cx, frame, from)?;
    suppress::learn(cx, packet, frame, from);
    let interface = match bridge::decide(cx, packet, frame, from)? {
        bridge::Next::Port(to) => {
            cx.enter(Stage::Egress);
            return egress::to_port(cx, packet, origin, frame, to);
        }
        bridge::Next::Flood => {
            neighbor::overhear(cx, packet, frame, from);
            if suppress::answer(cx, packet, frame, from) {
                return Ok(Verdict::Answered);
            }
            cx.enter(Stage::Egress);
            return multicast::flood(cx, packet, origin, frame, from);
        }
        bridge::Next::Gateway(interface) => interface,
    };

    cx.enter(Stage::Neighbor);
    if let Some(verdict) = neighbor::receive(cx, packet, frame, from, interface)? {
        return Ok(verdict);
    }
    if dhcp::is_for(interface, frame, packet.frame()) {
        cx.enter(Stage::Local);
        return Ok(dhcp::receive(cx, packet, frame, from, interface)?);
    }
    cx.enter(Stage::Route);
    let (out, station) = match route::decide(cx, packet, frame, from, interface)? {
        route::Next::Local => {
            cx.enter(Stage::Local);
            return local::deliver(cx, packet, origin, frame, from);
        }
        route::Next::Shortcut(out, station) => (out, station),
        route::Next::Hop(hop, lasting) => {
            let Some(mac) = neighbor::resolve(cx, packet, frame, from, &hop)? else {
                cx.counters.packets_queued.add(u64::from(!cx.dry_run));
                return Ok(Verdict::Queued);
            };
            if lasting {
                route::remember(cx, frame, interface, &hop, mac);
            }
            let out = &cx.config.interfaces[hop.interface];
            (out, bridge::station(cx, out, mac))
        }
    };
    cx.enter(Stage::Egress);
    egress::routed(cx, packet, origin, frame, out, station)
}

/// Runs a frame of a port without a rate through the stages and sees to what was refused.
fn run(cx: &mut Context, packet: &mut Packet, origin: Origin, from: &Port) {
    let mut frame = Frame::default();
    match stages(cx, packet, origin, from, &mut frame) {
        // Nobody else looks at the verdict: to read what was just written in pieces would hold the processor up.
        Ok(verdict) if from.replays.is_some() => replay::note(cx, &frame, from, &verdict),
        Ok(_) => {}
        Err(rejection) => {
            cx.reject(rejection, packet, &frame, from);
        }
    }
}

/// The same of any port, for those who want to know what became of the frame.
fn judge(cx: &mut Context, packet: &mut Packet, origin: Origin, from: &Port) -> Verdict {
    let mut frame = Frame::default();
    let held = shape::received(cx, packet, from).map_err(Rejection::from);
    let judged = match held {
        Ok(None) => stages(cx, packet, origin, from, &mut frame),
        Ok(Some(verdict)) => Ok(verdict),
        Err(rejection) => Err(rejection),
    };
    match judged {
        Ok(verdict) => verdict,
        Err(rejection) => cx.reject(rejection, packet, &frame, from),
    }
}

/// Runs a frame through the stages and notes what they say.
fn trace(cx: &mut Context, packet: &mut Packet, origin: Origin, from: &Port) -> (Verdict, Trace) {
    let first = cx.output.sends().len();
    cx.tracer = Some(Tracer::default());
    let mut verdict = judge(cx, packet, origin, from);
    if let Some(reason) = shape::foretell(cx, packet, origin, first)
        && cx.dry_run
    {
        verdict = Verdict::Dropped(reason);
        cx.output.truncate_sends(first);
    }
    let steps = cx.tracer.take().map(|tracer| tracer.steps).unwrap_or_default();
    let frames = cx.output.sends()[first..].iter().map(|send| {
        let sent = if send.origin == origin { &*packet } else { cx.output.made_packet(send.origin) };
        let mut copy = Packet::from_frame(sent.frame());
        copy.dress(send.tag);
        (send.port, copy.frame().to_vec())
    });
    (verdict, Trace { steps, verdict, outputs: frames.collect() })
}

/// Runs a frame through the stages, watched if somebody asked for such frames.
fn follow(live: &mut Live, cx: &mut Context, packet: &mut Packet, origin: Origin, from: &Port) {
    let watchers = live.watchers(from, packet.frame());
    if watchers.is_empty() {
        judge(cx, packet, origin, from);
        return;
    }
    let frame = packet.frame().to_vec();
    let (_, trace) = trace(cx, packet, origin, from);
    live.keep(LiveTrace { watchers, at: cx.now, port: from.id, frame, trace });
}

/// What the stages work with.
pub(crate) struct Context<'a> {
    pub now: Instant,
    pub worker: usize,
    pub config: &'a Config,
    pub counters: &'a StackCounters,
    pub state: &'a mut State,
    pub output: &'a mut Output,
    /// The time of the calendar, since 1970.
    pub wall: Duration,
    /// Nothing may be learned, asked for or set: somebody only wants to know what would happen.
    pub dry_run: bool,
    /// The frame has waited for its turn at the rate of the port that it came from.
    pub released: bool,
    /// Somebody follows this packet.
    pub tracer: Option<Tracer>,
    /// Where the packet is.
    stage: Stage,
}

impl Context<'_> {
    /// The packet goes into this stage.
    pub fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.counters.stages[stage as usize].packets.add(1);
    }

    pub fn count_drop(&self, from: &Port, reason: DropReason) {
        from.counters(self.worker).drop(reason);
        self.counters.stages[self.stage as usize].drops.add(1);
    }

    /// Counts a drop and tells the sender, if it is to be told.
    pub fn reject(&mut self, rejection: Rejection, packet: &Packet, frame: &Frame, from: &Port) -> Verdict {
        self.count_drop(from, rejection.reason);
        if let Some(answer) = rejection.answer {
            icmp_error::send(self, packet, frame, from, answer);
        }
        Verdict::Dropped(rejection.reason)
    }
}

/// One worker's stack. Several share the tables of one [`Config`].
#[derive(Debug)]
pub struct Stack {
    worker: usize,
    config: Arc<Config>,
    state: State,
    live: Live,
    cursor: receive::Cursor,
    wall: Duration,
}

impl Stack {
    /// The stack of worker number `worker`, counted from 0.
    pub fn new(worker: usize, config: Arc<Config>) -> Stack {
        let mut stack = Stack {
            worker,
            config,
            state: State::new(),
            live: Live::default(),
            cursor: receive::Cursor::default(),
            wall: Duration::ZERO,
        };
        stack.begin(&Config::default());
        stack.begin_upkeep();
        stack
    }

    /// Has the first worker see to what is due every second, from now on.
    fn begin_upkeep(&mut self) {
        if self.worker == 0 && !self.state.upkeep && timer::needs_upkeep(&self.config) {
            self.state.upkeep = true;
            self.state.set_timer(Instant::default(), Timer::Upkeep);
        }
    }

    /// The picture that it works by.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Goes on by another picture.
    pub fn set_config(&mut self, config: Arc<Config>) {
        let previous = std::mem::replace(&mut self.config, config);
        self.config.forget_moved_addresses(&previous);
        self.config.take_up_static_neighbors(&previous);
        self.state.shortcuts.clear();
        self.state.waiting.adopt(&self.config, &previous, self.worker);
        self.begin(&previous);
        self.begin_upkeep();
    }

    /// Has the first worker begin what gateways do by themselves, as far as it is new since `previous`. It is due at
    /// once: there is no clock in here.
    fn begin(&mut self, previous: &Config) {
        if self.worker != 0 || self.config.generation() == 0 {
            return;
        }
        let due = Instant::default();
        if previous.generation() == 0 {
            self.state.set_timer(due, Timer::Sweep { interface: 0, done: 0 });
        }
        for interface in announce::changed(&self.config, previous) {
            self.state.set_timer(due, Timer::Announce { interface: interface.id, round: 0 });
        }
        for port in self.state.succession.heirs(&self.config, previous) {
            self.state.set_timer(due, Timer::Succeed { port, round: 0 });
        }
        advertise::begin(&self.config, previous, &mut self.state);
    }

    /// Puts the packets of `batch`, received on `port`, through the stages. What is to be sent is in
    /// `output` afterwards. Packets of a port that is gone are let go.
    pub fn process(&mut self, now: Instant, port: PortId, batch: &mut Batch, output: &mut Output) {
        let config = self.config.clone();
        let Some(from) = config.port(port) else { return };
        if self.state.waiting.is_changed() {
            self.release(now, &config, output);
        }
        let counters = from.counters(self.worker);
        counters.rx_packets.add(batch.packets().len() as u64);
        counters.rx_bytes.add(batch.packets().iter().map(|packet| packet.len() as u64).sum());
        let first = output.sends().len();
        if from.mirror.is_some() {
            let mut cx = context(now, self.worker, &config, &mut self.state, output);
            mirror::received(&mut cx, batch.packets(), from);
        }
        if from.coalesce && batch.packets().len() > 1 {
            self.coalesce(&config, from, batch);
        }
        let apart = self.live.is_watched() || from.egress_rate.is_some();
        let mut cx = context(now, self.worker, &config, &mut self.state, output);
        for (index, packet) in batch.packets_mut().iter_mut().enumerate() {
            if apart {
                follow(&mut self.live, &mut cx, packet, Origin::Received(index), from);
            } else {
                run(&mut cx, packet, Origin::Received(index), from);
            }
        }
        run_decapsulated(&mut cx);
        finish(&mut cx, batch.packets_mut(), first);
        count_unsent(&config, self.worker, output);
    }

    /// Forgets verdicts that may be replayed, also those that were taken: what they rest on has changed.
    pub fn forget_replays(&mut self) {
        self.state.replays.forget(|_| true);
    }

    /// The same of those that rest on neighbours.
    pub fn forget_routed_replays(&mut self) {
        self.state.replays.forget(|replay| replay.rewrite.is_some());
    }

    /// Whether [`Stack::take_replays`] has some.
    pub fn has_replays(&self) -> bool {
        !self.state.replays.is_empty()
    }

    /// Verdicts among those of the packets since this was asked last that may be replayed, not more than 64.
    pub fn take_replays(&mut self) -> std::vec::Drain<'_, Replay> {
        self.state.replays.take()
    }

    /// Takes note of what a socket of the node was told of a datagram that it had sent: the way to a far end may carry
    /// less than was thought.
    pub fn underlay_error(&mut self, now: Instant, underlay: Underlay, error: &UnderlayError) {
        let config = self.config.clone();
        let mut output = Output::new();
        let mut cx = context(now, self.worker, &config, &mut self.state, &mut output);
        trouble::hear(&mut cx, underlay, error);
    }

    /// Gives packets of tunnels that number them their numbers. Call it just before the datagrams of `output` are sent,
    /// where [`Output::has_numbered`] says so, and let no other worker do the same until they are: a far end drops what
    /// comes after a later number.
    pub fn number(&self, output: &mut Output) {
        send::number(&self.config, &mut output.outbox);
    }

    /// The node would not send a datagram from the address that it was to come from, which may be the node's no more: a
    /// WireGuard peer that knew it by that is answered from whichever address leads to it.
    pub fn forget_local(&self, datagram: &Datagram) {
        if let Underlay::Udp(port) = datagram.underlay
            && let Some((_, ward)) = self.config.tunnels.wireguard(port)
        {
            ward.device.forget_local(datagram.destination);
        }
    }

    /// Tells the stack the time of the calendar, since 1970, which WireGuard's handshakes bear. It may jump. Call it
    /// before [`Stack::receive`] and [`Stack::poll`] where there are tunnels.
    pub fn set_wall(&mut self, wall: Duration) {
        self.wall = wall;
    }

    /// Takes frames out of the datagrams that a socket of the node received, into `batch`, which is empty. They are of
    /// one port, whose frames are to be processed then; call it again until there are none. What the tunnels
    /// themselves answer is in `output` afterwards.
    pub fn receive(
        &mut self,
        now: Instant,
        underlay: Underlay,
        inbox: &mut Inbox,
        batch: &mut Batch,
        output: &mut Output,
    ) -> Option<PortId> {
        let config = self.config.clone();
        let mut cx = context(now, self.worker, &config, &mut self.state, output);
        cx.wall = self.wall;
        receive::open(&mut cx, underlay, inbox, &mut self.cursor, batch)
    }

    /// Puts segments of one flow together, before the stages see them.
    fn coalesce(&mut self, config: &Config, from: &Port, batch: &mut Batch) {
        let received = batch.packets().len();
        let tagged = !matches!(from.vlans, PortVlans::Tunnel(_));
        let rules = coalesce::Rules { mtu: from.mtu, tagged, udp: config.coalesces_udp() };
        let left = self.state.coalescer.merge(batch.packets_mut(), rules);
        batch.truncate(left);
        config.counters_of(self.worker).segments_coalesced.add((received - left) as u64);
    }

    /// Does what is due at `now`, a batch of it at most. Call it when [`Stack::poll_at`] says so.
    pub fn poll(&mut self, now: Instant, output: &mut Output) {
        let config = self.config.clone();
        self.release(now, &config, output);
        let first = output.sends().len();
        for _ in 0..BATCH {
            let due = self.state.timers.peek().filter(|Reverse((at, _))| *at <= now);
            let Some(Reverse((_, timer))) = due.copied() else { break };
            self.state.timers.pop();
            timer::expire(&mut context(now, self.worker, &config, &mut self.state, output), timer);
        }
        let mut cx = context(now, self.worker, &config, &mut self.state, output);
        cx.wall = self.wall;
        for (ward, port) in config.tunnels.due(now) {
            peers::poll(&mut cx, ward, port);
        }
        finish(&mut cx, &mut [], first);
        count_unsent(&config, self.worker, output);
    }

    /// Lets go what has waited for its turn at a port's rate, a batch in each direction at most.
    fn release(&mut self, now: Instant, config: &Config, output: &mut Output) {
        let mut most = BATCH;
        if self.state.waiting.is_changed() {
            self.state.waiting.reschedule(config, now);
            // Nothing holds up those that come next at a port without a rate: all that wait for it go before them.
            most = usize::MAX;
        }
        let mut cx = context(now, self.worker, config, &mut self.state, output);
        // What others have let go may be for the same ports, and comes after them.
        (0..most).all(|_| shape::release_sent(&mut cx));
        let first = cx.output.sends().len();
        cx.released = true;
        for _ in 0..most {
            let Some((port, origin)) = shape::release_received(&mut cx) else { break };
            // What waits for a port that is gone was dropped when it went.
            let Some(from) = config.port(port) else { continue };
            let mut packet = cx.output.take_made(origin);
            follow(&mut self.live, &mut cx, &mut packet, origin, from);
            cx.output.put(origin, packet);
        }
        run_decapsulated(&mut cx);
        finish(&mut cx, &mut [], first);
    }

    /// Follows real packets that fit these filters, each with the number of whoever watches; none: no more.
    pub fn watch(&mut self, watchers: impl IntoIterator<Item = (u64, LiveFilter)>) {
        self.live.set(watchers);
    }

    /// Follows so many watched packets from now on, and no more: following one costs a hundred times what
    /// moving it does.
    pub fn allow_live(&mut self, packets: usize) {
        self.live.allow(packets);
    }

    /// Whether there is something for [`Stack::take_live`].
    pub fn has_live(&self) -> bool {
        self.live.has_traces()
    }

    /// What was seen of watched packets since the last call; and by watcher, how many that were its own it
    /// does not get, since too many came.
    pub fn take_live(&mut self) -> (Vec<LiveTrace>, Vec<(u64, u64)>) {
        self.live.take()
    }

    /// When [`Stack::poll`] has something to do next. Ask again after each `process` and `poll`.
    pub fn poll_at(&self) -> Option<Instant> {
        let timer = self.state.timers.peek().map(|Reverse((at, _))| *at);
        let waiting = self.state.waiting.poll_at();
        [timer, self.config.tunnels.poll_at(), waiting].into_iter().flatten().min()
    }

    /// What would happen to this frame if it came in at `port`. Nothing is sent, learned or counted.
    /// `None`: there is no such port.
    pub fn trace(&mut self, now: Instant, port: PortId, packet: &mut Packet) -> Option<Trace> {
        let config = self.config.clone();
        let from = config.port(port)?;
        let mut output = Output::new();
        // Traces count into the set behind the last worker's, which nobody reads.
        let mut cx = context(now, usize::MAX, &config, &mut self.state, &mut output);
        cx.dry_run = true;
        Some(trace(&mut cx, packet, Origin::Received(0), from).1)
    }

    /// The frame that `spec` describes, as port `port` would send it.
    ///
    /// # Errors
    /// The description does not fit the port, or cannot be put into a frame.
    pub fn synthesize(&self, port: &Port, spec: &PacketSpec) -> Result<Vec<u8>, trace::InvalidSpec> {
        trace::synthesize(&self.config, port, spec)
    }
}

/// Runs what came out of tunnels that routers carry through the stages, as frames of their far ends.
fn run_decapsulated(cx: &mut Context) {
    let mut next = 0;
    // One may hold another.
    while let Some((port, origin)) = cx.state.decapsulated.get(next).copied() {
        next += 1;
        let Some(from) = cx.config.port(port) else { continue };
        let mut packet = cx.output.take_made(origin);
        let counters = from.counters(cx.worker);
        counters.rx_packets.add(1);
        counters.rx_bytes.add(packet.len() as u64);
        run(cx, &mut packet, origin, from);
        cx.output.put(origin, packet);
    }
    cx.state.decapsulated.clear();
}

/// What the stages sent, from number `first` on, is copied for mirrors, put into tunnels, and held back where a port gets
/// no more than so much. `received` are the packets of the batch.
fn finish(cx: &mut Context, received: &mut [Packet], first: usize) {
    mirror::sent(cx, received, first);
    send::transmit(cx, received, first);
    shape::sent(cx, received, first);
}

/// Counts what the stack could not make for want of buffers, on the ports that do not get it.
fn count_unsent(config: &Config, worker: usize, output: &mut Output) {
    for (port, count) in output.take_unsent() {
        if let Some(port) = config.port(port) {
            (0..count).for_each(|_| port.counters(worker).drop(DropReason::BuffersExhausted));
        }
    }
}

fn context<'a>(
    now: Instant,
    worker: usize,
    config: &'a Config,
    state: &'a mut State,
    output: &'a mut Output,
) -> Context<'a> {
    let counters = config.counters_of(worker);
    let stage = Stage::Ingress;
    Context {
        now,
        wall: Duration::ZERO,
        worker,
        config,
        counters,
        state,
        output,
        dry_run: false,
        released: false,
        tracer: None,
        stage,
    }
}

#[cfg(test)]
mod tests;
