//! The Diagnostics service: Status, Counters, Trace and TraceLive.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weft_proto::v1;
use weft_proto::v1::diagnostics_server::Diagnostics;
use weft_stack::trace::{PacketSpec, Protocol};

use super::answer::wrong_field;
use super::resource::{counters, named, small};
use super::{Node, answer, live_trace};
use crate::dataplane::{QueueReport, StageReport, TraceError, TracePacket, TraceReport, WorkerReport};
use crate::error::Error;
use crate::model::{Kind, ObjectRef, VlanId};

/// The service.
pub(super) struct DiagnosticsService {
    node: Arc<Node>,
}

impl DiagnosticsService {
    pub fn new(node: Arc<Node>) -> DiagnosticsService {
        DiagnosticsService { node }
    }

    /// A Port that exists.
    fn port(&self, name: &str) -> Result<ObjectRef, Status> {
        let object = answer::object("port.", v1::Kind::Port as i32, name)
            .map_err(|_| wrong_field("port", format_args!("{name:?} is not the name of a Port")))?;
        match self.node.store.picture().resources.contains_key(&object) {
            true => Ok(object),
            false => Err(Error::NotFound(vec![object]).into()),
        }
    }

    fn kinds(&self) -> Vec<v1::KindCount> {
        let picture = self.node.store.picture();
        let count = |kind: Kind| {
            let objects = picture.resources.keys().filter(|object| object.kind == kind);
            let is_ready =
                |object: &&ObjectRef| self.node.status.get(object).is_some_and(|status| status.report.ready);
            let total = small(objects.clone().count());
            let ready = small(objects.filter(is_ready).count());
            v1::KindCount { kind: v1::Kind::from(kind) as i32, total, ready }
        };
        Kind::ALL.into_iter().map(count).collect()
    }
}

#[tonic::async_trait]
impl Diagnostics for DiagnosticsService {
    type TraceLiveStream = ReceiverStream<Result<v1::TraceLiveResponse, Status>>;

    async fn trace_live(
        &self,
        request: Request<v1::TraceLiveRequest>,
    ) -> Result<Response<Self::TraceLiveStream>, Status> {
        let request = request.into_inner();
        if !request.port.is_empty() {
            self.port(&request.port)?;
        }
        Ok(Response::new(live_trace::start(&self.node, &request)?))
    }

    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let node = &self.node;
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Some(node.started.into()),
            pid: std::process::id(),
            workers: node.dataplane.workers().into_iter().map(worker).collect(),
            reconciler: Some(node.realizer.report()),
            revision: node.store.revision(),
            snapshot: node.dataplane.generation(),
            kinds: self.kinds(),
            fast_path: node.dataplane.has_fast_path(),
        }))
    }

    async fn counters(
        &self,
        request: Request<v1::CountersRequest>,
    ) -> Result<Response<v1::CountersResponse>, Status> {
        let wanted = request.into_inner().port;
        if !wanted.is_empty() {
            self.port(&wanted)?;
        }
        let report = self.node.dataplane.counters();
        let ports = report
            .ports
            .into_iter()
            .filter(|(port, _)| wanted.is_empty() || *port == wanted)
            .map(|(port, totals)| v1::PortCounterSet {
                port,
                queues: totals.queues.iter().enumerate().map(queue).collect(),
                counters: Some(counters(totals)),
            })
            .collect();
        let (drops, stack) = (named(report.drops), named(report.stack));
        let stages = report.stages.into_iter().map(stage).collect();
        let workers = self.node.dataplane.workers().into_iter().map(worker).collect();
        Ok(Response::new(v1::CountersResponse { ports, drops, stack, stages, workers }))
    }

    async fn trace(&self, request: Request<v1::TraceRequest>) -> Result<Response<v1::TraceResponse>, Status> {
        let request = request.into_inner();
        let port = self.port(&request.port)?;
        let packet = match request.packet {
            Some(v1::trace_request::Packet::Frame(frame)) => TracePacket::Frame(frame),
            Some(v1::trace_request::Packet::Spec(spec)) => TracePacket::Spec(packet(&spec)?),
            None => return Err(wrong_field("packet", "not given, a spec or a frame expected")),
        };
        match self.node.dataplane.trace(port.name.as_str(), packet) {
            Ok(report) => Ok(Response::new(trace(report))),
            Err(TraceError::Invalid(reason)) => Err(wrong_field("packet", reason.to_string())),
            Err(TraceError::NotRealized(_)) => {
                let status = self.node.status.get(&port);
                let why = status.filter(|status| !status.report.ready).map(|status| status.report.message);
                let why = why.unwrap_or_else(|| "its device is not there yet".to_owned());
                Err(Status::failed_precondition(format!("{port} cannot be traced: {why}")))
            }
        }
    }
}

