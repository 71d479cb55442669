//! podman with its CNI backend, configured as the manual says.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_testkit::runtimes::documented;
use weft_testkit::wait::retry_until;
use weft_testkit::{Kept, image};

use super::node::{Node, SOON};

/// What a lab needs beside the manual's configuration: no systemd, and less privileges.
const HERE: &str = r#"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"

[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"#;

/// Where containers' files are.
const STORAGE: &str = r#"
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
"#;

/// podman on a node.
struct Podman<'a, 'b> {
    node: &'a mut Node<'b>,
}

impl Podman<'_, '_> {
    fn test(test: impl FnOnce(&mut Podman<'_, '_>) -> Result<()>) {
        Node::test(|node| {
            node.write("/etc/containers/containers.conf", &format!("{}{HERE}", documented("podman")?))?;
            node.write("/etc/containers/storage.conf", STORAGE)?;
            let mut podman = Podman { node };
            podman.run(&["import", "--change", "ENV PATH=/bin", "/run/lab/rootfs.tar", image::NAME])?;
            test(&mut podman)
        });
    }

    /// Starts podman, which stays as long as what it started.
    fn start(&self, arguments: &[&str]) -> Result<Kept> {
        Kept::start(&self.node.lab.node(), &[&["podman"], arguments].concat())
    }

    /// Runs podman to its end.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        Kept::run(&self.node.lab.node(), &[&["podman"], arguments].concat())?.ok()
    }

    /// Starts a container that does nothing.
    fn container(&self, name: &str, options: &[&str]) -> Result<Kept> {
        let run = ["run", "--detach", "--name", name, "--network", "weft"];
        // podman takes the right to ping away.
        let here = ["--cap-add", "NET_RAW", "--cgroup-parent", self.node.cgroup.path()];
        let kept = self.start(&[&run[..], &here, options, &[image::NAME, "sleep", "infinity"]].concat())?;
        retry_until(SOON, "a container", || {
            let state = self.run(&["inspect", "--format", "{{.State.Status}}", name])?;
            ensure!(state.trim() == "running", "{state}");
            Ok(())
        })?;
        Ok(kept)
    }

    /// A container's network, as podman has it.
    fn network(&self, name: &str) -> Result<Value> {
        let text = self.run(&["inspect", name])?;
        let value: Value = serde_json::from_str(&text).context("JSON")?;
        Ok(value[0]["NetworkSettings"]["Networks"]["weft"].clone())
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn containers_of_podman_reach_each_other_and_leave_nothing() {
    Podman::test(|podman| {
        let listed = podman.run(&["network", "ls"])?;
        ensure!(listed.contains("weft-cni"), "{listed}");
        let _one = podman.container("one", &[])?;
        let one = podman.network("one")?;
        ensure!(one["IPPrefixLen"] == 24 && one["GlobalIPv6PrefixLen"] == 64, "{one}");
        ensure!(one["Gateway"] == "198.18.1.1" && one["IPv6Gateway"] == "2001:db8:1::1", "{one}");
        let addresses = [word(&one["IPAddress"]), word(&one["GlobalIPv6Address"])];
        podman.node.reaches(&addresses)?;
        let _two = podman.container("two", &["--mac-address", "02:00:00:00:00:22"])?;
        for address in &addresses {
            let said = podman.run(&["exec", "two", "ping", "-c", "1", "-W", "5", address])?;
            ensure!(said.contains(" 0% packet loss"), "{said}");
        }
        let device = podman.run(&["exec", "two", "ip", "link", "show", "eth0"])?;
        ensure!(device.contains("02:00:00:00:00:22"), "{device}");
        for name in ["one", "two"] {
            podman.run(&["rm", "--force", "--time", "0", name])?;
        }
        podman.node.is_empty()
    });
}

#[test]
fn a_published_port_leads_to_the_container() {
    Podman::test(|podman| {
        let outside = podman.node.meet_outside()?;
        let _one = podman.container("one", &["--publish", "8080:80"])?;
        let _server = podman.start(&["exec", "--detach", "one", "httpd", "-f", "-p", "80", "-h", "/bin"])?;
        let fetch = ["timeout", "5", "busybox", "wget", "-q", "-O", "/dev/null", "http://192.0.2.1:8080/sh"];
        retry_until(SOON, "the server", || outside.exec(&fetch)?.ok())?;
        podman.run(&["exec", "one", "ping", "-c", "1", "-W", "5", "2001:db8:9::2"])?;
        podman.run(&["rm", "--force", "--time", "0", "one"])?;
        ensure!(!outside.exec(&fetch)?.success(), "the port is still served");
        podman.node.is_empty()
    });
}
