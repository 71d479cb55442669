//! The client of a daemon on this node: gRPC over its Unix socket.
//!
//! Connecting is lazy: it is done by the first call, and again by the next call after it was lost.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::v1::diagnostics_client::DiagnosticsClient;
use crate::v1::endpoints_client::EndpointsClient;
use crate::v1::fabric_client::FabricClient;
use crate::v1::tunnels_client::TunnelsClient;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_ENDPOINT: &str = "unix:///run/weft/weftd.sock";

/// Largest message in octets that either side takes.
pub const MAX_MESSAGE_OCTETS: usize = 16 << 20;

/// The services of one daemon; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// Declared resources.
    pub fabric: FabricClient<Channel>,
    /// Seeing into the running fabric.
    pub diagnostics: DiagnosticsClient<Channel>,
    /// What container runtimes need.
    pub endpoints: EndpointsClient<Channel>,
    /// Keys of tunnels.
    pub tunnels: TunnelsClient<Channel>,
}

/// Why there is no client, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint cannot be understood.
    #[error("\"{0}\" is not an endpoint, unix:///PATH or an absolute path expected")]
    Endpoint(String),
    /// The daemon's socket cannot be connected to.
    #[error("cannot reach weftd at {}: {source}; {}", path.display(), advice(source))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Client {
    /// A client for `unix:///path` or a plain absolute path. Nothing is sent yet; call it inside a
    /// tokio runtime.
    pub fn connect(endpoint: &str) -> Result<Client, ClientError> {
        let channel = channel(socket_path(endpoint)?);
        let fabric = FabricClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_OCTETS);
        let diagnostics =
            DiagnosticsClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_OCTETS);
        let endpoints = EndpointsClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_OCTETS);
        let tunnels = TunnelsClient::new(channel).max_decoding_message_size(MAX_MESSAGE_OCTETS);
        Ok(Client { fabric, diagnostics, endpoints, tunnels })
    }
}

/// Whether the daemon could not be reached, or went away before it answered: the status was then made on
/// this side and not by the daemon.
pub fn is_unreachable(status: &Status) -> bool {
    status.source().is_some()
}

/// What the user can do about a socket that cannot be connected to.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "only root and the user it runs as may",
        _ => "is it running?",
    }
}

/// The path that an endpoint names.
fn socket_path(endpoint: &str) -> Result<PathBuf, ClientError> {
    let path = Path::new(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
    if path.is_absolute() { Ok(path.to_owned()) } else { Err(ClientError::Endpoint(endpoint.to_owned())) }
}

fn channel(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            match UnixStream::connect(&path).await {
                Ok(stream) => Ok(TokioIo::new(stream)),
                Err(source) => Err(ClientError::Unreachable { path, source }),
            }
        }
    });
    // The name only fills HTTP/2's authority; the socket decides where a call goes.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::StatusRequest;
    use tonic::Code;

    #[test]
    fn an_endpoint_is_a_unix_url_or_an_absolute_path() {
        assert_eq!(socket_path("unix:///run/a.sock").unwrap(), Path::new("/run/a.sock"));
        assert_eq!(socket_path("/run/a.sock").unwrap(), Path::new("/run/a.sock"));
        for wrong in ["", "a.sock", "unix://a.sock", "http://localhost:1"] {
            let error = socket_path(wrong).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("\"{wrong}\" is not an endpoint, unix:///PATH or an absolute path expected")
            );
        }
    }

    #[tokio::test]
    async fn a_missing_daemon_is_named_with_its_socket() {
        let mut client = Client::connect("unix:///nonexistent/weftd.sock").unwrap();
        let status = client.diagnostics.status(StatusRequest {}).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(
            status.message(),
            "cannot reach weftd at /nonexistent/weftd.sock: No such file or directory (os error 2); is it running?"
        );
        assert!(is_unreachable(&status));
    }
}
