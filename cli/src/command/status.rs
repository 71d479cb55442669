//! `weft status`.

use std::io::Write;

use weft_proto::Client;
use weft_proto::v1::{ReconcilerStatus, StatusRequest, StatusResponse};

use crate::arguments::{StatusArguments, TextFormat};
use crate::error::Error;
use crate::output::Output;
use crate::quantity::{age, count};
use crate::table::{Table, Tone, toned};

mod cluster;

/// Prints the state of the daemon, and of the cluster if there is an agent that knows one.
pub async fn run(mut client: Client, arguments: StatusArguments, output: &mut Output) -> Result<(), Error> {
    let status = client.diagnostics.status(StatusRequest {}).await?.into_inner();
    let cluster = cluster::ask(&arguments.agent.agent);
    match arguments.output {
        TextFormat::Json => {
            let mut all = serde_json::to_value(&status)?;
            if let Some(cluster) = cluster {
                all["cluster"] = cluster;
            }
            output.json(&all)
        }
        TextFormat::Text => {
            print(&status, output)?;
            cluster.map_or(Ok(()), |cluster| {
                writeln!(output)?;
                cluster::print(&cluster, output)
            })
        }
    }
}

fn print(status: &StatusResponse, output: &mut Output) -> Result<(), Error> {
    let up = status.started.map_or("-".to_owned(), |started| age(started.seconds));
    writeln!(output, "weftd {}, process {}, up {up}", status.version, status.pid)?;
    writeln!(output, "store revision {}, snapshot {}", status.revision, status.snapshot)?;
    let mut kinds = Table::new(&["KIND", "TOTAL", "READY"]);
    for kind in &status.kinds {
        kinds.row(vec![
            kind.kind().plural().into(),
            kind.total.to_string().into(),
            kind.ready.to_string().into(),
        ]);
    }
    writeln!(output)?;
    kinds.write(output)?;
    writeln!(output)?;
    reconciler(&status.reconciler.clone().unwrap_or_default(), output)?;
    let mut workers = Table::new(&["WORKER", "QUEUES", "RX", "TX", "SLEEPS", "POLLS-HIT"]);
    for worker in &status.workers {
        let counts = [worker.rx_packets, worker.tx_packets, worker.sleeps, worker.polls_hit];
        let mut row = vec![worker.index.to_string().into(), worker.queues.to_string().into()];
        row.extend(counts.map(|value| count(value).into()));
        workers.row(row);
    }
    writeln!(output)?;
    workers.write(output)?;
    let fast_path = if status.fast_path { "on" } else { "off" };
    Ok(writeln!(output, "fast path: {fast_path}")?)
}

fn reconciler(it: &ReconcilerStatus, output: &mut Output) -> Result<(), Error> {
    let mut table = Table::new(&["RECONCILER", "CREATED", "ADOPTED", "REMOVED"]);
    for (name, numbers) in [
        ("devices", [it.devices_created, it.devices_adopted, it.devices_removed]),
        ("namespaces", [it.namespaces_created, it.namespaces_adopted, it.namespaces_removed]),
    ] {
        let mut row = vec![name.into()];
        row.extend(numbers.map(|number| number.to_string().into()));
        table.row(row);
    }
    table.write(output)?;
    writeln!(output, "passes: {}, failed: {}, kernel events: {}", it.passes, it.failures, it.kernel_events)?;
    if !it.last_error.is_empty() {
        writeln!(output, "{} {}", toned(output.colour, Tone::Bad, "last error:"), it.last_error)?;
    }
    Ok(())
}
