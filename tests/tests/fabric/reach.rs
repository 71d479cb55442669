//! Who reaches whom, over whatever joins the nodes, in both families: pods, nodes, pods on a node's network, and what is
//! outside of the cluster.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use weft_testkit::agent::Cluster;
use weft_testkit::{Family, Node};

use super::server::{self, NODE_PORT, PORT, Server, all_reach_all, mode, start_all};

/// The nodes of four pods.
const NODES: [usize; 4] = [0, 1, 2, 0];

fn carries_everything(mode_name: &str) {
    server::test(3, &mode(mode_name), |cluster| {
        let outside = Node::bare(&cluster.wire)?;
        let pods = start_all(cluster, &NODES)?;
        all_reach_all(cluster, &pods)?;
        let by_the_runtime = cluster.nodes[0].containerd()?;
        by_the_runtime.pings(&pods[0].pod, &pods[2].pod.addresses)?;
        probes_reach(cluster, &pods)?;
        pods_on_nodes_networks_are_as_the_nodes(cluster, &pods)?;
        the_outside_sees_the_node(cluster, &pods, &outside)
    });
}

/// As the kubelet asks whether a pod is ready; other nodes' pods answer, too.
fn probes_reach(cluster: &Cluster, pods: &[Server]) -> Result<()> {
    for node in &cluster.nodes {
        for pod in pods {
            for address in pod.addresses()? {
                let (name, _) = server::ask(&node.node.node(), address, PORT)
                    .with_context(|| format!("{} to {address}", node.name))?;
                ensure!(name == pod.name, "{address} is {name}");
            }
        }
    }
    Ok(())
}

fn pods_on_nodes_networks_are_as_the_nodes(cluster: &Cluster, pods: &[Server]) -> Result<()> {
    let host = Server::start_on_the_node(cluster, 1, "on-the-node")?;
    ensure!(host.pod.netns.is_empty() && host.pod.addresses.is_empty(), "{host:?}");
    for pod in pods {
        let addresses: Vec<String> = pod.pod.addresses.clone();
        cluster.nodes[1].containerd()?.pings(&host.pod, &addresses)?;
        for family in Family::BOTH {
            let address = cluster.nodes[1].node.address(family);
            let place = pod.place(cluster);
            server::pings(&place, address)?;
            let (name, _) = server::ask(&place, address, NODE_PORT)
                .with_context(|| format!("{} to the node at {address}", pod.name))?;
            ensure!(name == host.name, "{address} is {name}");
        }
    }
    Ok(())
}

/// What is outside knows no pods: it has only the nodes to answer to.
fn the_outside_sees_the_node(cluster: &Cluster, pods: &[Server], outside: &Node) -> Result<()> {
    let port = PORT.to_string();
    let _server =
        outside.lab.node().spawn_with_input(&server::command("outside", &port, "/run/lab/www"), None)?;
    outside.lab.node().wait_for_listener(PORT)?;
    for pod in pods {
        for family in Family::BOTH {
            let (place, address) = (pod.place(cluster), outside.address(family));
            server::pings(&place, address)?;
            let (_, seen) =
                server::ask(&place, address, PORT).with_context(|| format!("{} to {address}", pod.name))?;
            let node: IpAddr = cluster.nodes[pod.node].node.address(family);
            ensure!(seen == node, "the outside sees {seen}, {node} expected");
        }
    }
    Ok(())
}

#[test]
fn everything_reaches_everything_over_wireguard() {
    carries_everything("wireguard");
}

#[test]
fn everything_reaches_everything_over_vxlan() {
    carries_everything("vxlan");
}

#[test]
fn everything_reaches_everything_over_plain_routes() {
    carries_everything("routes");
}
