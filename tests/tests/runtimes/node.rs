//! A node for container runtimes: a lab with the plugin installed where runtimes look for it, and no agent.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_testkit::binaries;
use weft_testkit::runtimes::{ControlGroup, prepare};
use weft_testkit::wait::{retry_until, wait_until};
use weft_testkit::{Lab, LabOptions, Manifest, Place};

/// Time for what takes a moment.
pub const SOON: Duration = Duration::from_secs(20);

/// A network beside the node.
const OUTSIDE: &str = "ip netns add outside
ip link add uplink0 type veth peer name eth0 netns outside
ip address add 192.0.2.1/24 dev uplink0
ip address add 2001:db8:9::1/64 dev uplink0 nodad
ip link set uplink0 up
ip -n outside link set lo up
ip -n outside address add 192.0.2.2/24 dev eth0
ip -n outside address add 2001:db8:9::2/64 dev eth0 nodad
ip -n outside link set eth0 up";

/// A lab where container runtimes find the plugin.
#[derive(Debug)]
pub struct Node<'a> {
    /// The lab, with a daemon, the Networks `pods` and `small`, and the node's own Port on `pods`.
    pub lab: &'a mut Lab,
    /// The parent of all control groups of this test.
    pub cgroup: Arc<ControlGroup>,
}

/// `pods` as in `examples/node-access.yaml`: what is sent to outside goes by way of the node.
fn networks() -> Manifest {
    let routes = json!([
        { "prefix": "0.0.0.0/0", "nextHops": ["198.18.1.2"] },
        { "prefix": "::/0", "nextHops": ["2001:db8:1::2"] },
    ]);
    let range = |range: &str| json!({ "ranges": [range] });
    let subnets = json!([
        { "prefix": "198.18.1.0/24", "gateway": "198.18.1.1", "pool": range("198.18.1.10-198.18.1.250") },
        { "prefix": "2001:db8:1::/64", "gateway": "2001:db8:1::1", "pool": range("2001:db8:1::1000/116") },
    ]);
    let management = json!({ "stickySeconds": 600 });
    let pods =
        json!({ "router": "core", "subnets": subnets, "addressManagement": management, "masquerade": {} });
    let node = json!({ "network": "pods", "type": "host", "device": "weft0", "sourceCheck": false,
                       "addresses": ["198.18.1.2/24", "2001:db8:1::2/64"] });
    let six = json!([{ "prefix": "2001:db8:3::/64" }, { "prefix": "198.18.3.0/24" }]);
    Manifest::new()
        .resource("Router", "core", json!({ "routes": routes }))
        .network("pods", pods)
        .network("six", json!({ "subnets": six }))
        .network("small", json!({ "subnets": [{ "prefix": "198.18.2.0/30" }] }))
        .port("node", node)
}

impl Node<'_> {
    /// Runs a test on a node.
    pub fn test(test: impl FnOnce(&mut Node<'_>) -> Result<()>) {
        // What runtimes forget goes soon.
        let options = LabOptions { collect_seconds: 1, ..LabOptions::default() };
        Lab::test_with(&options, |lab| {
            lab.apply(&networks())?;
            let cgroup = prepare(lab)?;
            let mut node = Node { lab, cgroup };
            node.install("pods")?;
            test(&mut node)
        });
    }

    /// Makes a neighbour of the node that knows nothing of Weft, with the addresses 192.0.2.2 and 2001:db8:9::2. The
    /// node's are 192.0.2.1 and 2001:db8:9::1.
    pub fn meet_outside(&self) -> Result<Place<'_>> {
        self.must(&["sh", "-ec", OUTSIDE])?;
        let outside = self.lab.container("outside");
        retry_until(SOON, "the node from outside", || outside.reaches("2001:db8:9::1"))?;
        Ok(outside)
    }

    /// Installs the plugin, with a configuration for this Network.
    pub fn install(&self, network: &str) -> Result<()> {
        let plugin = binaries::find("weft-cni")?.display().to_string();
        self.must(&[&plugin, "install", "--network", network]).map(drop)
    }

    /// Takes the plugin away.
    pub fn uninstall(&self) -> Result<()> {
        let plugin = binaries::find("weft-cni")?.display().to_string();
        self.must(&[&plugin, "uninstall"]).map(drop)
    }

    /// Runs a program on the node and wants it to succeed.
    pub fn must(&self, command: &[&str]) -> Result<String> {
        self.lab.node().exec(command)?.ok()
    }

    /// Writes a file of the node.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        fs::write(self.lab.path(path), text).with_context(|| path.to_owned())
    }

    /// Pings each address from the node.
    pub fn reaches(&self, addresses: &[String]) -> Result<()> {
        addresses.iter().try_for_each(|address| self.lab.node().reaches(address))
    }

    /// The Ports of containers.
    pub fn ports(&self) -> Result<Vec<String>> {
        let listed = self.lab.weft(&["get", "ports", "-o", "name"])?.ok()?;
        Ok(listed.lines().filter(|name| !name.ends_with("/node")).map(str::to_owned).collect())
    }

    /// Wants nothing to be left of any container, also none of its addresses.
    pub fn is_empty(&self) -> Result<()> {
        ensure!(self.ports()?.is_empty(), "Ports are left: {:?}", self.ports()?);
        let namespaces = self.lab.weft(&["get", "namespaces", "-o", "name"])?.ok()?;
        ensure!(namespaces.is_empty(), "Namespaces are left: {namespaces}");
        let left = self.lab.namespaces()?;
        ensure!(left.iter().all(|name| name == "outside"), "network namespaces are left: {left:?}");
        // The kernel removes devices a moment after they were let go.
        let links = "nsenter --net=/run/weft/netns/ports ip -o link show type veth";
        let ends = || self.lab.node().run(links)?.ok();
        let none = wait_until(SOON, "no device", || ends().is_ok_and(|ends| ends.is_empty()));
        none.with_context(|| format!("devices are left: {:?}", ends()))?;
        let pools = self.lab.get("network", "pods")?["status"]["pools"].clone();
        let used = pools.as_array().into_iter().flatten().filter_map(|pool| pool["used"].as_u64());
        ensure!(used.sum::<u64>() == 0, "addresses are in use: {pools}");
        Ok(())
    }
}
