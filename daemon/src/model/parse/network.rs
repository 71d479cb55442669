//! A Network from its message.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_proto::v1;
use weft_stack::{MacAddr, Prefix};

use super::{addressing, nat, services, static_neighbors, unicast};
use crate::model::violation::Findings;
use crate::model::{Mtu, Name, Network, ObjectRef, Subnet, Violation};

const AGEING_SECONDS: std::ops::RangeInclusive<u32> = 10..=1_000_000;
const DEFAULT_AGEING_SECONDS: u32 = 300;
const TABLE_SIZE: std::ops::RangeInclusive<u32> = 16..=1_048_576;
const DEFAULT_TABLE_SIZE: u32 = 4096;

pub(super) fn parse(
    object: &ObjectRef,
    message: Option<&v1::NetworkSpec>,
) -> Result<Network, Vec<Violation>> {
    let default = v1::NetworkSpec::default();
    let message = message.unwrap_or(&default);
    let mut findings = Findings::of(object);
    let subnets = subnets(&message.subnets, &mut findings);
    let router = match message.router.as_str() {
        "" => None,
        name => findings.value("spec.router", Name::new(name)),
    };
    let mtu = mtu(message.mtu, &subnets, &mut findings);
    let ageing =
        findings.number("spec.ageingSeconds", message.ageing_seconds, AGEING_SECONDS, DEFAULT_AGEING_SECONDS);
    let max_macs = findings.number("spec.maxMacs", message.max_macs, TABLE_SIZE, DEFAULT_TABLE_SIZE);
    let max_neighbors =
        findings.number("spec.maxNeighbors", message.max_neighbors, TABLE_SIZE, DEFAULT_TABLE_SIZE);
    let gateway_mac = match message.gateway_mac.as_str() {
        "" => MacAddr::from_name("network", object.name.as_str()),
        text => station_mac("spec.gatewayMac", text, &mut findings),
    };
    let static_neighbors = static_neighbors::parse(&message.static_neighbors, &subnets, &mut findings);
    let services = services::parse(message, &mut findings);
    let addressing = addressing::addressing(message.address_management.as_ref(), &subnets, &mut findings);
    let masquerade = nat::masquerade(message.masquerade.as_ref(), &mut findings);
    findings.finish(Some(Network {
        subnets,
        router,
        mtu,
        ageing: Duration::from_secs(u64::from(ageing)),
        max_macs: max_macs as usize,
        max_neighbors: max_neighbors as usize,
        gateway_mac,
        static_neighbors: Arc::new(static_neighbors),
        services,
        addressing,
        masquerade,
    }))
}

fn mtu(given: u32, subnets: &[Subnet], findings: &mut Findings<'_>) -> Mtu {
    if given == 0 {
        return Mtu::DEFAULT;
    }
    let mtu = findings.value("spec.mtu", Mtu::new(given)).unwrap_or(Mtu::DEFAULT);
    if let Some(subnet) = subnets.iter().find(|subnet| !subnet.prefix.is_ipv4())
        && mtu.get() < Mtu::MIN_IPV6
    {
        let (prefix, least) = (subnet.prefix, Mtu::MIN_IPV6);
        findings.add(
            "spec.mtu",
            format_args!("{mtu} is too small for the IPv6 subnet {prefix}, {least} or more octets expected"),
        );
    }
    mtu
}

/// A unicast MAC address; any one stands in for a wrong one, which is put down.
pub(super) fn station_mac(path: &str, text: &str, findings: &mut Findings<'_>) -> MacAddr {
    let mac = findings.value(path, text.parse::<MacAddr>());
    if let Some(mac) = mac.filter(|mac| mac.is_multicast() || mac.is_zero()) {
        findings.add(path, format_args!("{mac} is not a unicast MAC address"));
    }
    mac.unwrap_or_default()
}

fn subnets(messages: &[v1::Subnet], findings: &mut Findings<'_>) -> Vec<Subnet> {
    let mut subnets: Vec<Subnet> = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let Some(subnet) = subnet(index, message, findings) else { continue };
        if let Some(other) = subnets.iter().find(|other| other.prefix.overlaps(&subnet.prefix)) {
            let path = format!("spec.subnets[{index}].prefix");
            findings
                .add(&path, format_args!("{} overlaps {} of the same Network", subnet.prefix, other.prefix));
        }
        subnets.push(subnet);
    }
    subnets
}

fn subnet(index: usize, message: &v1::Subnet, findings: &mut Findings<'_>) -> Option<Subnet> {
    let path = format!("spec.subnets[{index}].prefix");
    let prefix = findings.value(&path, message.prefix.parse::<Prefix>())?;
    if let Some(reserved) = reserved_part(&prefix) {
        findings.add(&path, format_args!("{prefix} overlaps {reserved}, which is not for stations"));
        return None;
    }
    let gateway = match message.gateway.as_str() {
        "" => None,
        text => gateway(&format!("spec.subnets[{index}].gateway"), text, &prefix, findings),
    };
    let vlan = services::vlan(&format!("spec.subnets[{index}].vlan"), message.vlan, findings);
    let pool =
        addressing::pool(&format!("spec.subnets[{index}].pool"), message.pool.as_ref(), &prefix, findings);
    Some(Subnet { prefix, gateway, vlan, pool })
}

fn gateway(path: &str, text: &str, prefix: &Prefix, findings: &mut Findings<'_>) -> Option<IpAddr> {
    let address = findings.value(path, unicast(text))?;
    if !prefix.contains(address) {
        findings.add(path, format_args!("{address} is not inside {prefix}"));
    } else if let Some(what) = reserved_end(prefix, address) {
        findings.add(path, format_args!("{address} is the {what} address of {prefix}"));
    }
    Some(address)
}

/// "network" or "broadcast" for the ends of an IPv4 block of /30 and shorter (RFC 3021 frees those of /31),
/// "subnet-router anycast" for the first address of an IPv6 block of /126 and shorter (RFC 4291 section 2.6.1).
pub(in crate::model) fn reserved_end(prefix: &Prefix, address: IpAddr) -> Option<&'static str> {
    if prefix.routers_anycast().map(IpAddr::V6) == Some(address) {
        return Some("subnet-router anycast");
    }
    let last = prefix.broadcast()?;
    match address {
        first if first == prefix.address() => Some("network"),
        address if address == IpAddr::V4(last) => Some("broadcast"),
        _ => None,
    }
}

/// A block that a subnet must keep clear of (RFC 6890): no station can have its addresses.
fn reserved_part(prefix: &Prefix) -> Option<Prefix> {
    ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"]
        .iter()
        .filter_map(|text| text.parse::<Prefix>().ok())
        .find(|reserved| reserved.is_ipv4() == prefix.is_ipv4() && reserved.overlaps(prefix))
}
