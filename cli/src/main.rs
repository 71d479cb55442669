//! `weft`: the command line of a Weft daemon. Reads the arguments, runs one command and ends with its
//! exit code; what commands do is in [`command`], how things look in [`view`] and [`table`].

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::Arguments;
use crate::error::Error;
use crate::output::Output;

mod agent;
mod arguments;
mod command;
mod error;
mod output;
mod quantity;
mod table;
mod usage;
mod view;
mod wg_quick;

/// The exit code when the arguments are wrong.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are asked for in the form of errors.
        Err(other) if !other.use_stderr() || asks_for_help(&other) => other.exit(),
        Err(wrong) => {
            let arguments = std::env::args_os().skip(1);
            tell(&[usage::line(&wrong, arguments.map(|word| word.to_string_lossy().into_owned()))]);
            return WRONG_USAGE.into();
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error.lines());
            error.exit_code().into()
        }
    }
}

/// `weft` alone shows the help.
fn asks_for_help(error: &clap::Error) -> bool {
    error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

fn tell(lines: &[String]) {
    let mut stderr = io::stderr().lock();
    for line in lines {
        // Nobody is left to tell when stderr itself is closed.
        drop(writeln!(stderr, "error: {line}"));
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
