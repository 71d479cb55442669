//! IPv6 headers (RFC 8200) and the walk over extension headers (RFC 7045, 7112).
//!
//! The walk only finds what is behind the extension headers, as whoever forwards a packet needs it.
//! What they say to the packet's destination is in [`extension`].

pub mod extension;

use std::net::Ipv6Addr;

use super::{Malformed, read_u16, write_u16};

/// Octets of the fixed header.
pub const HEADER_LENGTH: usize = 40;
/// The smallest MTU that a link may have, in octets (RFC 8200 section 5).
pub const MIN_MTU: usize = 1280;
/// Next-header value of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Next-header value of the fragment header.
pub const FRAGMENT: u8 = 44;
/// Next-header value that says that nothing follows; what does is to be ignored (RFC 8200 section 4.7).
pub const NO_NEXT_HEADER: u8 = 59;

/// The group of all nodes on a link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
/// Where the payload length is in the header.
pub(crate) const PAYLOAD_LENGTH: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const DESTINATION: usize = 24;
/// More extension headers than this in one packet are taken for an attack (RFC 8504 section 5.3).
const MAX_EXTENSIONS: usize = 8;

/// A fixed header, and where the extension headers end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Octets of the packet.
    pub total_length: usize,
    /// Traffic class: DSCP and ECN.
    pub traffic_class: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Who sent it.
    pub source: Ipv6Addr,
    /// Who it is for.
    pub destination: Ipv6Addr,
    /// Protocol behind the extension headers.
    pub protocol: u8,
    /// Where that protocol's header starts, in octets from the start of the packet.
    pub payload_offset: usize,
    /// Where the field is that names `protocol`, in octets from the start of the packet.
    pub protocol_offset: usize,
    /// Whether there is a fragment header.
    pub fragment: bool,
    /// Offset of this fragment, in octets.
    pub fragment_offset: usize,
    /// The extension headers do not end within the packet, or are too many; `protocol` and
    /// `payload_offset` are of the first that could not be passed.
    pub endless: bool,
}

impl Header {
    /// Reads the header at the start of `packet` and walks the extension headers. The lengths fit
    /// into `packet`. In a fragment other than the first the walk ends at the fragment header.
    ///
    /// # Errors
    /// The fixed header is not one. A chain of extension headers without an end is no error: a router
    /// need not look into it, and a destination tells the sender.
    pub fn parse(packet: &[u8]) -> Result<Header, Malformed> {
        let Some(bytes) = packet.first_chunk::<HEADER_LENGTH>() else {
            return Err(Malformed("shorter than an IPv6 header"));
        };
        if bytes[0] >> 4 != 6 {
            return Err(Malformed("version is not 6"));
        }
        let total_length = HEADER_LENGTH + usize::from(read_u16(bytes, 4));
        if total_length > packet.len() {
            return Err(Malformed("payload length is beyond the end of the frame"));
        }
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[at..at + 16]);
            Ipv6Addr::from(octets)
        };
        let mut header = Header {
            total_length,
            traffic_class: bytes[0] << 4 | bytes[1] >> 4,
            hop_limit: bytes[HOP_LIMIT],
            source: address(8),
            destination: address(DESTINATION),
            protocol: bytes[NEXT_HEADER],
            payload_offset: HEADER_LENGTH,
            protocol_offset: NEXT_HEADER,
            fragment: false,
            fragment_offset: 0,
            endless: false,
        };
        header.endless = header.walk_extensions(&packet[..total_length]).is_none();
        Ok(header)
    }

    /// Goes on to the header behind the extension headers; `None` where there is no way to it.
    fn walk_extensions(&mut self, packet: &[u8]) -> Option<()> {
        let mut passed = 0;
        while let Some(kind) = Extension::of(self.protocol) {
            let rest = &packet[self.payload_offset..];
            let length = kind.length(rest).filter(|_| passed < MAX_EXTENSIONS)?;
            if kind == Extension::Fragment {
                self.fragment = true;
                self.fragment_offset = usize::from(read_u16(rest, 2) & 0xfff8);
            }
            self.protocol = rest[0];
            self.protocol_offset = self.payload_offset;
            self.payload_offset += length;
            if self.fragment_offset != 0 {
                break;
            }
            passed += 1;
        }
        Some(())
    }
}

/// A header that another follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    HopByHop,
    Routing,
    Fragment,
    Authentication,
    Destination,
}

