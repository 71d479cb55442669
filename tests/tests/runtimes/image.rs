//! Weft's own image, run by containerd the way Kubernetes runs the pod of a DaemonSet: on the node's network, with the
//! capabilities that it needs and no others, a read-only root, the runtime's seccomp filter, and folders of the node.

use std::collections::BTreeSet;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use weft_testkit::binaries;
use weft_testkit::wait::retry_until;

use super::containerd::Containerd;
use super::cri::{
    Capability, ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxSandboxSecurityContext, Mount, NamespaceOption, PodSandboxConfig,
    SecurityProfile,
};
use super::node::{Node, SOON};

/// What makes the image of programs.
const MAKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/image/archive");
/// What the image is called here.
const NAME: &str = concat!("weft.dev/weft:", env!("CARGO_PKG_VERSION"));
/// The variable that names an image to run instead of one of the programs under test.
const MADE: &str = "WEFT_IMAGE";
/// The programs in it.
const PROGRAMS: [&str; 3] = ["weftd", "weft", "weft-cni"];
/// How the plugin installs itself on the node.
const INSTALL: [&str; 6] = ["weft-cni", "install", "--bin-dir", "/host/bin", "--conf-dir", "/host/net.d"];
/// What the daemon may do; docs/image.md says why.
const CAPABILITIES: [&str; 4] = ["NET_ADMIN", "NET_RAW", "NET_BROADCAST", "SYS_ADMIN"];
/// Values of a mount: what is mounted on the node later appears in the container; and the other way round.
const FROM_NODE: i32 = 1;
const BOTH_WAYS: i32 = 2;
/// Value of a container's state.
const EXITED: i32 = 2;
/// Value of a namespace: the node's.
const OF_NODE: i32 = 2;

/// What kubelet hides of /proc and /sys, and what it lets be read only, of containers that are not privileged.
const MASKED: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/scsi", "/sys/firmware"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A node as systemd leaves it, whose mounts are shared; and the state of the lab's daemon where the image has it.
const HAND_OVER: &str = "set -e
mount --make-rshared /
rm -r /var/lib/weft/cni
cp -a /run/lab/state/. /var/lib/weft/
mkdir -p -m 700 /var/lib/weft/cni/detach";

/// A pod of the image's.
struct Fabric<'a, 'b, 'c> {
    containerd: &'a Containerd<'b, 'c>,
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

