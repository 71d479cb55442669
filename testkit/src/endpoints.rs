//! What a container runtime's plugin asks of a lab's daemon by the service Endpoints, without a runtime and without the
//! plugin. Containers are named namespaces of the lab.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tonic::Status;
use weft_proto::Client;
use weft_proto::v1::{
    AttachRequest, AttachResponse, AttachmentKey, AttachmentState, CheckRequest, DetachRequest,
};

use crate::lab::{Lab, LabOptions};

/// Long enough for whatever may hang.
const LIMIT: Duration = Duration::from_secs(90);

/// A lab and the client of its daemon, in the place of a container runtime.
#[derive(Debug)]
pub struct Runtime<'a> {
    /// The lab.
    pub lab: &'a mut Lab,
    executor: tokio::runtime::Runtime,
}

impl Runtime<'_> {
    /// Runs a test with a daemon that soon collects what has no namespace any more; panics with the test's error, after
    /// the daemon's log.
    pub fn test(test: impl FnOnce(&mut Runtime<'_>) -> Result<()>) {
        let options = LabOptions { collect_seconds: 1, ..LabOptions::default() };
        Lab::test_with(&options, |lab| {
            let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            test(&mut Runtime { lab, executor })
        });
    }

    /// Makes the namespace of a container.
    pub fn container(&self, name: &str) -> Result<()> {
        self.lab.node().run(&format!("ip netns add {name}"))?.ok().map(drop)
    }

    /// One call with a client that has connected anew, with a deadline.
    pub fn call<T>(
        &self,
        call: impl AsyncFnOnce(Client) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let socket = format!("unix://{}", self.lab.path("/run/weft/weftd.sock").display());
        self.executor.block_on(async {
            let client = Client::connect(&socket).map_err(|error| Status::internal(error.to_string()))?;
            match tokio::time::timeout(LIMIT, call(client)).await {
                Ok(answer) => answer.map(tonic::Response::into_inner),
                Err(_) => Err(Status::cancelled("no answer in time")),
            }
        })
    }

    /// Asks for an attachment.
    pub fn ask(&self, request: AttachRequest) -> Result<AttachResponse, Status> {
        self.call(async |mut client: Client| client.endpoints.attach(request).await)
    }

    /// The attachment that is made.
    pub fn attach(&self, request: AttachRequest) -> Result<AttachmentState> {
        self.ask(request)?.attachment.context("an attachment")
    }

    /// What is said to a request that is not granted.
    pub fn refused(&self, request: AttachRequest) -> Result<Status> {
        match self.ask(request) {
            Ok(answer) => bail!("attached: {answer:?}"),
            Err(status) => Ok(status),
        }
    }

    /// Takes attachments away, and gives which were there; no interface means all of a container.
    pub fn detach(&self, container: &str, interface: &str) -> Result<Vec<AttachmentKey>> {
        let request = DetachRequest { key: Some(key(container, interface)) };
        let answer = self.call(async |mut client: Client| client.endpoints.detach(request).await)?;
        Ok(answer.detached)
    }

    /// Has an attachment looked at.
    pub fn check(&self, request: CheckRequest) -> Result<(), Status> {
        self.call(async |mut client: Client| client.endpoints.check(request).await).map(drop)
    }

    /// The names of all Ports.
    pub fn ports(&self) -> Result<Vec<String>> {
        let listed = self.lab.weft(&["get", "ports", "-o", "name"])?.ok()?;
        Ok(listed.lines().map(str::to_owned).collect())
    }
}

/// How an attachment is known.
pub fn key(container: &str, interface: &str) -> AttachmentKey {
    AttachmentKey { container_id: container.into(), interface: interface.into() }
}

/// What a container called like its namespace asks for: `eth0` on the Network `pods`.
pub fn wish(container: &str) -> AttachRequest {
    AttachRequest {
        key: Some(key(container, "eth0")),
        network: "pods".into(),
        netns: format!("/run/netns/{container}"),
        configuration: "pods".into(),
        ..Default::default()
    }
}
