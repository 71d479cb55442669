//! What was found: one line for each thing that was tried.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Whether this node has a probe at all.
    Probe,
    /// Whether a node is one that this one exchanges packets with.
    Mesh,
    /// From a pod here to one there, by datagrams and by a stream.
    PodToPod,
    /// Whether the largest packet of a pod comes there and back.
    Mtu,
    /// From a pod here to a node.
    PodToNode,
    /// From this node to a pod.
    NodeToPod,
    /// From a pod here to what is outside of the cluster.
    PodToOutside,
    /// From a pod here to the name server.
    Dns,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The node that tried it.
    pub from: String,
    /// What was tried.
    pub check: Check,
    /// The node, or what else was to be reached.
    pub to: String,
    /// The address of that; none where it has none.
    pub address: Option<IpAddr>,
    /// "ipv4" or "ipv6"; empty where there is no address.
    pub family: &'static str,
    /// It works.
    pub ok: bool,
    /// How long it took.
    pub milliseconds: u64,
    /// What there is to say, and where to look if it does not work.
    pub detail: String,
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// This node.
    pub node: String,
    /// Octets of the largest packet of a pod.
    pub mtu: u32,
    /// How many other nodes are known.
    pub known: usize,
    /// To how many of them things were tried.
    pub tried: usize,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Something that is tried, before its end.
#[derive(Debug, Clone)]
pub struct Attempt {
    from: String,
    check: Check,
    to: String,
    address: Option<IpAddr>,
    begun: Instant,
}

impl Attempt {
    /// Begins now.
    pub fn new(from: &str, check: Check, to: &str, address: Option<IpAddr>) -> Attempt {
        Attempt { from: from.to_owned(), check, to: to.to_owned(), address, begun: Instant::now() }
    }

    /// Ends now: with what there is to say, or why it does not work.
    pub fn end(self, outcome: Result<String, String>) -> Finding {
        let took: Duration = self.begun.elapsed();
        let family = self.address.map_or("", |it| if it.is_ipv4() { "ipv4" } else { "ipv6" });
        Finding {
            from: self.from,
            check: self.check,
            to: self.to,
            address: self.address,
            family,
            ok: outcome.is_ok(),
            milliseconds: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            detail: outcome.unwrap_or_else(|why| why),
        }
    }
}
