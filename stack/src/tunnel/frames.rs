//! The frames that a packet stands for, as a tunnel sends them: super-packets cut, checksums complete.

use crate::offload::checksum;
use crate::offload::segment::Segments;
use crate::packet::Packet;
use crate::stage::L3;
use crate::wire::{ethernet, ipv4, ipv6, read_u16};

/// The frames of one packet.
#[derive(Debug)]
pub(crate) enum Frames<'a> {
    One(&'a Packet),
    Several(Segments<'a>),
}

impl<'a> Frames<'a> {
    /// The frames of `packet`, whose checksum is complete unless it is TCP's or UDP's. `None`: its offload state
    /// contradicts it.
    pub fn of(packet: &'a Packet) -> Option<Frames<'a>> {
        match packet.offload.gso {
            None => Some(Frames::One(packet)),
            Some(_) => Segments::of(packet).map(Frames::Several),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Frames::One(_) => 1,
            Frames::Several(segments) => segments.count(),
        }
    }

    /// Octets of the one at this position.
    pub fn length(&self, position: usize) -> usize {
        match self {
            Frames::One(packet) => packet.len(),
            Frames::Several(segments) => segments.length(position),
        }
    }

    /// Writes the one at this position without its first `skipped` octets, which are at most those of its Ethernet
    /// header, into `bytes`, which is as long as that.
    pub fn write(&self, position: usize, skipped: usize, bytes: &mut [u8]) {
        let open = match self {
            Frames::One(packet) => {
                bytes.copy_from_slice(&packet.frame()[skipped..]);
                packet.offload.checksum
            }
            Frames::Several(segments) => {
                segments.write_behind(position, skipped, bytes);
                segments.checksum()
            }
        };
        if let Some(open) = open
            && let Some(transport) = bytes.get_mut(usize::from(open.start) - skipped..)
        {
            checksum::fill(transport, usize::from(open.offset));
        }
    }
}

/// Octets of a frame whose IP packet ends before it does: without the padding. Others are as long as they are.
pub(crate) fn length_without_padding(frame: &[u8]) -> usize {
    let packet = frame.get(L3..).unwrap_or_default();
    let length = match frame.get(..L3).map(|link| read_u16(link, L3 - 2)) {
        Some(ethernet::IPV4) => ipv4::Header::parse(packet).map(|header| header.total_length).ok(),
        Some(ethernet::IPV6) => ipv6::Header::parse(packet).map(|header| header.total_length).ok(),
        _ => None,
    };
    length.map_or(frame.len(), |length| frame.len().min(L3 + length))
}
