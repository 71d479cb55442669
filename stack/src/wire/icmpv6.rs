//! ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).

use std::fmt;
use std::net::Ipv6Addr;

use super::checksum::{self, Sum};
use super::ipv6::{ICMPV6, MIN_MTU};
use super::{Malformed, write_u16};
use crate::MacAddr;

/// Octets of the header that every error and echo message has.
pub const HEADER_LENGTH: usize = 8;
/// Largest error message, as an IP packet, in octets: the minimum MTU (RFC 4443 section 2.4 c).
pub const MAX_ERROR: usize = MIN_MTU;
/// Octets of a solicitation or advertisement with one link-layer address option.
pub const NEIGHBOR_LENGTH: usize = 32;

/// Type of an echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Type of an echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Type of a multicast listener report (RFC 2710).
pub const LISTENER_REPORT: u8 = 131;
/// Type of a multicast listener's farewell (RFC 2710).
pub const LISTENER_DONE: u8 = 132;
/// Type of a multicast listener report of version 2 (RFC 3810).
pub const LISTENER_REPORT_V2: u8 = 143;
/// Type of a router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// Type of a router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Type of a neighbour solicitation.
pub const NEIGHBOR_SOLICITATION: u8 = 135;
/// Type of a neighbour advertisement.
pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Type of a redirect.
pub const REDIRECT: u8 = 137;

pub(super) const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_TARGET_LINK_LAYER: u8 = 2;

/// The errors that a router sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Type 1 code 0.
    NoRoute,
    /// Type 1 code 1.
    Prohibited,
    /// Type 1 code 2.
    BeyondScope,
    /// Type 1 code 3.
    AddressUnreachable,
    /// Type 1 code 4.
    PortUnreachable,
    /// Type 2, with the MTU of the next hop.
    PacketTooBig(u32),
    /// Type 3 code 0.
    HopLimitExceeded,
    /// Type 3 code 1.
    ReassemblyTimeExceeded,
    /// Type 4 code 0, with the offset of the field that is wrong.
    ErroneousField(u32),
    /// Type 4 code 1, with the offset of the next-header field that names it.
    UnknownNextHeader(u32),
    /// Type 4 code 2, with the offset of the option's type.
    UnknownOption(u32),
    /// Type 4 code 3 (RFC 7112): the first fragment does not hold all headers.
    IncompleteChain,
}

impl Error {
    fn type_code_rest(self) -> (u8, u8, u32) {
        match self {
            Error::NoRoute => (1, 0, 0),
            Error::Prohibited => (1, 1, 0),
            Error::BeyondScope => (1, 2, 0),
            Error::AddressUnreachable => (1, 3, 0),
            Error::PortUnreachable => (1, 4, 0),
            Error::PacketTooBig(mtu) => (2, 0, mtu),
            Error::HopLimitExceeded => (3, 0, 0),
            Error::ReassemblyTimeExceeded => (3, 1, 0),
            Error::ErroneousField(pointer) => (4, 0, pointer),
            Error::UnknownNextHeader(pointer) => (4, 1, pointer),
            Error::UnknownOption(pointer) => (4, 2, pointer),
            // The pointer is zero: RFC 8200 section 4.5.
            Error::IncompleteChain => (4, 3, 0),
        }
    }

    /// Writes the whole message; the quoted packet already stands behind the first 8 octets.
    pub fn emit(self, source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
        let (kind, code, rest) = self.type_code_rest();
        message[..4].copy_from_slice(&[kind, code, 0, 0]);
        message[4..8].copy_from_slice(&rest.to_be_bytes());
        fill_checksum(source, destination, message);
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoRoute => f.write_str("no route"),
            Error::Prohibited => f.write_str("administratively prohibited"),
            Error::BeyondScope => f.write_str("beyond the scope of the source address"),
            Error::AddressUnreachable => f.write_str("address unreachable"),
            Error::PortUnreachable => f.write_str("port unreachable"),
            Error::PacketTooBig(mtu) => write!(f, "packet too big, MTU {mtu}"),
            Error::HopLimitExceeded => f.write_str("hop limit exceeded"),
            Error::ReassemblyTimeExceeded => f.write_str("fragment reassembly time exceeded"),
            Error::ErroneousField(at) => write!(f, "erroneous header field at octet {at}"),
            Error::UnknownNextHeader(at) => write!(f, "unknown next header at octet {at}"),
            Error::UnknownOption(at) => write!(f, "unknown option at octet {at}"),
            Error::IncompleteChain => f.write_str("first fragment without the whole header chain"),
        }
    }
}

/// Whether a message of this type reports an error: no error may be sent about it.
pub fn is_error(kind: u8) -> bool {
    kind < 128
}

/// The type of `message`, after its checksum was found right.
pub fn check(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Result<u8, Malformed> {
    if message.len() < HEADER_LENGTH {
        return Err(Malformed("shorter than an ICMPv6 header"));
    }
    if sum(source, destination, message).folded() != 0xffff {
        return Err(Malformed("wrong checksum"));
    }
    Ok(message[0])
}

/// Computes the checksum of `message` and writes it in.
pub fn fill_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
    write_u16(message, 2, 0);
    let checksum = sum(source, destination, message).finish();
    write_u16(message, 2, checksum);
}

fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Sum {
    checksum::pseudo_header(source.into(), destination.into(), ICMPV6, message.len()).bytes(message)
}

/// Turns an echo request into its reply, which goes from `source` to `destination`.
pub fn reply_to_echo(source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
    message[0] = ECHO_REPLY;
    fill_checksum(source, destination, message);
}

/// A neighbour solicitation or advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// A solicitation; otherwise an advertisement.
    pub solicitation: bool,
    /// The sender is a router (advertisements).
    pub router: bool,
    /// It answers a solicitation (advertisements).
    pub solicited: bool,
    /// It should replace what is known (advertisements).
    pub override_known: bool,
    /// The address asked for or told.
    pub target: Ipv6Addr,
    /// The sender's link-layer address in a solicitation, the target's in an advertisement.
    pub link_layer: Option<MacAddr>,
}

impl Neighbor {
    /// Reads the message. The caller has checked hop limit, code and checksum.
    pub fn parse(message: &[u8]) -> Result<Neighbor, Malformed> {
        let Some(fixed) = message.first_chunk::<24>() else {
            return Err(Malformed("shorter than a neighbour discovery message"));
        };
        let solicitation = match fixed[0] {
            NEIGHBOR_SOLICITATION => true,
            NEIGHBOR_ADVERTISEMENT => false,
            _ => return Err(Malformed("neither a solicitation nor an advertisement")),
        };
        let mut octets = [0; 16];
        octets.copy_from_slice(&fixed[8..24]);
        let target = Ipv6Addr::from(octets);
        if target.is_multicast() {
            return Err(Malformed("the target is a multicast address"));
        }
        let wanted = if solicitation { OPTION_SOURCE_LINK_LAYER } else { OPTION_TARGET_LINK_LAYER };
        Ok(Neighbor {
            solicitation,
            router: fixed[4] & 0x80 != 0,
            solicited: fixed[4] & 0x40 != 0,
            override_known: fixed[4] & 0x20 != 0,
            target,
            link_layer: link_layer_option(&message[24..], wanted)?,
        })
    }

    /// Writes the message, checksum included, into the first 32 octets of `message`. The
    /// link-layer address must be there.
    pub fn emit(&self, source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
        let message = &mut message[..NEIGHBOR_LENGTH];
        message.fill(0);
        message[0] = if self.solicitation { NEIGHBOR_SOLICITATION } else { NEIGHBOR_ADVERTISEMENT };
        message[4] =
            u8::from(self.router) << 7 | u8::from(self.solicited) << 6 | u8::from(self.override_known) << 5;
        message[8..24].copy_from_slice(&self.target.octets());
        message[24] = if self.solicitation { OPTION_SOURCE_LINK_LAYER } else { OPTION_TARGET_LINK_LAYER };
        message[25] = 1;
        message[26..32].copy_from_slice(&self.link_layer.unwrap_or_default().0);
        fill_checksum(source, destination, message);
    }
}

/// Walks all options of a discovery message and finds the link-layer address of the `wanted` kind.
pub(super) fn link_layer_option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, Malformed> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return Err(Malformed("an option has length zero or is beyond the end"));
        }
        if kind == wanted && length == 8 {
            let [_, _, a, b, c, d, e, f, ..] = *options else { break };
            // Of several the first holds, as for the kernels behind the ports.
            found = found.or(Some(MacAddr([a, b, c, d, e, f])));
        }
        options = &options[length..];
    }
    if options.is_empty() { Ok(found) } else { Err(Malformed("an option is cut short")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_advertisement_is_written_and_read_back() {
        let source = "2001:db8::1".parse().unwrap();
        let destination = "2001:db8::2".parse().unwrap();
        let advertisement = Neighbor {
            solicitation: false,
            router: true,
            solicited: true,
            override_known: true,
            target: source,
            link_layer: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        };
        let mut message = [0; NEIGHBOR_LENGTH];
        advertisement.emit(source, destination, &mut message);
        assert_eq!(check(source, destination, &message), Ok(NEIGHBOR_ADVERTISEMENT));
        assert_eq!(Neighbor::parse(&message), Ok(advertisement));
    }

    #[test]
    fn of_two_link_layer_addresses_the_first_holds() {
        let mut message = [0; 40];
        message[0] = NEIGHBOR_SOLICITATION;
        message[24..32].copy_from_slice(&[1, 1, 2, 0, 0, 0, 0, 1]);
        message[32..40].copy_from_slice(&[1, 1, 2, 0, 0, 0, 0, 2]);
        assert_eq!(Neighbor::parse(&message).unwrap().link_layer, Some(MacAddr([2, 0, 0, 0, 0, 1])));
    }

    #[test]
    fn options_of_length_zero_do_not_loop() {
        let mut message = [0; 32];
        message[0] = NEIGHBOR_SOLICITATION;
        assert_eq!(
            Neighbor::parse(&message),
            Err(Malformed("an option has length zero or is beyond the end"))
        );
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Neighbor::parse(&bytes);
        }
    }
}