impl Extension {
    fn of(protocol: u8) -> Option<Extension> {
        match protocol {
            HOP_BY_HOP => Some(Extension::HopByHop),
            ROUTING => Some(Extension::Routing),
            FRAGMENT => Some(Extension::Fragment),
            AUTHENTICATION => Some(Extension::Authentication),
            DESTINATION_OPTIONS => Some(Extension::Destination),
            _ => None,
        }
    }

    /// Octets of the header that `rest` begins with; at least 8. `None`: it goes on beyond `rest`.
    fn length(self, rest: &[u8]) -> Option<usize> {
        let units = usize::from(*rest.get(1)?);
        let length = match self {
            Extension::Fragment => 8,
            Extension::Authentication => 4 * (2 + units),
            Extension::HopByHop | Extension::Routing | Extension::Destination => 8 * (1 + units),
        };
        (length <= rest.len()).then_some(length)
    }
}

/// What is needed to write a fixed header.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    /// Octets behind the fixed header.
    pub payload_length: usize,
    /// Protocol right behind it.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Who sends it.
    pub source: Ipv6Addr,
    /// Who it is for.
    pub destination: Ipv6Addr,
}

impl Fields {
    /// Writes the fixed header, traffic class and flow label zero, into the first 40 octets of `packet`.
    pub fn emit(&self, packet: &mut [u8]) {
        packet[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        write_u16(packet, 4, self.payload_length as u16);
        packet[NEXT_HEADER] = self.next_header;
        packet[HOP_LIMIT] = self.hop_limit;
        packet[8..24].copy_from_slice(&self.source.octets());
        packet[24..40].copy_from_slice(&self.destination.octets());
    }
}

/// Whether a router may forward from or to this address at all: it is not unspecified, loopback or
/// multicast (RFC 4291 section 2.5).
pub fn is_routable(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// The traffic class of a packet that has a whole header.
pub(crate) fn traffic_class(packet: &[u8]) -> u8 {
    packet[0] << 4 | packet[1] >> 4
}

/// Writes another traffic class; the flow label stays.
pub(crate) fn set_traffic_class(packet: &mut [u8], class: u8) {
    packet[0] = packet[0] & 0xf0 | class >> 4;
    packet[1] = packet[1] & 0x0f | class << 4;
}

/// Takes one from the hop limit, which is above zero.
pub fn decrement_hop_limit(header: &mut [u8]) {
    header[HOP_LIMIT] -= 1;
}

/// The solicited-node group of an address (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LENGTH];
        let fields = Fields {
            payload_length: payload.len(),
            next_header: next,
            hop_limit: 64,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
        };
        fields.emit(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn extension_headers_are_walked_to_the_transport() {
        let mut payload = vec![60, 0, 1, 4, 0, 0, 0, 0]; // hop-by-hop, then destination options
        payload.extend_from_slice(&[17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        payload.extend_from_slice(&[0; 8]);
        let header = Header::parse(&packet(0, &payload)).unwrap();
        assert_eq!((header.protocol, header.payload_offset), (17, 64));
    }

    #[test]
    fn a_later_fragment_is_not_looked_into() {
        let header = Header::parse(&packet(44, &[0, 0, 0x05, 0xa9, 0, 0, 0, 7, 1, 2, 3])).unwrap();
        assert!(header.fragment);
        assert_eq!(header.fragment_offset, 1448);
        assert_eq!((header.protocol, header.payload_offset), (0, 48));
    }

    #[test]
    fn endless_chains_and_cut_headers_are_marked() {
        let chain = |count: usize| {
            let mut headers = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
            headers[8 * (count - 1)] = 17;
            Header::parse(&packet(60, &headers)).unwrap()
        };
        assert_eq!((chain(8).endless, chain(8).protocol), (false, 17));
        assert_eq!((chain(9).endless, chain(9).protocol), (true, 60));
        for cut in [&[17, 9, 0, 0, 0, 0, 0, 0][..], &[17], &[]] {
            let header = Header::parse(&packet(60, cut)).unwrap();
            assert!(header.endless);
            assert_eq!((header.protocol, header.payload_offset), (60, 40));
        }
    }

    #[test]
    fn solicited_node_is_the_example_of_rfc_4291() {
        let group = solicited_node("4037::01:800:200e:8c6c".parse().unwrap());
        assert_eq!(group, "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), next in any::<u8>()) {
            let _ = Header::parse(&bytes);
            let bytes = packet(next, &bytes);
            let header = Header::parse(&bytes).unwrap();
            prop_assert!(header.payload_offset <= bytes.len());
            let _ = extension::examine(&bytes, &header);
            let _ = extension::check_hop_by_hop(&bytes);
        }
    }
}
