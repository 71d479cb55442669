//! Whatever runtimes, plugins and daemons do to each other, what is left is exactly what the living containers have.
//!
//! A seed gives the same steps again: WEFT_CHAOS_SEED=7 WEFT_CHAOS_ROUNDS=500.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::lab::DETACH_QUEUE;
use weft_testkit::wait::retry_until;
use weft_testkit::{Process, wait_until};

use super::runtime::{Answer, Runtime, networks};

/// Steps of a run.
const ROUNDS: u64 = 200;
/// Containers that may be there at a time.
const CONTAINERS: u64 = 8;
/// After so many steps everything is compared.
const BETWEEN: u64 = 25;
/// The first port of the node that leads to a container.
const FIRST_PORT: u64 = 21_000;
/// How long the daemon may take to do what was asked while it was away.
const SETTLED: Duration = Duration::from_secs(20);

/// Numbers that look random, and are the same for the same seed (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the runtime knows of its containers.
#[derive(Default)]
struct Model {
    /// Namespaces that are there.
    spaces: BTreeSet<u64>,
    /// Addresses of the containers that live.
    living: BTreeMap<u64, Vec<Value>>,
    /// Nobody knows what these have: the runtime has forgotten them.
    forgotten: BTreeSet<u64>,
    steps: Vec<String>,
}

/// The containers and the runtime that has them.
struct Chaos<'a, 'b> {
    runtime: &'a mut Runtime<'b>,
    model: Model,
    dice: Dice,
}

fn name(container: u64) -> String {
    format!("c{container}")
}

impl Chaos<'_, '_> {
    fn step(&mut self) -> Result<()> {
        let container = self.dice.below(CONTAINERS);
        let action = self.dice.below(100);
        self.model.steps.push(format!("{action} with {}", name(container)));
        match action {
            0..30 => self.add(container),
            30..50 => self.delete(container),
            50..58 => self.check(container),
            58..66 => self.kill_plugin(container),
            66..72 => self.many_at_once(),
            72..78 => self.lose_namespace(container),
            78..82 => self.collect(),
            82..88 => self.kill_daemon(container),
            88..92 => self.fill_disk(container),
            92..96 => self.forget(container),
            _ => self.runtime.lab.restart(),
        }
    }

    fn space(&mut self, container: u64) -> Result<()> {
        if self.model.spaces.insert(container) {
            self.runtime.container(&name(container))?;
        }
        Ok(())
    }

    /// What a runtime's call of the plugin says of a container: a port of the node's, and every other one has a TAP.
    fn describe(&mut self, container: u64) {
        self.runtime.plugins[0]["portType"] = if container.is_multiple_of(2) { "veth" } else { "tap" }.into();
        let mapping = json!([{ "hostPort": FIRST_PORT + container, "containerPort": 80, "protocol": "tcp" }]);
        self.runtime.capabilities.insert("portMappings".into(), mapping);
    }

    fn add(&mut self, container: u64) -> Result<()> {
        if self.model.forgotten.contains(&container) {
            return self.delete(container);
        }
        self.space(container)?;
        self.describe(container);
        let ips = |result: &Value| result["ips"].as_array().cloned().unwrap_or_default();
        let ips = ips(&self.runtime.add(&name(container), "eth0")?);
        if let Some(before) = self.model.living.insert(container, ips.clone()) {
            ensure!(before == ips, "{} had {before:?} and now has {ips:?}", name(container));
        }
        Ok(())
    }

    fn delete(&mut self, container: u64) -> Result<()> {
        self.detach(container)?;
        self.drop_space(container)
    }

    /// The container's namespace stays.
    fn detach(&mut self, container: u64) -> Result<()> {
        self.describe(container);
        self.runtime.del(&name(container), "eth0")?;
        self.model.living.remove(&container);
        self.model.forgotten.remove(&container);
        Ok(())
    }

    fn drop_space(&mut self, container: u64) -> Result<()> {
        if self.model.spaces.remove(&container) {
            self.runtime.lab.node().run(&format!("ip netns delete {}", name(container)))?.ok()?;
        }
        Ok(())
    }

    fn check(&mut self, container: u64) -> Result<()> {
        if self.model.living.contains_key(&container) {
            self.describe(container);
            self.runtime.check(&name(container), "eth0")?.ok()?;
            self.runtime.reaches(&name(container), "198.18.1.1")?;
        }
        Ok(())
    }

