//! Why a command failed: the lines it prints and the exit code it ends with.

use std::io;
use std::path::PathBuf;

use tonic::{Code, Status};
use weft_proto::client::{ClientError, is_unreachable};
use weft_proto::error_detail::violations;
use weft_proto::manifest::ManifestError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Manifests that are not resources.
    #[error("{} documents are wrong", .0.len())]
    Manifest(Vec<ManifestError>),
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A configuration of another program that makes no resource.
    #[error("{}", .0.join("; "))]
    Import(Vec<String>),
    /// A folder or file that declares nothing.
    #[error("no resources in {0}")]
    Nothing(String),
    /// An endpoint that is none.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon's answer, or its absence.
    #[error("{}", .0.message())]
    Call(Box<Status>),
    /// Some of several objects do not exist.
    #[error("there is no {}", .0.join(", no "))]
    Missing(Vec<String>),
    /// Applied, but these objects are not ready.
    #[error("{} of {total} objects not ready: {}; `weft describe` tells more", not_ready.len(), not_ready.join(", "))]
    NotReady {
        /// The objects, as `port/web`.
        not_ready: Vec<String>,
        /// How many were applied.
        total: usize,
    },
    /// An address of an agent that is none.
    #[error("--agent: \"{0}\", http://ADDRESS:PORT expected")]
    AgentAddress(String),
    /// The agent does not answer.
    #[error("cannot reach weft-agent at {address}: {source}; is it running?")]
    Agent {
        /// Where it was looked for.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The agent answers that it does not do this.
    #[error("the agent: {message}")]
    AgentRefused {
        /// Of HTTP.
        code: u16,
        /// Why, in words.
        message: String,
    },
    /// Something does not reach something else.
    #[error("{failed} of {total} checks failed: DETAIL says where to look")]
    Unconnected {
        /// How many do not work.
        failed: usize,
        /// How many were tried.
        total: usize,
    },
    /// The daemon ended a watch.
    #[error("the daemon ended the watch; start it again to go on")]
    WatchEnded,
    /// stdout cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// Something cannot be shown as JSON.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The async runtime cannot be started.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::Call(Box::new(status))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Output(error)
    }
}

impl Error {
    /// The lines for stderr, each a whole message; none when the reader of stdout has gone away.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Error::Manifest(errors) => errors.iter().map(ToString::to_string).collect(),
            Error::Import(errors) => errors.clone(),
            Error::Missing(objects) => objects.iter().map(|object| format!("there is no {object}")).collect(),
            Error::Call(status) => call_lines(status),
            Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Vec::new(),
            other => vec![other.to_string()],
        }
    }

    /// The exit code, as docs/cli.md and `weft --help` list them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Error::Client(ClientError::Endpoint(_)) | Error::AgentAddress(_) => 2,
            Error::Agent { .. } => 3,
            Error::Client(ClientError::Unreachable { .. }) | Error::WatchEnded => 3,
            Error::Call(status) if is_unreachable(status) => 3,
            Error::Call(status) if status.code() == Code::NotFound => 4,
            Error::Missing(_) => 4,
            Error::NotReady { .. } => 5,
            _ => 1,
        }
    }
}

fn call_lines(status: &Status) -> Vec<String> {
    let violations = violations(status);
    if !violations.is_empty() {
        return violations.iter().map(|violation| violation.line()).collect();
    }
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    match status.code() {
        _ if is_unreachable(status) && !message.contains("weftd") => {
            vec![format!("lost the connection to weftd: {message}; is it running?")]
        }
        Code::Unavailable if !is_unreachable(status) => vec![format!("{message}; try again")],
        Code::Unimplemented => vec![format!("{message}; the daemon is older than this weft")],
        _ => vec![message.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_proto::error_detail::{Violation, invalid_argument};

    #[test]
    fn every_wrong_field_has_a_line_of_its_own() {
        let wrong = vec![Violation::new("Port/a: spec.vlan", "x"), Violation::new("Port/b: spec.mac", "y")];
        let error = Error::from(invalid_argument(wrong));
        assert_eq!(error.lines(), ["Port/a: spec.vlan: x", "Port/b: spec.mac: y"]);
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn exit_codes_are_those_of_the_help() {
        assert_eq!(Error::from(Status::failed_precondition("x")).exit_code(), 1);
        assert_eq!(Error::from(ClientError::Endpoint("x".into())).exit_code(), 2);
        assert_eq!(Error::from(Status::not_found("x")).exit_code(), 4);
        assert_eq!(Error::Missing(vec!["Port/a".into()]).exit_code(), 4);
        assert_eq!(Error::NotReady { not_ready: vec![], total: 0 }.exit_code(), 5);
        let closed = Error::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.exit_code(), closed.lines()), (0, vec![]));
        assert_eq!(Error::Output(io::ErrorKind::StorageFull.into()).exit_code(), 1);
    }

    #[test]
    fn a_busy_daemon_says_to_try_again() {
        assert_eq!(Error::from(Status::unavailable("starting")).lines(), ["starting; try again"]);
        assert_eq!(Error::from(Status::unavailable("starting")).exit_code(), 1);
    }
}
