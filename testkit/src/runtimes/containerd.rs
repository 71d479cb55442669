//! containerd in a lab, configured as the manual says, and the pods that are made by it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tonic::Status;

use super::{ControlGroup, NAMESPACE, cri, documented};
use crate::image;
use crate::keeper::Kept;
use crate::lab::{Entrance, Lab};
use crate::process::Output;
use crate::wait::retry_until;

/// Time for what takes a moment.
const SOON: Duration = Duration::from_secs(20);
/// Where it listens.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// Value of a namespace that is the node's.
const OF_NODE: i32 = 2;

/// What a lab needs beside the manual's configuration: an image that is there, and less privileges.
const HERE: &str = r#"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "weft.test/busybox:latest"
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
"#;

/// A running containerd; it ends when this is dropped, with all that it started.
#[derive(Debug)]
pub struct Containerd {
    // Dropped before the control groups, which must be empty then.
    running: Option<Kept>,
    client: cri::Client,
    entrance: Entrance,
    root: PathBuf,
    cgroup: Arc<ControlGroup>,
}

/// A pod with one container.
#[derive(Debug, Clone)]
pub struct Pod {
    /// The sandbox.
    pub sandbox: String,
    /// The container.
    pub container: String,
    /// Its addresses, the primary one first; none of a pod on the node's network.
    pub addresses: Vec<String>,
    /// The name of its network namespace in the lab; empty: it is the node's.
    pub netns: String,
}

impl Containerd {
    /// Starts it as the manual says, in a lab that was [prepared](super::prepare), with the test's image. Whether there
    /// is a network for pods is to be waited for.
    pub fn start(lab: &Lab, cgroup: Arc<ControlGroup>) -> Result<Containerd> {
        let containerd = Containerd::launch(lab, cgroup)?;
        containerd.wait_for_image()?;
        Ok(containerd)
    }

    /// The same without waiting. It lives as long as the thread that calls this.
    pub fn launch(lab: &Lab, cgroup: Arc<ControlGroup>) -> Result<Containerd> {
        let client = cri::Client::new(&lab.path(SOCKET))?;
        let entrance = lab.node().entrance();
        let mut containerd = Containerd { running: None, client, entrance, root: lab.path("/"), cgroup };
        containerd.configure(documented("containerd")?)?;
        Ok(containerd)
    }

    /// Waits until it answers and knows the test's image.
    pub fn wait_for_image(&self) -> Result<()> {
        retry_until(SOON, "an answer of containerd", || self.conditions().map(drop))?;
        self.ctr(&["images", "import", "/run/lab/image.tar"]).map(drop)
    }

    /// Starts it with this configuration, again if it runs; shims and containers of the former end.
    pub fn configure(&mut self, text: &str) -> Result<()> {
        let path = self.root.join("etc/containerd/config.toml");
        fs::write(&path, format!("{text}{HERE}")).with_context(|| path.display().to_string())?;
        self.running = None;
        self.running = Some(Kept::enter(&self.entrance, &["containerd"])?);
        Ok(())
    }

