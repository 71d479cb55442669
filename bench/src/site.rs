//! Where a scenario runs: two ends, joined by Weft or by its peer. On one node they are containers; over a tunnel each is
//! on a node of its own.

mod tunnel;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use weft_testkit::topology::{NEAR_B4, one_network};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, LabOptions, Place, kernel};

use crate::scenario::{Comparison, Fabric, Peer};
use crate::site::tunnel::Nodes;

/// Two ends that reach each other.
pub enum Site {
    /// Containers `a` and `b` of one node.
    Containers(Box<Lab>),
    /// Ends of a tunnel.
    Nodes(Box<Nodes>),
}

impl Site {
    /// The scenario's ends on Weft.
    pub fn weft(comparison: &Comparison) -> Result<Site> {
        let site = match comparison.fabric {
            Fabric::Network => {
                let lab = Lab::start_with(&options())?;
                lab.apply(&one_network(comparison.port, comparison.port))?;
                Site::Containers(Box::new(lab))
            }
            Fabric::Tunnel(encapsulation) => {
                Site::Nodes(Box::new(Nodes::weft(encapsulation, comparison.port)?))
            }
        };
        site.reachable()
    }

    /// The scenario's ends on its peer.
    pub fn peer(comparison: &Comparison) -> Result<Site> {
        let site = match comparison.peer {
            Peer::KernelBridge => Site::Containers(Box::new(kernel::one_bridge()?)),
            Peer::KernelVxlan => Site::Nodes(Box::new(Nodes::kernel_vxlan()?)),
            Peer::OpenVSwitch => Site::Nodes(Box::new(Nodes::open_vswitch()?)),
            Peer::WireGuard(program) => Site::Nodes(Box::new(Nodes::wireguard(&program)?)),
        };
        site.reachable()
    }

    /// Whether the program that the scenario is compared with is on this machine.
    pub fn has_peer(comparison: &Comparison) -> bool {
        match comparison.peer {
            Peer::WireGuard(program) => tunnel::find(program.file).is_ok(),
            Peer::KernelBridge | Peer::KernelVxlan | Peer::OpenVSwitch => true,
        }
    }

    /// Where traffic begins.
    pub fn source(&self) -> Place<'_> {
        match self {
            Site::Containers(lab) => lab.container("a"),
            Site::Nodes(nodes) => nodes.end(0),
        }
    }

    /// Where traffic ends.
    pub fn sink(&self) -> Place<'_> {
        match self {
            Site::Containers(lab) => lab.container("b"),
            Site::Nodes(nodes) => nodes.end(1),
        }
    }

    /// Where the sink is reached.
    pub fn sink_address(&self, port: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.sink_host().parse::<IpAddr>()?, port))
    }

    fn sink_host(&self) -> &str {
        match self {
            Site::Containers(_) => NEAR_B4,
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

/// Weft as it is configured by default, and without a word.
fn options() -> LabOptions {
    LabOptions { workers: 0, log_level: "warn".into(), ..LabOptions::default() }
}
