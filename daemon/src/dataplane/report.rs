//! What the packet side tells: counters, table sizes, traces.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use weft_stack::Stack;
use weft_stack::config::{Config, Port};
use weft_stack::counters::Stage;
use weft_stack::packet::Packet;
use weft_stack::trace::{self, InvalidSpec, PacketSpec, Trace};
use weft_stack::verdict::{DropReason, Verdict};

use super::port::{PortIo, QueueCounters};
use super::snapshot::Snapshot;
use super::{Control, Dataplane};

/// All counters at one moment.
#[derive(Debug, Clone, Default)]
pub struct CounterReport {
    /// By port.
    pub ports: Vec<(String, PortTotals)>,
    /// Of all ports together, those that are gone included, every reason that exists.
    pub drops: Vec<(&'static str, u64)>,
    /// What the stack did by itself.
    pub stack: Vec<(&'static str, u64)>,
    /// What went through the stages, in their order.
    pub stages: Vec<StageReport>,
}

/// What went through one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageReport {
    /// Its name.
    pub stage: &'static str,
    /// Frames that came to it.
    pub packets: u64,
    /// Frames that it dropped.
    pub drops: u64,
}

/// A port's counters, all workers together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortTotals {
    /// Frames from the device.
    pub rx_packets: u64,
    /// Octets of them.
    pub rx_bytes: u64,
    /// Frames to the device.
    pub tx_packets: u64,
    /// Octets of them.
    pub tx_bytes: u64,
    /// Those of the frames from the device that the kernel forwarded by itself, by the fast path.
    pub fast_packets: u64,
    /// Drops by reason, those above zero.
    pub drops: Vec<(&'static str, u64)>,
    /// What came by each receive queue since the device was opened.
    pub queues: Vec<QueueReport>,
}

/// What came by one receive queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueReport {
    /// The worker that owns it.
    pub worker: usize,
    /// Frames from the device.
    pub rx_packets: u64,
    /// Octets of them.
    pub rx_bytes: u64,
}

/// How full a network's tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSizes {
    /// MAC addresses known.
    pub macs: usize,
    /// Neighbours known or asked for.
    pub neighbors: usize,
    /// Multicast groups with members.
    pub groups: usize,
}

/// What a worker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerReport {
    /// Its number, from 0.
    pub index: usize,
    /// Receive queues it owns.
    pub queues: usize,
    /// Frames read.
    pub rx_packets: u64,
    /// Frames written.
    pub tx_packets: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Times it found work by looking again.
    pub polls_hit: u64,
    /// How long it was at work on packets and timers. Looking in vain is not work.
    pub busy: Duration,
    /// How long it is there.
    pub elapsed: Duration,
}

/// A packet to follow.
#[derive(Debug, Clone)]
pub enum TracePacket {
    /// A whole Ethernet frame.
    Frame(Vec<u8>),
    /// One in words.
    Spec(PacketSpec),
}

/// What would happen to a packet.
#[derive(Debug, Clone)]
pub struct TraceReport {
    /// Stage and what it decided.
    pub steps: Vec<(&'static str, String)>,
    /// "forwarded", "flooded", "answered", "queued" or "dropped".
    pub verdict: &'static str,
    /// The name of the drop counter.
    pub drop_reason: Option<&'static str>,
    /// Port, frame, and the frame in words.
    pub outputs: Vec<(String, Vec<u8>, String)>,
}

/// Why a packet cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// There is no such port in the running picture.
    #[error("port {0} is not in the running configuration: it does not exist or has no device yet")]
    NotRealized(String),
    /// The description makes no packet.
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
}

impl Dataplane {
    /// All counters at this moment.
    pub fn counters(&self) -> CounterReport {
        // Held meanwhile, so that a port that goes is counted once: as alive or as gone.
        let control = self.control();
        let snapshot = self.shared.snapshot.load_full();
        let config = &snapshot.config;
        let ports: Vec<_> = config
            .ports()
            .map(|port| (port.name.to_string(), totals(port, &snapshot, &control, self.workers.len())))
            .collect();
        let total = |reason: &DropReason| {
            let name = reason.name();
            let drops = ports.iter().flat_map(|(_, totals)| &totals.drops);
            let live: u64 = drops.filter(|(reason, _)| *reason == name).map(|(_, count)| count).sum();
            control.retired[reason.index()] + live
        };
        let mut stack: Vec<(&'static str, u64)> = Vec::new();
        for (name, value) in config.stack_counters().iter().flat_map(|counters| counters.values()) {
            match stack.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => stack.push((name, value)),
            }
        }
        let fast: u64 = ports.iter().map(|(_, totals)| totals.fast_packets).sum();
        stack.push(("fast_path_packets", control.replayed + fast));
        CounterReport {
            drops: DropReason::ALL.iter().map(|reason| (reason.name(), total(reason))).collect(),
            ports,
            stack,
            stages: Stage::ALL.iter().map(|stage| stage_report(*stage, config)).collect(),
        }
    }

    /// One port's counters.
    pub fn port_totals(&self, port: &str) -> Option<PortTotals> {
        let control = self.control();
        let snapshot = self.shared.snapshot.load_full();
        let port = snapshot.config.port_by_name(port)?;
        Some(totals(port, &snapshot, &control, self.workers.len()))
    }

