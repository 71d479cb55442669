//! Router: an L3 domain that every node has. The fields are the API's.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeclaredStatus;
use super::text::{Address, Cidr, Name};

/// Routes beside the subnets of its Networks, which need none.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1",
    kind = "Router",
    plural = "routers",
    shortname = "wrt",
    category = "weft",
    status = "DeclaredStatus",
    derive = "PartialEq",
    doc = "An L3 domain that every node has. Networks hang on it, and reach each other by it.",
    validation = Rule::new("size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')")
        .message("metadata.name: at most 63 letters, digits and '-' expected"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct RouterSpec {
    /// Static routes: the main table. The subnets of attached Networks are reachable without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub routes: Vec<Route>,
    /// Further tables, for rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tables: Vec<RouteTable>,
    /// Who looks into another table before the main one (policy routing).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub rules: Vec<PolicyRule>,
}

/// A static route.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("(self.action == 'via') == has(self.nextHops)")
        .message("nextHops are required for the action via, and for no other"),
    validation = Rule::new("!has(self.weights) || has(self.nextHops) && size(self.weights) == size(self.nextHops)")
        .message("one of weights for each of nextHops expected"),
)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Destination in CIDR form.
    pub prefix: Cidr,
    /// Where to: each an address inside a subnet of an attached Network. Those of an IPv4 route may be IPv6 addresses
    /// (RFC 8950). Flows are spread over several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    pub next_hops: Vec<Address>,
    /// What becomes of packets that it matches: they go to a next hop (via), are dropped in silence (blackhole), or are
    /// dropped and the sender is told that the destination cannot be reached (unreachable) or that this is not allowed
    /// (prohibit).
    #[serde(default)]
    pub action: RouteAction,
    /// The next hops' shares of the flows, one for each; default: equal shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 1, max = 255)))]
    pub weights: Vec<u16>,
}

/// What becomes of packets that a route matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteAction {
    /// To a next hop.
    #[default]
    Via,
    /// Dropped in silence.
    Blackhole,
    /// Dropped; the sender is told that the destination cannot be reached.
    Unreachable,
    /// Dropped; the sender is told that this is not allowed.
    Prohibit,
}

/// A table of routes beside the main one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    /// As metadata.name; not "main".
    #[x_kube(validation = Rule::new("self != 'main'").message("\"main\" is spec.routes: another name expected"))]
    pub name: Name,
    /// Its routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub routes: Vec<Route>,
}

/// Sends packets to a table. Where that has no route the next rule counts, and at last the main table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// Lower ones are asked first; no two are the same.
    pub priority: u32,
    /// Packets from these addresses, in CIDR form; default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Cidr>,
    /// Packets that came in by this Port; default: by any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Name>,
    /// The table.
    pub table: Name,
}
