//! The fabric at work with tunnels: frames come in by ports and datagrams by sockets, as a worker of the daemon would
//! have it. Checks after each what must always hold.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_stack::Stack;
use weft_stack::batch::{Batch, Output};
use weft_stack::config::{Config, PortId};
use weft_stack::packet::{Offload, Packet};
use weft_stack::time::Instant;
use weft_stack::trace::PacketSpec;
use weft_stack::tunnel::datagram::Arrival;
use weft_stack::tunnel::{Datagram, Inbox, Underlay, UnderlayError};

use crate::far_end::FarEnd;
use crate::site::check_fit;
use crate::{eye, fabric, overlay};

/// Workers that share the fabric's tables.
const WORKERS: usize = 2;

/// The longest datagram, and run of datagrams, that a socket takes.
const LONGEST: usize = 65_507;
const RUN: usize = 64;

/// Messages that the node and the far end of its WireGuard tunnel exchange after one thing that happened.
const EXCHANGE: usize = 64;

/// Octets in front of the frame in a datagram of "vx", and of "gt".
const IN_FRONT: [(&str, usize); 2] = [("vx", 8), ("gt", 4)];

/// What a socket of the node received.
#[derive(Debug)]
pub struct Heard {
    pub underlay: Underlay,
    pub source: SocketAddr,
    pub tos: u8,
    /// Octets of each datagram but the last; 0: it is one.
    pub segment: usize,
    pub octets: Vec<u8>,
}

/// Room for packets. Making it anew for each input would take longer than all the rest.
#[derive(Default)]
struct Buffers {
    batch: Batch,
    output: Output,
    inbox: Inbox,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

/// The workers' stacks at one moment, and the far end of the WireGuard tunnel.
pub struct Crossing {
    now: Instant,
    config: Arc<Config>,
    left_out: u8,
    stacks: Vec<Stack>,
    buffers: Buffers,
    far: FarEnd,
    /// Messages on their way to the far end.
    to_far: Vec<Vec<u8>>,
    /// The last datagram that was sent.
    last: Option<(Datagram, Vec<u8>)>,
}

impl Drop for Crossing {
    fn drop(&mut self) {
        BUFFERS.set(std::mem::take(&mut self.buffers));
    }
}

impl Crossing {
    /// The whole fabric; nobody has spoken yet.
    pub fn new() -> Crossing {
        let now = Instant::from_nanos(1_000_000_000);
        let config = build(0, None);
        Crossing {
            now,
            left_out: 0,
            stacks: (0..WORKERS).map(|worker| Stack::new(worker, config.clone())).collect(),
            config,
            buffers: BUFFERS.take(),
            far: FarEnd::new(now),
            to_far: Vec::new(),
            last: None,
        }
    }

    /// The frame that a port's kernel would send; `None`: it cannot be.
    pub fn synthesize(&self, port: usize, spec: &PacketSpec) -> Option<Vec<u8>> {
        let port = self.config.port_by_name(fabric::name(port))?;
        self.stacks[0].synthesize(port, spec).ok()
    }

    /// Puts a frame into a port, to a worker.
    pub fn feed(&mut self, worker: usize, port: usize, frame: &[u8], offload: Offload) {
        let Some(id) = self.config.port_by_name(fabric::name(port)).map(|port| port.id) else { return };
        let Buffers { batch, output, .. } = &mut self.buffers;
        batch.clear();
        let packet = batch.vacant();
        packet.set_frame(frame);
        packet.offload = offload;
        batch.commit(1);
        self.stacks[worker].process(self.now, id, batch, output);
        self.examine();
        self.exchange();
    }

    /// Lets a socket receive something that is not of WireGuard's far end.
    pub fn hear(&mut self, worker: usize, heard: &Heard) {
        let welcome = overlay::knows(heard.underlay, heard.source.ip(), self.left_out);
        self.take_in(worker, heard, welcome);
        self.exchange();
    }

