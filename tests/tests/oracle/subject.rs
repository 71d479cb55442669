//! Our side: the stack as a library, in virtual time. Nothing runs beside it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use weft_stack::batch::{Batch, Output};
use weft_stack::config::{
    Config, FabricSpec, NetworkSpec, Offloads, PortId, PortSpec, RouterSpec, StaticRoute, SubnetSpec,
};
use weft_stack::time::Instant;
use weft_stack::{MacAddr, Prefix, Stack};
use weft_testkit::frame::{self, Mac};

use super::case::{Case, Outcome, is_waiting, question};
use super::packet::{self, Ipv6};
use super::topology::{Net, ROUTES, Wire};

/// Time that passes from one case to the next: enough that the rate limits of answers have room again.
const BETWEEN_CASES: Duration = Duration::from_millis(500);
/// Longest time that a question for a neighbour may take.
const ALL_TIMERS: Duration = Duration::from_secs(10);

/// The stack, and the time that it is told.
#[derive(Debug)]
pub struct Subject {
    stack: Stack,
    now: Instant,
}

impl Subject {
    pub fn new() -> Subject {
        let config = Config::build(&fabric(), None, 1).unwrap();
        Subject { stack: Stack::new(0, Arc::new(config)), now: Instant::from_nanos(1_000_000_000) }
    }

    /// Sends the frames of a case and gives what comes out. Questions for hosts that exist are answered, as
    /// the hosts would, and left out: the kernel's side knows its neighbours.
    pub fn run(&mut self, case: &Case) -> Outcome {
        self.now = self.now + BETWEEN_CASES;
        let mut outcome = Outcome::new();
        self.poll(&mut outcome);
        outcome.clear();
        for step in &case.steps {
            self.send(step.from, &step.frame, &mut outcome);
        }
        if is_waiting(&outcome) {
            let end = self.now + ALL_TIMERS;
            while let Some(at) = self.stack.poll_at().filter(|at| *at <= end) {
                self.now = self.now.max(at);
                self.poll(&mut outcome);
            }
        }
        outcome
    }

    fn send(&mut self, from: Wire, bytes: &[u8], outcome: &mut Outcome) {
        let (mut batch, mut output) = (Batch::new(), Output::new());
        batch.vacant().set_frame(bytes);
        batch.commit(1);
        self.stack.process(self.now, self.port(from), &mut batch, &mut output);
        self.collect(&batch, &output, outcome);
    }

    fn poll(&mut self, outcome: &mut Outcome) {
        let (batch, mut output) = (Batch::new(), Output::new());
        self.stack.poll(self.now, &mut output);
        self.collect(&batch, &output, outcome);
    }

    fn collect(&mut self, batch: &Batch, output: &Output, outcome: &mut Outcome) {
        let mut answers = Vec::new();
        for send in output.sends() {
            let bytes = output.packet(batch, send).frame();
            let to = self.wire(send.port);
            match question(bytes) {
                Some((asked, net)) => match host(asked, net) {
                    Some(host) if host == to => answers.push((host, answer(host, asked, bytes))),
                    Some(_) => {}
                    None => outcome.push((to, bytes.to_vec())),
                },
                None => outcome.push((to, bytes.to_vec())),
            }
        }
        for (host, bytes) in answers {
            self.send(host, &bytes, outcome);
        }
    }

    fn port(&self, wire: Wire) -> PortId {
        self.stack.config().port_by_name(wire.name()).unwrap().id
    }

    fn wire(&self, port: PortId) -> Wire {
        Wire::named(&self.stack.config().port(port).unwrap().name).unwrap()
    }
}

fn host(address: IpAddr, net: Net) -> Option<Wire> {
    Wire::ALL.into_iter().find(|wire| wire.net() == net && wire.addresses().contains(&address))
}

/// What a host says when its address is asked for.
fn answer(host: Wire, asked: IpAddr, question: &[u8]) -> Vec<u8> {
    let segment = host.net().segment();
    match asked {
        IpAddr::V4(address) => {
            let message = frame::arp(2, (host.mac(), address), (segment.gateway_mac, segment.gateway4));
            packet::ethernet(segment.gateway_mac, host.mac(), frame::ARP, &message)
        }
        IpAddr::V6(address) => {
            let octets: [u8; 16] = question[22..38].try_into().unwrap();
            let asker = Ipv6Addr::from(octets);
            let data = [&address.octets()[..], &[2, 1], &host.mac()].concat();
            let message = packet::icmpv6(address, asker, 136, 0, [0x60, 0, 0, 0], &data);
            let answer = Ipv6 { hops: 255, ..Ipv6::new(address, asker, 58, message) };
            answer.frame(segment.gateway_mac, host.mac())
        }
    }
}

/// The fabric of [`topology`](super::topology) as the stack is told of it. Sources are not checked: a kernel
/// bridge does not do so either.
fn fabric() -> FabricSpec {
    let routes = ROUTES.map(|(prefix, via)| {
        let prefix: Prefix = prefix.parse().unwrap();
        let next_hop = if prefix.address().is_ipv4() { via.v4().into() } else { via.v6().into() };
        StaticRoute { prefix, next_hops: vec![next_hop] }
    });
    FabricSpec {
        routers: vec![RouterSpec { name: "core".into(), routes: routes.into() }],
        networks: Net::ALL.into_iter().map(network).collect(),
        ports: Wire::ALL.into_iter().map(port).collect(),
    }
}

fn network(net: Net) -> NetworkSpec {
    let segment = net.segment();
    let subnet = |(first, length): (IpAddr, u8), gateway: IpAddr| SubnetSpec {
        prefix: format!("{first}/{length}").parse().unwrap(),
        gateway: Some(gateway),
    };
    let (first4, length4) = segment.prefix4;
    let (first6, length6) = segment.prefix6;
    NetworkSpec {
        name: segment.name.into(),
        router: Some("core".into()),
        subnets: vec![
            subnet((first4.into(), length4), segment.gateway4.into()),
            subnet((first6.into(), length6), segment.gateway6.into()),
        ],
        mtu: segment.mtu,
        gateway_mac: mac(segment.gateway_mac),
        ageing: Duration::from_secs(300),
        max_macs: 4096,
        max_neighbors: 4096,
    }
}

fn port(wire: Wire) -> PortSpec {
    let segment = wire.net().segment();
    PortSpec {
        name: wire.name().into(),
        network: segment.name.into(),
        mac: mac(wire.mac()),
        addresses: vec![wire.v4().into(), wire.v6().into()],
        vlan: None,
        mtu: segment.mtu,
        source_check: false,
        offloads: Offloads::default(),
    }
}

fn mac(octets: Mac) -> MacAddr {
    MacAddr(octets)
}
