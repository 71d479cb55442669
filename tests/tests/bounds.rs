//! Tables have bounds, and a full one keeps forwarding.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_testkit::frame::{self, BROADCAST};
use weft_testkit::topology::{self, A4, FAR_B4, NEAR_B4, NEAR_B6};
use weft_testkit::{Lab, PortKind, raw};

#[test]
fn a_full_fdb_keeps_forwarding() {
    Lab::test(|lab| {
        let manifest = topology::one_network(PortKind::Tap, PortKind::Veth)
            .with("Network", "front", "maxMacs", json!(16))
            .with("Port", "a", "sourceCheck", json!(false));
        lab.apply(&manifest)?;
        let stations = (0..1000u16).map(|n| {
            let [high, low] = n.to_be_bytes();
            frame::ethernet(BROADCAST, [2, 0, 0, 1, high, low], 0x88b5, &[0; 46])
        });
        raw::send(&lab.container("a"), "eth0", &stations.collect::<Vec<_>>())?;
        lab.container("a").reaches(NEAR_B4)?;
        lab.container("a").reaches(NEAR_B6)?;
        lab.container("b").reaches(A4)?;
        let macs = macs(lab)?;
        // Those of the two ports are known without learning.
        ensure!((16..=18).contains(&macs), "16 learned addresses and the ports' own expected, {macs} found");
        Ok(())
    });
}

fn macs(lab: &Lab) -> Result<u64> {
    lab.get("network", "front")?["status"]["macs"].as_u64().context("status.macs")
}

#[test]
fn a_full_neighbor_table_keeps_forwarding() {
    Lab::test(|lab| {
        let manifest = topology::two_networks(PortKind::Tap, PortKind::Veth)
            .with("Network", "back", "maxNeighbors", json!(16))
            .with("Port", "b", "sourceCheck", json!(false));
        lab.apply(&manifest)?;
        let hosts: Vec<String> = (100..140).map(|host| format!("198.18.2.{host}")).collect();
        for host in &hosts {
            lab.container("b").run(&format!("ip address add {host}/32 dev lo"))?.ok()?;
        }
        for host in &hosts {
            lab.container("a").reaches(host)?;
        }
        lab.container("a").reaches(FAR_B4)?;
        let network = lab.get("network", "back")?;
        let neighbors = network["status"]["neighbors"].as_u64().context("status.neighbors")?;
        ensure!(neighbors <= 16, "at most 16 neighbours expected, {neighbors} found");
        Ok(())
    });
}
