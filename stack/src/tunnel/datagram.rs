//! Datagrams: what goes to and comes from the sockets of the node by which tunnels reach their far ends.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// The longest datagram, or run of datagrams of one size that a socket takes or gives in one call.
pub const MAX_DATAGRAM: usize = 65_535;

/// The most datagrams, or runs of them, that are received in one round.
pub const INBOX: usize = 8;

/// A kind of socket of the node: whoever drives the stack opens one for each that the picture names, for IPv4 and
/// IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Underlay {
    /// UDP on this port.
    Udp(u16),
    /// IP protocol 47, GRE.
    Gre,
}

/// What is to be sent by a socket of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// By which.
    pub underlay: Underlay,
    /// To whom; the port is 0 where the protocol has none.
    pub destination: SocketAddr,
    /// From this address; `None`: the node chooses.
    pub local: Option<IpAddr>,
    /// The IPv4 TOS or IPv6 traffic class: DSCP and ECN.
    pub tos: u8,
    /// Tells flows apart. VXLAN chooses its source port by it (RFC 7348 section 5); `None`: the socket's own port.
    pub entropy: Option<u16>,
    /// Octets of each datagram but the last, of 64 at most; 0: it is one datagram.
    pub segment: usize,
    /// Where its octets are, among those of the output.
    pub(crate) octets: Range<usize>,
}

/// What is known of what a socket of the node received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it; the port is 0 where the protocol has none.
    pub source: SocketAddr,
    /// The node's address that it was sent to.
    pub local: IpAddr,
    /// The IPv4 TOS or IPv6 traffic class.
    pub tos: u8,
    /// Octets received.
    pub length: usize,
    /// Octets of each datagram but the last, where the socket has put several together; 0: it is one.
    pub segment: usize,
}

/// Datagrams that were received in one round, in buffers that are used again and again.
#[derive(Debug, Default)]
pub struct Inbox {
    buffers: Vec<Box<[u8]>>,
    arrivals: Vec<Arrival>,
}

impl Inbox {
    /// An empty one; buffers are made when they are asked for.
    pub fn new() -> Inbox {
        Inbox::default()
    }

    /// Buffers of [`MAX_DATAGRAM`] octets, [`INBOX`] of them, to receive into. What was in there is let go.
    pub fn vacant(&mut self) -> &mut [Box<[u8]>] {
        self.arrivals.clear();
        self.buffers.resize_with(INBOX, || vec![0; MAX_DATAGRAM].into_boxed_slice());
        &mut self.buffers
    }

    /// Takes in what was written to the next of the vacant buffers.
    pub fn commit(&mut self, arrival: Arrival) {
        if self.arrivals.len() < self.buffers.len() {
            self.arrivals.push(Arrival { length: arrival.length.min(MAX_DATAGRAM), ..arrival });
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// What arrived at this position, and its octets; of several datagrams put together all of them.
    pub fn get_mut(&mut self, position: usize) -> Option<(Arrival, &mut [u8])> {
        let arrival = *self.arrivals.get(position)?;
        Some((arrival, &mut self.buffers[position][..arrival.length]))
    }
}
