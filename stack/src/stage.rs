//! The stages that a frame passes, one file each. `pipeline.rs` shows their order.

pub mod advertise;
pub mod bridge;
pub mod dhcp;
pub mod egress;
pub mod fragment;
pub mod icmp_error;
pub mod ingress;
pub mod local;
pub mod loops;
pub mod mirror;
pub mod multicast;
pub mod neighbor;
pub mod reply;
pub mod route;
pub mod segment;
pub mod shape;
pub mod source;
pub mod storm;

use std::net::IpAddr;

use crate::verdict::DropReason;
use crate::wire::vlan::Tci;
use crate::wire::{arp, ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// A frame whose headers were read and found consistent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Frame {
    pub ethernet: ethernet::Header,
    /// The VLAN that it is on; 0 is untagged.
    pub vlan: u16,
    /// The tag that it came with; its priority goes along.
    pub tag: Tci,
    /// The router made it, to be told to the sender of another.
    pub own: bool,
    pub network: Layer3,
}

/// What is behind the Ethernet header.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Layer3 {
    Arp(arp::Message),
    Ipv4(ipv4::Header),
    Ipv6(ipv6::Header),
    #[default]
    Other,
}

impl Frame {
    /// Octets of the IP packet that it carries, padding left out; `None`: it carries none.
    pub fn ip_length(&self) -> Option<usize> {
        match &self.network {
            Layer3::Ipv4(ip) => Some(ip.total_length),
            Layer3::Ipv6(ip) => Some(ip.total_length),
            Layer3::Arp(_) | Layer3::Other => None,
        }
    }

    /// Source and destination of the IP packet; `None`: there is none.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match &self.network {
            Layer3::Ipv4(ip) => Some((ip.source.into(), ip.destination.into())),
            Layer3::Ipv6(ip) => Some((ip.source.into(), ip.destination.into())),
            Layer3::Arp(_) | Layer3::Other => None,
        }
    }

    /// What is behind the IP header and its extensions, padding left out; empty where there is no IP.
    pub fn transport<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let (start, end) = match &self.network {
            Layer3::Ipv4(ip) => (ip.header_length, ip.total_length),
            Layer3::Ipv6(ip) => (ip.payload_offset, ip.total_length),
            Layer3::Arp(_) | Layer3::Other => return &[],
        };
        frame.get(L3 + start..L3 + end).unwrap_or_default()
    }

    /// Whether it is a piece of an IP packet, or has a header that says so.
    pub fn is_fragment(&self) -> bool {
        match &self.network {
            Layer3::Ipv4(ip) => ip.is_fragment(),
            Layer3::Ipv6(ip) => ip.fragment,
            Layer3::Arp(_) | Layer3::Other => false,
        }
    }
}

/// Where the IP header starts: VLAN tags are taken off before a frame comes this far.
pub(crate) const L3: usize = ethernet::HEADER_LENGTH;

/// A stage stops a frame: why, and what its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub reason: DropReason,
    pub answer: Option<Answer>,
}

/// The ICMP error that goes with a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    V4(icmpv4::Error),
    V6(icmpv6::Error),
}

impl From<DropReason> for Rejection {
    fn from(reason: DropReason) -> Self {
        Rejection { reason, answer: None }
    }
}

impl From<ipv6::extension::Problem> for Rejection {
    fn from(problem: ipv6::extension::Problem) -> Self {
        let reason = match problem {
            ipv6::extension::Problem::Malformed(_) => DropReason::Ipv6Malformed,
            _ => DropReason::Ipv6ExtensionRefused,
        };
        Rejection { reason, answer: problem.answer().map(Answer::V6) }
    }
}

impl Rejection {
    pub fn v4(reason: DropReason, error: icmpv4::Error) -> Rejection {
        Rejection { reason, answer: Some(Answer::V4(error)) }
    }

    pub fn v6(reason: DropReason, error: icmpv6::Error) -> Rejection {
        Rejection { reason, answer: Some(Answer::V6(error)) }
    }
}
