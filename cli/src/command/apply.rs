//! `weft apply`.

use std::io::Write;

use weft_proto::Client;
use weft_proto::encoding::Words;
use weft_proto::v1::{ApplyRequest, ApplyResult, Change};

use super::files;
use crate::arguments::Apply;
use crate::error::Error;
use crate::output::Output;
use crate::table::{Tone, toned};
use crate::view;

/// Applies the files' resources and prints a line for each object.
pub async fn run(client: Client, arguments: Apply, output: &mut Output) -> Result<(), Error> {
    let wish = ApplyRequest {
        resources: files::read(&arguments.files)?,
        dry_run: arguments.dry_run,
        prune: arguments.labels.unwrap_or_default().0,
        no_wait: arguments.no_wait,
    };
    request(client, wish, output).await
}

/// Sends a request and prints a line for each object.
pub async fn request(mut client: Client, wish: ApplyRequest, output: &mut Output) -> Result<(), Error> {
    let dry_run = wish.dry_run;
    let waited = !dry_run && !wish.no_wait;
    let results = client.fabric.apply(wish).await?.into_inner().results;
    let mut not_ready = Vec::new();
    for result in &results {
        let object = view::object(result.kind(), &result.name);
        let reason = result.resource.as_ref().filter(|_| waited).and_then(view::not_ready);
        let line = line(result, &object, dry_run, output.colour);
        match reason {
            None => writeln!(output, "{line}")?,
            Some(reason) => {
                writeln!(output, "{line}, {} {reason}", toned(output.colour, Tone::Bad, "not ready:"))?;
                not_ready.push(object);
            }
        }
    }
    match not_ready.is_empty() {
        true => Ok(()),
        false => Err(Error::NotReady { not_ready, total: results.len() }),
    }
}

fn line(result: &ApplyResult, object: &str, dry_run: bool, colour: bool) -> String {
    let tone = match result.change() {
        Change::Created => Tone::Good,
        Change::Updated => Tone::Busy,
        Change::Deleted => Tone::Bad,
        Change::Unchanged | Change::Unspecified => Tone::Plain,
    };
    let change = toned(colour, tone, Change::word(result.change));
    match result.change() {
        Change::Created | Change::Updated | Change::Deleted if dry_run => {
            format!("{object} would be {change}")
        }
        _ => format!("{object} {change}"),
    }
}
