//! Writes what this node says: its WeftNode, blocks of pools, the Node's condition and taint, and what became of what
//! users declared. What could not be written is tried again with growing pauses.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{DECLARED, Listener, NodeRecord, pool_of};
use crate::cluster::{Pool, Readiness, Told, block};
use crate::crd::node::{Unreached, WeftNodeSpec};
use crate::crd::{IPPool, WeftNode};
use crate::error::{Error, Result, chain};

/// Who writes, in `metadata.managedFields`.
const MANAGER: &str = "weft-agent";
/// Keeps pods off a node until it has a network.
const TAINT: &str = "node.weft.dev/not-ready";

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A round of writing that takes longer is given up, and begun anew.
const LONGEST_WRITE: Duration = Duration::from_secs(30);
/// How often a claim is tried again at once when another node was quicker.
const CLAIM_TRIES: u32 = 12;

pub(super) struct Writer {
    name: String,
    listener: Listener,
    tellings: watch::Receiver<Told>,
    own_node: watch::Receiver<Option<Node>>,
    /// This node's record as the API has it; none before that is known.
    own_record: watch::Receiver<Option<Option<NodeRecord>>>,
    /// The status that was written last.
    status: Option<Value>,
    /// What was written about what users declared.
    results: BTreeMap<String, (i64, Readiness)>,
}

impl Writer {
    pub fn new(
        name: &str,
        listener: Listener,
        tellings: watch::Receiver<Told>,
        own_node: watch::Receiver<Option<Node>>,
        own_record: watch::Receiver<Option<Option<NodeRecord>>>,
    ) -> Writer {
        let (name, status, results) = (name.to_owned(), None, BTreeMap::new());
        Writer { name, listener, tellings, own_node, own_record, status, results }
    }

