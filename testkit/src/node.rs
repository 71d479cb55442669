//! Labs on a [`Wire`]: nodes with a daemon each, and namespaces where another implementation is a tunnel's far end.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};

use anyhow::Result;

use crate::lab::{Lab, LabOptions};
use crate::wire::{Family, Plug, Wire};

/// A lab on a wire.
#[derive(Debug)]
pub struct Node {
    /// The lab.
    pub lab: Lab,
    /// Where it is on the wire.
    pub at: Plug,
}

impl Node {
    /// A node with a daemon that is configured so.
    pub fn start(wire: &Wire, options: &LabOptions) -> Result<Node> {
        Node::join(wire, Lab::start_with(options)?)
    }

    /// A node without a daemon, for a peer.
    pub fn bare(wire: &Wire) -> Result<Node> {
        Node::join(wire, Lab::empty()?)
    }

    /// Puts a lab on the wire.
    pub fn join(wire: &Wire, lab: Lab) -> Result<Node> {
        let at = wire.plug(&lab)?;
        Ok(Node { lab, at })
    }

    /// Its address of this family on the wire.
    pub fn address(&self, family: Family) -> IpAddr {
        self.at.address(family)
    }

    /// Runs a command line in the node's namespace and wants it to succeed.
    pub fn must(&self, line: &str) -> Result<String> {
        self.lab.node().run(line)?.ok()
    }
}

impl Deref for Node {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }
}

/// A wire and nodes with daemons on it.
#[derive(Debug)]
pub struct Nodes {
    /// The nodes, called `node 1`, `node 2` and so on in messages.
    pub nodes: Vec<Node>,
    /// What joins them.
    pub wire: Wire,
}

impl Nodes {
    /// As many nodes on this wire.
    pub fn start(wire: Wire, count: usize, options: &LabOptions) -> Result<Nodes> {
        let mut nodes = Vec::new();
        for number in 1..=count {
            let options = LabOptions { name: format!("node {number}"), ..options.clone() };
            nodes.push(Node::start(&wire, &options)?);
        }
        Ok(Nodes { nodes, wire })
    }

    /// Runs a test with as many nodes on a wire; panics with the test's error, after the daemons' logs.
    pub fn test(wire: Result<Wire>, count: usize, test: impl FnOnce(&mut Nodes) -> Result<()>) {
        let started = wire.and_then(|wire| Nodes::start(wire, count, &LabOptions::default()));
        let mut nodes = started.unwrap_or_else(|error| panic!("{error:#}"));
        if let Err(error) = test(&mut nodes) {
            panic!("{error:#}");
        }
    }
}
