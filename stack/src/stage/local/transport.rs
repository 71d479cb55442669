//! TCP and UDP for the gateway: whether a segment or datagram came intact. One that did not is dropped in
//! silence (RFC 9293 section 3.1, RFC 1122 section 4.1.3.4, RFC 8200 section 8.1).

use std::net::IpAddr;

use crate::offload::checksum;
use crate::packet::Packet;
use crate::stage::{Frame, Layer3};
use crate::wire::{ipv4, read_u16, tcp, udp};

/// Whether the transport header is there, its lengths are true, and its checksum is right. Of other
/// protocols nothing is asked.
pub(super) fn is_intact(packet: &Packet, frame: &Frame) -> bool {
    let segment = frame.transport(packet.frame());
    let (protocol, source, destination) = match &frame.network {
        Layer3::Ipv4(ip) => (ip.protocol, IpAddr::V4(ip.source), IpAddr::V4(ip.destination)),
        Layer3::Ipv6(ip) => (ip.protocol, IpAddr::V6(ip.source), IpAddr::V6(ip.destination)),
        Layer3::Arp(_) | Layer3::Other => return true,
    };
    let covered = match protocol {
        ipv4::TCP if tcp::header_length(segment).is_ok() => segment,
        ipv4::UDP if segment.len() >= udp::HEADER_LENGTH => {
            let length = usize::from(read_u16(segment, udp::LENGTH));
            let Some(datagram) = segment.get(..length).filter(|_| length >= udp::HEADER_LENGTH) else {
                return false;
            };
            if source.is_ipv4() && read_u16(segment, udp::CHECKSUM) == 0 {
                return true;
            }
            datagram
        }
        ipv4::TCP | ipv4::UDP => return false,
        _ => return true,
    };
    // What its sender left open is right by definition.
    packet.offload.verified
        || packet.offload.checksum.is_some()
        || checksum::is_valid(source, destination, protocol, covered)
}
