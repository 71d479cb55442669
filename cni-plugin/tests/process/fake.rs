//! A daemon that serves Endpoints from memory, says what it was asked, and fails when told to.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use weft_proto::v1::attach_request::AddressSource;
use weft_proto::v1::endpoints_server::{Endpoints, EndpointsServer};
use weft_proto::v1::*;

/// The prefix that the fake's Network has.
const PREFIX: &str = "198.18.1.";

/// What the fake knows.
#[derive(Default)]
pub struct State {
    /// Attachments as they are.
    pub attachments: Vec<AttachmentState>,
    /// Every call, as NAME and its message.
    pub calls: Vec<String>,
    /// The last request to attach.
    pub last: Option<AttachRequest>,
    /// The last request to check.
    pub checked: Option<CheckRequest>,
    /// Answered to every call but Status, instead of serving it.
    pub refusal: Option<Status>,
    /// Never answers Attach.
    pub hangs: bool,
    /// Answered by Status; `ready` unless set.
    pub status: Option<EndpointStatusResponse>,
}

/// A running fake.
pub struct Fake {
    state: Shared,
    socket: PathBuf,
    _runtime: Runtime,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Fake {
    /// Listens on a socket.
    pub fn start(socket: &Path) -> Fake {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(async { UnixListener::bind(socket) }).unwrap();
        let state = Shared::default();
        let server = tonic::transport::Server::builder().add_service(EndpointsServer::new(state.clone()));
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Fake { state, socket: socket.to_owned(), _runtime: runtime }
    }

    /// What it knows.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// The names of the calls so far, without their messages.
    pub fn calls(&self) -> Vec<String> {
        let first = |call: &String| call.split(' ').next().unwrap_or_default().to_owned();
        self.state().calls.iter().map(first).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.socket));
    }
}

impl Shared {
    /// Notes a call, and refuses it when that was asked for.
    fn note(&self, name: &str, message: &impl std::fmt::Debug) -> Result<MutexGuard<'_, State>, Status> {
        let mut state = self.0.lock().unwrap();
        state.calls.push(format!("{name} {message:?}"));
        match &state.refusal {
            Some(status) => Err(status.clone()),
            None => Ok(state),
        }
    }
}

/// The attachment that a request makes.
fn attached(request: &AttachRequest, number: usize) -> AttachmentState {
    let pool = |wanted: &[String]| match wanted {
        [] => vec![format!("{PREFIX}{}/24", 10 + number)],
        wanted => wanted.iter().map(|address| format!("{address}/24")).collect(),
    };
    let addresses = match &request.address_source {
        Some(AddressSource::Given(given)) => given.addresses.clone(),
        Some(AddressSource::Pools(pools)) => pool(&pools.wanted),
        None => pool(&[]),
    };
    let gateway = format!("{PREFIX}1");
    let address = |address: String| AttachedAddress { gateway: gateway.clone(), address };
    let default = PortRoute { prefix: "0.0.0.0/0".into(), via: gateway.clone() };
    let defaults = request.default_route.unwrap_or(true).then_some(default);
    AttachmentState {
        key: request.key.clone(),
        network: request.network.clone(),
        netns: request.netns.clone(),
        port: format!("port{number}"),
        r#type: request.r#type,
        mac: if request.mac.is_empty() { "02:00:00:00:00:10".into() } else { request.mac.clone() },
        mtu: if request.mtu == 0 { 1450 } else { request.mtu },
        host_device: if request.r#type() == PortType::Tap { String::new() } else { format!("w{number}") },
        host_mac: "02:00:00:00:00:01".into(),
        routes: defaults.into_iter().chain(request.routes.clone()).collect(),
        addresses: addresses.into_iter().map(address).collect(),
        configuration: request.configuration.clone(),
        owner: request.owner.clone(),
        created: None,
        vlan: request.vlan,
    }
}

#[tonic::async_trait]
impl Endpoints for Shared {
    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<AttachResponse>, Status> {
        let request = request.into_inner();
        if self.0.lock().unwrap().hangs {
            std::future::pending::<()>().await;
        }
        let mut state = self.note("Attach", &request)?;
        state.last = Some(request.clone());
        if request.network != "front" {
            return Err(Status::not_found(format!("network \"{}\" does not exist", request.network)));
        }
        if let Some(known) = state.attachments.iter().find(|known| known.key == request.key) {
            return Ok(Response::new(AttachResponse { attachment: Some(known.clone()), existed: true }));
        }
        let attachment = attached(&request, state.attachments.len());
        state.attachments.push(attachment.clone());
        Ok(Response::new(AttachResponse { attachment: Some(attachment), existed: false }))
    }

    async fn detach(&self, request: Request<DetachRequest>) -> Result<Response<DetachResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.note("Detach", &request)?;
        let before = state.attachments.len();
        let meant = request.key.clone().unwrap_or_default();
        state.attachments.retain(|known| {
            let key = known.key.clone().unwrap_or_default();
            key.container_id != meant.container_id
                || !meant.interface.is_empty() && key.interface != meant.interface
        });
        let gone = state.attachments.len() < before;
        Ok(Response::new(DetachResponse { detached: request.key.into_iter().filter(|_| gone).collect() }))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.note("Check", &request)?;
        state.checked = Some(request.clone());
        let known = state.attachments.iter().find(|known| known.key == request.key).cloned();
        let attachment = known.ok_or_else(|| Status::not_found("no such attachment"))?;
        let has = |address: &String| {
            let address: IpAddr = address.split('/').next().unwrap().parse().unwrap();
            attachment.addresses.iter().any(|known| known.address.starts_with(&format!("{address}/")))
        };
        match request.addresses.iter().find(|address| !has(address)) {
            Some(missing) => Err(Status::failed_precondition(format!("eth0 has no address {missing}"))),
            None => Ok(Response::new(CheckResponse { attachment: Some(attachment) })),
        }
    }

    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<CollectResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.note("Collect", &request)?;
        let lives = |known: &AttachmentState| {
            known.configuration != request.configuration
                || known.key.as_ref().is_some_and(|key| request.valid.contains(key))
        };
        state.attachments.retain(lives);
        Ok(Response::new(CollectResponse::default()))
    }

    async fn status(
        &self,
        request: Request<EndpointStatusRequest>,
    ) -> Result<Response<EndpointStatusResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.calls.push(format!("Status {:?}", request.into_inner()));
        let ready = EndpointStatusResponse { ready: true, ..EndpointStatusResponse::default() };
        Ok(Response::new(state.status.clone().unwrap_or(ready)))
    }
}
