//! A container runtime as libcni is one: it runs the plugins of a network configuration in order, and hands results on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use weft_testkit::binaries;
use weft_testkit::lab::DETACH_QUEUE;
use weft_testkit::{Lab, Manifest, Output, Process};

/// Longest time for what is done in the background.
pub const SOON: Duration = Duration::from_secs(20);

/// Where Debian has the reference plugins (package containernetworking-plugins).
pub const REFERENCE: &str = "/usr/lib/cni";

/// What a plugin answered.
#[derive(Debug)]
pub struct Answer {
    /// Exit code.
    pub code: i32,
    /// Standard output as JSON; null when it was empty.
    pub value: Value,
}

/// A runtime in a lab.
pub struct Runtime<'a> {
    /// The lab, with a daemon and the Networks `pods` and `other`.
    pub lab: &'a mut Lab,
    /// The version of network configurations.
    pub version: String,
    /// The plugins of the network configuration.
    pub plugins: Vec<Value>,
    /// Capability arguments.
    pub capabilities: BTreeMap<String, Value>,
    results: BTreeMap<(String, String), Value>,
}

/// The Networks of the tests.
pub fn networks() -> Manifest {
    let subnets = |third: u8| {
        json!([
            { "prefix": format!("198.18.{third}.0/24"), "gateway": format!("198.18.{third}.1") },
            { "prefix": format!("2001:db8:{third}::/64"), "gateway": format!("2001:db8:{third}::1") },
        ])
    };
    Manifest::new()
        .router("core")
        .network("pods", json!({ "router": "core", "subnets": subnets(1) }))
        .network("other", json!({ "router": "core", "subnets": subnets(2) }))
}

impl Answer {
    /// What a plugin answered that has ended.
    pub fn of(output: &Output) -> Result<Answer> {
        let value = match output.stdout.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).with_context(|| output.to_string())?,
        };
        match output.code {
            Some(code) => Ok(Answer { code, value }),
            None => bail!("{output}"),
        }
    }

    /// The result of a success.
    pub fn ok(self) -> Result<Value> {
        ensure!(self.code == 0, "{self:?}");
        Ok(self.value)
    }

    /// The details of a failure with this code.
    pub fn fails_with(self, code: u32) -> Result<String> {
        ensure!(self.code != 0 && self.value["code"] == code, "code {code} expected: {self:?}");
        Ok(self.value["details"].as_str().unwrap_or_default().to_owned())
    }
}

