//! Clusters: nodes with a daemon and an agent each, an API server beside them, and pods that reach each other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::agent::{Cluster, Pod, SOON};
use weft_testkit::wait::retry_until;

/// A pod on each node, and one more on the first.
fn pods(cluster: &Cluster) -> Result<Vec<(usize, Pod)>> {
    let mut pods = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        pods.push((number, node.pod(&format!("pod-{number}"))?));
    }
    pods.push((0, cluster.nodes[0].pod("pod-again")?));
    Ok(pods)
}

fn mode(name: &str) -> String {
    format!("[tunnel]\nmode = \"{name}\"\n")
}

/// What every cluster has to carry, whatever joins its nodes.
fn carries_everything(mode_name: &str) {
    Cluster::test(3, &mode(mode_name), |cluster| {
        cluster.settle()?;
        let pods = pods(cluster)?;
        ensure!(pods.iter().all(|(_, pod)| pod.addresses.len() == 2), "{pods:?}");
        cluster.all_reach_all(&pods)?;
        nodes_and_pods_reach_each_other(cluster, &pods)?;
        cluster.nodes.iter().try_for_each(|node| taint_is_gone(cluster, &node.name))
    });
}

fn nodes_and_pods_reach_each_other(cluster: &Cluster, pods: &[(usize, Pod)]) -> Result<()> {
    for node in &cluster.nodes {
        for (_, pod) in pods {
            for address in &pod.addresses {
                retry_until(SOON, "a pod to be reached from a node", || {
                    node.node.node().reaches(&address.to_string())
                })
                .with_context(|| format!("{} to {address}", node.name))?;
            }
        }
        for (at, pod) in pods {
            let place = cluster.nodes[*at].node.container(&pod.name);
            for address in [node.node.at.v4.to_string(), node.node.at.v6.to_string()] {
                retry_until(SOON, "a node to be reached from a pod", || place.reaches(&address))
                    .with_context(|| format!("{} of {} to {address}", pod.name, cluster.nodes[*at].name))?;
            }
        }
    }
    Ok(())
}

fn taint_is_gone(cluster: &Cluster, name: &str) -> Result<()> {
    retry_until(SOON, "the taint to go", || {
        let node = cluster.api.get(&format!("/api/v1/nodes/{name}"))?;
        let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
        ensure!(taints == 0, "{node:#}");
        let conditions = node["status"]["conditions"].as_array().context("no conditions")?;
        let network = conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable");
        ensure!(network.is_some_and(|it| it["status"] == "False"), "{node:#}");
        let own = cluster.api.get(&format!("/apis/weft.dev/v1/weftnodes/{name}"))?;
        ensure!(own["status"]["conditions"][0]["status"] == "True", "{own:#}");
        ensure!(own["metadata"]["ownerReferences"][0]["name"] == *name, "{own:#}");
        Ok(())
    })
}

#[test]
fn pods_reach_each_other_over_wireguard() {
    carries_everything("wireguard");
}

#[test]
fn pods_reach_each_other_over_vxlan() {
    carries_everything("vxlan");
}

#[test]
fn pods_reach_each_other_over_plain_routes() {
    carries_everything("routes");
}

/// The address of a node's pod.
fn v4(pod: &Pod) -> String {
    pod.addresses[0].to_string()
}

#[test]
fn services_lead_to_pods_by_the_nodes_kernel_as_kube_proxy_sets_them_up() {
    Cluster::test(2, &format!("metrics_address = \"0.0.0.0:9811\"\n{}", mode("wireguard")), |cluster| {
        cluster.settle()?;
        let pods = [(0, cluster.nodes[0].pod("client")?), (0, cluster.nodes[0].pod("near")?)];
        let far = cluster.nodes[1].pod("far")?;
        for (node, pod) in [(0, &pods[1].1), (1, &far)] {
            let server = format!(
                "mkdir -p /run/lab/{0} && echo {0} >/run/lab/{0}/name && exec busybox httpd -f -p 8080 -h /run/lab/{0}",
                pod.name
            );
            let place = cluster.nodes[node].node.container(&pod.name);
            // It ends with the lab.
            std::mem::forget(place.spawn_with_input(&["sh", "-c", &server], None)?);
            place.wait_for_listener(8080)?;
        }
        // What kube-proxy does for a Service with one endpoint: by prerouting for pods, by output for the node.
        let node = &cluster.nodes[0].node;
        for (address, pod) in [("198.19.255.1", &pods[1].1), ("198.19.255.2", &far)] {
            node.must("nft add table ip services")?;
            for hook in ["prerouting", "output"] {
                node.must(&format!(
                    "nft add chain ip services {hook} {{ type nat hook {hook} priority -100 ; }}"
                ))?;
                node.must(&format!(
                    "nft add rule ip services {hook} ip daddr {address} tcp dport 80 dnat to {}:8080",
                    v4(pod)
                ))?;
            }
            let get = format!("timeout 5 busybox wget -q -O - http://{address}/name");
            for place in [node.container("client"), node.container("near")] {
                let answer = retry_until(SOON, "the Service", || place.run(&get)?.ok())?;
                ensure!(answer.trim() == pod.name, "{answer}");
            }
        }
        let figures = cluster.nodes[0].node.must("busybox wget -q -O - http://127.0.0.1:9811/metrics")?;
        ensure!(figures.contains("weft_agent_nodes 1\n"), "{figures}");
        Ok(())
    });
}

