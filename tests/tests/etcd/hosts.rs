//! Hosts form a fabric, and keep it while etcd, a host or a key is away.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::wait::{retry_until, wait_until};

use super::fabric::{Fabric, SOON, Setup};

#[test]
fn hosts_without_kubernetes_form_a_fabric() {
    Setup::hosts(3).test(|fabric| {
        fabric.form()?;
        let pools = fabric.etcdctl("get --prefix /weft/pools/ --keys-only")?;
        let pools: Vec<&str> = pools.split_whitespace().collect();
        ensure!(pools == ["/weft/pools/198.18.0.0-16", "/weft/pools/2001:db8:1000::-48"], "{pools:?}");
        let blocks = fabric.blocks()?;
        let owners: BTreeSet<&str> = blocks.iter().map(|(_, owner)| owner.as_str()).collect();
        ensure!(blocks.len() == 6 && owners.len() == 3, "two of each node expected: {blocks:?}");
        meet_on_each(fabric)
    });
}

#[test]
fn hosts_form_a_fabric_over_vxlan() {
    Setup { mode: "vxlan", ..Setup::hosts(3) }.test(|fabric| {
        fabric.form()?;
        let mesh = fabric.nodes[0].get("tunnel", "mesh")?;
        ensure!(mesh["spec"]["vxlan"].is_object(), "{mesh:#}");
        meet_on_each(fabric)
    });
}

#[test]
fn hosts_form_a_fabric_over_plain_routes() {
    Setup { mode: "routes", ..Setup::hosts(3) }.test(|fabric| {
        fabric.form()?;
        ensure!(fabric.nodes[0].get("tunnel", "mesh").is_err(), "nothing is encapsulated");
        meet_on_each(fabric)
    });
}

/// A container on each node reaches those on all others.
fn meet_on_each(fabric: &Fabric<'_>) -> Result<()> {
    let containers = (0..3).map(|number| fabric.container(number, "a")).collect::<Result<Vec<_>>>()?;
    fabric.meet(&containers.iter().collect::<Vec<_>>())
}

#[test]
fn what_runs_goes_on_without_etcd_and_nothing_is_lost_when_it_comes_back() {
    Setup::hosts(2).test(|fabric| {
        fabric.form()?;
        let (one, two) = (fabric.container(0, "a")?, fabric.container(1, "a")?);
        fabric.meet(&[&one, &two])?;
        let before = fabric.blocks()?;
        fabric.kill_etcd();
        for number in [0, 1] {
            fabric
                .until(number, "to notice that etcd is away", |status| status["clusterAnswers"] == false)?;
        }
        // An agent that starts now goes by what it knew.
        fabric.until_saved(1, 2)?;
        fabric.kill_agent(1);
        fabric.start_agent(1)?;
        fabric.until(1, "to serve without etcd", |status| status["ready"] == true)?;
        let late = fabric.container(1, "late")?;
        fabric.meet(&[&one, &two, &late])?;
        fabric.start_etcd()?;
        fabric.form()?;
        ensure!(fabric.blocks()? == before, "{:?} instead of {before:?}", fabric.blocks()?);
        fabric.meet(&[&one, &two, &late])
    });
}

#[test]
fn a_node_that_lost_its_key_is_followed() {
    Setup::hosts(2).test(|fabric| {
        fabric.form()?;
        let (one, two) = (fabric.container(0, "a")?, fabric.container(1, "a")?);
        fabric.meet(&[&one, &two])?;
        let key = fabric.status(1)?["record"]["publicKey"].clone();
        ensure!(key.is_string(), "{key}");
        fabric.nodes[1].kill_daemon();
        fabric.nodes[1].must("rm -r /run/lab/state /run/weft/state")?;
        fabric.nodes[1].restart()?;
        let new = fabric.until(1, "a new key", |status| {
            status["record"]["publicKey"].is_string() && status["record"]["publicKey"] != key
        })?;
        retry_until(SOON, "etcd to have the new key", || {
            let kept: Value =
                serde_json::from_str(&fabric.etcdctl("get --print-value-only /weft/nodes/node-1")?)?;
            ensure!(kept["publicKey"] == new["record"]["publicKey"], "{kept}");
            Ok(())
        })?;
        let key = new["record"]["publicKey"].as_str().context("a key")?;
        retry_until(SOON, "the other node to go by the new key", || {
            let mesh = fabric.nodes[0].get("tunnel", "mesh")?;
            let peers = mesh["spec"]["wireguard"]["peers"].to_string();
            ensure!(peers.contains(key), "{peers}");
            Ok(())
        })
    });
}

