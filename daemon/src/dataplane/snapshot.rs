//! What workers read: the stack's picture and the devices that belong to it.

use std::collections::HashMap;
use std::sync::Arc;

use weft_stack::config::{Config, PortId};
use weft_stack::tunnel::Underlay;

use super::OpenEnds;
use super::port::PortIo;
use super::underlay::UnderlayIo;

/// One published state.
pub(super) struct Snapshot {
    pub config: Arc<Config>,
    io: Vec<Option<Arc<PortIo>>>,
    underlays: HashMap<Underlay, Arc<UnderlayIo>>,
}

impl Snapshot {
    /// A snapshot of `config` with the devices of its ports and the sockets of the node.
    pub fn new(config: Config, ends: OpenEnds) -> Snapshot {
        let mut io = Vec::new();
        for port in config.ports() {
            let slot = port.id.slot();
            if io.len() <= slot {
                io.resize(slot + 1, None);
            }
            io[slot] = ends.ports.get(&*port.name).cloned();
        }
        Snapshot { config: Arc::new(config), io, underlays: ends.underlays }
    }

    /// The device of a port, if the port exists.
    pub fn io(&self, port: PortId) -> Option<&Arc<PortIo>> {
        self.config.port(port)?;
        self.io.get(port.slot())?.as_ref()
    }

    /// The sockets of the node of one kind, if they are open.
    pub fn underlay(&self, underlay: Underlay) -> Option<&Arc<UnderlayIo>> {
        self.underlays.get(&underlay)
    }

    /// All sockets of the node.
    pub fn underlays(&self) -> impl Iterator<Item = (Underlay, &Arc<UnderlayIo>)> {
        self.underlays.iter().map(|(underlay, io)| (*underlay, io))
    }

    /// The worker, of `workers`, that owns a receive queue of a port that has `count` of them.
    ///
    /// A port with several queues has them spread over the workers in the same way as every other
    /// such port: a TAP device sends the answers of a flow to the queue that the flow was written to, and
    /// packet sockets have them at the same place in their group, so one worker serves both directions.
    pub fn owner(port: PortId, queue: usize, count: usize, workers: usize) -> usize {
        let first = if count > 1 { 0 } else { port.slot() };
        (first + queue) % workers
    }

    /// The receive queues that belong to one of `workers` workers.
    pub fn queues_of(&self, worker: usize, workers: usize) -> impl Iterator<Item = (PortId, usize)> + '_ {
        self.config.ports().flat_map(move |port| {
            let count = self.io(port.id).map_or(0, |io| io.queues());
            let own = move |queue: &usize| Snapshot::owner(port.id, *queue, count, workers) == worker;
            (0..count).filter(own).map(|queue| (port.id, queue))
        })
    }
}
