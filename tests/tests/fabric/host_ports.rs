//! Ports of a node that lead to a pod there (`hostPort`).

use anyhow::{Context, Result, ensure};
use weft_testkit::agent::Cluster;
use weft_testkit::runtimes::cri::PortMapping;
use weft_testkit::{Family, Node, Place};

use super::server::{self, PORT, Server, mode};

const HOST_PORT: u16 = 8080;

fn with_a_host_port(cluster: &Cluster, node: usize, name: &str) -> Result<Server> {
    Server::start_as(cluster, node, name, |wish| {
        let (container_port, host_port) = (PORT.into(), HOST_PORT.into());
        wish.port_mappings.push(PortMapping { container_port, host_port, ..Default::default() });
    })
}

/// Who asks for the port, and by what name it is told.
fn clients<'a>(cluster: &'a Cluster, outside: &'a Node, pods: &[Server]) -> Vec<(String, Place<'a>)> {
    let nodes = cluster.nodes.iter().map(|node| (node.name.clone(), node.node.node()));
    let pods = pods.iter().map(|pod| (pod.name.clone(), pod.place(cluster)));
    nodes.chain(pods).chain([("the outside".to_owned(), outside.lab.node())]).collect()
}

#[test]
fn a_port_of_a_node_leads_to_its_pod_from_everywhere_until_that_is_gone() {
    server::test(3, &mode("wireguard"), |cluster| {
        let outside = Node::bare(&cluster.wire)?;
        let others = server::start_all(cluster, &[0, 1])?;
        for name in ["first", "second"] {
            let pod = with_a_host_port(cluster, 0, name)?;
            for (client, place) in clients(cluster, &outside, &others) {
                for family in Family::BOTH {
                    let address = cluster.nodes[0].node.address(family);
                    let (answered, _) = server::ask(&place, address, HOST_PORT)
                        .with_context(|| format!("{client} to {address}"))?;
                    ensure!(answered == name, "{address} is {answered}");
                }
            }
            let loopback = server::ask(&cluster.nodes[0].node.node(), "127.0.0.1".parse()?, HOST_PORT)?;
            ensure!(loopback.0 == name, "127.0.0.1 is {}", loopback.0);
            cluster.nodes[0].containerd()?.remove(&pod.pod.sandbox)?;
            is_closed(cluster, &clients(cluster, &outside, &others))?;
        }
        Ok(())
    });
}

/// At once: nothing leads there any more when the runtime has taken the pod away.
fn is_closed(cluster: &Cluster, clients: &[(String, Place<'_>)]) -> Result<()> {
    for (client, place) in clients {
        for family in Family::BOTH {
            let address = cluster.nodes[0].node.address(family);
            let connect = format!("</dev/tcp/{address}/{HOST_PORT}");
            let refused = place.exec(&["timeout", "2", "bash", "-c", &connect])?;
            ensure!(refused.stderr.contains("refused"), "{client} is not refused: {refused}");
        }
    }
    Ok(())
}

#[test]
fn the_same_port_of_two_nodes_leads_to_two_pods_and_on_one_node_to_one() {
    server::test(2, &mode("vxlan"), |cluster| {
        let outside = Node::bare(&cluster.wire)?;
        let pods = [with_a_host_port(cluster, 0, "one")?, with_a_host_port(cluster, 1, "two")?];
        let third = with_a_host_port(cluster, 1, "three");
        let refused = third.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains("the node's port 8080/tcp is taken by Port/"), "{refused:?}");
        for pod in &pods {
            for family in Family::BOTH {
                let address = cluster.nodes[pod.node].node.address(family);
                let (name, _) = server::ask(&outside.lab.node(), address, HOST_PORT)?;
                ensure!(name == pod.name, "{address} is {name}");
            }
        }
        Ok(())
    });
}
