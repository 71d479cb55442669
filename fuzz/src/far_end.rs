//! The far end of the fabric's WireGuard tunnel: it knows the keys, and may send anything in what it seals.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use weft_stack::time::Instant;
use weft_stack::tunnel::wireguard::wire::HEADER_LENGTH;
use weft_stack::tunnel::wireguard::{Device, Event, Inner, Kind, Moment, OVERHEAD, padded};

use crate::crossing::wall;
use crate::overlay;
use crate::pair::unseal;

/// Packets that wait to be sealed.
const WAITING: usize = 16;

/// The far end, and what it has to send.
pub struct FarEnd {
    device: Device,
    /// Messages of handshakes, and data that the node is not to let in.
    messages: VecDeque<Vec<u8>>,
    packets: VecDeque<Vec<u8>>,
}

impl FarEnd {
    /// One that has not spoken yet.
    pub fn new(now: Instant) -> FarEnd {
        let device = Device::new(now, &overlay::far_end(), overlay::MTU);
        FarEnd { device, messages: VecDeque::new(), packets: VecDeque::new() }
    }

    /// Has a packet sent, when there is a session.
    pub fn send(&mut self, now: Instant, packet: &[u8]) {
        // The device begins a handshake for an empty packet, which goes as what keeps alive.
        if let Some(peer) = self.device.peer_for(Ipv4Addr::LOCALHOST.into())
            && peer.reserve(now, 0).is_none()
        {
            let _ = peer.stage(now, &[]);
        }
        self.packets.push_back(packet.to_vec());
        self.packets.truncate(WAITING);
    }

    /// Takes in a message of the node. What the node sealed is an IP packet, or nothing.
    pub fn hear(&mut self, now: Instant, mut message: Vec<u8>) {
        let local = overlay::source(3);
        let node = SocketAddr::new(overlay::local(local), overlay::WIREGUARD);
        let kind = Kind::of(&message);
        assert!(kind.is_some(), "{message:02x?} is no message");
        if kind == Some(Kind::Data) {
            // A session that one end forgot is the usual reason for a refusal.
            if let Ok((_, range)) = unseal(&self.device, now, (node, local), &mut message) {
                let inside = &message[range];
                let parsed = Inner::parse(inside);
                assert!(inside.is_empty() || parsed.is_ok(), "sealed, and no packet: {inside:02x?}");
            }
            return;
        }
        let mut events = Vec::new();
        let _ = self.device.handle(moment(now), node, local, &message, &mut events);
        self.note(events);
    }

    fn note(&mut self, events: Vec<Event>) {
        let transmits = events.into_iter().filter_map(|event| match event {
            Event::Transmit(message) => Some(message.octets),
            Event::Dropped { .. } => None,
        });
        self.messages.extend(transmits);
    }

    /// The next message for the node, and whether what is inside may get anywhere.
    pub fn poll(&mut self, now: Instant) -> Option<(Vec<u8>, bool)> {
        if self.device.poll_at().is_some_and(|at| at <= now) {
            let mut events = Vec::new();
            self.device.poll(moment(now), &mut events);
            self.note(events);
        }
        if let Some(message) = self.messages.pop_front() {
            return Some((message, false));
        }
        let peer = self.device.peer_for(Ipv4Addr::LOCALHOST.into())?;
        let packet = self.packets.front()?;
        let reservation = peer.reserve(now, 1)?;
        let mut slot = vec![0; OVERHEAD + padded(packet.len(), overlay::MTU as usize)];
        slot[HEADER_LENGTH..][..packet.len()].copy_from_slice(packet);
        reservation.session.seal(reservation.first_counter, &mut slot, packet.len()).ok()?;
        peer.sent(now, slot.len() as u64, 1);
        let welcome = overlay::may_send(packet);
        self.packets.pop_front();
        Some((slot, welcome))
    }
}

fn moment(now: Instant) -> Moment {
    Moment { now, wall: wall(now) }
}
