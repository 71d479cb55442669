//! Plugins that give addresses (section "Plugin Delegation" of the specification): run as a runtime would run them,
//! with the environment and the configuration that came.

use std::env;
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use weft_proto::v1::GivenAddresses;

use crate::document::{Document, tidy};
use crate::failure::{Code, Failure};
use crate::settings::{Dns, Route};

/// How often a program is started that is just being written, and the pause between.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// A plugin for addresses.
#[derive(Debug)]
pub struct Ipam<'a> {
    name: &'a str,
    program: PathBuf,
    configuration: &'a [u8],
}

/// What it gave.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Given {
    /// Addresses with their gateways.
    pub ips: Vec<GivenIp>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Name servers.
    pub dns: Dns,
}

/// An address that was given.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GivenIp {
    /// With prefix length.
    pub address: String,
    /// Empty when there is none.
    pub gateway: String,
}

/// The error object of another plugin.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Complaint {
    code: u32,
    msg: String,
    details: String,
}

impl<'a> Ipam<'a> {
    /// Looks for the plugin in the folders of CNI_PATH.
    pub fn find(name: &'a str, path: &OsStr, document: &'a Document) -> Result<Ipam<'a>, Failure> {
        if name.contains('/') {
            return Err(Failure::field("ipam.type", format!("{name:?} is no name of a plugin")));
        }
        let program = env::split_paths(path).map(|folder| folder.join(name)).find(|path| path.is_file());
        let program = program.ok_or_else(|| {
            let details = format!("{name} is in none of the folders of CNI_PATH={}", path.display());
            Failure::new(Code::Ipam, format!("the IPAM plugin {name} is not there"), details)
        })?;
        Ok(Ipam { name, program, configuration: &document.bytes })
    }

    /// ADD. When it fails it is told to DEL, as the specification wants.
    pub fn add(&self) -> Result<Given, Failure> {
        let given = self.run("ADD").and_then(|output| self.read(&output));
        if given.is_err() {
            // What made ADD fail is what the user must know.
            let _ = self.run("DEL");
        }
        given
    }

    /// DEL, CHECK, GC or STATUS.
    pub fn call(&self, command: &str) -> Result<(), Failure> {
        self.run(command).map(|_| ())
    }

    fn run(&self, command: &str) -> Result<Vec<u8>, Failure> {
        let output = self.execute(command).map_err(|error| {
            let message = format!("the IPAM plugin {} cannot be run", self.name);
            Failure::new(Code::Ipam, message, format!("{}: {error}", self.program.display()))
        })?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.complaint(command, &output)) }
    }

    fn execute(&self, command: &str) -> io::Result<Output> {
        let mut attempt = 1;
        let mut child = loop {
            let started = Command::new(&self.program)
                .env("CNI_COMMAND", command)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit())
                .spawn();
            match started {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && attempt < ATTEMPTS => {
                    attempt += 1;
                    thread::sleep(PAUSE);
                }
                started => break started?,
            }
        };
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(self.configuration));
        match written {
            // It need not read its input to know what it thinks of it.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => child.wait_with_output(),
        }
    }

    fn read(&self, output: &[u8]) -> Result<Given, Failure> {
        let unreadable = |details: String| {
            Failure::new(
                Code::Ipam,
                format!("the answer of the IPAM plugin {} cannot be used", self.name),
                details,
            )
        };
        let value = serde_json::from_slice(output).map_err(|error| unreadable(error.to_string()))?;
        let given: Given = serde_path_to_error::deserialize(tidy(value))
            .map_err(|error| unreadable(format!("{}: {}", error.path(), error.inner())))?;
        if given.ips.is_empty() { Err(unreadable("it has no addresses".into())) } else { Ok(given) }
    }

    /// Its own words, and its code if it has one.
    fn complaint(&self, command: &str, output: &Output) -> Failure {
        let complaint: Complaint = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let said = if complaint.msg.is_empty() {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        } else if complaint.details.is_empty() {
            complaint.msg
        } else {
            format!("{}; {}", complaint.msg, complaint.details)
        };
        let ending = if said.is_empty() { output.status.to_string() } else { said };
        let code = if complaint.code == 0 { Code::Ipam as u32 } else { complaint.code };
        Failure {
            code,
            message: format!("the IPAM plugin {} failed at {command}", self.name),
            details: ending,
        }
    }
}

impl Given {
    /// The addresses, for the daemon.
    pub fn addresses(&self) -> GivenAddresses {
        GivenAddresses { addresses: self.ips.iter().map(|ip| ip.address.clone()).collect() }
    }

    /// Its routes, each by the gateway of its family when it has no next hop of its own.
    pub fn routes(&self) -> Vec<Route> {
        let gateway = |route: &Route| {
            let is_v6 = route.dst.contains(':');
            let mut gateways = self.ips.iter().map(|ip| &ip.gateway).filter(|gateway| !gateway.is_empty());
            gateways.find(|gateway| gateway.contains(':') == is_v6).cloned().unwrap_or_default()
        };
        let filled = |route: &Route| match route.gw.as_str() {
            "" => Route { gw: gateway(route), ..route.clone() },
            _ => route.clone(),
        };
        self.routes.iter().map(filled).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin() -> Ipam<'static> {
        Ipam { name: "host-local", program: "/nonexistent/host-local".into(), configuration: b"{}" }
    }

    /// What host-local answers according to SPEC.md 1.1.0, "Add example".
    const ANSWER: &str = r#"{
        "ips": [ { "address": "10.1.0.5/16", "gateway": "10.1.0.1" } ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "2001:db8::/32" } ],
        "dns": { "nameservers": [ "10.1.0.1" ] }
    }"#;

    #[test]
    fn an_answer_gives_addresses_routes_and_name_servers() {
        let given = plugin().read(ANSWER.as_bytes()).unwrap();
        assert_eq!(given.addresses().addresses, ["10.1.0.5/16"]);
        let routes: Vec<_> = given.routes().into_iter().map(|route| (route.dst, route.gw)).collect();
        let expected = [("0.0.0.0/0", "10.1.0.1"), ("2001:db8::/32", "")];
        assert_eq!(routes, expected.map(|(dst, gw)| (dst.to_owned(), gw.to_owned())));
        assert_eq!(given.dns.nameservers, ["10.1.0.1"]);
    }

    #[test]
    fn an_answer_of_0_4_0_with_nulls_is_read_too() {
        let text = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.0.5/16"}],"routes":null,"dns":{}}"#;
        assert_eq!(plugin().read(text.as_bytes()).unwrap().addresses().addresses, ["10.1.0.5/16"]);
    }

    #[test]
    fn answers_that_cannot_be_used_are_told() {
        for text in ["", "{", "{}", "{\"ips\": []}", "{\"ips\": [{\"address\": 1}]}"] {
            assert_eq!(plugin().read(text.as_bytes()).unwrap_err().code, 104, "{text}");
        }
    }

    #[test]
    fn a_plugin_that_is_not_there_is_named_with_the_folders() {
        let text = br#"{"cniVersion": "1.0.0", "name": "n"}"#;
        let document = Document::parse(text.to_vec(), crate::environment::Operation::Add).unwrap();
        let failure = Ipam::find("none", OsStr::new("/nonexistent:/bin"), &document).unwrap_err();
        assert_eq!(failure.details, "none is in none of the folders of CNI_PATH=/nonexistent:/bin");
        assert_eq!(Ipam::find("../sh", OsStr::new("/bin"), &document).unwrap_err().code, 7);
    }
}
