//! An etcd of three members, of which one goes away or loses the others.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::wait::retry_until;

use super::fabric::{Fabric, SOON, Setup};

/// The member that an agent is connected to, by its log.
fn member_of(fabric: &Fabric<'_>, number: usize) -> Result<usize> {
    let log = fabric.log(number);
    let (_, last) = log.rsplit_once("etcd answers endpoint=").context("it never was connected")?;
    let address = last.split_once("://192.0.2.").context("an endpoint")?.1;
    let digits = address.split(':').next().context("a number")?;
    Ok(digits.parse::<usize>()? - 1)
}

/// The revisions at which the nodes' leases' keys were made: they stay as long as no lease ends.
fn births(fabric: &Fabric<'_>) -> Result<Vec<u64>> {
    let answer: Value =
        serde_json::from_str(&fabric.etcdctl("get --prefix /weft/alive/ --keys-only -w json")?)?;
    let pairs = answer["kvs"].as_array().context("keys")?;
    pairs.iter().map(|pair| pair["create_revision"].as_u64().context("a revision")).collect()
}

/// Waits until no agent is at this member, all have heard what is declared now, and no lease has ended meanwhile.
fn until_left(fabric: &Fabric<'_>, member: usize, name: &str, births_before: &[u64]) -> Result<()> {
    for number in 0..3 {
        retry_until(SOON, "another member", || {
            ensure!(member_of(fabric, number)? != member, "node-{number} is at member {member}");
            Ok(())
        })?;
    }
    fabric.declare(name)?;
    for number in 0..3 {
        retry_until(SOON, "what is declared", || fabric.nodes[number].get("network", name).map(drop))?;
    }
    fabric.form()?;
    let now = births(fabric)?;
    ensure!(now == births_before, "a lease ended: {now:?} instead of {births_before:?}");
    Ok(())
}

#[test]
fn agents_go_on_with_another_member_when_theirs_is_killed_or_has_lost_the_others() {
    Setup { members: 3, lease: 20, ..Setup::hosts(3) }.test(|fabric| {
        fabric.form()?;
        let (one, two) = (fabric.container(0, "a")?, fabric.container(1, "a")?);
        fabric.meet(&[&one, &two])?;
        let pings = fabric.ping(&one, &two)?;
        let born = births(fabric)?;
        ensure!(born.len() == 3, "{born:?}");

        let killed = member_of(fabric, 0)?;
        fabric.kill_member(killed);
        until_left(fabric, killed, "blue", &born)?;
        fabric.etcdctl("del /weft/networks/blue")?;
        fabric.start_member(killed)?;
        retry_until(SOON, "three members", || {
            fabric.etcdctl("endpoint health --cluster").map(drop)
        })?;

        // It goes on to let clients in, and has no leader.
        let lonely = member_of(fabric, 2)?;
        let rules = "table inet lonely { chain in { type filter hook input priority 0; tcp dport 2380 drop; tcp sport 2380 \
                     drop; }; chain out { type filter hook output priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }; }";
        let place = fabric.nodes[lonely].lab.node();
        place.spawn_with_input(&["nft", "-f", "-"], Some(rules))?.wait()?.ok()?;
        fabric.shunned = Some(lonely);
        until_left(fabric, lonely, "green", &born)?;
        pings.all_answered()
    });
}
