//! The neighbours that a Network's gateway knows for good, from their messages.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_proto::v1;
use weft_stack::MacAddr;
use weft_stack::config::StaticNeighbors;

use super::network::{reserved_end, station_mac};
use super::unicast;
use crate::model::Subnet;
use crate::model::violation::Findings;

pub(super) fn parse(
    messages: &[v1::StaticNeighbor],
    subnets: &[Subnet],
    findings: &mut Findings<'_>,
) -> StaticNeighbors {
    let mut neighbors: BTreeMap<IpAddr, MacAddr> = BTreeMap::new();
    for (index, message) in messages.iter().enumerate() {
        let path = |field: &str| format!("spec.staticNeighbors[{index}].{field}");
        let mac = station_mac(&path("mac"), &message.mac, findings);
        let Some(address) = findings.value(&path("address"), unicast(&message.address)) else { continue };
        if let Some(wrong) = unsuited(address, subnets) {
            findings.add(&path("address"), wrong);
        } else if neighbors.insert(address, mac).is_some() {
            findings.add(&path("address"), format_args!("{address} is given twice"));
        }
    }
    neighbors.into_iter().collect()
}

/// Why no neighbour of the gateway can have this address.
fn unsuited(address: IpAddr, subnets: &[Subnet]) -> Option<String> {
    let Some(subnet) = subnets.iter().find(|subnet| subnet.prefix.contains(address)) else {
        return Some(format!("{address} is not inside a subnet of the Network"));
    };
    let prefix = &subnet.prefix;
    match reserved_end(prefix, address) {
        Some(what) => Some(format!("{address} is the {what} address of {prefix}")),
        None if subnet.gateway == Some(address) => Some(format!("{address} is the gateway of {prefix}")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{BASE, fabric, object, port, wrong};

    fn network(neighbors: &str) -> String {
        let subnets = "[{prefix: 'fd00:7::/64', gateway: 'fd00:7::1'}]";
        object("Network", "far", &format!("  subnets: {subnets}\n  staticNeighbors: {neighbors}"))
    }

    #[test]
    fn neighbours_are_found_by_their_address() {
        let fabric =
            fabric(&format!("{BASE}{}", network("[{address: 'fd00:7::2', mac: '02:00:00:00:00:02'}]")));
        let neighbors = &fabric.networks["far"].spec.static_neighbors;
        let found = neighbors.get("fd00:7::2".parse().unwrap());
        assert_eq!(found, Some("02:00:00:00:00:02".parse().unwrap()));
        assert_eq!(neighbors.len(), 1);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let mac = "mac: '02:00:00:00:00:02'";
        let cases = [
            (
                format!("[{{{mac}}}]"),
                "[0].address: \"\" is not an IP address, such as 198.18.1.1 or 2001:db8:1::1 expected",
            ),
            (
                "[{address: 'fd00:7::2', mac: '01:00:5e:00:00:01'}]".into(),
                "[0].mac: 01:00:5e:00:00:01 is not a unicast MAC address",
            ),
            (
                format!("[{{address: 'fd00:8::2', {mac}}}]"),
                "[0].address: fd00:8::2 is not inside a subnet of the Network",
            ),
            (
                format!("[{{address: 'fd00:7::1', {mac}}}]"),
                "[0].address: fd00:7::1 is the gateway of fd00:7::/64",
            ),
            (
                format!("[{{address: 'fd00:7::', {mac}}}]"),
                "[0].address: fd00:7:: is the subnet-router anycast address of fd00:7::/64",
            ),
            (
                format!("[{{address: 'fd00:7::2', {mac}}}, {{address: 'fd00:7::2', {mac}}}]"),
                "[1].address: fd00:7::2 is given twice",
            ),
        ];
        for (neighbors, expected) in cases {
            let told = wrong(&network(&neighbors));
            assert_eq!(told, format!("Network/far: spec.staticNeighbors{expected}"), "{neighbors}");
        }
    }

    #[test]
    fn a_ports_own_address_is_no_static_neighbour() {
        let neighbors = "[{address: 'fd00:7::2', mac: '02:00:00:00:00:02'}]";
        let port = port("web", "  addresses: ['fd00:7::2/64']").replace("network: front", "network: far");
        assert_eq!(
            wrong(&format!("{}{port}", network(neighbors))),
            "Port/web: spec.addresses[0]: fd00:7::2 is a static neighbour of Network/far"
        );
    }
}
