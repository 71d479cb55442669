//! Tunnel: an encapsulation that every node has. The fields are the API's but for those that are only written: the keys
//! of WireGuard that are secret. Whoever may read custom resources could read them there.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeclaredStatus;
use super::text::{Address, Cidr, Endpoint, Mac, Name, PublicKey};

/// An encapsulation, and its far ends. Exactly one of vxlan, gre, gretap and wireguard says which.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "weft.dev",
    version = "v1",
    kind = "Tunnel",
    plural = "tunnels",
    shortname = "wtun",
    category = "weft",
    status = "DeclaredStatus",
    derive = "PartialEq",
    doc = "An encapsulation by which a Network or a Router reaches far ends, from every node.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name: at most 63 letters, digits and '-' expected"),
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Router", type_ = "string", json_path = ".spec.router"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new(
        "[has(self.vxlan), has(self.gre), has(self.gretap), has(self.wireguard)].filter(form, form).size() == 1"
    )
    .message("exactly one of vxlan, gre, gretap and wireguard expected"),
    validation = Rule::new(
        "has(self.vxlan) == has(oldSelf.vxlan) && has(self.gre) == has(oldSelf.gre) \
         && has(self.gretap) == has(oldSelf.gretap) && has(self.wireguard) == has(oldSelf.wireguard)"
    )
    .message("a tunnel's form cannot be changed: make another one"),
    validation = Rule::new("has(self.network) == (has(self.vxlan) || has(self.gretap))")
        .message("network is required for vxlan and gretap, and for no other"),
    validation = Rule::new("has(self.router) == (has(self.gre) || has(self.wireguard))")
        .message("router is required for gre and wireguard, and for no other"),
    validation = Rule::new("!has(self.vlan) || has(self.network)").message("vlan is for vxlan and gretap only"),
    validation = Rule::new("!has(self.addresses) || has(self.router)")
        .message("addresses are for gre and wireguard only"),
    validation = Rule::new("!has(self.routes) || has(self.gre)").message("routes are for gre only"),
    validation = Rule::new("!has(self.carrier) || has(self.vxlan) && has(self.local)")
        .message("carrier is for vxlan only, and needs local"),
)]
#[serde(rename_all = "camelCase")]
pub struct TunnelSpec {
    /// The Network that it joins: required for vxlan and gretap, which carry Ethernet frames. Its far ends are like
    /// Ports there, which exchange nothing with each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Name>,
    /// The VLAN of the Network that the far ends are on; default: untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// The Router that it joins: required for gre and wireguard, which carry IP packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Name>,
    /// The Router's addresses on it, with prefix length: 198.18.9.1/24.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub addresses: Vec<Cidr>,
    /// What is reached by it beside those, in CIDR form; for gre only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub routes: Vec<Cidr>,
    /// Octets of the largest IP packet inside; default: 1500 less what the encapsulation takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 68, max = 65520))]
    pub mtu: Option<u32>,
    /// The address to speak from; default: the one that leads to the far end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Address>,
    /// What carries its datagrams; default: the node's own network. For vxlan only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<TunnelCarrier>,
    /// VXLAN (RFC 7348).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
    /// GRE (RFC 2784, RFC 2890).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gre: Option<Gre>,
    /// GRE with Ethernet frames inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gretap: Option<Gre>,
    /// WireGuard. Each node makes a private key of its own. Neither that nor preshared keys can be given here: whoever
    /// may read this object could read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<WireGuard>,
}

/// What carries a tunnel's datagrams.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TunnelCarrier {
    /// A Router, which may send them through another tunnel. Then local is required, an address of that Router.
    pub router: Name,
}

/// VXLAN (RFC 7348).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vxlan {
    /// Names the segment.
    #[schemars(range(max = 16_777_215))]
    pub vni: u32,
    /// The UDP port that all ends listen on.
    #[serde(default = "usual::vxlan_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The far ends; default: all other nodes. What goes to many is sent to each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub remotes: Vec<VxlanRemote>,
    /// Questions for neighbours that are known are answered here, and not sent through the tunnel.
    #[serde(default)]
    pub suppress_neighbors: bool,
}

/// A far end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VxlanRemote {
    /// Its address on the carrier.
    pub address: Address,
    /// MAC addresses that are there for good, beside those that are learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub macs: Vec<Mac>,
}

/// GRE (RFC 2784, RFC 2890).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gre {
    /// The far end's address.
    pub remote: Address,
    /// Tells tunnels between the same two ends apart; both ends have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 4_294_967_295_u64))]
    pub key: Option<u32>,
    /// A checksum over what is inside goes along. One that comes is verified in any case.
    #[serde(default)]
    pub checksum: bool,
    /// Packets are numbered, and such that come late are dropped.
    #[serde(default)]
    pub sequence: bool,
}

/// WireGuard, without the keys that are secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireGuard {
    /// The UDP port that it listens on. That of the nodes' mesh, usually 51820, is taken.
    #[serde(default = "usual::wireguard_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub listen_port: u16,
    /// The far ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub peers: Vec<WireGuardPeer>,
}

/// A far end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireGuardPeer {
    /// What people call it; as metadata.name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Base64.
    pub public_key: PublicKey,
    /// The one that it changes to; both are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_public_key: Option<PublicKey>,
    /// Where it is, `ADDRESS:PORT` or `[ADDRESS]:PORT`, until it is heard from elsewhere; default: it speaks first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// What is reached by it and what it may speak from, in CIDR form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub allowed_prefixes: Vec<Cidr>,
    /// Seconds of silence after which it is sent something; 0: never.
    #[serde(default)]
    #[schemars(range(max = 65535))]
    pub persistent_keepalive_seconds: u32,
}

/// What the daemon takes where nothing is said.
mod usual {
    pub fn vxlan_port() -> u16 {
        4789
    }

    pub fn wireguard_port() -> u16 {
        51820
    }
}