    /// How full a network's tables are.
    pub fn tables(&self, network: &str) -> Option<TableSizes> {
        let config = self.shared.snapshot.load().config.clone();
        let (macs, neighbors) = config.table_sizes(network, self.shared.now())?;
        Some(TableSizes { macs, neighbors, groups: config.groups(network).unwrap_or(0) })
    }

    /// Whether a port is an uplink that is left out, since another one leads to the same segment.
    pub fn is_blocked(&self, port: &str) -> bool {
        self.shared.snapshot.load().config.port_by_name(port).is_some_and(|port| port.is_blocked())
    }

    /// What each worker did.
    pub fn workers(&self) -> Vec<WorkerReport> {
        let report = |(index, worker): (usize, &super::WorkerHandle)| WorkerReport {
            index,
            queues: worker.counters.queues.load(Relaxed) as usize,
            rx_packets: worker.counters.rx_packets.load(Relaxed),
            tx_packets: worker.counters.tx_packets.load(Relaxed),
            sleeps: worker.counters.sleeps.load(Relaxed),
            polls_hit: worker.counters.polls_hit.load(Relaxed),
            busy: Duration::from_nanos(worker.counters.busy_nanos.load(Relaxed)),
            elapsed: self.shared.start.elapsed(),
        };
        self.workers.iter().enumerate().map(report).collect()
    }

    /// What would happen to a packet that came in at `port`. Nothing is sent, learned or counted.
    ///
    /// # Errors
    /// The port has no device, or the description makes no packet.
    pub fn trace(&self, port: &str, packet: TracePacket) -> Result<TraceReport, TraceError> {
        let config = self.shared.snapshot.load().config.clone();
        let not_realized = || TraceError::NotRealized(port.to_owned());
        let from = config.port_by_name(port).cloned().ok_or_else(not_realized)?;
        let mut stack = Stack::new(self.workers.len(), config.clone());
        let frame = match packet {
            TracePacket::Frame(frame) => frame,
            TracePacket::Spec(spec) => stack.synthesize(&from, &spec)?,
        };
        let mut packet = Packet::from_frame(&frame);
        let found = stack.trace(self.shared.now(), from.id, &mut packet).ok_or_else(not_realized)?;
        Ok(TraceReport::new(found, &config))
    }
}

impl TraceReport {
    /// What a trace says, with the names that ports have in `config`.
    pub(super) fn new(found: Trace, config: &Config) -> TraceReport {
        let name = |id| config.port(id).map_or_else(String::new, |port| port.name.to_string());
        let output = |(id, frame): (_, Vec<u8>)| {
            let summary = trace::describe(&frame);
            (name(id), frame, summary)
        };
        TraceReport {
            steps: found.steps.into_iter().map(|step| (step.stage, step.message)).collect(),
            verdict: verdict_name(found.verdict),
            drop_reason: match found.verdict {
                Verdict::Dropped(reason) => Some(reason.name()),
                _ => None,
            },
            outputs: found.outputs.into_iter().map(output).collect(),
        }
    }
}

fn stage_report(stage: Stage, config: &Config) -> StageReport {
    let sets = config.stack_counters().iter().map(|counters| &counters.stages[stage as usize]);
    let (packets, drops) =
        sets.fold((0, 0), |(packets, drops), set| (packets + set.packets.get(), drops + set.drops.get()));
    StageReport { stage: stage.name(), packets, drops }
}

fn totals(port: &Port, snapshot: &Snapshot, control: &Control, workers: usize) -> PortTotals {
    let io = snapshot.io(port.id);
    let mut totals = PortTotals { queues: queues(port, io, workers), ..PortTotals::default() };
    for counters in port.all_counters() {
        totals.rx_packets += counters.rx_packets.get();
        totals.rx_bytes += counters.rx_bytes.get();
        totals.tx_packets += counters.tx_packets.get();
        totals.tx_bytes += counters.tx_bytes.get();
    }
    let replayed = control.replayed(&port.name, io);
    totals.rx_packets += replayed.rx_packets;
    totals.rx_bytes += replayed.rx_bytes;
    totals.tx_packets += replayed.tx_packets;
    totals.tx_bytes += replayed.tx_bytes;
    totals.fast_packets = replayed.rx_packets;
    let dropped = |reason: &DropReason| -> u64 {
        let counted = port.all_counters().iter().map(|c| c.dropped(*reason)).sum::<u64>();
        match reason {
            DropReason::ReceiveOverflow => counted + control.overflows(&port.name, io),
            _ => counted,
        }
    };
    let drops = DropReason::ALL.iter().map(|reason| (reason.name(), dropped(reason)));
    totals.drops = drops.filter(|(_, count)| *count > 0).collect();
    totals
}

fn queues(port: &Port, io: Option<&Arc<PortIo>>, workers: usize) -> Vec<QueueReport> {
    let counters = io.map_or(&[][..], |io| io.counters());
    let report = |(index, queue): (usize, &QueueCounters)| QueueReport {
        worker: Snapshot::owner(port.id, index, counters.len(), workers),
        rx_packets: queue.rx_packets.load(Relaxed),
        rx_bytes: queue.rx_bytes.load(Relaxed),
    };
    counters.iter().enumerate().map(report).collect()
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forwarded { .. } => "forwarded",
        Verdict::Flooded => "flooded",
        Verdict::Answered => "answered",
        Verdict::Queued => "queued",
        Verdict::Dropped(_) => "dropped",
    }
}
