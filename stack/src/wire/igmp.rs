//! IGMP: versions 1 and 2 (RFC 2236) and 3 (RFC 3376, RFC 9776 section 4).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::checksum::Sum;
use super::membership::{self, Message, Query, Records, Report};
use super::{Malformed, ipv4, read_u16, write_u16};

/// Protocol number of IGMP.
pub const PROTOCOL: u8 = 2;
/// Octets of a message of version 1 or 2.
pub const HEADER_LENGTH: usize = 8;
/// Octets of a query of version 3 without sources.
pub const QUERY_LENGTH: usize = 12;
/// Octets of a packet with a query, its IP header with the router alert option included.
pub const QUERY_PACKET: usize = ipv4::HEADER_LENGTH + ROUTER_ALERT.len() + QUERY_LENGTH;
/// Where queries for all groups go.
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// Type of a query.
pub const QUERY: u8 = 0x11;
/// Type of a router's own announcement (RFC 4286 section 3.1).
pub const ROUTER_ADVERTISEMENT: u8 = 0x30;

const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0]; // RFC 2113

/// Whether a message of this type is a host's, about what it listens to.
pub fn is_report(kind: u8) -> bool {
    matches!(kind, REPORT_V1 | REPORT_V2 | LEAVE | REPORT_V3)
}

/// Reads a query or report, checksum included. `None`: a message of another type.
pub fn parse(message: &[u8]) -> Result<Option<Message<'_>>, Malformed> {
    let Some(fixed) = message.first_chunk::<HEADER_LENGTH>() else {
        return Err(Malformed("shorter than an IGMP message"));
    };
    if Sum::default().bytes(message).folded() != 0xffff {
        return Err(Malformed("wrong checksum"));
    }
    let group = Ipv4Addr::new(fixed[4], fixed[5], fixed[6], fixed[7]);
    let of_group = || membership::group(group.into());
    Ok(Some(match fixed[0] {
        QUERY => Message::Query(parse_query(message, group)?),
        REPORT_V1 | REPORT_V2 => Message::Report(Report::Join(of_group()?)),
        LEAVE => Message::Report(Report::Leave(of_group()?)),
        REPORT_V3 => {
            let records = Records::check(&message[HEADER_LENGTH..], usize::from(read_u16(fixed, 6)), 4)?;
            Message::Report(Report::Records(records))
        }
        _ => return Ok(None),
    }))
}

/// The version of a query is known by its length and code (RFC 3376 section 7.1).
fn parse_query(message: &[u8], group: Ipv4Addr) -> Result<Query, Malformed> {
    let group = if group.is_unspecified() { None } else { Some(membership::group(group.into())?) };
    let tenths = |count: u64| Duration::from_millis(count * 100);
    let Some(query) = message.first_chunk::<QUERY_LENGTH>() else {
        if message.len() != HEADER_LENGTH {
            return Err(Malformed("a query with a length of no version"));
        }
        // Version 1 has no code, and hosts answer within ten seconds.
        let max_response = if message[1] == 0 { tenths(100) } else { tenths(message[1].into()) };
        let (robustness, interval) = (None, None);
        return Ok(Query { group, max_response, of_sources: false, suppress: false, robustness, interval });
    };
    let sources = usize::from(read_u16(query, 10));
    if message.len() < QUERY_LENGTH + sources * 4 {
        return Err(Malformed("the sources of a query are cut short"));
    }
    Ok(Query {
        group,
        max_response: tenths(membership::code_8(query[1])),
        of_sources: sources > 0,
        suppress: query[8] & 0x08 != 0,
        robustness: Some(query[8] & 0x07).filter(|robustness| *robustness > 0),
        interval: Some(membership::code_8(query[9])).filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })
}

