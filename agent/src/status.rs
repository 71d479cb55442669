//! What the agent says of itself and its node: for probes, for people, for `weft status`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cluster::{NodeRecord, Readiness};

/// How long the agent's work may stand still before it counts as stuck: some calls of a slow daemon are not that.
const STUCK: Duration = Duration::from_secs(180);

/// The agent's state, as `/status` gives it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// "wireguard", "vxlan" or "routes".
    pub mode: crate::config::Mode,
    /// Pods on this node have a network.
    pub ready: bool,
    /// One CamelCase word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The keeper of the cluster's state answers.
    pub cluster_answers: bool,
    /// The daemon answers.
    pub daemon_answers: bool,
    /// How others reach this node.
    pub record: Option<NodeRecord>,
    /// Octets of the largest packet of a pod.
    pub mtu: u32,
    /// Other nodes, by name, with their address.
    pub nodes: BTreeMap<String, Peer>,
    /// Nodes that nothing is heard of now, where the keeper tells it.
    pub silent: BTreeSet<String>,
    /// What was done so far.
    pub work: Work,
    /// When the agent's work last went on.
    #[serde(skip)]
    pub alive: Instant,
    /// What it was set up with once.
    #[serde(skip)]
    pub begun: bool,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// Prefixes of its pods.
    pub pods: Vec<ipnet::IpNet>,
    /// Why it is not reached; empty: it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub refused: String,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// Changes of the cluster that were heard.
    pub events: u64,
    /// How often the wish was worked out.
    pub rounds: u64,
    /// Calls of the daemon's API.
    pub calls: u64,
    /// Objects that were sent to it.
    pub objects: u64,
}

impl Status {
    /// Before anything was heard.
    pub fn new(node: &str, mode: crate::config::Mode) -> Status {
        Status {
            node: node.to_owned(),
            mode,
            ready: false,
            reason: "Starting",
            message: "the agent has just started".into(),
            cluster_answers: false,
            daemon_answers: false,
            record: None,
            mtu: 0,
            nodes: BTreeMap::new(),
            silent: BTreeSet::new(),
            work: Work::default(),
            alive: Instant::now(),
            begun: false,
        }
    }

    /// Whether the agent's own work goes on: nothing that it depends on counts.
    pub fn live(&self) -> Result<(), String> {
        let still = self.alive.elapsed();
        if still > STUCK {
            return Err(format!("the agent's work has stood still for {} s", still.as_secs()));
        }
        Ok(())
    }

    /// Whether pods on this node can be served. An API server that is away takes nothing from that.
    pub fn serves(&self) -> Result<(), String> {
        match (self.ready, self.daemon_answers) {
            (true, true) => Ok(()),
            (true, false) => Err("weftd does not answer: pods go on, and none can come or go".into()),
            (false, _) => Err(format!("{}: {}", self.reason, self.message)),
        }
    }

    /// Notes whether pods have a network.
    pub fn note(&mut self, readiness: &Readiness) {
        self.ready = readiness.ready;
        self.reason = readiness.reason;
        self.message.clone_from(&readiness.message);
    }
}
