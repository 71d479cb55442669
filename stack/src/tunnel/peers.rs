//! WireGuard as the device of a port: packets are sealed for the peer that has their destination, and what comes from a
//! peer is let in if that has its source.

use std::net::IpAddr;
use std::sync::Arc;

use super::datagram::{Arrival, Heading, Load, Underlay};
use super::ecn;
use super::frames::Frames;
use super::receive::{Inner, Refusal as Refused};
use super::wireguard::wire::{DataHeader, HEADER_LENGTH};
use super::wireguard::{
    self, Device, Event, Kind, Moment, OVERHEAD, Peer, Received, Refusal, Reservation, Session, padded,
};
use crate::config::{Port, PortId};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::stage::L3;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::ethernet;

/// A WireGuard tunnel: its device, and the port that it is.
#[derive(Debug, Clone)]
pub(crate) struct Ward {
    pub device: Arc<Device>,
    pub listen_port: u16,
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> DropReason {
        match refusal {
            Refusal::Malformed => DropReason::TunnelMalformed,
            Refusal::MacInvalid | Refusal::UnknownPeer => DropReason::WireguardPeerUnknown,
            Refusal::HandshakeReplayed | Refusal::Replayed => DropReason::WireguardReplayed,
            Refusal::Flood | Refusal::CookieWanted => DropReason::WireguardFlood,
            Refusal::UnknownIndex | Refusal::KeyExpired => DropReason::WireguardSessionUnknown,
            Refusal::AuthenticationFailed => DropReason::WireguardUnauthentic,
            Refusal::SourceNotAllowed => DropReason::WireguardSourceNotAllowed,
            Refusal::NoPeer => DropReason::WireguardNoPeer,
            Refusal::NoEndpoint => DropReason::WireguardNoEndpoint,
            Refusal::StagingFull => DropReason::WireguardQueueFull,
            Refusal::Unanswered | Refusal::PeerRemoved => DropReason::WireguardUnanswered,
        }
    }
}

/// Seals a packet for its peer, or lets it wait for a session.
pub(super) fn seal(
    cx: &mut Context,
    ward: &Ward,
    packet: &Packet,
    frames: &Frames,
    port: &Port,
) -> Result<(), DropReason> {
    let inner = wireguard::Inner::parse(packet.frame().get(L3..).unwrap_or_default())?;
    let peer = ward.device.peer_for(inner.destination).ok_or(DropReason::WireguardNoPeer)?;
    let count = frames.count() as u32;
    match peer.reserve(cx.now, count) {
        Some(reservation) => {
            step!(cx, "tunnel", "{count} messages sealed for the peer at {}", reservation.endpoint.remote);
            let heading = heading(ward, &reservation.endpoint, ecn::of_frame(packet.frame()), port.id);
            seal_all(cx, frames, (&peer, &reservation), &heading)?;
        }
        None => {
            step!(cx, "tunnel", "no session with the peer: {count} packets wait for one");
            stage_all(cx, &peer, frames, port)?;
        }
    }
    Ok(())
}

fn heading(ward: &Ward, endpoint: &wireguard::Endpoint, tos: u8, port: PortId) -> Heading {
    Heading {
        underlay: Underlay::Udp(ward.listen_port),
        destination: endpoint.remote,
        local: endpoint.local,
        tos,
        port,
        entropy: None,
        numbered: false,
    }
}

/// Writes and seals every frame's packet where it is sent from, and tells the peer of those that are.
fn seal_all(
    cx: &mut Context,
    frames: &Frames,
    (peer, reservation): (&Peer, &Reservation),
    heading: &Heading,
) -> Result<(), DropReason> {
    let (mut packets, mut octets) = (0, 0);
    // Padding must not make a packet larger than what gets to the far end.
    let mtu = peer.mtu_now(cx.now);
    let mut seal = |position: usize| -> Result<(), DropReason> {
        let length = frames.length(position) - L3;
        let whole = OVERHEAD + padded(length, mtu);
        let load = Load::frame(frames.length(position));
        let slot = cx.output.outbox.add(heading, whole, load).ok_or(DropReason::BuffersExhausted)?;
        frames.write(position, L3, &mut slot[HEADER_LENGTH..HEADER_LENGTH + length]);
        reservation.session.seal(reservation.first_counter + position as u64, slot, length)?;
        (packets, octets) = (packets + 1, octets + whole as u64);
        Ok(())
    };
    let sealed = (0..frames.count()).try_for_each(&mut seal);
    peer.sent(cx.now, octets, packets);
    sealed
}

fn stage_all(cx: &Context, peer: &Arc<Peer>, frames: &Frames, port: &Port) -> Result<(), DropReason> {
    for position in 0..frames.count() {
        let mut octets = vec![0; frames.length(position) - L3];
        frames.write(position, L3, &mut octets);
        let gone = peer.stage(cx.now, &octets)?;
        (0..gone).for_each(|_| port.counters(cx.worker).drop(DropReason::WireguardQueueFull));
    }
    Ok(())
}

