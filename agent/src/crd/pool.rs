//! IPPool: addresses that nodes take blocks from.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::Pool;

/// Bits that a block has more than its pool, at most: a /48 has room for any /64. Of so many blocks only some are ever
/// given out ([`crate::cluster::block::MOST_TAKEN`]).
const MOST_BLOCKS: u8 = 16;

/// Addresses that each node takes a block of.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "weft.dev",
    version = "v1",
    kind = "IPPool",
    plural = "ippools",
    shortname = "ipp",
    category = "weft",
    status = "IPPoolStatus",
    derive = "PartialEq",
    doc = "Addresses that each node takes a block of, for its pods or for a further Network.",
    printcolumn(name = "CIDR", type_ = "string", json_path = ".spec.cidr"),
    printcolumn(name = "Block", type_ = "integer", json_path = ".spec.blockSize"),
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Used", type_ = "integer", json_path = ".status.used"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolSpec {
    /// All of its addresses: a prefix in CIDR form. It cannot be changed.
    #[schemars(length(min = 1, max = 49))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("cidr cannot be changed: make another pool"))]
    pub cidr: String,
    /// Prefix length of a node's block; default: 26 of IPv4, 112 of IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 128))]
    pub block_size: Option<u8>,
    /// The Network that it is for; default: that of all pods.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub network: String,
}

/// Who has which block.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolStatus {
    /// The node of each block that is taken. It is written whole: else the API server would keep the name of each block
    /// once more, with who wrote it.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub blocks: BTreeMap<String, String>,
    /// How many that are.
    #[serde(default)]
    pub used: u32,
    /// "Ready": blocks can be taken.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl IPPool {
    /// The pool that it describes. Errors: the field, its value, and what was expected.
    pub fn pool(&self) -> Result<Pool, String> {
        let text = &self.spec.cidr;
        let cidr: IpNet =
            text.parse().map_err(|_| format!("spec.cidr: \"{text}\", a prefix in CIDR form expected"))?;
        if cidr.trunc() != cidr {
            return Err(format!("spec.cidr: {cidr} has host bits set, {} expected", cidr.trunc()));
        }
        let block_size = self.spec.block_size.unwrap_or_else(|| {
            let usual = if cidr.addr().is_ipv4() { 26 } else { 112 };
            usual.clamp(cidr.prefix_len(), cidr.prefix_len() + MOST_BLOCKS)
        });
        let range = cidr.prefix_len()..=(cidr.prefix_len() + MOST_BLOCKS).min(cidr.max_prefix_len() - 3);
        if !range.contains(&block_size) {
            let (low, high) = (range.start(), range.end());
            return Err(format!("spec.blockSize: {block_size} is out of range, {low} to {high} expected"));
        }
        let blocks = self.status.iter().flat_map(|status| &status.blocks);
        let blocks = blocks.filter_map(|(block, node)| Some((block.parse().ok()?, node.clone()))).collect();
        let name = self.metadata.name.clone().unwrap_or_default();
        Ok(Pool { name, cidr, block_size, network: self.spec.network.clone(), blocks })
    }
}

impl IPPoolStatus {
    /// That of a pool with these blocks.
    pub fn with(&self, blocks: &BTreeMap<IpNet, String>) -> IPPoolStatus {
        IPPoolStatus {
            blocks: blocks.iter().map(|(block, node)| (block.to_string(), node.clone())).collect(),
            used: u32::try_from(blocks.len()).unwrap_or(u32::MAX),
            conditions: self.conditions.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cidr: &str, block_size: Option<u8>) -> Result<Pool, String> {
        IPPool::new("pods", IPPoolSpec { cidr: cidr.into(), block_size, network: String::new() }).pool()
    }

    #[test]
    fn blocks_have_a_usual_size_that_fits_the_pool() {
        assert_eq!(pool("198.18.0.0/16", None).unwrap().block_size, 26);
        assert_eq!(pool("198.18.0.0/28", None).unwrap().block_size, 28);
        assert_eq!(pool("2001:db8::/96", None).unwrap().block_size, 112);
        assert_eq!(pool("2001:db8::/48", None).unwrap().block_size, 64);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        for (cidr, size, expected) in [
            ("pods", None, "spec.cidr: \"pods\", a prefix"),
            ("198.18.0.1/16", None, "spec.cidr: 198.18.0.1/16 has host bits set, 198.18.0.0/16 expected"),
            ("198.18.0.0/16", Some(15), "spec.blockSize: 15 is out of range, 16 to 29 expected"),
            ("198.18.0.0/16", Some(30), "spec.blockSize: 30 is out of range, 16 to 29 expected"),
        ] {
            let message = pool(cidr, size).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
