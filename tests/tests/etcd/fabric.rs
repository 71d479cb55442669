//! Hosts with daemons, agents and etcd, as tests start them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_testkit::lab::DETACH_QUEUE;
use weft_testkit::node::{Node, Nodes};
use weft_testkit::traffic;
use weft_testkit::wait::retry_until;
use weft_testkit::{Output, Process, binaries, wire::Wire};

pub const SOON: Duration = Duration::from_secs(40);
pub const POOLS: &str = "[\"198.18.0.0/16\", \"2001:db8:1000::/48\"]";
/// Where certificates are, on each node.
pub const TLS: &str = "/run/lab/tls";

/// What is started.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Hosts, with a daemon and an agent each.
    pub hosts: usize,
    /// Members of etcd, on the first of them.
    pub members: usize,
    /// `etcd.pools`.
    pub pools: &'static str,
    /// `tunnel.mode`.
    pub mode: &'static str,
    /// `etcd.lease_seconds`.
    pub lease: u32,
    /// etcd has a certificate and wants one.
    pub secure: bool,
    /// The agents log in with a name and a password.
    pub login: bool,
    /// Further options of etcd.
    pub options: &'static str,
    /// Agents that run from the beginning, on the first hosts.
    pub agents: usize,
}

/// Nodes with daemons, and what runs on them.
pub struct Fabric<'a> {
    pub nodes: &'a mut [Node],
    pub wire: &'a Wire,
    /// A member that the test itself does not ask.
    pub shunned: Option<usize>,
    setup: Setup,
    members: Vec<Option<Process>>,
    agents: Vec<Option<Process>>,
}

/// A container, and its addresses.
pub struct Container {
    pub node: usize,
    pub name: String,
    pub addresses: Vec<String>,
}

/// Pings that go on, one for each family.
pub struct Pings(Vec<Process>);

impl Setup {
    /// So many hosts, with one etcd and WireGuard.
    pub fn hosts(hosts: usize) -> Setup {
        Setup {
            hosts,
            members: 1,
            pools: POOLS,
            mode: "wireguard",
            lease: 5,
            secure: false,
            login: false,
            options: "",
            agents: hosts,
        }
    }

    /// Runs a test with this.
    pub fn test(self, test: impl FnOnce(&mut Fabric<'_>) -> Result<()>) {
        Nodes::test(Wire::link(1500), self.hosts, |nodes| {
            let (wire, nodes) = (&nodes.wire, &mut nodes.nodes[..]);
            let none = || nodes.iter().map(|_| None).collect::<Vec<Option<Process>>>();
            let (members, agents) = (none(), none());
            let mut fabric = Fabric { nodes, wire, shunned: None, setup: self, members, agents };
            for number in 0..self.hosts {
                fabric.configure(number, &format!("node-{number}"))?;
            }
            if !self.secure && !self.login {
                fabric.start_etcd()?;
            }
            for number in 0..self.agents {
                fabric.start_agent(number)?;
            }
            test(&mut fabric).with_context(|| fabric.logs())
        });
    }

    fn endpoint(&self, member: usize) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://192.0.2.{}:2379", member + 1)
    }
}

impl Pings {
    /// Ends them, and wants an answer to each but the last, which may be on its way.
    pub fn all_answered(self) -> Result<()> {
        for ping in self.0 {
            ping.signal("INT")?;
            traffic::all_answered(&ping.wait()?.stdout)?;
        }
        Ok(())
    }
}

