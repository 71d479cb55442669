//! Our side: the stack as a library, in virtual time. Nothing runs beside it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use weft_stack::Stack;
use weft_stack::batch::{Batch, Output};
use weft_stack::config::{Config, FabricSpec, PortId};
use weft_stack::time::Instant;
use weft_testkit::frame;

use super::case::{Case, Outcome, is_waiting, question};
use super::fabric;
use super::packet::{self, Ipv6};
use super::topology::{Net, Wire};

/// Time that passes from one case to the next: enough that the rate limits of answers have room again.
const BETWEEN_CASES: Duration = Duration::from_millis(500);
/// Longest time that a question for a neighbour may take.
const ALL_TIMERS: Duration = Duration::from_secs(10);

/// More than a bridge gives hosts to answer the first question that it hears (RFC 3376 section 8.3).
const ANSWERS: Duration = Duration::from_secs(11);

/// When nothing waits any more for what an earlier case left out: the time of a fragment, which is longest.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The stack, and the time that it is told.
#[derive(Debug)]
pub struct Subject {
    stack: Stack,
    /// The port of each wire.
    ports: Vec<PortId>,
    now: Instant,
}

impl Subject {
    pub fn new() -> Result<Subject> {
        Subject::of(&fabric::spec())
    }

    /// A stack with this fabric, which has a port for each wire.
    pub fn of(spec: &FabricSpec) -> Result<Subject> {
        let config = Config::build(spec, None, 1)?;
        let port = |wire: &Wire| Some(config.port_by_name(wire.name())?.id);
        let ports = Wire::ALL.iter().map(port).collect::<Option<_>>().context("a port for each wire")?;
        let now = Instant::from_nanos(1_000_000_000);
        Ok(Subject { stack: Stack::new(0, Arc::new(config)), ports, now })
    }

    /// Sends the frames of a case and gives what comes out. Questions for hosts that exist are answered, as
    /// the hosts would, and left out: the kernel's side knows its neighbours.
    pub fn run(&mut self, case: &Case) -> Outcome {
        self.now = self.now + BETWEEN_CASES;
        let mut outcome = Outcome::new();
        self.wait(FORGOTTEN, &mut outcome);
        self.poll(&mut outcome);
        outcome.clear();
        for step in &case.steps {
            self.send(step.from, &step.frame, &mut outcome);
            if step.asks {
                self.wait(ANSWERS, &mut outcome);
            }
        }
        if is_waiting(&outcome) {
            self.wait(ALL_TIMERS, &mut outcome);
        }
        outcome
    }

    /// Lets timers run out that do so within this time.
    fn wait(&mut self, longest: Duration, outcome: &mut Outcome) {
        let end = self.now + longest;
        while let Some(at) = self.stack.poll_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.poll(outcome);
        }
    }

    fn send(&mut self, from: Wire, bytes: &[u8], outcome: &mut Outcome) {
        let (mut batch, mut output) = (Batch::new(), Output::new());
        batch.vacant().set_frame(bytes);
        batch.commit(1);
        self.stack.process(self.now, self.ports[from as usize], &mut batch, &mut output);
        self.collect(&mut batch, &mut output, outcome);
    }

    fn poll(&mut self, outcome: &mut Outcome) {
        let (mut batch, mut output) = (Batch::new(), Output::new());
        self.stack.poll(self.now, &mut output);
        self.collect(&mut batch, &mut output, outcome);
    }

    fn collect(&mut self, batch: &mut Batch, output: &mut Output, outcome: &mut Outcome) {
        let mut answers = Vec::new();
        for index in 0..output.sends().len() {
            output.seal(batch, index..index + 1);
            let send = output.sends()[index];
            let bytes = output.packet(batch, &send).frame();
            let Some(to) = self.wire(send.port) else { continue };
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

    fn wire(&self, port: PortId) -> Option<Wire> {
        Wire::ALL.into_iter().zip(&self.ports).find(|(_, id)| **id == port).map(|(wire, _)| wire)
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
            let mut asker = [0; 16];
            asker.copy_from_slice(&question[22..38]);
            let asker = Ipv6Addr::from(asker);
            let data = [&address.octets()[..], &[2, 1], &host.mac()].concat();
            let message = packet::icmpv6(address, asker, 136, 0, [0x60, 0, 0, 0], &data);
            let answer = Ipv6 { hops: 255, ..Ipv6::new(address, asker, 58, message) };
            answer.frame(segment.gateway_mac, host.mac())
        }
    }
}
