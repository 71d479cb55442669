//! The whole pod of the chart, as the kubelet runs it on a node of a cluster: what installs the plugin, the daemon, and the
//! agent, which reaches the API server by the ServiceAccount's files.

use anyhow::{Context, Result, ensure};
use weft_testkit::Traffic;
use weft_testkit::agent::{Cluster, Member, Runtime, SOON};
use weft_testkit::process::Process;
use weft_testkit::runtimes::Pod;
use weft_testkit::wait::retry_until;

use super::daemonset::{API_ACCESS, DaemonSet};
use super::release::{Release, import};

/// Where a node finds the API server, and how the chart is told.
const PORT: &str = "6444";
const VALUES: [&str; 2] = ["--set", "k8sServiceHost=127.0.0.1,k8sServicePort=6444"];

/// What a cluster gives its ServiceAccounts, and the certificate of the API server.
const CREDENTIALS: &str = r#"set -e
cd "$0"
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $key -keyout ca.key -out ca.crt -days 2 -subj /CN=cluster
openssl req $key -keyout api.key -out api.csr -subj /CN=api
echo subjectAltName=IP:127.0.0.1 >api.ext
openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out api.crt -days 2 -extfile api.ext
printf token >token
printf kube-system >namespace"#;

const FRONT: &str = include_str!("front.py");

/// A node as systemd leaves it, whose mounts are shared, with nothing of a daemon or of a plugin.
const BARE: &str = "set -e
mount --make-rshared /
rm -rf /var/lib/weft /run/weft /run/lab/state /opt/cni/bin/weft-cni";

/// Starts what stands for the API server's address on a node.
fn reach_the_api(cluster: &Cluster, node: &Member) -> Result<Process> {
    let place = node.node.node();
    place.exec(&["mkdir", "-p", API_ACCESS])?.ok()?;
    place.exec(&["sh", "-c", CREDENTIALS, API_ACCESS])?.ok()?;
    let url = cluster.api.url();
    let (host, port) = url.trim_start_matches("http://").split_once(':').context("a port")?;
    let [certificate, key] = ["api.crt", "api.key"].map(|name| format!("{API_ACCESS}/{name}"));
    let mut front =
        place.spawn_with_input(&["python3", "-c", FRONT, PORT, &certificate, &key, host, port], None)?;
    front.wait_for("listening")?;
    Ok(front)
}

/// Runs a test with an ordinary node and, on the second one, the chart's pod.
fn test(test: impl FnOnce(&Cluster, Release<'_>) -> Result<()>) {
    Cluster::test_with(Runtime::Containerd, 1, "", |cluster| {
        cluster.settle()?;
        let node = cluster.add(2, "")?;
        node.start_runtime(Runtime::Containerd)?;
        node.node.stop_daemon()?;
        node.node.node().exec(&["sh", "-c", BARE])?.ok()?;
        let node = &cluster.nodes[1];
        let _front = reach_the_api(cluster, node)?;
        import(&node.node, node.containerd()?)?;
        ensure!(!node.has_conflist(), "pods could come before there is a network");
        let release = deploy(node)?;
        cluster.settle()?;
        test(cluster, release)
    });
}

/// Runs the chart's pod on a node, and waits until the kubelet would find it ready.
fn deploy(node: &Member) -> Result<Release<'_>> {
    let containerd = node.containerd()?;
    let daemonset = DaemonSet::new(&node.node, &node.name, &VALUES)?;
    let release = Release::new(&node.node, containerd, daemonset)?;
    release.finish(release.daemonset.container("install-cni")?)?;
    release.serve()?;
    release.start(release.daemonset.container("agent")?)?;
    let url = release.daemonset.readiness("agent")?;
    let ask = ["timeout", "5", "busybox", "wget", "-q", "-O", "-", &url];
    retry_until(SOON, "the agent to be ready", || node.node.node().exec(&ask)?.ok())
        .with_context(|| release.said("agent"))?;
    containerd.wait_for_network()?;
    Ok(release)
}

/// A pod on each node.
fn pods(cluster: &Cluster) -> Result<[Pod; 2]> {
    let pod = |node: usize, name: &str| cluster.nodes[node].containerd()?.pod(name);
    Ok([pod(0, "there")?, pod(1, "here")?])
}

#[test]
fn the_whole_pod_of_the_chart_makes_a_node_of_the_cluster() {
    test(|cluster, release| {
        let taints = cluster.api.get("/api/v1/nodes/node-2")?["spec"]["taints"].clone();
        ensure!(taints.as_array().is_none_or(Vec::is_empty), "{taints}");
        let [there, here] = pods(cluster)?;
        cluster.nodes[0].containerd()?.pings(&there, &here.addresses)?;
        cluster.nodes[1].containerd()?.pings(&here, &there.addresses)?;
        for name in ["daemon", "agent"] {
            ensure!(!release.said(name).contains(" WARN "), "{}", release.said(name));
        }
        Ok(())
    });
}

#[test]
fn an_update_of_the_charts_pod_cuts_no_stream() {
    test(|cluster, release| {
        let [there, here] = pods(cluster)?;
        let [ordinary, node] = [&cluster.nodes[0], &cluster.nodes[1]];
        let mut traffic = Traffic::start(&ordinary.place(&there), &node.place(&here), &here.addresses)?;
        node.containerd()?.remove(&release.sandbox)?;
        let _release = deploy(node)?;
        traffic.goes_on()?;
        node.containerd()?.pings(&here, &there.addresses)
    });
}
