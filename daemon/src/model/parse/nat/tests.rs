//! Wrong fields of mappings and of masquerading, each with its message.

use super::*;
use crate::fixture::{BASE, fabric, object, port, wrong};

const BOTH: &str = "  addresses: [198.18.1.10/24, '2001:db8:1::10/64']\n";

fn mapped(mappings: &str) -> String {
    port("web", &format!("{BOTH}  portMappings: {mappings}"))
}

#[test]
fn a_mapping_is_of_tcp_and_of_all_addresses_unless_it_says_otherwise() {
    let list = "[{hostPort: 8080, containerPort: 80}, \
        {protocol: udp, hostPort: 53, containerPort: 5353, hostAddress: '2001:db8::1'}]";
    let fabric = fabric(&format!("{BASE}{}", mapped(list)));
    let expected = [
        PortMapping { protocol: Protocol::Tcp, host_port: 8080, container_port: 80, host_address: None },
        PortMapping {
            protocol: Protocol::Udp,
            host_port: 53,
            container_port: 5353,
            host_address: Some("2001:db8::1".parse().unwrap()),
        },
    ];
    assert_eq!(fabric.ports["web"].spec.mappings, expected);
}

#[test]
fn every_wrong_field_of_a_mapping_is_told() {
    let cases = [
        ("{hostPort: 80}", "containerPort: not given, 1 to 65535 expected"),
        ("{containerPort: 80}", "hostPort: not given, 1 to 65535 expected"),
        ("{hostPort: 65536, containerPort: 1}", "hostPort: 65536 is out of range, 1 to 65535 expected"),
        (
            "{protocol: icmp, hostPort: 1, containerPort: 1}",
            "protocol: \"icmp\" is not a protocol with ports, one of tcp, udp, sctp expected",
        ),
        (
            "{hostPort: 1, containerPort: 1, hostAddress: home}",
            "hostAddress: \"home\" is not an address, such as 192.0.2.1 expected",
        ),
        (
            "{hostPort: 1, containerPort: 1, hostAddress: '::1'}",
            "hostAddress: ::1 cannot be led to another device, an address of the node's devices expected",
        ),
        (
            "{hostPort: 1, containerPort: 1, hostAddress: 0.0.0.0}",
            "hostAddress: 0.0.0.0 is no address, nothing expected for all addresses of the node",
        ),
        (
            "{hostPort: 1, containerPort: 1, hostAddress: 224.0.0.1}",
            "hostAddress: 224.0.0.1 is not a unicast address",
        ),
    ];
    for (mapping, expected) in cases {
        assert_eq!(
            wrong(&mapped(&format!("[{mapping}]"))),
            format!("Port/web: spec.portMappings[0].{expected}"),
            "{mapping}"
        );
    }
}

#[test]
fn a_mapping_needs_a_container_with_an_address_of_its_family() {
    let one = "  portMappings: [{hostPort: 1, containerPort: 1}]";
    assert_eq!(
        wrong(&port("web", one)),
        "Port/web: spec.portMappings: given, but the Port has no address: spec.addresses expected"
    );
    let host = "  network: front\n  type: host\n  addresses: [198.18.1.9/24]\n";
    assert_eq!(
        wrong(&object("Port", "node", &format!("{host}{one}"))),
        "Port/node: spec.portMappings: given, nothing expected for a Port that is the node's own"
    );
    let six = "[{hostPort: 1, containerPort: 1, hostAddress: '2001:db8::1'}]";
    assert_eq!(
        wrong(&port("web", &format!("  addresses: [198.18.1.10/24]\n  portMappings: {six}"))),
        "Port/web: spec.portMappings[0].hostAddress: 2001:db8::1 given, but the Port has no address of that family"
    );
}

#[test]
fn mappings_of_one_port_do_not_overlap() {
    let list = "[{hostPort: 80, containerPort: 1}, \
        {hostPort: 80, containerPort: 2, hostAddress: 192.0.2.1}, {protocol: udp, hostPort: 80, containerPort: 1}]";
    assert_eq!(
        wrong(&mapped(list)),
        "Port/web: spec.portMappings[1].hostPort: 192.0.2.1:80/tcp overlaps 80/tcp of the same Port"
    );
}

#[test]
fn masquerading_leaves_out_the_destinations_that_are_given() {
    let network = |except: &str| {
        object("Network", "front", &format!("  router: core\n  masquerade: {{except: {except}}}"))
    };
    let right =
        fabric(&format!("{}{}", object("Router", "core", ""), network("[192.0.2.0/24, '2001:db8::/32']")));
    let masquerade = right.networks["front"].spec.masquerade.clone().unwrap();
    assert_eq!(
        masquerade.except.iter().map(Prefix::to_string).collect::<Vec<_>>(),
        ["192.0.2.0/24", "2001:db8::/32"]
    );
    let none = fabric(&object("Network", "front", ""));
    assert_eq!(none.networks["front"].spec.masquerade, None);
    assert_eq!(
        wrong(&network("[192.0.2.0/24, 192.0.2.0/24]")),
        "Network/front: spec.masquerade.except[1]: 192.0.2.0/24 is given twice"
    );
    assert!(wrong(&network("[192.0.2.1]")).starts_with("Network/front: spec.masquerade.except[0]: "));
}