    /// The one that is connected now.
    fn client(&self) -> Client {
        self.listener.clients.borrow().clone()
    }

    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.write_in_time().await {
                Ok(()) => {
                    self.listener.reached("writes").await;
                    pause = FIRST_PAUSE;
                    tokio::select! {
                        changed = self.tellings.changed() => if changed.is_err() { return },
                        _ = self.own_node.changed() => {}
                        _ = self.own_record.changed() => {}
                        () = self.listener.sender.closed() => return,
                    }
                }
                Err(error) => {
                    match &error {
                        Error::Kubernetes(_) => self.listener.unreached("writes", &error).await,
                        _ => tracing::warn!("{}", chain(&error)),
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.listener.sender.closed() => return,
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// What is written by a connection that is gone would wait for minutes.
    async fn write_in_time(&mut self) -> Result<()> {
        let late = || Error::Refused("the Kubernetes API did not answer in time".into());
        timeout(LONGEST_WRITE, self.write()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn write(&mut self) -> Result<()> {
        let told = self.tellings.borrow_and_update().clone();
        let node = self.own_node.borrow_and_update().clone();
        let known = self.own_record.borrow_and_update().clone();
        let Some(node) = node else { return Ok(()) };
        if let (Some(known), Some(record)) = (known, &told.record)
            && known.as_ref() != Some(record)
        {
            self.write_record(record, &node).await?;
            self.status = None;
        }
        if let Some(ready) = &told.ready {
            if told.record.is_some() {
                self.write_status(ready, &told.unreached).await?;
            }
            if ready.ready {
                self.admit_pods(&node).await?;
            }
        }
        self.write_results(&told.results).await?;
        // Last: a pool that is used up keeps nothing else from being said.
        for pool in &told.claims {
            self.claim(pool).await?;
        }
        Ok(())
    }

    async fn write_record(&self, record: &NodeRecord, node: &Node) -> Result<()> {
        let mut object = WeftNode::new(&self.name, WeftNodeSpec::of(record));
        object.metadata.owner_references = Some(vec![owner(node)]);
        let api = Api::<WeftNode>::all(self.client());
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&self.name, &params, &Patch::Apply(&object)).await?;
        tracing::info!(node = self.name, "told the cluster how this node is reached");
        Ok(())
    }

    async fn write_status(&mut self, ready: &Readiness, unreached: &BTreeMap<String, String>) -> Result<()> {
        let unreached: Vec<_> =
            unreached.iter().map(|(node, why)| Unreached { node: node.clone(), why: why.clone() }).collect();
        let fields = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "unreached": unreached,
            "conditions": [{"type": "Ready", "status": word(ready.ready), "reason": ready.reason, "message": ready.message}],
        });
        if self.status.as_ref() == Some(&fields) {
            return Ok(());
        }
        let mut status = fields.clone();
        status["conditions"][0]["lastTransitionTime"] = json!(now());
        let api = Api::<WeftNode>::all(self.client());
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&self.name, &PatchParams::default(), &patch).await?;
        self.status = Some(fields);
        Ok(())
    }

    /// Says that the node has a network, and takes the taint away that keeps pods off it.
    async fn admit_pods(&self, node: &Node) -> Result<()> {
        let api = Api::<Node>::all(self.client());
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut network = conditions.filter(|condition| condition.type_ == "NetworkUnavailable");
        if !network.any(|condition| condition.status == "False") {
            let now = now();
            let condition = json!({
                "type": "NetworkUnavailable", "status": "False", "reason": "WeftIsUp",
                "message": "Weft serves pods on this node",
                "lastTransitionTime": now, "lastHeartbeatTime": now,
            });
            let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            api.patch_status(&self.name, &PatchParams::default(), &patch).await?;
        }
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        if let Some(index) = taints.into_iter().position(|taint| taint.key == TAINT) {
            let patch: Patch<Value> = Patch::Json(taint_removal(index));
            match api.patch(&self.name, &PatchParams::default(), &patch).await {
                Ok(_) => tracing::info!(node = self.name, "took the taint {TAINT} away: pods may come"),
                // The taints are others by now; the watch tells which.
                Err(kube::Error::Api(status)) if [409, 422].contains(&status.code) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes a block of a pool. Whoever was quicker wins; the pool is then read anew.
    async fn claim(&self, pool: &str) -> Result<()> {
        let api = Api::<IPPool>::all(self.client());
        for attempt in 0..CLAIM_TRIES {
            let Some(mut object) = api.get_opt(pool).await? else { return Ok(()) };
            let Some(known) = pool_of(&object) else { return Ok(()) };
            if !block::owned(&known, &self.name).is_empty() {
                return Ok(());
            }
            let block = match block::free(&known, block::seed(&self.name)) {
                Some(block) => block,
                None => self.abandoned(&known).await?,
            };
            let mut blocks = known.blocks;
            blocks.insert(block, self.name.clone());
            object.status = Some(object.status.unwrap_or_default().with(&blocks));
            match api.replace_status(pool, &PostParams::default(), &object).await {
                Ok(_) => {
                    tracing::info!(pool, %block, "claimed a block for this node");
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    sleep(Duration::from_millis(10 * u64::from(attempt + 1))).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Refused(format!("many nodes claim blocks of IPPool/{pool} at once: trying again")))
    }

    /// A block whose node is gone. For that all Nodes are listed, which is only done when no block is free.
    async fn abandoned(&self, pool: &Pool) -> Result<IpNet> {
        let api = Api::<Node>::all(self.client());
        let nodes = api.list_metadata(&ListParams::default()).await?;
        let names: Vec<String> = nodes.items.iter().map(ResourceExt::name_any).collect();
        let alive = names.iter().map(String::as_str).collect();
        block::abandoned(pool, &alive).ok_or_else(|| Error::PoolsExhausted(pool.name.clone()))
    }

    /// All nodes come to the same about what users declared; the first says it, and one that comes to something else.
    async fn write_results(&mut self, results: &BTreeMap<String, (i64, Readiness)>) -> Result<()> {
        for (id, (generation, ready)) in results {
            if self.results.get(id) == Some(&(*generation, ready.clone())) {
                continue;
            }
            let Some((kind, name)) = id.split_once('/') else { continue };
            let Some((kind, plural)) = DECLARED.into_iter().find(|(known, _)| *known == kind) else {
                continue;
            };
            let resource =
                ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("weft.dev", "v1", kind), plural);
            let api = Api::<DynamicObject>::all_with(self.client(), &resource);
            if let Some(object) = api.get_opt(name).await?
                && let Some(condition) = self.verdict(&object, *generation, ready)
            {
                let status = json!({"status": {"conditions": [condition], "observedGeneration": generation}});
                api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
            }
            self.results.insert(id.clone(), (*generation, ready.clone()));
        }
        self.results.retain(|id, _| results.contains_key(id));
        Ok(())
    }

    /// The condition to write; none: what stands there is as good.
    fn verdict(&self, object: &DynamicObject, generation: i64, ready: &Readiness) -> Option<Condition> {
        let stands = object.data.pointer("/status/conditions/0");
        let stands: Option<Condition> = stands.and_then(|it| serde_json::from_value(it.clone()).ok());
        let prefix = format!("node {}: ", self.name);
        let message = if ready.ready { ready.message.clone() } else { format!("{prefix}{}", ready.message) };
        if let Some(stands) = stands.filter(|stands| stands.observed_generation == Some(generation)) {
            let failed_here = stands.message.starts_with(&prefix);
            let same = stands.status == word(ready.ready) && stands.message == message;
            // A node that has no trouble does not speak for one that has.
            if same || (ready.ready && stands.status == "False" && !failed_here) {
                return None;
            }
        }
        Some(Condition {
            type_: "Ready".into(),
            status: word(ready.ready).into(),
            reason: ready.reason.into(),
            message,
            observed_generation: Some(generation),
            last_transition_time: Time(Timestamp::now()),
        })
    }
}

/// The WeftNode goes with its Node.
fn owner(node: &Node) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        ..Default::default()
    }
}

/// Only if it is still that taint.
fn taint_removal(index: usize) -> json_patch::Patch {
    // The text is a patch: a list of operations with their fields.
    serde_json::from_value(json!([
        {"op": "test", "path": format!("/spec/taints/{index}/key"), "value": TAINT},
        {"op": "remove", "path": format!("/spec/taints/{index}")},
    ]))
    .unwrap_or_default()
}

fn word(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

fn now() -> Time {
    Time(Timestamp::now())
}
