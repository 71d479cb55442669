//! Pods that serve: who asks is told the pod's name, and by which address it is seen there.

use std::net::IpAddr;
use std::thread;

use anyhow::{Context, Result, ensure};
use weft_testkit::agent::{Cluster, Runtime, SOON};
use weft_testkit::runtimes::Pod;
use weft_testkit::runtimes::cri::PodSandboxConfig;
use weft_testkit::wait::retry_until;
use weft_testkit::{Place, Traffic};

/// The port of servers.
pub const PORT: u16 = 80;
/// The port of a server on a node's own network.
pub const NODE_PORT: u16 = 8099;

/// Answers with a name and the client's address.
const SERVE: &str = r#"busybox mkdir -p "$2/cgi-bin"
printf '#!/bin/sh\necho "Content-Type: text/plain"\necho\necho "%s $REMOTE_ADDR"\n' "$0" >"$2/cgi-bin/who"
busybox chmod +x "$2/cgi-bin/who"
exec busybox httpd -f -p "$1" -h "$2""#;

/// A pod that serves.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// The node where it is, from 0.
    pub node: usize,
    /// The pod.
    pub pod: Pod,
}

/// The `[tunnel]` section of the agents' configuration.
pub fn mode(name: &str) -> String {
    format!("[tunnel]\nmode = \"{name}\"\n")
}

/// Runs a test in a cluster of nodes that have a containerd and know each other.
pub fn test(count: u8, config: &str, test: impl FnOnce(&mut Cluster) -> Result<()>) {
    Cluster::test_with(Runtime::Containerd, count, config, |cluster| {
        cluster.settle()?;
        for node in &cluster.nodes {
            node.containerd()?.wait_for_network().with_context(|| node.name.clone())?;
        }
        test(cluster)
    });
}

/// The command of a server.
pub fn command<'a>(name: &'a str, port: &'a str, folder: &'a str) -> [&'a str; 6] {
    ["sh", "-c", SERVE, name, port, folder]
}

impl Server {
    /// Starts one on a node, for which containerd is told what `adjust` makes of an ordinary pod.
    pub fn start_as(
        cluster: &Cluster,
        node: usize,
        name: &str,
        adjust: impl FnOnce(&mut PodSandboxConfig),
    ) -> Result<Server> {
        let uid = cluster.declare_pod(name, node)?;
        let mut wish = cluster.nodes[node].containerd()?.wish(name);
        adjust(&mut wish);
        Server::run(cluster, node, uid, wish, PORT)
    }

    /// Starts one on a node.
    pub fn start(cluster: &Cluster, node: usize, name: &str) -> Result<Server> {
        Server::start_as(cluster, node, name, |_| ())
    }

    /// Starts one on a node, of which the API server has told before, with this UID.
    pub fn start_declared(cluster: &Cluster, node: usize, name: &str, uid: String) -> Result<Server> {
        let wish = cluster.nodes[node].containerd()?.wish(name);
        Server::run(cluster, node, uid, wish, PORT)
    }

    /// Starts one on a node's own network.
    pub fn start_on_the_node(cluster: &Cluster, node: usize, name: &str) -> Result<Server> {
        let uid = cluster.declare_pod(name, node)?;
        let wish = cluster.nodes[node].containerd()?.wish_on_the_node(name);
        Server::run(cluster, node, uid, wish, NODE_PORT)
    }

    fn run(
        cluster: &Cluster,
        node: usize,
        uid: String,
        mut wish: PodSandboxConfig,
        port: u16,
    ) -> Result<Server> {
        let metadata = wish.metadata.as_mut().context("who the pod is")?;
        metadata.uid = uid;
        let name = metadata.name.clone();
        let member = &cluster.nodes[node];
        let pod = member.containerd()?.run(wish, &command(&name, &port.to_string(), "/tmp"))?;
        let server = Server { name, node, pod };
        server.place(cluster).wait_for_listener(port)?;
        Ok(server)
    }