    /// The plugin is killed at a moment of its ADD or DEL; the runtime calls DEL then.
    fn kill_plugin(&mut self, container: u64) -> Result<()> {
        let command = if self.model.living.contains_key(&container) { "DEL" } else { "ADD" };
        self.space(container)?;
        self.describe(container);
        let plugin = self.runtime.start(command, &name(container), "eth0")?;
        std::thread::sleep(Duration::from_micros(self.dice.below(12_000)));
        plugin.kill();
        self.detach(container)
    }

    /// All that are not there come at once, and go at once.
    fn many_at_once(&mut self) -> Result<()> {
        let idle: Vec<_> = (0..CONTAINERS).filter(|it| !self.model.living.contains_key(it)).collect();
        for command in ["ADD", "DEL"] {
            let mut plugins: Vec<(u64, Process)> = Vec::new();
            for container in &idle {
                self.space(*container)?;
                self.describe(*container);
                plugins.push((*container, self.runtime.start(command, &name(*container), "eth0")?));
            }
            for (container, plugin) in plugins {
                Answer::of(&plugin.wait()?)?.ok().with_context(|| name(container))?;
            }
        }
        self.model.forgotten.retain(|container| !idle.contains(container));
        Ok(())
    }

    /// The namespace goes before DEL.
    fn lose_namespace(&mut self, container: u64) -> Result<()> {
        self.drop_space(container)?;
        if self.dice.below(2) == 0 || self.model.living.remove(&container).is_none() {
            return self.delete(container);
        }
        self.model.forgotten.insert(container);
        Ok(())
    }

    fn collect(&mut self) -> Result<()> {
        let valid = |it: &u64| json!({ "containerID": name(*it), "ifname": "eth0" });
        let valid: Vec<_> = self.model.living.keys().map(valid).collect();
        self.runtime.whole("GC", &json!({ "cni.dev/valid-attachments": valid }))?.ok()?;
        self.model.forgotten.clear();
        Ok(())
    }

    /// The daemon is killed, maybe in the middle of something; DEL succeeds all the same.
    fn kill_daemon(&mut self, container: u64) -> Result<()> {
        let command = if self.model.living.contains_key(&container) { "DEL" } else { "ADD" };
        self.space(container)?;
        self.describe(container);
        let plugin = self.runtime.start(command, &name(container), "eth0")?;
        std::thread::sleep(Duration::from_micros(self.dice.below(12_000)));
        self.runtime.lab.kill_daemon();
        plugin.kill();
        self.detach(container)?;
        self.runtime.lab.restart()
    }

    /// No state can be written: an ADD fails and leaves nothing.
    fn fill_disk(&mut self, container: u64) -> Result<()> {
        if self.model.living.contains_key(&container) || self.model.forgotten.contains(&container) {
            return Ok(());
        }
        self.space(container)?;
        self.describe(container);
        let full = self.runtime.lab.path("/run/lab/state/full");
        // It ends with the error that the disk is full.
        self.runtime.lab.node().exec(&["sh", "-c", "cat /dev/zero > /run/lab/state/full"])?;
        let answer = self.runtime.one("ADD", &name(container))?;
        fs::remove_file(full)?;
        // The record may have found room in what the file had already.
        if answer.code == 0 {
            return self.delete(container);
        }
        ensure!(answer.value["msg"].as_str().is_some_and(|text| !text.is_empty()), "{answer:?}");
        self.delete(container)
    }

    /// The runtime loses its memory of a container: GC is told of the others.
    fn forget(&mut self, container: u64) -> Result<()> {
        if self.model.living.remove(&container).is_some() {
            self.model.forgotten.insert(container);
        }
        Ok(())
    }

