//! etcd loses what it had.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::wait::retry_until;

use super::fabric::{Container, Fabric, SOON, Setup};

/// Waits until the blocks are whose they were, and everybody has everybody.
fn until_whole(fabric: &Fabric<'_>, blocks: &[(String, String)]) -> Result<()> {
    retry_until(SOON, "all blocks to be claimed again", || {
        let now = fabric.blocks()?;
        ensure!(now == blocks, "{now:?} instead of {blocks:?}");
        Ok(())
    })?;
    fabric.form()
}

fn containers(fabric: &Fabric<'_>) -> Result<Vec<Container>> {
    let containers = (0..3).map(|number| fabric.container(number, "a")).collect::<Result<Vec<_>>>()?;
    fabric.meet(&containers.iter().collect::<Vec<_>>())?;
    Ok(containers)
}

#[test]
fn nothing_is_lost_when_etcd_loses_everything() {
    Setup::hosts(3).test(|fabric| {
        fabric.form()?;
        let containers = containers(fabric)?;
        let blocks = fabric.blocks()?;
        let pings =
            [fabric.ping(&containers[0], &containers[1])?, fabric.ping(&containers[1], &containers[2])?];
        fabric.until_saved(2, 3)?;
        fabric.kill_etcd();
        fabric.nodes[0].must("rm -r /run/lab/etcd")?;
        for number in 0..3 {
            fabric.until(number, "to notice", |status| status["clusterAnswers"] == false)?;
        }
        // One knows only what is on its disk.
        fabric.kill_agent(2);
        fabric.start_agent(2)?;
        fabric.start_etcd()?;
        until_whole(fabric, &blocks)?;
        for number in 0..2 {
            let log = fabric.log(number);
            ensure!(!log.contains("are gone"), "node-{number} gave others up");
        }
        pings.into_iter().try_for_each(super::fabric::Pings::all_answered)
    });
}

#[test]
fn nothing_is_lost_when_a_backup_is_put_back_though_it_counts_past_what_was_heard() {
    Setup { agents: 2, ..Setup::hosts(3) }.test(|fabric| {
        fabric.form()?;
        fabric.etcdctl("snapshot save /run/lab/backup")?;
        fabric.start_agent(2)?;
        fabric.form()?;
        fabric.declare("blue")?;
        for number in 0..3 {
            retry_until(SOON, "the Network", || fabric.nodes[number].get("network", "blue").map(drop))?;
        }
        let containers = containers(fabric)?;
        let (blocks, last) = (fabric.blocks()?, revision(fabric)?);
        let pings =
            [fabric.ping(&containers[0], &containers[2])?, fabric.ping(&containers[2], &containers[1])?];
        fabric.kill_etcd();
        restore(fabric, last)?;
        fabric.start_etcd()?;
        until_whole(fabric, &blocks)?;
        for number in 0..3 {
            retry_until(SOON, "what is not in the backup to be gone", || {
                ensure!(fabric.nodes[number].get("network", "blue").is_err(), "it is there");
                Ok(())
            })?;
        }
        pings.into_iter().try_for_each(super::fabric::Pings::all_answered)
    });
}

fn revision(fabric: &Fabric<'_>) -> Result<u64> {
    let header: Value = serde_json::from_str(&fabric.etcdctl("get /weft -w json")?)?;
    header["header"]["revision"].as_u64().context("a revision")
}

/// Puts the backup back and lets it count past this revision, where no agent sees it.
fn restore(fabric: &Fabric<'_>, last: u64) -> Result<()> {
    let node = &fabric.nodes[0];
    node.must("rm -r /run/lab/etcd")?;
    node.must(
        "env ETCDCTL_API=3 etcdctl snapshot restore /run/lab/backup --name m0 --data-dir /run/lab/etcd \
         --initial-cluster m0=http://localhost:2380 --initial-advertise-peer-urls http://localhost:2380",
    )?;
    let hidden = "http://127.0.0.1:2479";
    let etcd = node.lab.node().spawn(&format!(
        "etcd --name m0 --data-dir /run/lab/etcd --log-level warn --listen-peer-urls http://127.0.0.1:2380 \
         --listen-client-urls {hidden} --advertise-client-urls {hidden}"
    ))?;
    let put = format!("env ETCDCTL_API=3 etcdctl --endpoints {hidden} put /elsewhere x -w json");
    retry_until(SOON, "etcd to count past what was heard", || {
        let answer: Value = serde_json::from_str(&node.must(&put)?)?;
        let revision = answer["header"]["revision"].as_u64().context("a revision")?;
        ensure!(revision > last + 1, "{revision} after {last}");
        Ok(())
    })?;
    etcd.signal("TERM")?;
    etcd.wait().map(drop)
}
