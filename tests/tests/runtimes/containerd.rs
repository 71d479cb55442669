//! containerd in a lab, configured as the manual says, and the pods that are made by it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use tonic::Status;
use weft_testkit::lab::DETACH_QUEUE;
use weft_testkit::wait::retry_until;
use weft_testkit::{Kept, image};

use super::cri::{self, Client};
use super::node::{Node, SOON, documented};

/// Where it listens.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// What a lab needs beside the manual's configuration: an image that is there, and less privileges.
const HERE: &str = r#"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "weft.test/busybox:latest"
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
"#;

/// A running containerd.
pub struct Containerd<'a, 'b> {
    // Dropped before the node, whose control groups must be empty then.
    running: Option<Kept>,
    client: Client,
    /// Where it runs.
    pub node: &'a mut Node<'b>,
}

/// A pod with one container.
#[derive(Debug)]
pub struct Pod {
    /// The sandbox.
    pub sandbox: String,
    /// The container.
    pub container: String,
    /// Its addresses, the primary one first.
    pub addresses: Vec<String>,
}

impl Containerd<'_, '_> {
    /// Runs a test with a containerd that knows the image.
    pub fn test(test: impl FnOnce(&mut Containerd<'_, '_>) -> Result<()>) {
        Node::test(|node| {
            let client = Client::new(&node.lab.path(SOCKET))?;
            let mut containerd = Containerd { running: None, client, node };
            containerd.configure(documented("containerd")?)?;
            containerd.ctr(&["images", "import", "/run/lab/image.tar"])?;
            let outcome = test(&mut containerd);
            outcome.with_context(|| format!("containerd said\n{}", containerd.said()))
        });
    }

    /// Starts it with this configuration, again if it runs; shims and containers of the former end.
    pub fn configure(&mut self, text: &str) -> Result<()> {
        self.node.write("/etc/containerd/config.toml", &format!("{text}{HERE}"))?;
        self.running = None;
        self.running = Some(Kept::start(&self.node.lab.node(), &["containerd"])?);
        retry_until(SOON, "a network for pods", || self.network_is_ready())
    }

    /// What it said last.
    fn said(&mut self) -> String {
        let said = self.running.as_mut().map(|kept| kept.process().stderr()).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Wants it to have a network for pods.
    pub fn network_is_ready(&self) -> Result<()> {
        let answer: cri::StatusResponse = self.client.call("Status", cri::Nothing {})?;
        let conditions = answer.status.context("a status")?.conditions;
        let network = conditions.iter().find(|it| it.r#type == "NetworkReady").context("NetworkReady")?;
        ensure!(network.status, "{network:?}");
        Ok(())
    }

    /// Runs ctr in the image and container namespace that Kubernetes has.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        self.node.must(&[&["ctr", "--namespace", "k8s.io"], arguments].concat())
    }

    /// What a pod of this name shall be.
    pub fn wish(&self, name: &str) -> cri::PodSandboxConfig {
        let metadata = cri::PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "shop".into(),
            attempt: 0,
        };
        let linux =
            cri::LinuxPodSandboxConfig { cgroup_parent: self.node.cgroup.clone(), ..Default::default() };
        cri::PodSandboxConfig {
            metadata: Some(metadata),
            hostname: name.into(),
            linux: Some(linux),
            ..Default::default()
        }
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
        let addresses = self.addresses(&sandbox)?;
        Ok(Pod { sandbox, container, addresses })
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

    /// The addresses of a sandbox that is ready, the primary one first.
    fn addresses(&self, sandbox: &str) -> Result<Vec<String>> {
        let request = cri::Sandbox { pod_sandbox_id: sandbox.into() };
        let answer: cri::PodSandboxStatusResponse = self.client.call("PodSandboxStatus", request)?;
        let status = answer.status.context("a status")?;
        ensure!(status.state == 0, "not ready: {status:?}");
        let network = status.network.context("a network")?;
        let further = network.additional_ips.into_iter().map(|further| further.ip);
        Ok([network.ip].into_iter().chain(further).collect())
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

    /// The pods that have Ports, sorted.
    pub fn owners(&self) -> Result<Vec<String>> {
        let mut owners = Vec::new();
        for name in self.node.ports()? {
            let port = self.node.lab.get("port", name.trim_start_matches("port/"))?;
            owners.push(port["spec"]["endpoint"]["owner"].as_str().context("an owner")?.to_owned());
        }
        owners.sort();
        Ok(owners)
    }

    /// Where DEL leaves what the daemon has to do later.
    pub fn queue(&self) -> PathBuf {
        self.node.lab.path(DETACH_QUEUE)
    }
}
