//! The agent's configuration: one TOML file, a few command line options on top.
//!
//! `agent.toml` beside this crate is the file that ships; a test keeps it complete and equal to the defaults.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Where the configuration is looked for when no file is named; it may be missing there.
pub const DEFAULT_PATH: &str = "/etc/weft/agent.toml";

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who keeps what the cluster shares.
    pub cluster: Keeper,
    /// The name of this node in the cluster; empty: `$NODE_NAME`, then the host's name.
    pub node_name: String,
    /// The daemon's API.
    pub daemon_socket: String,
    /// Folder of what the agent knows of the cluster, for times without it.
    pub state_dir: PathBuf,
    /// Where the CNI plugin asks for the networks of a pod.
    pub plugin_socket: PathBuf,
    /// Address of probes and status, ADDRESS:PORT.
    pub http_address: String,
    /// Address of metrics, ADDRESS:PORT; empty: none.
    pub metrics_address: String,
    /// Least severe log messages: error, warn, info, debug or trace.
    pub log_level: String,
    /// How a log message looks.
    pub log_format: LogFormat,
    /// How nodes reach each other's pods.
    pub tunnel: TunnelConfig,
    /// Addresses of pods.
    pub addresses: AddressConfig,
    /// What container runtimes are told.
    pub cni: CniConfig,
    /// Keys of the mesh.
    pub keys: KeyConfig,
    /// What `weft connectivity` tries.
    pub connectivity: ConnectivityConfig,
    /// etcd, for clusters without Kubernetes.
    pub etcd: EtcdConfig,
}

/// Who keeps what the cluster shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeper {
    /// The Kubernetes API.
    Kubernetes,
    /// etcd.
    Etcd,
}

/// How a log message looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How nodes reach each other's pods.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelConfig {
    /// What carries packets of pods from node to node.
    pub mode: Mode,
    /// UDP port of the tunnel; 0: 51820 for WireGuard, 4789 for VXLAN.
    pub port: u16,
    /// The segment's name in VXLAN, 0 to 16777215.
    pub vni: u32,
    /// Largest IP packet of a pod in octets; 0: the underlay's less what the tunnel takes.
    pub mtu: u32,
}

/// What carries packets of pods from node to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Encrypted, each node with each other.
    Wireguard,
    /// Encapsulated in UDP, in the clear.
    Vxlan,
    /// As they are, by routes of the nodes: these share a segment.
    Routes,
}

/// Addresses of pods.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddressConfig {
    /// Who says which addresses this node's pods get.
    pub source: AddressSource,
    /// Addresses of this node on the network that all nodes share, the preferred one first; empty: those that packets to
    /// etcd and by the default routes are sent from. In Kubernetes the Node tells them.
    pub node: Vec<IpAddr>,
    /// Prefixes of all pods; empty: worked out from the nodes.
    pub cluster: Vec<IpNet>,
    /// The outside sees the node's address instead of the pod's.
    pub masquerade: bool,
    /// Destinations that see the pods' own addresses all the same.
    pub masquerade_except: Vec<IpNet>,
}

/// Who says which addresses this node's pods get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressSource {
    /// `spec.podCIDRs` of the node.
    Node,
    /// Blocks of pools, which the agent claims.
    Pools,
}

/// What container runtimes are told.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CniConfig {
    /// Folder of the runtime's network configurations; empty: none is written.
    pub conf_dir: PathBuf,
    /// Name of the file there.
    pub conf_name: String,
    /// Other configurations there are set aside.
    pub exclusive: bool,
    /// veth or tap.
    pub port_type: String,
    /// Pods name further networks by annotations.
    pub secondary_networks: bool,
}

/// Keys of the mesh.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyConfig {
    /// Hours after which the node's key is changed; 0: only on command.
    pub rotate_hours: u32,
}

/// What `weft connectivity` tries.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectivityConfig {
    /// The name server that pods use; empty: the Service kube-dns in kube-system, where there is Kubernetes.
    pub dns: String,
}

