//! Weft's own image, run by containerd as the kubelet would have it run for the chart's DaemonSet.

use anyhow::{Result, ensure};
use weft_testkit::runtimes::cri::{ContainerMetadata, Mount};

use super::containerd::Containerd;
use super::daemonset::DaemonSet;
use super::release::{Release, import};

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

/// Writes the network configuration, which is the agent's business in a cluster.
fn configure(release: &Release<'_>) -> Result<()> {
    let mut wish = release.daemonset.container("install-cni")?;
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
    release.finish(wish)
}

/// Gives the node to the image: the state of the lab's daemon, which ends, and the plugin.
fn hand_over(containerd: &mut Containerd<'_, '_>) -> Result<()> {
    import(containerd.node.lab, containerd)?;
    containerd.node.uninstall()?;
    containerd.node.lab.stop_daemon()?;
    containerd.node.must(&["sh", "-c", HAND_OVER]).map(drop)
}

/// Runs the whole pod but the agent, which has no cluster here.
fn deploy<'a>(containerd: &'a Containerd<'_, '_>) -> Result<Release<'a>> {
    let lab = &*containerd.node.lab;
    let release = Release::new(lab, containerd, DaemonSet::new(lab, "node", &[])?)?;
    release.finish(release.daemonset.container("install-cni")?)?;
    release.serve()?;
    configure(&release)?;
    containerd.wait_for_network()?;
    Ok(release)
}

#[test]
fn the_image_takes_over_a_node_and_the_pods_that_run_there() {
    Containerd::test(|containerd| {
        let earlier = containerd.pod("earlier")?;
        hand_over(containerd)?;
        let release = deploy(containerd)?;
        let later = containerd.pod("later")?;
        containerd.pings(&later, &earlier.addresses)?;
        containerd.pings(&earlier, &later.addresses)?;
        containerd.node.reaches(&later.addresses)?;
        // What is read-only in the container is set all the same.
        let waits = containerd.exec(&later, &["cat", "/proc/sys/net/ipv6/conf/eth0/accept_dad"])?;
        ensure!(waits.trim() == "0", "{waits}");
        ensure!(!release.said("daemon").contains(" WARN "), "{}", release.said("daemon"));
        containerd.remove(&earlier.sandbox)?;
        containerd.remove(&later.sandbox)?;
        containerd.node.is_empty()
    });
}

#[test]
fn pods_outlive_the_pod_of_the_daemon() {
    Containerd::test(|containerd| {
        hand_over(containerd)?;
        let release = deploy(containerd)?;
        let one = containerd.pod("one")?;
        let device = || containerd.exec(&one, &["ip", "link", "show", "dev", "eth0"]);
        let before = device()?;
        containerd.remove(&release.sandbox)?;
        deploy(containerd)?;
        ensure!(device()? == before, "{} was {before}", device()?);
        containerd.pings(&one, &["198.18.1.1", "2001:db8:1::1"])?;
        containerd.pings(&containerd.pod("two")?, &one.addresses)
    });
}
