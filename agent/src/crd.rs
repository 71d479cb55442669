//! The resources that Weft adds to Kubernetes. `weft-agent crds` prints their definitions, which the chart installs.
//!
//! What values may be beyond what a schema can say is checked where they are used: a wrong object is told of in its
//! status, and keeps no other from working.

// Each printer column has a name, a type and a path: the lint takes those of the second for repetitions.
#![allow(clippy::duplicated_attributes)]

mod declared;
pub mod network;
pub mod node;
pub mod pool;
pub mod router;
mod structure;
pub mod text;
pub mod tunnel;

#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use declared::DeclaredStatus;
pub use network::Network;
pub use node::WeftNode;
pub use pool::IPPool;
pub use router::Router;
pub use tunnel::Tunnel;

/// The definitions of all kinds, by name.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let all = [IPPool::crd(), Network::crd(), Router::crd(), Tunnel::crd(), WeftNode::crd()];
    all.map(structure::plain).into()
}
