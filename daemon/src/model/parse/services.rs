//! What a Network does for its stations beside switching and routing, from its message: multicast snooping, router
//! advertisements, DHCP, static MAC addresses.

use std::net::IpAddr;
use std::time::Duration;

use weft_proto::v1;
use weft_stack::config::{AdvertisementSpec, DhcpSpec, MulticastSpec, UNTAGGED};

use super::network::station_mac;
use super::unicast;
use crate::model::violation::Findings;
use crate::model::{Name, Services, StaticMac, VlanId};

const DEFAULT_ROUTER_LIFETIME: u32 = 1800;
/// RFC 4861 section 6.2.1: AdvDefaultLifetime.
const MAX_ROUTER_LIFETIME: u32 = 9000;
const LEASE_SECONDS: std::ops::RangeInclusive<u32> = 60..=31_536_000;
const DEFAULT_LEASE_SECONDS: u32 = 3600;
/// Octets of a domain name (RFC 1035 section 2.3.4).
const MAX_DOMAIN: usize = 253;
/// More would not fit into one message.
const MAX_SERVERS: usize = 8;

pub(super) fn parse(message: &v1::NetworkSpec, findings: &mut Findings<'_>) -> Services {
    let multicast = message.multicast.unwrap_or_default();
    if multicast.querier && !multicast.snooping {
        findings.add("spec.multicast.querier", "true given, but spec.multicast.snooping is not");
    }
    Services {
        static_macs: static_macs(&message.static_macs, findings),
        multicast: MulticastSpec { snooping: multicast.snooping, querier: multicast.querier },
        advertisements: message.router_advertisements.as_ref().map(|it| advertisements(it, findings)),
        proxy_neighbors: message.proxy_neighbors,
        dhcp: message.dhcp.as_ref().map(|it| dhcp(it, findings)),
    }
}

fn static_macs(messages: &[v1::StaticMac], findings: &mut Findings<'_>) -> Vec<StaticMac> {
    let mut entries: Vec<StaticMac> = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let path = |field: &str| format!("spec.staticMacs[{index}].{field}");
        let mac = station_mac(&path("mac"), &message.mac, findings);
        let vlan = vlan(&path("vlan"), message.vlan, findings);
        if entries.iter().any(|other| (other.mac, other.vlan) == (mac, vlan)) {
            findings.add(&path("mac"), format_args!("{mac} is given twice"));
        }
        if message.port.is_empty() {
            findings.add(&path("port"), "not given, the name of a Port expected");
            continue;
        }
        let port = findings.value(&path("port"), Name::new(&message.port));
        entries.extend(port.map(|port| StaticMac { mac, vlan, port }));
    }
    entries
}

/// The VLAN of a part of a Network; 0 stands for the untagged segment.
pub(super) fn vlan(path: &str, given: u32, findings: &mut Findings<'_>) -> u16 {
    match given {
        0 => UNTAGGED,
        id => findings.value(path, VlanId::new(id)).map_or(UNTAGGED, VlanId::get),
    }
}

fn advertisements(message: &v1::RouterAdvertisements, findings: &mut Findings<'_>) -> AdvertisementSpec {
    let lifetime = message.lifetime_seconds.unwrap_or(DEFAULT_ROUTER_LIFETIME);
    if lifetime > MAX_ROUTER_LIFETIME {
        let path = "spec.routerAdvertisements.lifetimeSeconds";
        findings.add(path, format_args!("{lifetime} is out of range, 0 to {MAX_ROUTER_LIFETIME} expected"));
    }
    let dns = servers("spec.routerAdvertisements.dns", &message.dns, findings, |address| match address {
        IpAddr::V6(address) => Ok(address),
        IpAddr::V4(address) => Err(format!("{address} is not an IPv6 address")),
    });
    if message.search.len() > MAX_SERVERS {
        let (given, path) = (message.search.len(), "spec.routerAdvertisements.search");
        findings.add(path, format_args!("{given} domains, at most {MAX_SERVERS} expected"));
    }
    for (index, text) in message.search.iter().enumerate() {
        findings.value(&format!("spec.routerAdvertisements.search[{index}]"), domain(text));
    }
    AdvertisementSpec {
        router_lifetime: u16::try_from(lifetime).unwrap_or(u16::MAX),
        autonomous: message.autonomous,
        dns,
        search: message.search.clone(),
    }
}

