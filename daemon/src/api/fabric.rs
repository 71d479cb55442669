//! The Fabric service: Apply, Get, List, Delete; Watch is in [`super::watching`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weft_host::netns::{NetNs, NetNsId};
use weft_proto::v1;
use weft_proto::v1::fabric_server::Fabric;

use super::{Node, answer, resource, watching};
use crate::error::Error;
use crate::model::{Name, ObjectRef};
use crate::reconcile::Marks;
use crate::store::{Change, Wish};

/// How long Apply and Delete wait for the kernel to follow.
pub(super) const WAIT: Duration = Duration::from_secs(30);

/// The service.
pub(super) struct FabricService {
    node: Arc<Node>,
}

impl FabricService {
    pub fn new(node: Arc<Node>) -> FabricService {
        FabricService { node }
    }
}

/// Waits until none of these objects is left.
pub(super) async fn gone(node: &Node, objects: &[ObjectRef], limit: Duration) -> Result<(), Status> {
    let mut revision = node.store.subscribe();
    let all_gone = revision.wait_for(|_| {
        let picture = node.store.picture();
        !objects.iter().any(|object| picture.fabric.is_going(object))
    });
    if let Ok(Ok(_)) = tokio::time::timeout(limit, all_gone).await {
        return Ok(());
    }
    let picture = node.store.picture();
    let Some(left) = objects.iter().find(|object| picture.fabric.is_going(object)) else { return Ok(()) };
    let why = node.status.get(left).map(|status| format!(": {}", status.report.message));
    let message = format!(
        "{left} is marked for deletion, but not gone after {} s{}",
        WAIT.as_secs(),
        why.unwrap_or_default()
    );
    Err(Status::deadline_exceeded(message))
}

/// Runs what reads and writes files where it does not hold up the other requests.
pub(super) async fn blocking<T, F>(node: &Arc<Node>, work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: FnOnce(&Node) -> crate::error::Result<T> + Send + 'static,
{
    let node = Arc::clone(node);
    let result = tokio::task::spawn_blocking(move || work(&node)).await;
    Ok(result.map_err(|error| Status::internal(format!("the request failed: {error}")))??)
}

#[tonic::async_trait]
impl Fabric for FabricService {
    type WatchStream = ReceiverStream<Result<v1::WatchEvent, Status>>;

    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let v1::ApplyRequest { resources, dry_run, prune, no_wait } = request.into_inner();
        let wish = Wish { resources, prune, dry_run };
        let applied = blocking(&self.node, move |node| {
            let marks = Marks::new(node.store.instance());
            let applied = node.store.apply(wish, &|path| adoptable(path, &marks))?;
            if !dry_run {
                // Also when the client has gone meanwhile: the wish is stored.
                node.realizer.wake();
            }
            Ok(applied)
        })
        .await?;
        if !dry_run && !no_wait && !self.node.status.wait_for(applied.revision, WAIT).await {
            tracing::warn!(revision = applied.revision, "Apply answers before the kernel was tried");
        }
        let picture = self.node.store.picture();
        let result = |(object, change): &(ObjectRef, Change)| {
            let shown = |stored| resource::shown(&self.node, &picture, object, stored);
            let stored = picture.resources.get(object).filter(|_| !dry_run && *change != Change::Deleted);
            v1::ApplyResult {
                kind: v1::Kind::from(object.kind) as i32,
                name: object.name.to_string(),
                change: v1::Change::from(*change) as i32,
                resource: stored.map(|stored| shown(stored)),
            }
        };
        let results = applied.changes.iter().map(result).collect();
        Ok(Response::new(v1::ApplyResponse { results, revision: applied.revision }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Resource>, Status> {
        let request = request.into_inner();
        let object = answer::object("", request.kind, &request.name)?;
        let picture = self.node.store.picture();
        match picture.resources.get(&object) {
            Some(stored) => Ok(Response::new(resource::shown(&self.node, &picture, &object, stored))),
            None => Err(Error::NotFound(vec![object]).into()),
        }
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let request = request.into_inner();
        let kind = answer::kind("kind", request.kind)?;
        let picture = self.node.store.picture();
        let resources = picture
            .select(kind, &request.labels)
            .map(|(object, stored)| resource::shown(&self.node, &picture, object, stored))
            .collect();
        Ok(Response::new(v1::ListResponse { resources, revision: picture.fabric.revision }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let v1::DeleteRequest { objects, ignore_missing, no_wait } = request.into_inner();
        let named = |(index, object): (usize, &v1::ObjectRef)| {
            answer::object(&format!("objects[{index}]."), object.kind, &object.name)
        };
        let objects = objects.iter().enumerate().map(named).collect::<Result<Vec<_>, _>>()?;
        let (deleted, revision) = blocking(&self.node, move |node| {
            let deleted = node.store.delete(&objects, ignore_missing)?;
            node.realizer.wake();
            Ok(deleted)
        })
        .await?;
        if !no_wait {
            gone(&self.node, &deleted, WAIT).await?;
        }
        let deleted = deleted.iter().map(v1::ObjectRef::from).collect();
        Ok(Response::new(v1::DeleteResponse { deleted, revision }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let kind = answer::kind("kind", request.kind)?;
        Ok(Response::new(watching::start(Arc::clone(&self.node), kind, request.labels)))
    }
}

impl From<Change> for v1::Change {
    fn from(change: Change) -> v1::Change {
        match change {
            Change::Created => v1::Change::Created,
            Change::Updated => v1::Change::Updated,
            Change::Unchanged => v1::Change::Unchanged,
            Change::Deleted => v1::Change::Deleted,
        }
    }
}

/// Whether a path is a network namespace that is somebody else's.
pub(super) fn adoptable(path: &Path, marks: &Marks) -> Result<(), String> {
    let shown = path.display();
    match made_for(path, marks)?.1 {
        None => Ok(()),
        Some(object) => Err(match object.strip_prefix("namespace/") {
            Some(name) => format!("{shown} was made by this daemon, use Namespace/{name} instead"),
            None => format!("{shown} was made by this daemon for its ends of veth pairs"),
        }),
    }
}

/// The namespace at a path, and the Namespace that the daemon of this instance has made there; `None`: it is somebody
/// else's.
pub(super) fn found_at(path: &Path, instance: &str) -> Result<(NetNsId, Option<Name>), String> {
    let (id, made_for) = made_for(path, &Marks::new(instance))?;
    match made_for {
        None => Ok((id, None)),
        Some(object) => match object.strip_prefix("namespace/").and_then(|name| Name::new(name).ok()) {
            Some(name) => Ok((id, Some(name))),
            None => Err(format!("{} is not a container's network namespace", path.display())),
        },
    }
}

/// The namespace at a path, and what the daemon has made it for; `None`: it is somebody else's.
fn made_for(path: &Path, marks: &Marks) -> Result<(NetNsId, Option<String>), String> {
    let shown = path.display();
    if let Err(error) = std::fs::metadata(path) {
        return Err(match error.kind() {
            std::io::ErrorKind::NotFound => format!("{shown} does not exist"),
            _ => format!("{shown} cannot be read: {error}"),
        });
    }
    let namespace = NetNs::open(path).map_err(|error| error.to_string())?;
    let unreadable = |error| format!("{shown} cannot be looked into: {error}");
    if namespace.id() == NetNs::current().map_err(unreadable)?.id() {
        return Err(format!("{shown} is the namespace of the daemon, where ports of type host appear"));
    }
    let mark = namespace.mark().map_err(unreadable)?.unwrap_or_default();
    Ok((namespace.id(), marks.made_for(&mark).map(str::to_owned)))
}
