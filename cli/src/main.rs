//! `weft`: the command line of a Weft daemon. Reads the arguments, runs one command and ends with its
//! exit code; what commands do is in [`command`], how things look in [`view`] and [`table`].

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Arguments;
use crate::error::Error;
use crate::output::Output;

mod arguments;
mod command;
mod error;
mod output;
mod quantity;
mod table;
mod view;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut stderr = io::stderr().lock();
            for line in error.lines() {
                // Nobody is left to tell when stderr itself is closed.
                drop(writeln!(stderr, "error: {line}"));
            }
            error.exit_code().into()
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let mut output = Output::stdout();
    let result = runtime.block_on(command::run(arguments, &mut output));
    // What was printed before an error is still wanted.
    result.and(output.flush().map_err(Error::Output))
}
