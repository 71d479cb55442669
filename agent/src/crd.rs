//! The resources that Weft adds to Kubernetes. `weft-agent crds` prints their definitions, which the chart installs.
//!
//! What values may be beyond what a schema can say is checked where they are used: a wrong object is told of in its
//! status, and keeps no other from working.

pub mod node;
pub mod pool;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use node::WeftNode;
pub use pool::IPPool;

/// The definitions of all kinds, by name.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![IPPool::crd(), WeftNode::crd()]
}
