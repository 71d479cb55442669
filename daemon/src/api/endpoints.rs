//! The Endpoints service: what container runtimes need.
//!
//! Reading a request is in `request`, looking at the kernel in `inspection`; what an attachment is, and who gets
//! which address, is the [`store`](crate::store)'s to say.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};
use weft_proto::v1;
use weft_proto::v1::endpoints_server::Endpoints;

use super::fabric::{WAIT, blocking};
use super::{Node, fabric};
use crate::model::{Endpoint, Kind, Name, ObjectRef};
use crate::reconcile::Marks;
use crate::status::Report;
use crate::store::endpoint::{AttachWish, Attached, port_name};

mod inspection;
mod request;
mod state;

/// The service.
pub(super) struct EndpointsService {
    node: Arc<Node>,
}

/// A Port that the store has for a container.
struct Placed {
    port: ObjectRef,
    /// As of this revision.
    revision: u64,
    /// It was there already.
    existed: bool,
}

impl EndpointsService {
    pub fn new(node: Arc<Node>) -> EndpointsService {
        EndpointsService { node }
    }

    /// Puts down what is wished, after what stands in the way has gone.
    async fn put(&self, wish: &AttachWish, deadline: Instant) -> Result<Placed, Status> {
        loop {
            let wish = wish.clone();
            let attached = blocking(&self.node, move |node| {
                let marks = Marks::new(node.store.instance());
                let attached = node.store.attach(&wish, &|path| fabric::adoptable(path, &marks))?;
                node.realizer.wake();
                Ok(attached)
            })
            .await?;
            let placed = |name, revision, existed| Placed {
                port: ObjectRef::new(Kind::Port, name),
                revision,
                existed,
            };
            match attached {
                Attached::New(name, revision) => return Ok(placed(name, revision, false)),
                Attached::Existing(name, revision) => return Ok(placed(name, revision, true)),
                Attached::Leaving(object) => self.gone(&[object], deadline).await?,
            }
        }
    }

    /// Waits until none of these objects is left.
    async fn gone(&self, objects: &[ObjectRef], deadline: Instant) -> Result<(), Status> {
        fabric::gone(&self.node, objects, deadline.saturating_duration_since(Instant::now())).await
    }

    /// Waits until a Port is ready, and tells why it is not.
    async fn ready(&self, placed: &Placed, deadline: Instant) -> Result<(), Report> {
        let left = deadline.saturating_duration_since(Instant::now());
        let tried = self.node.status.wait_for(placed.revision, left).await;
        let report = self.node.status.get(&placed.port).map(|status| status.report);
        match report {
            Some(report) if report.ready && tried => Ok(()),
            Some(report) => Err(report),
            None => Err(Report {
                ready: false,
                reason: "Pending",
                message: "the kernel was not tried in time".to_owned(),
                observed: None,
                generation: 0,
            }),
        }
    }

    /// Takes back what a failed Attach has made, and waits until it is gone.
    async fn take_back(&self, wish: &AttachWish, deadline: Instant) {
        let key = wish.endpoint.clone();
        if let Err(error) = self.detach_all(move |it| same_key(it, &key), deadline).await {
            tracing::warn!(container = %wish.endpoint.container_id, "{}", error.message());
        }
    }

    /// Takes away all attachments that `which` picks, and returns whose they were.
    async fn detach_all(
        &self,
        which: impl Fn(&Endpoint) -> bool + Send + 'static,
        deadline: Instant,
    ) -> Result<Vec<v1::AttachmentKey>, Status> {
        let (objects, keys) = blocking(&self.node, move |node| {
            let before = node.store.fabric();
            let (objects, _) = node.store.detach(&which)?;
            node.realizer.wake();
            let endpoint =
                |object: &ObjectRef| before.ports.get(&object.name)?.spec.endpoint.as_ref().map(state::key);
            let keys = objects.iter().filter_map(endpoint).collect();
            Ok((objects, keys))
        })
        .await?;
        self.gone(&objects, deadline).await?;
        Ok(keys)
    }

    async fn attach_one(&self, request: v1::AttachRequest) -> Result<Response<v1::AttachResponse>, Status> {
        let deadline = Instant::now() + WAIT;
        let wish = request::wish(request, &self.node)?;
        let mut placed = self.put(&wish, deadline).await?;
        if placed.existed {
            // What another request is just making is there when its pass is over; its trouble is that request's.
            let _ = self.ready(&placed, deadline).await;
            // A crash may have left it half done.
            if self.inspect(&placed.port.name, inspection::Expected::default()).await.is_ok() {
                return self.answer(&placed.port.name, true).await;
            }
            self.take_back(&wish, deadline).await;
            placed = self.put(&wish, deadline).await?;
        }
        match self.ready(&placed, deadline).await {
            Ok(()) => self.answer(&placed.port.name, false).await,
            Err(report) => {
                self.take_back(&wish, deadline).await;
                Err(refusal(&wish, &report))
            }
        }
    }

    /// The Port of an attachment that lives.
    fn find(&self, key: &v1::AttachmentKey) -> Result<Name, Status> {
        let name = port_name(&key.container_id, &key.interface)?;
        let fabric = self.node.store.fabric();
        let port = fabric.ports.get(&name).filter(|port| port.metadata.deleting.is_none());
        match port.and_then(|port| port.spec.endpoint.as_ref()) {
            Some(endpoint) if state::key(endpoint) == *key => Ok(name),
            _ => {
                let v1::AttachmentKey { container_id, interface } = key;
                Err(Status::not_found(format!("{interface} of container {container_id} is not attached")))
            }
        }
    }

