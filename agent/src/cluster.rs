//! What the agent knows of a cluster, whoever keeps it: nodes, pools, and what users declared.
//!
//! A keeper ([`kubernetes`], [`etcd`]) turns what it hears into [`Event`]s, and takes what this node says of itself.
//! Nothing here does I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

pub mod block;
pub mod etcd;
pub mod kubernetes;
pub mod spread;

/// What a node tells the others of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    /// Its name in the cluster.
    pub name: String,
    /// Its addresses on the network that all nodes share, the preferred one first.
    pub addresses: Vec<IpAddr>,
    /// Prefixes of its pods.
    pub pods: Vec<IpNet>,
    /// UDP port of its end of the mesh; 0 where nothing is encapsulated.
    pub port: u16,
    /// WireGuard: its public key, Base64; empty in other modes.
    #[serde(default)]
    pub public_key: String,
    /// WireGuard: keys before it by which it is still reached.
    #[serde(default)]
    pub previous_public_keys: Vec<String>,
}

/// What the cluster says of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnNode {
    /// Its addresses, the preferred one first.
    pub addresses: Vec<IpAddr>,
    /// Prefixes of its pods; empty while it has none.
    pub pods: Vec<IpNet>,
}

/// Addresses that blocks are taken from, one for each node that wants one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// All of its addresses.
    pub cidr: IpNet,
    /// Prefix length of a block.
    pub block_size: u8,
    /// The Network that it is for; empty: that of all pods.
    #[serde(default)]
    pub network: String,
    /// Whose the blocks are that were claimed.
    #[serde(default)]
    pub blocks: BTreeMap<IpNet, String>,
}

/// Something that users declared for all nodes, as the daemon takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Declared {
    /// "Network", "Router" or "Tunnel".
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// Its spec in JSON.
    pub spec: serde_json::Value,
    /// Of a Network, the node's device that it is on, as users write it.
    #[serde(default)]
    pub uplink: Option<serde_json::Value>,
}

/// What changed in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// This node.
    Own(OwnNode),
    /// All nodes that have told something of themselves.
    Nodes(Vec<NodeRecord>),
    /// One of them is new, or says something else.
    Node(NodeRecord),
    /// One of them is gone.
    NodeGone(String),
    /// All pools.
    Pools(Vec<Pool>),
    /// All that users declared.
    Declared(Vec<Declared>),
    /// Nodes that nothing is heard of now; what they told stays in force.
    Silent(BTreeSet<String>),
    /// Whether the keeper answers.
    Reached(bool),
}

/// A keeper's two ends: what it hears, and what it is to say.
#[derive(Debug)]
pub struct Line {
    /// What was heard.
    pub events: mpsc::Receiver<Event>,
    /// What this node says.
    pub told: watch::Sender<Told>,
}

/// What this node says to the cluster. The keeper writes it, and again until that is done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// How others reach it; none before that is known.
    pub record: Option<NodeRecord>,
    /// Whether pods on it have a network; none before that is known.
    pub ready: Option<Readiness>,
    /// Nodes that it does not reach, and why.
    pub unreached: BTreeMap<String, String>,
    /// Pools that it wants a block of, in which it has none.
    pub claims: BTreeSet<String>,
    /// What became of what users declared.
    pub results: Results,
}

/// What became of what users declared, by kind and name, with the generation that was looked at.
pub type Results = BTreeMap<String, (i64, Readiness)>;

/// Whether something works, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// It works.
    pub ready: bool,
    /// One CamelCase word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// The cluster as it was last heard of. On disk, it is what a node goes by that starts while nobody answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct View {
    /// This node.
    pub own: OwnNode,
    /// The nodes by name, this one among them.
    pub nodes: BTreeMap<String, NodeRecord>,
    /// The pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// What users declared, by kind and name.
    pub declared: BTreeMap<String, Declared>,
    /// What was heard whole since the agent started.
    #[serde(skip)]
    pub heard: Heard,
}