impl Runtime<'_> {
    /// Runs a test with a runtime whose configuration is Weft's alone.
    pub fn test(test: impl FnOnce(&mut Runtime<'_>) -> Result<()>) {
        Lab::test(|lab| {
            lab.apply(&networks())?;
            test(&mut Runtime {
                lab,
                version: "1.1.0".into(),
                plugins: vec![json!({ "type": "weft-cni", "network": "pods" })],
                capabilities: BTreeMap::new(),
                results: BTreeMap::new(),
            })
        });
    }

    /// Makes the namespace of a container.
    pub fn container(&self, name: &str) -> Result<()> {
        self.lab.node().run(&format!("ip netns add {name}"))?.ok().map(drop)
    }

    /// Adds a container to the network with all plugins, and keeps the result.
    pub fn add(&mut self, container: &str, interface: &str) -> Result<Value> {
        let mut result = Value::Null;
        for plugin in self.plugins.clone() {
            let answer = self.call("ADD", &plugin, container, interface, &result)?;
            result = answer.ok().with_context(|| format!("ADD of {plugin}"))?;
        }
        self.results.insert((container.to_owned(), interface.to_owned()), result.clone());
        Ok(result)
    }

    /// Checks a container with all plugins; the first failure ends it.
    pub fn check(&self, container: &str, interface: &str) -> Result<Answer> {
        let result = self.result(container, interface);
        for plugin in &self.plugins {
            let answer = self.call("CHECK", plugin, container, interface, &result)?;
            if answer.code != 0 {
                return Ok(answer);
            }
        }
        Ok(Answer { code: 0, value: Value::Null })
    }

    /// Takes a container away with all plugins, in reverse order.
    pub fn del(&mut self, container: &str, interface: &str) -> Result<()> {
        let result = self.result(container, interface);
        for plugin in self.plugins.iter().rev() {
            let answer = self.call("DEL", plugin, container, interface, &result)?;
            answer.ok().with_context(|| format!("DEL of {plugin}"))?;
        }
        self.results.remove(&(container.to_owned(), interface.to_owned()));
        Ok(())
    }

    /// One command to the first plugin for a container.
    pub fn one(&self, command: &str, container: &str) -> Result<Answer> {
        let result = if command == "ADD" { Value::Null } else { self.result(container, "eth0") };
        self.call(command, &self.plugins[0], container, "eth0", &result)
    }

    /// The veth and TAP devices that a container has.
    pub fn devices(&self, container: &str) -> Result<Vec<String>> {
        let links = self.lab.container(container).run("ip -j -d link")?.ok()?;
        let links: Vec<Value> = serde_json::from_str(&links)?;
        let made = |link: &&Value| matches!(link["linkinfo"]["info_kind"].as_str(), Some("veth" | "tun"));
        Ok(links.iter().filter(made).filter_map(|link| link["ifname"].as_str().map(str::to_owned)).collect())
    }

    /// Changes a value of the result of a container's `eth0`, and gives the one before.
    pub fn alter(&mut self, container: &str, place: &str, value: Value) -> Result<Value> {
        let result = self.results.get_mut(&(container.to_owned(), "eth0".to_owned())).context("a result")?;
        Ok(std::mem::replace(result.pointer_mut(place).with_context(|| place.to_owned())?, value))
    }

    /// GC or STATUS of the first plugin; fields are added to the configuration.
    pub fn whole(&self, command: &str, fields: &Value) -> Result<Answer> {
        let mut plugin = self.plugins[0].clone();
        for (key, value) in fields.as_object().into_iter().flatten() {
            plugin[key] = value.clone();
        }
        self.run(command, &plugin, &[], &Value::Null)
    }

    fn result(&self, container: &str, interface: &str) -> Value {
        self.results.get(&(container.to_owned(), interface.to_owned())).cloned().unwrap_or_default()
    }

    /// Runs one plugin for a container.
    pub fn call(
        &self,
        command: &str,
        plugin: &Value,
        container: &str,
        interface: &str,
        previous: &Value,
    ) -> Result<Answer> {
        self.run(command, plugin, &variables(container, interface), previous)
    }

    /// Starts the first plugin for a container, and does not wait for it.
    pub fn start(&self, command: &str, container: &str, interface: &str) -> Result<Process> {
        self.spawn(command, &self.plugins[0], &variables(container, interface), &Value::Null)
    }

    fn run(&self, command: &str, plugin: &Value, variables: &[String], previous: &Value) -> Result<Answer> {
        Answer::of(&self.spawn(command, plugin, variables, previous)?.wait()?)
    }

    fn spawn(
        &self,
        command: &str,
        plugin: &Value,
        variables: &[String],
        previous: &Value,
    ) -> Result<Process> {
        let mut input = plugin.clone();
        input["cniVersion"] = self.version.as_str().into();
        input["name"] = "net".into();
        if plugin["type"] == "weft-cni" {
            input["detachQueue"] = DETACH_QUEUE.into();
        }
        if !previous.is_null() {
            input["prevResult"] = previous.clone();
        }
        let wanted = plugin["capabilities"].as_object().cloned().unwrap_or_default();
        for (name, value) in self.capabilities.iter().filter(|(name, _)| wanted.contains_key(*name)) {
            input["runtimeConfig"][name] = value.clone();
        }
        let program = match plugin["type"].as_str().context("a type")? {
            "weft-cni" => binaries::find("weft-cni")?.display().to_string(),
            other => format!("{REFERENCE}/{other}"),
        };
        let fixed = [
            format!("CNI_COMMAND={command}"),
            format!("CNI_PATH={REFERENCE}"),
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ];
        let mut words = vec!["env", "-i"];
        words.extend(fixed.iter().chain(variables).map(String::as_str));
        words.push(&program);
        self.lab.node().spawn_with_input(&words, Some(&input.to_string()))
    }

    /// Pings from a container.
    pub fn reaches(&self, container: &str, address: &str) -> Result<()> {
        self.lab.container(container).reaches(address)
    }

    /// The Ports that there are.
    pub fn ports(&self) -> Result<Vec<String>> {
        let listed = self.lab.weft(&["get", "ports", "-o", "name"])?.ok()?;
        Ok(listed.lines().map(str::to_owned).collect())
    }
}

fn variables(container: &str, interface: &str) -> [String; 4] {
    [
        format!("CNI_CONTAINERID={container}"),
        format!("CNI_NETNS=/run/netns/{container}"),
        format!("CNI_IFNAME={interface}"),
        format!("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={container}"),
    ]
}

/// The addresses of a result that are of the container's device, without prefix length.
pub fn addresses(result: &Value, interface: &str) -> Vec<String> {
    let interfaces = result["interfaces"].as_array().cloned().unwrap_or_default();
    let index = interfaces.iter().position(|it| it["name"] == interface && it["sandbox"].is_string());
    let ips = result["ips"].as_array().cloned().unwrap_or_default();
    let ours = ips.iter().filter(|ip| ip["interface"].as_u64() == index.map(|index| index as u64));
    let text = |ip: &Value| ip["address"].as_str().unwrap_or_default().split('/').next().map(str::to_owned);
    ours.filter_map(text).collect()
}
