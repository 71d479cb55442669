//! Nodes and an API server that go away and come back, and what goes on meanwhile.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::Family;
use weft_testkit::agent::{Cluster, Runtime, SOON};
use weft_testkit::wait::retry_until;

use super::server::{self, Server, all_reach_all, all_reach_all_soon, mode, start_all};

/// Longest time until all nodes know a key that a node has announced.
const FOLLOWED: Duration = Duration::from_secs(1);

/// What a node announces as its key.
fn key(cluster: &Cluster, name: &str) -> Result<Value> {
    let record = cluster.api.get(&format!("/apis/weft.dev/v1/weftnodes/{name}"))?;
    Ok(record["spec"]["tunnel"]["publicKey"].clone())
}

/// Whether a node's daemon knows a key.
fn knows(cluster: &Cluster, node: usize, key: &Value) -> Result<()> {
    let tunnel = cluster.nodes[node].node.get("tunnel", "mesh")?;
    let peers = tunnel["spec"]["wireguard"]["peers"].as_array().context("peers")?;
    ensure!(peers.iter().any(|peer| peer["publicKey"] == *key), "{key} is not among {peers:?}");
    Ok(())
}

#[test]
fn a_node_that_died_comes_back_with_another_key_and_others_follow_within_a_second() {
    server::test(3, &mode("wireguard"), |cluster| {
        let pods = start_all(cluster, &[0, 1, 2])?;
        all_reach_all(cluster, &pods)?;
        let traffic = pods[0].talk_to(cluster, &pods[1])?;
        let before = key(cluster, "node-3")?;
        let at = cluster.lose(2)?;
        cluster.return_empty(2, at, &mode("wireguard"))?;
        let now = retry_until(SOON, "another key", || {
            let now = key(cluster, "node-3")?;
            ensure!(now != before && now != "", "the key is {now}");
            Ok(now)
        })?;
        let announced = Instant::now();
        for node in [0, 1] {
            retry_until(SOON, "the key to be known", || knows(cluster, node, &now))?;
        }
        let took = announced.elapsed();
        ensure!(took < FOLLOWED, "it took {took:?}");
        cluster.settle()?;
        cluster.nodes[2].containerd()?.wait_for_network()?;
        let again = Server::start(cluster, 2, "again")?;
        all_reach_all(cluster, &[pods[0].clone(), pods[1].clone(), again])?;
        traffic.lost_nothing()
    });
}

#[test]
fn streams_of_pods_outlive_a_change_of_their_nodes_address() {
    server::test(3, &mode("wireguard"), |cluster| {
        let pods = start_all(cluster, &[0, 1, 2])?;
        all_reach_all(cluster, &pods)?;
        let elsewhere = pods[0].talk_to(cluster, &pods[2])?;
        let mut there = pods[2].talk_to(cluster, &pods[1])?;
        let moved = cluster.wire.readdress(&cluster.nodes[1].node, &cluster.nodes[1].node.at)?;
        let addresses: Vec<IpAddr> = Family::BOTH.map(|family| moved.address(family)).to_vec();
        cluster.nodes[1].node.at = moved;
        cluster.declare("node-2", 2, &addresses)?;
        retry_until(SOON, "the address to be known", || {
            for node in [0, 2] {
                let status = cluster.nodes[node].status()?;
                let known = &status["nodes"]["node-2"]["addresses"][0];
                ensure!(*known == addresses[0].to_string(), "{status:#}");
            }
            Ok(())
        })?;
        all_reach_all_soon(cluster, &pods)?;
        there.goes_on()?;
        elsewhere.lost_nothing()
    });
}

#[test]
fn nothing_is_lost_while_the_api_server_is_away_and_pods_can_be_made() {
    server::test(3, &mode("wireguard"), |cluster| {
        let mut pods = start_all(cluster, &[0, 1, 2])?;
        all_reach_all(cluster, &pods)?;
        let uid = cluster.declare_pod("late", 2)?;
        retry_until(SOON, "the agent to hear of the pod", || {
            let heard = std::fs::read_to_string(cluster.nodes[2].node.path("/run/lab/agent/pods.json"))?;
            ensure!(heard.contains(&uid), "{heard}");
            Ok(())
        })?;
        let traffic = pods[0].talk_to(cluster, &pods[1])?;
        cluster.api.kill();
        pods.push(Server::start_declared(cluster, 2, "late", uid)?);
        all_reach_all(cluster, &pods)?;
        cluster.api.restart()?;
        pods.push(Server::start(cluster, 1, "later")?);
        all_reach_all(cluster, &pods)?;
        traffic.lost_nothing()
    });
}

#[test]
fn the_runtime_has_no_network_until_the_agent_can_serve() {
    server::test(1, &mode("wireguard"), |cluster| {
        let first = Server::start(cluster, 0, "first")?;
        cluster.add(2, &mode("wireguard"))?;
        cluster.api.kill();
        cluster.nodes[1].start(Runtime::Containerd)?;
        retry_until(SOON, "the agent to miss the API server", || {
            let status = cluster.nodes[1].status()?;
            ensure!(status["ready"] == false, "{status:#}");
            Ok(())
        })?;
        let refused = cluster.nodes[1].containerd()?.network_is_ready().err().context("it has a network")?;
        ensure!(refused.to_string().contains("cni plugin not initialized"), "{refused}");
        ensure!(!cluster.nodes[1].has_conflist(), "the configuration is there");
        cluster.api.restart()?;
        ensure!(is_tainted(cluster, "node-2")?, "the taint went before the node could serve");
        cluster.nodes[1].containerd()?.wait_for_network()?;
        retry_until(SOON, "the taint to go", || {
            ensure!(!is_tainted(cluster, "node-2")?, "it is still there");
            Ok(())
        })?;
        cluster.settle()?;
        let second = Server::start(cluster, 1, "second")?;
        all_reach_all(cluster, &[first, second])
    });
}

fn is_tainted(cluster: &Cluster, name: &str) -> Result<bool> {
    let node = cluster.api.get(&format!("/api/v1/nodes/{name}"))?;
    Ok(node["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty()))
}