fn dhcp(message: &v1::Dhcp, findings: &mut Findings<'_>) -> DhcpSpec {
    let lease = findings.number(
        "spec.dhcp.leaseSeconds",
        message.lease_seconds,
        LEASE_SECONDS,
        DEFAULT_LEASE_SECONDS,
    );
    let dns = servers("spec.dhcp.dns", &message.dns, findings, |address| match address {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(format!("{address} is not an IPv4 address")),
    });
    let domain = match message.domain.as_str() {
        "" => None,
        text => findings.value("spec.dhcp.domain", domain(text)),
    };
    DhcpSpec { lease: Duration::from_secs(u64::from(lease)), dns, domain }
}

fn servers<A>(
    path: &str,
    texts: &[String],
    findings: &mut Findings<'_>,
    family: fn(IpAddr) -> Result<A, String>,
) -> Vec<A> {
    if texts.len() > MAX_SERVERS {
        findings.add(path, format_args!("{} addresses, at most {MAX_SERVERS} expected", texts.len()));
    }
    let address = |(index, text): (usize, &String)| {
        findings.value(&format!("{path}[{index}]"), unicast(text).and_then(family))
    };
    texts.iter().enumerate().filter_map(address).collect()
}

/// A domain name: labels of letters, digits and '-', with dots between (RFC 1123 section 2.1).
fn domain(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= MAX_DOMAIN && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    let shown: String = text.chars().take(80).collect();
    Err(format!("{shown:?} is not a domain name, such as pods.example expected"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{BASE, fabric, object, port, wrong};

    #[test]
    fn services_are_as_given_with_their_defaults() {
        let spec = "  router: core\n  subnets: [{prefix: 198.18.5.0/24, gateway: 198.18.5.1, vlan: 9}]\n  \
                    multicast: {snooping: true}\n  routerAdvertisements: {dns: ['2001:db8::53']}\n  dhcp: {domain: pods.example}";
        let fabric = fabric(&format!("{BASE}{}", object("Network", "n", spec)));
        let network = &fabric.networks["n"].spec;
        assert_eq!(network.subnets[0].vlan, 9);
        assert!(network.services.multicast.snooping && !network.services.multicast.querier);
        let advertisements = network.services.advertisements.as_ref().unwrap();
        assert_eq!((advertisements.router_lifetime, advertisements.autonomous), (1800, false));
        let dhcp = network.services.dhcp.as_ref().unwrap();
        assert_eq!((dhcp.lease, dhcp.domain.as_deref()), (Duration::from_secs(3600), Some("pods.example")));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let cases = [
            (
                "  multicast: {querier: true}",
                "spec.multicast.querier: true given, but spec.multicast.snooping is not",
            ),
            (
                "  routerAdvertisements: {lifetimeSeconds: 9001}",
                "spec.routerAdvertisements.lifetimeSeconds: 9001 is out of range, 0 to 9000 expected",
            ),
            (
                "  routerAdvertisements: {dns: [198.18.0.1]}",
                "spec.routerAdvertisements.dns[0]: 198.18.0.1 is not an IPv6 address",
            ),
            (
                "  routerAdvertisements: {search: [-a]}",
                "spec.routerAdvertisements.search[0]: \"-a\" is not a domain name, such as pods.example expected",
            ),
            (
                "  dhcp: {leaseSeconds: 59}",
                "spec.dhcp.leaseSeconds: 59 is out of range, 60 to 31536000 expected",
            ),
            ("  dhcp: {dns: ['2001:db8::1']}", "spec.dhcp.dns[0]: 2001:db8::1 is not an IPv4 address"),
            (
                "  staticMacs: [{mac: '02:00:00:00:00:09'}]",
                "spec.staticMacs[0].port: not given, the name of a Port expected",
            ),
            (
                "  staticMacs: [{mac: '02:00:00:00:00:09', port: none}]",
                "spec.staticMacs[0].port: there is no Port/none",
            ),
            (
                "  subnets: [{prefix: 198.18.9.0/24, vlan: 4095}]",
                "spec.subnets[0].vlan: 4095 is not a VLAN id, 1 to 4094 expected",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(wrong(&object("Network", "n", spec)), format!("Network/n: {expected}"), "{spec}");
        }
    }

    #[test]
    fn a_static_mac_is_on_a_port_of_the_network() {
        let network = object("Network", "n", "  staticMacs: [{mac: '02:00:00:00:00:09', port: web}]");
        let expected =
            "Network/n: spec.staticMacs[0].port: Port/web is on Network/front, one of this Network expected";
        assert_eq!(wrong(&format!("{network}{}", port("web", ""))), expected);
    }
}
