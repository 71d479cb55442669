//! What extension headers say to whoever has to obey them (RFC 8200 section 4): options with their
//! action bits, routing headers, fragment headers.
//!
//! A router looks at hop-by-hop options only; the destination at all of them, in order, up to a
//! fragment header: what is behind it is looked at in the whole datagram.

use super::{Extension, HEADER_LENGTH, Header, ICMPV6, NO_NEXT_HEADER};
use super::{HOP_BY_HOP, NEXT_HEADER};
use crate::wire::icmpv6::Error;
use crate::wire::ipv4::{TCP, UDP};
use crate::wire::{Malformed, read_u16, read_u32};

/// Octets of a fragment header.
pub const FRAGMENT_LENGTH: usize = 8;

/// A fragment header (RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Where it is, in octets from the start of the packet.
    pub at: usize,
    /// Where the field is that says that it follows.
    pub named_at: usize,
    /// What it says that follows the headers before it in the whole datagram.
    pub next_header: u8,
    /// Offset of this fragment, in octets.
    pub offset: usize,
    /// Others follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl Fragment {
    fn parse(bytes: &[u8], at: usize, named_at: usize) -> Fragment {
        let flags = read_u16(bytes, 2);
        Fragment {
            at,
            named_at,
            next_header: bytes[0],
            offset: usize::from(flags & 0xfff8),
            more: flags & 1 != 0,
            id: read_u32(bytes, 4),
        }
    }

    /// Writes the header into the first 8 octets of `bytes`. The offset is a multiple of 8.
    pub fn emit(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&[self.next_header, 0]);
        bytes[2..4].copy_from_slice(&(self.offset as u16 | u16::from(self.more)).to_be_bytes());
        bytes[4..8].copy_from_slice(&self.id.to_be_bytes());
    }

    /// A whole packet with a fragment header: it is not to be mixed with fragments of the same
    /// identification (RFC 6946).
    pub fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Why a packet is not to be taken any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Nobody is told.
    Malformed(Malformed),
    /// The sender is told, unless that is forbidden for other reasons.
    Told(Error),
    /// An option that asks for silence.
    Silent,
}

impl Problem {
    /// What the sender is told.
    pub fn answer(self) -> Option<Error> {
        match self {
            Problem::Told(error) => Some(error),
            Problem::Malformed(_) | Problem::Silent => None,
        }
    }
}

const CUT_SHORT: Problem = Problem::Malformed(Malformed("extension headers go on beyond the end"));

/// Looks at the hop-by-hop options, if there are any, on the way and at the destination. `packet` ends
/// where its payload does.
///
/// A router may pass over them (RFC 8200 section 4, RFC 9673 section 5); Linux does not, and neither is
/// it done here, so that a packet that its sender wants dropped by whoever does not know an option is.
/// No option is known but those that let themselves be skipped: no link carries jumbograms (RFC 2675).
pub fn check_hop_by_hop(packet: &[u8]) -> Result<(), Problem> {
    if packet[NEXT_HEADER] != HOP_BY_HOP {
        return Ok(());
    }
    let length = Extension::HopByHop.length(&packet[HEADER_LENGTH..]).ok_or(CUT_SHORT)?;
    check_options(packet, HEADER_LENGTH, length)
}

/// Looks at all extension headers as the packet's destination, whose header is `header`. Gives back the
/// fragment header, unless there is none or the packet is whole by itself. `packet` ends where its
/// payload does.
pub fn examine(packet: &[u8], header: &Header) -> Result<Option<Fragment>, Problem> {
    let (mut kind, mut named_at, mut at) = (packet[NEXT_HEADER], NEXT_HEADER, HEADER_LENGTH);
    while let Some(extension) = Extension::of(kind) {
        let rest = &packet[at..];
        if extension == Extension::Authentication || (extension == Extension::HopByHop && at > HEADER_LENGTH)
        {
            // There are no keys here; and hop-by-hop options have one place only (RFC 8200 section 4.1).
            return Err(Problem::Told(Error::UnknownNextHeader(named_at as u32)));
        }
        let length = extension.length(rest).ok_or(CUT_SHORT)?;
        match extension {
            Extension::HopByHop | Extension::Destination => check_options(packet, at, length)?,
            Extension::Routing => check_routing(rest, at)?,
            Extension::Fragment => {
                let fragment = Fragment::parse(rest, at, named_at);
                if !fragment.is_atomic() {
                    return check_fragment(packet, header, fragment).map(Some);
                }
            }
            Extension::Authentication => {}
        }
        (kind, named_at, at) = (rest[0], at, at + length);
    }
    // The walk here is as long as the one of the header, which has an end where this one has.
    if header.endless { Err(CUT_SHORT) } else { Ok(None) }
}

