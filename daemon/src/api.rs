//! The gRPC API: which services there are, on which socket, and for whom.
//!
//! The services only translate: what a request means is the [`store`](crate::store)'s to say, what the kernel
//! makes of it the reconciler's.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use weft_proto::v1;
use weft_proto::v1::diagnostics_server::DiagnosticsServer;
use weft_proto::v1::endpoints_server::EndpointsServer;
use weft_proto::v1::fabric_server::FabricServer;
use weft_proto::v1::tunnels_server::TunnelsServer;

use crate::dataplane::Dataplane;
use crate::error::{Error, Result};
use crate::reconcile::{Folders, Reconciler};
use crate::status::StatusBoard;
use crate::store::Store;

use diagnostics::DiagnosticsService;
use endpoints::EndpointsService;
use fabric::FabricService;
use socket::Socket;
use tunnels::TunnelsService;

mod answer;
mod diagnostics;
mod endpoints;
mod fabric;
mod live_trace;
mod resource;
mod socket;
mod tunnel_status;
mod tunnels;
mod watching;

/// The largest message in either direction, in bytes: some ten thousand resources.
const MAX_MESSAGE: usize = 16 << 20;
/// How long requests under way may take to end once the daemon stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Whoever makes the stored wish true.
pub trait Realizer: Send + Sync {
    /// Something changed: look at the store.
    fn wake(&self);
    /// What was done so far.
    fn report(&self) -> v1::ReconcilerStatus;
}

/// The parts of the daemon that the API speaks for.
pub struct Node {
    /// What shall be.
    pub store: Arc<Store>,
    /// What is.
    pub status: Arc<StatusBoard>,
    /// The packet side.
    pub dataplane: Arc<Dataplane>,
    /// Brings the two together.
    pub realizer: Arc<dyn Realizer>,
    /// Names this boot of the node.
    pub boot_id: String,
    /// Where namespaces are reached by path.
    pub folders: Folders,
    /// When the daemon started.
    pub started: SystemTime,
    /// Becomes true when the daemon stops: streams end then.
    pub closing: watch::Receiver<bool>,
}

/// The bound API, not yet served.
#[derive(Debug)]
pub struct Api {
    socket: Socket,
}

impl Api {
    /// Binds the socket: mode 0600, in a folder that is made when it is missing. A stale one is replaced; one
    /// that somebody answers on is an error.
    pub fn bind(path: &Path) -> Result<Api> {
        Ok(Api { socket: Socket::bind(path)? })
    }

    /// Serves until `node.closing` becomes true, then lets requests under way end, and removes the socket.
    pub async fn serve(self, node: Node) -> Result<()> {
        let mut closing = node.closing.clone();
        let mut deadline = node.closing.clone();
        let (health, health_service) = tonic_health::server::health_reporter();
        let readiness = tokio::spawn(tell_readiness(health, Arc::clone(&node.status), node.store.revision()));
        let node = Arc::new(node);
        let fabric = FabricServer::new(FabricService::new(Arc::clone(&node)))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let diagnostics = DiagnosticsServer::new(DiagnosticsService::new(Arc::clone(&node)))
            .max_encoding_message_size(MAX_MESSAGE);
        let endpoints = EndpointsServer::new(EndpointsService::new(Arc::clone(&node)))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let tunnels = TunnelsServer::new(TunnelsService::new(node)).max_encoding_message_size(MAX_MESSAGE);
        let server = Server::builder()
            .layer(InterceptorLayer::new(socket::check_peer(socket::own_uid()?)))
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(fabric)
            .add_service(endpoints)
            .add_service(diagnostics)
            .add_service(tunnels);
        let incoming = UnixListenerStream::new(self.socket.listener()?);
        let served = server.serve_with_incoming_shutdown(incoming, async move {
            // An error means that the sender is gone, and with it the daemon.
            let _ = closing.wait_for(|closing| *closing).await;
        });
        let result = tokio::select! {
            result = served => result.map_err(Error::Serve),
            () = async {
                let _ = deadline.wait_for(|closing| *closing).await;
                tokio::time::sleep(DRAIN).await;
            } => {
                tracing::warn!("requests were still under way after {} s; they are cut off", DRAIN.as_secs());
                Ok(())
            }
        };
        readiness.abort();
        result
    }
}

impl Realizer for Reconciler {
    fn wake(&self) {
        Reconciler::wake(self);
    }

    fn report(&self) -> v1::ReconcilerStatus {
        let report = Reconciler::report(self);
        v1::ReconcilerStatus {
            passes: report.passes,
            failures: report.failures,
            devices_created: report.devices_created,
            devices_adopted: report.devices_adopted,
            devices_removed: report.devices_removed,
            namespaces_created: report.namespaces_created,
            namespaces_adopted: report.namespaces_adopted,
            namespaces_removed: report.namespaces_removed,
            kernel_events: report.kernel_events,
            last_error: report.last_error,
        }
    }
}

/// Health says SERVING once everything that was stored has been tried on the kernel.
async fn tell_readiness(
    health: tonic_health::server::HealthReporter,
    status: Arc<StatusBoard>,
    revision: u64,
) {
    let services = [
        "",
        v1::fabric_server::SERVICE_NAME,
        v1::endpoints_server::SERVICE_NAME,
        v1::diagnostics_server::SERVICE_NAME,
        v1::tunnels_server::SERVICE_NAME,
    ];
    for service in services {
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
    while !status.wait_for(revision, Duration::from_secs(60)).await {}
    for service in services {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(weft_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests;
