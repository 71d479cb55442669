//! The pipeline as a whole: frames in at a port, frames out at ports, under a clock of the tests' own.

mod advertisements;
mod bridging;
mod dhcp;
mod errors;
mod extensions;
mod fragments;
mod gateway;
mod isolation;
mod learning;
mod loops;
mod mirror;
mod neighbors;
mod offloads;
mod policy;
mod proxy;
mod replays;
mod replies;
mod reserved;
mod resolution;
mod routing;
mod shaping;
mod shortcuts;
mod snooping;
mod static_neighbors;
mod storm;
mod together;
mod tunnels;
mod vlans;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::MacAddr;
use crate::config::FabricSpec;
use crate::testing;
use crate::trace::Protocol;
use crate::verdict::DropReason;
use crate::wire::ethernet;

/// A fabric and one worker's stack.
pub struct Fabric {
    pub now: Instant,
    pub stack: Stack,
}

/// A frame that left: the port's name and the packet.
pub type Sent = (String, Packet);

impl Fabric {
    /// A fabric whose gateways speak only when they have to.
    pub fn new(spec: &FabricSpec) -> Fabric {
        let mut fabric = Fabric::beginning(spec);
        fabric.stack.state.timers.retain(|Reverse((_, timer))| *timer == Timer::Upkeep);
        fabric
    }

    /// A fabric whose gateways still do what they do by themselves.
    pub fn beginning(spec: &FabricSpec) -> Fabric {
        let config = Arc::new(Config::build(spec, None, 1).unwrap());
        Fabric { now: Instant::from_nanos(1_000_000_000), stack: Stack::new(0, config) }
    }

    pub fn two_networks() -> Fabric {
        Fabric::new(&testing::two_networks())
    }

    /// Goes on by another description.
    pub fn reconfigure(&mut self, spec: &FabricSpec) {
        let config = Config::build(spec, Some(self.stack.config()), 1).unwrap();
        self.stack.set_config(Arc::new(config));
    }

    /// Lets a frame come in at a port.
    pub fn receive(&mut self, port: &str, packet: Packet) -> Vec<Sent> {
        let id = self.stack.config().port_by_name(port).unwrap().id;
        let mut batch = Batch::new();
        *batch.vacant() = packet;
        batch.commit(1);
        let mut output = Output::new();
        self.stack.process(self.now, id, &mut batch, &mut output);
        self.collect(&mut batch, &mut output)
    }

    /// Lets a frame come in at a port.
    pub fn receive_frame(&mut self, port: &str, frame: &[u8]) -> Vec<Sent> {
        self.receive(port, Packet::from_frame(frame))
    }

    /// Moves the clock and does what is due then.
    pub fn advance(&mut self, duration: Duration) -> Vec<Sent> {
        self.now = self.now + duration;
        let mut output = Output::new();
        self.stack.poll(self.now, &mut output);
        self.collect(&mut Batch::new(), &mut output)
    }

    /// As a worker does it: each send is made ready, then handed over.
    fn collect(&self, batch: &mut Batch, output: &mut Output) -> Vec<Sent> {
        let mut sent = Vec::new();
        for index in 0..output.sends().len() {
            output.seal(batch, index..index + 1);
            let send = output.sends()[index];
            let packet = output.packet(batch, &send);
            let mut copied = Packet::from_frame(packet.frame());
            copied.offload = packet.offload;
            sent.push((self.stack.config().port(send.port).unwrap().name.to_string(), copied));
        }
        sent
    }

    /// The value of one of the stack's own counters.
    pub fn counted(&self, name: &str) -> u64 {
        let counters = &self.stack.config().stack_counters()[0];
        counters.values().find(|(known, _)| *known == name).unwrap().1
    }

    pub fn dropped(&self, port: &str, reason: DropReason) -> u64 {
        self.stack.config().port_by_name(port).unwrap().counters(0).dropped(reason)
    }

    /// The frame that a described packet from `port` is.
    pub fn frame(&self, port: &str, change: impl FnOnce(&mut PacketSpec)) -> Vec<u8> {
        let mut spec = echo_to("198.18.1.1");
        change(&mut spec);
        let port = self.stack.config().port_by_name(port).unwrap();
        self.stack.synthesize(port, &spec).unwrap()
    }

    /// A frame from `port` with an echo request.
    pub fn echo(&self, port: &str, destination: &str) -> Vec<u8> {
        self.frame(port, |spec| spec.destination = destination.parse().unwrap())
    }

    /// A frame from `port` that asks for the MAC address of `target`.
    pub fn resolve(&self, port: &str, target: &str) -> Vec<u8> {
        self.frame(port, |spec| {
            spec.destination = target.parse().unwrap();
            spec.protocol = Protocol::Resolve;
        })
    }

    /// Lets the gateway hear a question from an address at a port, which tells where that address is.
    pub fn claim(&mut self, port: &str, address: &str, gateway: &str) {
        let claim = self.frame(port, |spec| {
            spec.source = Some(address.parse().unwrap());
            spec.destination = gateway.parse().unwrap();
            spec.protocol = Protocol::Resolve;
        });
        self.receive_frame(port, &claim);
    }

    /// Lets the gateway know a port's addresses, as its own questions would.
    pub fn introduce(&mut self, port: &str, gateways: [&str; 2]) {
        for gateway in gateways {
            let question = self.resolve(port, gateway);
            assert_eq!(self.receive_frame(port, &question).len(), 1);
        }
    }
}

pub fn echo_to(destination: &str) -> PacketSpec {
    PacketSpec {
        source: None,
        destination: destination.parse().unwrap(),
        protocol: Protocol::Icmp,
        source_port: 40_000,
        destination_port: 80,
        length: None,
        ttl: 64,
        dont_fragment: false,
        source_mac: None,
        destination_mac: None,
        vlan: None,
    }
}

/// Gives a frame another destination and source.
pub fn addressed(mut frame: Vec<u8>, destination: MacAddr, source: MacAddr) -> Vec<u8> {
    frame[..6].copy_from_slice(&destination.0);
    frame[6..12].copy_from_slice(&source.0);
    frame
}

/// Ports and one-line descriptions of what left.
pub fn told(sent: &[Sent]) -> Vec<(String, String)> {
    sent.iter().map(|(port, packet)| (port.clone(), trace::describe(packet.frame()))).collect()
}

pub fn ports(sent: &[Sent]) -> Vec<&str> {
    let mut names: Vec<_> = sent.iter().map(|(port, _)| port.as_str()).collect();
    names.sort_unstable();
    names
}

pub fn ethernet_of(packet: &Packet) -> ethernet::Header {
    ethernet::Header::parse(packet.frame()).unwrap()
}
