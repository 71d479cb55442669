//! What the agent says of the cluster, where one runs on this node.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::agent;
use crate::error::Error;
use crate::output::Output;
use crate::table::{Tone, toned};

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Nodes that are not reached and told of by name.
const NAMED: usize = 10;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    node: String,
    mode: String,
    ready: bool,
    reason: String,
    message: String,
    cluster_answers: bool,
    mtu: u32,
    nodes: BTreeMap<String, Peer>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    #[serde(default)]
    refused: String,
}

/// The agent's answer; none: there is no agent.
pub fn ask(address: &str) -> Option<Value> {
    let text = agent::get(address, "/status", PATIENCE).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    // Something else may answer there.
    Cluster::deserialize(&value).is_ok().then_some(value)
}

/// Prints what it says.
pub fn print(value: &Value, output: &mut Output) -> Result<(), Error> {
    let cluster = Cluster::deserialize(value)?;
    let tone = if cluster.ready { Tone::Good } else { Tone::Bad };
    let ready = toned(output.colour, tone, if cluster.ready { "ready" } else { "not ready" });
    writeln!(
        output,
        "cluster: node {}, {}, {ready} ({}: {})",
        cluster.node, cluster.mode, cluster.reason, cluster.message
    )?;
    let keeper = match cluster.cluster_answers {
        true => "answers".to_owned(),
        false => toned(output.colour, Tone::Bad, "does not answer; what was known stays in force"),
    };
    let refused: Vec<_> = cluster.nodes.iter().filter(|(_, peer)| !peer.refused.is_empty()).collect();
    writeln!(
        output,
        "other nodes: {}, not reached: {}, pods' MTU: {}, API server: {keeper}",
        cluster.nodes.len(),
        refused.len(),
        cluster.mtu,
    )?;
    for (name, peer) in refused.iter().take(NAMED) {
        writeln!(output, "  {} {name}: {}", toned(output.colour, Tone::Bad, "not reached:"), peer.refused)?;
    }
    if refused.len() > NAMED {
        writeln!(output, "  and {} more; -o json has all", refused.len() - NAMED)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::tests::captured;

    #[test]
    fn the_cluster_takes_two_lines_and_one_for_each_node_that_is_not_reached() {
        let value = json!({
            "node": "one", "mode": "wireguard", "ready": true, "reason": "Serving",
            "message": "pods on this node have a network", "clusterAnswers": false, "mtu": 1420,
            "nodes": {"two": {"addresses": [], "pods": []}, "x": {"refused": "it has no prefix for pods"}},
        });
        assert_eq!(
            captured(false, |output| print(&value, output)),
            "cluster: node one, wireguard, ready (Serving: pods on this node have a network)\n\
             other nodes: 2, not reached: 1, pods' MTU: 1420, API server: does not answer; what was known stays in force\n\
             \x20 not reached: x: it has no prefix for pods\n"
        );
    }
}