/// Writes a packet with a query of version 3 into the first [`QUERY_PACKET`] octets of `packet`. Times are below
/// 12.8 and 128 seconds; the group is unspecified to ask for all.
pub fn emit_query(
    source: Ipv4Addr,
    group: Ipv4Addr,
    max_response: Duration,
    robustness: u8,
    interval: Duration,
    packet: &mut [u8],
) {
    let general = group.is_unspecified();
    let header = ipv4::Header {
        header_length: ipv4::HEADER_LENGTH + ROUTER_ALERT.len(),
        total_length: QUERY_PACKET,
        tos: 0xc0, // internetwork control (RFC 3376 section 4)
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 1,
        protocol: PROTOCOL,
        source,
        destination: if general { ALL_SYSTEMS } else { group },
    };
    header.emit(packet);
    let (ip, message) = packet[..QUERY_PACKET].split_at_mut(header.header_length);
    ip[0] = 0x46;
    ip[ipv4::HEADER_LENGTH..].copy_from_slice(&ROUTER_ALERT);
    ipv4::fill_checksum(ip);
    message.fill(0);
    message[0] = QUERY;
    message[1] = (max_response.as_millis() / 100).min(127) as u8;
    message[4..8].copy_from_slice(&group.octets());
    message[8] = robustness & 7;
    message[9] = interval.as_secs().min(127) as u8;
    let sum = Sum::default().bytes(message).finish();
    write_u16(message, 2, sum);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::membership::RecordKind;
    use super::*;

    // What Linux sends: the query of a bridge with a querier of version 2 and of version 3, and a socket that joins
    // 239.1.2.3 and leaves it again, in both versions. From captures, without the IP header.
    const QUERY_V2: [u8; 8] = [0x11, 0x64, 0xee, 0x9b, 0, 0, 0, 0];
    const QUERY_V3: [u8; 12] = [0x11, 0x64, 0xec, 0x1e, 0, 0, 0, 0, 0x02, 0x7d, 0, 0];
    const JOIN_V2: [u8; 8] = [0x16, 0x00, 0xf8, 0xfa, 0xef, 0x01, 0x02, 0x03];
    const LEAVE_V2: [u8; 8] = [0x17, 0x00, 0xf7, 0xfa, 0xef, 0x01, 0x02, 0x03];
    const JOIN_V3: [u8; 16] = [0x22, 0, 0xe8, 0xf9, 0, 0, 0, 1, 4, 0, 0, 0, 0xef, 1, 2, 3];
    const LEAVE_V3: [u8; 16] = [0x22, 0, 0xe9, 0xf9, 0, 0, 0, 1, 3, 0, 0, 0, 0xef, 1, 2, 3];

    fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
        write_u16(&mut message, 2, 0);
        let sum = Sum::default().bytes(&message).finish();
        write_u16(&mut message, 2, sum);
        message
    }

    fn records(message: &[u8]) -> Vec<(Option<RecordKind>, String, usize)> {
        let Ok(Some(Message::Report(Report::Records(records)))) = parse(message) else { panic!("no report") };
        records.map(|record| (record.kind, record.group.to_string(), record.sources)).collect()
    }

    #[test]
    fn messages_of_version_2_are_read() {
        let Ok(Some(Message::Query(query))) = parse(&QUERY_V2) else { panic!("no query") };
        assert_eq!((query.group, query.max_response), (None, Duration::from_secs(10)));
        let group = "239.1.2.3".parse().unwrap();
        assert_eq!(parse(&JOIN_V2), Ok(Some(Message::Report(Report::Join(group)))));
        assert_eq!(parse(&LEAVE_V2), Ok(Some(Message::Report(Report::Leave(group)))));
    }

    #[test]
    fn reports_of_version_3_are_read_record_by_record() {
        assert_eq!(records(&JOIN_V3), [(Some(RecordKind::ToExclude), "239.1.2.3".into(), 0)]);
        assert_eq!(records(&LEAVE_V3), [(Some(RecordKind::ToInclude), "239.1.2.3".into(), 0)]);
        // Two records, the first with two sources and one word of auxiliary data, the second of an unknown kind.
        let mut message = vec![0x22, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0, 2, 232, 1, 1, 1];
        message.extend([198, 18, 0, 1, 198, 18, 0, 2, 0xaa, 0xaa, 0xaa, 0xaa, 9, 0, 0, 0, 232, 1, 1, 2]);
        let expected = [(Some(RecordKind::IsInclude), "232.1.1.1".into(), 2), (None, "232.1.1.2".into(), 0)];
        assert_eq!(records(&with_checksum(message)), expected);
    }

    #[test]
    fn a_querier_of_version_3_tells_its_numbers() {
        let Ok(Some(Message::Query(query))) = parse(&QUERY_V3) else { panic!("no query") };
        assert_eq!((query.group, query.max_response, query.suppress), (None, Duration::from_secs(10), false));
        assert_eq!((query.robustness, query.interval), (Some(2), Some(Duration::from_secs(125))));
        let message = with_checksum(vec![0x11, 100, 0, 0, 239, 1, 2, 3, 0x0a, 0x8a, 0, 1, 198, 18, 0, 1]);
        let Ok(Some(Message::Query(query))) = parse(&message) else { panic!("no query") };
        assert!(query.of_sources && query.suppress);
        assert_eq!((query.robustness, query.interval), (Some(2), Some(Duration::from_secs(208))));
    }

    #[test]
    fn wrong_checksums_lengths_and_groups_are_refused() {
        let mut wrong = JOIN_V3;
        wrong[15] = 4;
        assert_eq!(parse(&wrong), Err(Malformed("wrong checksum")));
        assert!(parse(&QUERY_V2[..7]).is_err());
        assert!(parse(&with_checksum(vec![0x11, 100, 0, 0, 0, 0, 0, 0, 0, 0])).is_err(), "10 octets");
        assert!(parse(&with_checksum(vec![0x16, 0, 0, 0, 198, 18, 0, 1])).is_err(), "no group");
        let cut = with_checksum(vec![0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 9, 239, 1, 2, 3]);
        assert_eq!(parse(&cut), Err(Malformed("the sources of a group record are cut short")));
        assert_eq!(parse(&with_checksum(vec![0x14, 0, 0, 0, 0, 0, 0, 0])), Ok(None), "PIM version 1");
    }

    #[test]
    fn a_query_is_a_packet_of_ttl_1_with_a_router_alert() {
        let mut packet = [0; QUERY_PACKET];
        let group = Ipv4Addr::new(239, 1, 2, 3);
        let (second, interval) = (Duration::from_secs(1), Duration::from_secs(125));
        emit_query(
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Duration::from_secs(10),
            2,
            interval,
            &mut packet,
        );
        assert_eq!(packet[24..], QUERY_V3, "as Linux writes it");
        emit_query([198, 18, 0, 1].into(), group, second, 2, interval, &mut packet);
        let header = ipv4::Header::parse(&packet).unwrap();
        assert_eq!((header.ttl, header.header_length, header.destination), (1, 24, group));
        assert!(ipv4::checksum_is_valid(&packet[..24]));
        assert_eq!(packet[20..24], [0x94, 4, 0, 0]);
        let Ok(Some(Message::Query(query))) = parse(&packet[24..]) else { panic!("no query") };
        assert_eq!((query.group, query.max_response), (Some(group.into()), second));
        assert_eq!((query.robustness, query.interval), (Some(2), Some(interval)));
    }

    proptest! {
        #[test]
        fn parse_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0usize..4) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = [QUERY, REPORT_V2, REPORT_V3, LEAVE][kind];
            }
            if bytes.len() >= 8 {
                bytes = with_checksum(bytes);
            }
            if let Ok(Some(Message::Report(Report::Records(records)))) = parse(&bytes) {
                prop_assert!(records.count() <= 120);
            }
        }
    }
}
