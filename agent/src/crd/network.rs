//! Network: a segment that every node has. The fields are the API's, and `uplink`, which becomes a Port on each node.

use std::borrow::Cow;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::DeclaredStatus;
use super::text::{Address, Cidr, Device, Domain, Mac, Name, Owner, Range};

/// What the segment is like.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[kube(
    group = "weft.dev",
    version = "v1",
    kind = "Network",
    plural = "networks",
    shortname = "wnet",
    category = "weft",
    status = "DeclaredStatus",
    derive = "PartialEq",
    doc = "An L2 segment that every node has, to attach pods to beside the network of all pods.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name: at most 63 letters, digits and '-' expected"),
    printcolumn(name = "Subnets", type_ = "string", json_path = ".spec.subnets[*].prefix"),
    printcolumn(name = "Uplink", type_ = "string", json_path = ".spec.uplink.device"),
    printcolumn(name = "VLAN", type_ = "integer", json_path = ".spec.uplink.vlan"),
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
        "!has(self.uplink) || !has(self.uplink.vlan) || !has(self.subnets) \
         || self.subnets.all(subnet, !has(subnet.vlan) || subnet.vlan == self.uplink.vlan)"
    )
    .message("uplink.vlan is for all of the Network: subnets with that VLAN, or none, expected"),
)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSpec {
    /// The nodes' device that it is on; default: none, it is the nodes' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Uplink>,
    /// Subnets of this segment, IPv4 and IPv6. They must not overlap on one Router.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub subnets: Vec<Subnet>,
    /// The Router it hangs on; default: an isolated segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Name>,
    /// Largest IP packet in octets, 1280 to 65520 (68 and more without an IPv6 subnet).
    #[serde(default = "usual::mtu")]
    #[schemars(range(min = 68, max = 65520))]
    pub mtu: u32,
    /// Seconds after which a silent MAC address is forgotten.
    #[serde(default = "usual::ageing_seconds")]
    #[schemars(range(min = 10, max = 1_000_000))]
    pub ageing_seconds: u32,
    /// Upper bound of learned MAC addresses.
    #[serde(default = "usual::entries")]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub max_macs: u32,
    /// Upper bound of neighbour entries of the gateway.
    #[serde(default = "usual::entries")]
    #[schemars(range(min = 16, max = 1_048_576))]
    pub max_neighbors: u32,
    /// MAC address of the gateway, unicast; default: made from the Network's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_mac: Option<Mac>,
    /// MAC addresses that belong to a Port for good, beside those of the Ports themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub static_macs: Vec<StaticMac>,
    /// Neighbours of the gateway that are known for good: nobody is asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub static_neighbors: Vec<StaticNeighbor>,
    /// Which Ports get which multicast groups; default: every Port gets all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multicast: Option<Multicast>,
    /// What the gateway tells IPv6 hosts; default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_advertisements: Option<RouterAdvertisements>,
    /// The gateway answers ARP and neighbour solicitations for addresses elsewhere that its Router has a route to.
    #[serde(default)]
    pub proxy_neighbors: bool,
    /// Ports get their configured IPv4 address by DHCP; default: no DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
    /// How pods that attach are given addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_management: Option<AddressManagement>,
    /// What pods send to outside by way of the node gets the node's address there; default: it keeps its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<Masquerade>,
}

/// A device of the nodes. Weft takes all its frames.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.vlan) || !has(self.vlans)").message("either vlan or vlans expected"))]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    /// Its name, the same on every node.
    pub device: Device,
    /// All of the Network is this VLAN of it: frames have its tag on the wire, and pods none. Default: frames without a
    /// tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// Instead of vlan, VLANs of the Network that have their tags on the wire, one by one or as ranges: "10", "100-199".
    /// Pods name theirs. Default: those of the subnets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub vlans: Vec<VlanRange>,
}

/// A VLAN id, or ids from one to another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct VlanRange(pub String);

impl JsonSchema for VlanRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "VlanRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 9, "pattern": "^[0-9]{1,4}(-[0-9]{1,4})?$"})
    }
}

