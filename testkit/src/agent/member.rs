//! One node of a cluster: its daemon, its agent, its containerd where it has one, and its pods.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Runtime, SOON};
use crate::binaries;
use crate::lab::Place;
use crate::node::Node;
use crate::process::Process;
use crate::runtimes::{self, Containerd};
use crate::wait::retry_until;
use crate::wire::Plug;

const AGENT: &str = "exec \"$0\" run --config /run/lab/agent.toml >>/run/lab/agent.log 2>&1";
const CONFIGURATIONS: &str = "/run/lab/net.d";
const CONFLIST: &str = "/run/lab/net.d/10-weft.conflist";
const HTTP: &str = "http://127.0.0.1:9810";

/// A node of a cluster.
#[derive(Debug)]
pub struct Member {
    /// Its name in the cluster.
    pub name: String,
    containerd: Option<Containerd>,
    agent: Option<Process>,
    /// The lab with its daemon.
    pub node: Node,
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

impl Member {
    /// A node whose daemon runs, and where the agent is configured, by what `config` adds.
    pub(super) fn new(name: String, node: Node, kubeconfig: String, config: &str) -> Result<Member> {
        let member = Member { name, containerd: None, agent: None, node, kubeconfig };
        member.configure(config)?;
        Ok(member)
    }

    /// Starts the runtime, and then the agent.
    pub fn start(&mut self, runtime: Runtime) -> Result<()> {
        self.start_runtime(runtime)?;
        self.start_agent()
    }

    /// Starts the runtime alone.
    pub fn start_runtime(&mut self, runtime: Runtime) -> Result<()> {
        self.launch_runtime(runtime)?;
        self.wait_for_runtime()
    }

    /// Starts the runtime without waiting for it.
    pub(super) fn launch_runtime(&mut self, runtime: Runtime) -> Result<()> {
        if runtime == Runtime::Containerd { self.launch_containerd() } else { Ok(()) }
    }

    /// Waits for the runtime, if there is one.
    pub(super) fn wait_for_runtime(&self) -> Result<()> {
        self.containerd.as_ref().map_or(Ok(()), Containerd::wait_for_image)
    }

    /// containerd finds the plugin, and network configurations where the agent writes them.
    fn launch_containerd(&mut self) -> Result<()> {
        let cgroup = runtimes::prepare(&self.node)?;
        self.node.must(&format!("mkdir -p {CONFIGURATIONS}"))?;
        self.node.must(&format!("mount --bind {CONFIGURATIONS} /etc/cni/net.d"))?;
        let plugin = binaries::find("weft-cni")?.display().to_string();
        self.node.must(&format!("{plugin} install --plugin-only"))?;
        self.containerd = Some(Containerd::launch(&self.node, cgroup)?);
        Ok(())
    }

    /// Its containerd.
    pub fn containerd(&self) -> Result<&Containerd> {
        self.containerd.as_ref().with_context(|| format!("{} has no containerd", self.name))
    }

    /// Where a pod's programs run: its network with the node's files.
    pub fn place(&self, pod: &runtimes::Pod) -> Place<'_> {
        if pod.netns.is_empty() { self.node.node() } else { self.node.container(&pod.netns) }
    }

    /// Kills all that runs there, and gives where it was on the wire.
    pub(super) fn die(mut self) -> Plug {
        self.kill_agent();
        self.node.kill_daemon();
        drop(self.containerd.take());
        self.node.at.clone()
    }

    /// Writes the agent's configuration: what `config` says, and where the lab's things are.
    pub fn configure(&self, config: &str) -> Result<()> {
        let name = &self.name;
        let text = format!(
            "node_name = \"{name}\"\nstate_dir = \"/run/lab/agent\"\nplugin_socket = \"/run/lab/agent.sock\"\n\
             {config}\n[cni]\nconf_dir = \"{CONFIGURATIONS}\"\n"
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

    /// What the agent and containerd have said, and what the daemon dropped, for whoever looks for an error.
    pub(super) fn said(&mut self) -> String {
        let containerd = self.containerd.as_mut().map(Containerd::said).unwrap_or_default();
        let drops = self.node.weft(&["counters", "--drops"]).map(|output| output.text()).unwrap_or_default();
        format!("--- {}\n{}{containerd}\n{drops}", self.name, self.log())
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
