//! DHCP for IPv4 (RFC 2131), as a server meets it: what clients ask is read, what it answers is written, with the
//! options of RFC 2132 that it knows.
//!
//! This is no more than a server of fixed addresses needs, and so is smaller than a library would be: the crates at
//! hand bring DNS libraries along.

use std::net::Ipv4Addr;

use super::{Malformed, read_u16, read_u32, write_u16};
use crate::MacAddr;

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// Octets of the fixed fields.
const FIXED_LENGTH: usize = 236;
const SERVER_NAME: usize = 44;
const FILE: usize = 108;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = FIXED_LENGTH + COOKIE.len();
/// BOOTP relays and clients may drop what is shorter (RFC 1542 section 2.1).
const LEAST_LENGTH: usize = 300;
/// Octets of a message that every client takes: an IP packet of 576 (RFC 2131 section 2).
const MOST_LENGTH: usize = 576 - 28;
const BROADCAST: u16 = 0x8000;

/// Options that the server reads or writes (RFC 2132).
pub mod option {
    #![allow(missing_docs)]
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const BROADCAST_ADDRESS: u8 = 28;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MAX_LENGTH: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const CLIENT_ID: u8 = 61;
    pub(super) const PAD: u8 = 0;
    pub(super) const END: u8 = 255;
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Which servers are there?
    Discover = 1,
    /// A server has this address.
    Offer = 2,
    /// The client takes, or wants to keep, an address.
    Request = 3,
    /// Somebody else has the address that the client was given.
    Decline = 4,
    /// The client has the address.
    Acknowledge = 5,
    /// The client may not have the address.
    Refuse = 6,
    /// The client gives its address back.
    Release = 7,
    /// The client has an address and wants the rest.
    Inform = 8,
}

impl Kind {
    fn of(number: u8) -> Option<Kind> {
        use Kind::*;
        let all = [Discover, Offer, Request, Decline, Acknowledge, Refuse, Release, Inform];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The client's own number for this exchange.
    pub transaction: u32,
    /// The client takes no answer to an address that it does not have yet.
    pub broadcast: bool,
    /// The address that the client has; unspecified: none (`ciaddr`).
    pub client: Ipv4Addr,
    /// The relay that it came by; unspecified: none (`giaddr`).
    pub relay: Ipv4Addr,
    /// The client's MAC address (`chaddr`).
    pub mac: MacAddr,
    /// What it is for.
    pub kind: Kind,
    /// The address that the client wants.
    pub requested: Option<Ipv4Addr>,
    /// The server that the client speaks to.
    pub server: Option<Ipv4Addr>,
    /// The options that the client wants, in this order.
    pub parameters: Option<&'a [u8]>,
    /// The client's name for itself.
    pub client_id: Option<&'a [u8]>,
    /// Octets of the longest message that the client takes, as an IP packet.
    pub max_length: Option<u16>,
}

impl<'a> Request<'a> {
    /// Reads the payload of a datagram.
    pub fn parse(bytes: &'a [u8]) -> Result<Request<'a>, Malformed> {
        if bytes.len() < OPTIONS || bytes[FIXED_LENGTH..OPTIONS] != COOKIE {
            return Err(Malformed("shorter than a DHCP message, or without its cookie"));
        }
        if bytes[..3] != [1, 1, 6] {
            return Err(Malformed("no request of an Ethernet client"));
        }
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let mut options = Options::default();
        options.read(&bytes[OPTIONS..])?;
        // Options may go on in the fields for the file's and then the server's name (RFC 2131 section 4.1).
        let overload = options.overload;
        if overload & 1 != 0 {
            options.read(&bytes[FILE..FIXED_LENGTH])?;
        }
        if overload & 2 != 0 {
            options.read(&bytes[SERVER_NAME..FILE])?;
        }
        Ok(Request {
            transaction: read_u32(bytes, 4),
            broadcast: read_u16(bytes, 10) & BROADCAST != 0,
            client: address(12),
            relay: address(24),
            mac: MacAddr([bytes[28], bytes[29], bytes[30], bytes[31], bytes[32], bytes[33]]),
            kind: options.kind.ok_or(Malformed("no message type, or an unknown one"))?,
            requested: options.requested,
            server: options.server,
            parameters: options.parameters,
            client_id: options.client_id,
            max_length: options.max_length,
        })
    }
}

/// The options of a request as they are found; of several of a kind the first holds.
#[derive(Debug, Default)]
struct Options<'a> {
    kind: Option<Kind>,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    parameters: Option<&'a [u8]>,
    client_id: Option<&'a [u8]>,
    max_length: Option<u16>,
    overload: u8,
}

impl<'a> Options<'a> {
    fn read(&mut self, mut bytes: &'a [u8]) -> Result<(), Malformed> {
        loop {
            match *bytes {
                // Clients exist that leave the end out.
                [] | [option::END, ..] => return Ok(()),
                [option::PAD, ref rest @ ..] => bytes = rest,
                [code, length, ref rest @ ..] if usize::from(length) <= rest.len() => {
                    let (value, behind) = rest.split_at(length.into());
                    self.take(code, value)?;
                    bytes = behind;
                }
                _ => return Err(Malformed("an option is cut short")),
            }
        }
    }

