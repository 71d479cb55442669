//! A container runtime as libcni is one: environment and standard input in, standard output and exit code out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fake::Fake;

/// Where Debian has the reference plugins (package containernetworking-plugins).
pub const REFERENCE: &str = "/usr/lib/cni";

/// What a plugin answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// Its standard output as JSON; null when it was empty.
    pub value: Value,
    /// Its standard error.
    pub stderr: String,
}

/// A runtime with a folder of its own, where a fake daemon may listen.
pub struct Runtime {
    /// Its folder.
    pub folder: PathBuf,
    /// The network configuration.
    pub configuration: Value,
    /// The variables of a call.
    pub variables: Vec<(String, String)>,
}

impl Answer {
    /// The result of a success.
    pub fn ok(self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.value
    }

    /// The error object of a failure; its code must be this one, and it must be well formed.
    pub fn fails_with(self, code: u32) -> Value {
        assert_ne!(self.code, 0, "{self:?}");
        assert_eq!(self.value["code"], code, "{self:?}");
        let text = |field: &str| self.value[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(text("cniVersion") && text("msg") && text("details"), "{self:?}");
        self.value
    }
}

impl Runtime {
    /// A runtime with a configuration that needs nothing more.
    pub fn new(name: &str) -> Runtime {
        let folder = std::env::temp_dir().join(format!("weft-cni-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let configuration = json!({
            "cniVersion": "1.1.0", "name": "pods", "type": "weft-cni", "network": "front",
            "socket": folder.join("weftd.sock"), "detachQueue": folder.join("detach"),
            "daemonWaitSeconds": 0, "callTimeoutSeconds": 20,
        });
        let variables = [
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/none"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", REFERENCE),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Runtime { folder, configuration, variables }
    }

    /// A runtime with a fake daemon.
    pub fn with_daemon(name: &str) -> (Runtime, Fake) {
        let runtime = Runtime::new(name);
        let fake = runtime.start_daemon();
        (runtime, fake)
    }

    /// Starts a fake daemon.
    pub fn start_daemon(&self) -> Fake {
        Fake::start(&self.folder.join("weftd.sock"))
    }

    /// Changes a variable of calls.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Runtime {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Changes a field of the configuration.
    pub fn configure(&mut self, field: &str, value: Value) -> &mut Runtime {
        self.configuration[field] = value;
        self
    }

    /// Runs the plugin with a command.
    pub fn call(&self, command: &str) -> Answer {
        self.call_with(command, self.configuration.to_string().as_bytes())
    }

    /// Runs the plugin with a command and this on standard input.
    pub fn call_with(&self, command: &str, input: &[u8]) -> Answer {
        let mut all: Vec<(&str, &str)> = vec![("CNI_COMMAND", command)];
        if !["GC", "STATUS", "VERSION"].contains(&command) {
            all.extend(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        } else {
            all.extend(
                self.variables
                    .iter()
                    .filter(|(name, _)| name == "CNI_PATH")
                    .map(|(n, v)| (n.as_str(), v.as_str())),
            );
        }
        run(Path::new(env!("CARGO_BIN_EXE_weft-cni")), &all, input)
    }

    /// Files in the queue of detachments.
    pub fn queued(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.join("detach")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Runs a plugin with exactly these variables.
pub fn run(program: &Path, variables: &[(&str, &str)], input: &[u8]) -> Answer {
    let mut command = Command::new(program);
    command.env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It need not read all of its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let value = match output.stdout.as_slice() {
        [] => Value::Null,
        text => serde_json::from_slice(text)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(text))),
    };
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Answer { code: output.status.code().unwrap(), value, stderr }
}
