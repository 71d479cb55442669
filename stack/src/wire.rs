//! Protocols: one file each, checked views over bytes. Nothing here keeps state.
//!
//! A `parse` function looks at untrusted bytes, never panics, and answers with a plain struct or
//! with [`Malformed`]. `emit` functions write into buffers that the caller sized by the constants
//! beside them, and panic on shorter ones.

pub mod arp;
pub mod checksum;
pub mod crc32c;
pub mod dhcpv4;
pub mod ethernet;
pub mod gre;
pub mod icmpv4;
pub mod icmpv6;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
pub mod membership;
pub mod mld;
pub mod probe;
pub mod router_advertisement;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod virtio_net;
pub mod vlan;
pub mod vxlan;

/// The bytes are not what the protocol allows; the text says what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Two octets at `at`, in network order. The caller has checked the length.
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four octets at `at`, in network order. The caller has checked the length.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes four octets at `at`, in network order.
pub(crate) fn write_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Writes two octets at `at`, in network order.
pub(crate) fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
