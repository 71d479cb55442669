//! A stack, its fabric and its traffic: batches are filled and processed in turn.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use weft_stack::Stack;
use weft_stack::batch::{BATCH, Batch, Origin, Output};
use weft_stack::config::{Config, PortId};
use weft_stack::packet::Packet;
use weft_stack::time::Instant;

use super::Subject;
use super::fabric::{self, Host, Hosts, Numbers};
use super::load::{Frames, Load};
use super::traffic::{Traffic, introduction};

/// The time that the stack is told: it stands still, so that nothing ages.
const NOW: Instant = Instant::from_nanos(1_000_000_000);

/// One worker's stack under a load.
pub struct Drive {
    stack: Stack,
    traffic: Traffic,
    sources: Vec<PortId>,
    destinations: usize,
    batch: Batch,
    output: Output,
    numbers: Numbers,
    source: usize,
}

impl Drive {
    /// Builds the fabric and lets its hosts introduce themselves.
    ///
    /// # Errors
    /// The stack does not forward each packet of the load to exactly one port: the figures would be of something
    /// else.
    pub fn new(load: &Load) -> Result<Drive> {
        let (hosts, spec) = fabric::build(load);
        let config = Arc::new(Config::build(&spec, None, 1)?);
        let id = |host: &Host| config.port_by_name(&host.name).map(|port| port.id).context(host.name.clone());
        let mut drive = Drive {
            sources: hosts.sources.iter().map(id).collect::<Result<_>>()?,
            stack: Stack::new(0, config.clone()),
            traffic: Traffic::new(load, &hosts),
            destinations: load.destinations,
            batch: Batch::new(),
            output: Output::new(),
            numbers: Numbers(3),
            source: 0,
        };
        for sink in &hosts.sinks {
            drive.introduce(id(sink)?, &introduction(sink, load.frames == Frames::V6));
        }
        drive.check(&hosts)?;
        Ok(drive)
    }

    fn introduce(&mut self, port: PortId, frame: &[u8]) {
        let mut batch = Batch::new();
        *batch.vacant() = Packet::from_frame(frame);
        batch.commit(1);
        self.stack.process(NOW, port, &mut batch, &mut self.output);
        self.output.clear();
    }

    /// Every source reaches every destination.
    fn check(&mut self, hosts: &Hosts) -> Result<()> {
        for (source, host) in hosts.sources.iter().enumerate() {
            for first in (0..self.destinations).step_by(BATCH) {
                let chosen: Vec<_> = (first..self.destinations.min(first + BATCH)).collect();
                self.put(source, chosen.iter().copied());
                self.forward(source);
                let sends = self.output.sends();
                let once = sends.len() == chosen.len()
                    && (sends.iter().enumerate()).all(|(at, send)| send.origin == Origin::Received(at));
                ensure!(once, "of {} packets of {} the stack forwarded {sends:?}", chosen.len(), host.name);
            }
        }
        Ok(())
    }

    fn put(&mut self, source: usize, destinations: impl IntoIterator<Item = usize>) {
        self.batch.clear();
        for destination in destinations {
            self.traffic.put(self.batch.vacant(), source, destination);
            self.batch.commit(1);
        }
    }

    /// Fills the batch from the next source, destinations in no order.
    pub fn fill(&mut self) {
        self.source = (self.source + 1) % self.sources.len();
        let mut chosen = [0; BATCH];
        chosen.fill_with(|| self.numbers.below(self.destinations));
        self.put(self.source, chosen);
    }

    /// Lets the stack process the batch: what is measured. Never inlined, so that valgrind finds it.
    #[inline(never)]
    pub fn process(&mut self) {
        self.forward(self.source);
    }

    fn forward(&mut self, source: usize) {
        self.output.clear();
        self.stack.process(NOW, self.sources[source], &mut self.batch, &mut self.output);
    }
}

impl Subject for Drive {
    fn fill(&mut self) {
        Drive::fill(self);
    }

    fn process(&mut self) -> Result<()> {
        Drive::process(self);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_of_every_kind_is_forwarded_once() {
        for frames in [Frames::Bridged, Frames::V4, Frames::V6, Frames::Gso] {
            let octets = if frames == Frames::Gso { 65_000 } else { 64 };
            let mut drive = Drive::new(&Load::new(frames, octets)).unwrap();
            drive.fill();
            drive.process();
            assert_eq!(drive.output.sends().len(), BATCH, "{frames:?}");
        }
    }

    #[test]
    fn destinations_behind_static_routes_are_reached() {
        let load = Load::new(Frames::V4, 64).behind("1,000 routes", 1000);
        assert!(Drive::new(&load).is_ok());
    }

    #[test]
    fn a_load_that_the_stack_refuses_is_an_error() {
        // Larger than the MTU, and not to be fragmented.
        let error = Drive::new(&Load::new(Frames::V4, 3000)).err().unwrap().to_string();
        assert!(error.contains("forwarded []"), "{error}");
    }
}
