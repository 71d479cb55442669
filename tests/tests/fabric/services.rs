//! Services as kube-proxy makes them: rules of the node's kernel that lead an address of the cluster, or a port of every
//! node, to a pod on some node. Weft does nothing for them but to let pods' packets pass there and back.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use weft_testkit::agent::Cluster;
use weft_testkit::{Family, Node, Place};

use super::server::{self, PORT, Server, mode, start_all};

/// The address of the Service, and its port on every node.
const CLUSTER_IP: [&str; 2] = ["198.19.255.1", "2001:db8:ff00::1"];
const SERVICE_PORT: u16 = 8000;
const NODE_PORT: u16 = 30_080;
/// Where all pods are.
const PODS: [&str; 2] = ["198.18.0.0/16", "2001:db8::/44"];

/// The rules of kube-proxy's nftables mode for a Service with two endpoints, which it takes in turn here and at random
/// there. `{tag}` is `ip` or `ip6`, `{type}` the type of an address.
const RULES: &str = "
table {tag} kube-proxy {
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
  chain endpoint-0 { {tag} saddr {first} jump mark-for-masquerade; meta l4proto tcp dnat to {first_at}; }
  chain endpoint-1 { {tag} saddr {second} jump mark-for-masquerade; meta l4proto tcp dnat to {second_at}; }
  chain service {
    {tag} daddr {service} tcp dport {port} {tag} saddr != {pods} jump mark-for-masquerade
    numgen inc mod 2 vmap { 0 : goto endpoint-0, 1 : goto endpoint-1 }
  }
  chain external { jump mark-for-masquerade; goto service; }
  map service-ips {
    type {type} . inet_proto . inet_service : verdict
    elements = { {service} . tcp . {port} : goto service }
  }
  map service-nodeports {
    type inet_proto . inet_service : verdict
    elements = { tcp . {node_port} : goto external }
  }
  chain services {
    {tag} daddr . meta l4proto . th dport vmap @service-ips
    {tag} daddr {node} meta l4proto . th dport vmap @service-nodeports
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
}";

/// What kube-proxy writes on a node.
fn rules(node: &Node, family: Family, endpoints: [&Server; 2]) -> Result<String> {
    let index = usize::from(family == Family::V6);
    let [first, second] = endpoints.map(|server| &server.pod.addresses[index]);
    let at = |address: &str| match family {
        Family::V4 => format!("{address}:{PORT}"),
        Family::V6 => format!("[{address}]:{PORT}"),
    };
    let (tag, kind) = if family == Family::V4 { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
    let values = [
        ("{tag}", tag),
        ("{type}", kind),
        ("{first}", first),
        ("{second}", second),
        ("{first_at}", &at(first)),
        ("{second_at}", &at(second)),
        ("{service}", CLUSTER_IP[index]),
        ("{pods}", PODS[index]),
        ("{port}", &SERVICE_PORT.to_string()),
        ("{node_port}", &NODE_PORT.to_string()),
        ("{node}", &node.address(family).to_string()),
    ];
    Ok(values.iter().fold(RULES.to_owned(), |text, (name, value)| text.replace(name, value)))
}

/// Writes the rules of a Service to all nodes.
fn proxy(cluster: &Cluster, endpoints: [&Server; 2]) -> Result<()> {
    for node in &cluster.nodes {
        for family in Family::BOTH {
            let rules = rules(&node.node, family, endpoints)?;
            let command = ["nft", "-f", "-"];
            node.node.node().spawn_with_input(&command, Some(&rules))?.wait()?.ok()?;
        }
    }
    Ok(())
}

/// Asks twice, and wants an answer of each endpoint; gives whom they see.
fn both_answer(
    client: &Place<'_>,
    address: IpAddr,
    port: u16,
    endpoints: [&Server; 2],
) -> Result<BTreeSet<IpAddr>> {
    let answers = [server::ask(client, address, port)?, server::ask(client, address, port)?];
    let names: BTreeSet<&str> = answers.iter().map(|(name, _)| name.as_str()).collect();
    let expected = endpoints.map(|server| server.name.as_str()).into_iter().collect();
    ensure!(names == expected, "{names:?} answered, {expected:?} expected");
    Ok(answers.into_iter().map(|(_, seen)| seen).collect())
}

fn services_work(mode_name: &str) {
    server::test(3, &mode(mode_name), |cluster| {
        let outside = Node::bare(&cluster.wire)?;
        let pods = start_all(cluster, &[0, 1, 0, 2])?;
        let endpoints = [&pods[0], &pods[1]];
        proxy(cluster, endpoints)?;
        pods_are_led(cluster, &pods, endpoints)?;
        nodes_are_led(cluster, &outside, endpoints)?;
        node_ports_lead(cluster, &outside, &pods[3], endpoints)
    });
}

/// Endpoints see the client, or its node's Port: a connection that the node's kernel has turned around has to come back
/// by it.
fn pods_are_led(cluster: &Cluster, pods: &[Server], endpoints: [&Server; 2]) -> Result<()> {
    for address in CLUSTER_IP {
        let address: IpAddr = address.parse()?;
        for pod in pods {
            let seen = both_answer(&pod.place(cluster), address, SERVICE_PORT, endpoints)
                .with_context(|| format!("{} to the Service at {address}", pod.name))?;
            let number = pod.node + 1;
            let port: IpAddr = match address {
                IpAddr::V4(_) => format!("198.18.{number}.2").parse()?,
                IpAddr::V6(_) => format!("2001:db8:{number}::2").parse()?,
            };
            let own = pod.address_like(address)?;
            ensure!(seen.iter().all(|it| *it == own || *it == port), "{seen:?}, {own} or {port} expected");
        }
    }
    Ok(())
}

/// A node asks by its output, for which it needs a way to the Service's address: usually by its default route.
fn nodes_are_led(cluster: &Cluster, outside: &Node, endpoints: [&Server; 2]) -> Result<()> {
    for node in &cluster.nodes {
        for (family, address) in Family::BOTH.into_iter().zip(CLUSTER_IP) {
            node.node.must(&format!("ip route add default via {}", outside.address(family)))?;
            both_answer(&node.node.node(), address.parse()?, SERVICE_PORT, endpoints)
                .with_context(|| format!("{} to the Service at {address}", node.name))?;
        }
    }
    Ok(())
}

fn node_ports_lead(cluster: &Cluster, outside: &Node, pod: &Server, endpoints: [&Server; 2]) -> Result<()> {
    for node in &cluster.nodes {
        for family in Family::BOTH {
            let address = node.node.address(family);
            for (client, place) in [("the outside", outside.lab.node()), (&pod.name, pod.place(cluster))] {
                both_answer(&place, address, NODE_PORT, endpoints)
                    .with_context(|| format!("{client} to {} at {address}", node.name))?;
            }
        }
    }
    Ok(())
}

#[test]
fn services_lead_pods_to_pods_of_any_node_over_wireguard() {
    services_work("wireguard");
}

#[test]
fn services_lead_pods_to_pods_of_any_node_over_plain_routes() {
    services_work("routes");
}
