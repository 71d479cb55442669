//! Nodes of a cluster: a daemon and an agent each, on one wire, with an API server beside them; and their pods, which
//! are namespaces that the CNI plugin attaches by the configuration that the agent wrote, or are made by a containerd.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::ApiServer;
use crate::image;
use crate::lab::{Lab, LabOptions};
use crate::node::Node;
use crate::runtimes::NAMESPACE;
use crate::wait::retry_until;
use crate::wire::{Family, Plug, Wire};

mod member;

pub use member::{Member, Pod};

/// Longest time until a cluster has come to rest.
pub const SOON: Duration = Duration::from_secs(30);

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes, called `node-1`, `node-2` and so on.
    pub nodes: Vec<Member>,
    /// Its API, at a place of its own on the wire.
    pub api: ApiServer,
    /// What joins all of them.
    pub wire: Wire,
    runtime: Runtime,
    _place: Node,
}

/// What makes the pods of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The test runs the CNI plugin.
    Plugin,
    /// Each node has a containerd.
    Containerd,
}

impl Cluster {
    /// As many nodes, with what `config` adds to the agents' configuration. Nodes have pod prefixes
    /// 198.18.N.0/24 and 2001:db8:N::/64.
    pub fn start(count: u8, config: &str) -> Result<Cluster> {
        Cluster::start_with(Runtime::Plugin, count, config)
    }

    /// The same, with this runtime on each node.
    pub fn start_with(runtime: Runtime, count: u8, config: &str) -> Result<Cluster> {
        let wire = Wire::link(1500)?;
        let place = Node::bare(&wire)?;
        let api = ApiServer::start(&place.lab.node(), &format!("{}:6443", place.address(Family::V4)))?;
        let mut cluster = Cluster { nodes: Vec::new(), api, wire, runtime, _place: place };
        for number in 1..=count {
            cluster.add(number, config)?.launch_runtime(runtime)?;
        }
        let waited: Result<()> = thread::scope(|scope| {
            let waits: Vec<_> =
                cluster.nodes.iter().map(|node| scope.spawn(|| node.wait_for_runtime())).collect();
            waits.into_iter().try_for_each(|wait| wait.join().expect("no panic"))
        });
        waited?;
        cluster.nodes.iter_mut().try_for_each(Member::start_agent)?;
        Ok(cluster)
    }

    /// Runs a test in a cluster; panics with the test's error, after the agents' logs.
    pub fn test(count: u8, config: &str, test: impl FnOnce(&mut Cluster) -> Result<()>) {
        Cluster::test_with(Runtime::Plugin, count, config, test);
    }

    /// The same, with this runtime on each node.
    pub fn test_with(
        runtime: Runtime,
        count: u8,
        config: &str,
        test: impl FnOnce(&mut Cluster) -> Result<()>,
    ) {
        let started = Cluster::start_with(runtime, count, config);
        let mut cluster = started.unwrap_or_else(|error| panic!("{error:#}"));
        if let Err(error) = test(&mut cluster) {
            let logs: Vec<_> = cluster.nodes.iter_mut().map(Member::said).collect();
            panic!("{error:#}\n{}", logs.concat());
        }
    }

    /// One more node.
    pub fn join(&mut self, number: u8, config: &str) -> Result<()> {
        let runtime = self.runtime;
        self.add(number, config)?.start(runtime)
    }

    /// One more node, on which a daemon runs and nothing else yet ([`Member::start`]).
    pub fn add(&mut self, number: u8, config: &str) -> Result<&mut Member> {
        let options = LabOptions { name: format!("node-{number}"), ..LabOptions::default() };
        let node = Node::start(&self.wire, &options)?;
        self.declare(&options.name, number, &[node.address(Family::V4), node.address(Family::V6)])?;
        self.nodes.push(Member::new(options.name, node, self.api.kubeconfig(), config)?);
        self.nodes.last_mut().context("the node that was added")
    }

    /// A node dies at once with all that ran there, and nobody is told. Gives where it was.
    pub fn lose(&mut self, index: usize) -> Result<Plug> {
        let at = self.nodes.remove(index).die();
        self.wire.unplug(&at)?;
        Ok(at)
    }

    /// A node that was lost comes back where it was, with nothing of what it had but its name and its addresses.
    pub fn return_empty(&mut self, index: usize, at: Plug, config: &str) -> Result<()> {
        let options = LabOptions { name: format!("node-{}", index + 1), ..LabOptions::default() };
        let lab = Lab::start_with(&options)?;
        self.wire.plug_again(&lab, &at)?;
        let node = Node { lab, at };
        let mut member = Member::new(options.name, node, self.api.kubeconfig(), config)?;
        member.start(self.runtime)?;
        self.nodes.insert(index, member);
        Ok(())
    }

    /// What the kubelet and the controller manager say of a node.
    pub fn declare(&self, name: &str, number: u8, addresses: &[IpAddr]) -> Result<()> {
        let prefixes = [format!("198.18.{number}.0/24"), format!("2001:db8:{number}::/64")];
        let addresses: Vec<Value> =
            addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        self.api.apply(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {
                "podCIDR": prefixes[0], "podCIDRs": prefixes,
                "taints": [{"key": "node.weft.dev/not-ready", "effect": "NoSchedule"}],
            },
        }))?;
        // Not applied: lists of addresses merge by their type then, and there are two of one.
        let status = json!({"status": {"addresses": addresses}});
        self.api.patch(&format!("/api/v1/nodes/{name}/status"), &status).map(drop)
    }

    /// What the scheduler says of a pod: the kubelet starts none that the API server has not told of. Gives its UID, which
    /// the kubelet tells the runtime.
    pub fn declare_pod(&self, name: &str, node: usize) -> Result<String> {
        self.api.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"nodeName": self.nodes[node].name, "containers": [{"name": "main", "image": image::NAME}]},
        }))?;
        let pod = self.api.get(&format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}"))?;
        Ok(pod["metadata"]["uid"].as_str().context("a UID")?.to_owned())
    }

    /// Waits until all nodes serve and know each other.
    pub fn settle(&self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.wait_for_peers(self.nodes.len() - 1))
    }

    /// Whether every pod reaches every other one, over both families.
    pub fn all_reach_all(&self, pods: &[(usize, Pod)]) -> Result<()> {
        for (from, pod) in pods {
            for (_, other) in pods.iter().filter(|(_, other)| other.addresses != pod.addresses) {
                for address in &other.addresses {
                    let place = self.nodes[*from].node.container(&pod.name);
                    let told = || format!("{} of {} to {address}", pod.name, self.nodes[*from].name);
                    retry_until(SOON, "a pod to be reached", || place.reaches(&address.to_string()))
                        .with_context(told)?;
                }
            }
        }
        Ok(())
    }
}
