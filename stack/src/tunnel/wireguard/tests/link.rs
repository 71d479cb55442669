//! The network between the devices: it delays, loses, doubles and reorders as a test says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::super::session::{OVERHEAD, padded};
use super::super::wire::{DataHeader, HEADER_LENGTH};
use super::super::*;
use crate::Prefix;
use crate::config::{WireGuardPeer, WireGuardSpec};
use crate::time::Instant;

/// Octets of the largest packet inside.
pub const MTU: u32 = 1420;

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Late(Duration),
    Twice,
}

/// A datagram on its way.
#[derive(Debug, Clone)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub tos: u8,
    pub octets: Vec<u8>,
}

impl Datagram {
    pub fn kind(&self) -> Kind {
        Kind::of(&self.octets).unwrap()
    }
}

/// A device and its surroundings.
pub struct Node {
    pub device: Device,
    pub address: SocketAddr,
    /// The packets that came out of the tunnel.
    pub received: Vec<Vec<u8>>,
    pub refusals: Vec<Refusal>,
    /// The clock on its wall, as it is to the true time.
    pub wall: fn(Duration) -> Duration,
}

/// Says what becomes of a datagram; `None`: it arrives after the usual time.
type Decision = Box<dyn FnMut(&Datagram) -> Option<Fate>>;

/// The network.
pub struct Net {
    pub now: Instant,
    pub nodes: Vec<Node>,
    /// Everything that was sent.
    pub sent: Vec<(Instant, Datagram)>,
    pub latency: Duration,
    fate: Decision,
    underway: BTreeMap<(Instant, u64), Datagram>,
    order: u64,
}

pub fn private(seed: u8) -> PrivateKey {
    PrivateKey::new([seed; 32])
}

/// The address of a node.
pub fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, node as u8 + 1], 51820))
}

/// The address inside of a node's tunnel.
pub fn inner(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, node as u8, 1)
}

pub fn prefix(node: usize) -> Prefix {
    Prefix::new(Ipv4Addr::new(198, 18, node as u8, 0).into(), 24).unwrap()
}

/// A peer with the key of this seed, which is this node.
pub fn peer(seed: u8, node: usize) -> WireGuardPeer {
    WireGuardPeer {
        keys: vec![private(seed).public_key()],
        preshared_key: None,
        endpoint: Some(address(node)),
        allowed: vec![prefix(node)],
        keepalive: 0,
    }
}

pub fn spec(seed: u8, peers: Vec<WireGuardPeer>) -> WireGuardSpec {
    WireGuardSpec { listen_port: 51820, keys: vec![private(seed)], peers }
}

