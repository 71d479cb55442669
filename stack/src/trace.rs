//! Following one packet through the stages, in words.

use std::fmt;
use std::net::IpAddr;

use crate::MacAddr;
use crate::config::PortId;
use crate::verdict::Verdict;

mod describe;
mod live;
mod synthesize;

pub use describe::describe;
pub(crate) use live::Live;
pub use live::{LiveFilter, LiveTrace};
pub use synthesize::InvalidSpec;
pub(crate) use synthesize::synthesize;

/// What one stage looked at and decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The stage's name.
    pub stage: &'static str,
    /// What it found.
    pub message: String,
}

/// Collects steps while a packet is traced.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    pub steps: Vec<Step>,
}

impl Tracer {
    /// Apart from the stages, so that what they say lies out of the way of packets that nobody follows.
    #[cold]
    #[inline(never)]
    pub fn note(&mut self, stage: &'static str, message: fmt::Arguments) {
        self.steps.push(Step { stage, message: message.to_string() });
    }
}

/// What would happen to a packet.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The stages, in the order in which the packet met them.
    pub steps: Vec<Step>,
    /// What became of it.
    pub verdict: Verdict,
    /// The frames that would leave, and where.
    pub outputs: Vec<(PortId, Vec<u8>)>,
}

/// What a described packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// An echo request.
    Icmp,
    /// A SYN.
    Tcp,
    /// A datagram.
    Udp,
    /// An ARP request or neighbour solicitation for the destination.
    Resolve,
}

/// A packet in words; what is `None` is filled as the container's kernel would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketSpec {
    /// Default: the port's first address of the destination's family.
    pub source: Option<IpAddr>,
    /// Who it is for.
    pub destination: IpAddr,
    /// What it carries.
    pub protocol: Protocol,
    /// For TCP and UDP.
    pub source_port: u16,
    /// For TCP and UDP.
    pub destination_port: u16,
    /// Octets of the IP packet; default: the smallest.
    pub length: Option<u16>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 don't-fragment.
    pub dont_fragment: bool,
    /// Default: the port's.
    pub source_mac: Option<MacAddr>,
    /// Default: that of the port with the destination address, or else the gateway's.
    pub destination_mac: Option<MacAddr>,
    /// The id of the VLAN tag that the frame carries; default: none.
    pub vlan: Option<u16>,
}

/// Adds a step when somebody is tracing; costs one comparison when nobody is.
macro_rules! step {
    ($context:expr, $stage:literal, $($message:tt)+) => {
        if let Some(tracer) = $context.tracer.as_mut() {
            tracer.note($stage, format_args!($($message)+));
        }
    };
}
pub(crate) use step;
