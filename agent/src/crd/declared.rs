//! The status that Networks, Routers and Tunnels have: whether the nodes took them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of the object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredStatus {
    /// "Ready": nodes have it. Where it is false, the message names the node and the reason.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this tells of.
    #[serde(default)]
    pub observed_generation: i64,
}