    /// What a Port has and ought to have in the kernel, when the two are the same.
    async fn inspect(&self, name: &Name, expected: inspection::Expected) -> Result<(), Status> {
        let name = name.clone();
        let found = blocking(&self.node, move |node| {
            let fabric = node.store.fabric();
            Ok(inspection::inspect(&fabric, &node.folders, &name, &expected))
        })
        .await?;
        found.map_err(Status::failed_precondition)
    }

    async fn answer(&self, name: &Name, existed: bool) -> Result<Response<v1::AttachResponse>, Status> {
        let attachment = state::of(&self.node, name);
        let gone = || Status::aborted(format!("Port/{name} was taken away meanwhile"));
        Ok(Response::new(v1::AttachResponse { attachment: Some(attachment.ok_or_else(gone)?), existed }))
    }
}

#[tonic::async_trait]
impl Endpoints for EndpointsService {
    async fn attach(
        &self,
        request: Request<v1::AttachRequest>,
    ) -> Result<Response<v1::AttachResponse>, Status> {
        let request = request.into_inner();
        let v1::AttachmentKey { container_id, interface } = request.key.clone().unwrap_or_default();
        let answer = self.attach_one(request).await;
        if let Err(refused) = &answer {
            tracing::warn!(container = %container_id, device = %interface, "not attached: {}", refused.message());
        }
        answer
    }

    async fn detach(
        &self,
        request: Request<v1::DetachRequest>,
    ) -> Result<Response<v1::DetachResponse>, Status> {
        let key = request.into_inner().key.unwrap_or_default();
        request::check_container(&key.container_id)?;
        let which = move |it: &Endpoint| {
            it.container_id == key.container_id && (key.interface.is_empty() || it.interface == key.interface)
        };
        let detached = self.detach_all(which, Instant::now() + WAIT).await?;
        Ok(Response::new(v1::DetachResponse { detached }))
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        let request = request.into_inner();
        let key = request.key.clone().unwrap_or_default();
        request::check_key(&key)?;
        let name = self.find(&key)?;
        self.inspect(&name, request::expected(&request)?).await?;
        Ok(Response::new(v1::CheckResponse { attachment: state::of(&self.node, &name) }))
    }

    async fn collect(
        &self,
        request: Request<v1::CollectRequest>,
    ) -> Result<Response<v1::CollectResponse>, Status> {
        let v1::CollectRequest { configuration, valid } = request.into_inner();
        if configuration.is_empty() {
            let description = "not given, the name of a network configuration expected";
            return Err(super::answer::wrong_field("configuration", description));
        }
        // Those that come from now on are not meant.
        let fabric = self.node.store.fabric();
        let which = move |it: &Endpoint| {
            it.configuration == configuration
                && !valid.contains(&state::key(it))
                && port_name(&it.container_id, &it.interface)
                    .is_ok_and(|name| fabric.ports.contains_key(&name))
        };
        let detached = self.detach_all(which, Instant::now() + WAIT).await?;
        Ok(Response::new(v1::CollectResponse { detached }))
    }

    async fn status(
        &self,
        request: Request<v1::EndpointStatusRequest>,
    ) -> Result<Response<v1::EndpointStatusResponse>, Status> {
        let v1::EndpointStatusRequest { network, vlan } = request.into_inner();
        let vlan = request::vlan(vlan)?;
        let mut trouble = self.trouble(&network).await;
        let name = Name::new(&network).ok();
        let full = match name.and_then(|name| self.node.store.usage_for(&name, vlan)) {
            Some(Ok(pools)) => {
                pools.iter().filter(|pool| pool.is_exhausted()).map(|it| it.prefix.to_string()).collect()
            }
            Some(Err(error)) => {
                trouble.get_or_insert_with(|| error.to_string());
                Vec::new()
            }
            None => Vec::new(),
        };
        Ok(Response::new(v1::EndpointStatusResponse {
            ready: trouble.is_none(),
            message: trouble.unwrap_or_default(),
            exhausted: full,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}

impl EndpointsService {
    /// Why Attach would fail; `None`: it would not.
    async fn trouble(&self, network: &str) -> Option<String> {
        if !self.node.status.wait_for(0, Duration::ZERO).await {
            return Some(
                "weftd has just started, and what it knew was not tried on the kernel yet".to_owned(),
            );
        }
        if network.is_empty() {
            return None;
        }
        let name = match Name::new(network) {
            Ok(name) => name,
            Err(error) => return Some(error.to_string()),
        };
        let object = ObjectRef::new(Kind::Network, name);
        let fabric = self.node.store.fabric();
        match fabric.metadata(&object) {
            None => return Some(format!("there is no {object}: apply one")),
            Some(metadata) if metadata.deleting.is_some() => {
                return Some(format!("{object} is being deleted"));
            }
            Some(_) => {}
        }
        let report = self.node.status.get(&object)?.report;
        (!report.ready).then(|| format!("{object}: {}", report.message))
    }
}

/// Whether both are the same device of the same container.
fn same_key(one: &Endpoint, other: &Endpoint) -> bool {
    (&one.container_id, &one.interface) == (&other.container_id, &other.interface)
}

/// Why a device could not be made, as whoever asked for it can tell it apart.
fn refusal(wish: &AttachWish, report: &Report) -> Status {
    let Endpoint { container_id, interface, .. } = &wish.endpoint;
    let message = format!("{interface} of container {container_id} was not attached: {}", report.message);
    match report.reason {
        "DeviceNameTaken" => Status::already_exists(message),
        "NamespaceMissing" | "NotANamespace" => Status::failed_precondition(message),
        _ => Status::unavailable(message),
    }
}