/// Removes files of a node while its daemon is dead: it comes back with another key, and the other node follows.
fn key_is_lost_with(files: &str) {
    Cluster::test(2, &mode("wireguard"), |cluster| {
        cluster.settle()?;
        let key = |cluster: &Cluster| -> Result<Value> {
            let record = cluster.api.get("/apis/weft.dev/v1/weftnodes/node-2")?;
            Ok(record["spec"]["tunnel"]["publicKey"].clone())
        };
        let before = key(cluster)?;
        let first = cluster.nodes[0].pod("pod-a")?;
        let node = &mut cluster.nodes[1];
        node.node.kill_daemon();
        node.node.must(&format!("rm -rf {files}"))?;
        node.node.restart()?;
        retry_until(SOON, "another key", || {
            let now = key(cluster)?;
            ensure!(now != before && now != "", "the key is {now}");
            Ok(())
        })?;
        let changed = Instant::now();
        retry_until(SOON, "the node to be followed", || {
            let tunnel = cluster.nodes[0].node.get("tunnel", "mesh")?;
            let known = &tunnel["spec"]["wireguard"]["peers"][0]["publicKey"];
            ensure!(*known == key(cluster)?, "{tunnel:#}");
            Ok(())
        })?;
        ensure!(changed.elapsed() < Duration::from_secs(3), "it took {:?}", changed.elapsed());
        cluster.nodes[1].wait_for_peers(1)?;
        let second = cluster.nodes[1].pod("pod-b")?;
        let place = cluster.nodes[0].node.container(&first.name);
        retry_until(SOON, "the pod there", || place.reaches(&v4(&second)))
    });
}

#[test]
fn a_node_that_lost_its_state_is_followed_at_once() {
    key_is_lost_with("/run/lab/state /run/weft/state");
}

#[test]
fn a_node_that_lost_its_key_alone_is_followed_at_once() {
    key_is_lost_with("/run/lab/state/keys");
}

#[test]
fn a_key_is_changed_on_command_without_a_lost_packet() {
    Cluster::test(2, &mode("wireguard"), |cluster| {
        cluster.settle()?;
        let pods = [cluster.nodes[0].pod("pod-a")?, cluster.nodes[1].pod("pod-b")?];
        let place = cluster.nodes[0].node.container("pod-a");
        retry_until(SOON, "the other pod", || place.reaches(&v4(&pods[1])))?;
        let mut ping = place.spawn(&format!("ping -n -i 0.02 -c 200 {}", v4(&pods[1])))?;
        ping.wait_for("icmp_seq=20 ")?;
        let key = cluster.nodes[1].ask("POST", "/rotate-key")?;
        let report = ping.wait()?.ok()?;
        ensure!(report.contains(" 0% packet loss"), "{report}");
        retry_until(SOON, "the key to be known", || {
            let own = cluster.api.get("/apis/weft.dev/v1/weftnodes/node-2")?;
            let known = own["spec"]["tunnel"].to_string();
            ensure!(known.contains(key.trim()), "{known}");
            Ok(())
        })
    });
}

#[test]
fn nothing_is_lost_while_the_api_server_is_away() {
    Cluster::test(2, &mode("wireguard"), |cluster| {
        cluster.settle()?;
        let pods = pods(cluster)?;
        cluster.all_reach_all(&pods)?;
        // The kubelet starts no pod that the API server has not told of.
        cluster.api.apply(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod-late", "namespace": "default"},
            "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "none"}]},
        }))?;
        retry_until(SOON, "what was heard to be on disk", || {
            let read =
                |name| std::fs::read_to_string(cluster.nodes[0].node.path("/run/lab/agent").join(name));
            let (known, pods) = (read("cluster.json")?, read("pods.json")?);
            ensure!(known.contains("node-2") && pods.contains("pod-late"), "{known} {pods}");
            Ok(())
        })?;
        cluster.api.kill();
        // A node that starts anew goes by what is on its disk, and serves new pods.
        cluster.nodes[0].kill_agent();
        cluster.nodes[0].node.kill_daemon();
        cluster.nodes[0].node.restart()?;
        cluster.nodes[0].start_agent()?;
        cluster.nodes[0].wait_for_peers(1)?;
        cluster.all_reach_all(&pods)?;
        let late = (0, cluster.nodes[0].pod("pod-late")?);
        cluster.all_reach_all(&[pods, vec![late]].concat())?;
        cluster.api.restart()?;
        cluster.join(3, &mode("wireguard"))?;
        cluster.settle()
    });
}

