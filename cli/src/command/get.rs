//! `weft get`.

use std::io::{self, Write};

use tonic::Code;
use weft_proto::manifest;
use weft_proto::v1::{GetRequest, Kind, ListRequest, Resource};
use weft_proto::{Client, v1::ObjectRef};

use crate::arguments::{Format, Get, Scope};
use crate::error::Error;
use crate::output::Output;
use crate::view;

/// Prints resources of a kind, or the named ones; what exists is printed also when something does not.
pub async fn run(mut client: Client, arguments: Get, output: &mut Output) -> Result<(), Error> {
    let kind = arguments.kind.kind();
    let (resources, missing) = match arguments.names.is_empty() {
        true => {
            let labels = arguments.labels.unwrap_or_default().0;
            let list = client.fabric.list(ListRequest { kind: kind.into(), labels }).await?;
            (list.into_inner().resources, Vec::new())
        }
        false => named(&mut client, arguments.kind, &arguments.names).await?,
    };
    match arguments.output {
        Format::Json if arguments.names.len() == 1 && resources.len() == 1 => output.json(&resources[0])?,
        Format::Json => writeln!(output, "{}", manifest::to_json(&resources))?,
        Format::Yaml => write!(output, "{}", manifest::to_yaml(&resources))?,
        Format::Name => resources.iter().try_for_each(|resource| {
            writeln!(output, "{}", view::object(resource.kind(), resource.name()))
        })?,
        Format::Table | Format::Wide if resources.is_empty() && missing.is_empty() => {
            // Not on stdout, which a program may read.
            drop(writeln!(
                io::stderr(),
                "no {}",
                if kind == Kind::Unspecified { "resources" } else { kind.plural() }
            ));
        }
        Format::Table | Format::Wide => tables(&resources, kind, arguments.output == Format::Wide, output)?,
    }
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing)) }
}

/// The named objects that exist, and the ids of those that do not.
async fn named(
    client: &mut Client,
    scope: Scope,
    names: &[String],
) -> Result<(Vec<Resource>, Vec<String>), Error> {
    let kinds = match scope {
        Scope::All => Kind::ALL.to_vec(),
        Scope::Kind(kind) => vec![kind],
    };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        let before = found.len();
        for kind in &kinds {
            let request = GetRequest { kind: (*kind).into(), name: name.clone() };
            match client.fabric.get(request).await {
                Ok(resource) => found.push(resource.into_inner()),
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(status.into()),
            }
        }
        if found.len() == before {
            let kind = scope.kind();
            missing.push(match kind {
                Kind::Unspecified => name.clone(),
                kind => ObjectRef { kind: kind.into(), name: name.clone() }.id(),
            });
        }
    }
    Ok((found, missing))
}

/// A table for each kind that is there; of several kinds, names carry theirs.
fn tables(resources: &[Resource], kind: Kind, wide: bool, output: &mut Output) -> Result<(), Error> {
    let kinds: Vec<Kind> = if kind == Kind::Unspecified { Kind::ALL.to_vec() } else { vec![kind] };
    let mut first = true;
    for of in kinds {
        let rows: Vec<_> = resources.iter().filter(|resource| resource.kind() == of).collect();
        if rows.is_empty() {
            continue;
        }
        if !std::mem::take(&mut first) {
            writeln!(output)?;
        }
        view::table(of, &rows, wide, kind == Kind::Unspecified).write(output)?;
    }
    Ok(())
}