    /// What it said last.
    pub fn said(&mut self) -> String {
        let said = self.running.as_mut().map(|kept| kept.process().stderr()).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Waits until it has a network for pods.
    pub fn wait_for_network(&self) -> Result<()> {
        retry_until(SOON, "a network for pods", || self.network_is_ready())
    }

    /// Wants it to have a network for pods.
    pub fn network_is_ready(&self) -> Result<()> {
        let conditions = self.conditions()?;
        let network = conditions.iter().find(|it| it.r#type == "NetworkReady").context("NetworkReady")?;
        ensure!(network.status, "{network:?}");
        Ok(())
    }

    fn conditions(&self) -> Result<Vec<cri::RuntimeCondition>> {
        let answer: cri::StatusResponse = self.client.call("Status", cri::Nothing {})?;
        Ok(answer.status.context("a status")?.conditions)
    }

    /// Runs ctr in the image and container namespace that Kubernetes has.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let output: Output =
            self.entrance.spawn(&[&["ctr", "--namespace", "k8s.io"], arguments].concat(), None)?.wait()?;
        output.ok()
    }

    /// What a pod of this name shall be.
    pub fn wish(&self, name: &str) -> cri::PodSandboxConfig {
        let metadata = cri::PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: NAMESPACE.into(),
            attempt: 0,
        };
        let linux =
            cri::LinuxPodSandboxConfig { cgroup_parent: self.cgroup.path().into(), ..Default::default() };
        cri::PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.into(),
            linux: Some(linux),
            ..Default::default()
        }
    }

    /// The same on the node's network (`hostNetwork`).
    pub fn wish_on_the_node(&self, name: &str) -> cri::PodSandboxConfig {
        let mut wish = self.wish(name);
        let namespace_options = Some(cri::NamespaceOption { network: OF_NODE, ..Default::default() });
        let context = cri::LinuxSandboxSecurityContext { namespace_options, ..Default::default() };
        if let Some(linux) = &mut wish.linux {
            linux.security_context = Some(context);
        }
        // It has the node's name, too.
        wish.hostname.clear();
        wish
    }

    /// Makes a sandbox and gives its id.
    pub fn sandbox(&self, config: cri::PodSandboxConfig) -> Result<String, Status> {
        let request = cri::RunPodSandboxRequest { config: Some(config) };
        let answer: cri::Sandbox = self.client.call("RunPodSandbox", request)?;
        Ok(answer.pod_sandbox_id)
    }

    /// Makes a pod with a container that runs `command`.
    pub fn run(&self, config: cri::PodSandboxConfig, command: &[&str]) -> Result<Pod> {
        let sandbox = self.sandbox(config.clone())?;
        let wish = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: "main".into() }),
            image: Some(cri::ImageSpec { image: image::NAME.into() }),
            command: command.iter().map(|word| word.to_string()).collect(),
            ..Default::default()
        };
        let container = self.container(&sandbox, config, wish)?;
        self.found(sandbox, container)
    }

    /// Starts a container in a sandbox that was made of `config`, and gives its id.
    pub fn container(
        &self,
        sandbox: &str,
        config: cri::PodSandboxConfig,
        wish: cri::ContainerConfig,
    ) -> Result<String> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(wish),
            sandbox_config: Some(config),
        };
        let made: cri::Container = self.client.call("CreateContainer", request)?;
        let _: cri::Nothing = self.client.call("StartContainer", made.clone())?;
        Ok(made.container_id)
    }

    /// How a container is.
    pub fn status(&self, container: &str) -> Result<cri::ContainerStatus> {
        let request = cri::Container { container_id: container.into() };
        let answer: cri::ContainerStatusResponse = self.client.call("ContainerStatus", request)?;
        answer.status.context("a status")
    }

    /// Runs a command in a container and gives what it says.
    pub fn exec_in(&self, container: &str, command: &[&str]) -> Result<String> {
        let request = cri::ExecSyncRequest {
            container_id: container.into(),
            cmd: command.iter().map(|word| word.to_string()).collect(),
            timeout: 60,
        };
        let answer: cri::ExecSyncResponse = self.client.call("ExecSync", request)?;
        let [said, failed] =
            [answer.stdout, answer.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
        if answer.exit_code != 0 {
            bail!("{command:?} ended with {}: {said}{failed}", answer.exit_code);
        }
        Ok(said)
    }

    /// Makes a pod of this name that does nothing.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        self.run(self.wish(name), &["sleep", "infinity"])
    }

    /// What became of a sandbox that is ready.
    fn found(&self, sandbox: String, container: String) -> Result<Pod> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), verbose: true };
        let answer: cri::PodSandboxStatusResponse = self.client.call("PodSandboxStatus", request)?;
        let status = answer.status.context("a status")?;
        ensure!(status.state == 0, "not ready: {status:?}");
        let network = status.network.context("a network")?;
        let further = network.additional_ips.into_iter().map(|further| further.ip);
        let addresses = [network.ip].into_iter().chain(further).filter(|address| !address.is_empty());
        let netns = netns(answer.info.get("info").context("what only containerd tells")?)?;
        Ok(Pod { sandbox, container, addresses: addresses.collect(), netns })
    }

    /// Runs a command in a pod's container and gives what it says.
    pub fn exec(&self, pod: &Pod, command: &[&str]) -> Result<String> {
        self.exec_in(&pod.container, command)
    }

    /// Pings each address from a pod.
    pub fn pings(&self, pod: &Pod, addresses: &[impl AsRef<str>]) -> Result<()> {
        for address in addresses {
            let said = self.exec(pod, &["ping", "-c", "1", "-W", "5", address.as_ref()])?;
            ensure!(said.contains(" 0% packet loss"), "{said}");
        }
        Ok(())
    }

    /// Stops a sandbox and what is in it; its network is taken away.
    pub fn stop(&self, sandbox: &str) -> Result<(), Status> {
        let request = cri::Sandbox { pod_sandbox_id: sandbox.into() };
        self.client.call("StopPodSandbox", request).map(|_: cri::Nothing| ())
    }

    /// Stops and removes a pod.
    pub fn remove(&self, sandbox: &str) -> Result<(), Status> {
        self.stop(sandbox)?;
        let request = cri::Sandbox { pod_sandbox_id: sandbox.into() };
        self.client.call("RemovePodSandbox", request).map(|_: cri::Nothing| ())
    }
}

/// The name of a sandbox's network namespace, in what containerd tells of it beyond the interface.
fn netns(info: &str) -> Result<String> {
    let info: serde_json::Value = serde_json::from_str(info).context("what containerd tells of a sandbox")?;
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().context("namespaces")?;
    let path = namespaces.iter().find(|it| it["type"] == "network").and_then(|it| it["path"].as_str());
    Ok(path.unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned())
}
