//! `weft describe`.

use std::io::Write;

use weft_proto::v1::{GetRequest, PortCounters, Resource, resource};
use weft_proto::{Client, manifest};

use crate::arguments::Describe;
use crate::error::Error;
use crate::output::Output;
use crate::quantity::{age, count, octets};
use crate::table::{Cell, Table, Tone, toned};
use crate::view;

mod pools;
mod port;
mod tunnel;

/// Prints everything about one object.
pub async fn run(mut client: Client, arguments: Describe, output: &mut Output) -> Result<(), Error> {
    let request = GetRequest { kind: arguments.kind.into(), name: arguments.name };
    let mut resource = client.fabric.get(request).await?.into_inner();
    head(&resource, output)?;
    port::glance(&resource, output)?;
    tunnel::glance(&resource, output)?;
    let conditions = conditions(&resource);
    let far_ends = tunnel::far_ends(&resource);
    let pools = pools::take(&mut resource);
    let counters = take_tables(&mut resource);
    sections(&resource, output)?;
    if !conditions.is_empty() {
        writeln!(output, "Conditions:")?;
        conditions.write(output)?;
    }
    pools::print(&pools, output)?;
    far_ends.map_or(Ok(()), |ends| tunnel::print(&ends, output))?;
    counters.map_or(Ok(()), |counters| print_counters(&counters, output))
}

fn head(resource: &Resource, output: &mut Output) -> Result<(), Error> {
    let (state, tone) = view::state(resource);
    writeln!(output, "Name:        {}", resource.name())?;
    writeln!(output, "Kind:        {}", resource.kind().name())?;
    writeln!(output, "State:       {}", toned(output.colour, tone, &state))?;
    let Some(metadata) = &resource.metadata else { return Ok(()) };
    let labels: Vec<_> = metadata.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    writeln!(output, "Labels:      {}", or_dash(&labels.join(",")))?;
    writeln!(output, "UID:         {}", or_dash(&metadata.uid))?;
    writeln!(output, "Generation:  {} (revision {})", metadata.generation, metadata.revision)?;
    if let Some(mut created) = metadata.created {
        // Nobody reads nanoseconds; -o json has them.
        created.nanos = 0;
        writeln!(output, "Created:     {created} ({} ago)", age(created.seconds))?;
    }
    Ok(())
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// Spec and status as a manifest has them.
fn sections(resource: &Resource, output: &mut Output) -> Result<(), Error> {
    let mut shown = false;
    for line in manifest::to_yaml(std::slice::from_ref(resource)).lines() {
        match line {
            "spec: {}" => writeln!(output, "Spec:        -")?,
            "spec:" => writeln!(output, "Spec:")?,
            "status:" => writeln!(output, "Status:")?,
            // Deeper lines belong to the last section that began, and are indented already.
            _ if shown && line.starts_with(' ') => writeln!(output, "{line}")?,
            _ => {}
        }
        if !line.starts_with(' ') {
            shown = matches!(line, "spec:" | "status:");
        }
    }
    Ok(())
}

fn conditions(resource: &Resource) -> Table {
    let mut table = Table::new(&["TYPE", "STATUS", "REASON", "FOR", "MESSAGE"]).indented(2);
    for condition in resource.conditions() {
        let (status, tone) = if condition.status { ("True", Tone::Good) } else { ("False", Tone::Bad) };
        let since = condition.changed.map_or(String::new(), |changed| age(changed.seconds));
        table.row(vec![
            Cell::from(condition.r#type.as_str()),
            Cell::new(status, tone),
            condition.reason.as_str().into(),
            since.into(),
            condition.message.as_str().into(),
        ]);
    }
    table
}

/// Takes away what is shown as tables and not as fields; the counters, if there are any.
fn take_tables(resource: &mut Resource) -> Option<PortCounters> {
    match resource.kind.as_mut()? {
        resource::Kind::Namespace(it) => it.status.as_mut()?.conditions.clear(),
        resource::Kind::Network(it) => it.status.as_mut()?.conditions.clear(),
        resource::Kind::Router(it) => it.status.as_mut()?.conditions.clear(),
        resource::Kind::Tunnel(it) => {
            let status = it.status.as_mut()?;
            status.conditions.clear();
            status.remotes.clear();
        }
        resource::Kind::Port(it) => {
            let status = it.status.as_mut()?;
            status.conditions.clear();
            return status.counters.take();
        }
    }
    None
}

fn print_counters(counters: &PortCounters, output: &mut Output) -> Result<(), Error> {
    writeln!(output, "Counters:")?;
    let mut table = Table::new(&["DIRECTION", "PACKETS", "OCTETS"]).indented(2);
    for (name, packets, bytes) in [
        ("from the container", counters.rx_packets, counters.rx_bytes),
        ("to the container", counters.tx_packets, counters.tx_bytes),
    ] {
        table.row(vec![name.into(), count(packets).into(), octets(bytes).into()]);
    }
    table.write(output)?;
    if counters.fast_packets > 0 {
        writeln!(output, "Fast path:   {} of those from the container", count(counters.fast_packets))?;
    }
    let drops: Vec<_> = counters.drops.iter().filter(|(_, packets)| **packets > 0).collect();
    if drops.is_empty() {
        return Ok(writeln!(output, "Drops:       none")?);
    }
    writeln!(output, "Drops:")?;
    let mut table = Table::new(&["REASON", "PACKETS"]).indented(2);
    for (reason, packets) in drops {
        table.row(vec![reason.as_str().into(), packets.to_string().into()]);
    }
    Ok(table.write(output)?)
}