/// etcd, for clusters without Kubernetes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EtcdConfig {
    /// Where it is: `http://ADDRESS:PORT` or `https://ADDRESS:PORT`.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// Who is believed to be etcd, PEM.
    pub ca_file: PathBuf,
    /// The agent's certificate, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Who the agent is to etcd, where that wants a name and a password.
    pub username: String,
    /// The file of its password.
    pub password_file: PathBuf,
    /// Seconds after which a node counts as silent that is not heard of; 5 or more.
    pub lease_seconds: u32,
    /// Pools that the first node declares.
    pub pools: Vec<IpNet>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster: Keeper::Kubernetes,
            node_name: String::new(),
            daemon_socket: weft_proto::client::DEFAULT_ENDPOINT.into(),
            state_dir: "/var/lib/weft/agent".into(),
            plugin_socket: "/run/weft/agent.sock".into(),
            http_address: "127.0.0.1:9810".into(),
            metrics_address: String::new(),
            log_level: "info".into(),
            log_format: LogFormat::Text,
            tunnel: TunnelConfig::default(),
            addresses: AddressConfig::default(),
            cni: CniConfig::default(),
            keys: KeyConfig::default(),
            connectivity: ConnectivityConfig::default(),
            etcd: EtcdConfig::default(),
        }
    }
}

impl Default for TunnelConfig {
    fn default() -> Self {
        TunnelConfig { mode: Mode::Wireguard, port: 0, vni: 4096, mtu: 0 }
    }
}

impl Default for AddressConfig {
    fn default() -> Self {
        AddressConfig {
            source: AddressSource::Node,
            node: Vec::new(),
            cluster: Vec::new(),
            masquerade: true,
            masquerade_except: Vec::new(),
        }
    }
}

impl Default for CniConfig {
    fn default() -> Self {
        CniConfig {
            conf_dir: "/etc/cni/net.d".into(),
            conf_name: "10-weft.conflist".into(),
            exclusive: true,
            port_type: "veth".into(),
            secondary_networks: true,
        }
    }
}

#[allow(clippy::derivable_impls)] // the defaults stand together
impl Default for KeyConfig {
    fn default() -> Self {
        KeyConfig { rotate_hours: 0 }
    }
}

impl Default for EtcdConfig {
    fn default() -> Self {
        EtcdConfig {
            endpoints: vec!["http://127.0.0.1:2379".into()],
            prefix: "/weft".into(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            username: String::new(),
            password_file: PathBuf::new(),
            lease_seconds: 60,
            pools: Vec::new(),
        }
    }
}

impl TunnelConfig {
    /// The UDP port that the tunnel of this mode uses; 0 where there is none.
    pub fn port(&self) -> u16 {
        match (self.port, self.mode) {
            (_, Mode::Routes) => 0,
            (0, Mode::Wireguard) => 51820,
            (0, Mode::Vxlan) => 4789,
            (port, _) => port,
        }
    }
}

impl Config {
    /// Reads a file; none named: that of [`DEFAULT_PATH`] if it is there. The node's name is filled in.
    ///
    /// Errors name the file, the key and what was expected.
    pub fn load(path: Option<&Path>) -> Result<Config> {
        let default = Path::new(DEFAULT_PATH);
        let (path, text) = match (path, fs::read_to_string(path.unwrap_or(default))) {
            (Some(path), Ok(text)) => (path, text),
            (None, Ok(text)) => (default, text),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => (default, String::new()),
            (given, Err(source)) => {
                return Err(Error::File { path: given.unwrap_or(default).to_owned(), source });
            }
        };
        let wrong = |message: String| Error::Config { path: path.to_owned(), message };
        let mut config: Config =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        config.check().map_err(wrong)?;
        if config.node_name.is_empty() {
            config.node_name = own_name();
        }
        Ok(config)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.tunnel.vni >= 1 << 24 {
            return Err(format!("tunnel.vni: {} is out of range, 0 to 16777215 expected", self.tunnel.vni));
        }
        if self.tunnel.mtu != 0 && !(1280..=65_520).contains(&self.tunnel.mtu) {
            let mtu = self.tunnel.mtu;
            return Err(format!("tunnel.mtu: {mtu} is out of range, 0 or 1280 to 65520 expected"));
        }
        if !["veth", "tap"].contains(&self.cni.port_type.as_str()) {
            return Err(format!("cni.port_type: \"{}\", veth or tap expected", self.cni.port_type));
        }
        let name = &self.cni.conf_name;
        if name.contains('/') || !name.ends_with(".conflist") {
            return Err(format!("cni.conf_name: \"{name}\", a file name that ends in .conflist expected"));
        }
        for (field, address) in
            [("http_address", &self.http_address), ("metrics_address", &self.metrics_address)]
        {
            if !address.is_empty() && address.parse::<std::net::SocketAddr>().is_err() {
                return Err(format!("{field}: \"{address}\", ADDRESS:PORT expected"));
            }
        }
        let dns = &self.connectivity.dns;
        if !dns.is_empty() && dns.parse::<IpAddr>().is_err() {
            return Err(format!("connectivity.dns: \"{dns}\", an IP address expected"));
        }
        if self.cluster == Keeper::Etcd {
            self.check_etcd()?;
        }
        Ok(())
    }

