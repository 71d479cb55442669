//! What `weft describe` says of ports beside what it says of all.

use std::io::Write;

use weft_proto::v1::{Resource, resource};

use crate::error::Error;
use crate::output::Output;
use crate::quantity::rate;

/// A line that says how much it may get and send, if that is limited; nothing for other kinds of objects.
pub fn glance(resource: &Resource, output: &mut Output) -> Result<(), Error> {
    let Some(resource::Kind::Port(port)) = &resource.kind else { return Ok(()) };
    let Some(bandwidth) = port.spec.as_ref().and_then(|spec| spec.bandwidth.as_ref()) else { return Ok(()) };
    let directions = [("gets", &bandwidth.ingress), ("sends", &bandwidth.egress)];
    let limited = directions.into_iter().filter_map(|(verb, limit)| {
        limit.as_ref().map(|limit| format!("{verb} {}", rate(limit.bits_per_second)))
    });
    let parts: Vec<_> = limited.collect();
    if !parts.is_empty() {
        writeln!(output, "Bandwidth:   {}", parts.join(", "))?;
    }
    Ok(())
}
