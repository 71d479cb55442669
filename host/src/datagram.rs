//! Datagrams of sockets: what one receives and sends, and the errors that come back.
//!
//! Shared by [`crate::udp`] and [`crate::gre`]. The calls move several datagrams each and allocate nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use libc::c_int;

pub use error::{SocketError, SocketErrorKind};

mod control;
mod error;
mod exchange;
mod name;
mod options;

pub(crate) use error::receive_error;
pub(crate) use exchange::{receive, send};
pub(crate) use name::Name;
pub use options::Family;
pub(crate) use options::{drops, local_port, open};

/// The most datagrams, or runs of them, that one call receives.
pub const MAX_ARRIVALS: usize = 8;

/// The most datagrams, or runs of them, that one call sends.
pub const MAX_MESSAGES: usize = 64;

/// What the kernel may hold in each direction (it doubles this): over a hundred super-packets. Published
/// measurements of WireGuard in userspace gain a quarter by 7 MB.
const SOCKET_BUFFER: c_int = 8 * 1024 * 1024;

/// What is known of what was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it; the port is 0 where the protocol has none.
    pub source: SocketAddr,
    /// The address of this node that it was sent to.
    pub local: IpAddr,
    /// The IPv4 TOS or IPv6 traffic class.
    pub tos: u8,
    /// Octets received, without the IP header; 0 when it did not fit.
    pub length: usize,
    /// Octets of each datagram but the last, where the kernel has put several together; 0: it is one.
    pub segment: usize,
}

impl Arrival {
    /// One to be overwritten.
    pub const NONE: Arrival = Arrival {
        source: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        local: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        tos: 0,
        length: 0,
        segment: 0,
    };
}

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// To whom; the port is 0 where the protocol has none.
    pub destination: SocketAddr,
    /// From this address of the node; `None`: the kernel chooses.
    pub local: Option<IpAddr>,
    /// The IPv4 TOS or IPv6 traffic class.
    pub tos: u8,
    /// Octets of each datagram but the last; 0: it is one. Only UDP sends several.
    pub segment: usize,
    /// The datagrams, one behind the other, without UDP or IP header.
    pub octets: &'a [u8],
}

impl Message<'_> {
    /// One to be overwritten.
    pub const NONE: Message<'static> = Message {
        destination: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        local: None,
        tos: 0,
        segment: 0,
        octets: &[],
    };

    /// Whether it is more than one datagram.
    pub(crate) fn is_run(&self) -> bool {
        self.segment > 0 && self.octets.len() > self.segment
    }
}
