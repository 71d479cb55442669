//! Hosts of containers without Kubernetes: daemons and agents on a wire, with a real etcd on the first of them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use weft_testkit::lab::DETACH_QUEUE;
use weft_testkit::node::{Node, Nodes};
use weft_testkit::wait::{retry_until, wait_until};
use weft_testkit::{Process, binaries, wire::Wire};

const SOON: Duration = Duration::from_secs(40);
const ETCD: &str = "http://192.0.2.1:2379";

/// Nodes with daemons, and what runs on them.
struct Fabric<'a> {
    nodes: &'a mut [Node],
    wire: &'a Wire,
    etcd: Option<Process>,
    agents: Vec<Option<Process>>,
}

/// A container, and its addresses.
struct Container {
    node: usize,
    name: String,
    addresses: Vec<String>,
}

impl Fabric<'_> {
    /// Runs a test with so many nodes, etcd, and an agent on each, whose configuration has these pools.
    fn test(count: usize, pools: &str, test: impl FnOnce(&mut Fabric<'_>) -> Result<()>) {
        Nodes::test(Wire::link(1500), count, |nodes| {
            let (wire, nodes) = (&nodes.wire, &mut nodes.nodes[..]);
            let agents = nodes.iter().map(|_| None).collect();
            let mut fabric = Fabric { nodes, wire, etcd: None, agents };
            fabric.start_etcd()?;
            for number in 0..count {
                fabric.configure(number, pools)?;
                fabric.start_agent(number)?;
            }
            test(&mut fabric).with_context(|| fabric.logs())
        });
    }

    fn start_etcd(&mut self) -> Result<()> {
        let line = format!(
            "etcd --name one --data-dir /run/lab/etcd --log-level warn --listen-peer-urls http://127.0.0.1:2380 \
             --listen-client-urls {ETCD} --advertise-client-urls {ETCD}"
        );
        self.etcd = Some(self.nodes[0].lab.node().spawn(&line)?);
        retry_until(SOON, "etcd to answer", || self.etcdctl("endpoint health").map(drop))
    }

    fn kill_etcd(&mut self) {
        if let Some(etcd) = self.etcd.take() {
            etcd.kill();
        }
    }

    fn etcdctl(&self, line: &str) -> Result<String> {
        self.nodes[0].must(&format!("env ETCDCTL_API=3 etcdctl --endpoints {ETCD} {line}"))
    }

    fn configure(&self, number: usize, pools: &str) -> Result<()> {
        // Nobody listens at the first endpoint.
        let text = format!(
            "cluster = \"etcd\"\nnode_name = \"node-{number}\"\nstate_dir = \"/run/lab/agent\"\n\
             [addresses]\nsource = \"pools\"\n\
             [cni]\nconf_dir = \"/run/lab/cni\"\nsecondary_networks = false\n\
             [etcd]\nendpoints = [\"http://192.0.2.1:2378\", \"{ETCD}\"]\nlease_seconds = 5\npools = {pools}\n"
        );
        fs::write(self.nodes[number].path("/run/lab/agent.toml"), text).context("the agent's configuration")
    }

    fn start_agent(&mut self, number: usize) -> Result<()> {
        let program = binaries::find("weft-agent")?.display().to_string();
        let line = format!("{program} run --config /run/lab/agent.toml");
        self.agents[number] = Some(self.nodes[number].lab.node().spawn(&line)?);
        Ok(())
    }

    fn kill_agent(&mut self, number: usize) {
        if let Some(agent) = self.agents[number].take() {
            agent.kill();
        }
    }

    fn forget(&self, number: usize) -> Result<weft_testkit::Output> {
        let program = binaries::find("weft-agent")?.display().to_string();
        self.nodes[0].lab.node().run(&format!("{program} forget node-{number} --config /run/lab/agent.toml"))
    }

    fn status(&self, number: usize) -> Result<Value> {
        let text = self.nodes[number].must("busybox wget -q -O - http://127.0.0.1:9810/status")?;
        serde_json::from_str(&text).context(text)
    }

    /// Waits until what an agent says of itself is as it should be.
    fn until(&self, number: usize, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        retry_until(SOON, &format!("node-{number}: {what}"), || {
            let status = self.status(number)?;
            if holds(&status) { Ok(status) } else { bail!("{status:#}") }
        })
    }

    /// Waits until every node has all others and pods on it have a network.
    fn form(&self) -> Result<()> {
        let others = self.nodes.len() as u64 - 1;
        for number in 0..self.nodes.len() {
            self.until(number, "all others", |status| {
                let nodes = status["nodes"].as_object().map_or(0, serde_json::Map::len) as u64;
                status["ready"] == true && status["clusterAnswers"] == true && nodes == others
            })?;
        }
        Ok(())
    }

    /// Starts a container on a node, as a runtime does that reads the configuration which the agent wrote.
    fn container(&self, number: usize, name: &str) -> Result<Container> {
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
    fn meet(&self, containers: &[&Container]) -> Result<()> {
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

    /// Whose each block is.
    fn blocks(&self) -> Result<Vec<(String, String)>> {
        let text = self.etcdctl("get --prefix /weft/blocks/")?;
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect())
    }

    fn log(&self, number: usize) -> String {
        self.agents[number].as_ref().map(|agent| agent.stderr()).unwrap_or_default()
    }

    fn logs(&self) -> String {
        let logs =
            (0..self.nodes.len()).map(|number| format!("--- agent of node-{number}\n{}", self.log(number)));
        logs.collect()
    }
}

const POOLS: &str = "[\"198.18.0.0/16\", \"2001:db8:1000::/48\"]";

#[test]
fn hosts_without_kubernetes_form_a_fabric() {
    Fabric::test(3, POOLS, |fabric| {
        fabric.form()?;
        let pools = fabric.etcdctl("get --prefix /weft/pools/ --keys-only")?;
        let pools: Vec<&str> = pools.split_whitespace().collect();
        ensure!(pools == ["/weft/pools/198.18.0.0-16", "/weft/pools/2001:db8:1000::-48"], "{pools:?}");
        let blocks = fabric.blocks()?;
        let owners: BTreeSet<&str> = blocks.iter().map(|(_, owner)| owner.as_str()).collect();
        ensure!(blocks.len() == 6 && owners.len() == 3, "two of each node expected: {blocks:?}");
        let containers = (0..3).map(|number| fabric.container(number, "a")).collect::<Result<Vec<_>>>()?;
        fabric.meet(&containers.iter().collect::<Vec<_>>())
    });
}

#[test]
fn what_runs_goes_on_without_etcd_and_nothing_is_lost_when_it_comes_back() {
    Fabric::test(2, POOLS, |fabric| {
        fabric.form()?;
        let (one, two) = (fabric.container(0, "a")?, fabric.container(1, "a")?);
        fabric.meet(&[&one, &two])?;
        let before = fabric.blocks()?;
        fabric.kill_etcd();
        for number in [0, 1] {
            fabric
                .until(number, "to notice that etcd is away", |status| status["clusterAnswers"] == false)?;
        }
        // An agent that starts now goes by what it knew.
        let known = fabric.nodes[1].path("/run/lab/agent/cluster.json");
        wait_until(SOON, "what is known to be on disk", || {
            fs::read_to_string(&known).is_ok_and(|text| {
                text.contains("\"name\":\"node-0\"") && text.contains("\"name\":\"node-1\"")
            })
        })?;
        fabric.kill_agent(1);
        fabric.start_agent(1)?;
        fabric.until(1, "to serve without etcd", |status| status["ready"] == true)?;
        let late = fabric.container(1, "late")?;
        fabric.meet(&[&one, &two, &late])?;
        fabric.start_etcd()?;
        fabric.form()?;
        ensure!(fabric.blocks()? == before, "{:?} instead of {before:?}", fabric.blocks()?);
        fabric.meet(&[&one, &two, &late])
    });
}

#[test]
fn a_node_that_lost_its_key_is_followed() {
    Fabric::test(2, POOLS, |fabric| {
        fabric.form()?;
        let (one, two) = (fabric.container(0, "a")?, fabric.container(1, "a")?);
        fabric.meet(&[&one, &two])?;
        let key = fabric.status(1)?["record"]["publicKey"].clone();
        ensure!(key.is_string(), "{key}");
        fabric.nodes[1].kill_daemon();
        fabric.nodes[1].must("rm -r /run/lab/state /run/weft/state")?;
        fabric.nodes[1].restart()?;
        let new = fabric.until(1, "a new key", |status| {
            status["record"]["publicKey"].is_string() && status["record"]["publicKey"] != key
        })?;
        retry_until(SOON, "etcd to have the new key", || {
            let kept: Value =
                serde_json::from_str(&fabric.etcdctl("get --print-value-only /weft/nodes/node-1")?)?;
            ensure!(kept["publicKey"] == new["record"]["publicKey"], "{kept}");
            Ok(())
        })?;
        let key = new["record"]["publicKey"].as_str().context("a key")?;
        retry_until(SOON, "the other node to go by the new key", || {
            let mesh = fabric.nodes[0].get("tunnel", "mesh")?;
            let peers = mesh["spec"]["wireguard"]["peers"].to_string();
            ensure!(peers.contains(key), "{peers}");
            Ok(())
        })
    });
}

#[test]
fn a_silent_node_stays_until_it_is_forgotten_and_then_its_block_is_anothers() {
    // Blocks have 26 bits of prefix: there are two for IPv4.
    Fabric::test(3, "[\"198.18.0.0/25\", \"2001:db8:1000::/48\"]", |fabric| {
        let waiting = (0..3).map(|number| {
            fabric.until(number, "a block, or none", |status| {
                status["ready"] == true || status["nodes"].as_object().is_some_and(|nodes| nodes.len() == 2)
            })
        });
        let ready: Vec<bool> = waiting.map(|status| Ok(status?["ready"] == true)).collect::<Result<_>>()?;
        ensure!(ready.iter().filter(|ready| **ready).count() >= 2, "{ready:?}");
        let owner = |fabric: &Fabric<'_>| -> Result<BTreeSet<String>> {
            let blocks = fabric.blocks()?.into_iter();
            Ok(blocks.filter(|(key, _)| key.contains("198.18")).map(|(_, owner)| owner).collect())
        };
        let owners = owner(fabric)?;
        ensure!(owners.len() == 2, "{owners:?}");
        let gone =
            (1..3).find(|number| owners.contains(&format!("node-{number}"))).context("a node to go")?;
        let name = format!("node-{gone}");
        fabric.kill_agent(gone);
        let refused = fabric.forget(gone)?;
        ensure!(refused.stderr.contains("is alive"), "{refused}");
        let silent = json!([name.clone()]);
        let status = fabric.until(0, "the silent node", |status| status["silent"] == silent)?;
        ensure!(owner(fabric)? == owners, "its block was taken: {:?}", owner(fabric)?);
        ensure!(status["nodes"][&name].is_object(), "it stays in the mesh: {status:#}");
        fabric.forget(gone)?.ok()?;
        fabric.until(0, "the node to be gone", |status| status["nodes"][&name].is_null())?;
        wait_until(SOON, "its block to be another's", || {
            owner(fabric).is_ok_and(|now| !now.contains(&name))
        })?;
        let unknown = fabric.forget(gone)?;
        ensure!(unknown.stderr.contains("is not known"), "{unknown}");
        Ok(())
    });
}

#[test]
fn a_node_that_missed_compacted_history_lists_anew() {
    Fabric::test(2, POOLS, |fabric| {
        fabric.form()?;
        fabric.wire.cut(&fabric.nodes[1].at)?;
        fabric.until(1, "to notice", |status| status["clusterAnswers"] == false)?;
        let spec = "{\"spec\":{\"subnets\":[{\"prefix\":\"198.19.7.0/24\"}]}}";
        fabric.etcdctl(&format!("put /weft/networks/blue {spec}"))?;
        let header = fabric.etcdctl("get /weft/networks/blue -w json")?;
        let revision = serde_json::from_str::<Value>(&header)?["header"]["revision"].clone();
        fabric.etcdctl(&format!("compact {revision}"))?;
        fabric.wire.mend(&fabric.nodes[1].at)?;
        retry_until(SOON, "the declared Network", || fabric.nodes[1].get("network", "blue").map(drop))?;
        ensure!(fabric.log(1).contains("compacted"), "it never met the compaction");
        fabric.form()
    });
}