/// An IPv4 packet of these octets, from one address to another.
pub fn packet_between(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

pub fn packet(from: usize, to: usize, payload: &[u8]) -> Vec<u8> {
    packet_between(inner(from), inner(to), payload)
}

impl Net {
    pub fn new(specs: impl IntoIterator<Item = WireGuardSpec>) -> Net {
        let now = Instant::from_nanos(1_000_000_000_000);
        let node = |(number, spec)| Node {
            device: Device::new(now, &spec, MTU),
            address: address(number),
            received: Vec::new(),
            refusals: Vec::new(),
            wall: |time| time,
        };
        Net {
            now,
            nodes: specs.into_iter().enumerate().map(node).collect(),
            sent: Vec::new(),
            latency: Duration::from_millis(10),
            fate: Box::new(|_| None),
            underway: BTreeMap::new(),
            order: 0,
        }
    }

    /// Two nodes that are each other's peer, with the keys of seeds 1 and 2.
    pub fn pair() -> Net {
        Net::new([spec(1, vec![peer(2, 1)]), spec(2, vec![peer(1, 0)])])
    }

    /// What becomes of datagrams from now on.
    pub fn fate(&mut self, fate: impl FnMut(&Datagram) -> Option<Fate> + 'static) {
        self.fate = Box::new(fate);
    }

    /// From now on all arrive.
    pub fn calm(&mut self) {
        self.fate(|_| None);
    }

    pub fn moment(&self, node: usize) -> Moment {
        let time = Duration::from_secs(1_800_000_000) + Duration::from_nanos(self.now.as_nanos());
        Moment { now: self.now, wall: (self.nodes[node].wall)(time) }
    }

    pub fn configure(&mut self, node: usize, spec: &WireGuardSpec) -> usize {
        self.nodes[node].device.configure(self.now, spec, MTU)
    }

    fn transmit(&mut self, node: usize, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Transmit(Transmit { destination, tos, octets, .. }) => {
                    let from = self.nodes[node].address;
                    self.carry(Datagram { from, to: destination, tos, octets });
                }
                Event::Dropped { refusal, packets } => {
                    self.nodes[node].refusals.extend(vec![refusal; packets]);
                }
            }
        }
    }

    /// Puts a datagram on its way.
    pub fn carry(&mut self, datagram: Datagram) {
        self.sent.push((self.now, datagram.clone()));
        let extra = match (self.fate)(&datagram) {
            Some(Fate::Lost) => return,
            Some(Fate::Late(by)) => by,
            Some(Fate::Twice) => {
                self.deliver_after(self.latency + Duration::from_millis(1), datagram.clone());
                Duration::ZERO
            }
            None => Duration::ZERO,
        };
        self.deliver_after(self.latency + extra, datagram);
    }

    fn deliver_after(&mut self, delay: Duration, datagram: Datagram) {
        self.order += 1;
        self.underway.insert((self.now + delay, self.order), datagram);
    }

    /// A node sends a packet into its tunnel.
    pub fn send(&mut self, node: usize, packet: &[u8]) -> Result<(), Refusal> {
        let destination = Inner::parse(packet)?.destination;
        let device = &self.nodes[node].device;
        let peer = device.peer_for(destination).ok_or(Refusal::NoPeer)?;
        let Some(reservation) = peer.reserve(self.now, 1) else {
            let dropped = peer.stage(self.now, packet)?;
            self.nodes[node].refusals.extend(vec![Refusal::StagingFull; dropped]);
            self.poll();
            return Ok(());
        };
        let mut slot = vec![0; OVERHEAD + padded(packet.len(), MTU as usize)];
        slot[HEADER_LENGTH..][..packet.len()].copy_from_slice(packet);
        reservation.session.seal(reservation.first_counter, &mut slot, packet.len())?;
        peer.sent(self.now, slot.len() as u64, 1);
        let from = self.nodes[node].address;
        self.carry(Datagram { from, to: reservation.endpoint.remote, tos: 0, octets: slot });
        self.poll();
        Ok(())
    }

    fn arrive(&mut self, node: usize, mut datagram: Datagram) {
        let moment = self.moment(node);
        let mut events = Vec::new();
        let Node { device, address, .. } = &self.nodes[node];
        let result = match Kind::of(&datagram.octets) {
            Some(Kind::Data) => open(device, self.now, address.ip(), &mut datagram),
            _ => device
                .handle(moment, datagram.from, address.ip(), &datagram.octets, &mut events)
                .map(|()| None),
        };
        match result {
            Ok(packet) => self.nodes[node].received.extend(packet),
            Err(refusal) => self.nodes[node].refusals.push(refusal),
        }
        self.transmit(node, events);
    }

    /// Does what is due at this time.
    pub fn poll(&mut self) {
        for node in 0..self.nodes.len() {
            while self.nodes[node].device.poll_at().is_some_and(|at| at <= self.now) {
                let mut events = Vec::new();
                self.nodes[node].device.poll(self.moment(node), &mut events);
                self.transmit(node, events);
            }
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.poll();
            let polls = self.nodes.iter().filter_map(|node| node.device.poll_at());
            let arrivals = self.underway.keys().next().map(|(at, _)| *at);
            let Some(next) = polls.chain(arrivals).min().filter(|next| *next <= end) else { break };
            self.now = next.max(self.now);
            while let Some(entry) = self.underway.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let datagram = entry.remove();
                let to = self.nodes.iter().position(|node| node.address == datagram.to);
                if let Some(node) = to {
                    self.arrive(node, datagram);
                }
            }
        }
        self.now = end;
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// What came out of a node's tunnel since it was asked last: the payloads.
    pub fn payloads(&mut self, node: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.nodes[node].received)
            .into_iter()
            .map(|packet| packet[20..].to_vec())
            .collect()
    }

    /// How many messages of this kind a node has sent.
    pub fn count(&self, node: usize, kind: Kind) -> usize {
        let from = self.nodes[node].address;
        self.sent.iter().filter(|(_, datagram)| datagram.from == from && datagram.kind() == kind).count()
    }

    /// Sends a packet and expects it at the other node within a second.
    pub fn passes(&mut self, from: usize, to: usize) -> bool {
        let payload = self.order.to_be_bytes();
        self.nodes[to].received.clear();
        let sent = self.send(from, &packet(from, to, &payload));
        self.run(Duration::from_secs(1));
        sent.is_ok() && self.payloads(to).iter().any(|other| *other == payload)
    }

    pub fn status(&self, node: usize) -> PeerStatus {
        self.nodes[node].device.status().remove(0)
    }
}

/// Opens a data message and says what was inside, nothing in one that keeps alive.
fn open(
    device: &Device,
    now: Instant,
    local: IpAddr,
    datagram: &mut Datagram,
) -> Result<Option<Vec<u8>>, Refusal> {
    let header = DataHeader::parse(&datagram.octets)?;
    let (peer, session) = device.session(header.receiver)?;
    let range = session.open(now, &mut datagram.octets)?;
    let octets = datagram.octets.len() as u64;
    let received = Received { source: datagram.from, local, octets, packets: u64::from(!range.is_empty()) };
    peer.received(now, &session, received);
    if range.is_empty() {
        return Ok(None);
    }
    let packet = &datagram.octets[range];
    let inner = Inner::parse(packet)?;
    if !device.allows(&peer, inner.source) {
        return Err(Refusal::SourceNotAllowed);
    }
    Ok(Some(packet[..inner.length].to_vec()))
}
