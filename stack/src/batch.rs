//! Packets in and packets out: the buffers that one round of a worker uses.
//!
//! A worker fills a [`Batch`] from one receive queue, lets the stack process it, carries out the
//! [`Output`]'s sends in order, and calls [`Output::clear`]. Buffers are used again from the first on,
//! so that the ones in use stay in the cache.

use std::ops::Range;

use crate::config::PortId;
use crate::packet::{Packet, SIZES, octets_of, size_for};
use crate::tunnel::datagram::{Datagram, Outbox};
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

    /// Gives the packets behind the first `count` back to the free buffers.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.used = self.used.min(count);
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
#[derive(Debug)]
pub struct Output {
    made: Vec<Packet>,
    /// Octets of the buffers of `made`.
    octets: usize,
    /// Buffers that nobody uses now, by size.
    spare: [Vec<Packet>; SIZES],
    /// Takes in what there was no buffer for; it is never sent.
    void: Packet,
    sends: Vec<Send>,
    pub(crate) outbox: Outbox,
    unsent: Vec<Unsent>,
}

/// Packets that were made in vain: by which port they were to leave, and how many.
pub(crate) type Unsent = (PortId, u64);

/// Octets of the buffers that the stack may fill in one round. A round of 64 super-packets of 64 KiB, cut into
/// segments for an MTU of 1,500, fits; so does a round of 96 KiB, cut into segments of 16 octets.
const ROUND_OCTETS: usize = 16 * 1024 * 1024;

/// How many buffers of each size are kept for later rounds: 1.4 MiB at most.
const KEEP: [usize; SIZES] = [256, 32, 4];

/// What [`Origin::Made`] says of a packet for which there was no buffer.
const VOID: usize = usize::MAX;

