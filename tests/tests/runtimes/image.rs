//! Weft's own image, run by containerd as the kubelet would have it run for the chart's DaemonSet.

use std::collections::BTreeSet;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use weft_testkit::binaries;
use weft_testkit::runtimes::cri::{ContainerConfig, ContainerMetadata, Mount, PodSandboxConfig};
use weft_testkit::wait::retry_until;

use super::containerd::Containerd;
use super::daemonset::DaemonSet;
use super::node::{Node, SOON};

/// What makes the image of programs.
const MAKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/image/archive");
/// What the image is called here.
const NAME: &str = concat!("weft.dev/weft:", env!("CARGO_PKG_VERSION"));
/// The variable that names an image to run instead of one of the programs under test.
const MADE: &str = "WEFT_IMAGE";
/// The programs in it.
const PROGRAMS: [&str; 4] = ["weftd", "weft", "weft-cni", "weft-agent"];
/// Value of a container's state.
const EXITED: i32 = 2;
/// What the agent would do without one: the configuration of the network, which comes last.
const INSTALL: [&str; 6] = ["install", "--network", "pods", "--bin-dir", "/host/bin", "--conf-dir"];
/// Where the container that does it has the node's folder of configurations.
const CONFIGURATIONS: &str = "/host/net.d";

/// A node as systemd leaves it, whose mounts are shared; and the state of the lab's daemon where the image has it.
const HAND_OVER: &str = "set -e
mount --make-rshared /
rm -r /var/lib/weft/cni
cp -a /run/lab/state/. /var/lib/weft/
mkdir -p -m 700 /var/lib/weft/cni/detach";

/// The pod of the chart's DaemonSet on a node.
struct Fabric<'a, 'b, 'c> {
    containerd: &'a Containerd<'b, 'c>,
    daemonset: DaemonSet,
    config: PodSandboxConfig,
    sandbox: String,
}

/// The libraries that programs are loaded with.
fn libraries(programs: &[String]) -> Result<BTreeSet<String>> {
    let output = std::process::Command::new("ldd").args(programs).output().context("ldd")?;
    let said = String::from_utf8(output.stdout).context("what ldd says")?;
    let paths = said.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(paths.map(str::to_owned).collect())
}

/// Imports the image that `make image` has made, if the environment names it, else one that is made here.
fn import(containerd: &Containerd<'_, '_>) -> Result<()> {
    let archive = match env::var(MADE) {
        Ok(path) => fs::canonicalize(&path).with_context(|| path)?.display().to_string(),
        Err(_) => make(containerd.node)?,
    };
    let said = containerd.ctr(&["images", "import", &archive])?;
    ensure!(said.contains(NAME), "{said}");
    Ok(())
}

/// Makes the image and gives its path. The programs under test are not static, because building them once more would take
/// minutes: the libraries that they need go in beside them. The image of `make image` has none.
fn make(node: &Node<'_>) -> Result<String> {
    node.must(&["mkdir", "/run/lab/programs"])?;
    let mut found = Vec::new();
    for program in PROGRAMS {
        let path = binaries::find(program)?.display().to_string();
        // The runtime copies them for each container, and lines of the source are most of them.
        node.must(&["strip", "--strip-debug", "-o", &format!("/run/lab/programs/{program}"), &path])?;
        found.push(path);
    }
    let libraries: Vec<String> = libraries(&found)?.iter().map(|path| format!("--add={path}")).collect();
    let mut words = vec![
        MAKER,
        "--programs=/run/lab/programs",
        "--output=/run/lab/weft.tar",
        concat!("--version=", env!("CARGO_PKG_VERSION")),
    ];
    words.extend(libraries.iter().map(String::as_str));
    words.extend(PROGRAMS);
    node.must(&words)?;
    Ok("/run/lab/weft.tar".to_owned())
}

