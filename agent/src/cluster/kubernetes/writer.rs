//! Writes what this node says: its WeftNode, the Node's condition and taint, and what became of what users declared.
//! What could not be written is tried again with growing pauses.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::known::Known;
use super::report::{Due, Report};
use super::verdict::{Verdicts, is_gone};
use super::{Listener, NodeRecord};
use crate::cluster::{Readiness, Told};
use crate::crd::WeftNode;
use crate::crd::node::{WeftNodeSpec, WeftNodeStatus};
use crate::error::{Error, Result};

/// Who writes, in `metadata.managedFields`.
const MANAGER: &str = "weft-agent";
/// Keeps pods off a node until it has a network.
const TAINT: &str = "node.weft.dev/not-ready";

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where the writer learns what to write, and what stands already.
pub(super) struct Sources {
    pub tellings: watch::Receiver<Told>,
    pub own_node: watch::Receiver<Option<Node>>,
    /// This node's WeftNode as the API has it; none before that is known.
    pub own_record: watch::Receiver<Option<Option<WeftNode>>>,
    pub known: watch::Receiver<Known>,
}

pub(super) struct Writer {
    name: String,
    listener: Listener,
    sources: Sources,
    report: Report,
    verdicts: Verdicts,
}

/// What a round of writing left.
#[derive(Default)]
struct Rest {
    failed: Vec<Error>,
    /// When there is something to write that had not to be written now.
    due: Option<Instant>,
}

impl Rest {
    fn note(&mut self, result: Result<()>) {
        self.failed.extend(result.err());
    }

    fn look_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

impl Writer {
    pub fn new(name: &str, listener: Listener, sources: Sources) -> Writer {
        let (report, verdicts) = (Report::new(name), Verdicts::new(name));
        Writer { name: name.to_owned(), listener, sources, report, verdicts }
    }

    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut rest = self.write().await;
            let mut away = false;
            for error in &rest.failed {
                away |= self.listener.request_failed("writes", error).await;
            }
            if rest.failed.is_empty() {
                self.listener.reached("writes").await;
                pause = FIRST_PAUSE;
            } else {
                rest.look_at(now() + pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            let due = rest.due.unwrap_or_else(now);
            // What is refused keeps nothing else from being written; an API that does not answer takes nothing.
            tokio::select! {
                () = sleep_until(due.into()), if rest.due.is_some() => {}
                changed = self.sources.tellings.changed(), if !away => if changed.is_err() { return },
                Ok(()) = self.sources.own_node.changed(), if !away => {}
                Ok(()) = self.sources.own_record.changed(), if !away => {}
                Ok(()) = self.sources.known.changed(), if !away => {}
                () = self.listener.sender.closed() => return,
            }
        }
    }

    async fn write(&mut self) -> Rest {
        let mut rest = Rest::default();
        let told = self.sources.tellings.borrow_and_update().clone();
        let node = self.sources.own_node.borrow_and_update().clone();
        let stored = self.sources.own_record.borrow_and_update().clone();
        let Some(node) = node else { return rest };
        let is_known = stored.as_ref().is_some_and(Option::is_some);
        if let Some(stored) = stored {
            let written = self.write_own(&told, stored, &node, &mut rest).await;
            rest.note(written);
        }
        if told.ready.as_ref().is_some_and(|ready| ready.ready) {
            rest.note(self.admit_pods(&node).await);
        }
        if is_known {
            self.write_verdicts(&told, &mut rest).await;
        }
        rest
    }

