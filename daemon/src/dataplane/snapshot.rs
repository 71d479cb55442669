//! What workers read: the stack's picture and the devices that belong to it.

use std::collections::HashMap;
use std::sync::Arc;

use weft_stack::config::{Config, PortId};

use super::port::PortIo;

/// One published state.
pub(super) struct Snapshot {
    pub config: Arc<Config>,
    io: Vec<Option<Arc<PortIo>>>,
}

impl Snapshot {
    /// A snapshot of `config` with the devices of its ports, by name.
    pub fn new(config: Config, by_name: &HashMap<String, Arc<PortIo>>) -> Snapshot {
        let mut io = Vec::new();
        for port in config.ports() {
            let slot = port.id.slot();
            if io.len() <= slot {
                io.resize(slot + 1, None);
            }
            io[slot] = by_name.get(&*port.name).cloned();
        }
        Snapshot { config: Arc::new(config), io }
    }

    /// The device of a port, if the port exists.
    pub fn io(&self, port: PortId) -> Option<&Arc<PortIo>> {
        self.config.port(port)?;
        self.io.get(port.slot())?.as_ref()
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
