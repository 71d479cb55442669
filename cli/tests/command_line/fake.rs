//! A daemon that keeps applied resources in memory and gives fixed diagnostics.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use weft_proto::error_detail::{Violation, invalid_argument};
use weft_proto::v1::diagnostics_server::{Diagnostics, DiagnosticsServer};
use weft_proto::v1::fabric_server::{Fabric, FabricServer};
use weft_proto::v1::tunnels_server::{Tunnels, TunnelsServer};
use weft_proto::v1::*;

/// A running fake; its socket goes with it.
pub struct Fake {
    folder: PathBuf,
    _runtime: Runtime,
}

impl Fake {
    /// Starts listening in a folder of its own.
    pub fn start(name: &str) -> Fake {
        let folder = std::env::temp_dir().join(format!("weft-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(async { UnixListener::bind(folder.join("weftd.sock")) }).unwrap();
        let state = State::default();
        let server = tonic::transport::Server::builder()
            .add_service(FabricServer::new(state.clone()))
            .add_service(DiagnosticsServer::new(state.clone()))
            .add_service(TunnelsServer::new(state));
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Fake { folder, _runtime: runtime }
    }

    /// A file in the fake's folder.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The command with these arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command.env("WEFT_SOCKET", self.folder.join("weftd.sock")).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs `weft` with these arguments.
    pub fn weft(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

#[derive(Clone, Default)]
struct State(Arc<Mutex<Vec<Resource>>>);

impl State {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Resource>> {
        self.0.lock().unwrap()
    }
}

/// The resource as the daemon would answer it: broken objects are not ready, others are.
fn with_status(mut resource: Resource) -> Resource {
    let broken = resource.name().starts_with("broken");
    if let Some(resource::Kind::Tunnel(Tunnel {
        spec: Some(TunnelSpec { wireguard: Some(own), .. }),
        status,
    })) = &mut resource.kind
    {
        let public_key = told_of(&std::mem::take(&mut own.private_key));
        let remote = |peer: &WireGuardPeer| TunnelRemote {
            address: peer.endpoint.clone(),
            public_key: peer.public_key.clone(),
            rx_bytes: 2048,
            drops: [("replayed".into(), 2)].into(),
            ..Default::default()
        };
        let condition = Condition { r#type: "Ready".into(), status: true, ..Default::default() };
        *status = Some(TunnelStatus {
            conditions: vec![condition],
            mtu: 1440,
            public_key,
            previous_public_keys: vec!["old".into()],
            remotes: own.peers.iter().map(remote).collect(),
            ..Default::default()
        });
        return resource;
    }
    let Some(resource::Kind::Namespace(namespace)) = &mut resource.kind else { return resource };
    let (reason, message) = if broken { ("NamespaceMissing", "/x does not exist") } else { ("Realized", "") };
    namespace.status = Some(NamespaceStatus {
        conditions: vec![Condition {
            r#type: "Ready".into(),
            status: !broken,
            reason: reason.into(),
            message: message.into(),
            changed: None,
        }],
        path: format!("/run/netns/{}", resource.metadata.as_ref().unwrap().name),
        ..Default::default()
    });
    resource
}

#[tonic::async_trait]
impl Fabric for State {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let request = request.into_inner();
        let wrong = request.resources.iter().filter(|resource| resource.name() == "wrong");
        let wrong: Vec<_> = wrong.map(|it| Violation::new(format!("{}: spec.path", it.id()), "no")).collect();
        if !wrong.is_empty() {
            return Err(invalid_argument(wrong));
        }
        let mut results = Vec::new();
        for resource in request.resources.into_iter().map(with_status) {
            let (kind, name) = (resource.kind().into(), resource.name().to_owned());
            let change = if self.all().contains(&resource) { Change::Unchanged } else { Change::Created };
            let answer = (!request.dry_run).then(|| resource.clone());
            if !request.dry_run && change == Change::Created {
                self.all().push(resource);
            }
            results.push(ApplyResult { kind, name, change: change.into(), resource: answer });
        }
        Ok(Response::new(ApplyResponse { results, revision: 1 }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Resource>, Status> {
        let (kind, name) = (request.get_ref().kind(), &request.get_ref().name);
        let found = self.all().iter().find(|it| it.kind() == kind && it.name() == name).cloned();
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found(format!("{}/{name} does not exist", kind.name())))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        Ok(Response::new(ListResponse { resources: self.all().clone(), revision: 1 }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let request = request.into_inner();
        let mut deleted = Vec::new();
        for object in request.objects {
            let at = self.all().iter().position(|it| it.object_ref() == object);
            match at {
                Some(at) => deleted.push(self.all().remove(at).object_ref()),
                None if request.ignore_missing => {}
                None => return Err(Status::not_found(format!("{} does not exist", object.id()))),
            }
        }
        Ok(Response::new(DeleteResponse { deleted, revision: 2 }))
    }

    type WatchStream = std::pin::Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let event = |r#type: EventType, resource| WatchEvent { r#type: r#type.into(), resource, revision: 1 };
        let mut events: Vec<_> =
            self.all().iter().map(|it| event(EventType::Present, Some(it.clone()))).collect();
        events.push(event(EventType::Synced, None));
        Ok(Response::new(Box::pin(tokio_stream::iter(events.into_iter().map(Ok)))))
    }
}

/// What the fake puts in the place of a private key: it shows that one came, and which.
fn told_of(secret: &str) -> String {
    if secret.is_empty() { String::new() } else { format!("public of {secret}") }
}

#[tonic::async_trait]
impl Tunnels for State {
    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<RotateKeyResponse>, Status> {
        let RotateKeyRequest { name, finish, private_key } = request.into_inner();
        let public_key = if private_key.is_empty() { "new".to_owned() } else { told_of(&private_key) };
        let previous_public_keys = if finish { vec![] } else { vec!["old".to_owned()] };
        let status = TunnelStatus { public_key, previous_public_keys, ..Default::default() };
        let metadata = Some(Metadata { name, ..Default::default() });
        let kind = Some(resource::Kind::Tunnel(Tunnel { spec: None, status: Some(status) }));
        Ok(Response::new(RotateKeyResponse { tunnel: Some(Resource { metadata, kind }) }))
    }
}

#[tonic::async_trait]
impl Diagnostics for State {
    type TraceLiveStream = std::pin::Pin<Box<dyn Stream<Item = Result<TraceLiveResponse, Status>> + Send>>;

    async fn trace_live(
        &self,
        _: Request<TraceLiveRequest>,
    ) -> Result<Response<Self::TraceLiveStream>, Status> {
        Err(Status::unavailable("starting"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Err(Status::unavailable("starting"))
    }

    async fn counters(&self, _: Request<CountersRequest>) -> Result<Response<CountersResponse>, Status> {
        let counters = PortCounters {
            rx_packets: 7,
            fast_packets: 5,
            drops: [("mac_spoofed".into(), 2)].into(),
            ..Default::default()
        };
        Ok(Response::new(CountersResponse {
            ports: vec![PortCounterSet { port: "web".into(), counters: Some(counters), queues: Vec::new() }],
            drops: [("mac_spoofed".into(), 2), ("ttl_exceeded".into(), 0)].into(),
            stack: [("arp_replies".into(), 3)].into(),
            ..Default::default()
        }))
    }

    async fn trace(&self, request: Request<TraceRequest>) -> Result<Response<TraceResponse>, Status> {
        let Some(trace_request::Packet::Spec(spec)) = request.into_inner().packet else { panic!() };
        let message = format!("{} to {}", spec.protocol().as_str_name(), spec.destination);
        Ok(Response::new(TraceResponse {
            steps: vec![TraceStep { stage: "ingress".into(), message }],
            verdict: "dropped".into(),
            drop_reason: "no_route".into(),
            outputs: vec![],
        }))
    }
}