/// Messages of one session that came one after the other.
#[derive(Debug, Default)]
pub(super) struct Run(Option<(u32, Arc<Peer>, Arc<Session>, Received)>);

impl Run {
    /// The session of a message, and the run that it goes on.
    fn session(&mut self, cx: &Context, ward: &Ward, receiver: u32) -> Result<(), Refusal> {
        if self.0.as_ref().is_some_and(|(index, ..)| *index == receiver) {
            return Ok(());
        }
        self.end(cx);
        let (peer, session) = ward.device.session(receiver)?;
        let nobody = Received {
            source: std::net::SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0),
            local: std::net::Ipv4Addr::UNSPECIFIED.into(),
            octets: 0,
            packets: 0,
        };
        self.0 = Some((receiver, peer, session, nobody));
        Ok(())
    }

    /// Tells the peer of the messages that were opened.
    pub fn end(&mut self, cx: &Context) {
        if let Some((_, peer, session, received)) = self.0.take().filter(|(.., received)| received.octets > 0)
        {
            peer.received(cx.now, &session, received);
        }
    }
}

/// Opens a message, or takes in one of a handshake.
pub(super) fn open(
    cx: &mut Context,
    ward: &Ward,
    port: PortId,
    run: &mut Run,
    arrival: &Arrival,
    message: &mut [u8],
) -> Result<Inner, Refused> {
    let refused = |refusal: Refusal| Refused::Dropped(port, refusal.into());
    match Kind::of(message) {
        Some(Kind::Data) => {
            open_data(cx, ward, port, run, arrival, message).map_err(refused)?.ok_or(Refused::Done)
        }
        Some(_) => {
            let moment = Moment { now: cx.now, wall: cx.wall };
            let mut events = std::mem::take(&mut cx.state.events);
            let handled = ward.device.handle(moment, arrival.source, arrival.local, message, &mut events);
            cx.state.events = events;
            carry_out(cx, ward, port);
            Err(handled.err().map_or(Refused::Done, refused))
        }
        None => Err(refused(Refusal::Malformed)),
    }
}

/// What is in a data message; `None`: nothing, it keeps alive.
fn open_data(
    cx: &Context,
    ward: &Ward,
    port: PortId,
    run: &mut Run,
    arrival: &Arrival,
    message: &mut [u8],
) -> Result<Option<Inner>, Refusal> {
    let header = DataHeader::parse(message)?;
    run.session(cx, ward, header.receiver)?;
    let Some((_, peer, session, received)) = &mut run.0 else { return Err(Refusal::UnknownIndex) };
    let whole = message.len() as u64;
    let opened = session.open(cx.now, message)?;
    received.source = arrival.source;
    received.local = arrival.local;
    received.octets += whole;
    if opened.is_empty() {
        return Ok(None);
    }
    received.packets += 1;
    let inner = wireguard::Inner::parse(&message[opened.clone()])?;
    if !ward.device.allows(peer, inner.source) {
        return Err(Refusal::SourceNotAllowed);
    }
    let ethertype = match inner.source {
        IpAddr::V4(_) => ethernet::IPV4,
        IpAddr::V6(_) => ethernet::IPV6,
    };
    let octets = opened.start..opened.start + inner.length;
    Ok(Some(Inner { port, octets, packet: Some(ethertype), sealed: true }))
}

/// Does what is due for a tunnel's peers.
pub(crate) fn poll(cx: &mut Context, ward: &Ward, port: PortId) {
    let moment = Moment { now: cx.now, wall: cx.wall };
    let mut events = std::mem::take(&mut cx.state.events);
    ward.device.poll(moment, &mut events);
    cx.state.events = events;
    carry_out(cx, ward, port);
}

/// Sends what the protocol wants sent, and counts what it gave up.
fn carry_out(cx: &mut Context, ward: &Ward, port: PortId) {
    let mut events = std::mem::take(&mut cx.state.events);
    for event in events.drain(..) {
        match event {
            Event::Transmit(message) => {
                let endpoint = wireguard::Endpoint { remote: message.destination, local: message.local };
                let heading = heading(ward, &endpoint, message.tos, port);
                let load =
                    if message.packet > 0 { Load::frame(L3 + message.packet) } else { Load::default() };
                match (cx.output.outbox.add(&heading, message.octets.len(), load), cx.config.port(port)) {
                    (Some(slot), _) => slot.copy_from_slice(&message.octets),
                    (None, Some(port)) => port.counters(cx.worker).drop(DropReason::BuffersExhausted),
                    (None, None) => {}
                }
            }
            Event::Dropped { refusal, packets } => {
                let Some(port) = cx.config.port(port) else { continue };
                (0..packets).for_each(|_| port.counters(cx.worker).drop(refusal.into()));
            }
        }
    }
    cx.state.events = events;
}