#[test]
fn a_silent_node_stays_until_it_is_forgotten_and_then_its_block_is_anothers() {
    // Blocks have 26 bits of prefix: there are two for IPv4.
    let pools = "[\"198.18.0.0/25\", \"2001:db8:1000::/48\"]";
    Setup { pools, ..Setup::hosts(3) }.test(|fabric| {
        let waiting = (0..3).map(|number| {
            fabric.until(number, "a block, or none", |status| {
                status["ready"] == true || status["nodes"].as_object().is_some_and(|nodes| nodes.len() == 2)
            })
        });
        let ready: Vec<bool> = waiting.map(|status| Ok(status?["ready"] == true)).collect::<Result<_>>()?;
        ensure!(ready.iter().filter(|ready| **ready).count() >= 2, "{ready:?}");
        let owner = |fabric: &Fabric<'_>| -> Result<BTreeSet<String>> {
            let blocks = fabric.blocks()?.into_iter();
            Ok(blocks.filter(|(key, _)| key.contains("198.18")).map(|(_, owner)| owner).collect())
        };
        let owners = owner(fabric)?;
        ensure!(owners.len() == 2, "{owners:?}");
        let gone =
            (1..3).find(|number| owners.contains(&format!("node-{number}"))).context("a node to go")?;
        let name = format!("node-{gone}");
        fabric.kill_agent(gone);
        let refused = fabric.forget(gone)?;
        ensure!(refused.stderr.contains("is alive"), "{refused}");
        let silent = json!([name.clone()]);
        let status = fabric.until(0, "the silent node", |status| status["silent"] == silent)?;
        ensure!(owner(fabric)? == owners, "its block was taken: {:?}", owner(fabric)?);
        ensure!(status["nodes"][&name].is_object(), "it stays in the mesh: {status:#}");
        fabric.forget(gone)?.ok()?;
        fabric.until(0, "the node to be gone", |status| status["nodes"][&name].is_null())?;
        wait_until(SOON, "its block to be another's", || {
            owner(fabric).is_ok_and(|now| !now.contains(&name))
        })?;
        let unknown = fabric.forget(gone)?;
        ensure!(unknown.stderr.contains("is not known"), "{unknown}");
        Ok(())
    });
}

#[test]
fn a_node_that_was_cut_off_hears_what_it_missed_though_history_was_compacted() {
    Setup::hosts(2).test(|fabric| {
        fabric.form()?;
        fabric.wire.cut(&fabric.nodes[1].at)?;
        fabric.until(1, "to notice", |status| status["clusterAnswers"] == false)?;
        fabric.declare("blue")?;
        let header = fabric.etcdctl("get /weft/networks/blue -w json")?;
        let revision = serde_json::from_str::<Value>(&header)?["header"]["revision"].clone();
        fabric.etcdctl(&format!("compact {revision}"))?;
        fabric.wire.mend(&fabric.nodes[1].at)?;
        retry_until(SOON, "the declared Network", || fabric.nodes[1].get("network", "blue").map(drop))?;
        fabric.form()
    });
}

#[test]
fn a_suspended_node_is_silent_keeps_its_place_and_comes_back() {
    Setup::hosts(2).test(|fabric| {
        fabric.form()?;
        let (one, two) = (fabric.container(0, "a")?, fabric.container(1, "a")?);
        fabric.meet(&[&one, &two])?;
        let pings = fabric.ping(&one, &two)?;
        fabric.agent(1)?.signal("STOP")?;
        let status = fabric.until(0, "the silent node", |status| status["silent"] == json!(["node-1"]))?;
        ensure!(status["nodes"]["node-1"].is_object(), "it stays in the mesh: {status:#}");
        fabric.agent(1)?.signal("CONT")?;
        fabric.until(0, "the node to be heard", |status| status["silent"] == json!([]))?;
        pings.all_answered()?;
        // Forgotten too early: it tells its record again, and has its blocks still.
        let blocks = fabric.blocks()?;
        fabric.agent(1)?.signal("STOP")?;
        fabric.until(0, "the silent node", |status| status["silent"] == json!(["node-1"]))?;
        fabric.forget(1)?.ok()?;
        fabric.until(0, "the node to be gone", |status| status["nodes"]["node-1"].is_null())?;
        fabric.agent(1)?.signal("CONT")?;
        fabric.form()?;
        ensure!(fabric.blocks()? == blocks, "{:?} instead of {blocks:?}", fabric.blocks()?);
        fabric.meet(&[&one, &two])
    });
}
