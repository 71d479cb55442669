//! The commands: each asks the daemon and prints the answer.

use std::io::Write;

use clap::CommandFactory;
use weft_proto::Client;

use crate::arguments::{Arguments, Command, TunnelCommand};
use crate::error::Error;
use crate::output::Output;

mod apply;
mod connectivity;
mod counters;
mod delete;
mod describe;
mod files;
mod get;
mod status;
mod top;
mod trace;
mod tunnel;
mod watch;

/// Runs the command of these arguments.
pub async fn run(arguments: Arguments, output: &mut Output) -> Result<(), Error> {
    if let Command::Completion { shell } = arguments.command {
        return completion(shell, output);
    }
    if let Command::Connectivity(arguments) = &arguments.command {
        return connectivity::run(arguments, output);
    }
    let client = Client::connect(&arguments.socket)?;
    match arguments.command {
        Command::Apply(arguments) => apply::run(client, arguments, output).await,
        Command::Get(arguments) => get::run(client, arguments, output).await,
        Command::Describe(arguments) => describe::run(client, arguments, output).await,
        Command::Delete(arguments) => delete::run(client, arguments, output).await,
        Command::Watch(arguments) => watch::run(client, arguments, output).await,
        Command::Counters(arguments) => counters::run(client, arguments, output).await,
        Command::Trace(arguments) => trace::run(client, arguments, output).await,
        Command::Top(arguments) => top::run(client, arguments, output).await,
        Command::Status(arguments) => status::run(client, arguments, output).await,
        Command::Tunnel { command: TunnelCommand::Import(arguments) } => {
            tunnel::import(client, arguments, output).await
        }
        Command::Tunnel { command: TunnelCommand::Rotate(arguments) } => {
            tunnel::rotate(client, arguments, output).await
        }
        Command::Connectivity(arguments) => connectivity::run(&arguments, output),
        Command::Completion { shell } => completion(shell, output),
    }
}

fn completion(shell: clap_complete::Shell, output: &mut Output) -> Result<(), Error> {
    // The generator panics when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weft", &mut script);
    Ok(output.write_all(&script)?)
}