fn worker(report: WorkerReport) -> v1::WorkerStatus {
    v1::WorkerStatus {
        index: small(report.index),
        queues: small(report.queues),
        rx_packets: report.rx_packets,
        tx_packets: report.tx_packets,
        sleeps: report.sleeps,
        polls_hit: report.polls_hit,
        busy_us: micros(report.busy),
        elapsed_us: micros(report.elapsed),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn queue((index, report): (usize, &QueueReport)) -> v1::QueueCounters {
    v1::QueueCounters {
        queue: small(index),
        worker: small(report.worker),
        rx_packets: report.rx_packets,
        rx_bytes: report.rx_bytes,
    }
}

fn stage(report: StageReport) -> v1::StageCounterSet {
    let StageReport { stage, packets, drops } = report;
    v1::StageCounterSet { stage: stage.to_owned(), packets, drops }
}

pub(super) fn trace(report: TraceReport) -> v1::TraceResponse {
    let step = |(stage, message): (&'static str, String)| v1::TraceStep { stage: stage.to_owned(), message };
    let output = |(port, frame, summary)| v1::TraceOutput { port, frame, summary };
    v1::TraceResponse {
        steps: report.steps.into_iter().map(step).collect(),
        verdict: report.verdict.to_owned(),
        drop_reason: report.drop_reason.unwrap_or_default().to_owned(),
        outputs: report.outputs.into_iter().map(output).collect(),
    }
}

/// What a kernel that was asked for no certain port might choose (RFC 6335 section 6).
const FIRST_EPHEMERAL_PORT: u16 = 49152;

/// The description of a packet, checked.
fn packet(spec: &v1::PacketSpec) -> Result<PacketSpec, Status> {
    let destination: IpAddr = optional("destination", &spec.destination, "an IP address")?
        .ok_or_else(|| wrong_field("spec.destination", "not given, an IP address expected"))?;
    let source: Option<IpAddr> = optional("source", &spec.source, "an IP address")?;
    if let Some(source) = source.filter(|source| source.is_ipv4() != destination.is_ipv4()) {
        let description = format!("{source} is not of the same family as {destination}");
        return Err(wrong_field("spec.source", description));
    }
    Ok(PacketSpec {
        source,
        destination,
        protocol: protocol(spec.protocol)?,
        source_port: match within("sourcePort", spec.source_port, "0 to 65535")? {
            0 => FIRST_EPHEMERAL_PORT,
            port => port,
        },
        destination_port: within("destinationPort", spec.destination_port, "0 to 65535")?,
        length: match spec.length {
            0 => None,
            length => Some(within("length", length, "1 to 65535 octets")?),
        },
        ttl: match spec.ttl {
            0 => 64,
            ttl => within("ttl", ttl, "1 to 255")?,
        },
        dont_fragment: spec.dont_fragment,
        source_mac: optional("sourceMac", &spec.source_mac, "a MAC address")?,
        destination_mac: optional("destinationMac", &spec.destination_mac, "a MAC address")?,
        vlan: match spec.vlan {
            0 => None,
            id => Some(VlanId::new(id).map_err(|error| wrong_field("spec.vlan", error.to_string()))?.get()),
        },
    })
}

fn protocol(number: i32) -> Result<Protocol, Status> {
    match v1::Protocol::try_from(number) {
        Ok(v1::Protocol::Unspecified | v1::Protocol::Icmp) => Ok(Protocol::Icmp),
        Ok(v1::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(v1::Protocol::Udp) => Ok(Protocol::Udp),
        Ok(v1::Protocol::Resolve) => Ok(Protocol::Resolve),
        Err(_) => Err(wrong_field("spec.protocol", format_args!("{number} is not a protocol"))),
    }
}

/// A value that may be left out.
fn optional<T: std::str::FromStr>(field: &str, text: &str, expected: &str) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| wrong_field(&format!("spec.{field}"), format_args!("{text:?} is not {expected}"));
    text.parse().map(Some).map_err(wrong)
}

/// A number that fits its header field.
fn within<T: TryFrom<u32>>(field: &str, number: u32, expected: &str) -> Result<T, Status> {
    let wrong = |_| {
        let description = format_args!("{number} is out of range, {expected} expected");
        wrong_field(&format!("spec.{field}"), description)
    };
    T::try_from(number).map_err(wrong)
}
