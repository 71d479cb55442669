//! The connections that the kernel keeps track of, by ctnetlink: which there are, and forgetting one.
//!
//! [`Conntrack`] works in the namespace that the thread was in when it was opened.

use std::net::{IpAddr, SocketAddr};

use crate::Result;
use crate::link::Wish;
use crate::netfilter::{Netfilter, Request, attributes, number};
use crate::nft::Family;

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const SUBSYSTEM: u8 = 1;
const GET: u8 = 1;
const DELETE: u8 = 2;
/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_STATUS`, `CTA_ID`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
/// `IPS_SRC_NAT | IPS_DST_NAT`.
const TRANSLATED: u32 = 0x30;

/// Who sends to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// The sender.
    pub source: SocketAddr,
    /// The receiver.
    pub destination: SocketAddr,
}

/// A connection of a protocol with ports.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The protocol number.
    pub protocol: u8,
    /// As its first packet came.
    pub original: Direction,
    /// As answers come, before anything is translated.
    pub reply: Direction,
    /// An address or port of it is translated.
    pub translated: bool,
    /// What tells it from others, as the kernel wrote it.
    tuple: Vec<u8>,
    id: Vec<u8>,
}

/// The way to the kernel's table of connections.
#[derive(Debug)]
pub struct Conntrack {
    netfilter: Netfilter,
}

impl Conntrack {
    /// Opens the way in the namespace of the calling thread.
    pub fn open() -> Result<Conntrack> {
        Ok(Conntrack { netfilter: Netfilter::open()? })
    }

    /// All connections of a family and a protocol. It takes time with the table's size.
    pub fn flows(&mut self, family: Family, protocol: u8) -> Result<Vec<Flow>> {
        let wish = Wish { operation: "list", object: "connections" };
        let decode = |body: &[u8]| flow(body).filter(|flow| flow.protocol == protocol);
        let found = self.netfilter.dump(&request(family, GET), decode);
        found.map_err(|failure| wish.failed(failure))
    }

    /// Forgets a connection: its next packet is the first of a new one. One that is gone already is no error.
    pub fn delete(&mut self, flow: &Flow) -> Result<()> {
        let wish = Wish { operation: "forget", object: "a connection" };
        let family = if flow.original.source.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let mut request = request(family, DELETE);
        request.attributes.put(ORIGINAL | netlink_packet_core::NLA_F_NESTED, &flow.tuple).put(ID, &flow.id);
        match self.netfilter.ask(&request, |_| Ok(())).map_err(|failure| wish.failed(failure)) {
            Err(error) if error.is_gone() => Ok(()),
            other => other,
        }
    }
}

fn request(family: Family, kind: u8) -> Request {
    let kind = u16::from_be_bytes([SUBSYSTEM, kind]);
    Request { kind, family: family.number(), flags: 0, attributes: Default::default() }
}

fn flow(body: &[u8]) -> Option<Flow> {
    let tuple = value(body, ORIGINAL)?;
    let (protocol, original) = direction(tuple)?;
    let (_, reply) = direction(value(body, REPLY)?)?;
    let status = value(body, STATUS).and_then(number).unwrap_or(0);
    let id = value(body, ID)?.to_vec();
    let translated = status & TRANSLATED != 0;
    Some(Flow { protocol, original, reply, translated, tuple: tuple.to_vec(), id })
}

/// The protocol and the ends of a tuple: `CTA_TUPLE_IP` with `CTA_IP_V4_SRC` and the three after it,
/// `CTA_TUPLE_PROTO` with `CTA_PROTO_NUM`, `_SRC_PORT` and `_DST_PORT`.
fn direction(tuple: &[u8]) -> Option<(u8, Direction)> {
    let (addresses, protocol) = (value(tuple, 1)?, value(tuple, 2)?);
    let port = |kind| Some(u16::from_be_bytes(value(protocol, kind)?.get(..2)?.try_into().ok()?));
    let end = |v4, v6, kind| {
        let address = value(addresses, v4).or_else(|| value(addresses, v6)).and_then(address)?;
        Some(SocketAddr::new(address, port(kind)?))
    };
    let number = *value(protocol, 1)?.first()?;
    Some((number, Direction { source: end(1, 3, 2)?, destination: end(2, 4, 3)? }))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

fn value(octets: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(octets).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}
