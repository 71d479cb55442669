//! The Tunnels service: RotateKey.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use weft_proto::v1;
use weft_proto::v1::tunnels_server::Tunnels;
use weft_stack::tunnel::wireguard::PrivateKey;
use zeroize::Zeroizing;

use super::answer::{self, wrong_field};
use super::fabric::{WAIT, blocking};
use super::{Node, resource};
use crate::error::Error;
use crate::store::Rotation;

/// The service.
pub(super) struct TunnelsService {
    node: Arc<Node>,
}

impl TunnelsService {
    pub fn new(node: Arc<Node>) -> TunnelsService {
        TunnelsService { node }
    }
}

#[tonic::async_trait]
impl Tunnels for TunnelsService {
    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let v1::RotateKeyRequest { name, finish, private_key } = request.into_inner();
        let rotation = rotation(finish, &Zeroizing::new(private_key))?;
        let object = answer::object("", v1::Kind::Tunnel as i32, &name)?;
        let wanted = object.clone();
        let revision = blocking(&self.node, move |node| {
            let revision = node.store.rotate(&wanted, rotation)?;
            node.realizer.wake();
            Ok(revision)
        })
        .await?;
        if !self.node.status.wait_for(revision, WAIT).await {
            tracing::warn!(revision, "RotateKey answers before the workers use the key");
        }
        let picture = self.node.store.picture();
        let Some(stored) = picture.resources.get(&object) else {
            return Err(Error::NotFound(vec![object]).into());
        };
        let tunnel = resource::shown(&self.node, &picture, &object, stored);
        Ok(Response::new(v1::RotateKeyResponse { tunnel: Some(tunnel) }))
    }
}

/// What a request asks for. A wrong key is not repeated.
fn rotation(finish: bool, private_key: &str) -> Result<Rotation, Status> {
    if private_key.is_empty() {
        return Ok(if finish { Rotation::Finish } else { Rotation::Begin(None) });
    }
    if finish {
        return Err(wrong_field("privateKey", "given, nothing expected beside finish"));
    }
    let key = private_key.parse::<PrivateKey>().map_err(|error| wrong_field("privateKey", error))?;
    Ok(Rotation::Begin(Some(key)))
}
