//! WireGuard alone: batches of packets that a session seals, or opens, with what goes with each run of them, as
//! `weft_stack::tunnel::wireguard` tells its users to call it. No sockets, no stages.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use weft_stack::Prefix;
use weft_stack::batch::BATCH;
use weft_stack::config::{WireGuardPeer, WireGuardSpec};
use weft_stack::time::Instant;
use weft_stack::tunnel::wireguard::wire::{DataHeader, HEADER_LENGTH};
use weft_stack::tunnel::wireguard::{
    Device, Event, Inner, Moment, OVERHEAD, PrivateKey, Received, Transmit, padded,
};

use super::Subject;

/// It stands still, so that sessions do not age.
const MOMENT: Moment =
    Moment { now: Instant::from_nanos(1_000_000_000), wall: Duration::from_secs(1_800_000_000) };
const PORT: u16 = 51820;
/// Octets of the largest packet inside.
const MTU: usize = 1420;

/// Two devices with a session between them, and the messages of a batch.
struct Tunnel {
    near: Device,
    far: Device,
    packet: Vec<u8>,
    messages: Vec<Vec<u8>>,
}

/// Seals packets of one size.
pub struct Sealing(Tunnel);

/// Opens messages with packets of one size.
pub struct Opening(Tunnel);

impl Sealing {
    /// Packets of this many octets, with their headers.
    pub fn new(octets: usize) -> Result<Sealing> {
        Tunnel::new(octets).map(Sealing)
    }
}

impl Opening {
    /// Packets of this many octets, with their headers.
    pub fn new(octets: usize) -> Result<Opening> {
        Tunnel::new(octets).map(Opening)
    }
}

impl Subject for Sealing {
    fn fill(&mut self) {
        self.0.fill();
    }

    // Never inlined, so that valgrind finds it.
    #[inline(never)]
    fn process(&mut self) -> Result<()> {
        self.0.seal()
    }
}

impl Subject for Opening {
    fn fill(&mut self) {
        self.0.fill();
        // Whether it could be sealed the opening finds out.
        let _ = self.0.seal();
    }

    // Never inlined, so that valgrind finds it.
    #[inline(never)]
    fn process(&mut self) -> Result<()> {
        self.0.open()
    }
}

impl Tunnel {
    fn new(octets: usize) -> Result<Tunnel> {
        let [near, far] = [device(0)?, device(1)?];
        shake_hands(&near, &far)?;
        let message = vec![0; OVERHEAD + padded(octets, MTU)];
        let packet = packet(octets);
        Ok(Tunnel { near, far, packet, messages: vec![message; BATCH] })
    }

    fn fill(&mut self) {
        for message in &mut self.messages {
            message[HEADER_LENGTH..][..self.packet.len()].copy_from_slice(&self.packet);
        }
    }

    fn seal(&mut self) -> Result<()> {
        let peer = self.near.peer_for(inside(1)).context("the far end is no peer")?;
        let run = peer.reserve(MOMENT.now, BATCH as u32).context("there is no session")?;
        let mut octets = 0;
        for (counter, message) in (run.first_counter..).zip(&mut self.messages) {
            octets += message.len() as u64;
            if run.session.seal(counter, message, self.packet.len()).is_err() {
                bail!("a packet was not sealed");
            }
        }
        peer.sent(MOMENT.now, octets, BATCH as u64);
        Ok(())
    }

    fn open(&mut self) -> Result<()> {
        let receiver = self.messages.first().and_then(|first| DataHeader::receiver_of(first));
        let receiver = receiver.context("no message")?;
        let Ok((peer, session)) = self.far.session(receiver) else { bail!("there is no session") };
        let mut octets = 0;
        for message in &mut self.messages {
            octets += message.len() as u64;
            let Ok(packet) = session.open(MOMENT.now, message) else { bail!("a message was not opened") };
            let Ok(inner) = Inner::parse(&message[packet]) else { bail!("not what was sealed") };
            ensure!(self.far.allows(&peer, inner.source), "a packet from elsewhere");
        }
        let run = Received { source: outside(0), local: outside(1).ip(), octets, packets: BATCH as u64 };
        peer.received(MOMENT.now, &session, run);
        Ok(())
    }
}

