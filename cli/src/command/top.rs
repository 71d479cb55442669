//! `weft top`.

use std::io::Write;
use std::time::Duration;

use weft_proto::Client;
use weft_proto::v1::{CountersRequest, CountersResponse};

use crate::arguments::{TextFormat, Top};
use crate::error::Error;
use crate::output::Output;
use crate::view::rates::Rates;

/// Another page of the terminal, without a cursor; and back (xterm's private modes 1049 and 25).
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner, and everything away (ECMA-48 CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows rates again and again on a terminal, until interrupted; once where nobody looks on.
pub async fn run(mut client: Client, arguments: Top, output: &mut Output) -> Result<(), Error> {
    let page = output.terminal && !arguments.once && arguments.output == TextFormat::Text;
    if !page {
        return show(&mut client, &arguments, false, output).await;
    }
    write!(output, "{OPEN}")?;
    output.flush()?;
    let shown = tokio::select! {
        shown = show(&mut client, &arguments, true, output) => shown,
        // An interrupt is how one leaves, and so is being unable to hear of it.
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    write!(output, "{CLOSE}")?;
    shown
}

async fn show(client: &mut Client, arguments: &Top, page: bool, output: &mut Output) -> Result<(), Error> {
    let mut before = look(client).await?;
    let again = page || arguments.output == TextFormat::Json && !arguments.once;
    if page {
        write!(output, "{CLEAR}looking for {} s ...", arguments.interval)?;
        output.flush()?;
    }
    loop {
        tokio::time::sleep(Duration::from_secs(arguments.interval.into())).await;
        let now = look(client).await?;
        let rates = Rates::between(&before, &now);
        match arguments.output {
            TextFormat::Json => writeln!(output, "{}", serde_json::to_string(&rates)?)?,
            TextFormat::Text => {
                if page {
                    write!(output, "{CLEAR}")?;
                }
                print(&rates, arguments.ports, output)?;
            }
        }
        output.flush()?;
        if !again {
            return Ok(());
        }
        before = now;
    }
}

async fn look(client: &mut Client) -> Result<CountersResponse, Error> {
    Ok(client.diagnostics.counters(CountersRequest::default()).await?.into_inner())
}

fn print(rates: &Rates, most: usize, output: &mut Output) -> Result<(), Error> {
    rates.workers().write(output)?;
    writeln!(output)?;
    Ok(rates.ports(most).write(output)?)
}
