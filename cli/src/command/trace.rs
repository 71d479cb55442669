//! `weft trace`.

use std::io::Write;

use weft_proto::Client;
use weft_proto::v1::{PacketSpec, Protocol, TraceRequest, TraceResponse, trace_request};

use crate::arguments::{TextFormat, Trace};
use crate::error::Error;
use crate::output::Output;
use crate::table::{Tone, toned};

/// Prints each stage, the verdict and what would leave.
pub async fn run(mut client: Client, arguments: Trace, output: &mut Output) -> Result<(), Error> {
    let format = arguments.output;
    let request = TraceRequest { port: arguments.port.clone(), packet: Some(packet(arguments)) };
    let trace = client.diagnostics.trace(request).await?.into_inner();
    match format {
        TextFormat::Json => output.json(&trace),
        TextFormat::Text => print(&trace, output),
    }
}

fn packet(arguments: Trace) -> trace_request::Packet {
    if let Some(frame) = arguments.frame {
        return trace_request::Packet::Frame(frame.0);
    }
    let (protocol, port) = match (arguments.tcp, arguments.udp) {
        (Some(port), _) => (Protocol::Tcp, port),
        (None, Some(port)) => (Protocol::Udp, port),
        (None, None) if arguments.resolve => (Protocol::Resolve, 0),
        (None, None) => (Protocol::Icmp, 0),
    };
    let address = |address: Option<std::net::IpAddr>| address.map(|it| it.to_string()).unwrap_or_default();
    trace_request::Packet::Spec(PacketSpec {
        source: address(arguments.from),
        destination: address(arguments.to),
        protocol: protocol.into(),
        source_port: arguments.source_port.unwrap_or_default().into(),
        destination_port: port.into(),
        length: arguments.size.unwrap_or_default().into(),
        ttl: arguments.ttl.unwrap_or_default().into(),
        dont_fragment: arguments.df,
        source_mac: arguments.from_mac.unwrap_or_default(),
        destination_mac: arguments.to_mac.unwrap_or_default(),
        vlan: arguments.vlan.unwrap_or_default().into(),
    })
}

fn print(trace: &TraceResponse, output: &mut Output) -> Result<(), Error> {
    let width = trace.steps.iter().map(|step| step.stage.chars().count()).max().unwrap_or(0);
    for step in &trace.steps {
        writeln!(output, "{:width$}  {}", step.stage, step.message)?;
    }
    let (tone, reason) = match trace.drop_reason.as_str() {
        // A packet that waits for its neighbour neither left nor was lost.
        "" if trace.verdict == "queued" => (Tone::Busy, String::new()),
        "" => (Tone::Good, String::new()),
        reason => (Tone::Bad, format!(" ({reason})")),
    };
    writeln!(output, "verdict: {}{reason}", toned(output.colour, tone, &trace.verdict))?;
    for out in &trace.outputs {
        writeln!(output, "output: port/{}: {}", out.port, out.summary)?;
    }
    Ok(())
}
