//! One live trace: the request checked, then each packet as it comes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_proto::v1;
use weft_stack::Prefix;
use weft_stack::trace::LiveFilter;
use weft_stack::wire::ipv4::{ICMP, TCP, UDP};
use weft_stack::wire::ipv6::ICMPV6;

use super::Node;
use super::answer::wrong_field;
use super::diagnostics::trace;
use crate::dataplane::{LiveReport, LiveTraces};

/// Messages that may lie ready for the transport.
const READY: usize = 16;

const DEFAULT_SECONDS: u32 = 60;
const MOST_SECONDS: u32 = 3600;

type Message = Result<v1::TraceLiveResponse, Status>;

/// Starts a live trace; it ends with its reader, with a limit of the request, or with the daemon. A port that
/// is named must exist.
pub(super) fn start(
    node: &Arc<Node>,
    request: &v1::TraceLiveRequest,
) -> Result<ReceiverStream<Message>, Status> {
    let filters = filters(request)?;
    let seconds = match request.seconds {
        0 => DEFAULT_SECONDS,
        seconds @ 1..=MOST_SECONDS => seconds,
        other => {
            let description = format_args!("{other} is out of range, 1 to {MOST_SECONDS} expected");
            return Err(wrong_field("seconds", description));
        }
    };
    let packets = node.dataplane.watch(filters);
    let packets = packets.map_err(|error| Status::resource_exhausted(error.to_string()))?;
    let (messages, stream) = mpsc::channel(READY);
    let mut closing = node.closing.clone();
    let count = request.count;
    tokio::spawn(async move {
        tokio::select! {
            () = forward(packets, &messages, count) => {}
            () = tokio::time::sleep(Duration::from_secs(seconds.into())) => {}
            () = messages.closed() => {}
            _ = closing.wait_for(|closing| *closing) => {
                // The reader may be gone as well.
                let _ = messages.try_send(Err(Status::unavailable("weftd is stopping")));
            }
        }
    });
    Ok(ReceiverStream::new(stream))
}

/// Sends packets until there were `count`, 0 for no end, or the reader is gone.
async fn forward(mut packets: LiveTraces, messages: &mpsc::Sender<Message>, count: u32) {
    let mut left = if count == 0 { u32::MAX } else { count };
    while left > 0 {
        let Some(report) = packets.next().await else { return };
        if messages.send(Ok(message(report))).await.is_err() {
            return;
        }
        if count != 0 {
            left -= 1;
        }
    }
}

fn message(report: LiveReport) -> v1::TraceLiveResponse {
    v1::TraceLiveResponse {
        at: Some(report.at.into()),
        port: report.port,
        frame: report.frame,
        summary: report.summary,
        trace: Some(trace(report.trace)),
        missed: report.missed,
    }
}

/// The filters of a request. ICMP has another number in IPv6: where both may be meant there are two.
fn filters(request: &v1::TraceLiveRequest) -> Result<Vec<LiveFilter>, Status> {
    let port = |field: &str, number: u32| match u16::try_from(number) {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(port)),
        Err(_) => Err(wrong_field(field, format_args!("{number} is out of range, 0 to 65535 expected"))),
    };
    let filter = LiveFilter {
        port: Some(request.port.clone()).filter(|port| !port.is_empty()),
        source: block("source", &request.source)?,
        destination: block("destination", &request.destination)?,
        source_port: port("sourcePort", request.source_port)?,
        destination_port: port("destinationPort", request.destination_port)?,
        mac: match request.mac.as_str() {
            "" => None,
            text => Some(
                text.parse()
                    .map_err(|_| wrong_field("mac", format_args!("{text:?} is not a MAC address")))?,
            ),
        },
        every: request.sample,
        ..LiveFilter::default()
    };
    let with = |protocol| LiveFilter { protocol: Some(protocol), ..filter.clone() };
    let filters = match v1::Protocol::try_from(request.protocol) {
        Ok(v1::Protocol::Unspecified) => vec![filter],
        Ok(v1::Protocol::Icmp) => vec![with(ICMP), with(ICMPV6)],
        Ok(v1::Protocol::Tcp) => vec![with(TCP)],
        Ok(v1::Protocol::Udp) => vec![with(UDP)],
        Ok(v1::Protocol::Resolve) => vec![LiveFilter { resolution: true, ..filter }],
        Err(_) => {
            return Err(wrong_field("protocol", format_args!("{} is not a protocol", request.protocol)));
        }
    };
    let ported = |filter: &LiveFilter| filter.source_port.is_some() || filter.destination_port.is_some();
    let has_ports =
        |filter: &LiveFilter| !filter.resolution && matches!(filter.protocol, None | Some(TCP | UDP));
    match filters.iter().all(|filter| !ported(filter) || has_ports(filter)) {
        true => Ok(filters),
        false => Err(wrong_field("destinationPort", "only TCP and UDP have ports")),
    }
}

/// An address or a block; empty: any.
fn block(field: &str, text: &str) -> Result<Option<Prefix>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let one = text.parse().ok().and_then(|address: std::net::IpAddr| {
        Prefix::containing(address, if address.is_ipv4() { 32 } else { 128 }).ok()
    });
    match one {
        Some(address) => Ok(Some(address)),
        None => text.parse::<Prefix>().map(Some).map_err(|error| wrong_field(field, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(request: v1::TraceLiveRequest) -> String {
        let status = filters(&request).unwrap_err();
        weft_proto::error_detail::violations(&status)[0].line()
    }

    #[test]
    fn an_address_is_a_block_of_one() {
        let request = v1::TraceLiveRequest {
            source: "198.18.1.10".into(),
            destination: "2001:db8::/32".into(),
            ..Default::default()
        };
        let filters = filters(&request).unwrap();
        assert_eq!(filters[0].source, Some("198.18.1.10/32".parse().unwrap()));
        assert_eq!(filters[0].destination, Some("2001:db8::/32".parse().unwrap()));
    }

    #[test]
    fn icmp_is_that_of_either_family() {
        let request = v1::TraceLiveRequest { protocol: v1::Protocol::Icmp.into(), ..Default::default() };
        let numbers: Vec<_> = filters(&request).unwrap().into_iter().map(|filter| filter.protocol).collect();
        assert_eq!(numbers, [Some(1), Some(58)]);
    }

    #[test]
    fn wrong_fields_are_named() {
        let base = v1::TraceLiveRequest::default;
        for (request, expected) in [
            (v1::TraceLiveRequest { source: "here".into(), ..base() }, "source: "),
            (v1::TraceLiveRequest { mac: "02:00".into(), ..base() }, "mac: \"02:00\" is not a MAC address"),
            (v1::TraceLiveRequest { source_port: 70_000, ..base() }, "sourcePort: 70000 is out of range"),
            (
                v1::TraceLiveRequest { protocol: 1, destination_port: 80, ..base() },
                "destinationPort: only TCP and UDP have ports",
            ),
        ] {
            let line = refused(request);
            assert!(line.contains(expected), "{line}");
        }
    }
}