impl<'a, 'b, 'c> Fabric<'a, 'b, 'c> {
    /// The pod without its containers.
    fn new(containerd: &'a Containerd<'b, 'c>) -> Result<Fabric<'a, 'b, 'c>> {
        let daemonset = DaemonSet::new(containerd.node)?;
        let config = daemonset.sandbox(containerd.wish("weft"))?;
        let sandbox = containerd.sandbox(config.clone())?;
        Ok(Fabric { containerd, daemonset, config, sandbox })
    }

    fn start(&self, wish: ContainerConfig) -> Result<String> {
        self.containerd.container(&self.sandbox, self.config.clone(), wish)
    }

    /// What a container has said.
    fn said(&self, name: &str) -> String {
        let path = self.containerd.node.lab.path(&format!("/run/lab/{name}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Runs a container to its end, and wants it to have succeeded.
    fn finish(&self, wish: ContainerConfig) -> Result<()> {
        let name = wish.metadata.clone().context("a name")?.name;
        let container = self.start(wish)?;
        let status = retry_until(SOON, "the end of a container", || {
            let status = self.containerd.status(&container)?;
            ensure!(status.state == EXITED, "{status:?}: {}", self.said(&name));
            Ok(status)
        })?;
        ensure!(status.exit_code == 0, "{status:?}: {}", self.said(&name));
        Ok(())
    }

    /// Starts the daemon and waits until it serves; that is asked as the kubelet does.
    fn serve(&self) -> Result<()> {
        let container = self.start(self.daemonset.container("daemon")?)?;
        let command = self.daemonset.startup("daemon")?;
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let serves = || self.containerd.exec_in(&container, &command);
        retry_until(SOON, "the daemon", serves).with_context(|| self.said("daemon")).map(drop)
    }

    /// Writes the network configuration, which is the agent's business in a cluster.
    fn configure(&self) -> Result<()> {
        let mut wish = self.daemonset.container("install-cni")?;
        wish.metadata = Some(ContainerMetadata { name: "configure".into() });
        wish.log_path = "configure.log".into();
        wish.args = INSTALL.iter().chain([&CONFIGURATIONS]).map(|word| word.to_string()).collect();
        wish.mounts =
            [("/opt/cni/bin", "/host/bin"), ("/etc/cni/net.d", CONFIGURATIONS), ("/run/weft", "/run/weft")]
                .map(|(host_path, container_path)| Mount {
                    container_path: container_path.into(),
                    host_path: host_path.into(),
                    ..Mount::default()
                })
                .to_vec();
        self.finish(wish)
    }
}

/// Gives the node to the image: the state of the lab's daemon, which ends, and the plugin.
fn hand_over(containerd: &mut Containerd<'_, '_>) -> Result<()> {
    import(containerd)?;
    containerd.node.uninstall()?;
    containerd.node.lab.stop_daemon()?;
    containerd.node.must(&["sh", "-c", HAND_OVER]).map(drop)
}

/// Runs the whole pod but the agent, which has no cluster here.
fn deploy<'a, 'b, 'c>(containerd: &'a Containerd<'b, 'c>) -> Result<Fabric<'a, 'b, 'c>> {
    let fabric = Fabric::new(containerd)?;
    fabric.finish(fabric.daemonset.container("install-cni")?)?;
    fabric.serve()?;
    fabric.configure()?;
    retry_until(SOON, "a network for pods", || containerd.network_is_ready())?;
    Ok(fabric)
}

#[test]
fn the_image_takes_over_a_node_and_the_pods_that_run_there() {
    Containerd::test(|containerd| {
        let earlier = containerd.pod("earlier")?;
        hand_over(containerd)?;
        let fabric = deploy(containerd)?;
        let later = containerd.pod("later")?;
        containerd.pings(&later, &earlier.addresses)?;
        containerd.pings(&earlier, &later.addresses)?;
        containerd.node.reaches(&later.addresses)?;
        // What is read-only in the container is set all the same.
        let waits = containerd.exec(&later, &["cat", "/proc/sys/net/ipv6/conf/eth0/accept_dad"])?;
        ensure!(waits.trim() == "0", "{waits}");
        ensure!(!fabric.said("daemon").contains(" WARN "), "{}", fabric.said("daemon"));
        containerd.remove(&earlier.sandbox)?;
        containerd.remove(&later.sandbox)?;
        containerd.node.is_empty()
    });
}

#[test]
fn pods_outlive_the_pod_of_the_daemon() {
    Containerd::test(|containerd| {
        hand_over(containerd)?;
        let fabric = deploy(containerd)?;
        let one = containerd.pod("one")?;
        let device = || containerd.exec(&one, &["ip", "link", "show", "dev", "eth0"]);
        let before = device()?;
        containerd.remove(&fabric.sandbox)?;
        deploy(containerd)?;
        ensure!(device()? == before, "{} was {before}", device()?);
        containerd.pings(&one, &["198.18.1.1", "2001:db8:1::1"])?;
        containerd.pings(&containerd.pod("two")?, &one.addresses)
    });
}
