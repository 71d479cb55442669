//! Multicast listener discovery: versions 1 (RFC 2710) and 2 (RFC 3810, RFC 9777 section 5). Messages of ICMPv6.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::membership::{self, Message, Query, Records, Report};
use super::{Malformed, icmpv6, ipv6, read_u16, write_u16};

/// Octets of a message of version 1.
pub const HEADER_LENGTH: usize = 24;
/// Octets of a query of version 2 without sources.
pub const QUERY_LENGTH: usize = 28;
/// Octets of a packet with a query, its IP header with the router alert option included.
pub const QUERY_PACKET: usize = ipv6::HEADER_LENGTH + ROUTER_ALERT.len() + QUERY_LENGTH;
/// Where queries for all groups go.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Type of a query.
pub const QUERY: u8 = 130;
/// Type of a router's own announcement (RFC 4286 section 3.1).
pub const ROUTER_ADVERTISEMENT: u8 = 151;

const HOP_BY_HOP: u8 = 0;
/// Hop-by-hop options: router alert for MLD (RFC 2711), padded.
const ROUTER_ALERT: [u8; 8] = [ipv6::ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// Whether a message of this type tells of listeners: versions 1 and 2, and leaving.
pub fn is_report(kind: u8) -> bool {
    matches!(kind, icmpv6::LISTENER_REPORT | icmpv6::LISTENER_DONE | icmpv6::LISTENER_REPORT_V2)
}

/// Reads a query or report. The caller has seen to the checksum. `None`: a message of another type.
pub fn parse(message: &[u8]) -> Result<Option<Message<'_>>, Malformed> {
    match message.first() {
        Some(&icmpv6::LISTENER_REPORT_V2) => {
            let Some(fixed) = message.first_chunk::<8>() else {
                return Err(Malformed("shorter than an MLD report"));
            };
            let records = Records::check(&message[8..], usize::from(read_u16(fixed, 6)), 16)?;
            return Ok(Some(Message::Report(Report::Records(records))));
        }
        Some(&(QUERY | icmpv6::LISTENER_REPORT | icmpv6::LISTENER_DONE)) => {}
        _ => return Ok(None),
    }
    let Some(fixed) = message.first_chunk::<HEADER_LENGTH>() else {
        return Err(Malformed("shorter than an MLD message"));
    };
    // The fixed part has all sixteen octets.
    let group = membership::address(&fixed[8..], 16).unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    Ok(Some(match fixed[0] {
        QUERY => Message::Query(parse_query(message, group)?),
        icmpv6::LISTENER_REPORT => Message::Report(Report::Join(membership::group(group)?)),
        _ => Message::Report(Report::Leave(membership::group(group)?)),
    }))
}

/// The version of a query is known by its length (RFC 3810 section 8.1).
fn parse_query(message: &[u8], group: IpAddr) -> Result<Query, Malformed> {
    let group = if group.is_unspecified() { None } else { Some(membership::group(group)?) };
    let code = read_u16(message, 4);
    let Some(query) = message.first_chunk::<QUERY_LENGTH>() else {
        if message.len() != HEADER_LENGTH {
            return Err(Malformed("a query with a length of no version"));
        }
        let max_response = Duration::from_millis(code.into());
        let (robustness, interval) = (None, None);
        return Ok(Query { group, max_response, of_sources: false, suppress: false, robustness, interval });
    };
    let sources = usize::from(read_u16(query, 26));
    if message.len() < QUERY_LENGTH + sources * 16 {
        return Err(Malformed("the sources of a query are cut short"));
    }
    Ok(Query {
        group,
        max_response: Duration::from_millis(membership::code_16(code)),
        of_sources: sources > 0,
        suppress: query[24] & 0x08 != 0,
        robustness: Some(query[24] & 0x07).filter(|robustness| *robustness > 0),
        interval: Some(membership::code_8(query[25])).filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })
}