#[test]
fn a_node_that_changes_its_address_is_followed() {
    Cluster::test(2, &mode("wireguard"), |cluster| {
        cluster.settle()?;
        let pods = pods(cluster)?;
        cluster.all_reach_all(&pods)?;
        let node = &cluster.nodes[1].node;
        let (old, new) = (node.at.v4, "192.0.2.77");
        node.must(&format!("ip address delete {old}/24 dev wire"))?;
        node.must(&format!("ip address add {new}/24 dev wire"))?;
        cluster.declare("node-2", 2, &[new.parse()?, node.at.v6.into()])?;
        retry_until(SOON, "the address to be known", || {
            let status = cluster.nodes[0].status()?;
            ensure!(status["nodes"]["node-2"]["addresses"][0] == new, "{status:#}");
            Ok(())
        })?;
        cluster.all_reach_all(&pods)
    });
}

#[test]
fn a_node_that_is_gone_is_forgotten_and_comes_back() {
    Cluster::test(3, &mode("vxlan"), |cluster| {
        cluster.settle()?;
        let mut gone = cluster.nodes.pop().context("three nodes")?;
        gone.kill_agent();
        drop(gone);
        cluster.api.delete("/api/v1/nodes/node-3")?;
        retry_until(SOON, "the node to be forgotten", || {
            let tunnel = cluster.nodes[0].node.get("tunnel", "mesh")?;
            let remotes = tunnel["spec"]["vxlan"]["remotes"].as_array().map_or(0, Vec::len);
            ensure!(remotes == 1, "{tunnel:#}");
            Ok(())
        })?;
        cluster.join(3, &mode("vxlan"))?;
        cluster.settle()?;
        let pods = pods(cluster)?;
        cluster.all_reach_all(&pods)
    });
}

#[test]
fn an_api_server_that_refuses_and_forgets_is_tried_again() {
    Cluster::test(1, &mode("wireguard"), |cluster| {
        cluster.settle()?;
        cluster.api.fault(&json!({"expire": true}))?;
        cluster.api.fault(&json!({"status": 429, "retryAfter": 1, "count": 4, "match": "weftnodes"}))?;
        cluster.join(2, &mode("wireguard"))?;
        cluster.settle()?;
        let pods = pods(cluster)?;
        cluster.all_reach_all(&pods)
    });
}

#[test]
fn pods_get_their_addresses_from_pools_that_nodes_take_blocks_of() {
    let config = format!("{}[addresses]\nsource = \"pools\"\n", mode("wireguard"));
    Cluster::test(0, &config, |cluster| {
        for (name, cidr, size) in [("v4", "198.19.0.0/22", 24), ("v6", "2001:db8:64::/56", 64)] {
            cluster.api.apply(&json!({
                "apiVersion": "weft.dev/v1", "kind": "IPPool", "metadata": {"name": name},
                "spec": {"cidr": cidr, "blockSize": size},
            }))?;
        }
        for number in 1..=3 {
            cluster.join(number, &config)?;
        }
        cluster.settle()?;
        let pods = pods(cluster)?;
        let pool = cluster.api.get("/apis/weft.dev/v1/ippools/v4")?;
        ensure!(pool["status"]["blocks"].as_object().map_or(0, serde_json::Map::len) == 3, "{pool:#}");
        ensure!(pods.iter().all(|(_, pod)| v4(pod).starts_with("198.19.")), "{pods:?}");
        cluster.all_reach_all(&pods)
    });
}

#[test]
fn a_declared_network_spans_the_nodes_and_a_wrong_one_is_told() {
    Cluster::test(2, &mode("wireguard"), |cluster| {
        cluster.settle()?;
        for (kind, name, spec) in [
            ("Network", "blue", json!({"subnets": [{"prefix": "198.19.0.0/24"}]})),
            ("Tunnel", "blue", json!({"network": "blue", "vxlan": {"vni": 7, "port": 4790}})),
            ("Network", "wrong", json!({"mtu": 1})),
        ] {
            cluster.api.apply(&json!({
                "apiVersion": "weft.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec,
            }))?;
        }
        let condition = |path: &str| -> Result<Value> {
            let object = cluster.api.get(&format!("/apis/weft.dev/v1/{path}"))?;
            Ok(object["status"]["conditions"][0].clone())
        };
        retry_until(SOON, "what came of it to be told", || {
            for path in ["networks/blue", "tunnels/blue"] {
                ensure!(condition(path)?["status"] == "True", "{path}: {:#}", condition(path)?);
            }
            let wrong = condition("networks/wrong")?;
            let message = wrong["message"].as_str().unwrap_or_default();
            ensure!(wrong["status"] == "False" && message.contains("spec.mtu"), "{wrong:#}");
            Ok(())
        })?;
        // One node speaks for all, and this one may come later.
        retry_until(SOON, "the far end", || {
            let tunnel = cluster.nodes[0].node.get("tunnel", "blue")?;
            ensure!(tunnel["spec"]["vxlan"]["remotes"].as_array().map_or(0, Vec::len) == 1, "{tunnel:#}");
            Ok(())
        })?;
        cluster.api.delete("/apis/weft.dev/v1/tunnels/blue")?;
        retry_until(SOON, "the tunnel to go", || {
            ensure!(cluster.nodes[0].node.get("tunnel", "blue").is_err(), "it is still there");
            Ok(())
        })
    });
}
