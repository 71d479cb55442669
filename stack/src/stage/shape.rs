//! Shaping: keeps a port to the rates of `spec.bandwidth`, in both directions as its device sees them.
//!
//! What a device sends is looked at as it came, before all other stages; what it gets when they and the tunnels are
//! done, whoever it is from: another port, the gateway, or a mirror. A frame that may go now goes on as it is. Another
//! waits on the worker that has it, behind those of its port that wait there already, and goes on when its time has
//! come. A frame that would wait too long for those before it is dropped.
//!
//! Mirrors' copies are made before a frame waits. A super-packet goes whole.

mod bucket;
mod line;

use std::fmt;

use crate::batch::{Origin, Send};
use crate::config::{Port, PortId};
use crate::counters::Stage;
use crate::packet::{Gso, GsoKind, Packet, octets_of, size_for};
use crate::pipeline::Context;
use crate::time::Instant;
use crate::trace::step;
use crate::verdict::{DropReason, Verdict};
use crate::wire::udp;
use crate::wire::vlan::{TAG_LENGTH, Tci};

use bucket::Admission;
pub(crate) use bucket::{Bucket, TooLate};
pub(crate) use line::{Held, Waiting};

/// A direction, as the port's device sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// What it gets.
    Ingress,
    /// What it sends.
    Egress,
}

impl Direction {
    fn full(self) -> DropReason {
        match self {
            Direction::Ingress => DropReason::ShaperIngressFull,
            Direction::Egress => DropReason::ShaperEgressFull,
        }
    }
}

/// More sends of one packet than this are not looked through.
const FEW: usize = 64;

/// Looks at what the device of `from` sent, unless it has waited already. `Some`: it waits now, and its packet is
/// another.
pub(crate) fn received(
    cx: &mut Context,
    packet: &mut Packet,
    from: &Port,
) -> Result<Option<Verdict>, DropReason> {
    match from.egress_rate.as_deref() {
        Some(bucket) if !cx.released => police(cx, packet, from, bucket),
        _ => Ok(None),
    }
}

fn police(
    cx: &mut Context,
    packet: &mut Packet,
    from: &Port,
    bucket: &Bucket,
) -> Result<Option<Verdict>, DropReason> {
    cx.enter(Stage::Shape);
    let octets = octets_on_wire(packet, None);
    if cx.tracer.is_some() {
        tell(cx, bucket, octets, from, Direction::Egress);
    }
    if cx.dry_run {
        let outlook = bucket.outlook(cx.now, octets);
        return outlook.map(|_| None).map_err(|TooLate| DropReason::ShaperEgressFull);
    }
    let Some(due) = admit(cx, bucket, packet.len(), octets, (Direction::Egress, from.id))? else {
        return Ok(None);
    };
    let waiting = if size_for(packet.len()) == size_for(usize::MAX) {
        // Buffers of the batch are of the largest size, and have to stay so.
        std::mem::replace(packet, cx.output.spare_for(packet.len()))
    } else {
        copy(cx, packet)
    };
    cx.state.waiting.hold(Direction::Egress, from.id, Held { due, packet: waiting, tag: None });
    Ok(Some(Verdict::Queued))
}

/// Looks at what is to leave by ports: the sends from number `first` on. `batch` are the packets that were received.
pub(crate) fn sent(cx: &mut Context, batch: &mut [Packet], first: usize) {
    if !cx.config.shapes_sent {
        return;
    }
    let mut kept = first;
    for position in first..cx.output.sends().len() {
        let send = cx.output.sends()[position];
        if goes_now(cx, batch, send, kept, position) {
            cx.output.keep_send(kept, send);
            kept += 1;
        }
    }
    cx.output.truncate_sends(kept);
}

/// Whether a send may stay among those of this round, of which the first `kept` and those behind `position` do.
fn goes_now(cx: &mut Context, batch: &mut [Packet], send: Send, kept: usize, position: usize) -> bool {
    let config = cx.config;
    let Some(port) = config.port(send.port) else { return true };
    let Some(bucket) = port.ingress_rate.as_deref() else { return true };
    cx.enter(Stage::Shape);
    let packet = match send.origin {
        Origin::Received(index) => &batch[index],
        Origin::Made(_) => cx.output.made_packet(send.origin),
    };
    let (length, octets) = (packet.len(), octets_on_wire(packet, send.tag));
    match admit(cx, bucket, length, octets, (Direction::Ingress, port.id)) {
        Ok(None) => true,
        Ok(Some(due)) => {
            let packet = take(cx, batch, send.origin, kept, position);
            cx.state.waiting.hold(Direction::Ingress, port.id, Held { due, packet, tag: send.tag });
            false
        }
        Err(reason) => {
            cx.count_drop(port, reason);
            false
        }
    }
}

/// Asks the bucket about a frame of `length` octets that counts as `octets`. `Some`: it has to wait until then.
fn admit(
    cx: &mut Context,
    bucket: &Bucket,
    length: usize,
    octets: u64,
    (direction, port): (Direction, PortId),
) -> Result<Option<Instant>, DropReason> {
    let waiting = &cx.state.waiting;
    let has_room = waiting.has_room(direction, port, octets_of(size_for(length)));
    let is_behind = waiting.is_waiting(direction, port);
    match bucket.admit(cx.now, octets, has_room, is_behind) {
        Admission::At(due) if due <= cx.now && !is_behind => Ok(None),
        Admission::At(due) => {
            cx.counters.packets_shaped.add(1);
            Ok(Some(due))
        }
        Admission::Full => Err(direction.full()),
        Admission::NoRoom => Err(DropReason::ShaperBuffersExhausted),
    }
}

