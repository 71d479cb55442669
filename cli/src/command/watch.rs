//! `weft watch`.

use std::io::Write;

use weft_proto::Client;
use weft_proto::encoding::Words;
use weft_proto::v1::{EventType, WatchEvent, WatchRequest};

use crate::arguments::{Watch, WatchFormat};
use crate::error::Error;
use crate::output::Output;
use crate::table::toned;
use crate::view;

/// Prints every event as it comes. Ends only with an error, or when nobody reads any more.
pub async fn run(mut client: Client, arguments: Watch, output: &mut Output) -> Result<(), Error> {
    let labels = arguments.labels.unwrap_or_default().0;
    let request = WatchRequest { kind: arguments.kind.kind().into(), labels };
    let mut events = client.fabric.watch(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        match arguments.output {
            WatchFormat::Table => line(&event, output)?,
            WatchFormat::Json => writeln!(output, "{}", serde_json::to_string(&event)?)?,
            WatchFormat::Name => name(&event, output)?,
        }
        output.flush()?;
    }
    Err(Error::WatchEnded)
}

/// `changed  port/web  Ready  message`, with room for usual names.
fn line(event: &WatchEvent, output: &mut Output) -> Result<(), Error> {
    let word = EventType::word(event.r#type);
    let Some(resource) = &event.resource else { return Ok(writeln!(output, "{word}")?) };
    let object = view::object(resource.kind(), resource.name());
    if event.r#type() == EventType::Deleted {
        return Ok(writeln!(output, "{word:<8}  {object}")?);
    }
    let (state, tone) = view::state(resource);
    let message = view::not_ready(resource).map_or(String::new(), |reason| format!("  {reason}"));
    Ok(writeln!(output, "{word:<8}  {object:<24}  {}{message}", toned(output.colour, tone, &state))?)
}

fn name(event: &WatchEvent, output: &mut Output) -> Result<(), Error> {
    let word = EventType::word(event.r#type);
    match &event.resource {
        Some(resource) => writeln!(output, "{word} {}", view::object(resource.kind(), resource.name()))?,
        None => writeln!(output, "{word}")?,
    }
    Ok(())
}
