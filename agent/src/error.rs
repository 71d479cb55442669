//! What can go wrong in the agent.

use std::io;
use std::path::PathBuf;

use tonic::Code;

/// What can go wrong in the agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The configuration is wrong.
    #[error("{}: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Which key, its value, and what was expected.
        message: String,
    },
    /// The daemon refused something.
    #[error("weftd: {0}")]
    Daemon(String),
    /// The daemon does not answer, or asks to be asked again.
    #[error("weftd: {0}")]
    DaemonAway(String),
    /// The daemon's socket cannot be understood.
    #[error(transparent)]
    Client(#[from] weft_proto::client::ClientError),
    /// The Kubernetes API refused something, or cannot be reached.
    #[error("the Kubernetes API")]
    Kubernetes(#[source] Box<kube::Error>),
    /// A request of the Kubernetes API was refused or not answered.
    #[error("cannot {verb} {plural}")]
    Request {
        /// The API's word for what was asked for: "patch".
        verb: &'static str,
        /// What it was about: "nodes", "nodes/status".
        plural: String,
        /// What the API said, or what became of the connection.
        #[source]
        source: Box<kube::Error>,
    },
    /// etcd refused something, or cannot be reached.
    #[error("etcd: {0}")]
    Etcd(String),
    /// An address that the agent serves at cannot be used.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The node's own links and addresses cannot be read.
    #[error("cannot read the node's addresses: {0}")]
    Underlay(String),
    /// No block of a pool is free.
    #[error("no block is free in the pools {0}: add an IPPool, or remove nodes that are gone")]
    PoolsExhausted(String),
    /// The agent was asked for what its mode does not have.
    #[error("{0}")]
    Refused(String),
}

/// A result of the agent.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A request of the Kubernetes API, by its verb and what it was about, that failed.
    pub fn request(verb: &'static str, plural: &str, error: kube::Error) -> Error {
        Error::Request { verb, plural: plural.to_owned(), source: Box::new(error) }
    }
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Error {
        Error::Kubernetes(Box::new(error))
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Error::DaemonAway(message),
            _ => Error::Daemon(message),
        }
    }
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
