//! What the kernel refused, of which object, and why.

use std::io;
use std::path::PathBuf;

/// The result of everything that changes or reads the kernel's configuration.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. The source, where there is one, is the kernel's error number.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {operation} {object}")]
    Os {
        /// What was attempted: "open", "bind a packet socket to", …
        operation: &'static str,
        /// On what: a path, "link 7", …
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A netlink request was refused.
    #[error("cannot {operation} {object}{}", explained(.detail))]
    Netlink {
        /// What was attempted: "add link", "remove route", …
        operation: &'static str,
        /// On what.
        object: String,
        /// The kernel's extended acknowledgement: a sentence, when it gave one.
        detail: Option<String>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A BPF program or one of its maps could not be used.
    #[error("cannot {operation}")]
    Bpf {
        /// What was attempted.
        operation: &'static str,
        /// Why not; the kernel's answer is the last of its sources.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A netlink answer could not be understood.
    #[error("cannot {operation} {object}: the kernel's answer is malformed: {reason}")]
    Malformed {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        object: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A path that was given as a network namespace is something else.
    #[error("{} is not a network namespace, a file such as /run/netns/web expected", .path.display())]
    NotANamespace {
        /// The path that was given.
        path: PathBuf,
    },
    /// A device of this name exists and is not a TAP with free queues.
    #[error("device {name} is already used: {reason}")]
    AlreadyUsed {
        /// The device's name.
        name: String,
        /// By what.
        reason: String,
    },
    /// A name that cannot be a device's.
    #[error(
        "\"{name}\" is not a device name, 1 to 15 bytes without slash, colon, percent sign or space expected"
    )]
    DeviceName {
        /// The name that was given.
        name: String,
    },
}

/// The part of a message that comes from the extended acknowledgement.
fn explained(detail: &Option<String>) -> String {
    detail.as_deref().map(|text| format!(" ({text})")).unwrap_or_default()
}

impl Error {
    /// An error of a system call on `object`.
    pub fn os(operation: &'static str, object: impl Into<String>, source: io::Error) -> Error {
        Error::Os { operation, object: object.into(), source }
    }

    /// An error of a BPF program or map.
    pub(crate) fn bpf(
        operation: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        Error::Bpf { operation, source: Box::new(source) }
    }

    /// Whether the object that the operation was about does not exist (any more).
    pub fn is_gone(&self) -> bool {
        use libc::{EADDRNOTAVAIL, EBADFD, ENODEV, ENOENT, ENXIO, ESRCH};
        matches!(self.code(), Some(ENODEV | ENOENT | ESRCH | ENXIO | EADDRNOTAVAIL | EBADFD))
    }

    /// Whether the operation failed because such an object exists already.
    pub fn is_exists(&self) -> bool {
        self.code() == Some(libc::EEXIST)
    }

    /// Whether a next hop cannot be reached by what the kernel knows to be on the link.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.code(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH))
    }

    /// The kernel's error number.
    pub fn code(&self) -> Option<i32> {
        match self {
            Error::Os { source, .. } | Error::Netlink { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32, detail: Option<&str>) -> Error {
        Error::Netlink {
            operation: "add route",
            object: "198.18.0.0/24".into(),
            detail: detail.map(str::to_owned),
            source: io::Error::from_raw_os_error(code),
        }
    }

    #[test]
    fn a_message_names_the_object_and_the_kernels_reason() {
        let error = refused(libc::EINVAL, Some("Nexthop has invalid gateway"));
        assert_eq!(error.to_string(), "cannot add route 198.18.0.0/24 (Nexthop has invalid gateway)");
        assert_eq!(refused(libc::EPERM, None).to_string(), "cannot add route 198.18.0.0/24");
    }

    #[test]
    fn vanished_and_existing_objects_are_told_apart() {
        assert!(refused(libc::ENODEV, None).is_gone() && !refused(libc::ENODEV, None).is_exists());
        assert!(refused(libc::EEXIST, None).is_exists() && !refused(libc::EEXIST, None).is_gone());
        assert!(!refused(libc::EPERM, None).is_gone());
    }
}
