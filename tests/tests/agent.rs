//! The agent and what goes wrong around it: hands that change what is its own, daemons and API servers that are away,
//! what is on disk and is not true any more.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_testkit::agent::{Cluster, Member, SOON};
use weft_testkit::wait::retry_until;

/// Two nodes that reach each other, with a pod on each.
fn pair(test: impl FnOnce(&mut Cluster) -> Result<()>) {
    Cluster::test(2, "[tunnel]\nmode = \"wireguard\"\n", |cluster| {
        cluster.settle()?;
        test(cluster)
    });
}

fn weft(member: &Member, words: &str) -> Result<String> {
    let words: Vec<&str> = words.split(' ').collect();
    member.node.weft(&words)?.ok()
}

fn own_record(cluster: &Cluster, name: &str) -> Result<Value> {
    cluster.api.get(&format!("/apis/weft.dev/v1/weftnodes/{name}"))
}

/// How often the spec of the node's mesh was changed.
fn generation(member: &Member) -> Result<Value> {
    Ok(member.node.get("tunnel", "mesh")?["metadata"]["generation"].clone())
}

#[test]
fn what_somebody_deletes_or_changes_of_the_mesh_is_put_back() {
    pair(|cluster| {
        let pods = [(0, cluster.nodes[0].pod("pod-a")?), (1, cluster.nodes[1].pod("pod-b")?)];
        cluster.all_reach_all(&pods)?;
        weft(&cluster.nodes[0], "delete tunnel mesh")?;
        cluster.settle()?;
        cluster.all_reach_all(&pods)?;
        // Something of the mesh with another spec, under the agent's own labels.
        let node = &cluster.nodes[0];
        let port = node.node.get("router", "cluster")?;
        let changed = json!({
            "apiVersion": "weft.dev/v1", "kind": "Router",
            "metadata": {"name": "cluster", "labels": port["metadata"]["labels"]},
            "spec": {"routes": [{"prefix": "192.0.2.64/26", "nextHops": ["198.18.1.2"]}]},
        });
        node.node.try_apply(&changed.to_string())?.ok()?;
        retry_until(SOON, "the routes to be put back", || {
            let now = node.node.get("router", "cluster")?;
            ensure!(now["spec"] == port["spec"], "{now:#}");
            Ok(())
        })?;
        ensure!(node.log().contains("putting it back"), "{}", node.log());
        cluster.all_reach_all(&pods)
    });
}

#[test]
fn what_was_heard_last_is_on_disk_when_the_agent_has_ended() {
    pair(|cluster| {
        cluster.join(3, "[tunnel]\nmode = \"wireguard\"\n")?;
        cluster.nodes[0].wait_for_peers(2)?;
        // Sooner than it is saved by itself.
        cluster.nodes[0].stop_agent()?;
        let path = cluster.nodes[0].node.path("/run/lab/agent/cluster.json");
        let known: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        ensure!(known["nodes"]["node-3"]["publicKey"].is_string(), "{known:#}");
        Ok(())
    });
}

#[test]
fn what_is_on_disk_does_not_count_while_the_cluster_may_still_answer() {
    pair(|cluster| {
        let node = &mut cluster.nodes[0];
        node.stop_agent()?;
        let path = node.node.path("/run/lab/agent/cluster.json");
        let mut known: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        known["nodes"]["node-2"]["publicKey"] = json!("HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=");
        std::fs::write(&path, known.to_string())?;
        let before = generation(node)?;
        cluster.api.fault(&json!({"hang": true}))?;
        node.start_agent()?;
        retry_until(SOON, "the agent to have found its daemon", || {
            let status = node.status()?;
            ensure!(status["daemonAnswers"] == true, "{status:#}");
            Ok(())
        })?;
        cluster.api.heal()?;
        node.wait_for_peers(1)?;
        ensure!(generation(node)? == before, "the mesh was changed and changed back");
        Ok(())
    });
}

#[test]
fn a_daemon_that_stays_away_is_told_to_probes_at_once_and_to_the_cluster_soon() {
    pair(|cluster| {
        cluster.nodes[0].node.kill_daemon();
        let ready = |cluster: &Cluster| -> Result<Value> {
            Ok(own_record(cluster, "node-1")?["status"]["conditions"][0].clone())
        };
        retry_until(SOON, "the readiness probe to fail", || {
            let answer = cluster.nodes[0].ask("GET", "/readyz");
            ensure!(answer.is_err_and(|error| format!("{error:#}").contains("weftd does not answer")));
            Ok(())
        })?;
        ensure!(ready(cluster)?["status"] == "True", "a daemon that is started anew is nobody's concern");
        cluster.nodes[0].ask("GET", "/livez")?;
        retry_until(SOON, "the cluster to be told", || {
            let ready = ready(cluster)?;
            ensure!(ready["status"] == "False" && ready["reason"] == "DaemonAway", "{ready:#}");
            Ok(())
        })?;
        // What the cluster says meanwhile does not make it better.
        cluster.join(3, "[tunnel]\nmode = \"wireguard\"\n")?;
        retry_until(SOON, "the other node to be heard of", || {
            let peers = cluster.nodes[1].status()?["nodes"].as_object().map_or(0, serde_json::Map::len);
            ensure!(peers == 2, "{peers}");
            Ok(())
        })?;
        ensure!(ready(cluster)?["reason"] == "DaemonAway", "{:#}", ready(cluster)?);
        cluster.nodes[0].node.restart()?;
        retry_until(SOON, "the cluster to be told again", || {
            ensure!(ready(cluster)?["status"] == "True", "{:#}", ready(cluster)?);
            cluster.nodes[0].ask("GET", "/readyz").map(drop)
        })
    });
}

