//! The stack on its fabric: takes in packets, and checks after each what must always hold.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_stack::Stack;
use weft_stack::batch::{Batch, Origin, Output};
use weft_stack::config::{Config, Port, PortId};
use weft_stack::packet::{GsoKind, Offload, Packet};
use weft_stack::time::Instant;
use weft_stack::trace::{PacketSpec, Protocol, Trace};
use weft_stack::verdict::{DropReason, Verdict};

use crate::question::{Question, question};
use crate::{eye, fabric};

/// Workers that share the fabric's tables.
const WORKERS: usize = 2;

/// Packets that one packet can set free or be cut into: as many as wait for a neighbour, each in the pieces
/// of the longest packet.
const MADE: usize = 64 * 64;

/// Questions of the stack that are kept for an answer.
const QUESTIONS: usize = 16;

/// What left by a port, as its device gets it.
struct Sent {
    made: bool,
    port: PortId,
    frame: Vec<u8>,
}

/// Room for packets. Making it anew for each input would take longer than all the rest.
#[derive(Default)]
struct Buffers {
    batch: Batch,
    output: Output,
    traced: Packet,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

/// The workers' stacks, at one moment.
pub struct Site {
    now: Instant,
    config: Arc<Config>,
    stacks: Vec<Stack>,
    buffers: Buffers,
    questions: Vec<Question>,
    /// A port that may do so speaks as the gateway: what comes from the gateway may be anything then.
    impersonated: bool,
}

impl Drop for Site {
    fn drop(&mut self) {
        BUFFERS.set(std::mem::take(&mut self.buffers));
    }
}

impl Site {
    /// The whole fabric; nobody has spoken yet.
    pub fn new() -> Site {
        let config = build(0, None);
        Site {
            now: Instant::from_nanos(1_000_000_000),
            stacks: (0..WORKERS).map(|worker| Stack::new(worker, config.clone())).collect(),
            config,
            buffers: BUFFERS.take(),
            questions: Vec::new(),
            impersonated: false,
        }
    }

    /// Lets each port that has addresses ask for its gateway, which then knows it.
    pub fn introduce(&mut self) {
        for port in 0..fabric::COUNT {
            for own in fabric::addresses(port) {
                let resolve = PacketSpec { protocol: Protocol::Resolve, ..spec(gateway_of(own)) };
                if let (Some(frame), Some(from)) = (self.synthesize(port, &resolve), self.port(port)) {
                    self.process(0, &from, &frame, Offload::default());
                }
            }
        }
    }

    /// The frame that a port's kernel would send; `None`: it cannot be.
    pub fn synthesize(&self, port: usize, spec: &PacketSpec) -> Option<Vec<u8>> {
        let port = self.port(port)?;
        self.stacks[0].synthesize(&port, spec).ok()
    }

    fn port(&self, port: usize) -> Option<Arc<Port>> {
        self.config.port_by_name(fabric::name(port)).cloned()
    }

    /// Puts a frame into a port, to a worker.
    pub fn feed(&mut self, worker: usize, port: usize, frame: &[u8], offload: Offload) {
        let Some(from) = self.port(port) else { return };
        self.impersonated |= !from.source_check && speaks_as_gateway(frame);
        let worker = worker % WORKERS;
        let expected = self.trace(worker, &from, frame, offload);
        let before = Counts::of(&from);
        let sent = self.process(worker, &from, frame, offload);
        let after = Counts::of(&from);
        assert_eq!(after.packets, before.packets + 1, "packets received");
        assert_eq!(after.octets, before.octets + frame.len().min(weft_stack::packet::MAX_FRAME) as u64);
        let to_itself = frame.get(0..6) == frame.get(6..12);
        if !to_itself {
            compare(&expected, &before, &after, &sent);
        }
    }

    fn process(&mut self, worker: usize, from: &Port, frame: &[u8], offload: Offload) -> Vec<Sent> {
        let Buffers { batch, output, .. } = &mut self.buffers;
        batch.clear();
        put(batch.vacant(), frame, offload);
        batch.commit(1);
        self.stacks[worker].process(self.now, from.id, batch, output);
        self.examine()
    }