/// What was heard whole since the agent started: before that, what is missing is not gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// This node.
    pub own: bool,
    /// The list of nodes.
    pub nodes: bool,
    /// The list of pools.
    pub pools: bool,
    /// The list of what users declared.
    pub declared: bool,
}

impl Heard {
    /// Everything was heard.
    pub fn all(self) -> bool {
        self.own && self.nodes && self.pools && self.declared
    }
}

impl View {
    /// Takes an event in. True: something is other than before.
    pub fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Own(own) => {
                let first = !std::mem::replace(&mut self.heard.own, true);
                replace(&mut self.own, own) || first
            }
            Event::Nodes(nodes) => {
                let first = !std::mem::replace(&mut self.heard.nodes, true);
                let nodes = nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
                replace(&mut self.nodes, nodes) || first
            }
            Event::Node(node) => match self.nodes.get_mut(&node.name) {
                Some(known) => replace(known, node),
                None => self.nodes.insert(node.name.clone(), node).is_none(),
            },
            Event::NodeGone(name) => self.nodes.remove(&name).is_some(),
            Event::Pools(pools) => {
                let first = !std::mem::replace(&mut self.heard.pools, true);
                let pools = pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect();
                replace(&mut self.pools, pools) || first
            }
            Event::Declared(declared) => {
                let first = !std::mem::replace(&mut self.heard.declared, true);
                let declared = declared.into_iter().map(|it| (it.id(), it)).collect();
                replace(&mut self.declared, declared) || first
            }
            Event::Silent(_) | Event::Reached(_) => false,
        }
    }

    /// Names of all nodes.
    pub fn node_names(&self) -> BTreeSet<&str> {
        self.nodes.keys().map(String::as_str).collect()
    }
}

impl Declared {
    /// One with this spec, as users write it: `uplink` of it is what the node makes a Port of.
    pub fn new(kind: &str, name: &str, generation: i64, mut spec: serde_json::Value) -> Declared {
        if spec.is_null() {
            spec = serde_json::json!({});
        }
        let uplink = spec.as_object_mut().and_then(|fields| fields.remove("uplink"));
        Declared { kind: kind.to_owned(), name: name.to_owned(), generation, spec, uplink }
    }

    /// Kind and name: `Network/blue`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    *place = value;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeRecord {
        NodeRecord {
            name: name.into(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            pods: vec!["198.18.1.0/24".parse().unwrap()],
            port: 51820,
            public_key: String::new(),
            previous_public_keys: Vec::new(),
        }
    }

    #[test]
    fn a_list_replaces_what_was_known_and_its_first_time_counts_as_a_change() {
        let mut view = View::default();
        assert!(view.take(Event::Nodes(vec![node("a"), node("b")])));
        assert!(!view.take(Event::Nodes(vec![node("b"), node("a")])));
        assert!(view.take(Event::Nodes(vec![node("b")])));
        assert_eq!(view.node_names(), BTreeSet::from(["b"]));
        let mut empty = View::default();
        assert!(empty.take(Event::Nodes(vec![])), "now it is known that there are none");
    }

    #[test]
    fn a_node_that_says_the_same_again_changes_nothing() {
        let mut view = View::default();
        assert!(view.take(Event::Node(node("a"))));
        assert!(!view.take(Event::Node(node("a"))));
        assert!(view.take(Event::Node(NodeRecord { port: 1, ..node("a") })));
        assert!(view.take(Event::NodeGone("a".into())));
        assert!(!view.take(Event::NodeGone("a".into())));
    }

    #[test]
    fn what_is_on_disk_counts_as_not_heard() {
        let mut view = View::default();
        view.take(Event::Nodes(vec![node("a")]));
        let text = serde_json::to_string(&view).unwrap();
        let read: View = serde_json::from_str(&text).unwrap();
        assert_eq!(read.nodes, view.nodes);
        assert!(!read.heard.nodes);
    }
}
