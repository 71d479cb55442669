//! Segmentation: cuts a super-packet for ports that cannot take it whole.

use std::ops::Range;

use super::egress::Delivery;
use super::fragment;
use crate::batch::Origin;
use crate::offload::segment::Segments;
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::trace::step;
use crate::verdict::DropReason;

/// Makes the segments of a super-packet, all or none, with partial checksums; tells which of the packets
/// that the stack made they are.
pub(crate) fn cut(cx: &mut Context, packet: &Packet) -> Result<Range<usize>, DropReason> {
    let segments = Segments::of(packet).ok_or(DropReason::OffloadInvalid)?;
    let count = segments.count();
    if !cx.output.has_room(count, segments.longest()) {
        return Err(DropReason::BuffersExhausted);
    }
    let first = cx.output.made().len();
    for position in 0..count {
        let (_, segment) = cx.output.make_for(segments.longest());
        segments.write(position, segment);
    }
    step!(cx, "segment", "cut into {count} segments for a device that does not take the super-packet");
    cx.counters.segments_made.add(count as u64);
    Ok(first..first + count)
}

/// Sends a super-packet, already rewritten and without DF, whose segments are too large themselves: as
/// fragments of these of at most `mtu` octets.
pub(crate) fn fragment(cx: &mut Context, packet: &Packet, mtu: usize, delivery: &Delivery) {
    let Some(segments) = Segments::of(packet) else { return };
    let mut segment = Packet::for_frames_of(segments.longest());
    for position in 0..segments.count() {
        segments.write(position, &mut segment);
        fragment::split(cx, &mut segment, mtu, delivery);
    }
    cx.counters.segments_made.add(segments.count() as u64);
}

/// The packets of a range that [`cut`] gave.
pub(crate) fn origins(range: Range<usize>) -> impl Iterator<Item = Origin> {
    range.map(Origin::Made)
}
