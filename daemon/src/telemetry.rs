//! Logs: structured, to standard error, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};
use crate::error::{Error, Result};

/// The environment variable that wins over the configured level.
const VARIABLE: &str = "RUST_LOG";

/// Sets up logging for the process; once only.
pub fn start(config: &LogConfig) -> Result<()> {
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter(config)?);
    let done = match config.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    done.map_err(|error| Error::Telemetry(error.to_string()))
}

fn filter(config: &LogConfig) -> Result<EnvFilter> {
    match std::env::var(VARIABLE) {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .map_err(|error| Error::Telemetry(format!("{VARIABLE}={directives}: {error}"))),
        _ => EnvFilter::try_new(&config.level).map_err(|error| Error::Telemetry(error.to_string())),
    }
}
