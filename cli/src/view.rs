//! Resources as people see them: state in a word, one row a resource.

use weft_proto::v1::{Kind, PortCounters, Resource, resource};

use crate::quantity::age;
use crate::table::{Cell, Table, Tone};

pub use columns::{far_end, joins, tunnel, word};

mod columns;
pub mod rates;

/// An object as the command line names it: `port/web`.
pub fn object(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.singular())
}

/// The state in a word: Ready, the reason why it is not, Deleting, or Pending before anything is known.
pub fn state(resource: &Resource) -> (String, Tone) {
    if resource.metadata.as_ref().is_some_and(|metadata| metadata.deleting.is_some()) {
        return ("Deleting".to_owned(), Tone::Busy);
    }
    match resource.ready_condition() {
        None => ("Pending".to_owned(), Tone::Busy),
        Some(condition) if condition.status && is_blocked(resource) => ("LoopBlocked".to_owned(), Tone::Bad),
        Some(condition) if condition.status => ("Ready".to_owned(), Tone::Good),
        Some(condition) if condition.reason.is_empty() => ("NotReady".to_owned(), Tone::Bad),
        Some(condition) => (condition.reason.clone(), Tone::Bad),
    }
}

/// Whether it is an uplink that is left out, since another one leads to the same segment.
fn is_blocked(resource: &Resource) -> bool {
    let Some(resource::Kind::Port(port)) = &resource.kind else { return false };
    port.status.as_ref().is_some_and(|status| status.blocked)
}

/// Why a resource is not ready, in a sentence; `None` when it is.
pub fn not_ready(resource: &Resource) -> Option<String> {
    match resource.ready_condition() {
        Some(condition) if condition.status => None,
        Some(condition) => Some(match condition.message.as_str() {
            "" => condition.reason.clone(),
            message => format!("{}: {message}", condition.reason),
        }),
        None => Some("Pending: the daemon has not tried yet".to_owned()),
    }
}

/// All drops of a port.
pub fn dropped(counters: &PortCounters) -> u64 {
    counters.drops.values().fold(0, |sum, packets| sum.saturating_add(*packets))
}

/// Resources of one kind as a table; `qualified` names carry their kind.
pub fn table(kind: Kind, resources: &[&Resource], wide: bool, qualified: bool) -> Table {
    let columns = columns::of(kind, wide);
    let mut table = Table::new(&columns.iter().map(|column| column.title).collect::<Vec<_>>());
    for resource in resources {
        let mut row: Vec<Cell> = columns.iter().map(|column| (column.cell)(resource)).collect();
        if qualified && let Some(first) = row.first_mut() {
            *first = object(kind, resource.name()).into();
        }
        table.row(row);
    }
    table
}

/// How long ago the object was made.
fn made(resource: &Resource) -> Cell {
    let created = resource.metadata.as_ref().and_then(|metadata| metadata.created);
    created.map_or(String::new(), |created| age(created.seconds)).into()
}

#[cfg(test)]
mod tests;
