//! Why a command failed, as CNI wants it told: a code, a short message and details (section "Error" of the
//! specification). How it gets onto standard output is `main`'s.

use serde_json::{Value, json};

use crate::version::SpecVersion;

/// The codes that the plugin ends with: those of the specification, and its own from 100 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The configuration's version is not served, or has no such command.
    IncompatibleVersion = 1,
    /// A field asks for what Weft cannot do.
    UnsupportedField = 2,
    /// The container's namespace is not there.
    UnknownContainer = 3,
    /// A variable of the environment is missing or wrong.
    InvalidEnvironment = 4,
    /// Standard input or the queue of detachments cannot be used.
    Io = 5,
    /// The configuration is not JSON, or a field has the wrong type.
    Decoding = 6,
    /// A value is wrong.
    InvalidConfig = 7,
    /// The daemon is not there, or asks to be asked again.
    TryAgain = 11,
    /// ADD cannot be served.
    NotAvailable = 50,
    /// ADD cannot be served, and containers may be cut off: the daemon forwards their frames.
    LimitedConnectivity = 51,
    /// A device, an address or a port of the node is somebody else's.
    Taken = 100,
    /// No address is left.
    Exhausted = 101,
    /// CHECK: the daemon knows of no such attachment.
    NotAttached = 102,
    /// CHECK: the attachment is not what it was made to be.
    Different = 103,
    /// The IPAM plugin cannot be run, or answered what cannot be understood.
    Ipam = 104,
    /// The daemon's socket is for others.
    NotAllowed = 105,
    /// The daemon failed in another way.
    Daemon = 106,
}

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
pub struct Failure {
    /// What kind of failure; a plugin that was called may have codes of its own.
    pub code: u32,
    /// In a few words.
    pub message: String,
    /// What a person needs to act on it.
    pub details: String,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Failure {
        Failure { code: code as u32, message: message.into(), details: details.into() }
    }

    /// A variable of the environment is wrong; the message names it, as the specification wants.
    pub fn environment(variable: &str, details: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidEnvironment, format!("{variable} is missing or wrong"), details)
    }

    /// The value of a field is wrong.
    pub fn field(field: &str, details: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidConfig, format!("{field} is wrong"), details)
    }

    /// The object that the runtime reads.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        json!({
            "cniVersion": version.name(), "code": self.code, "msg": self.message, "details": self.details,
        })
    }
}
