//! `weft trace`.

use std::io::Write;

use weft_proto::Client;
use weft_proto::v1::{
    PacketSpec, Protocol, TraceLiveRequest, TraceLiveResponse, TraceRequest, TraceResponse, trace_request,
};

use crate::arguments::{Block, TextFormat, Trace};
use crate::error::Error;
use crate::output::Output;
use crate::table::{Tone, toned};

/// Prints each stage, the verdict and what would leave.
pub async fn run(mut client: Client, arguments: Trace, output: &mut Output) -> Result<(), Error> {
    if arguments.live.live {
        return live(client, arguments, output).await;
    }
    let format = arguments.output;
    let port = arguments.port.clone().unwrap_or_default();
    let request = TraceRequest { port, packet: Some(packet(arguments)) };
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
    let (protocol, port) = protocol(&arguments).unwrap_or((Protocol::Icmp, 0));
    trace_request::Packet::Spec(PacketSpec {
        source: text(arguments.from),
        destination: text(arguments.to),
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

fn text(address: Option<Block>) -> String {
    address.map(|address| address.0).unwrap_or_default()
}

/// The protocol that was asked for, and the destination port.
fn protocol(arguments: &Trace) -> Option<(Protocol, u16)> {
    match (arguments.tcp, arguments.udp) {
        (Some(port), _) => Some((Protocol::Tcp, port)),
        (None, Some(port)) => Some((Protocol::Udp, port)),
        (None, None) if arguments.resolve => Some((Protocol::Resolve, 0)),
        (None, None) => arguments.icmp.then_some((Protocol::Icmp, 0)),
    }
}

/// Prints real packets as they come, until the daemon ends the stream.
async fn live(mut client: Client, arguments: Trace, output: &mut Output) -> Result<(), Error> {
    let format = arguments.output;
    let mut packets = client.diagnostics.trace_live(filter(arguments)).await?.into_inner();
    while let Some(packet) = packets.message().await? {
        match format {
            TextFormat::Json => writeln!(output, "{}", serde_json::to_string(&packet)?)?,
            TextFormat::Text => print_live(&packet, output)?,
        }
        output.flush()?;
    }
    Ok(())
}

fn filter(arguments: Trace) -> TraceLiveRequest {
    let (protocol, port) = protocol(&arguments).unwrap_or((Protocol::Unspecified, 0));
    TraceLiveRequest {
        port: arguments.port.unwrap_or_default(),
        source: text(arguments.from),
        destination: text(arguments.to),
        protocol: protocol.into(),
        source_port: arguments.source_port.unwrap_or_default().into(),
        destination_port: port.into(),
        mac: arguments.live.mac.unwrap_or_default(),
        sample: arguments.live.sample.unwrap_or_default(),
        count: arguments.live.count.unwrap_or_default(),
        seconds: arguments.live.seconds.unwrap_or_default(),
    }
}

fn print_live(packet: &TraceLiveResponse, output: &mut Output) -> Result<(), Error> {
    if packet.missed > 0 {
        writeln!(output, "{} more that fit were not followed\n", packet.missed)?;
    }
    let at = packet.at.map(|at| at.to_string()).unwrap_or_default();
    writeln!(output, "{at}  port/{}: {}", packet.port, packet.summary)?;
    print(&packet.trace.clone().unwrap_or_default(), output)?;
    Ok(writeln!(output)?)
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