/// An end's address outside of the tunnel.
fn outside(end: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, end + 1], PORT))
}

/// An end's address inside of the tunnel.
fn inside(end: u8) -> IpAddr {
    Ipv4Addr::new(198, 18, end, 1).into()
}

fn key(end: u8) -> PrivateKey {
    PrivateKey::new([end + 1; 32])
}

fn device(end: u8) -> Result<Device> {
    let peer = WireGuardPeer {
        keys: vec![key(1 - end).public_key()],
        preshared_key: None,
        endpoint: Some(outside(1 - end)),
        allowed: vec![Prefix::containing(inside(1 - end), 24)?],
        keepalive: 0,
    };
    let spec = WireGuardSpec { listen_port: PORT, keys: vec![key(end)], peers: vec![peer] };
    Ok(Device::new(MOMENT.now, &spec, MTU as u32))
}

/// An IPv4 packet with UDP from the near end to the far one.
fn packet(octets: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet[2..4].copy_from_slice(&(octets as u16).to_be_bytes());
    packet.extend([198, 18, 0, 1, 198, 18, 1, 1]);
    packet.resize(octets, 0x5a);
    packet
}

/// A handshake, and the near end's first packet, by which the far end knows that it may answer.
fn shake_hands(near: &Device, far: &Device) -> Result<()> {
    let peer = near.peer_for(inside(1)).context("the far end is no peer")?;
    ensure!(peer.stage(MOMENT.now, &packet(64)).is_ok(), "the first packet cannot wait");
    let mut to_far = sent(near, None)?;
    let initiation = to_far.pop().context("no handshake was begun")?;
    let response = sent(far, Some((&initiation[..], 0)))?.pop().context("the handshake was not answered")?;
    let mut data = sent(near, Some((&response[..], 1)))?.pop().context("the first packet was not sent")?;
    let receiver = DataHeader::receiver_of(&data).context("no message")?;
    let Ok((peer, session)) = far.session(receiver) else { bail!("there is no session") };
    ensure!(session.open(MOMENT.now, &mut data).is_ok(), "the first packet was not opened");
    let run = Received { source: outside(0), local: outside(1).ip(), octets: data.len() as u64, packets: 1 };
    peer.received(MOMENT.now, &session, run);
    Ok(())
}

/// What a device sends when it gets a message from an end, and when its time has come.
fn sent(device: &Device, message: Option<(&[u8], u8)>) -> Result<Vec<Vec<u8>>> {
    let mut events = Vec::new();
    if let Some((message, from)) = message {
        let local = outside(1 - from).ip();
        let taken = device.handle(MOMENT, outside(from), local, message, &mut events);
        ensure!(taken.is_ok(), "a message of the handshake was refused");
    }
    device.poll(MOMENT, &mut events);
    let octets = |event| match event {
        Event::Transmit(Transmit { octets, .. }) => Some(octets),
        Event::Dropped { .. } => None,
    };
    Ok(events.into_iter().filter_map(octets).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_again_and_again() {
        let mut opening = Opening::new(1420).unwrap();
        for _ in 0..3 {
            opening.fill();
            opening.process().unwrap();
        }
        let status = opening.0.far.status();
        assert_eq!(status[0].received_packets, 3 * BATCH as u64 + 1);
        let header = &opening.0.messages[0][HEADER_LENGTH..][..20];
        assert_eq!(header, &packet(1420)[..20]);
    }

    #[test]
    fn a_batch_is_sealed_with_numbers_of_its_own() {
        let mut sealing = Sealing::new(64).unwrap();
        sealing.fill();
        sealing.process().unwrap();
        let counters: Vec<_> =
            sealing.0.messages.iter().map(|message| DataHeader::parse(message).unwrap().counter).collect();
        assert!(counters.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counters:?}");
        assert!(
            sealing
                .0
                .messages
                .iter()
                .all(|message| message[HEADER_LENGTH] != 0x45 || message[16..36] != packet(64)[..20])
        );
    }

    #[test]
    fn a_message_that_was_opened_is_not_opened_again() {
        let mut opening = Opening::new(64).unwrap();
        opening.fill();
        let before = opening.0.messages.clone();
        opening.process().unwrap();
        opening.0.messages = before;
        assert!(opening.process().is_err());
    }
}