/// The packet of a send that has to wait, or a copy of it where it leaves by another port as well.
fn take(cx: &mut Context, batch: &mut [Packet], origin: Origin, kept: usize, position: usize) -> Packet {
    let sends = cx.output.sends();
    let others = || sends[..kept].iter().chain(&sends[position + 1..]);
    let is_alone = sends.len() <= FEW && others().all(|other| other.origin != origin);
    match origin {
        Origin::Made(_) if is_alone => cx.output.take_made(origin),
        Origin::Made(_) => {
            let packet = cx.output.take_made(origin);
            let copied = copy(cx, &packet);
            cx.output.put(origin, packet);
            copied
        }
        Origin::Received(index) => {
            let packet = &mut batch[index];
            if is_alone && size_for(packet.len()) == size_for(usize::MAX) {
                std::mem::replace(packet, cx.output.spare_for(packet.len()))
            } else {
                copy(cx, packet)
            }
        }
    }
}

fn copy(cx: &mut Context, packet: &Packet) -> Packet {
    let mut copy = cx.output.spare_for(packet.len());
    copy.set_frame(packet.frame());
    copy.offload = packet.offload;
    copy
}

/// The next frame that has waited for its time, and by which port it came: it is to go through the other stages.
pub(crate) fn release_received(cx: &mut Context) -> Option<(PortId, Origin)> {
    let (port, held) = release(cx, Direction::Egress)?;
    Some((port, cx.output.adopt(held.packet)))
}

/// Sends the next frame that has waited for its time; whether there was one.
pub(crate) fn release_sent(cx: &mut Context) -> bool {
    let Some((port, held)) = release(cx, Direction::Ingress) else { return false };
    let origin = cx.output.adopt(held.packet);
    cx.output.push(origin, port, held.tag);
    true
}

fn release(cx: &mut Context, direction: Direction) -> Option<(PortId, Held)> {
    let output = &*cx.output;
    cx.state.waiting.release(direction, cx.now, |packet| output.has_room_for(packet))
}

/// Tells who follows `packet` when it leaves by ports that get no more than so much: the sends from number `first` on.
/// `Some`: it does not, and why.
pub(crate) fn foretell(
    cx: &mut Context,
    packet: &Packet,
    origin: Origin,
    first: usize,
) -> Option<DropReason> {
    let (config, mut told, mut leaves) = (cx.config, None, false);
    for position in first..cx.output.sends().len() {
        let send = cx.output.sends()[position];
        let shaped = config.port(send.port).and_then(|port| Some((port, port.ingress_rate.as_deref()?)));
        let Some((port, bucket)) = shaped else {
            leaves = true;
            continue;
        };
        let sent = if send.origin == origin { packet } else { cx.output.made_packet(send.origin) };
        let octets = octets_on_wire(sent, send.tag);
        leaves |= bucket.outlook(cx.now, octets).is_ok();
        // Segments of one packet are in order.
        if told.replace(port.id) != Some(port.id) {
            tell(cx, bucket, octets, port, Direction::Ingress);
        }
    }
    told.filter(|_| !leaves).map(|_| DropReason::ShaperIngressFull)
}

fn tell(cx: &mut Context, bucket: &Bucket, octets: u64, port: &Port, direction: Direction) {
    let rate = Speed(bucket.spec().bits_per_second);
    let what = match direction {
        Direction::Ingress => "gets",
        Direction::Egress => "sends",
    };
    match bucket.outlook(cx.now, octets) {
        Ok(due) if due <= cx.now => step!(cx, "shape", "port {} {what} it at once: within {rate}", port.name),
        Ok(due) => {
            step!(cx, "shape", "port {} {what} it in {:?}: above {rate}", port.name, due.since(cx.now));
        }
        Err(TooLate) => step!(cx, "shape", "port {} has too much waiting for {rate}", port.name),
    }
}

/// Octets of the Ethernet frames that a packet stands for, on the wire with this tag.
fn octets_on_wire(packet: &Packet, tag: Option<Tci>) -> u64 {
    let length = packet.len() as u64;
    let tag = tag.map_or(0, |_| TAG_LENGTH as u64);
    let Some(gso) = packet.offload.gso else { return length + tag };
    let headers = headers(packet, gso).min(length);
    let frames = (length - headers).div_ceil(u64::from(gso.size).max(1)).max(1);
    length + tag + (frames - 1) * (headers + tag)
}

/// Octets of the headers of each segment. What a device says of them is not believed: they are measured from where the
/// checksum starts, which is checked later, and nothing goes on that lied about it.
fn headers(packet: &Packet, gso: Gso) -> u64 {
    const WORDS: usize = 12;
    let Some(checksum) = packet.offload.checksum else { return gso.header_length.into() };
    let start = usize::from(checksum.start);
    let own = match gso.kind {
        GsoKind::Udp => udp::HEADER_LENGTH as u64,
        GsoKind::TcpV4 | GsoKind::TcpV6 => {
            packet.frame().get(start + WORDS).map_or(0, |words| u64::from(words >> 4) * 4)
        }
    };
    start as u64 + own
}

/// Bits a second, as people say them.
struct Speed(u64);

impl fmt::Display for Speed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [
            (1_000_000_000_000, "Tbit/s"),
            (1_000_000_000, "Gbit/s"),
            (1_000_000, "Mbit/s"),
            (1_000, "kbit/s"),
        ];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => write!(formatter, "{} {name}", self.0 as f64 / *unit as f64),
            None => write!(formatter, "{} bit/s", self.0),
        }
    }
}