    /// Has the far end of the WireGuard tunnel send a packet.
    pub fn hear_sealed(&mut self, packet: &[u8]) {
        self.far.send(self.now, packet);
        self.exchange();
    }

    /// Lets a worker receive. Only what is `welcome` may get anywhere.
    fn take_in(&mut self, worker: usize, heard: &Heard, welcome: bool) {
        let Heard { underlay, source, tos, segment, octets } = heard;
        let local = overlay::local(source.ip());
        self.buffers.inbox.vacant()[0][..octets.len()].copy_from_slice(octets);
        let (length, segment) = (octets.len(), *segment);
        self.buffers.inbox.commit(Arrival { source: *source, local, tos: *tos, length, segment });
        self.tell_wall(worker);
        for _ in 0..=octets.len() {
            let Buffers { batch, output, inbox } = &mut self.buffers;
            batch.clear();
            let stack = &mut self.stacks[worker];
            let Some(port) = stack.receive(self.now, *underlay, inbox, batch, output) else {
                self.examine();
                return;
            };
            assert!(welcome, "{heard:02x?} was let in");
            let arrived: Vec<_> = batch.packets().iter().map(|packet| header(packet.frame())).collect();
            stack.process(self.now, port, batch, output);
            self.check_horizon(port, &arrived);
            self.examine();
        }
        panic!("there is no end to {heard:02x?}");
    }

    fn tell_wall(&mut self, worker: usize) {
        self.stacks[worker].set_wall(wall(self.now));
    }

    /// What came from a far end does not leave by the same tunnel, unless it was routed or answered.
    fn check_horizon(&self, from: PortId, arrived: &[[u8; 14]]) {
        let tunnel = self.tunnel(from);
        let Some((_, front)) = IN_FRONT.iter().find(|(name, _)| *name == tunnel) else { return };
        let output = &self.buffers.output;
        for datagram in output.datagrams().iter().filter(|datagram| self.tunnel(datagram.port) == tunnel) {
            for octets in datagrams(datagram, output.octets(datagram)) {
                let left = header(octets.get(*front..).unwrap_or_default());
                let by_gateway = (0..fabric::COUNT).any(|port| left[6..12] == fabric::gateway_mac(port).0);
                let to_itself = left[..6] == left[6..12];
                let returned = arrived.contains(&left) && !by_gateway && !to_itself;
                assert!(!returned, "from a far end of {tunnel} to the next: {octets:02x?}");
            }
        }
    }

    fn tunnel(&self, port: PortId) -> &str {
        let name = self.config.port(port).map_or("", |port| &port.name);
        name.split('/').next().unwrap_or_default()
    }

    /// Looks at all that is sent, and takes it away.
    fn examine(&mut self) {
        for at in 0..self.buffers.output.sends().len() {
            let Buffers { batch, output, .. } = &mut self.buffers;
            output.seal(batch, at..at + 1);
            let send = output.sends()[at];
            let Some(port) = self.config.port(send.port) else { panic!("{send:?}: no such port") };
            assert!(
                (0..fabric::COUNT).any(|number| *fabric::name(number) == *port.name),
                "{} has no device",
                port.name
            );
            check_fit(output.packet(batch, &send), port);
        }
        let output = &self.buffers.output;
        for datagram in output.datagrams() {
            let octets = output.octets(datagram);
            self.check_datagram(datagram, octets);
            if datagram.underlay == Underlay::Udp(overlay::WIREGUARD) {
                self.to_far.extend(datagrams(datagram, octets).map(<[u8]>::to_vec));
            }
        }
        let last = output.datagrams().last();
        self.last = last.map(|last| (last.clone(), output.octets(last).to_vec())).or(self.last.take());
        self.buffers.output.clear();
    }