    /// Its network.
    pub fn place<'a>(&self, cluster: &'a Cluster) -> Place<'a> {
        cluster.nodes[self.node].place(&self.pod)
    }

    /// Traffic from here to another pod that goes on.
    pub fn talk_to(&self, cluster: &Cluster, other: &Server) -> Result<Traffic> {
        Traffic::start(&self.place(cluster), &other.place(cluster), &other.pod.addresses)
    }

    /// Its addresses, of both families.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        let addresses: Vec<IpAddr> =
            self.pod.addresses.iter().map(|address| Ok(address.parse()?)).collect::<Result<_>>()?;
        ensure!(addresses.len() == 2 && addresses[0].is_ipv4() && addresses[1].is_ipv6(), "{self:?}");
        Ok(addresses)
    }

    /// Its address of the same family as another.
    pub fn address_like(&self, other: IpAddr) -> Result<IpAddr> {
        let mut addresses = self.addresses()?.into_iter();
        addresses.find(|address| address.is_ipv4() == other.is_ipv4()).context("an address of this family")
    }

    /// Wants an answer of this pod at `address:port`, which sees the client as `seen`.
    pub fn answers(&self, client: &Place<'_>, address: IpAddr, port: u16, seen: IpAddr) -> Result<()> {
        let (name, from) = ask(client, address, port)?;
        ensure!(name == self.name, "{address}:{port} is {name}, {} expected", self.name);
        ensure!(from == seen, "{name} sees {from}, {seen} expected");
        Ok(())
    }
}

/// Asks the server at an address who it is, and whom it sees.
pub fn ask(client: &Place<'_>, address: IpAddr, port: u16) -> Result<(String, IpAddr)> {
    let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    let url = format!("http://{host}:{port}/cgi-bin/who");
    let said = client.exec(&["timeout", "15", "busybox", "wget", "-q", "-O", "-", &url])?.ok()?;
    let (name, seen) = said.trim().split_once(' ').with_context(|| format!("{url} says {said:?}"))?;
    let seen = seen.trim_matches(['[', ']']).trim_start_matches("::ffff:");
    Ok((name.to_owned(), seen.parse().with_context(|| seen.to_owned())?))
}

/// Starts a server on each of these nodes at once; they are called as they are numbered.
pub fn start_all(cluster: &Cluster, nodes: &[usize]) -> Result<Vec<Server>> {
    thread::scope(|scope| {
        let start = |(number, node): (usize, &usize)| {
            let node = *node;
            scope.spawn(move || Server::start(cluster, node, &format!("pod-{number}")))
        };
        let starts: Vec<_> = nodes.iter().enumerate().map(start).collect();
        starts.into_iter().map(|start| start.join().expect("no panic")).collect()
    })
}

/// Wants every pod to reach every other one, by ping and by TCP, with its own address.
pub fn all_reach_all(cluster: &Cluster, pods: &[Server]) -> Result<()> {
    thread::scope(|scope| {
        let starts: Vec<_> =
            pods.iter().map(|pod| scope.spawn(move || reaches_all(cluster, pod, pods))).collect();
        starts.into_iter().try_for_each(|start| start.join().expect("no panic"))
    })
}

/// Wants an answer to each of three pings. They are sent at once: as soon as one is answered, ping waits for the others no
/// longer than its pause, which a busy machine may well overrun.
pub fn pings(place: &Place<'_>, address: IpAddr) -> Result<()> {
    let output = place.run(&format!("ping -n -c 3 -l 3 -i 5 -W 5 {address}"))?;
    ensure!(output.stdout.contains("3 received"), "{address} is not reached: {output}");
    Ok(())
}

fn reaches_all(cluster: &Cluster, pod: &Server, others: &[Server]) -> Result<()> {
    let place = pod.place(cluster);
    for other in others.iter().filter(|other| other.name != pod.name) {
        for address in other.addresses()? {
            let reached = pings(&place, address)
                .and_then(|()| other.answers(&place, address, PORT, pod.address_like(address)?));
            reached.with_context(|| format!("{} to {} at {address}", pod.name, other.name))?;
        }
    }
    Ok(())
}

/// The same after a change, which takes a moment to be everywhere.
pub fn all_reach_all_soon(cluster: &Cluster, pods: &[Server]) -> Result<()> {
    retry_until(SOON, "all pods to reach each other", || all_reach_all(cluster, pods))
}
