//! Storm control: how much of what goes to many a port may send.
//!
//! Frames to groups are looked at before anything is learned from them, those to unknown addresses once the bridge
//! finds that they are. A frame to one known station meets one comparison. What the gateway itself floods is not
//! limited here: its questions have limits of their own.

use super::Frame;
use crate::MacAddr;
use crate::config::{Port, StormLimits};
use crate::limit::SharedBucket;
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::trace::step;
use crate::verdict::DropReason;

/// The limits of one port, shared by the workers that read it.
#[derive(Debug)]
pub(crate) struct Storm {
    limits: StormLimits,
    broadcast: Option<SharedBucket>,
    multicast: Option<SharedBucket>,
    unknown_unicast: Option<SharedBucket>,
}

impl Storm {
    /// `None`: there is nothing to limit.
    pub fn new(limits: StormLimits) -> Option<Storm> {
        let bucket = |rate: Option<u32>| rate.map(|rate| SharedBucket::new(rate, burst(rate)));
        (limits != StormLimits::default()).then(|| Storm {
            limits,
            broadcast: bucket(limits.broadcast),
            multicast: bucket(limits.multicast),
            unknown_unicast: bucket(limits.unknown_unicast),
        })
    }

    /// What it limits to.
    pub fn limits(&self) -> StormLimits {
        self.limits
    }
}

/// What may come at once: a tenth of a second's worth, and what a host sends when it starts.
fn burst(rate: u32) -> u32 {
    (rate / 10).max(10)
}

/// Stops a frame to a group that is one too many.
pub(crate) fn group(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port) -> Result<(), DropReason> {
    let Some(storm) = from.storm.as_deref() else { return Ok(()) };
    let destination = frame.ethernet.destination;
    if !destination.is_multicast() {
        return Ok(());
    }
    if destination == MacAddr::BROADCAST {
        police(cx, packet, storm.broadcast.as_ref(), DropReason::StormBroadcast)
    } else {
        police(cx, packet, storm.multicast.as_ref(), DropReason::StormMulticast)
    }
}

/// Stops a frame to an unknown address that is one too many.
pub(crate) fn unknown_unicast(cx: &mut Context, packet: &Packet, from: &Port) -> Result<(), DropReason> {
    let Some(storm) = from.storm.as_deref() else { return Ok(()) };
    police(cx, packet, storm.unknown_unicast.as_ref(), DropReason::StormUnknownUnicast)
}

fn police(
    cx: &mut Context,
    packet: &Packet,
    bucket: Option<&SharedBucket>,
    reason: DropReason,
) -> Result<(), DropReason> {
    let Some(bucket) = bucket else { return Ok(()) };
    let frames = if cx.dry_run { 0 } else { frames(packet) };
    if bucket.allow(cx.now, frames) {
        return Ok(());
    }
    step!(cx, "bridge", "{}", reason.description());
    Err(reason)
}

/// How many frames it stands for.
fn frames(packet: &Packet) -> u32 {
    let Some(gso) = packet.offload.gso else { return 1 };
    let payload = packet.len().saturating_sub(usize::from(gso.header_length));
    payload.div_ceil(usize::from(gso.size).max(1)).max(1) as u32
}
