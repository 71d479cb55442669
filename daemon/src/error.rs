//! What can go wrong in the daemon.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::model::{ObjectRef, Violation};

/// Short for a result with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in the daemon.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("configuration file {} cannot be read", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration is not TOML, or has a field that does not exist.
    #[error("configuration file {}: {message}", path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        message: String,
    },
    /// A configuration value is out of range.
    #[error("configuration: {field}: {value} is wrong, {expected} expected")]
    ConfigValue {
        /// The field, such as `log.format`.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Log output cannot be set up.
    #[error("logging cannot be set up: {0}")]
    Telemetry(String),
    /// A file or folder of the daemon cannot be made or opened.
    #[error("{} cannot be {operation}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// "made", "opened", ...
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has the state.
    #[error("state in {} is in use by another weftd; stop it, or give this one its own state_dir", path.display())]
    StateLocked {
        /// The state file.
        path: PathBuf,
    },
    /// The state file cannot be read or written.
    #[error("state in {} cannot be {operation}", path.display())]
    State {
        /// The state file.
        path: PathBuf,
        /// "opened", "read" or "written".
        operation: &'static str,
        /// Why.
        source: Box<redb::Error>,
    },
    /// The state file is damaged.
    #[error("state in {} is damaged: {what}", path.display())]
    StateDamaged {
        /// The state file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The state file was written by a daemon that is not compatible.
    #[error("state in {} has format {found}, {expected} expected; use the weftd that wrote it", path.display())]
    StateFormat {
        /// The state file.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// What this daemon reads.
        expected: u64,
    },
    /// A stored object cannot be understood.
    #[error("state in {}: {object}: {reason}", path.display())]
    StateObject {
        /// The state file.
        path: PathBuf,
        /// Which one.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A request with wrong fields; nothing was changed.
    #[error("{}", listed(.0))]
    Refused(Vec<Violation>),
    /// Objects that do not exist; nothing was changed.
    #[error("there is no {}", listed(.0))]
    NotFound(Vec<ObjectRef>),
    /// Objects that others refer to; nothing was changed.
    #[error("{object} is used by {}; delete or change those first", listed(.by))]
    InUse {
        /// What was to be deleted.
        object: ObjectRef,
        /// Who refers to it.
        by: Vec<ObjectRef>,
    },
    /// An object that is being taken down and shall be made again elsewhere.
    #[error("{0} is still being deleted; try again when it is gone")]
    Going(ObjectRef),
    /// A Port that is somebody else's.
    #[error("{object} is there already, and {reason}")]
    Taken {
        /// Which one.
        object: ObjectRef,
        /// What it is.
        reason: String,
    },
    /// What a container asks for is another Port's.
    #[error("{what} is taken by {by}")]
    Occupied {
        /// A MAC address, an address or a port of the node.
        what: String,
        /// Whose it is.
        by: ObjectRef,
    },
    /// There is no address to be had.
    #[error(transparent)]
    Addresses(#[from] crate::ipam::Error),
    /// A Tunnel of another kind has no keys.
    #[error("{0} has no keys, a Tunnel with wireguard expected")]
    NoKeys(ObjectRef),
    /// A rotation of keys was not finished, several times over.
    #[error("{object} has {count} earlier keys by which peers are let in; finish the rotation first")]
    TooManyKeys {
        /// Whose keys.
        object: ObjectRef,
        /// How many of them it has beside the present one.
        count: usize,
    },
    /// The API's socket cannot be served.
    #[error("API socket {} cannot be {operation}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// "bound", "replaced", ...
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers on the API's socket.
    #[error("API socket {} is served by another process; stop it, or choose another socket", path.display())]
    SocketTaken {
        /// The socket.
        path: PathBuf,
    },
    /// The runtime of the API cannot be set up.
    #[error("runtime cannot be set up")]
    Runtime(#[source] io::Error),
    /// The forwarding threads cannot be started.
    #[error("workers cannot be started")]
    Workers(#[source] io::Error),
    /// The reconciler cannot be started.
    #[error("reconciler cannot be started")]
    Reconciler(#[source] crate::reconcile::Error),
    /// The descriptors that the reflection service gives out are broken.
    #[error("reflection service cannot be built")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The API's server ended.
    #[error("API server failed")]
    Serve(#[source] tonic::transport::Error),
}

/// The first few, and how many more there are.
fn listed<T: std::fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = items.iter().take(SHOWN).map(T::to_string).collect();
    let mut text = shown.join(", ");
    if items.len() > SHOWN {
        text.push_str(&format!(" and {} more", items.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Name};

    #[test]
    fn long_lists_are_cut_with_the_rest_counted() {
        let port = |index| ObjectRef::new(Kind::Port, Name::new(&format!("p{index}")).unwrap());
        let object = ObjectRef::new(Kind::Network, Name::new("net").unwrap());
        let error = Error::InUse { object, by: (0..7).map(port).collect() };
        assert_eq!(
            error.to_string(),
            "Network/net is used by Port/p0, Port/p1, Port/p2, Port/p3, Port/p4 and 2 more; \
             delete or change those first"
        );
    }
}
