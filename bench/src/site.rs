//! Where a scenario runs: containers `a` and `b`, joined by Weft or by its peer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use weft_testkit::topology::{NEAR_B4, one_network};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, LabOptions, Place, kernel};

use crate::scenario::{Comparison, Peer};

/// A lab whose two containers reach each other.
pub struct Site {
    lab: Lab,
}

impl Site {
    /// The scenario's containers on a Network of Weft.
    pub fn weft(comparison: &Comparison) -> Result<Site> {
        let options = LabOptions { workers: 0, log_level: "warn".into(), ..LabOptions::default() };
        let lab = Lab::start_with(&options)?;
        lab.apply(&one_network(comparison.port, comparison.port))?;
        Site { lab }.reachable()
    }

    /// The scenario's containers on its peer.
    pub fn peer(comparison: &Comparison) -> Result<Site> {
        let lab = match comparison.peer {
            Peer::KernelBridge => kernel::one_bridge()?,
        };
        Site { lab }.reachable()
    }

    /// The container where traffic begins.
    pub fn source(&self) -> Place<'_> {
        self.lab.container("a")
    }

    /// The container where traffic ends.
    pub fn sink(&self) -> Place<'_> {
        self.lab.container("b")
    }

    /// Where the sink is reached.
    pub fn sink_address(&self, port: u16) -> Result<SocketAddr> {
        Ok(SocketAddr::new(NEAR_B4.parse::<IpAddr>()?, port))
    }

    fn reachable(self) -> Result<Site> {
        retry_until(Duration::from_secs(10), "the containers to reach each other", || {
            self.source().run(&format!("ping -n -c 1 -W 1 {NEAR_B4}"))?.ok()
        })?;
        Ok(self)
    }
}
