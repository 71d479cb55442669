//! What was heard last, for those who write to look at: it saves them to ask the API.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::condition::READY;

/// What was heard last.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Names of all WeftNodes; none before they were listed.
    pub nodes: Option<BTreeSet<String>>,
    /// What stands of what users declared, by kind and name.
    pub declared: BTreeMap<String, Standing>,
}

/// What stands of an object that users declared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    /// Tells it from another one that had its name.
    pub uid: Option<String>,
    /// Counts the changes of its spec.
    pub generation: Option<i64>,
    /// Which version of it this is.
    pub version: Option<String>,
    /// Its condition "Ready".
    pub ready: Option<Condition>,
}

impl Standing {
    /// That of an object.
    pub fn of(object: &DynamicObject) -> Standing {
        let conditions = object.data.pointer("/status/conditions").and_then(|found| found.as_array());
        let mut conditions = conditions.into_iter().flatten();
        let ready = conditions.find(|condition| condition["type"] == READY);
        Standing {
            uid: object.uid(),
            generation: object.metadata.generation,
            version: object.resource_version(),
            ready: ready.and_then(|condition| serde_json::from_value(condition.clone()).ok()),
        }
    }

    /// Whether another version of the object wishes for the same.
    pub fn wishes_the_same(&self, other: &Standing) -> bool {
        self.generation.is_some() && (&self.uid, self.generation) == (&other.uid, other.generation)
    }
}