    fn check_datagram(&self, datagram: &Datagram, octets: &[u8]) {
        let Datagram { underlay, destination, segment, .. } = datagram;
        assert!(self.config.underlays().contains(underlay), "{datagram:?}: no such socket");
        assert!(self.config.port(datagram.port).is_some(), "{datagram:?}: no such port");
        assert!(octets.len() <= LONGEST, "{datagram:?}: {} octets", octets.len());
        if *segment != 0 {
            let count = octets.len().div_ceil(*segment);
            assert!((2..=RUN).contains(&count), "{datagram:?}: {count} datagrams");
        }
        assert_eq!(destination.port() == 0, *underlay == Underlay::Gre, "{datagram:?}");
        assert!(*underlay != Underlay::Gre || *segment == 0, "{datagram:?}: a run of GRE");
    }

    /// Carries messages between the node and the far end of its WireGuard tunnel.
    fn exchange(&mut self) {
        for _ in 0..EXCHANGE {
            for message in std::mem::take(&mut self.to_far) {
                self.far.hear(self.now, message);
            }
            let Some((octets, welcome)) = self.far.poll(self.now) else { return };
            let underlay = Underlay::Udp(overlay::WIREGUARD);
            let source = SocketAddr::new(overlay::source(3), overlay::WIREGUARD);
            if self.config.underlays().contains(&underlay) {
                self.take_in(0, &Heard { underlay, source, tos: 0, segment: 0, octets }, welcome);
                self.poll();
            }
        }
    }

    /// Tells a worker that the last datagram did not arrive, or some other that begins with `quote`.
    pub fn tell_error(&mut self, worker: usize, mtu: Option<u32>, by_node: bool, quote: Option<&[u8]>) {
        let Some((datagram, octets)) = &self.last else { return };
        let end = octets.len().min(if datagram.segment == 0 { 1280 } else { datagram.segment });
        let quote = quote.unwrap_or(&octets[..end]);
        let error = UnderlayError { destination: datagram.destination, mtu, by_node, quote };
        self.stacks[worker].underlay_error(self.now, datagram.underlay, &error);
    }

    fn poll(&mut self) {
        for worker in 0..WORKERS {
            let mut polls = 0;
            while self.stacks[worker].poll_at().is_some_and(|at| at <= self.now) {
                self.tell_wall(worker);
                self.stacks[worker].poll(self.now, &mut self.buffers.output);
                self.buffers.batch.clear();
                self.examine();
                polls += 1;
                assert!(polls < 10_000, "a timer that is always due");
            }
        }
    }

    /// Lets time pass, and each worker do what is due.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.poll();
        self.exchange();
    }

    /// Goes on by the fabric without some tunnels.
    pub fn rebuild(&mut self, left_out: u8) {
        self.left_out = left_out;
        self.config = build(left_out, Some(&self.config));
        for stack in &mut self.stacks {
            stack.set_config(self.config.clone());
        }
        self.last = None;
    }
}

fn build(left_out: u8, previous: Option<&Config>) -> Arc<Config> {
    match Config::build(&overlay::spec(left_out), previous, WORKERS) {
        Ok(config) => Arc::new(config),
        Err(error) => panic!("{error}"),
    }
}

/// The time of the calendar.
pub fn wall(now: Instant) -> Duration {
    Duration::from_secs(1_800_000_000) + Duration::from_nanos(now.as_nanos())
}

/// The datagrams of a run.
fn datagrams<'a>(datagram: &Datagram, octets: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let size = if datagram.segment == 0 { octets.len() } else { datagram.segment };
    octets.chunks(size.max(1))
}

/// The Ethernet header of a frame, zeros where there is none.
fn header(frame: &[u8]) -> [u8; 14] {
    frame.first_chunk().copied().unwrap_or_default()
}

/// A packet as a device writes it: `[virtio-net header][frame]`; `None`: it is refused.
pub fn written(octets: &[u8]) -> Option<Packet> {
    let mut packet = Packet::new();
    let area = packet.receive_area();
    let count = octets.len().min(area.len());
    area[..count].copy_from_slice(&octets[..count]);
    packet.received(count).ok()?;
    (eye::ethertype(packet.frame()).is_some()).then_some(packet)
}
