//! What nodes declare whose containers meet through a tunnel. Node N has the container `c` and the Tunnel `t`; what an
//! implementation beside Weft is given is called the far end.
//!
//! On a *segment* (VXLAN, GRETAP) all are on one Network: container N has 198.18.1.N and 2001:db8:1::N. On a *link*
//! (GRE, WireGuard) node N has a Network of its own behind a Router, 198.18.N.0/24 and 2001:db8:N::/64 with container
//! .10 and ::10, and is 198.18.9.N and 2001:db8:9::N itself.

use serde_json::{Value, json};

use crate::manifest::Manifest;
use crate::topology::PortKind;
use crate::wire::Family;

/// The container of each node.
pub const CONTAINER: &str = "c";
/// The Tunnel of each node.
pub const TUNNEL: &str = "t";

/// Container `number`'s address on a segment.
pub fn on_segment(number: u8, family: Family) -> String {
    match family {
        Family::V4 => format!("198.18.1.{number}"),
        Family::V6 => format!("2001:db8:1::{number}"),
    }
}

/// The address of node `number`'s container behind a link.
pub fn behind_link(number: u8, family: Family) -> String {
    match family {
        Family::V4 => format!("198.18.{number}.10"),
        Family::V6 => format!("2001:db8:{number}::10"),
    }
}

/// The address of node or far end `number` on the link itself.
pub fn on_link(number: u8, family: Family) -> String {
    match family {
        Family::V4 => format!("198.18.9.{number}"),
        Family::V6 => format!("2001:db8:9::{number}"),
    }
}

/// What is reached by node `number` over a link: its Network, and itself.
pub fn prefixes(number: u8) -> [String; 4] {
    [
        format!("198.18.{number}.0/24"),
        format!("2001:db8:{number}::/64"),
        on_link(number, Family::V4) + "/32",
        on_link(number, Family::V6) + "/128",
    ]
}

/// Node `number` on a segment of this MTU. `encapsulation` is called `kind` (`vxlan`, `gretap`) in the Tunnel's spec.
pub fn segment(number: u8, port: PortKind, mtu: u32, kind: &str, encapsulation: Value) -> Manifest {
    let network = json!({
        "mtu": mtu,
        "subnets": [{ "prefix": "198.18.1.0/24" }, { "prefix": "2001:db8:1::/64" }],
    });
    let addresses = [on_segment(number, Family::V4) + "/24", on_segment(number, Family::V6) + "/64"];
    Manifest::new()
        .namespace(CONTAINER)
        .network("front", network)
        .port(CONTAINER, container(port, &addresses))
        .resource("Tunnel", TUNNEL, json!({ "network": "front", "mtu": mtu, kind: encapsulation }))
}

/// Node `number` at a link of this MTU. `encapsulation` is called `kind` (`gre`, `wireguard`) in the Tunnel's spec.
pub fn link(number: u8, port: PortKind, mtu: u32, kind: &str, encapsulation: Value) -> Manifest {
    let network = json!({
        "router": "main",
        "mtu": mtu,
        "subnets": [
            { "prefix": format!("198.18.{number}.0/24"), "gateway": format!("198.18.{number}.1") },
            { "prefix": format!("2001:db8:{number}::/64"), "gateway": format!("2001:db8:{number}::1") },
        ],
    });
    let addresses = [behind_link(number, Family::V4) + "/24", behind_link(number, Family::V6) + "/64"];
    let mut port = container(port, &addresses);
    port["defaultRoute"] = json!(true);
    let own = [on_link(number, Family::V4) + "/32", on_link(number, Family::V6) + "/128"];
    Manifest::new()
        .namespace(CONTAINER)
        .router("main")
        .network("front", network)
        .port(CONTAINER, port)
        .resource(
            "Tunnel",
            TUNNEL,
            json!({ "router": "main", "addresses": own, "mtu": mtu, kind: encapsulation }),
        )
}

fn container(kind: PortKind, addresses: &[String]) -> Value {
    json!({ "network": "front", "namespace": CONTAINER, "type": kind.name(), "addresses": addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encapsulation_is_found_under_its_name() {
        let text = segment(2, PortKind::Tap, 1450, "vxlan", json!({ "vni": 7 })).to_string();
        let tunnel = text.lines().find(|line| line.contains("\"Tunnel\"")).unwrap();
        let tunnel: Value = serde_json::from_str(tunnel).unwrap();
        assert_eq!(tunnel["spec"], json!({ "network": "front", "mtu": 1450, "vxlan": { "vni": 7 } }));
        assert!(text.contains("198.18.1.2/24"), "{text}");
    }

    #[test]
    fn a_link_has_the_nodes_own_addresses_and_containers_behind_it() {
        let text = link(2, PortKind::Veth, 1420, "wireguard", json!({})).to_string();
        assert!(text.contains("198.18.9.2/32") && text.contains("2001:db8:2::10/64"), "{text}");
        assert_eq!(prefixes(2)[0], "198.18.2.0/24");
    }
}