fn words_of(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

fn mount(host_path: &str, container_path: &str, propagation: i32) -> Mount {
    Mount { container_path: container_path.into(), host_path: host_path.into(), propagation }
}

impl<'a, 'b, 'c> Fabric<'a, 'b, 'c> {
    /// A pod on the node's network, without containers.
    fn new(containerd: &'a Containerd<'b, 'c>) -> Result<Fabric<'a, 'b, 'c>> {
        let mut config = containerd.wish("weft");
        config.log_directory = "/run/lab".into();
        // It is the node's too.
        config.hostname.clear();
        let namespaces = NamespaceOption { network: OF_NODE, pid: 0 };
        let linux = config.linux.as_mut().context("a config for Linux")?;
        linux.security_context =
            Some(LinuxSandboxSecurityContext { namespace_options: Some(namespaces), privileged: true });
        let sandbox = containerd.sandbox(config.clone())?;
        Ok(Fabric { containerd, config, sandbox })
    }

    /// A container of the image, which runs the daemon without arguments.
    fn wish(
        &self,
        name: &str,
        context: LinuxContainerSecurityContext,
        mounts: Vec<Mount>,
    ) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into() }),
            image: Some(ImageSpec { image: NAME.into() }),
            mounts,
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig { security_context: Some(context) }),
            ..ContainerConfig::default()
        }
    }

    fn start(&self, wish: ContainerConfig) -> Result<String> {
        self.containerd.container(&self.sandbox, self.config.clone(), wish)
    }

    /// What a container has said.
    fn said(&self, name: &str) -> String {
        let path = self.containerd.node.lab.path(&format!("/run/lab/{name}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits for the end of a container, and wants it to have succeeded.
    fn finish(&self, name: &str, container: &str) -> Result<()> {
        let status = retry_until(SOON, "the end of a container", || {
            let status = self.containerd.status(container)?;
            ensure!(status.state == EXITED, "{status:?}: {}", self.said(name));
            Ok(status)
        })?;
        ensure!(status.exit_code == 0, "{status:?}: {}", self.said(name));
        Ok(())
    }

    /// Runs the plugin, which installs itself on the node.
    fn install(&self, name: &str, options: &[&str], mounts: &[Mount]) -> Result<()> {
        let words = [&INSTALL[..], options].concat();
        let mounts = [&[mount("/opt/cni/bin", "/host/bin", 0)], mounts].concat();
        let wish = ContainerConfig { command: words_of(&words), ..self.wish(name, allowed(&[]), mounts) };
        self.finish(name, &self.start(wish)?)
    }

    /// Does what comes before the daemon: only a container that is privileged can leave a mount on the node.
    fn prepare(&self) -> Result<()> {
        let context = LinuxContainerSecurityContext { privileged: true, ..allowed(&[]) };
        let mounts =
            vec![mount("/var/lib/weft", "/var/lib/weft", 0), mount("/run/weft", "/run/weft", BOTH_WAYS)];
        let wish =
            ContainerConfig { args: words_of(&["--prepare"]), ..self.wish("prepare", context, mounts) };
        self.finish("prepare", &self.start(wish)?)
    }

    /// Starts the daemon and waits until it serves; that is asked from inside the container, which has no shell.
    fn serve(&self) -> Result<()> {
        let mounts = vec![
            mount("/var/lib/weft", "/var/lib/weft", 0),
            mount("/run/weft", "/run/weft", FROM_NODE),
            mount("/run/netns", "/run/netns", FROM_NODE),
            mount("/dev/net/tun", "/dev/net/tun", 0),
            mount("/proc/sys/net", "/host/proc/sys/net", 0),
        ];
        let args = words_of(&["--sysctl-dir", "/host/proc/sys"]);
        let wish = ContainerConfig { args, ..self.wish("daemon", allowed(&CAPABILITIES), mounts) };
        let container = self.start(wish)?;
        let serves = || self.containerd.exec_in(&container, &["weft", "status"]);
        retry_until(SOON, "the daemon", serves).with_context(|| self.said("daemon")).map(drop)
    }
}

/// What a container of the chart that is not privileged may do: these capabilities and no others.
fn allowed(capabilities: &[&str]) -> LinuxContainerSecurityContext {
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: words_of(capabilities),
            drop_capabilities: words_of(&["ALL"]),
        }),
        privileged: false,
        namespace_options: Some(NamespaceOption { network: OF_NODE, pid: 0 }),
        readonly_rootfs: true,
        no_new_privs: true,
        masked_paths: words_of(&MASKED),
        readonly_paths: words_of(&READ_ONLY),
        seccomp: Some(SecurityProfile { profile_type: 0 }),
    }
}

/// Gives the node to the image: the state of the lab's daemon, which ends, and the plugin.
fn hand_over(containerd: &mut Containerd<'_, '_>) -> Result<()> {
    import(containerd)?;
    containerd.node.uninstall()?;
    containerd.node.lab.stop_daemon()?;
    containerd.node.must(&["sh", "-c", HAND_OVER]).map(drop)
}

/// Runs the whole pod: what comes before the daemon, the daemon, and what lets containers come.
fn deploy<'a, 'b, 'c>(containerd: &'a Containerd<'b, 'c>) -> Result<Fabric<'a, 'b, 'c>> {
    let fabric = Fabric::new(containerd)?;
    fabric.install("plugin", &["--plugin-only"], &[])?;
    fabric.prepare()?;
    fabric.serve()?;
    let mounts = [mount("/etc/cni/net.d", "/host/net.d", 0), mount("/run/weft", "/run/weft", FROM_NODE)];
    fabric.install("network", &["--network", "pods"], &mounts)?;
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