    /// This node's WeftNode, and its status wherever there is one: a node that has nothing to say of how it is reached
    /// says that it is not ready.
    async fn write_own(
        &mut self,
        told: &Told,
        stored: Option<WeftNode>,
        node: &Node,
        rest: &mut Rest,
    ) -> Result<()> {
        let stands = stored.as_ref().and_then(|stored| stored.spec.record(&self.name).ok());
        let stored = match &told.record {
            Some(record) if stands.as_ref() != Some(record) => Some(self.write_record(record, node).await?),
            _ => stored,
        };
        let Some(stored) = stored else {
            self.report.forget();
            return Ok(());
        };
        let uid = stored.uid();
        self.report.found(uid.as_deref(), stored.status.as_ref(), now());
        let Some(ready) = &told.ready else { return Ok(()) };
        let status = self.status(ready, told);
        match self.report.due(&status, now()) {
            Due::Never => Ok(()),
            Due::At(later) => {
                rest.look_at(later);
                Ok(())
            }
            Due::Now => self.write_status(uid, status).await,
        }
    }

    fn status(&self, ready: &Readiness, told: &Told) -> WeftNodeStatus {
        self.report.status(ready, &told.unreached, time())
    }

    async fn write_record(&self, record: &NodeRecord, node: &Node) -> Result<WeftNode> {
        let mut object = WeftNode::new(&self.name, WeftNodeSpec::of(record));
        object.metadata.owner_references = Some(vec![owner(node)]);
        let api = Api::<WeftNode>::all(self.listener.client());
        let params = PatchParams::apply(MANAGER).force();
        let written = api.patch(&self.name, &params, &Patch::Apply(&object)).await;
        let written = written.map_err(|error| Error::request("patch", "weftnodes", error))?;
        tracing::info!(node = self.name, "told the cluster how this node is reached");
        Ok(written)
    }

    async fn write_status(&mut self, uid: Option<String>, status: WeftNodeStatus) -> Result<()> {
        let api = Api::<WeftNode>::all(self.listener.client());
        let patch = Patch::Merge(json!({"status": status}));
        match api.patch_status(&self.name, &PatchParams::default(), &patch).await {
            Ok(_) => self.report.wrote(uid.as_deref(), status, now()),
            // The watch will tell, and then it is made anew.
            Err(kube::Error::Api(answer)) if is_gone(&answer, &self.name) => {}
            Err(error) => return Err(Error::request("patch", "weftnodes/status", error)),
        }
        Ok(())
    }

    /// Says that the node has a network, and takes the taint away that keeps pods off it.
    async fn admit_pods(&self, node: &Node) -> Result<()> {
        let api = Api::<Node>::all(self.listener.client());
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut network = conditions.filter(|condition| condition.type_ == "NetworkUnavailable");
        if !network.any(|condition| condition.status == "False") {
            let now = time();
            let condition = json!({
                "type": "NetworkUnavailable", "status": "False", "reason": "WeftIsUp",
                "message": "Weft serves pods on this node",
                "lastTransitionTime": now, "lastHeartbeatTime": now,
            });
            let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            let patched = api.patch_status(&self.name, &PatchParams::default(), &patch).await;
            patched.map_err(|error| Error::request("patch", "nodes/status", error))?;
        }
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        if let Some(index) = taints.into_iter().position(|taint| taint.key == TAINT) {
            let patch: Patch<Value> = Patch::Json(taint_removal(index));
            match api.patch(&self.name, &PatchParams::default(), &patch).await {
                Ok(_) => tracing::info!(node = self.name, "took the taint {TAINT} away: pods may come"),
                // The taints are others by now; the watch tells which.
                Err(kube::Error::Api(status)) if [409, 422].contains(&status.code) => {}
                Err(error) => return Err(Error::request("patch", "nodes", error)),
            }
        }
        Ok(())
    }

    async fn write_verdicts(&mut self, told: &Told, rest: &mut Rest) {
        let (due, later) = {
            let known = self.sources.known.borrow_and_update();
            self.verdicts.look(&told.results, &known, now())
        };
        for verdict in due {
            let client = self.listener.client();
            rest.note(self.verdicts.say(client, verdict).await);
        }
        if let Some(later) = later {
            rest.look_at(later);
        }
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

/// By the runtime's clock, which the pauses go by.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(super) fn time() -> Time {
    Time(Timestamp::now())
}
