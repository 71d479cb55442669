//! Weft on a node: the daemon as it is configured by default, and what is asked of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::Lab;
use weft_testkit::wait::retry_until;

use super::containers::{Containers, Namespaces};
use super::{PATIENCE, memory};
use crate::site::options;

/// A node with a running daemon.
pub struct Node {
    lab: Lab,
    containers: Containers,
}

impl Node {
    /// A daemon without any object, and containers beside it.
    pub fn start(namespaces: &Namespaces) -> Result<Node> {
        let lab = Lab::start_with(&options())?;
        namespaces.lend(&lab)?;
        Ok(Node { lab, containers: *namespaces.containers() })
    }

    /// Where it runs.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Memory of the daemon, in KiB.
    pub fn resident(&self) -> Result<f64> {
        memory::resident(&[self.lab.daemon_pid()?])
    }

    /// Applies one manifest; how long `weft apply` takes, which ends when all of it is ready.
    pub fn apply(&self) -> Result<Duration> {
        let manifest = self.containers.manifest();
        let start = Instant::now();
        self.lab.apply(&manifest)?;
        Ok(start.elapsed())
    }

    /// Kills the daemon and starts it anew; how long it takes until a ping crosses and all Ports are ready.
    pub fn restart(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.lab.kill_daemon();
        self.lab.launch_daemon()?;
        self.containers.cross(&self.lab)?;
        retry_until(PATIENCE, "all Ports to be ready", || self.all_ready())?;
        Ok(start.elapsed())
    }

    fn all_ready(&self) -> Result<()> {
        let text = self.lab.weft(&["status", "-o", "json"])?.ok()?;
        let ready = ready_ports(&serde_json::from_str(&text)?).context("no count of Ports")?;
        ensure!(ready == u64::from(self.containers.count), "{ready} Ports are ready");
        Ok(())
    }
}

/// How many Ports are ready, by `weft status`.
fn ready_ports(status: &Value) -> Option<u64> {
    let kinds = status["kinds"].as_array()?;
    let ports = kinds.iter().find(|kind| kind["kind"] == "Port")?;
    Some(ports["ready"].as_u64().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weft_testkit::PortKind;

    use super::*;

    #[test]
    fn ports_come_back_after_the_daemon_was_killed() {
        let containers = Containers { count: 3, kind: PortKind::Tap };
        let mut node = Node::start(&Namespaces::make(containers).unwrap()).unwrap();
        node.apply().unwrap();
        containers.introduce(node.lab()).unwrap();
        let before = node.lab.daemon_pid().unwrap();
        node.restart().unwrap();
        assert_ne!(before, node.lab.daemon_pid().unwrap());
        node.all_ready().unwrap();
    }

    #[test]
    fn a_status_without_ports_has_no_count() {
        assert_eq!(ready_ports(&json!({ "kinds": [{ "kind": "Router", "ready": 1 }] })), None);
    }
}
