//! `weft connectivity` and the cluster's part of `weft status`: two nodes with daemon and agent each, which an API
//! server tells of each other.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::cluster::ApiServer;
use weft_testkit::wait::retry_until;
use weft_testkit::{Family, Lab, Node, Nodes, Process, Wire, binaries};

const SOON: Duration = Duration::from_secs(60);
const NAMES: [&str; 2] = ["one", "two"];

/// Nodes of a cluster.
struct Cluster<'a> {
    nodes: &'a [Node],
    // They end with the test.
    server: ApiServer,
    _agents: Vec<Process>,
}

impl<'a> Cluster<'a> {
    fn start(nodes: &'a Nodes, mode: &str, confined: &str) -> Result<Cluster<'a>> {
        let first = &nodes.nodes[0];
        let server = ApiServer::start(&first.lab.node(), &format!("{}:8080", first.address(Family::V4)))?;
        for (node, number) in nodes.nodes.iter().zip(1..) {
            register(&server, node, number)?;
        }
        let agents = nodes.nodes.iter().zip(NAMES);
        let agents = agents
            .map(|(node, name)| agent(&node.lab, name, mode, &server, name == confined))
            .collect::<Result<_>>()?;
        let cluster = Cluster { nodes: &nodes.nodes, server, _agents: agents };
        for (node, other) in cluster.nodes.iter().zip([NAMES[1], NAMES[0]]) {
            retry_until(SOON, "a node that is ready and knows the other", || {
                let text = node.weft(&["status", "-o", "json"])?.ok()?;
                let status: Value = serde_json::from_str(&text)?;
                let cluster = &status["cluster"];
                ensure!(cluster["ready"] == true && cluster["nodes"][other].is_object(), "{cluster}");
                Ok(())
            })?;
        }
        Ok(cluster)
    }

    /// What node `number` finds, and the exit code.
    fn tried(&self, number: usize, arguments: &[&str]) -> Result<(Vec<Value>, Option<i32>)> {
        let command = [&["connectivity", "-o", "json", "--timeout", "1"], arguments].concat();
        let output = self.nodes[number].weft(&command)?;
        let report: Value = serde_json::from_str(&output.stdout).with_context(|| output.to_string())?;
        let findings = report["findings"].as_array().context("no findings")?.clone();
        Ok((findings, output.code))
    }

    fn all_is_well(&self) -> Result<()> {
        for number in 0..self.nodes.len() {
            retry_until(SOON, "everything to be reached", || {
                let (findings, code) = self.tried(number, &[])?;
                ensure!(code == Some(0) && failed(&findings).is_empty(), "{code:?} {findings:#?}");
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Makes node `number` known to the cluster.
fn register(server: &ApiServer, node: &Node, number: u8) -> Result<()> {
    let name = NAMES[usize::from(number) - 1];
    server.apply(&json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
        "spec": { "podCIDRs": [format!("198.18.{number}.0/24"), format!("2001:db8:{number}::/64")] },
    }))?;
    // By a patch that takes the list as it is: two addresses of one type are one to others.
    let addresses =
        Family::BOTH.map(|family| json!({ "type": "InternalIP", "address": node.address(family) }));
    let status = json!({ "status": { "addresses": addresses } });
    server.patch(&format!("/api/v1/nodes/{name}/status"), &status).map(drop)
}

/// Starts a node's agent; a confined one has no right to enter namespaces.
fn agent(lab: &Lab, name: &str, mode: &str, server: &ApiServer, confined: bool) -> Result<Process> {
    server.write_kubeconfig(&lab.path("/run/lab/kubeconfig"))?;
    let config = format!(
        "node_name = \"{name}\"\nstate_dir = \"/run/lab/agent\"\nplugin_socket = \"/run/lab/agent.sock\"\n\
         [tunnel]\nmode = \"{mode}\"\n[cni]\nconf_dir = \"\"\n"
    );
    fs::write(lab.path("/run/lab/agent.toml"), config)?;
    let program = binaries::find("weft-agent")?;
    let program = program.to_str().context("the path of weft-agent is not UTF-8")?;
    let confine: &[&str] = if confined { &["setpriv", "--bounding-set=-sys_admin"] } else { &[] };
    let run = ["env", "KUBECONFIG=/run/lab/kubeconfig", program, "run", "--config", "/run/lab/agent.toml"];
    let arguments = [confine, &run].concat();
    lab.node().spawn_with_input(&arguments, None)
}

/// Check and family of what does not work.
fn failed(findings: &[Value]) -> Vec<(&str, &str)> {
    let failed = findings.iter().filter(|finding| finding["ok"] != true);
    failed.map(|finding| (word(finding, "check"), word(finding, "family"))).collect()
}

fn word<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn on_two_nodes(mode: &str, test: impl FnOnce(&Cluster<'_>, &Nodes) -> Result<()>) {
    Nodes::test(Wire::link(1500), 2, |nodes| {
        let cluster = Cluster::start(nodes, mode, "")?;
        test(&cluster, nodes)
    });
}

#[test]
fn all_lines_are_fine_where_all_is_well() {
    on_two_nodes("wireguard", |cluster, _| {
        cluster.all_is_well()?;
        let (findings, _) = cluster.tried(0, &[])?;
        let to = |node: &str| {
            let lines = findings.iter().filter(|finding| finding["to"] == node);
            lines.map(|it| (word(it, "check"), word(it, "family"))).collect::<Vec<_>>()
        };
        let own = [
            ("pod-to-node", "ipv4"),
            ("pod-to-node", "ipv6"),
            ("node-to-pod", "ipv4"),
            ("node-to-pod", "ipv6"),
        ];
        let far = [("pod-to-pod", "ipv4"), ("mtu", "ipv4"), ("pod-to-pod", "ipv6"), ("mtu", "ipv6")];
        ensure!(to("one") == own && to("two") == [&far[..], &own].concat(), "{findings:#?}");
        let text = cluster.nodes[1].weft(&["connectivity"])?.ok()?;
        ensure!(text.contains("12 of 12 ok, from node two to 1 of 1 others, pods' MTU 1440"), "{text}");
        ensure!(text.contains("1440 octets pass"), "{text}");
        let status = cluster.nodes[0].weft(&["status"])?.ok()?;
        ensure!(status.contains("cluster: node one, wireguard, ready (Serving: "), "{status}");
        ensure!(
            status.contains("other nodes: 1, not reached: 0, pods' MTU: 1440, API server: answers"),
            "{status}"
        );
        Ok(())
    });
}

#[test]
fn a_firewall_between_nodes_fails_what_crosses_it_and_nothing_else() {
    on_two_nodes("wireguard", |cluster, nodes| {
        cluster.all_is_well()?;
        let rules = "table netdev wall { chain in { type filter hook ingress device wire priority 0; \
                     udp dport 51820 drop; }; }";
        let node = nodes.nodes[1].lab.node();
        node.spawn_with_input(&["nft", "-f", "-"], Some(rules))?.wait()?.ok()?;
        let (findings, code) = cluster.tried(0, &[])?;
        let crossing: Vec<_> = findings.iter().filter(|it| it["to"] == "two").collect();
        // Nodes reach each other's addresses without the mesh, and masquerade lets pods do so, too.
        ensure!(
            crossing.iter().all(|it| (it["ok"] == true) == (it["check"] == "pod-to-node")),
            "{findings:#?}"
        );
        ensure!(findings.iter().all(|it| it["to"] != "one" || it["ok"] == true), "{findings:#?}");
        ensure!(code == Some(1), "{code:?}");
        let output = cluster.nodes[0].weft(&["connectivity", "--timeout", "1"])?;
        ensure!(
            output.stdout.contains("UDP: no answer within 1 s; see weft describe tunnel mesh"),
            "{output}"
        );
        let told = output.fails_with(1)?;
        ensure!(told.contains("6 of 12 checks failed"), "{told}");
        node.run("nft delete table netdev wall")?.ok()?;
        cluster.all_is_well()
    });
}

#[test]
fn a_way_narrower_than_its_devices_say_fails_the_mtu_alone() {
    on_two_nodes("vxlan", |cluster, nodes| {
        cluster.all_is_well()?;
        // What is too large vanishes, as in a network that says nothing.
        let rules = "table netdev narrow { chain in { type filter hook ingress device wire priority 0; \
                     udp dport 4789 udp length > 1380 drop; }; }";
        nodes.nodes[1].lab.node().spawn_with_input(&["nft", "-f", "-"], Some(rules))?.wait()?.ok()?;
        let (findings, code) = cluster.tried(0, &[])?;
        ensure!(failed(&findings) == [("mtu", "ipv4"), ("mtu", "ipv6")] && code == Some(1), "{findings:#?}");
        let detail =
            findings.iter().find(|it| it["ok"] != true).map(|it| word(it, "detail")).unwrap_or_default();
        ensure!(detail.starts_with("1450 octets do not pass: ") && detail.contains(", 1280 do"), "{detail}");
        Ok(())
    });
}

#[test]
fn the_outside_and_a_name_server_are_tried_when_they_are_named() {
    on_two_nodes("routes", |cluster, _| {
        cluster.all_is_well()?;
        let server = cluster.nodes[0].address(Family::V4);
        let (outside, dns) = (format!("{server}:8080"), server.to_string());
        let arguments = ["--outside", &outside, "--dns", &dns, "--name", "example.com"];
        let (findings, code) = cluster.tried(1, &arguments)?;
        ensure!(failed(&findings) == [("dns", "ipv4")] && code == Some(1), "{findings:#?}");
        ensure!(
            findings.iter().any(|it| it["check"] == "pod-to-outside" && it["to"] == *outside),
            "{findings:#?}"
        );
        Ok(())
    });
}

/// Answers every question over UDP with no error and no records.
const NAME_SERVER: &str = "
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(('::', 53))
print('ready', flush=True)
while True:
    question, client = server.recvfrom(4096)
    server.sendto(question[:2] + bytes([0x81, 0x80]) + question[4:], client)
";

#[test]
fn the_name_server_of_the_cluster_is_found_and_tried() {
    on_two_nodes("wireguard", |cluster, _| {
        cluster.all_is_well()?;
        let dns = |number: usize| -> Result<Vec<Value>> {
            let (findings, _) = cluster.tried(number, &[])?;
            Ok(findings.into_iter().filter(|finding| finding["check"] == "dns").collect())
        };
        ensure!(dns(1)?.is_empty(), "there is none");
        let addresses = Family::BOTH.map(|family| cluster.nodes[0].address(family));
        cluster.server.apply(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "kube-dns", "namespace": "kube-system" },
            "spec": { "clusterIP": addresses[0], "clusterIPs": addresses },
        }))?;
        let silent = dns(1)?;
        ensure!(failed(&silent) == [("dns", "ipv4"), ("dns", "ipv6")], "nobody listens: {silent:#?}");
        let mut server = cluster.nodes[0].node().spawn_with_input(&["python3", "-c", NAME_SERVER], None)?;
        server.wait_for("ready")?;
        let found = dns(1)?;
        ensure!(found.len() == 2 && failed(&found).is_empty(), "{found:#?}");
        ensure!(found[0]["to"] == "kubernetes.default.svc.cluster.local", "{found:#?}");
        Ok(())
    });
}

#[test]
fn an_agent_that_may_not_enter_the_probe_says_so_and_others_reach_its_node() {
    Nodes::test(Wire::link(1500), 2, |nodes| {
        let cluster = Cluster::start(nodes, "wireguard", "two")?;
        retry_until(SOON, "node two to be reached", || {
            let (findings, code) = cluster.tried(0, &[])?;
            ensure!(code == Some(0) && failed(&findings).is_empty(), "{findings:#?}");
            let told = findings.iter().find(|it| it["to"] == "two").map(|it| word(it, "detail"));
            ensure!(told.is_some_and(|it| it.contains("weft-agent does not answer there")), "{findings:#?}");
            Ok(())
        })?;
        let (findings, code) = cluster.tried(1, &[])?;
        ensure!(failed(&findings) == [("probe", "")] && code == Some(1), "{findings:#?}");
        ensure!(
            word(&findings[0], "detail").ends_with("the agent needs the capability SYS_ADMIN"),
            "{findings:#?}"
        );
        ensure!(findings[1..].iter().all(|it| it["check"] == "node-to-pod"), "{findings:#?}");
        ensure!(findings.len() == 5, "{findings:#?}");
        Ok(())
    });
}

#[test]
fn without_an_agent_connectivity_says_so_and_status_nothing() {
    Lab::test(|lab| {
        let told = lab.weft(&["connectivity"])?.fails_with(3)?;
        ensure!(told.contains("cannot reach weft-agent at http://127.0.0.1:9810"), "{told}");
        let status = lab.weft(&["status"])?.ok()?;
        ensure!(!status.contains("cluster"), "{status}");
        Ok(())
    });
}
