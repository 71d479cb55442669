//! Which flow a packet belongs to, as a number, for the choice between next hops.

use std::hash::{BuildHasher, Hasher};

use std::net::IpAddr;

use foldhash::quality::FixedState;

use crate::packet::Packet;
use crate::stage::{Frame, Layer3};
use crate::wire::ipv4;

/// The flow of what the router itself sends from one address to another.
pub(super) fn of_pair(source: IpAddr, destination: IpAddr, seed: u64) -> u64 {
    FixedState::with_seed(seed).hash_one((source, destination))
}

/// The same for all packets of a flow: addresses, protocol, and the ports of TCP and UDP.
///
/// A fragment has no ports behind the first one, so all fragments go by their addresses alone and arrive
/// by one way. The IPv6 flow label stays out: the ports say as much and more, and a sender may change the
/// label during the life of a flow (Linux does when it sends again), which would move the flow.
pub(super) fn hash(packet: &Packet, frame: &Frame, seed: u64) -> u64 {
    let mut hasher = FixedState::with_seed(seed).build_hasher();
    let (protocol, fragment) = match &frame.network {
        Layer3::Ipv4(header) => {
            hasher.write_u32(header.source.to_bits());
            hasher.write_u32(header.destination.to_bits());
            (header.protocol, header.is_fragment())
        }
        Layer3::Ipv6(header) => {
            hasher.write_u128(header.source.to_bits());
            hasher.write_u128(header.destination.to_bits());
            (header.protocol, header.fragment)
        }
        Layer3::Arp(_) | Layer3::Other => return 0,
    };
    hasher.write_u8(protocol);
    if matches!(protocol, ipv4::TCP | ipv4::UDP) && !fragment {
        hasher.write(frame.transport(packet.frame()).get(..4).unwrap_or_default());
    }
    hasher.finish()
}
