//! What `weft describe` says of a Network's address pools.

use std::io::Write;

use weft_proto::v1::{AddressPoolStatus, Resource, resource};

use crate::error::Error;
use crate::output::Output;
use crate::table::{Cell, Table, Tone};

/// The pools, taken out of the status so that they are not shown there too.
pub fn take(resource: &mut Resource) -> Vec<AddressPoolStatus> {
    match &mut resource.kind {
        Some(resource::Kind::Network(it)) => {
            it.status.as_mut().map(|status| std::mem::take(&mut status.pools)).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Prints what is left in each pool; nothing when there are none.
pub fn print(pools: &[AddressPoolStatus], output: &mut Output) -> Result<(), Error> {
    if pools.is_empty() {
        return Ok(());
    }
    writeln!(output, "Addresses:")?;
    let mut table = Table::new(&["POOL", "USED", "FREE", "GIVEN-BACK", "RESERVED"]).indented(2);
    for pool in pools {
        table.row(vec![
            pool.prefix.as_str().into(),
            pool.used.to_string().into(),
            free(pool),
            pool.quarantined.to_string().into(),
            pool.reserved.to_string().into(),
        ]);
    }
    Ok(table.write(output)?)
}

fn free(pool: &AddressPoolStatus) -> Cell {
    match pool.size.saturating_sub(pool.used + pool.quarantined + pool.reserved) {
        _ if pool.size == u64::MAX => "plenty".into(),
        0 => Cell::new("none", Tone::Bad),
        free => free.to_string().into(),
    }
}
