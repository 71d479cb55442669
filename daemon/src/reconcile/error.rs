//! What goes wrong while the kernel is made to follow the wish.

use std::error::Error as StdError;
use std::fmt::Write;

use thiserror::Error;

use super::observe::Refusal;

/// Why the reconciler cannot start.
#[derive(Debug, Error)]
pub enum Error {
    /// The daemon's own namespace cannot be opened or read.
    #[error("the daemon's own network namespace cannot be used")]
    Own(#[source] weft_host::Error),
    /// Kernel events cannot be followed.
    #[error("kernel events cannot be followed")]
    Monitor(#[source] weft_host::Error),
    /// A thread did not start.
    #[error("the thread {name} did not start")]
    Thread {
        /// Its name.
        name: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Why one step for an object failed.
#[derive(Debug, Error)]
pub enum StepError {
    /// The kernel refused it.
    #[error(transparent)]
    Host(#[from] weft_host::Error),
    /// The kernel refused it for a reason that the user can mend.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// A device vanished between two steps.
    #[error("device {0} is gone")]
    DeviceGone(String),
    /// What the step builds on failed.
    #[error("its namespace could not be made")]
    NoGround,
}

impl StepError {
    /// The word for the Ready condition.
    pub fn reason(&self) -> &'static str {
        match self {
            StepError::Refused(refusal) => refusal.reason,
            StepError::NoGround => "NamespaceMissing",
            StepError::Host(_) | StepError::DeviceGone(_) => "KernelRefused",
        }
    }
}

/// An error and its sources in one line.
pub fn told(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _ = write!(line, ": {cause}");
        source = cause.source();
    }
    line
}
