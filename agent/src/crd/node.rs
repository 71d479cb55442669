//! WeftNode: what a node tells the others of itself. Agents write it; people read it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::NodeRecord;

/// What the node says of itself.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1",
    kind = "WeftNode",
    plural = "weftnodes",
    shortname = "wn",
    category = "weft",
    status = "WeftNodeStatus",
    derive = "PartialEq",
    doc = "What a node tells the others of itself. Its agent writes it.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.addresses[0]"),
    printcolumn(name = "Pods", type_ = "string", json_path = ".spec.podCIDRs"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Unreached", type_ = "integer", json_path = ".status.unreachedCount"),
    printcolumn(name = "Key", type_ = "string", json_path = ".spec.tunnel.publicKey", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WeftNodeSpec {
    /// Its addresses on the network that all nodes share, the preferred one first.
    #[schemars(length(min = 1))]
    pub addresses: Vec<String>,
    /// Prefixes of its pods, in CIDR form.
    #[serde(rename = "podCIDRs", default)]
    pub pod_cidrs: Vec<String>,
    /// Its end of the mesh; none where nodes reach each other by plain routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelEnd>,
}

/// A node's end of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TunnelEnd {
    /// The UDP port that it listens on.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// WireGuard: its public key, Base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub public_key: String,
    /// WireGuard: keys before it, by which it is still reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous_public_keys: Vec<String>,
}

/// How the node is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeftNodeStatus {
    /// "Ready": pods on it have a network.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Version of the agent.
    #[serde(default)]
    pub version: String,
    /// Nodes that this one does not reach, and why: the first eight by name.
    #[serde(default)]
    #[schemars(length(max = MOST_UNREACHED))]
    pub unreached: Vec<Unreached>,
    /// How many nodes this one does not reach in all.
    #[serde(default)]
    pub unreached_count: u32,
}

/// Nodes that are named as unreached, at most: every write of a status is sent to all agents.
pub const MOST_UNREACHED: usize = 8;

/// A node that this one does not reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unreached {
    /// Its name.
    pub node: String,
    /// Why, in words.
    pub why: String,
}

impl WeftNodeSpec {
    /// What a record says.
    pub fn of(record: &NodeRecord) -> WeftNodeSpec {
        let tunnel = (record.port != 0).then(|| TunnelEnd {
            port: record.port,
            public_key: record.public_key.clone(),
            previous_public_keys: record.previous_public_keys.clone(),
        });
        WeftNodeSpec {
            addresses: record.addresses.iter().map(ToString::to_string).collect(),
            pod_cidrs: record.pods.iter().map(ToString::to_string).collect(),
            tunnel,
        }
    }

    /// The record that it says. Errors: the field, its value, and what was expected.
    pub fn record(&self, name: &str) -> Result<NodeRecord, String> {
        let address = |text: &String| {
            text.parse().map_err(|_| format!("spec.addresses: \"{text}\", an IP address expected"))
        };
        let prefix = |text: &String| {
            text.parse().map_err(|_| format!("spec.podCIDRs: \"{text}\", a prefix in CIDR form expected"))
        };
        let tunnel = self.tunnel.clone().unwrap_or_default();
        Ok(NodeRecord {
            name: name.to_owned(),
            addresses: self.addresses.iter().map(address).collect::<Result<_, _>>()?,
            pods: self.pod_cidrs.iter().map(prefix).collect::<Result<_, _>>()?,
            port: tunnel.port,
            public_key: tunnel.public_key,
            previous_public_keys: tunnel.previous_public_keys,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_from_its_spec() {
        let record = NodeRecord {
            name: "one".into(),
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            pods: vec!["198.18.1.0/24".parse().unwrap()],
            port: 51820,
            public_key: "key".into(),
            previous_public_keys: vec!["before".into()],
        };
        assert_eq!(WeftNodeSpec::of(&record).record("one"), Ok(record.clone()));
        let routed =
            NodeRecord { port: 0, public_key: String::new(), previous_public_keys: vec![], ..record };
        assert_eq!(WeftNodeSpec::of(&routed).tunnel, None);
        assert_eq!(WeftNodeSpec::of(&routed).record("one"), Ok(routed));
    }

    #[test]
    fn what_is_no_address_is_named() {
        let spec = WeftNodeSpec { addresses: vec!["here".into()], ..Default::default() };
        assert_eq!(spec.record("one").unwrap_err(), "spec.addresses: \"here\", an IP address expected");
    }
}
