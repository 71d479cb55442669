//! `weft-cni`: the CNI plugin of Weft. Runtimes say by the environment and standard input what they want; people
//! say it by arguments. This file tells the two apart, and writes the answer.

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::document::Document;
use crate::environment::{Environment, Operation};
use crate::failure::{Code, Failure};
use crate::version::SpecVersion;

mod agent;
mod arguments;
mod command;
mod daemon;
mod document;
mod environment;
mod failure;
mod install;
mod ipam;
mod outcome;
mod range;
mod settings;
mod version;
mod wish;

fn main() -> ExitCode {
    let words: Vec<_> = env::args_os().skip(1).collect();
    if !words.is_empty() {
        return install::main(&words);
    }
    let mut input = Vec::new();
    match plugin(&mut input) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(result)) => answer(&result, ExitCode::SUCCESS),
        Err(failure) => {
            let version = document::claimed_version(&input).unwrap_or(SpecVersion::LATEST);
            // The runtime may have closed it; the answer is what counts.
            let _ = writeln!(io::stderr(), "weft-cni: {failure}");
            answer(&failure.to_json(version), ExitCode::FAILURE)
        }
    }
}

/// Serves a runtime. What came on standard input stays in `input`.
fn plugin(input: &mut Vec<u8>) -> Result<Option<Value>, Failure> {
    let environment = Environment::read(|name| env::var_os(name))?;
    if environment.operation == Operation::Version {
        return Ok(Some(SpecVersion::answer()));
    }
    io::stdin().read_to_end(input).map_err(|error| {
        Failure::new(Code::Io, "the network configuration cannot be read", format!("standard input: {error}"))
    })?;
    let document = Document::parse(input.clone(), environment.operation)?;
    runtime()?.block_on(command::run(&environment, &document))
}

/// One thread is enough for one call.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    built.map_err(|error| Failure::new(Code::Io, "the plugin cannot start", error.to_string()))
}

/// Writes what the runtime reads.
fn answer(value: &Value, code: ExitCode) -> ExitCode {
    let mut out = io::stdout();
    let written = writeln!(out, "{value:#}").and_then(|()| out.flush());
    if written.is_ok() { code } else { ExitCode::FAILURE }
}
