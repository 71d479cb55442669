//! Nodes of a cluster: a daemon and an agent each, on one wire, with an API server beside them; and their pods, which
//! are namespaces that the CNI plugin attaches by the configuration that the agent wrote.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binaries;
use crate::cluster::ApiServer;
use crate::lab::LabOptions;
use crate::node::Node;
use crate::process::Process;
use crate::wait::retry_until;
use crate::wire::{Family, Wire};

/// Longest time until a cluster has come to rest.
pub const SOON: Duration = Duration::from_secs(30);

const AGENT: &str = "exec \"$0\" run --config /run/lab/agent.toml >>/run/lab/agent.log 2>&1";
const CONFLIST: &str = "/run/lab/net.d/10-weft.conflist";
const HTTP: &str = "http://127.0.0.1:9810";

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes, called `node-1`, `node-2` and so on.
    pub nodes: Vec<Member>,
    /// Its API, at a place of its own on the wire.
    pub api: ApiServer,
    /// What joins all of them.
    pub wire: Wire,
    _place: Node,
}

/// A node of a cluster.
#[derive(Debug)]
pub struct Member {
    /// Its name in the cluster.
    pub name: String,
    /// The lab with its daemon.
    pub node: Node,
    agent: Option<Process>,
    kubeconfig: String,
}

/// A pod: its namespace, and its addresses.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The namespace's name in the node's lab.
    pub name: String,
    /// Its addresses, in the order of the CNI result.
    pub addresses: Vec<IpAddr>,
}

impl Cluster {
    /// As many nodes, with what `config` adds to the agents' configuration. Nodes have pod prefixes
    /// 198.18.N.0/24 and 2001:db8:N::/64.
    pub fn start(count: u8, config: &str) -> Result<Cluster> {
        let wire = Wire::link(1500)?;
        let place = Node::bare(&wire)?;
        let api = ApiServer::start(&place.lab.node(), &format!("{}:6443", place.address(Family::V4)))?;
        let mut cluster = Cluster { nodes: Vec::new(), api, wire, _place: place };
        for number in 1..=count {
            cluster.join(number, config)?;
        }
        Ok(cluster)
    }

    /// Runs a test in a cluster; panics with the test's error, after the agents' logs.
    pub fn test(count: u8, config: &str, test: impl FnOnce(&mut Cluster) -> Result<()>) {
        let mut cluster = Cluster::start(count, config).unwrap_or_else(|error| panic!("{error:#}"));
        if let Err(error) = test(&mut cluster) {
            let logs: Vec<_> =
                cluster.nodes.iter().map(|node| format!("--- {}\n{}", node.name, node.log())).collect();
            panic!("{error:#}\n{}", logs.concat());
        }
    }

    /// One more node.
    pub fn join(&mut self, number: u8, config: &str) -> Result<()> {
        let name = format!("node-{number}");
        let options = LabOptions { name: name.clone(), ..LabOptions::default() };
        let node = Node::start(&self.wire, &options)?;
        self.declare(&name, number, &[node.address(Family::V4), node.address(Family::V6)])?;
        let mut member = Member { name, node, agent: None, kubeconfig: self.api.kubeconfig() };
        member.configure(config)?;
        member.start_agent()?;
        self.nodes.push(member);
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

impl Member {
    /// Writes the agent's configuration: what `config` says, and where the lab's things are.
    pub fn configure(&self, config: &str) -> Result<()> {
        let name = &self.name;
        let text = format!(
            "node_name = \"{name}\"\nstate_dir = \"/run/lab/agent\"\nplugin_socket = \"/run/lab/agent.sock\"\n\
             {config}\n[cni]\nconf_dir = \"/run/lab/net.d\"\n"
        );
        fs::write(self.node.path("/run/lab/agent.toml"), text)?;
        fs::write(self.node.path("/run/lab/kubeconfig"), &self.kubeconfig)?;
        Ok(())
    }

    /// Starts the agent.
    pub fn start_agent(&mut self) -> Result<()> {
        let program = binaries::find("weft-agent")?;
        let program = program.to_str().context("the path of weft-agent is not UTF-8")?;
        let command = ["env", "KUBECONFIG=/run/lab/kubeconfig", "sh", "-c", AGENT, program];
        self.agent = Some(self.node.node().spawn_with_input(&command, None)?);
        Ok(())
    }

    /// Kills the agent with SIGKILL.
    pub fn kill_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Ends the agent as the kubelet does, and waits until it has ended.
    pub fn stop_agent(&mut self) -> Result<()> {
        let agent = self.agent.take().context("no agent runs on this node")?;
        agent.signal("TERM")?;
        agent.wait()?.ok().map(drop)
    }

    /// The agent's process id, as seen outside of the lab.
    pub fn agent_pid(&self) -> Result<u32> {
        Ok(self.agent.as_ref().context("no agent runs on this node")?.pid())
    }

    /// The agent's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.node.path("/run/lab/agent.log")).unwrap_or_default()
    }

    /// Asks the agent, by its HTTP interface: `GET /status`.
    pub fn ask(&self, method: &str, path: &str) -> Result<String> {
        let program = binaries::find("weft-fake-cluster")?;
        let program = program.to_str().context("the path of the API server is not UTF-8")?;
        self.node.node().exec(&[program, "request", method, &format!("{HTTP}{path}")])?.ok()
    }

    /// What `GET /status` says.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask("GET", "/status")?)?)
    }

