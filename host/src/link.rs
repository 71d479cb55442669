//! Links, addresses and routes, by netlink: what there is, and changing it.
//!
//! [`Netlink`] works in the namespace that the thread was in when it was opened, wherever the thread goes
//! later.

use std::net::IpAddr;

pub use transaction::Netlink;
pub(crate) use transaction::{
    BUFFER_LENGTH, DUMP_ATTEMPTS, Failure, HEADER_LENGTH, Wish, answers, connected, part, receive, split,
};

use crate::netns::NetNs;

mod address;
pub(crate) mod decode;
mod device;
mod queueing;
mod route;
#[cfg(test)]
mod tests;
mod transaction;

/// What Weft's routes carry in their protocol field, so that they are told from everybody else's.
pub const ROUTE_PROTOCOL_WEFT: u8 = 87;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Unique in its namespace, from 1.
    pub index: u32,
    /// Unique in its namespace, 1 to 15 bytes.
    pub name: String,
    /// Its MAC address; `None` when its hardware addresses are not of six octets.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// Transmit queue length in packets.
    pub txqueuelen: u32,
    /// Octets of the longest super-packet that it is given to send; `None`: the kernel does not say.
    pub gso_max_size: Option<u32>,
    /// Set up by its administrator.
    pub up: bool,
    /// Connected: a TAP that somebody has open, a veth whose other end is up.
    pub carrier: bool,
    /// Free text; Weft's mark.
    pub alias: Option<String>,
    /// "tun" (for TAPs too), "veth", "bridge", …; `None` for a physical device.
    pub kind: Option<String>,
    /// Index of a veth's other end, in that end's namespace; of a device that is made on top of another, such
    /// as a VLAN, that of the lower one.
    pub peer_index: Option<u32>,
    /// Index of the bridge, bond or team that it is a port of.
    pub master_index: Option<u32>,
    /// The number of the other end's namespace when it is another one; -1 when it has none assigned.
    pub peer_netns_id: Option<i32>,
}

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// The device's index.
    pub index: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Leading bits of the on-link prefix.
    pub prefix_length: u8,
    /// Set by hand, with no lifetime. The kernel's own link-local addresses are permanent too.
    pub permanent: bool,
    /// Not usable yet: duplicate address detection is running (or has failed).
    pub tentative: bool,
    /// Of global scope; false for link-local addresses and 127.0.0.0/8 and ::1.
    pub global: bool,
}

impl Address {
    /// Whether this is an IPv6 link-local address (RFC 4291 section 2.5.6), such as the kernel makes by
    /// itself.
    pub fn is_link_local(&self) -> bool {
        matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local())
    }
}

/// A unicast route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Destination: first address and leading bits.
    pub prefix: (IpAddr, u8),
    /// Next hop; `None` when the destination is on-link, or there are several next hops.
    pub via: Option<IpAddr>,
    /// The device's index; `None` when there are several next hops.
    pub index: Option<u32>,
    /// Who made it: [`ROUTE_PROTOCOL_WEFT`], 2 for the kernel, …
    pub protocol: u8,
    /// Lower is better. For an IPv6 route that is added with `None` the kernel reports 1024; with `None`,
    /// removal takes any metric.
    pub metric: Option<u32>,
    /// `via` is a neighbour on `index` though no prefix says so.
    pub onlink: bool,
}

/// A veth pair: this end in the namespace of the [`Netlink`], the other in `peer_netns`.
#[derive(Debug, Clone, Copy)]
pub struct VethSpec<'a> {
    /// Name of this end.
    pub name: &'a str,
    /// MAC address of this end; `None` takes a random one.
    pub mac: Option<[u8; 6]>,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// MAC address of the other end; `None` takes a random one.
    pub peer_mac: Option<[u8; 6]>,
    /// Where the other end appears.
    pub peer_netns: &'a NetNs,
    /// Largest IP packet in octets, of both ends.
    pub mtu: u32,
    /// Transmit queue length in packets, of both ends.
    pub txqueuelen: u32,
}

/// A change of a device; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Its name.
    pub name: Option<String>,
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet in octets.
    pub mtu: Option<u32>,
    /// Transmit queue length in packets.
    pub txqueuelen: Option<u32>,
    /// Octets of the longest super-packet that it is given to send, 65,536 by default. What local TCP makes is a little
    /// shorter, by room for headers.
    pub gso_max_size: Option<u32>,
    /// Free text of at most 255 bytes; empty takes it away.
    pub alias: Option<String>,
    /// The number of a group that can be removed at once; 0 is that of devices without one.
    pub group: Option<u32>,
    /// Up or down.
    pub up: Option<bool>,
}
