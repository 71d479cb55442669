//! `weftd`: reads the configuration, sets up logging, runs the daemon.

use std::io::Write;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use clap::Parser;
use weftd::config::{Config, Options};
use weftd::{service, telemetry};

/// Octets of the stack of the thread that serves, if that is not the first one: as much as that usually has.
const STACK: usize = 8 << 20;

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
    match options.mounts.clone() {
        None => serve(&config),
        Some(mounts) => serve_in(mounts, config),
    }
}

/// Serves in another mount namespace, on another thread: a container's runtime looks at the first one of its process for
/// the namespaces that a further command, such as a probe, shall run in.
fn serve_in(mounts: PathBuf, config: Config) -> anyhow::Result<()> {
    let work = move || {
        weft_host::mounts::enter(&mounts)?;
        serve(&config)
    };
    let thread = thread::Builder::new().name("weftd".into()).stack_size(STACK).spawn(work);
    let ended = thread.context("the thread that serves cannot be started")?.join();
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

fn serve(config: &Config) -> anyhow::Result<()> {
    telemetry::start(&config.log)?;
    service::run(config)?;
    Ok(())
}
