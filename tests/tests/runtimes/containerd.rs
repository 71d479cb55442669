//! containerd on a node without an agent, and what is told of its pods there.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use anyhow::{Context, Result};
use weft_testkit::lab::DETACH_QUEUE;
use weft_testkit::runtimes;

use super::node::Node;

/// A running containerd.
pub struct Containerd<'a, 'b> {
    runtime: runtimes::Containerd,
    /// Where it runs.
    pub node: &'a mut Node<'b>,
}

impl Containerd<'_, '_> {
    /// Runs a test with a containerd that knows the image.
    pub fn test(test: impl FnOnce(&mut Containerd<'_, '_>) -> Result<()>) {
        Node::test(|node| {
            let runtime = runtimes::Containerd::start(node.lab, node.cgroup.clone())?;
            runtime.wait_for_network()?;
            let mut containerd = Containerd { runtime, node };
            let outcome = test(&mut containerd);
            outcome.with_context(|| format!("containerd said\n{}", containerd.said()))
        });
    }

    /// The pods that have Ports, sorted.
    pub fn owners(&self) -> Result<Vec<String>> {
        let mut owners = Vec::new();
        for name in self.node.ports()? {
            let port = self.node.lab.get("port", name.trim_start_matches("port/"))?;
            owners.push(port["spec"]["endpoint"]["owner"].as_str().context("an owner")?.to_owned());
        }
        owners.sort();
        Ok(owners)
    }

    /// Where DEL leaves what the daemon has to do later.
    pub fn queue(&self) -> PathBuf {
        self.node.lab.path(DETACH_QUEUE)
    }
}

impl Deref for Containerd<'_, '_> {
    type Target = runtimes::Containerd;

    fn deref(&self) -> &runtimes::Containerd {
        &self.runtime
    }
}

impl DerefMut for Containerd<'_, '_> {
    fn deref_mut(&mut self) -> &mut runtimes::Containerd {
        &mut self.runtime
    }
}