    /// What a trace says would happen; it must not count.
    fn trace(&mut self, worker: usize, from: &Port, frame: &[u8], offload: Offload) -> Trace {
        let before = Counts::of(from);
        let packet = &mut self.buffers.traced;
        put(packet, frame, offload);
        let trace = self.stacks[worker].trace(self.now, from.id, packet);
        assert_eq!(Counts::of(from), before, "a trace counts nothing");
        trace.unwrap_or_else(|| panic!("port {} is there", from.name))
    }

    /// Looks at all that is sent, as the devices get it, and takes it away.
    fn examine(&mut self) -> Vec<Sent> {
        let made = self.buffers.output.made().len();
        assert!(made <= MADE, "{made} packets made");
        let mut sent = Vec::new();
        for at in 0..self.buffers.output.sends().len() {
            let Buffers { batch, output, .. } = &mut self.buffers;
            output.seal(batch, at..at + 1);
            let send = output.sends()[at];
            let Some(port) = self.config.port(send.port) else { panic!("{send:?}: no such port") };
            let packet = output.packet(batch, &send);
            check_fit(packet, port);
            let made = matches!(send.origin, Origin::Made(_));
            if from_gateway(packet.frame()) && !self.impersonated {
                let result = eye::examine(packet, made && source_is_gateway(packet.frame()));
                assert!(result.is_ok(), "{result:?}: {send:?} {:02x?}", packet.frame());
            }
            self.questions.extend(question(&port.name, packet.frame()));
            sent.push(Sent { made, port: send.port, frame: packet.frame().to_vec() });
        }
        let forgotten = self.questions.len().saturating_sub(QUESTIONS);
        self.questions.drain(..forgotten);
        self.buffers.output.clear();
        self.check_bounds();
        sent
    }

    fn check_bounds(&self) {
        for name in fabric::NETWORKS {
            let (macs, neighbors) = self.config.table_sizes(name, self.now).unwrap_or_default();
            let most = fabric::TABLE + 2 * fabric::COUNT;
            assert!(
                macs <= most && neighbors <= 2 * fabric::TABLE,
                "{macs} addresses, {neighbors} neighbours"
            );
        }
    }

    /// The port that was asked answers one of the questions that are still open.
    pub fn answer(&mut self, worker: usize, which: usize) {
        if self.questions.is_empty() {
            return;
        }
        let question = self.questions.swap_remove(which % self.questions.len());
        if let Some(frame) = question.answer() {
            self.feed(worker, question.port, &frame, Offload::default());
        }
    }

    /// Lets time pass, and each worker do what is due.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for worker in 0..WORKERS {
            let mut polls = 0;
            while self.stacks[worker].poll_at().is_some_and(|at| at <= self.now) {
                self.stacks[worker].poll(self.now, &mut self.buffers.output);
                self.buffers.batch.clear();
                self.examine();
                polls += 1;
                assert!(polls < 10_000, "a timer that is always due");
            }
        }
    }

    /// Goes on by the fabric without some ports.
    pub fn rebuild(&mut self, left_out: u16) {
        self.config = build(left_out, Some(&self.config));
        for stack in &mut self.stacks {
            stack.set_config(self.config.clone());
        }
    }
}

fn build(left_out: u16, previous: Option<&Config>) -> Arc<Config> {
    match Config::build(&fabric::spec(left_out), previous, WORKERS) {
        Ok(config) => Arc::new(config),
        Err(error) => panic!("{error}"),
    }
}

fn put(packet: &mut Packet, frame: &[u8], offload: Offload) {
    packet.set_frame(frame);
    packet.offload = offload;
}

/// An echo request to `destination`.
pub fn spec(destination: IpAddr) -> PacketSpec {
    PacketSpec {
        source: None,
        destination,
        protocol: Protocol::Icmp,
        source_port: 49152,
        destination_port: 7,
        length: None,
        ttl: 64,
        dont_fragment: false,
        source_mac: None,
        destination_mac: None,
        vlan: None,
    }
}