    fn take(&mut self, code: u8, value: &'a [u8]) -> Result<(), Malformed> {
        match (code, value) {
            (option::MESSAGE_TYPE, [number]) => self.kind = self.kind.or(Kind::of(*number)),
            (option::REQUESTED_ADDRESS, [a, b, c, d]) => {
                self.requested = self.requested.or(Some(Ipv4Addr::new(*a, *b, *c, *d)));
            }
            (option::SERVER_ID, [a, b, c, d]) => {
                self.server = self.server.or(Some(Ipv4Addr::new(*a, *b, *c, *d)));
            }
            (option::MAX_LENGTH, [high, low]) => {
                self.max_length = self.max_length.or(Some(u16::from_be_bytes([*high, *low])));
            }
            (option::OVERLOAD, [fields]) => self.overload = *fields,
            (option::PARAMETERS, list) => self.parameters = self.parameters.or(Some(list)),
            (option::CLIENT_ID, id) => self.client_id = self.client_id.or(Some(id)),
            (
                option::MESSAGE_TYPE
                | option::REQUESTED_ADDRESS
                | option::SERVER_ID
                | option::MAX_LENGTH
                | option::OVERLOAD,
                _,
            ) => return Err(Malformed("an option has the wrong length")),
            _ => {}
        }
        Ok(())
    }
}

/// What a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What it answers to.
    pub request: Request<'a>,
    /// Offer, acknowledge or refuse.
    pub kind: Kind,
    /// The address that the client has by it; unspecified where it is about none.
    pub yours: Ipv4Addr,
    /// The server's address.
    pub server: Ipv4Addr,
}

impl Reply<'_> {
    /// The payload of the datagram. `options` are codes and values, in this order; what does not fit is left out.
    pub fn emit<'v>(&self, options: impl Iterator<Item = (u8, &'v [u8])>) -> Vec<u8> {
        let request = &self.request;
        let mut bytes = vec![0; FIXED_LENGTH];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[4..8].copy_from_slice(&request.transaction.to_be_bytes());
        write_u16(&mut bytes, 10, u16::from(request.broadcast) << 15);
        if self.kind == Kind::Acknowledge {
            bytes[12..16].copy_from_slice(&request.client.octets());
        }
        bytes[16..20].copy_from_slice(&self.yours.octets());
        bytes[28..34].copy_from_slice(&request.mac.0);
        bytes.extend(COOKIE);
        bytes.extend([option::MESSAGE_TYPE, 1, self.kind as u8]);
        bytes.extend([option::SERVER_ID, 4]);
        bytes.extend(self.server.octets());
        let asked = usize::from(request.max_length.unwrap_or(0)).saturating_sub(28);
        // A message stays within one Ethernet frame whatever the client says.
        let room = asked.clamp(MOST_LENGTH, 1472);
        for (code, value) in options {
            if let Ok(length) = u8::try_from(value.len())
                && bytes.len() + 2 + value.len() < room
            {
                bytes.extend([code, length]);
                bytes.extend(value);
            }
        }
        bytes.push(option::END);
        bytes.resize(bytes.len().max(LEAST_LENGTH), option::PAD);
        bytes
    }
}

#[cfg(test)]
mod tests;
