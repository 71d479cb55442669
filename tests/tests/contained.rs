//! The daemon in a container, as the chart's pods have it: few capabilities, /proc/sys to read alone, and mounts that
//! nobody outside sees, unless it works in the node's mount namespace.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_testkit::topology::{self, NEAR_B4};
use weft_testkit::wait::{retry_until, wait_until};
use weft_testkit::{Lab, PortKind, Process, binaries};

const SOON: Duration = Duration::from_secs(20);
/// The namespace of the stack's ends: all pairs are gone when nothing names it any more.
const PORTS: &str = "/run/weft/netns/ports";
/// As runtimes start containers without privileges: mounts come in but do not go out, and /proc/sys is read only.
const CONTAINER: &str = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys \
    && exec setpriv --no-new-privs --bounding-set \"$0\" \"$@\"";

/// The capabilities that the chart's daemon has by default, in the form of setpriv.
fn capabilities() -> Result<String> {
    let values = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../charts/weft/values.yaml");
    let values: serde_json::Value = serde_yaml_ng::from_str(&std::fs::read_to_string(values)?)?;
    let listed = values["daemon"]["capabilities"].as_array().context("daemon.capabilities")?;
    let names = listed.iter().filter_map(|name| name.as_str());
    Ok(names.fold("-all".to_owned(), |all, name| format!("{all},+{}", name.to_lowercase())))
}

/// Starts the daemon in a container, in place of the lab's own, and waits until it serves.
fn contained(lab: &Lab, options: &[&str]) -> Result<Process> {
    let program = binaries::find("weftd")?;
    let program = program.to_str().context("the path of weftd")?;
    let capabilities = capabilities()?;
    let shell = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", CONTAINER];
    let daemon = [&capabilities, program, "--config", "/run/lab/weftd.toml"];
    let process = lab.node().spawn_with_input(&[&shell[..], &daemon[..], options].concat(), None)?;
    let answers = || lab.weft(&["status"]).is_ok_and(|output| output.success());
    wait_until(SOON, "the daemon", answers).with_context(|| process.stderr())?;
    Ok(process)
}

fn is_named(lab: &Lab) -> Result<bool> {
    Ok(lab.node().exec(&["findmnt", "--noheadings", PORTS])?.success())
}

#[test]
fn pairs_of_containers_outlive_a_daemon_in_a_container() {
    Lab::test(|lab| {
        lab.stop_daemon()?;
        let mounts = format!("/proc/{}/ns/mnt", lab.holder_pid());
        let daemon = contained(lab, &["--mounts", &mounts])?;
        lab.apply(&topology::one_network(PortKind::Veth, PortKind::Veth))?;
        retry_until(SOON, "traffic", || lab.container("a").reaches(NEAR_B4))?;
        let index = lab.container("a").run("cat /sys/class/net/eth0/ifindex")?.ok()?;
        let log = daemon.stderr();
        ensure!(!log.contains("sysctl"), "a kernel parameter could not be set:\n{log}");
        daemon.kill();
        ensure!(is_named(lab)?, "the node does not see the namespace of the stack's ends");
        let daemon = contained(lab, &["--mounts", &mounts])?;
        retry_until(SOON, "traffic", || lab.container("a").reaches(NEAR_B4))?;
        ensure!(lab.container("a").run("cat /sys/class/net/eth0/ifindex")?.ok()? == index, "a new device");
        daemon.kill();
        Ok(())
    });
}

/// Why the option is there. When this fails, the chart does not need it any more.
#[test]
fn what_a_daemon_in_a_container_mounts_ends_with_it() {
    Lab::test(|lab| {
        lab.stop_daemon()?;
        let daemon = contained(lab, &[])?;
        let manifest = topology::one_network(PortKind::Veth, PortKind::Veth).to_string();
        lab.try_apply(&manifest)?.ok()?;
        ensure!(!is_named(lab)?, "the node sees the namespace of the stack's ends");
        let log = daemon.stderr();
        ensure!(log.contains("sysctl"), "kernel parameters are set in a container:\n{log}");
        daemon.kill();
        Ok(())
    });
}
