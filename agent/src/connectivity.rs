//! Whether pods, nodes and the outside reach each other, tried from this node when somebody asks.
//!
//! [`pod`] is a thread in the namespace of this node's probe, which answers other nodes at any time; [`mod@target`] is what
//! is tried towards one node; [`finding`] what is found. One run at a time, some nodes at a time, each try bounded.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, stream};
use ipnet::IpNet;
use tokio::sync::{Semaphore, watch};

use crate::mesh::{PROBE, probe_address};
use crate::status::Status;

pub mod dns;
pub mod echo;
pub mod finding;
pub mod name_server;
pub mod pod;
pub mod query;
pub mod target;

use echo::Heard;
use finding::{Attempt, Check, Finding, Report};
use name_server::NameServer;
use pod::Pod;
pub use query::Query;
use target::{Target, Terms};

/// Where the daemon makes namespaces.
const NAMESPACES: &str = "/run/netns";
/// Nodes that are tried unless all are wanted.
const SAMPLE: usize = 20;
/// Nodes that are tried at a time.
const AT_A_TIME: usize = 16;

/// Why nothing was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One run at a time.
    #[error("somebody else is trying just now: try again")]
    Busy,
    /// A node that is not known.
    #[error("nodes: there is no other node {0}")]
    NoNode(String),
}

/// Who tries.
#[derive(Debug, Clone)]
pub struct Surveyor {
    pod: Pod,
    status: watch::Receiver<Status>,
    /// What is tried as outside when nothing else is named.
    outside: Option<String>,
    /// Who knows the name server when none is named.
    name_server: NameServer,
    turn: Arc<Semaphore>,
}

impl Surveyor {
    /// Starts to answer other nodes. Without a query's `outside` and `dns`, these are tried.
    pub fn start(
        status: watch::Receiver<Status>,
        outside: Option<String>,
        name_server: NameServer,
    ) -> io::Result<Surveyor> {
        let pod = Pod::start(Path::new(NAMESPACES).join(PROBE))?;
        Ok(Surveyor { pod, status, outside, name_server, turn: Arc::new(Semaphore::new(1)) })
    }

    /// Tries all that the query asks for.
    pub async fn survey(&self, query: &Query) -> Result<Report, Refused> {
        let _turn = self.turn.try_acquire().map_err(|_| Refused::Busy)?;
        let status = self.status.borrow().clone();
        let pods: &[IpNet] = status.record.as_ref().map_or(&[], |record| &record.pods);
        let families = Families::of(pods);
        let terms =
            Terms { from: status.node.clone(), mode: status.mode, mtu: status.mtu, timeout: query.timeout };
        let chosen = choose(&status, query)?;
        let mut findings = Vec::new();
        if let Some(missing) = self.missing(&status).await {
            findings.push(Attempt::new(&terms.from, Check::Probe, &terms.from, None).end(Err(missing)));
        }
        let own =
            status.record.as_ref().map(|record| target(&terms.from, &record.addresses, pods, families, true));
        let mut targets: Vec<Target> = own.into_iter().collect();
        for name in &chosen {
            let Some(peer) = status.nodes.get(name) else { continue };
            if peer.refused.is_empty() {
                targets.push(target(name, &peer.addresses, &peer.pods, families, false));
            } else {
                let attempt = Attempt::new(&terms.from, Check::Mesh, name, None);
                findings.push(attempt.end(Err(format!("not reached: {}", peer.refused))));
            }
        }
        let tries = stream::iter(targets).map(|target| self.try_node(target, &terms));
        findings.extend(tries.buffered(AT_A_TIME).collect::<Vec<_>>().await.into_iter().flatten());
        findings.extend(self.try_outside(query, &terms, families).await);
        findings.extend(self.try_dns(query, &terms, families).await);
        let (node, mtu) = (terms.from, terms.mtu);
        Ok(Report { node, mtu, known: status.nodes.len(), tried: chosen.len(), findings })
    }

    /// Why nothing can be tried from a pod.
    async fn missing(&self, status: &Status) -> Option<String> {
        match self.pod.wait().await {
            Err(why) if status.ready => Some(why),
            Err(_) => Some(format!("this node is not ready: {}", status.message)),
            Ok(()) => None,
        }
    }

    async fn try_node(&self, target: Target, terms: &Terms) -> Vec<Finding> {
        // What is missing was told once.
        let mut findings = self.pod.run(target.clone().from_pod(terms.clone())).await.unwrap_or_default();
        findings.extend(target.from_node(terms).await);
        findings
    }

