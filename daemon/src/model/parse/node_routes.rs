//! The routes of the node that a Port wishes for, from their messages.

use std::collections::BTreeSet;

use weft_proto::v1;
use weft_stack::Prefix;

use super::unicast;
use crate::model::PortRoute;
use crate::model::violation::Findings;

pub(super) fn parse(message: &v1::PortSpec, findings: &mut Findings<'_>) -> Vec<PortRoute> {
    let messages = &message.node_routes;
    if !messages.is_empty() && message.r#type != v1::PortType::Host as i32 {
        findings.add("spec.nodeRoutes", "given, nothing expected but for a host port");
        return Vec::new();
    }
    let mut routes = Vec::with_capacity(messages.len());
    let mut seen = BTreeSet::new();
    for (index, message) in messages.iter().enumerate() {
        let path = |field: &str| format!("spec.nodeRoutes[{index}].{field}");
        let prefix = findings.value(&path("prefix"), message.prefix.parse::<Prefix>());
        if message.via.is_empty() {
            findings.add(&path("via"), "not given, the address of a neighbour of the node expected");
            continue;
        }
        let Some(via) = findings.value(&path("via"), unicast(&message.via)) else { continue };
        let Some(prefix) = prefix else { continue };
        if via.is_ipv4() != prefix.is_ipv4() {
            findings.add(&path("via"), format_args!("{via} is not of the same family as {prefix}"));
        }
        if !seen.insert(prefix) {
            findings.add(&path("prefix"), format_args!("{prefix} is given twice"));
        }
        routes.push(PortRoute { prefix, via });
    }
    routes
}

#[cfg(test)]
mod tests {
    use crate::fixture::{BASE, fabric, object, wrong};

    fn node(routes: &str) -> String {
        let spec = "  network: front\n  type: host\n  addresses: [198.18.1.2/24]\n  nodeRoutes: ";
        object("Port", "node", &format!("{spec}{routes}"))
    }

    #[test]
    fn routes_of_the_node_are_as_given() {
        let routes = "[{prefix: 198.18.9.0/24, via: 192.0.2.9}, {prefix: '2001:db8:9::/64', via: 'fd00::9'}]";
        let fabric = fabric(&format!("{BASE}{}", node(routes)));
        let given = &fabric.ports["node"].spec.node_routes;
        assert_eq!(given.len(), 2);
        assert_eq!(
            (given[1].prefix.to_string(), given[1].via.to_string()),
            ("2001:db8:9::/64".into(), "fd00::9".into())
        );
        assert_eq!(wrong(&node(routes)), "");
    }

    #[test]
    fn every_wrong_field_is_named() {
        let cases = [
            (
                "[{prefix: 198.18.9.0/24}]",
                "[0].via: not given, the address of a neighbour of the node expected",
            ),
            (
                "[{prefix: 198.18.9.0/24, via: 'fd00::9'}]",
                "[0].via: fd00::9 is not of the same family as 198.18.9.0/24",
            ),
            (
                "[{prefix: 198.18.9.0/24, via: 192.0.2.9}, {prefix: 198.18.9.0/24, via: 192.0.2.8}]",
                "[1].prefix: 198.18.9.0/24 is given twice",
            ),
            (
                "[{prefix: 198.18.9.0/24, via: 198.18.1.9}]",
                "[0].via: 198.18.1.9 is inside 198.18.1.0/24 of Network/front, an address of the node's network expected",
            ),
            (
                "[{prefix: 198.18.1.128/25, via: 192.0.2.9}]",
                "[0].prefix: 198.18.1.128/25 is inside 198.18.1.0/24 of Network/front, which is on this node",
            ),
        ];
        for (routes, expected) in cases {
            assert_eq!(wrong(&node(routes)), format!("Port/node: spec.nodeRoutes{expected}"), "{routes}");
        }
    }

    #[test]
    fn only_a_host_port_has_some() {
        let port = node("[{prefix: 198.18.9.0/24, via: 192.0.2.9}]")
            .replace("type: host", "type: tap\n  namespace: box");
        assert_eq!(wrong(&port), "Port/node: spec.nodeRoutes: given, nothing expected but for a host port");
    }

    #[test]
    fn a_prefix_has_one_route_on_the_node() {
        let routes = "[{prefix: 198.18.9.0/24, via: 192.0.2.9}]";
        let other = node(routes).replace("name: node", "name: other").replace("1.2/24", "1.3/24");
        let told = wrong(&format!("{}{other}", node(routes)));
        let expected =
            "spec.nodeRoutes: 198.18.9.0/24 has a route of Port/node in the daemon's own namespace already";
        assert_eq!(told, format!("Port/other: {expected}"));
        let own = node(routes).replace("nodeRoutes", "routes: [{prefix: 198.18.9.0/24}]\n  nodeRoutes");
        assert_eq!(wrong(&own), format!("Port/node: {expected}"));
    }
}
