//! Packets in and packets out: the buffers that one round of a worker uses.
//!
//! A worker fills a [`Batch`] from one receive queue, lets the stack process it, carries out the
//! [`Output`]'s sends in order, and calls [`Output::clear`]. Buffers are used again from the first on,
//! so that the ones in use stay in the cache.

use std::ops::Range;

use crate::config::PortId;
use crate::packet::Packet;
use crate::wire::vlan::Tci;

/// The most packets read in one round.
pub const BATCH: usize = 64;

/// Packets that were received in one round.
#[derive(Debug, Default)]
pub struct Batch {
    packets: Vec<Packet>,
    used: usize,
}

impl Batch {
    /// An empty batch; buffers are made as they are needed.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// The packets in it.
    pub fn packets(&self) -> &[Packet] {
        &self.packets[..self.used]
    }

    /// The packets in it, to change.
    pub fn packets_mut(&mut self) -> &mut [Packet] {
        &mut self.packets[..self.used]
    }

    /// The next free buffer. It is part of the batch once [`Batch::commit`] is called.
    pub fn vacant(&mut self) -> &mut Packet {
        &mut self.vacant_many(1)[0]
    }

    /// The next `count` free buffers.
    pub fn vacant_many(&mut self, count: usize) -> &mut [Packet] {
        let end = self.used + count;
        if self.packets.len() < end {
            self.packets.resize_with(end, Packet::new);
        }
        &mut self.packets[self.used..end]
    }

    /// Takes the next `count` buffers into the batch.
    pub fn commit(&mut self, count: usize) {
        self.used = (self.used + count).min(self.packets.len());
    }

    /// Empties the batch; the buffers stay.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

/// Where the packet of a [`Send`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Position in the batch.
    Received(usize),
    /// Position among the packets that the stack made.
    Made(usize),
}

/// A packet that is to leave by a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    /// Which packet.
    pub origin: Origin,
    /// By which port.
    pub port: PortId,
    /// The VLAN tag that it leaves with.
    pub tag: Option<Tci>,
}

/// What the stack wants sent.
#[derive(Debug, Default)]
pub struct Output {
    made: Vec<Packet>,
    used: usize,
    sends: Vec<Send>,
}

/// Buffers for packets that the stack makes are given back above this number.
const KEEP: usize = 64;

impl Output {
    /// Nothing to send.
    pub fn new() -> Output {
        Output::default()
    }

    /// What to send, in this order.
    pub fn sends(&self) -> &[Send] {
        &self.sends
    }

    /// The packets that the stack made.
    pub fn made(&self) -> &[Packet] {
        &self.made[..self.used]
    }

    /// Makes the packets of these sends ready for their device: VLAN tag and virtio-net header. A packet that
    /// leaves by several ports is one buffer: seal the sends of one port, hand them over, then go on.
    pub fn seal(&mut self, batch: &mut Batch, sends: Range<usize>) {
        for send in &self.sends[sends] {
            let packet = match send.origin {
                Origin::Received(index) => &mut batch.packets_mut()[index],
                Origin::Made(index) => &mut self.made[index],
            };
            packet.dress(send.tag);
            packet.seal();
        }
    }

    /// The packet of a send.
    pub fn packet<'a>(&'a self, batch: &'a Batch, send: &Send) -> &'a Packet {
        match send.origin {
            Origin::Received(index) => &batch.packets()[index],
            Origin::Made(index) => &self.made[index],
        }
    }

    /// A packet that the stack made; the batch has the received ones.
    pub(crate) fn made_packet(&self, origin: Origin) -> &Packet {
        match origin {
            Origin::Made(index) | Origin::Received(index) => &self.made[index],
        }
    }

    /// Forgets everything that was to be sent; the buffers stay, up to a number.
    pub fn clear(&mut self) {
        self.used = 0;
        self.sends.clear();
        self.made.truncate(KEEP);
    }

    pub(crate) fn push(&mut self, origin: Origin, port: PortId, tag: Option<Tci>) {
        self.sends.push(Send { origin, port, tag });
    }

    /// A buffer for a packet that the stack makes, and how to refer to it.
    pub(crate) fn make(&mut self) -> (Origin, &mut Packet) {
        if self.used == self.made.len() {
            self.made.push(Packet::new());
        }
        self.used += 1;
        (Origin::Made(self.used - 1), &mut self.made[self.used - 1])
    }

    /// A packet that the stack makes, taken out so that stages can work on it; [`Output::put`] it back.
    pub(crate) fn take(&mut self) -> (Origin, Packet) {
        let (origin, packet) = self.make();
        (origin, std::mem::replace(packet, Packet::hollow()))
    }

    /// Puts a packet back to where [`Output::take`] took it from.
    pub(crate) fn put(&mut self, origin: Origin, packet: Packet) {
        if let Origin::Made(index) = origin {
            self.made[index] = packet;
        }
    }
}