/// Takes the fragment header, which is the last of `headers`, out of an IPv6 header and its extensions:
/// what came before it now names what followed it. Gives back the octets that are left.
pub fn remove_fragment(headers: &mut [u8]) -> usize {
    let end = headers.len() - FRAGMENT_LENGTH;
    let (mut named_at, mut at) = (NEXT_HEADER, HEADER_LENGTH);
    while at < end {
        let length = Extension::of(headers[named_at]).and_then(|kind| kind.length(&headers[at..]));
        let Some(length) = length else { break };
        (named_at, at) = (at, at + length);
    }
    headers[named_at] = headers[end];
    end
}

/// No type of routing header is known (type 0 must not be, RFC 5095): where nobody is left to visit it
/// is passed over (RFC 8200 section 4.4).
fn check_routing(header: &[u8], at: usize) -> Result<(), Problem> {
    const TYPE: usize = 2;
    const SEGMENTS_LEFT: usize = 3;
    match header[SEGMENTS_LEFT] {
        0 => Ok(()),
        _ => Err(Problem::Told(Error::ErroneousField((at + TYPE) as u32))),
    }
}

/// The rules of RFC 8200 section 4.5 for a fragment by itself.
fn check_fragment(packet: &[u8], header: &Header, fragment: Fragment) -> Result<Fragment, Problem> {
    const PAYLOAD_LENGTH: u32 = 4;
    const OFFSET: usize = 2;
    let start = fragment.at + FRAGMENT_LENGTH;
    let length = packet.len() - start;
    if length == 0 {
        return Err(Problem::Malformed(Malformed("fragment without a payload")));
    }
    if fragment.more && !length.is_multiple_of(8) {
        return Err(Problem::Told(Error::ErroneousField(PAYLOAD_LENGTH)));
    }
    if fragment.at - HEADER_LENGTH + fragment.offset + length > usize::from(u16::MAX) {
        return Err(Problem::Told(Error::ErroneousField((fragment.at + OFFSET) as u32)));
    }
    if fragment.offset == 0 && (header.endless || !holds_transport_header(packet, header)) {
        return Err(Problem::Told(Error::IncompleteChain));
    }
    Ok(fragment)
}

/// Whether the header behind the extension headers is there in full (RFC 7112 section 5).
fn holds_transport_header(packet: &[u8], header: &Header) -> bool {
    let least = match header.protocol {
        TCP => 20,
        UDP | ICMPV6 => 8,
        NO_NEXT_HEADER => 0,
        // Of others one octet must do, as for Linux.
        _ => 1,
    };
    packet.len() >= header.payload_offset + least
}

