//! An agent in a cluster of thousands: nodes that join, leave and change their keys, which only the API server knows.
//!
//! There is no peer in it. What counts is how the figures grow with the nodes.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use weft_testkit::agent::Cluster;
use weft_testkit::wait::retry_until;

/// How many nodes there are, in the runs of an invocation.
const SIZES: [u32; 3] = [500, 1000, 5000];
/// Longest time until the daemon knows all nodes.
const PATIENCE: Duration = Duration::from_secs(300);
/// Changes a second, and for how many seconds.
const CHURN: u32 = 10;
const CHURN_SECONDS: u32 = 20;
/// The clock of `/proc/PID/stat`, in ticks a second, on every machine that Linux runs on today.
const TICKS: f64 = 100.0;

/// What a phase cost.
#[derive(Debug)]
struct Cost {
    seconds: f64,
    agent_cpu: f64,
    daemon_cpu: f64,
    calls: u64,
    rounds: u64,
}

/// Runs with as many nodes, or with [`SIZES`], and prints a table.
pub fn run(sizes: &[u32]) -> Result<()> {
    let sizes = if sizes.is_empty() { &SIZES } else { sizes };
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| nodes | phase | seconds | agent CPU s | daemon CPU s | rounds | calls | agent MiB | daemon MiB |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for size in sizes {
        simulate(*size, &mut out)?;
    }
    Ok(())
}

fn simulate(size: u32, out: &mut impl Write) -> Result<()> {
    let mut cluster = Cluster::start(1, "[addresses]\ncluster = [\"198.18.0.0/15\", \"2001:db8::/32\"]\n")?;
    cluster.settle()?;
    let nodes: Vec<Value> = (0..size).map(|number| node(number, 0)).collect();
    let mut phase =
        |cluster: &mut Cluster, name: &str, work: &dyn Fn(&mut Cluster) -> Result<()>| -> Result<()> {
            let cost = measure(cluster, work)?;
            let (agent, daemon) = (pids(cluster)?.0, pids(cluster)?.1);
            writeln!(
                out,
                "| {size} | {name} | {:.2} | {:.2} | {:.2} | {} | {} | {:.1} | {:.1} |",
                cost.seconds,
                cost.agent_cpu,
                cost.daemon_cpu,
                cost.rounds,
                cost.calls,
                resident(agent)?,
                resident(daemon)?
            )?;
            Ok(())
        };
    phase(&mut cluster, "all join", &|cluster| {
        cluster.api.apply_all(&nodes)?;
        wait_for(cluster, size, None)
    })?;
    phase(&mut cluster, "agent starts anew", &|cluster| {
        cluster.nodes[0].kill_agent();
        cluster.nodes[0].start_agent()?;
        cluster.nodes[0].wait_for_peers(size as usize)
    })?;
    phase(&mut cluster, "10 change their key each second, for 20 s", &|cluster| {
        let start = Instant::now();
        for change in 0..CHURN * CHURN_SECONDS {
            let due = Duration::from_secs_f64(f64::from(change) / f64::from(CHURN));
            // The rate is what is measured, so that time itself is waited for.
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            cluster.api.apply(&node(change % size, 1))?;
        }
        wait_for(cluster, size, Some(&key((CHURN * CHURN_SECONDS - 1) % size, 1)))
    })?;
    phase(&mut cluster, "100 leave", &|cluster| {
        for number in 0..100 {
            cluster.api.delete(&format!("/apis/weft.dev/v1/weftnodes/{}", name(number)))?;
        }
        wait_for(cluster, size - 100, None)
    })
}

fn measure(cluster: &mut Cluster, work: &dyn Fn(&mut Cluster) -> Result<()>) -> Result<Cost> {
    let (agent, daemon) = pids(cluster)?;
    let (agent_before, daemon_before) = (cpu(agent)?, cpu(daemon)?);
    let work_before = cluster.nodes[0].status()?["work"].clone();
    let start = Instant::now();
    work(cluster)?;
    let seconds = start.elapsed().as_secs_f64();
    let (now, _) = pids(cluster)?;
    // An agent that was started meanwhile began at nothing.
    let (agent_before, work_before) =
        if now == agent { (agent_before, work_before) } else { (0.0, json!({"calls": 0, "rounds": 0})) };
    let work_after = cluster.nodes[0].status()?["work"].clone();
    let since = |field: &str| {
        work_after[field].as_u64().unwrap_or(0).saturating_sub(work_before[field].as_u64().unwrap_or(0))
    };
    Ok(Cost {
        seconds,
        agent_cpu: cpu(now)? - agent_before,
        daemon_cpu: cpu(daemon)? - daemon_before,
        calls: since("calls"),
        rounds: since("rounds"),
    })
}

/// Waits until the agent has told the daemon of so many nodes, one of which has this key.
fn wait_for(cluster: &Cluster, count: u32, key: Option<&str>) -> Result<()> {
    cluster.nodes[0].wait_for_peers_within(count as usize, PATIENCE)?;
    retry_until(PATIENCE, "the daemon to know all nodes", || {
        let tunnel = cluster.nodes[0].node.get("tunnel", "mesh")?;
        let peers = tunnel["spec"]["wireguard"]["peers"].as_array().context("no peers")?;
        ensure!(peers.len() == count as usize, "{} peers", peers.len());
        ensure!(
            key.is_none_or(|key| peers.iter().any(|peer| peer["publicKey"] == key)),
            "the key is not there"
        );
        Ok(())
    })
}

fn name(number: u32) -> String {
    format!("far-{number:05}")
}

/// Any 32 octets are a public key.
fn key(number: u32, change: u32) -> String {
    let mut octets = [7; 32];
    octets[..4].copy_from_slice(&number.to_be_bytes());
    octets[4..8].copy_from_slice(&change.to_be_bytes());
    BASE64_STANDARD.encode(octets)
}

fn node(number: u32, change: u32) -> Value {
    // /28 in the second half of 198.18.0.0/15, where the node itself is not.
    let prefix = std::net::Ipv4Addr::from(0xc612_8000 + number * 16);
    json!({
        "apiVersion": "weft.dev/v1", "kind": "WeftNode", "metadata": {"name": name(number)},
        "spec": {
            "addresses": [format!("2001:db8:ffff::1:{:x}:{:x}", number >> 16, number & 0xffff)],
            "podCIDRs": [format!("{prefix}/28"), format!("2001:db8:{:x}:{:x}::/64", 0x1000 + (number >> 16), number & 0xffff)],
            "tunnel": {"port": 51820, "publicKey": key(number, change)},
        },
    })
}

fn pids(cluster: &Cluster) -> Result<(u32, u32)> {
    Ok((cluster.nodes[0].agent_pid()?, cluster.nodes[0].node.daemon_pid()?))
}

/// Seconds of CPU time that a process has used.
fn cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name in brackets come the state and, as the 14th and 15th fields, the times.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let mut times = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let mut next = || times.next().and_then(Result::ok).context("/proc/PID/stat");
    Ok((next()? + next()?) / TICKS)
}

/// Mebibytes of memory that a process has.
fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes / 1024.0)
}