    /// Waits until the node serves and knows so many others.
    pub fn wait_for_peers(&self, count: usize) -> Result<()> {
        self.wait_for_peers_within(count, SOON)
    }

    /// The same, with another deadline.
    pub fn wait_for_peers_within(&self, count: usize, deadline: Duration) -> Result<()> {
        retry_until(deadline, "the agent to serve", || {
            let status = self.status()?;
            let told = || format!("{}: {}", self.name, status["message"]);
            ensure!(status["ready"] == true, told());
            let nodes = status["nodes"].as_object().context("no nodes")?;
            ensure!(nodes.len() == count, "{}, {} other nodes, {count} expected", told(), nodes.len());
            let refused = nodes.iter().find(|(_, node)| node.get("refused").is_some());
            ensure!(refused.is_none(), "{}: {refused:?}", self.name);
            Ok(())
        })
    }

    /// Whether runtimes are told to use Weft.
    pub fn has_conflist(&self) -> bool {
        self.node.path(CONFLIST).exists()
    }

    /// Makes a pod: a namespace, attached by the CNI plugin as the agent's configuration says.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        self.node.must(&format!("ip netns add {name}"))?;
        self.node.must(&format!("ip -n {name} link set lo up"))?;
        let result = self.plugin("ADD", name)?;
        let addresses = result["ips"].as_array().context("no addresses")?;
        let address = |ip: &Value| -> Result<IpAddr> {
            let text = ip["address"].as_str().context("no address")?;
            Ok(text.split('/').next().unwrap_or(text).parse()?)
        };
        Ok(Pod { name: name.into(), addresses: addresses.iter().map(address).collect::<Result<_>>()? })
    }

    /// Takes a pod away.
    pub fn remove_pod(&self, name: &str) -> Result<()> {
        self.plugin("DEL", name)?;
        self.node.must(&format!("ip netns delete {name}")).map(drop)
    }

    /// Runs the plugin as a runtime does.
    fn plugin(&self, command: &str, pod: &str) -> Result<Value> {
        let list: Value = serde_json::from_str(&fs::read_to_string(self.node.path(CONFLIST))?)?;
        let mut configuration = list["plugins"][0].clone();
        configuration["cniVersion"] = list["cniVersion"].clone();
        configuration["name"] = list["name"].clone();
        let program = binaries::find("weft-cni")?;
        let program = program.to_str().context("the path of weft-cni is not UTF-8")?;
        let words = [
            "env",
            &format!("CNI_COMMAND={command}"),
            &format!("CNI_CONTAINERID={pod}"),
            &format!("CNI_NETNS=/run/netns/{pod}"),
            "CNI_IFNAME=eth0",
            "CNI_PATH=/run/lab",
            &format!("CNI_ARGS=K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};IgnoreUnknown=1"),
            program,
        ];
        let output =
            self.node.node().spawn_with_input(&words, Some(&configuration.to_string()))?.wait()?.ok()?;
        Ok(if output.trim().is_empty() { Value::Null } else { serde_json::from_str(&output)? })
    }
}