    fn check_etcd(&self) -> std::result::Result<(), String> {
        let etcd = &self.etcd;
        if etcd.endpoints.is_empty() {
            return Err("etcd.endpoints: empty, at least one expected".into());
        }
        for endpoint in &etcd.endpoints {
            if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
                return Err(format!(
                    "etcd.endpoints: \"{endpoint}\", http://ADDRESS:PORT or https://ADDRESS:PORT expected"
                ));
            }
            if endpoint.starts_with("https://") && etcd.ca_file.as_os_str().is_empty() {
                return Err("etcd.ca_file: empty, a PEM file expected with https".into());
            }
        }
        if etcd.cert_file.as_os_str().is_empty() != etcd.key_file.as_os_str().is_empty() {
            return Err("etcd.key_file: it and etcd.cert_file go together, both or none expected".into());
        }
        if etcd.username.is_empty() != etcd.password_file.as_os_str().is_empty() {
            return Err("etcd.password_file: it and etcd.username go together, both or none expected".into());
        }
        if etcd.prefix.trim_end_matches('/').is_empty() {
            return Err(format!("etcd.prefix: \"{}\", a name such as /weft expected", etcd.prefix));
        }
        for cidr in &etcd.pools {
            crate::cluster::etcd::check_pool(*cidr).map_err(|error| format!("etcd.pools: {error}"))?;
        }
        if etcd.lease_seconds < 5 {
            return Err(format!(
                "etcd.lease_seconds: {} is out of range, 5 or more expected",
                etcd.lease_seconds
            ));
        }
        if self.addresses.source == AddressSource::Node {
            return Err("addresses.source: \"node\" is for Kubernetes, \"pools\" expected with etcd".into());
        }
        Ok(())
    }
}

fn own_name() -> String {
    let given = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    given.or_else(|| host().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_ships_has_all_keys_at_their_defaults() {
        let shipped: Config = toml::from_str(include_str!("../agent.toml")).unwrap();
        assert_eq!(shipped, Config::default());
        let written = toml::to_string(&Config::default()).unwrap();
        for line in written.lines().filter(|line| line.contains(" = ")) {
            let key = line.split(" = ").next().unwrap();
            let is_key = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = "));
            assert!(include_str!("../agent.toml").lines().any(is_key), "agent.toml lacks {key}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        for (text, expected) in [
            ("[tunnel]\nmtu = 100", "tunnel.mtu: 100 is out of range"),
            ("[cni]\nconf_name = \"../x\"", "cni.conf_name: \"../x\", a file name"),
            ("http_address = \"here\"", "http_address: \"here\", ADDRESS:PORT expected"),
            ("[connectivity]\ndns = \"here\"", "connectivity.dns: \"here\", an IP address expected"),
            ("cluster = \"etcd\"", "addresses.source: \"node\" is for Kubernetes"),
            (
                "cluster = \"etcd\"\n[etcd]\nendpoints = [\"192.0.2.1:2379\"]",
                "etcd.endpoints: \"192.0.2.1:2379\", http",
            ),
            ("cluster = \"etcd\"\n[etcd]\nendpoints = [\"https://192.0.2.1:2379\"]", "etcd.ca_file: empty"),
            ("cluster = \"etcd\"\n[etcd]\ncert_file = \"x\"", "etcd.key_file: it and"),
            ("cluster = \"etcd\"\n[etcd]\nusername = \"x\"", "etcd.password_file: it and"),
            ("cluster = \"etcd\"\n[etcd]\nlease_seconds = 4", "etcd.lease_seconds: 4 is out of range"),
            (
                "cluster = \"etcd\"\n[etcd]\npools = [\"198.18.0.1/16\"]",
                "etcd.pools: spec.cidr: 198.18.0.1/16 has host bits",
            ),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let message = config.check().unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
        assert!(toml::from_str::<Config>("tunel = 1").is_err());
    }
}
