//! `weft counters`.

use std::collections::BTreeMap;
use std::io::Write;

use weft_proto::Client;
use weft_proto::v1::{CountersRequest, CountersResponse, QueueCounters};

use crate::arguments::{Counters, TextFormat};
use crate::error::Error;
use crate::output::Output;
use crate::table::{Cell, Table, Tone};
use crate::view::dropped;

/// Prints exact numbers, so that two runs can be compared.
pub async fn run(mut client: Client, arguments: Counters, output: &mut Output) -> Result<(), Error> {
    let one = arguments.port.is_some();
    let request = CountersRequest { port: arguments.port.unwrap_or_default() };
    let mut counters = client.diagnostics.counters(request).await?.into_inner();
    if arguments.output == TextFormat::Json {
        return output.json(&counters);
    }
    if arguments.drops {
        return drops(&counters, output);
    }
    ports(&counters).write(output)?;
    if one {
        // The totals of all ports say nothing about the one that was asked for.
        let port = counters.ports.pop().unwrap_or_default();
        let drops = port.counters.map(|counters| counters.drops).unwrap_or_default();
        named("DROPS", &drops, arguments.all, output)?;
        return apart(&queues(&port.queues), output);
    }
    named("DROPS", &counters.drops, arguments.all, output)?;
    named("STACK", &counters.stack, arguments.all, output)?;
    apart(&stages(&counters, arguments.all), output)
}

fn queues(queues: &[QueueCounters]) -> Table {
    let mut table = Table::new(&["QUEUE", "WORKER", "RX-PACKETS", "RX-OCTETS"]);
    for it in queues {
        let numbers = [it.queue.into(), it.worker.into(), it.rx_packets, it.rx_bytes];
        table.row(numbers.map(|number: u64| Cell::from(number.to_string())).into());
    }
    table
}

fn stages(counters: &CountersResponse, zeros: bool) -> Table {
    let mut table = Table::new(&["STAGE", "PACKETS", "DROPS"]);
    for it in counters.stages.iter().filter(|it| zeros || it.packets > 0) {
        table.row(vec![it.stage.as_str().into(), it.packets.to_string().into(), it.drops.to_string().into()]);
    }
    table
}

fn ports(counters: &CountersResponse) -> Table {
    let mut table =
        Table::new(&["PORT", "RX-PACKETS", "RX-OCTETS", "TX-PACKETS", "TX-OCTETS", "RX-FAST", "DROPS"]);
    for port in &counters.ports {
        let it = port.counters.clone().unwrap_or_default();
        let drops = dropped(&it);
        let mut row = vec![Cell::from(port.port.as_str())];
        row.extend(
            [it.rx_packets, it.rx_bytes, it.tx_packets, it.tx_bytes, it.fast_packets]
                .map(|n| Cell::from(n.to_string())),
        );
        row.push(Cell::new(drops.to_string(), if drops > 0 { Tone::Busy } else { Tone::Plain }));
        table.row(row);
    }
    table
}

/// A table of named counters after an empty line; nothing when there is nothing to tell.
fn named(
    title: &'static str,
    counters: &BTreeMap<String, u64>,
    zeros: bool,
    output: &mut Output,
) -> Result<(), Error> {
    let mut table = Table::new(&[title, "COUNT"]);
    for (name, value) in counters.iter().filter(|(_, value)| zeros || **value > 0) {
        table.row(vec![name.as_str().into(), value.to_string().into()]);
    }
    apart(&table, output)
}

/// A table after an empty line; nothing when there is nothing to tell.
fn apart(table: &Table, output: &mut Output) -> Result<(), Error> {
    if table.is_empty() {
        return Ok(());
    }
    writeln!(output)?;
    Ok(table.write(output)?)
}

fn drops(counters: &CountersResponse, output: &mut Output) -> Result<(), Error> {
    let mut table = Table::new(&["PORT", "REASON", "PACKETS"]);
    for port in &counters.ports {
        let drops = port.counters.iter().flat_map(|counters| &counters.drops);
        for (reason, packets) in drops.filter(|(_, packets)| **packets > 0) {
            table.row(vec![port.port.as_str().into(), reason.as_str().into(), packets.to_string().into()]);
        }
    }
    if table.is_empty() {
        return Ok(writeln!(output, "no drops")?);
    }
    Ok(table.write(output)?)
}
