//! The API server as a process of a lab, for a test to drive.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::binaries;
use crate::lab::{Entrance, Place};
use crate::process::{Output, Process};
use crate::wait::retry_until;

/// The program.
const PROGRAM: &str = "weft-fake-cluster";
/// Longest time that the server may take to start.
const START: Duration = Duration::from_secs(20);

/// An API server in a place of a lab, with objects that outlive its process.
#[derive(Debug)]
pub struct ApiServer {
    process: Option<Process>,
    entrance: Entrance,
    program: String,
    address: String,
    state: String,
}

impl ApiServer {
    /// Starts a server at `address:port` of a place and waits until it answers. Its objects are kept in the lab.
    pub fn start(place: &Place<'_>, address: &str) -> Result<ApiServer> {
        let program = binaries::find(PROGRAM)?;
        let program = program.to_str().context("the path of the API server is not UTF-8")?.to_owned();
        let port = address.rsplit(':').next().unwrap_or(address);
        let state = format!("/run/lab/cluster-{port}.json");
        let (entrance, address) = (place.entrance(), address.to_owned());
        let mut server = ApiServer { process: None, entrance, program, address, state };
        server.restart()?;
        Ok(server)
    }

    /// Starts it again, with the objects that it had, and waits until it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let words = [&self.program, "--listen", &self.address, "--state", &self.state];
        let mut process = self.entrance.spawn(&words, None)?;
        retry_until(START, "an answer of the API server", || {
            ensure!(process.is_running(), "it ended: {}", process.stderr());
            self.request("GET", "/readyz", None).map(drop)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Its URL, inside the lab.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The text of a kubeconfig file for it.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": self.url()}}],
            "users": [{"name": "lab", "user": {}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        })
        .to_string()
    }

    /// Writes a kubeconfig file, whose path is one outside of the lab ([`crate::Lab::path`]).
    pub fn write_kubeconfig(&self, path: &std::path::Path) -> Result<()> {
        fs::write(path, self.kubeconfig()).with_context(|| path.display().to_string())
    }

    /// Makes objects as they are wished, also their status, whether they exist or not.
    pub fn apply_all(&self, objects: &[Value]) -> Result<()> {
        let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
        self.run(&["apply", &self.url()], Some(&lines))?.ok().map(drop)
    }

    /// Makes one object as it is wished.
    pub fn apply(&self, object: &Value) -> Result<()> {
        self.apply_all(std::slice::from_ref(object))
    }

    /// The object, or the list, at a path.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, None)
    }

    /// Takes away the object at a path.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.request("DELETE", path, None).map(drop)
    }

    /// Changes the object at a path by a merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.request("PATCH", path, Some(patch))
    }

    /// Asks for a fault, see [`super::fault`].
    pub fn fault(&self, fault: &Value) -> Result<()> {
        self.request("POST", "/_faults", Some(fault)).map(drop)
    }

    /// Ends all faults.
    pub fn heal(&self) -> Result<()> {
        self.delete("/_faults")
    }

    /// How often what was asked since the start or [`ApiServer::forget_requests`], for example
    /// `{"list weftnodes": 3}`.
    pub fn requests(&self) -> Result<Value> {
        self.get("/_requests")
    }

    /// Counts requests from zero again.
    pub fn forget_requests(&self) -> Result<()> {
        self.delete("/_requests")
    }

    /// Sends a request; what is answered, or an error when it is refused.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}{path}", self.url());
        let text = body.map(Value::to_string).unwrap_or_default();
        let output = self.run(&["request", method, &url, "-"], Some(&text))?.ok()?;
        match serde_json::from_str(&output) {
            Ok(value) => Ok(value),
            Err(_) if output.trim() == "ok" => Ok(Value::Null),
            Err(error) => bail!("{method} {path}: {error}: {output}"),
        }
    }

    fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<Output> {
        self.entrance.spawn(&[&[self.program.as_str()], arguments].concat(), input)?.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;

    #[test]
    fn a_server_in_a_lab_keeps_its_objects_over_its_death() {
        let lab = Lab::empty().unwrap();
        let mut server = ApiServer::start(&lab.node(), "127.0.0.1:8080").unwrap();
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"},
            "spec": {"podCIDR": "198.18.1.0/24"}, "status": {"phase": "Running"},
        });
        server.apply(&node).unwrap();
        let before = server.get("/api/v1/nodes/a").unwrap();
        assert_eq!((&before["spec"], &before["status"]), (&node["spec"], &node["status"]));
        server.kill();
        assert!(server.get("/api/v1/nodes/a").is_err());
        server.restart().unwrap();
        assert_eq!(server.get("/api/v1/nodes/a").unwrap(), before);
        assert_eq!(server.requests().unwrap(), json!({"get nodes": 1}));
        server.fault(&json!({"status": 503, "count": 1})).unwrap();
        let refused = server.get("/api/v1/nodes").unwrap_err().to_string();
        assert!(refused.contains("ServiceUnavailable"), "{refused}");
        server.delete("/api/v1/nodes/a").unwrap();
        assert_eq!(server.get("/api/v1/nodes").unwrap()["items"], json!([]));
    }
}
