//! The fields of a network configuration that Weft knows, as types. A field of the wrong type is an error that
//! names it; which values are right is judged where they are used, or by the daemon.

use serde::Deserialize;
use weft_proto::client::DEFAULT_ENDPOINT;
use weft_proto::detach_queue::{DEFAULT_FOLDER, DetachQueue};

/// How the daemon is spoken with. All commands but VERSION need it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Access {
    /// The daemon's socket.
    pub socket: String,
    /// Folder of the queue of detachments.
    pub detach_queue: String,
    /// How long ADD waits for a daemon that does not listen yet, in seconds.
    pub daemon_wait_seconds: u32,
    /// How long a call may take, in seconds.
    pub call_timeout_seconds: u32,
}

/// What the daemon is to give, where no plugin does: such a plugin has fields of its own in its section.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PoolSettings {
    /// Its section.
    pub ipam: Ipam,
}

/// Which addresses the daemon is to give.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// Addresses that are wanted of the daemon.
    pub addresses: Vec<String>,
    /// Ranges that the daemon is to take from.
    pub ranges: Vec<String>,
}

/// Who gives addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Delegation {
    /// Its section.
    pub ipam: IpamType,
}

/// The type alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct IpamType {
    /// Empty, `weft` and `weft-cni`: the daemon. Anything else: the plugin of this name.
    pub r#type: String,
}

/// What STATUS needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StatusSettings {
    /// The Network.
    pub network: String,
    /// Whether a pool without addresses makes the plugin unavailable.
    pub status_reports_exhaustion: bool,
}

/// Which VLAN of its Network a container is on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct VlanSettings {
    /// None: the daemon chooses.
    pub vlan: Option<u32>,
    /// What the runtime asks for this container.
    pub args: Args,
}

/// Where further networks of a pod are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Further {
    /// Its section; without one, nobody is asked.
    pub pod_networks: Option<PodNetworks>,
}

/// Who knows the annotations of pods.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodNetworks {
    /// Path of the agent's socket.
    pub socket: String,
}

/// What GC needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Survivors {
    /// Who lives.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid: Option<Vec<Survivor>>,
    /// The same by the name that an earlier specification had.
    #[serde(rename = "cni.dev/attachments")]
    pub legacy: Option<Vec<Survivor>>,
}

/// An attachment that is still valid.
#[derive(Debug, Deserialize)]
pub struct Survivor {
    /// CNI_CONTAINERID of its ADD.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// CNI_IFNAME of its ADD.
    pub ifname: String,
}

/// What an attachment is to be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Wishes {
    /// The Network. Required.
    pub network: String,
    /// veth or tap.
    pub port_type: String,
    /// Octets; 0 for the Network's.
    pub mtu: u32,
    /// MAC address.
    pub mac: String,
    /// Whether it gets default routes.
    pub default_route: Option<bool>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// What the result says about name servers.
    pub dns: Dns,
    /// A bandwidth for all containers.
    pub bandwidth: Option<Bandwidth>,
    /// What the runtime asks for this container.
    pub runtime_config: RuntimeConfig,
    /// The same, by an older convention.
    pub args: Args,
}

/// Capability arguments (CONVENTIONS.md of CNI).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RuntimeConfig {
    /// Ports of the node that lead to the container.
    pub port_mappings: Vec<PortMap>,
    /// Rates.
    pub bandwidth: Option<Bandwidth>,
    /// Addresses that are wanted.
    pub ips: Vec<String>,
    /// MAC address that is wanted.
    pub mac: String,
    /// Name servers.
    pub dns: RuntimeDns,
    /// For each address the ranges that it may come from.
    pub ip_ranges: Vec<Vec<IpRange>>,
}

/// A port of the node that leads to the container.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortMap {
    /// Of the node; 0 for none.
    pub host_port: u32,
    /// Of the container.
    pub container_port: u32,
    /// tcp, udp or sctp, in any case.
    pub protocol: String,
    /// Of the node; empty for any.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
}

/// Rates in bits a second, bursts in bits; 0 for none. Ingress is what the container gets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Bandwidth {
    /// To the container.
    pub ingress_rate: u64,
    /// To the container.
    pub ingress_burst: u64,
    /// From the container.
    pub egress_rate: u64,
    /// From the container.
    pub egress_burst: u64,
}

/// The capability `dns`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RuntimeDns {
    /// Addresses.
    pub servers: Vec<String>,
    /// Domains.
    pub searches: Vec<String>,
    /// As in resolv.conf.
    pub options: Vec<String>,
}

/// A range as host-local has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpRange {
    /// CIDR.
    pub subnet: String,
    /// First address.
    pub range_start: String,
    /// Last address.
    pub range_end: String,
}

/// The field `args`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    /// What the conventions name.
    pub cni: CniArgs,
}

/// What the conventions have in `args`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CniArgs {
    /// Addresses that are wanted.
    pub ips: Vec<String>,
    /// For the Port.
    pub labels: Vec<Label>,
    /// MAC address that is wanted.
    pub mac: String,
    /// VLAN of the Network that is wanted.
    pub vlan: Option<u32>,
}

/// A label.
#[derive(Debug, Deserialize)]
pub struct Label {
    /// Its name.
    pub key: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// A route of a configuration or a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Destination in CIDR form.
    pub dst: String,
    /// Next hop; empty: the gateway.
    pub gw: String,
    /// Octets; since 1.1.0, as all that follows.
    pub mtu: i64,
    /// Octets of the largest TCP segment.
    pub advmss: i64,
    /// The lower, the more it counts.
    pub priority: i64,
    /// Number of the table; 254 is the main one.
    pub table: Option<i64>,
    /// 0 is global, 253 the link, 254 the host.
    pub scope: Option<i64>,
}

/// Name servers, as results have them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to look in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// As in resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Default for Access {
    fn default() -> Self {
        Access {
            socket: DEFAULT_ENDPOINT.into(),
            detach_queue: DEFAULT_FOLDER.into(),
            daemon_wait_seconds: 5,
            call_timeout_seconds: 60,
        }
    }
}

impl Access {
    /// The queue of detachments.
    pub fn queue(&self) -> DetachQueue {
        DetachQueue::new(&self.detach_queue)
    }
}

impl IpamType {
    /// The plugin that gives addresses; `None` for the daemon.
    pub fn plugin(&self) -> Option<&str> {
        Some(self.r#type.as_str()).filter(|name| !["", "weft", "weft-cni"].contains(name))
    }
}

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}