/// Writes a packet with a query of version 2 into the first [`QUERY_PACKET`] octets of `packet`. Times are below 32
/// and 128 seconds; the group is unspecified to ask for all.
pub fn emit_query(
    source: Ipv6Addr,
    group: Ipv6Addr,
    max_response: Duration,
    robustness: u8,
    interval: Duration,
    packet: &mut [u8],
) {
    let destination = if group.is_unspecified() { ALL_NODES } else { group };
    let fields = ipv6::Fields {
        payload_length: ROUTER_ALERT.len() + QUERY_LENGTH,
        next_header: HOP_BY_HOP,
        hop_limit: 1,
        source,
        destination,
    };
    fields.emit(packet);
    let (options, message) = packet[ipv6::HEADER_LENGTH..QUERY_PACKET].split_at_mut(ROUTER_ALERT.len());
    options.copy_from_slice(&ROUTER_ALERT);
    message.fill(0);
    message[0] = QUERY;
    write_u16(message, 4, max_response.as_millis().min(32_767) as u16);
    message[8..24].copy_from_slice(&group.octets());
    message[24] = robustness & 7;
    message[25] = interval.as_secs().min(127) as u8;
    icmpv6::fill_checksum(source, destination, message);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::membership::RecordKind;
    use super::*;

    // What Linux sends: a host that comes up (version 2, from ::), a socket that joins ff05::1:3 and leaves it again
    // (version 1, from fe80::2c0f:3dff:fe33:7653), and the query of a bridge. From captures, without the IP header.
    const REPORT: [u8; 28] = [
        0x8f, 0, 0xf9, 0x03, 0, 0, 0, 0x01, 0x04, 0, 0, 0, 0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0xff,
        0x33, 0x76, 0x53,
    ];
    const JOIN: [u8; 24] =
        [0x83, 0, 0xa1, 0x82, 0, 0, 0, 0, 0xff, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0x03];
    const DONE: [u8; 24] =
        [0x84, 0, 0xa0, 0x87, 0, 0, 0, 0, 0xff, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0x03];
    const BRIDGE_QUERY: [u8; 28] = [
        0x82, 0, 0x78, 0x01, 0x27, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x7d, 0,
        0,
    ];

    fn done(group: &str) -> Vec<u8> {
        let mut message = vec![132, 0, 0, 0, 0, 0, 0, 0];
        message.extend(group.parse::<Ipv6Addr>().unwrap().octets());
        message
    }

    #[test]
    fn a_report_of_version_2_is_read() {
        let Ok(Some(Message::Report(Report::Records(mut records)))) = parse(&REPORT) else {
            panic!("no report")
        };
        let record = records.next().unwrap();
        assert_eq!((record.kind, record.sources), (Some(RecordKind::ToExclude), 0));
        assert_eq!(record.group.to_string(), "ff02::1:ff33:7653");
        assert_eq!(records.next(), None);
    }

    #[test]
    fn messages_of_version_1_are_read() {
        let group = "ff05::1:3".parse().unwrap();
        assert_eq!(parse(&DONE), Ok(Some(Message::Report(Report::Leave(group)))));
        assert_eq!(parse(&JOIN), Ok(Some(Message::Report(Report::Join(group)))));
        let mut query = done("::");
        query[0] = QUERY;
        query[4..6].copy_from_slice(&10_000u16.to_be_bytes());
        let Ok(Some(Message::Query(query))) = parse(&query) else { panic!("no query") };
        assert_eq!((query.group, query.max_response), (None, Duration::from_secs(10)));
    }

    #[test]
    fn cut_messages_and_strange_groups_are_refused() {
        assert!(parse(&REPORT[..27]).is_err());
        assert!(parse(&REPORT[..7]).is_err());
        assert!(parse(&done("ff05::1:3")[..20]).is_err());
        assert!(parse(&done("2001:db8::1")).is_err());
        assert_eq!(parse(&[128, 0, 0, 0]), Ok(None));
    }

    #[test]
    fn a_query_is_a_packet_of_hop_limit_1_with_a_router_alert() {
        let mut packet = [0; QUERY_PACKET];
        let source = "fe80::2c0f:3dff:fe33:7653".parse().unwrap();
        let (response, interval) = (Duration::from_secs(10), Duration::from_secs(125));
        emit_query(source, Ipv6Addr::UNSPECIFIED, response, 2, interval, &mut packet);
        let header = ipv6::Header::parse(&packet).unwrap();
        assert_eq!((header.hop_limit, header.protocol, header.payload_offset), (1, ipv6::ICMPV6, 48));
        assert_eq!(header.destination, ALL_NODES);
        assert_eq!(packet[40..48], [58, 0, 5, 2, 0, 0, 1, 0]);
        assert_eq!(icmpv6::check(source, ALL_NODES, &packet[48..]), Ok(QUERY));
        assert_eq!(packet[48..], BRIDGE_QUERY, "as Linux writes it");
        let Ok(Some(Message::Query(query))) = parse(&packet[48..]) else { panic!("no query") };
        assert_eq!((query.group, query.max_response, query.interval), (None, response, Some(interval)));
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..160), kind in 0usize..4) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = [QUERY, 131, 132, 143][kind];
            }
            if let Ok(Some(Message::Report(Report::Records(records)))) = parse(&bytes) {
                prop_assert!(records.count() <= 160);
            }
        }
    }
}
