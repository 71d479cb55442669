//! Where a scenario runs: two ends, joined by Weft or by its peer. On one node they are containers; over a tunnel each is
//! on a node of its own.

mod tunnel;

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use weft_testkit::peer::open_vswitch;
use weft_testkit::topology::{FAR_B4, NEAR_B4, one_network, two_networks};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, LabOptions, Manifest, Place, kernel};

use crate::scenario::{Comparison, Fabric, Peer};
use crate::site::tunnel::Nodes;

/// Two ends that reach each other.
pub enum Site {
    /// Containers of one node.
    Containers(Box<Containers>),
    /// Ends of a tunnel.
    Nodes(Box<Nodes>),
}

/// Containers `a` and `b` of one node.
pub struct Containers {
    // Programs end before the namespaces that they are in.
    _programs: Box<dyn Any>,
    lab: Lab,
    sink_host: &'static str,
}

impl Containers {
    fn site(lab: Lab, sink_host: &'static str, programs: impl Any) -> Site {
        Site::Containers(Box::new(Containers { _programs: Box::new(programs), lab, sink_host }))
    }

    fn weft(manifest: &Manifest, sink_host: &'static str) -> Result<Site> {
        let lab = Lab::start_with(&options())?;
        lab.apply(manifest)?;
        Ok(Containers::site(lab, sink_host, ()))
    }
}

impl Site {
    /// The scenario's ends on Weft.
    pub fn weft(comparison: &Comparison) -> Result<Site> {
        let site = match comparison.fabric {
            Fabric::Network => Containers::weft(&one_network(comparison.port, comparison.port), NEAR_B4)?,
            Fabric::Router => Containers::weft(&two_networks(comparison.port, comparison.port), FAR_B4)?,
            Fabric::Tunnel(encapsulation) => {
                Site::Nodes(Box::new(Nodes::weft(encapsulation, comparison.port)?))
            }
        };
        site.reachable()
    }

    /// The scenario's ends on its peer.
    pub fn peer(comparison: &Comparison) -> Result<Site> {
        let site = match comparison.peer {
            Peer::KernelBridge => Containers::site(kernel::one_bridge()?, NEAR_B4, ()),
            Peer::Pair => Containers::site(kernel::one_pair()?, NEAR_B4, ()),
            Peer::KernelRouter => Containers::site(kernel::two_bridges()?, FAR_B4, ()),
            Peer::KernelVxlan => Site::Nodes(Box::new(Nodes::kernel_vxlan()?)),
            Peer::OpenVSwitch if comparison.fabric == Fabric::Network => {
                let (lab, switch) = open_vswitch::one_switch()?;
                Containers::site(lab, NEAR_B4, switch)
            }
            Peer::OpenVSwitch => Site::Nodes(Box::new(Nodes::open_vswitch()?)),
            Peer::WireGuard(program) => Site::Nodes(Box::new(Nodes::wireguard(&program)?)),
        };
        site.reachable()
    }

    /// Whether the program that the scenario is compared with is on this machine.
    pub fn has_peer(comparison: &Comparison) -> bool {
        match comparison.peer {
            Peer::WireGuard(program) => tunnel::find(program.file).is_ok(),
            Peer::KernelBridge | Peer::Pair | Peer::KernelRouter | Peer::KernelVxlan | Peer::OpenVSwitch => {
                true
            }
        }
    }

    /// Where traffic begins.
    pub fn source(&self) -> Place<'_> {
        match self {
            Site::Containers(node) => node.lab.container("a"),
            Site::Nodes(nodes) => nodes.end(0),
        }
    }

    /// Where traffic ends.
    pub fn sink(&self) -> Place<'_> {
        match self {
            Site::Containers(node) => node.lab.container("b"),
            Site::Nodes(nodes) => nodes.end(1),
        }
    }

    /// Where the sink is reached.
    pub fn sink_address(&self, port: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.sink_host().parse::<IpAddr>()?, port))
    }

    fn sink_host(&self) -> &str {
        match self {
            Site::Containers(node) => node.sink_host,
            Site::Nodes(nodes) => nodes.sink_host(),
        }
    }

    fn reachable(self) -> Result<Site> {
        let ping = format!("ping -n -c 1 -W 1 {}", self.sink_host());
        retry_until(Duration::from_secs(20), "the ends to reach each other", || {
            self.source().run(&ping)?.ok()
        })?;
        Ok(self)
    }
}

/// The folder of the programs that `scripts/bench-peers` gets, where there is one.
pub fn peers() -> Option<PathBuf> {
    tunnel::folder().canonicalize().ok()
}

/// Weft as it is configured by default, and without a word.
pub fn options() -> LabOptions {
    LabOptions { workers: 0, log_level: "warn".into(), ..LabOptions::default() }
}