    async fn try_outside(&self, query: &Query, terms: &Terms, families: Families) -> Vec<Finding> {
        let Some(outside) = query.outside.as_ref().or(self.outside.as_ref()) else { return Vec::new() };
        let attempt = |address| Attempt::new(&terms.from, Check::PodToOutside, outside, address);
        // The node asks for the name: whether pods can is another check.
        let found = tokio::time::timeout(query.timeout, tokio::net::lookup_host(outside)).await;
        let found: Vec<SocketAddr> = match found {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => {
                return vec![attempt(None).end(Err(format!("the node cannot resolve it: {error}")))];
            }
            Err(_) => return vec![attempt(None).end(Err("the node cannot resolve it in time".into()))],
        };
        let first = |v4: bool| found.iter().find(|it| it.is_ipv4() == v4 && families.has(it.ip())).copied();
        let mut findings = Vec::new();
        for to in [first(true), first(false)].into_iter().flatten() {
            let attempt = attempt(Some(to.ip()));
            let timeout = query.timeout;
            let Ok(heard) = self.pod.run(async move { echo::connect(to, timeout).await }).await else {
                continue;
            };
            findings.push(attempt.end(match heard {
                Ok(Heard::Answer) => Ok(String::new()),
                Ok(Heard::Refusal) => Ok("reached, and refused to connect".into()),
                Err(why) => Err(format!(
                    "{why}; see whether the node itself reaches it, addresses.masquerade, and forwarding of the node"
                )),
            }));
        }
        if found.iter().all(|it| !families.has(it.ip())) {
            findings.push(attempt(None).end(Err("it has no address of a family that pods have".into())));
        }
        findings
    }

    async fn try_dns(&self, query: &Query, terms: &Terms, families: Families) -> Vec<Finding> {
        let attempt = |server| Attempt::new(&terms.from, Check::Dns, &query.name, server);
        let servers = match query.dns {
            Some(server) => vec![server],
            None => match self.name_server.addresses().await {
                Ok(found) => found.into_iter().filter(|address| families.has(*address)).collect(),
                Err(why) => {
                    return vec![attempt(None).end(Err(format!("{why}; name a server (connectivity.dns)")))];
                }
            },
        };
        let mut findings = Vec::new();
        for server in servers {
            let attempt = attempt(Some(server));
            let (name, timeout) = (query.name.clone(), query.timeout);
            let Ok(asked) = self.pod.run(async move { dns::ask(server, &name, timeout).await }).await else {
                continue;
            };
            let hint = "see whether the name server's pods run and pods reach their nodes";
            findings.push(attempt.end(asked.map(|()| String::new()).map_err(|why| format!("{why}; {hint}"))));
        }
        findings
    }
}

/// Versions of IP that this node's pods have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    fn of(pods: &[IpNet]) -> Families {
        let has = |v4| pods.iter().any(|prefix| prefix.addr().is_ipv4() == v4);
        Families { v4: has(true), v6: has(false) }
    }

    fn has(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }
}

fn target(node: &str, addresses: &[IpAddr], pods: &[IpNet], families: Families, own: bool) -> Target {
    let probes = pods.iter().filter_map(|prefix| probe_address(*prefix));
    Target {
        node: node.to_owned(),
        probes: probes.filter(|probe| families.has(*probe)).collect(),
        addresses: addresses.iter().copied().filter(|address| families.has(*address)).collect(),
        own,
    }
}

/// The other nodes that things are tried towards, sorted by name.
fn choose(status: &Status, query: &Query) -> Result<Vec<String>, Refused> {
    if !query.nodes.is_empty() {
        let unknown = query.nodes.iter().find(|name| !status.nodes.contains_key(*name));
        return unknown.map_or_else(|| Ok(query.nodes.clone()), |name| Err(Refused::NoNode(name.clone())));
    }
    let mut names: Vec<String> = status.nodes.keys().cloned().collect();
    if !query.all && names.len() > SAMPLE {
        // Others each time, so that asking again sees more.
        let order = RandomState::new();
        names.sort_by_cached_key(|name| order.hash_one(name));
        names.truncate(SAMPLE);
        names.sort();
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;
    use crate::status::Peer;

    fn status(count: usize) -> Status {
        let mut status = Status::new("one", Mode::Wireguard);
        for number in 0..count {
            let peer = Peer { addresses: Vec::new(), pods: Vec::new(), refused: String::new() };
            status.nodes.insert(format!("n{number:04}"), peer);
        }
        status
    }

    #[test]
    fn of_many_nodes_some_are_tried_unless_all_are_wanted() {
        let chosen = |query: &Query| choose(&status(100), query);
        let some = chosen(&Query::default()).unwrap();
        assert_eq!(some.len(), SAMPLE);
        assert!(some.is_sorted());
        assert_eq!(chosen(&Query { all: true, ..Query::default() }).unwrap().len(), 100);
        let named = Query { nodes: vec!["n0042".into()], ..Query::default() };
        assert_eq!(chosen(&named).unwrap(), ["n0042"]);
        let unknown = Query { nodes: vec!["x".into()], ..Query::default() };
        assert_eq!(chosen(&unknown), Err(Refused::NoNode("x".into())));
    }

    #[test]
    fn only_families_that_pods_here_have_are_tried() {
        let pods: Vec<IpNet> = ["198.18.2.0/24", "2001:db8:2::/64"].map(|it| it.parse().unwrap()).into();
        let addresses: Vec<IpAddr> = ["192.0.2.2", "2001:db8::2"].map(|it| it.parse().unwrap()).into();
        let v4 = target("two", &addresses, &pods, Families { v4: true, v6: false }, false);
        assert_eq!(v4.probes, ["198.18.2.3".parse::<IpAddr>().unwrap()]);
        assert_eq!(v4.addresses, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
        let both = target("two", &addresses, &pods, Families::of(&pods), false);
        assert_eq!((both.probes.len(), both.addresses.len()), (2, 2));
    }
}