/// A subnet of the segment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    /// CIDR with no host bits set: 198.18.1.0/24, 2001:db8:1::/64.
    pub prefix: Cidr,
    /// The Router's address in it. Required for pods to leave the subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Address>,
    /// The VLAN of the Network that it is on; default: uplink.vlan, or untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// What pods that attach get of it; default: every host address. Where IPPools are for it, they decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<AddressPool>,
}

/// Addresses that may be given out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressPool {
    /// Pods that attach get no address of this subnet.
    #[serde(default)]
    pub disabled: bool,
    /// "198.18.1.10-198.18.1.99", "198.18.1.128/25", or one address; default: the whole subnet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub ranges: Vec<Range>,
    /// Of the same form: never given out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub exclude: Vec<Range>,
}

/// An entry of the forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticMac {
    /// Unicast MAC address.
    pub mac: Mac,
    /// The Port where it is.
    pub port: Name,
    /// On this VLAN; default: untagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
}

/// An address inside a subnet of the Network, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticNeighbor {
    /// IP address.
    pub address: Address,
    /// Unicast MAC address.
    pub mac: Mac,
}

/// Multicast on a Network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("!self.querier || self.snooping").message("querier needs snooping"))]
#[serde(rename_all = "camelCase")]
pub struct Multicast {
    /// Frames to a group go only to Ports that asked for it (IGMP, MLD) and to those with a multicast router.
    #[serde(default)]
    pub snooping: bool,
    /// Weft asks for members itself while there is no other querier. Needs snooping.
    #[serde(default)]
    pub querier: bool,
}

/// Router advertisements (RFC 4861): prefixes, MTU and name servers (RFC 8106).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouterAdvertisements {
    /// Seconds that the gateway may be the hosts' default router; 0: it may not.
    #[serde(default = "usual::lifetime_seconds")]
    #[schemars(range(max = 9000))]
    pub lifetime_seconds: u32,
    /// Hosts make themselves addresses in subnets of /64 (RFC 4862). Ports with addresses of their own may only use
    /// those while their source is checked.
    #[serde(default)]
    pub autonomous: bool,
    /// IPv6 addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub dns: Vec<Address>,
    /// Domains to look short names up in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub search: Vec<Domain>,
}

/// DHCPv4 (RFC 2131): each Port is offered the IPv4 address that it is configured with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dhcp {
    /// Seconds that a host may go without asking again.
    #[serde(default = "usual::lease_seconds")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub lease_seconds: u32,
    /// IPv4 addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub dns: Vec<Address>,
    /// The hosts' domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

/// How addresses are given out. Which ones: the pools of the subnets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressManagement {
    /// Seconds after which an address that was given back is given to somebody else.
    #[serde(default = "usual::quarantine_seconds")]
    #[schemars(range(max = 86400))]
    pub quarantine_seconds: u32,
    /// Seconds during which an owner that comes back gets the address that it had, unless that was needed for others;
    /// 0: what it gets is as good as any.
    #[serde(default)]
    #[schemars(range(max = 2_592_000))]
    pub sticky_seconds: u32,
    /// Addresses that are kept for an owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub reservations: Vec<Reservation>,
}

/// Addresses that are kept for an owner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// Who may have them: NAMESPACE/NAME of a pod.
    pub owner: Owner,
    /// At most one of each family, inside a subnet.
    #[schemars(length(min = 1, max = 2))]
    pub addresses: Vec<Address>,
}

/// Source NAT by the node's kernel, for what leaves the node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Masquerade {
    /// Destinations, in CIDR form, that see the pods' own addresses, beside the subnets of the same Router.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub except: Vec<Cidr>,
}

/// What the daemon takes where nothing is said.
mod usual {
    pub fn mtu() -> u32 {
        1500
    }

    pub fn ageing_seconds() -> u32 {
        300
    }

    pub fn entries() -> u32 {
        4096
    }

    pub fn lifetime_seconds() -> u32 {
        1800
    }

    pub fn lease_seconds() -> u32 {
        3600
    }

    pub fn quarantine_seconds() -> u32 {
        60
    }
}