impl Default for Output {
    fn default() -> Self {
        Output {
            made: Vec::new(),
            octets: 0,
            spare: Default::default(),
            void: Packet::hollow(),
            sends: Vec::new(),
            outbox: Outbox::default(),
            unsent: Vec::new(),
        }
    }
}

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
        &self.made
    }

    /// What to send by sockets of the node, in this order.
    pub fn datagrams(&self) -> &[Datagram] {
        self.outbox.datagrams()
    }

    /// Whether some of these are to be given numbers first, by [`Stack::number`](crate::Stack::number).
    pub fn has_numbered(&self) -> bool {
        self.outbox.has_numbered()
    }

    /// The octets of one of these.
    pub fn octets(&self, datagram: &Datagram) -> &[u8] {
        self.outbox.octets(datagram)
    }

    /// Keeps a send at this position, which is that of one that was looked at before.
    pub(crate) fn keep_send(&mut self, position: usize, send: Send) {
        self.sends[position] = send;
    }

    /// Forgets the sends from this position on.
    pub(crate) fn truncate_sends(&mut self, length: usize) {
        self.sends.truncate(length);
    }

    /// Takes out a packet that the stack made; [`Output::put`] it back.
    pub(crate) fn take_made(&mut self, origin: Origin) -> Packet {
        std::mem::replace(self.made_packet_mut(origin), Packet::hollow())
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
            Origin::Made(_) => self.made_packet(send.origin),
        }
    }

    /// A packet that the stack made; the batch has the received ones.
    pub(crate) fn made_packet(&self, origin: Origin) -> &Packet {
        match origin {
            Origin::Made(index) | Origin::Received(index) => self.made.get(index).unwrap_or(&self.void),
        }
    }

    /// The same, to change.
    pub(crate) fn made_packet_mut(&mut self, origin: Origin) -> &mut Packet {
        match origin {
            Origin::Made(index) | Origin::Received(index) => {
                self.made.get_mut(index).unwrap_or(&mut self.void)
            }
        }
    }

    /// Forgets everything that was to be sent; the buffers stay, up to a number.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.outbox.clear();
        self.unsent.clear();
        self.octets = 0;
        // The first ones are used first in the next round, too: they may still be in the cache.
        for packet in self.made.drain(..).rev() {
            if let Some(size) = packet.size()
                && self.spare[size].len() < KEEP[size]
            {
                self.spare[size].push(packet);
            }
        }
    }

    /// Notes that a packet is to leave by a port. One for which there was no buffer is only counted.
    pub(crate) fn push(&mut self, origin: Origin, port: PortId, tag: Option<Tci>) {
        if origin != Origin::Made(VOID) {
            self.sends.push(Send { origin, port, tag });
            return;
        }
        match self.unsent.last_mut() {
            Some((last, count)) if *last == port => *count += 1,
            _ => self.unsent.push((port, 1)),
        }
    }

    /// What was not sent for want of buffers since this was asked last.
    pub(crate) fn take_unsent(&mut self) -> std::vec::Drain<'_, Unsent> {
        self.unsent.drain(..)
    }

    /// Whether this round has buffers for `count` more packets of up to `length` octets.
    pub(crate) fn has_room(&self, count: usize, length: usize) -> bool {
        count.saturating_mul(octets_of(size_for(length))) <= ROUND_OCTETS - self.octets
    }

    /// A buffer for a packet of `length` octets that the stack makes, and how to refer to it. It grows if it must.
    /// Where the round has none left, the packet goes nowhere.
    pub(crate) fn make_for(&mut self, length: usize) -> (Origin, &mut Packet) {
        if !self.has_room(1, length) {
            return (Origin::Made(VOID), &mut self.void);
        }
        let size = size_for(length);
        let packet = self.spare[size].pop().unwrap_or_else(|| Packet::for_frames_of(length));
        self.octets += octets_of(size);
        let index = self.made.len();
        self.made.push(packet);
        (Origin::Made(index), &mut self.made[index])
    }

    /// A buffer for a packet of `length` octets that is kept beyond this round, and is none of what the stack sends in
    /// it; [`Output::adopt`] takes it back.
    pub(crate) fn spare_for(&mut self, length: usize) -> Packet {
        self.spare[size_for(length)].pop().unwrap_or_else(|| Packet::for_frames_of(length))
    }

    /// Whether this round takes in a packet that was kept.
    pub(crate) fn has_room_for(&self, packet: &Packet) -> bool {
        packet.size().map_or(0, octets_of) <= ROUND_OCTETS - self.octets
    }

    /// Takes in a packet that was kept, for which there is room, and tells how to refer to it.
    pub(crate) fn adopt(&mut self, packet: Packet) -> Origin {
        self.octets += packet.size().map_or(0, octets_of);
        self.made.push(packet);
        Origin::Made(self.made.len() - 1)
    }

    /// A packet that the stack makes, taken out so that stages can work on it; [`Output::put`] it back.
    pub(crate) fn take(&mut self) -> (Origin, Packet) {
        self.take_for(0)
    }

    /// The same, for a packet of `length` octets.
    pub(crate) fn take_for(&mut self, length: usize) -> (Origin, Packet) {
        let (origin, packet) = self.make_for(length);
        (origin, std::mem::replace(packet, Packet::hollow()))
    }

    /// Puts a packet back to where [`Output::take`] took it from.
    pub(crate) fn put(&mut self, origin: Origin, packet: Packet) {
        *self.made_packet_mut(origin) = packet;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> PortId {
        PortId::new(1, 1)
    }

    #[test]
    fn buffers_are_used_again_from_the_first_on() {
        let mut output = Output::new();
        let first = output.make_for(0).1.frame().as_ptr();
        output.make_for(0);
        output.clear();
        assert_eq!(output.make_for(0).1.frame().as_ptr(), first);
    }

    #[test]
    fn a_round_has_a_bound_and_what_is_beyond_goes_nowhere() {
        let mut output = Output::new();
        let most = ROUND_OCTETS / octets_of(0);
        for _ in 0..most + 10 {
            let (origin, packet) = output.make_for(0);
            packet.reset(60);
            output.push(origin, port(), None);
        }
        assert_eq!((output.made().len(), output.sends().len()), (most, most));
        assert!(!output.has_room(1, 60));
        assert_eq!(output.take_unsent().collect::<Vec<_>>(), [(port(), 10)]);
        let (origin, packet) = output.take();
        output.put(origin, packet);
        output.clear();
        assert!(output.has_room(most, 60));
        assert_eq!(output.spare.iter().map(Vec::len).sum::<usize>(), KEEP[0]);
    }

    #[test]
    fn a_buffer_that_grew_is_kept_with_its_like() {
        let mut output = Output::new();
        output.make_for(0).1.reset(9000);
        output.make_for(60_000).1.reset(60_000);
        output.clear();
        assert_eq!(output.spare.each_ref().map(Vec::len), [0, 1, 1]);
    }
}
