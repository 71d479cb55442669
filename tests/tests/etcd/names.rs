//! Two hosts that were given one name.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::Value;
use weft_testkit::wait::retry_until;

use super::fabric::{Fabric, SOON, Setup};

fn owner(fabric: &Fabric<'_>) -> Result<IpAddr> {
    let record = fabric.etcdctl("get --print-value-only /weft/nodes/node-0")?;
    let record: Value = serde_json::from_str(&record)?;
    Ok(serde_json::from_value(record["addresses"][0].clone())?)
}

#[test]
fn the_second_host_of_a_name_stays_out_until_the_first_is_silent() {
    Setup { agents: 1, ..Setup::hosts(2) }.test(|fabric| {
        fabric.form()?;
        let container = fabric.container(0, "a")?;
        let blocks = fabric.blocks()?;
        fabric.configure(1, "node-0")?;
        fabric.start_agent(1)?;
        fabric.until_said(1, "another host that is called node-0 is alive at 192.0.2.1")?;
        let status = fabric.status(1)?;
        ensure!(status["ready"] == false && status["record"].is_null(), "{status:#}");
        ensure!(owner(fabric)? == fabric.nodes[0].at.v4, "the second took the name");
        ensure!(fabric.blocks()? == blocks, "{:?}", fabric.blocks()?);
        // The first may be started again at any time.
        fabric.kill_agent(0);
        fabric.start_agent(0)?;
        fabric.until(0, "to serve again", |status| {
            status["ready"] == true && status["clusterAnswers"] == true
        })?;
        ensure!(!fabric.log(0).contains("another host"), "it was taken for another");
        fabric.nodes[0].container(&container.name).reaches(&container.addresses[0])?;
        fabric.kill_agent(0);
        retry_until(SOON, "the name to be the second's", || {
            ensure!(owner(fabric)? == fabric.nodes[1].at.v4, "it is the first's");
            Ok(())
        })?;
        fabric.until(1, "to serve", |status| status["ready"] == true).map(drop)
    });
}
