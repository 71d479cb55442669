//! Datagrams: what goes to and comes from the sockets of the node by which tunnels reach their far ends.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::config::PortId;

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
    /// The port that it leaves by, where what becomes of it is counted.
    pub port: PortId,
    /// Tells flows apart. VXLAN chooses its source port by it (RFC 7348 section 5); `None`: the socket's own port.
    pub entropy: Option<u16>,
    /// It is to be given its number just before it is sent, by [`Stack::number`](crate::Stack::number).
    pub(crate) numbered: bool,
    /// Octets of each datagram but the last, of 64 at most; 0: it is one datagram.
    pub segment: usize,
    /// What it carries: what the port has sent once it is on its way.
    pub load: Load,
    /// Where its octets are, among those of the output.
    pub(crate) octets: Range<usize>,
}

/// What datagrams carry of others; what a tunnel itself says is nothing of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Frames, or for routers packets.
    pub frames: u64,
    /// Octets of them with their Ethernet headers.
    pub octets: u64,
}

impl Load {
    /// One frame of `length` octets.
    pub(crate) fn frame(length: usize) -> Load {
        Load { frames: 1, octets: length as u64 }
    }
}

/// Datagrams of one size that a socket takes in one call.
const RUN: usize = 64;

/// Octets that a socket takes in one call: less than an IPv4 or IPv6 packet holds behind its headers.
const RUN_OCTETS: usize = 65_400;

/// Octets of TCP payload in as many whole segments as one run carries, in IP packets of `mtu` octets at most: a
/// super-packet that is not longer leaves as one run by every tunnel. `None`: a run carries no two of them.
pub fn run_payload(mtu: usize) -> Option<usize> {
    /// Of IPv4 and TCP with timestamps (RFC 9293 section 3.1, RFC 7323 section 3.2). IPv6's is longer, so that its segments are
    /// shorter, and no more of them fit.
    const HEADERS: usize = 52;
    /// What WireGuard adds to a packet that is as long as the MTU; VXLAN and an Ethernet header add less.
    const ENCAPSULATION: usize = 32;
    let segments = (RUN_OCTETS / (mtu + ENCAPSULATION)).min(RUN);
    (segments > 1 && mtu > HEADERS).then(|| segments * (mtu - HEADERS))
}

/// Octets of datagrams that one round may make.
const ROUND_OCTETS: usize = 16 * 1024 * 1024;

/// Octets that are kept for later rounds.
const KEEP: usize = 1024 * 1024;

/// What a round wants sent by sockets of the node.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    datagrams: Vec<Datagram>,
    /// Those of all datagrams, in the part that is `used`.
    octets: Vec<u8>,
    used: usize,
}

impl Outbox {
    /// What is to be sent, in this order.
    pub fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    /// The octets of a datagram.
    pub fn octets(&self, datagram: &Datagram) -> &[u8] {
        self.octets.get(datagram.octets.clone()).unwrap_or_default()
    }

    /// Room for a datagram of `length` octets which carries `load`, and which is one of a run with those before it where it can be. `None`:
    /// there is no more room in this round.
    pub fn add(&mut self, heading: &Heading, length: usize, load: Load) -> Option<&mut [u8]> {
        let start = self.used;
        let end = start + length;
        if length > MAX_DATAGRAM || end > ROUND_OCTETS {
            return None;
        }
        match self.datagrams.last_mut().filter(|last| last.takes(heading, length)) {
            Some(last) => {
                if last.segment == 0 {
                    last.segment = last.octets.len();
                }
                last.octets.end = end;
                last.load.frames += load.frames;
                last.load.octets += load.octets;
            }
            None => self.datagrams.push(heading.datagram(start..end, load)),
        }
        self.used = end;
        if self.octets.len() < end {
            self.octets.resize((2 * end).min(ROUND_OCTETS), 0);
        }
        Some(&mut self.octets[start..end])
    }

    /// Whether there is one that is to be given its number.
    pub fn has_numbered(&self) -> bool {
        self.datagrams.iter().any(|datagram| datagram.numbered)
    }

    /// Shows the port and the octets of each that is to be given its number, in order.
    pub fn each_numbered(&mut self, mut show: impl FnMut(PortId, &mut [u8])) {
        for datagram in self.datagrams.iter().filter(|datagram| datagram.numbered) {
            show(datagram.port, &mut self.octets[datagram.octets.clone()]);
        }
    }

    /// Forgets all; some of the memory stays.
    pub fn clear(&mut self) {
        self.datagrams.clear();
        self.used = 0;
        if self.octets.len() > KEEP {
            self.octets.truncate(KEEP);
            self.octets.shrink_to(KEEP);
        }
    }
}

/// All that datagrams of one run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heading {
    pub underlay: Underlay,
    pub destination: SocketAddr,
    pub local: Option<IpAddr>,
    pub tos: u8,
    pub port: PortId,
    pub entropy: Option<u16>,
    pub numbered: bool,
}

impl Heading {
    fn datagram(&self, octets: Range<usize>, load: Load) -> Datagram {
        let Heading { underlay, destination, local, tos, port, entropy, numbered } = *self;
        Datagram { underlay, destination, local, tos, port, entropy, numbered, segment: 0, load, octets }
    }

    fn is_of(&self, datagram: &Datagram) -> bool {
        let Datagram { underlay, destination, local, tos, port, entropy, numbered, .. } = *datagram;
        *self == Heading { underlay, destination, local, tos, port, entropy, numbered }
    }
}

impl Datagram {
    /// Whether another one of `length` octets may follow in the same run: all but the last have one size.
    fn takes(&self, heading: &Heading, length: usize) -> bool {
        let whole = self.octets.len();
        let size = if self.segment == 0 { whole } else { self.segment };
        self.underlay != Underlay::Gre
            && heading.is_of(self)
            && whole.is_multiple_of(size)
            && length <= size
            && length > 0
            && whole / size < RUN
            && whole + length <= RUN_OCTETS
    }
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

/// What a socket of the node was told of a datagram that it had sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnderlayError<'a> {
    /// To whom the datagram went.
    pub destination: SocketAddr,
    /// It was too long for the way: octets of the largest IP packet that gets through.
    pub mtu: Option<u32>,
    /// The node itself says so, and not somebody who may be anybody.
    pub by_node: bool,
    /// The beginning of the datagram as it is quoted, without IP and UDP headers.
    pub quote: &'a [u8],
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