#[test]
fn a_key_is_not_changed_by_command_before_the_cluster_knows_the_present_one() {
    pair(|cluster| {
        let pods = [(0, cluster.nodes[0].pod("pod-a")?), (1, cluster.nodes[1].pod("pod-b")?)];
        cluster.api.kill();
        let first = cluster.nodes[0].ask("POST", "/rotate-key")?;
        let second = cluster.nodes[0].ask("POST", "/rotate-key");
        let refused = second.is_err_and(|error| format!("{error:#}").contains("present key"));
        ensure!(refused, "another key after {first}");
        cluster.all_reach_all(&pods)?;
        cluster.api.restart()?;
        retry_until(SOON, "the key to be known", || {
            let record = own_record(cluster, "node-1")?;
            ensure!(record["spec"]["tunnel"]["publicKey"] == first.trim(), "{record:#}");
            Ok(())
        })?;
        cluster.settle()?;
        cluster.all_reach_all(&pods)
    });
}

/// The condition of something that users declared.
fn condition(cluster: &Cluster, path: &str) -> Result<Value> {
    let object = cluster.api.get(&format!("/apis/weft.dev/v1/{path}"))?;
    Ok(object["status"]["conditions"][0].clone())
}

#[test]
fn a_network_on_a_device_that_a_node_lacks_is_not_ready_until_it_comes() {
    pair(|cluster| {
        let plug = |node: usize| -> Result<()> {
            cluster.nodes[node].node.must("ip link add lan0 type veth peer name lan0-far")?;
            cluster.nodes[node].node.must("ip link set lan0-far up").map(drop)
        };
        plug(1)?;
        cluster.api.apply(&json!({
            "apiVersion": "weft.dev/v1", "kind": "Network", "metadata": {"name": "office"},
            "spec": {"uplink": {"device": "lan0"}},
        }))?;
        retry_until(SOON, "the device to be missed", || {
            let ready = condition(cluster, "networks/office")?;
            let message = ready["message"].as_str().unwrap_or_default();
            ensure!(
                ready["status"] == "False"
                    && message.starts_with("node node-1: Port/office-uplink: DeviceMissing"),
                "{ready:#}"
            );
            Ok(())
        })?;
        plug(0)?;
        retry_until(SOON, "the Network to be ready", || {
            let ready = condition(cluster, "networks/office")?;
            ensure!(ready["status"] == "True", "{ready:#}");
            Ok(())
        })
    });
}

#[test]
fn a_node_whose_tunnel_cannot_have_its_port_takes_no_pods_until_it_can() {
    Cluster::test(0, "", |cluster| {
        let config = "[tunnel]\nmode = \"wireguard\"\n";
        cluster.join(1, config)?;
        cluster.settle()?;
        let node = &mut cluster.nodes[0];
        node.stop_agent()?;
        node.node.kill_daemon();
        node.node.must("rm -rf /run/lab/agent /run/lab/net.d")?;
        let bind = "import socket,time;s=socket.socket(2,2);s.bind(('',51820));print('bound',flush=True);time.sleep(600)";
        let mut taken = node.node.node().spawn_with_input(&["python3", "-c", bind], None)?;
        taken.wait_for("bound")?;
        node.node.restart()?;
        node.start_agent()?;
        retry_until(SOON, "the node to say what is wrong", || {
            let status = node.status()?;
            let message = status["message"].as_str().unwrap_or_default();
            ensure!(status["ready"] == false && message.contains("Tunnel/mesh: PortInUse"), "{status:#}");
            Ok(())
        })?;
        ensure!(!node.has_conflist(), "runtimes are told to make pods");
        taken.kill();
        retry_until(SOON, "the node to serve", || {
            ensure!(node.has_conflist(), "{:#}", node.status()?);
            node.ask("GET", "/readyz").map(drop)
        })
    });
}

#[test]
fn a_node_that_cannot_be_routed_to_does_not_make_others_useless() {
    Cluster::test(2, "[tunnel]\nmode = \"routes\"\n", |cluster| {
        cluster.settle()?;
        cluster.api.apply(&json!({
            "apiVersion": "weft.dev/v1", "kind": "WeftNode", "metadata": {"name": "elsewhere"},
            "spec": {"addresses": ["198.19.255.9"], "podCIDRs": ["198.18.99.0/24"], "tunnel": {"port": 0}},
        }))?;
        retry_until(SOON, "the trouble to be told", || {
            let status = cluster.nodes[0].status()?;
            let message = status["message"].as_str().unwrap_or_default();
            ensure!(message.contains("NodeRouteRefused") && message.contains("198.18.99.0/24"), "{status:#}");
            ensure!(status["ready"] == true, "{status:#}");
            Ok(())
        })?;
        cluster.nodes[0].ask("GET", "/readyz")?;
        let pods = [(0, cluster.nodes[0].pod("pod-a")?), (1, cluster.nodes[1].pod("pod-b")?)];
        cluster.all_reach_all(&pods)
    });
}
