//! `weftd`: reads the configuration, sets up logging, runs the daemon.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use weftd::config::{Config, Options};
use weftd::{service, telemetry};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // When standard error is closed there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "weftd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let config = Config::load(options)?;
    if options.check {
        writeln!(std::io::stdout(), "configuration is right").context("standard output cannot be written")?;
        return Ok(());
    }
    // Before there is a second thread: the kernel moves none of several.
    if let Some(mounts) = &options.mounts {
        weft_host::mounts::enter(mounts)?;
    }
    telemetry::start(&config.log)?;
    service::run(&config)?;
    Ok(())
}
