//! What `weft describe` says of tunnels beside what it says of all.

use std::io::Write;

use weft_proto::v1::{Kind, Resource, TunnelRemote};

use crate::error::Error;
use crate::output::Output;
use crate::quantity::{ago, octets};
use crate::table::{Table, Tone, toned};
use crate::view;

/// A line or two that say what kind of tunnel it is; nothing for other kinds of objects.
pub fn glance(resource: &Resource, output: &mut Output) -> Result<(), Error> {
    if resource.kind() != Kind::Tunnel {
        return Ok(());
    }
    let (spec, status) = view::tunnel(resource);
    let mut parts = vec![format!("{} on {}", view::word(&spec), view::joins(&spec))];
    if status.mtu != 0 {
        parts.push(format!("MTU {}", status.mtu));
    }
    if status.listen_port != 0 {
        parts.push(format!("port {}", status.listen_port));
    }
    if !status.local.is_empty() {
        parts.push(format!("from {}", status.local));
    }
    writeln!(output, "Tunnel:      {}", parts.join(", "))?;
    if !status.public_key.is_empty() {
        writeln!(output, "Public key:  {}", status.public_key)?;
    }
    for key in &status.previous_public_keys {
        let busy = toned(output.colour, Tone::Busy, "known by this too");
        writeln!(
            output,
            "             {key} ({busy}, until `weft tunnel rotate {} --finish`)",
            resource.name()
        )?;
    }
    Ok(())
}

/// The far ends, of which `describe` makes a table; `None` for other kinds of objects.
pub fn far_ends(resource: &Resource) -> Option<Vec<TunnelRemote>> {
    (resource.kind() == Kind::Tunnel).then(|| view::tunnel(resource).1.remotes)
}

/// Prints the far ends and what was dropped.
pub fn print(ends: &[TunnelRemote], output: &mut Output) -> Result<(), Error> {
    if ends.is_empty() {
        return Ok(writeln!(output, "Far ends:    none")?);
    }
    writeln!(output, "Far ends:")?;
    let keyed = ends.iter().any(|end| !end.public_key.is_empty());
    match keyed {
        true => peers(ends).write(output)?,
        false => plain(ends).write(output)?,
    }
    let mut drops = Table::new(&["FAR-END", "REASON", "PACKETS"]).indented(2);
    for end in ends {
        for (reason, packets) in end.drops.iter().filter(|(_, packets)| **packets > 0) {
            drops.row(vec![view::far_end(end).into(), reason.as_str().into(), packets.to_string().into()]);
        }
    }
    if drops.is_empty() {
        return Ok(writeln!(output, "Drops:       none")?);
    }
    writeln!(output, "Drops:")?;
    Ok(drops.write(output)?)
}

fn peers(ends: &[TunnelRemote]) -> Table {
    let heading = ["PEER", "PUBLIC-KEY", "ENDPOINT", "HANDSHAKE", "HANDSHAKES", "RX", "TX", "PATH-MTU"];
    let mut table = Table::new(&heading).indented(2);
    for end in ends {
        let handshake = end.last_handshake.map(|at| ago(at.seconds)).unwrap_or_default();
        table.row(vec![
            end.name.as_str().into(),
            end.public_key.as_str().into(),
            end.address.as_str().into(),
            handshake.into(),
            end.handshakes.to_string().into(),
            octets(end.rx_bytes).into(),
            octets(end.tx_bytes).into(),
            path_mtu(end).into(),
        ]);
    }
    table
}

fn plain(ends: &[TunnelRemote]) -> Table {
    let mut table = Table::new(&["ADDRESS", "RX", "TX", "PATH-MTU"]).indented(2);
    for end in ends {
        let numbers = [octets(end.rx_bytes), octets(end.tx_bytes), path_mtu(end)];
        let mut row = vec![end.address.as_str().into()];
        row.extend(numbers.map(Into::into));
        table.row(row);
    }
    table
}

fn path_mtu(end: &TunnelRemote) -> String {
    if end.path_mtu == 0 { String::new() } else { end.path_mtu.to_string() }
}