    /// What is left is exactly what the living containers have.
    fn compare(&mut self) -> Result<()> {
        self.collect()?;
        let living = self.model.living.keys().copied().collect::<Vec<_>>();
        let mut ports = Value::Null;
        // A daemon that has just started answers before it has looked at the kernel.
        retry_until(SETTLED, "as many Ports as containers, with devices", || {
            let text = self.runtime.lab.weft(&["get", "ports", "-o", "json"])?.ok()?;
            ports = serde_json::from_str(&text)?;
            let made = ports.as_array().context("a list")?;
            let stands = |port: &Value| port["status"]["ifindex"].as_u64().is_some_and(|index| index > 0);
            let all = made.len() == living.len() && made.iter().all(stands);
            ensure!(all, "{} live: {text}", living.len());
            Ok(())
        })?;
        let mut addresses = BTreeSet::new();
        let mut ends = BTreeSet::new();
        for port in ports.as_array().context("a list")? {
            let (spec, status) = (&port["spec"], &port["status"]);
            let id = spec["endpoint"]["containerId"].as_str().unwrap_or_default();
            let container: u64 = id.trim_start_matches('c').parse()?;
            let told = self.model.living.get(&container).with_context(|| format!("{id} does not live"))?;
            let told: Vec<_> = told.iter().map(|ip| ip["address"].clone()).collect();
            ensure!(spec["addresses"] == json!(told), "{port}, and the runtime was told {told:?}");
            ensure!(told.iter().all(|address| addresses.insert(address.to_string())), "given twice: {port}");
            ends.extend(status["hostDevice"].as_str().filter(|end| !end.is_empty()).map(str::to_owned));
        }
        self.kernel_has(&ends)?;
        let pools = &self.runtime.lab.get("network", "pods")?["status"]["pools"];
        for pool in pools.as_array().context("pools")? {
            ensure!(pool["used"].as_u64().unwrap_or(0) == living.len() as u64, "{pool}");
        }
        let spaces = self.runtime.lab.weft(&["get", "namespaces", "-o", "name"])?.ok()?;
        ensure!(spaces.lines().count() == living.len(), "{spaces}");
        let queue = self.runtime.lab.path(DETACH_QUEUE);
        // What a plugin that was killed had begun to write is no request; it stays for an hour.
        let is_request = |entry: &DirEntry| entry.path().extension().is_some_and(|ending| ending == "json");
        wait_until(SETTLED, "a queue without requests", || {
            fs::read_dir(&queue).map_or(true, |entries| !entries.flatten().any(|entry| is_request(&entry)))
        })?;
        for container in living {
            self.check(container)?;
        }
        Ok(())
    }

    /// Devices and rules, as the kernel has them.
    fn kernel_has(&self, ends: &BTreeSet<String>) -> Result<()> {
        let node = self.runtime.lab.node();
        let devices = || -> Result<BTreeSet<String>> {
            let links = node.run("nsenter --net=/run/weft/netns/ports ip -o link show type veth")?.ok()?;
            let found = links.lines().filter_map(|line| line.split([':', '@']).nth(1));
            Ok(found.map(|name| name.trim().to_owned()).collect())
        };
        // The kernel removes devices a moment after they were let go.
        let same = wait_until(SETTLED, "the devices of those that live", || {
            devices().is_ok_and(|found| &found == ends)
        });
        same.with_context(|| format!("devices {:?}, {ends:?} expected", devices()))?;
        for container in &self.model.spaces {
            let expected: &[&str] = if self.model.living.contains_key(container) { &["eth0"] } else { &[] };
            retry_until(SETTLED, "no devices but its own in a container", || {
                let devices = self.runtime.devices(&name(*container))?;
                ensure!(devices == expected, "{devices:?} in {container}, {expected:?} expected");
                Ok(())
            })?;
        }
        let rules = node.run("nft list ruleset")?.ok()?;
        let range = FIRST_PORT..FIRST_PORT + CONTAINERS;
        let words = rules.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
        let mapped: BTreeSet<u64> = words.filter(|number| range.contains(number)).collect();
        let expected: BTreeSet<_> =
            self.model.living.keys().map(|container| FIRST_PORT + container).collect();
        ensure!(mapped == expected, "ports {mapped:?}, {expected:?} expected: {rules}");
        Ok(())
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_leaks_and_nothing_is_lost_whatever_happens() {
    Runtime::test(|runtime| {
        // A disk of its own, which can be full.
        runtime.lab.stop_daemon()?;
        runtime.lab.node().run("mount -t tmpfs -o size=8m tmpfs /run/lab/state")?.ok()?;
        runtime.lab.restart()?;
        runtime.lab.apply(&networks())?;
        runtime.plugins[0]["capabilities"] = json!({ "portMappings": true });
        let (seed, rounds) = (number("WEFT_CHAOS_SEED", 1), number("WEFT_CHAOS_ROUNDS", ROUNDS));
        let mut chaos = Chaos {
            runtime,
            model: Model::default(),
            dice: Dice(seed.max(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        for round in 1..=rounds {
            let result =
                chaos.step().and_then(|()| if round % BETWEEN == 0 { chaos.compare() } else { Ok(()) });
            let last = chaos.model.steps.len().saturating_sub(BETWEEN as usize + 5);
            result.with_context(|| {
                format!("seed {seed}, step {round}, after {:?}", &chaos.model.steps[last..])
            })?;
        }
        for container in 0..CONTAINERS {
            chaos.delete(container)?;
        }
        chaos.compare()
    });
}
