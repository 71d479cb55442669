//! `weft delete`.

use std::io::Write;

use weft_proto::Client;
use weft_proto::v1::{DeleteRequest, ObjectRef, Resource};

use super::files;
use crate::arguments::Delete;
use crate::error::Error;
use crate::output::Output;
use crate::view;

/// Deletes the named objects, or those that files declare, and prints a line for each.
pub async fn run(mut client: Client, arguments: Delete, output: &mut Output) -> Result<(), Error> {
    let objects = match arguments.kind {
        Some(kind) => {
            let reference = |name| ObjectRef { kind: kind.into(), name };
            arguments.names.into_iter().map(reference).collect()
        }
        None => files::read(&arguments.files)?.iter().map(Resource::object_ref).collect(),
    };
    let request =
        DeleteRequest { objects, ignore_missing: arguments.ignore_missing, no_wait: arguments.no_wait };
    for deleted in client.fabric.delete(request).await?.into_inner().deleted {
        writeln!(output, "{} deleted", view::object(deleted.kind(), &deleted.name))?;
    }
    Ok(())
}
