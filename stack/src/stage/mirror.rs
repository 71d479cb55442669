//! Mirroring: copies of a port's frames go to another port, which gets nothing else.
//!
//! A copy is what was on the wire: the frame as the device sent it or is to get it, VLAN tag included, whatever becomes
//! of the frame itself. The original is rewritten on its way, so the copy has a buffer of its own; where there is none,
//! it is counted and left out. A mirrored port cannot be a destination, so there is no copy of a copy, and no loop.

use super::{Frame, egress, ingress};
use crate::batch::Origin;
use crate::config::{Port, PortId};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::wire::vlan::{self, Tci};

/// Who watches a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub to: PortId,
    /// What the device sends is copied.
    pub received: bool,
    /// What the device gets is copied.
    pub sent: bool,
}

/// Copies what came in at `from`, before anything else happens to it.
pub(crate) fn received(cx: &mut Context, packets: &[Packet], from: &Port) {
    let Some(mirror) = from.mirror.filter(|mirror| mirror.received) else { return };
    for packet in packets {
        let Some((origin, mut copy)) = buffer(cx, packet.len()) else { continue };
        duplicate(packet, &mut copy);
        let tag = trust(&mut copy, packet, from);
        send(cx, copy, origin, mirror.to, tag);
    }
}

/// Copies what is to leave by mirrored ports: the sends from number `first` on. `received` are the packets of the batch.
pub(crate) fn sent(cx: &mut Context, received: &[Packet], first: usize) {
    if !cx.config.mirrors_sent {
        return;
    }
    for position in first..cx.output.sends().len() {
        let leaving = cx.output.sends()[position];
        let mirror = cx.config.port(leaving.port).and_then(|port| port.mirror);
        let Some(mirror) = mirror.filter(|mirror| mirror.sent) else { continue };
        let length = original(cx, received, leaving.origin).len();
        let Some((origin, mut copy)) = buffer(cx, length) else { continue };
        duplicate(original(cx, received, leaving.origin), &mut copy);
        send(cx, copy, origin, mirror.to, leaving.tag);
    }
}

fn original<'a>(cx: &'a Context, received: &'a [Packet], origin: Origin) -> &'a Packet {
    match origin {
        Origin::Received(index) => &received[index],
        Origin::Made(_) => cx.output.made_packet(origin),
    }
}

fn buffer(cx: &mut Context, length: usize) -> Option<(Origin, Packet)> {
    if cx.output.has_room(1, length) {
        return Some(cx.output.take_for(length));
    }
    cx.counters.mirror_lost.add(1);
    None
}

fn duplicate(packet: &Packet, copy: &mut Packet) {
    copy.set_frame(packet.frame());
    copy.offload = packet.offload;
}

/// Sees to it that the offload state of a copy of `packet`, which came in at `from`, is true: what contradicts the
/// frame is left out, since the destination's device would trip over it. The answer: the tag that was taken off.
fn trust(copy: &mut Packet, packet: &Packet, from: &Port) -> Option<Tci> {
    if ingress::check_frame(copy, from, &mut Frame::default()).is_err() {
        copy.set_frame(packet.frame());
        return None;
    }
    vlan::outer(packet.frame()).filter(|_| copy.len() < packet.len())
}

fn send(cx: &mut Context, mut copy: Packet, origin: Origin, to: PortId, tag: Option<Tci>) {
    let config = cx.config;
    let to = config.port(to);
    let sent = to.is_some_and(|to| egress::send(cx, &mut copy, origin, (to, tag), &mut None).is_ok());
    cx.counters.mirror_lost.add(u64::from(!sent));
    cx.output.put(origin, copy);
}