impl Fabric<'_> {
    /// Starts all members of etcd, and waits until they answer.
    pub fn start_etcd(&mut self) -> Result<()> {
        for member in 0..self.setup.members {
            self.start_member(member)?;
        }
        retry_until(SOON, "etcd to answer", || self.etcdctl("endpoint health").map(drop))
    }

    pub fn start_member(&mut self, member: usize) -> Result<()> {
        let client = self.setup.endpoint(member);
        let mut line = format!(
            "etcd --name m{member} --data-dir /run/lab/etcd --log-level warn --listen-client-urls {client} \
             --advertise-client-urls {client}"
        );
        if self.setup.members == 1 {
            line += " --listen-peer-urls http://127.0.0.1:2380";
        } else {
            let peer = |member: usize| format!("http://192.0.2.{}:2380", member + 1);
            let all: Vec<String> =
                (0..self.setup.members).map(|member| format!("m{member}={}", peer(member))).collect();
            line += &format!(
                " --listen-peer-urls {0} --initial-advertise-peer-urls {0} --initial-cluster {1}",
                peer(member),
                all.join(",")
            );
        }
        line += self.setup.options;
        if self.setup.secure {
            line += &format!(
                " --client-cert-auth --trusted-ca-file {TLS}/etcd-trusts.pem --cert-file {TLS}/server.pem \
                 --key-file {TLS}/server.key"
            );
        }
        self.members[member] = Some(self.nodes[member].lab.node().spawn(&line)?);
        Ok(())
    }

    pub fn kill_member(&mut self, member: usize) {
        if let Some(etcd) = self.members[member].take() {
            etcd.kill();
        }
    }

    /// Kills the only member.
    pub fn kill_etcd(&mut self) {
        self.kill_member(0);
    }

    /// Asks the first member that runs.
    pub fn etcdctl(&self, line: &str) -> Result<String> {
        let members = &self.members;
        let member = (0..members.len())
            .find(|member| members[*member].is_some() && Some(*member) != self.shunned)
            .context("no member runs")?;
        let endpoint = self.setup.endpoint(member);
        self.nodes[member].must(&format!("env ETCDCTL_API=3 etcdctl --endpoints {endpoint} {line}"))
    }

    /// Declares a Network on all hosts.
    pub fn declare(&self, name: &str) -> Result<()> {
        let spec = "{\"spec\":{\"subnets\":[{\"prefix\":\"198.19.7.0/24\"}]}}";
        self.etcdctl(&format!("put /weft/networks/{name} {spec}")).map(drop)
    }

    /// Writes the configuration of a host's agent.
    pub fn configure(&self, number: usize, name: &str) -> Result<()> {
        let Setup { members, pools, mode, lease, secure, login, .. } = self.setup;
        // Nobody listens at the first endpoint. Hosts with a member begin with their own.
        let mut endpoints = vec![self.setup.endpoint(0).replace(":2379", ":2378")];
        endpoints.extend((0..members).map(|step| self.setup.endpoint((number + step) % members)));
        // Plain routes want an address of each family, and the wire is no default route by which one would be found.
        let at = &self.nodes[number].at;
        let addresses = if mode == "routes" { vec![at.v4.to_string(), at.v6.to_string()] } else { vec![] };
        let level = if login { "debug" } else { "info" };
        let mut text = format!(
            "log_level = \"{level}\"\ncluster = \"etcd\"\nnode_name = \"{name}\"\nstate_dir = \"/run/lab/agent\"\n\
             [tunnel]\nmode = \"{mode}\"\n\
             [addresses]\nsource = \"pools\"\nnode = {addresses:?}\n\
             [cni]\nconf_dir = \"/run/lab/cni\"\nsecondary_networks = false\n\
             [etcd]\nendpoints = {endpoints:?}\nlease_seconds = {lease}\npools = {pools}\n"
        );
        if secure {
            text += &format!(
                "ca_file = \"{TLS}/ca.pem\"\ncert_file = \"{TLS}/agent.pem\"\nkey_file = \"{TLS}/agent.key\"\n"
            );
        }
        if login {
            text += "username = \"agent\"\npassword_file = \"/run/lab/password\"\n";
        }
        fs::write(self.nodes[number].path("/run/lab/agent.toml"), text).context("the agent's configuration")
    }

    pub fn start_agent(&mut self, number: usize) -> Result<()> {
        let program = binaries::find("weft-agent")?.display().to_string();
        let line = format!("{program} run --config /run/lab/agent.toml");
        self.agents[number] = Some(self.nodes[number].lab.node().spawn(&line)?);
        Ok(())
    }

    pub fn kill_agent(&mut self, number: usize) {
        if let Some(agent) = self.agents[number].take() {
            agent.kill();
        }
    }

    pub fn agent(&self, number: usize) -> Result<&Process> {
        self.agents[number].as_ref().context("no agent runs there")
    }

    pub fn forget(&self, number: usize) -> Result<Output> {
        let program = binaries::find("weft-agent")?.display().to_string();
        self.nodes[0].lab.node().run(&format!("{program} forget node-{number} --config /run/lab/agent.toml"))
    }

    pub fn status(&self, number: usize) -> Result<Value> {
        let text = self.nodes[number].must("busybox wget -q -O - http://127.0.0.1:9810/status")?;
        serde_json::from_str(&text).context(text)
    }

    /// Waits until what an agent says of itself is as it should be.
    pub fn until(&self, number: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        retry_until(SOON, &format!("node-{number}: {what}"), || {
            let status = self.status(number)?;
            if holds(&status) { Ok(status) } else { bail!("{status:#}") }
        })
    }

    /// Waits until an agent has said this in its log.
    pub fn until_said(&self, number: usize, words: &str) -> Result<()> {
        retry_until(SOON, &format!("node-{number} to say \"{words}\""), || {
            ensure!(self.log(number).contains(words), "it does not");
            Ok(())
        })
    }

    /// Waits until every node has all others and pods on it have a network.
    pub fn form(&self) -> Result<()> {
        let running = self.agents.iter().flatten().count() as u64;
        for number in 0..self.nodes.len() {
            if self.agents[number].is_none() {
                continue;
            }
            self.until(number, "all others", |status| {
                let nodes = status["nodes"].as_object().map_or(0, serde_json::Map::len) as u64;
                let heard = status["silent"].as_array().is_some_and(Vec::is_empty);
                status["ready"] == true && status["clusterAnswers"] == true && heard && nodes == running - 1
            })?;
        }
        Ok(())
    }

    /// Starts a container on a node, as a runtime does that reads the configuration which the agent wrote.
    pub fn container(&self, number: usize, name: &str) -> Result<Container> {
        let node = &self.nodes[number];
        let list = fs::read_to_string(node.path("/run/lab/cni/10-weft.conflist"))?;
        let list: Value = serde_json::from_str(&list)?;
        let mut plugin = list["plugins"][0].clone();
        plugin["cniVersion"] = list["cniVersion"].clone();
        plugin["name"] = list["name"].clone();
        plugin["detachQueue"] = DETACH_QUEUE.into();
        node.must(&format!("ip netns add {name}"))?;
        let program = binaries::find("weft-cni")?.display().to_string();
        let variables = [
            format!("CNI_CONTAINERID={name}"),
            format!("CNI_NETNS=/run/netns/{name}"),
            "CNI_COMMAND=ADD".into(),
            "CNI_IFNAME=eth0".into(),
            "CNI_PATH=/nonexistent".into(),
        ];
        let mut words = vec!["env", "-i"];
        words.extend(variables.iter().map(String::as_str));
        words.push(&program);
        let answer = node.lab.node().spawn_with_input(&words, Some(&plugin.to_string()))?.wait()?.ok()?;
        let answer: Value = serde_json::from_str(&answer)?;
        let ips = answer["ips"].as_array().context("ips")?;
        let address = |ip: &Value| ip["address"].as_str()?.split('/').next().map(str::to_owned);
        let addresses: Vec<String> = ips.iter().filter_map(address).collect();
        ensure!(addresses.len() == 2, "an address of each family expected: {answer}");
        Ok(Container { node: number, name: name.to_owned(), addresses })
    }

    /// Each of these reaches all others, by both families.
    pub fn meet(&self, containers: &[&Container]) -> Result<()> {
        for from in containers {
            for to in containers.iter().filter(|to| (to.node, &to.name) != (from.node, &from.name)) {
                for address in &to.addresses {
                    retry_until(
                        SOON,
                        &format!("{} of node-{} to reach {address}", from.name, from.node),
                        || self.nodes[from.node].container(&from.name).reaches(address),
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Begins to ping one container from another, by both families.
    pub fn ping(&self, from: &Container, to: &Container) -> Result<Pings> {
        let place = self.nodes[from.node].container(&from.name);
        let pings = to.addresses.iter().map(|address| {
            let mut ping = place.spawn(&format!("ping -n -i 0.05 -W 5 {address}"))?;
            ping.wait_for("bytes from")?;
            Ok(ping)
        });
        Ok(Pings(pings.collect::<Result<_>>()?))
    }

    /// Waits until an agent has put on disk that it knows all of these.
    pub fn until_saved(&self, number: usize, nodes: usize) -> Result<()> {
        let known = self.nodes[number].path("/run/lab/agent/cluster.json");
        retry_until(SOON, "what is known to be on disk", || {
            let text = fs::read_to_string(&known)?;
            let all = (0..nodes).all(|node| text.contains(&format!("\"name\":\"node-{node}\"")));
            if all { Ok(()) } else { bail!("{text}") }
        })
    }

    /// Whose each block is.
    pub fn blocks(&self) -> Result<Vec<(String, String)>> {
        let text = self.etcdctl("get --prefix /weft/blocks/")?;
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect())
    }

    pub fn log(&self, number: usize) -> String {
        self.agents[number].as_ref().map(Process::stderr).unwrap_or_default()
    }

    fn logs(&self) -> String {
        let logs =
            (0..self.nodes.len()).map(|number| format!("--- agent of node-{number}\n{}", self.log(number)));
        let members = self.members.iter().flatten().map(|member| format!("--- etcd\n{}", member.stderr()));
        logs.chain(members).collect()
    }
}