/// The first address of an address's subnet.
fn gateway_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() & !0xff | 1).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() & !0xffff | 1).into()),
    }
}

/// What happened is what the trace said, and it happened once.
fn compare(expected: &Trace, before: &Counts, after: &Counts, sent: &[Sent]) {
    let forwarded = sent.iter().any(|sent| !sent.made);
    match expected.verdict {
        Verdict::Dropped(reason) => {
            let counted = after.drops[reason.index()] - before.drops[reason.index()];
            assert!(counted > 0, "{} was traced, and not counted", reason.name());
            assert!(!forwarded, "dropped ({}) and sent on", reason.name());
        }
        Verdict::Forwarded { .. } | Verdict::Flooded => {
            for (port, frame) in &expected.outputs {
                let found = sent.iter().any(|sent| sent.port == *port && sent.frame == *frame);
                assert!(found, "traced, not sent: to {port:?} {frame:02x?}");
            }
        }
        Verdict::Queued => assert!(!forwarded, "queued and sent on"),
        Verdict::Answered => {}
    }
    if matches!(expected.verdict, Verdict::Forwarded { .. }) {
        assert_eq!(after.drops, before.drops, "forwarded and dropped");
    }
}

/// What a port must be able to take.
pub fn check_fit(packet: &Packet, port: &Port) {
    let (_, start) = eye::ethertype(packet.frame()).unwrap_or_else(|| panic!("a frame without a header"));
    let device = &port.offloads;
    let length = match packet.offload.gso {
        None => packet.len() - start,
        Some(gso) => {
            let taken = match gso.kind {
                GsoKind::TcpV4 => device.tso4,
                GsoKind::TcpV6 => device.tso6,
                GsoKind::Udp => device.uso,
            };
            assert!(taken && gso.size > 0, "{} cannot take {gso:?}", port.name);
            (usize::from(gso.header_length) + usize::from(gso.size) - start).min(packet.len() - start)
        }
    };
    assert!(length <= port.mtu, "{length} octets to port {} with MTU {}", port.name, port.mtu);
    if let Some(checksum) = packet.offload.checksum {
        assert!(device.checksum, "{} cannot complete checksums", port.name);
        let end = usize::from(checksum.start) + usize::from(checksum.offset) + 2;
        assert!(end <= packet.len(), "{checksum:?} in {} octets", packet.len());
    }
}

fn gateways() -> impl Iterator<Item = usize> {
    // One port of each network, and of the VLAN that has its own.
    [0, 3, 6, 7].into_iter()
}

fn from_gateway(frame: &[u8]) -> bool {
    gateways().any(|port| frame.get(6..12) == Some(&fabric::gateway_mac(port).0[..]))
}

fn source_is_gateway(frame: &[u8]) -> bool {
    let source = match eye::ethertype(frame) {
        Some((0x0800, at)) => frame.get(at + 12..at + 16),
        Some((0x86dd, at)) => frame.get(at + 8..at + 24),
        _ => None,
    };
    let Some(source) = source else { return false };
    gateways().any(|port| {
        let link_local = fabric::gateway_mac(port).link_local().octets();
        source == link_local
            || fabric::addresses(port).into_iter().any(|own| match gateway_of(own) {
                IpAddr::V4(a) => source == a.octets(),
                IpAddr::V6(a) => source == a.octets(),
            })
    })
}

fn speaks_as_gateway(frame: &[u8]) -> bool {
    from_gateway(frame) || source_is_gateway(frame)
}

/// What was counted at a port, by all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts {
    packets: u64,
    octets: u64,
    drops: Vec<u64>,
}

impl Counts {
    fn of(port: &Port) -> Counts {
        let sets = || port.all_counters().iter();
        let drops = |reason: &DropReason| sets().map(|set| set.dropped(*reason)).sum();
        Counts {
            packets: sets().map(|set| set.rx_packets.get()).sum(),
            octets: sets().map(|set| set.rx_bytes.get()).sum(),
            drops: DropReason::ALL.iter().map(drops).collect(),
        }
    }
}