/// Walks the options of the header at `at` and does what the first unknown one asks for (RFC 8200
/// section 4.2).
fn check_options(packet: &[u8], at: usize, length: usize) -> Result<(), Problem> {
    const PAD1: u8 = 0;
    const PADN: u8 = 1;
    let end = at + length;
    let mut at = at + 2;
    while at < end {
        let kind = packet[at];
        if kind == PAD1 {
            at += 1;
            continue;
        }
        let next = packet[..end].get(at + 1).map_or(usize::MAX, |length| at + 2 + usize::from(*length));
        if next > end {
            return Err(Problem::Malformed(Malformed("an option goes on beyond its header")));
        }
        let to_group = packet[super::DESTINATION] == 0xff;
        match kind >> 6 {
            _ if kind == PADN => {}
            0b00 => {}
            0b10 => return Err(Problem::Told(Error::UnknownOption(at as u32))),
            0b11 if !to_group => return Err(Problem::Told(Error::UnknownOption(at as u32))),
            _ => return Err(Problem::Silent),
        }
        at = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Fields;
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

    fn examined(next: u8, payload: &[&[u8]]) -> Result<Option<Fragment>, Problem> {
        let packet = packet(next, &payload.concat());
        examine(&packet, &Header::parse(&packet).unwrap())
    }

    const ECHO: &[u8] = &[128, 0, 0, 0, 0, 1, 0, 1];

    #[test]
    fn a_list_of_known_headers_is_passed() {
        let alert = &[60, 0, 5, 2, 0, 0, 1, 0];
        let padding = &[43, 0, 1, 4, 0, 0, 0, 0];
        let routing = &[58, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(examined(0, &[alert, padding, routing, ECHO]), Ok(None));
    }

    #[test]
    fn unknown_options_do_what_their_first_bits_say() {
        for (kind, expected) in [
            (0x1e, Ok(None)),
            (0x5e, Err(Problem::Silent)),
            (0x9e, Err(Problem::Told(Error::UnknownOption(44)))),
            (0xde, Err(Problem::Told(Error::UnknownOption(44)))),
        ] {
            let options = &[58, 0, 0, 0, kind, 2, 0, 0];
            assert_eq!(examined(0, &[options, ECHO]), expected, "hop-by-hop {kind:#x}");
            assert_eq!(examined(60, &[options, ECHO]), expected, "destination {kind:#x}");
            let on_the_way = check_hop_by_hop(&packet(0, &[options, ECHO].concat()));
            assert_eq!(on_the_way, expected.map(|_| ()));
            assert_eq!(check_hop_by_hop(&packet(60, &[options, ECHO].concat())), Ok(()));
        }
        let mut to_group = packet(0, &[58, 0, 1, 0, 0xde, 2, 0, 0]);
        to_group[24] = 0xff;
        assert_eq!(check_hop_by_hop(&to_group), Err(Problem::Silent));
    }

    #[test]
    fn options_that_go_on_beyond_their_header_are_malformed() {
        for options in [[58, 0, 1, 5, 0, 0, 0, 0], [58, 0, 1, 3, 0, 0, 0, 1]] {
            let malformed = Problem::Malformed(Malformed("an option goes on beyond its header"));
            assert_eq!(examined(60, &[&options, ECHO]), Err(malformed));
        }
    }

    #[test]
    fn hop_by_hop_options_have_one_place() {
        let padding = &[0, 0, 1, 4, 0, 0, 0, 0];
        let hop_by_hop = &[58, 0, 1, 4, 0, 0, 0, 0];
        let told = Err(Problem::Told(Error::UnknownNextHeader(40)));
        assert_eq!(examined(60, &[padding, hop_by_hop, ECHO]), told);
        assert_eq!(examined(0, &[padding, hop_by_hop, ECHO]), told);
    }

    #[test]
    fn a_routing_header_is_refused_while_segments_are_left() {
        let routing = |kind, left| [58, 0, kind, left, 0, 0, 0, 0];
        for kind in [0, 2, 4] {
            let told = Err(Problem::Told(Error::ErroneousField(42)));
            assert_eq!(examined(43, &[&routing(kind, 1), ECHO]), told);
            assert_eq!(examined(43, &[&routing(kind, 0), ECHO]), Ok(None));
        }
    }

    #[test]
    fn a_fragment_header_is_read_field_by_field() {
        // The first of several, as RFC 8200 section 4.5 draws it.
        let header = &[58, 0, 0, 1, 0x1b, 0x2c, 0x3d, 0x4e];
        let fragment =
            Fragment { at: 40, named_at: 6, next_header: 58, offset: 0, more: true, id: 0x1b2c_3d4e };
        assert_eq!(examined(44, &[header, ECHO]), Ok(Some(fragment)));
        let mut written = [0xff; 8];
        fragment.emit(&mut written);
        assert_eq!(&written, header);
        let later = examined(44, &[&[58, 0, 0x05, 0xa8, 0, 0, 0, 7], &[1, 2, 3]]).unwrap().unwrap();
        assert_eq!((later.offset, later.more, later.id), (1448, false, 7));
    }

    #[test]
    fn an_atomic_fragment_is_a_whole_packet() {
        assert_eq!(examined(44, &[&[58, 0, 0, 0, 0, 0, 0, 7], ECHO]), Ok(None));
    }

    #[test]
    fn a_fragment_header_is_taken_out_of_the_chain() {
        let mut alone = packet(44, &[58, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!((remove_fragment(&mut alone), alone[6]), (40, 58));
        let mut behind =
            packet(0, &[60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 7]);
        assert_eq!(remove_fragment(&mut behind), 56);
        assert_eq!((behind[6], behind[40], behind[48]), (0, 60, 17));
    }

    #[test]
    fn fragments_that_break_rfc_8200_are_told_of() {
        let told = |error| Err(Problem::Told(error));
        let odd = examined(44, &[&[58, 0, 0, 1, 0, 0, 0, 7], ECHO, &[0]]);
        assert_eq!(odd, told(Error::ErroneousField(4)));
        let beyond = examined(44, &[&[58, 0, 0xff, 0xf8, 0, 0, 0, 7], ECHO]);
        assert_eq!(beyond, told(Error::ErroneousField(42)));
        assert!(examined(44, &[&[58, 0, 0xff, 0xf8, 0, 0, 0, 7], &ECHO[..7]]).is_ok());
        let empty = examined(44, &[&[58, 0, 0xff, 0xf8, 0, 0, 0, 7]]);
        assert!(matches!(empty, Err(Problem::Malformed(_))));
    }

    #[test]
    fn a_first_fragment_holds_all_headers() {
        let incomplete = Err(Problem::Told(Error::IncompleteChain));
        let options_go_on = &[58, 1, 1, 4, 0, 0, 0, 0];
        assert_eq!(examined(44, &[&[60, 0, 0, 1, 0, 0, 0, 7], options_go_on]), incomplete);
        let options_end = &[6, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(examined(44, &[&[60, 0, 0, 1, 0, 0, 0, 7], options_end]), incomplete);
        assert_eq!(examined(44, &[&[60, 0, 0, 1, 0, 0, 0, 7], options_end, &[0; 16]]), incomplete);
        assert!(examined(44, &[&[60, 0, 0, 1, 0, 0, 0, 7], options_end, &[0; 24]]).is_ok());
    }
}
