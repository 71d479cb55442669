//! Frames that wait for their time on one worker, and the bound of their buffers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::{Direction, octets_on_wire};
use crate::config::{Config, Port, PortId};
use crate::packet::{Packet, octets_of};
use crate::time::Instant;
use crate::verdict::DropReason;
use crate::wire::vlan::Tci;

/// Octets of buffers in which frames wait on one worker. A port may have as much of them as is left free
/// beside it, so half of all if it is alone (dynamic thresholds: Choudhury and Hahne, 1998).
pub(super) const BUFFERS: usize = 64 * 1024 * 1024;

/// A frame that waits.
#[derive(Debug)]
pub(crate) struct Held {
    pub due: Instant,
    pub packet: Packet,
    /// The VLAN tag that it leaves with.
    pub tag: Option<Tci>,
}

/// What waits on one worker.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    ingress: Line,
    egress: Line,
    /// Octets of the buffers of all.
    octets: usize,
    /// Rates have changed, and frames that waited for the old ones have not been told.
    changed: bool,
}

/// What waits in one direction.
#[derive(Debug, Default)]
struct Line {
    /// By port; a few are empty.
    queues: HashMap<PortId, Queue, RandomState>,
    /// When the first frame of each queue that is not empty is due.
    heads: BinaryHeap<Reverse<(Instant, PortId)>>,
}

/// What waits for one port, in order.
#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Held>,
    octets: usize,
    /// They wait for a rate that is no more.
    stale: bool,
}

impl Waiting {
    /// When the next frame is due.
    pub fn poll_at(&self) -> Option<Instant> {
        if self.changed {
            return Some(Instant::default());
        }
        [&self.ingress, &self.egress].into_iter().filter_map(Line::poll_at).min()
    }

    /// Whether frames of this port wait.
    pub fn is_waiting(&self, direction: Direction, port: PortId) -> bool {
        self.line(direction).queues.get(&port).is_some_and(|queue| !queue.frames.is_empty())
    }

    /// Whether one more may, in a buffer of so many octets.
    pub fn has_room(&self, direction: Direction, port: PortId, octets: usize) -> bool {
        let own = self.line(direction).queues.get(&port).map_or(0, |queue| queue.octets);
        own + octets <= BUFFERS.saturating_sub(self.octets)
    }

    /// Keeps a frame until it is due, which it is not before those of its port that wait already.
    pub fn hold(&mut self, direction: Direction, port: PortId, held: Held) {
        let octets = octets_held(&held.packet);
        self.octets += octets;
        let line = self.line_mut(direction);
        let queue = line.queues.entry(port).or_default();
        if queue.frames.is_empty() {
            line.heads.push(Reverse((held.due, port)));
        }
        queue.octets += octets;
        queue.frames.push_back(held);
    }

    /// The next frame that is due at `now` and for which `has_room`.
    pub fn release(
        &mut self,
        direction: Direction,
        now: Instant,
        has_room: impl Fn(&Packet) -> bool,
    ) -> Option<(PortId, Held)> {
        let line = self.line_mut(direction);
        let Reverse((_, port)) = *line.heads.peek().filter(|Reverse((due, _))| *due <= now)?;
        let queue = line.queues.get_mut(&port)?;
        if !queue.frames.front().is_some_and(|held| has_room(&held.packet)) {
            return None;
        }
        let held = queue.frames.pop_front()?;
        let octets = octets_held(&held.packet);
        queue.octets -= octets;
        line.heads.pop();
        if let Some(next) = queue.frames.front() {
            line.heads.push(Reverse((next.due, port)));
        }
        self.octets -= octets;
        Some((port, held))
    }

    /// Takes note of another picture: what waits for ports that are gone is dropped.
    pub fn adopt(&mut self, config: &Config, previous: &Config, worker: usize) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let line = self.line_mut(direction);
            let (mut freed, mut changed) = (0, false);
            line.queues.retain(|id, queue| {
                let Some(port) = config.port(*id) else {
                    freed += queue.octets;
                    if let Some(gone) = previous.port(*id) {
                        queue.drop_all(gone, worker);
                    }
                    return false;
                };
                queue.stale |= previous.port(*id).is_some_and(|old| !is_same_rate(old, port, direction));
                changed |= queue.stale;
                !queue.frames.is_empty()
            });
            line.list_heads();
            self.octets -= freed;
            self.changed |= changed;
        }
    }

    /// Whether [`Waiting::reschedule`] is due.
    #[inline]
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Gives what waits for rates that have changed its time by the new ones: never later than before.
    pub fn reschedule(&mut self, config: &Config, now: Instant) {
        self.changed = false;
        for direction in [Direction::Ingress, Direction::Egress] {
            let line = self.line_mut(direction);
            for (id, queue) in line.queues.iter_mut().filter(|(_, queue)| queue.stale) {
                queue.stale = false;
                let bucket = config.port(*id).and_then(|port| port.rate(direction));
                for held in &mut queue.frames {
                    let octets = octets_on_wire(&held.packet, held.tag);
                    held.due = bucket.map_or(now, |bucket| bucket.readmit(now, octets, held.due));
                }
            }
            line.list_heads();
        }
    }

    fn line(&self, direction: Direction) -> &Line {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    fn line_mut(&mut self, direction: Direction) -> &mut Line {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Octets of the buffers of all that waits.
    #[cfg(test)]
    pub fn octets(&self) -> usize {
        self.octets
    }
}

impl Line {
    fn poll_at(&self) -> Option<Instant> {
        self.heads.peek().map(|Reverse((due, _))| *due)
    }

    fn list_heads(&mut self) {
        let heads = self.queues.iter().filter_map(|(port, queue)| Some((queue.frames.front()?.due, *port)));
        self.heads = heads.map(Reverse).collect();
    }
}

impl Queue {
    fn drop_all(&mut self, port: &Port, worker: usize) {
        let counters = port.counters(worker);
        self.frames.drain(..).for_each(|_| counters.drop(DropReason::PortDown));
    }
}

fn is_same_rate(old: &Port, new: &Port, direction: Direction) -> bool {
    match (old.rate(direction), new.rate(direction)) {
        (Some(old), Some(new)) => std::sync::Arc::ptr_eq(old, new),
        (old, new) => old.is_none() && new.is_none(),
    }
}

/// Octets of the buffer in which a packet waits.
pub(super) fn octets_held(packet: &Packet) -> usize {
    packet.size().map_or(0, octets_of)
}
