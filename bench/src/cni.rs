//! Containers that come and go by CNI: Weft's plugin beside the reference plugins `bridge` and `host-local`.
//!
//! Each run makes as many namespaces, and has the plugin attach and detach them, one process a container as a runtime
//! starts it. The containers of earlier runs stay until the end where coming is measured, so that run by run the
//! figures show whether the number of containers matters.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::json;
use weft_testkit::{Lab, Manifest, PortKind, binaries};

use crate::site::options;

/// Containers of a run.
const CONTAINERS: usize = 100;
/// Containers of a run that is to be quick.
const FEW: usize = 20;
/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
/// The name of the reference plugins in the report.
pub const PEER: &str = "bridge + host-local";
/// The file of a side's network configuration, in its lab.
const CONFIGURATION: &str = "/run/lab/cni.json";

/// What is measured of each container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Churn {
    /// ADD or DEL.
    pub verb: &'static str,
    /// What Weft makes for each. The reference plugins make veth pairs in any case.
    pub port: PortKind,
    /// How many at once.
    pub at_once: usize,
    /// Containers of a run.
    pub containers: usize,
}

impl Churn {
    /// A hundred containers, so many at once.
    pub const fn new(verb: &'static str, port: PortKind, at_once: usize) -> Churn {
        Churn { verb, port, at_once, containers: CONTAINERS }
    }

    /// The same with few containers.
    pub fn quick(self) -> Churn {
        Churn { containers: FEW, at_once: self.at_once.min(FEW), ..self }
    }

    /// Whether a run finds the containers of earlier runs.
    pub fn grows(self) -> bool {
        self.verb == "ADD"
    }
}

/// One side: a node with a plugin.
pub struct Side {
    lab: Lab,
    plugin: PathBuf,
    next: usize,
}

impl Side {
    /// A node with Weft.
    pub fn weft(port: PortKind) -> Result<Side> {
        let lab = Lab::start_with(&options())?;
        let subnets = json!([{ "prefix": "198.18.0.0/16", "gateway": "198.18.0.1" }]);
        let network = json!({ "router": "main", "subnets": subnets });
        lab.apply(&Manifest::new().router("main").network("pods", network))?;
        let configuration = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "weft-cni", "network": "pods", "portType": port.name(),
        });
        Side::with(lab, binaries::find("weft-cni")?, &configuration.to_string())
    }

    /// A node with the reference plugins.
    pub fn reference() -> Result<Side> {
        let ranges = json!([[{ "subnet": "198.18.0.0/16" }]]);
        let routes = json!([{ "dst": "0.0.0.0/0" }]);
        let ipam = json!({ "type": "host-local", "ranges": ranges, "routes": routes, "dataDir": "/run/lab/host-local" });
        let configuration = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": ipam,
        });
        Side::with(Lab::empty()?, Path::new(REFERENCE).join("bridge"), &configuration.to_string())
    }

    fn with(lab: Lab, plugin: PathBuf, configuration: &str) -> Result<Side> {
        fs::write(lab.path(CONFIGURATION), configuration).context("the network configuration")?;
        Ok(Side { lab, plugin, next: 0 })
    }

    /// Runs once; the time that each container takes, in milliseconds, in the order in which they were done.
    pub fn run(&mut self, churn: Churn) -> Result<Vec<f64>> {
        let first = self.next;
        self.next += churn.containers;
        for number in first..self.next {
            self.lab.node().run(&format!("ip netns add c{number}"))?.ok()?;
        }
        let added = self.drive("ADD", first, churn)?;
        match churn.verb {
            "ADD" => Ok(added),
            verb => self.drive(verb, first, churn),
        }
    }

    fn drive(&self, verb: &str, first: usize, churn: Churn) -> Result<Vec<f64>> {
        let program = std::env::current_exe().context("the path of this executable")?;
        let (program, plugin) = (program.display(), self.plugin.display());
        let Churn { containers, at_once, .. } = churn;
        let line = format!("{program} churn {plugin} {verb} {first} {containers} {at_once}");
        let times = self.lab.node().run(&line)?.ok()?;
        times.lines().map(|line| line.parse().context("a time")).collect()
    }
}

/// Has a plugin attach or detach containers, in the namespaces of the caller, and prints how many milliseconds each took.
pub fn churn(plugin: &Path, verb: &str, first: usize, count: usize, at_once: usize) -> Result<()> {
    let configuration = fs::read(CONFIGURATION).context(CONFIGURATION)?;
    let next = AtomicUsize::new(first);
    let times = Mutex::new(Vec::with_capacity(count));
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= first + count {
                return Ok(());
            }
            let start = Instant::now();
            call(plugin, verb, number, &configuration)?;
            let time = start.elapsed().as_secs_f64() * 1e3;
            times.lock().unwrap_or_else(PoisonError::into_inner).push(time);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread ended in a panic"),
        })
    })?;
    let times = times.into_inner().unwrap_or_else(PoisonError::into_inner);
    times.iter().try_for_each(|time| Ok(writeln!(std::io::stdout(), "{time:.4}")?))
}

fn call(plugin: &Path, verb: &str, number: usize, configuration: &[u8]) -> Result<()> {
    let mut child = Command::new(plugin)
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", format!("bench-{number}"))
        .env("CNI_NETNS", format!("/run/netns/c{number}"))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", REFERENCE)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| plugin.display().to_string())?;
    child.stdin.take().context("standard input")?.write_all(configuration)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        bail!("{verb} of container {number}: {}: {said}", output.status);
    }
    Ok(())
}
