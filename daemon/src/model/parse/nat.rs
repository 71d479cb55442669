//! What the node's kernel translates, from the messages of Ports and Networks.

use std::net::{IpAddr, Ipv6Addr};

use weft_proto::v1;
use weft_stack::Prefix;

use crate::model::nat::Families;
use crate::model::violation::Findings;
use crate::model::{InterfaceAddress, Masquerade, PortMapping, Protocol};

pub(super) fn masquerade(
    message: Option<&v1::Masquerade>,
    findings: &mut Findings<'_>,
) -> Option<Masquerade> {
    let mut except: Vec<Prefix> = Vec::new();
    for (index, text) in message?.except.iter().enumerate() {
        let path = format!("spec.masquerade.except[{index}]");
        let Some(prefix) = findings.value(&path, text.parse::<Prefix>()) else { continue };
        if except.contains(&prefix) {
            findings.add(&path, format_args!("{prefix} is given twice"));
        }
        except.push(prefix);
    }
    Some(Masquerade { except })
}

pub(super) fn mappings(
    message: &v1::PortSpec,
    addresses: &[InterfaceAddress],
    findings: &mut Findings<'_>,
) -> Vec<PortMapping> {
    let list = &message.port_mappings;
    let is_container = [v1::PortType::Tap as i32, v1::PortType::Veth as i32].contains(&message.r#type);
    if !list.is_empty() && !is_container {
        findings.add("spec.portMappings", "given, nothing expected for a Port that is the node's own");
        return Vec::new();
    }
    // Addresses that are wrong are said to be so; what follows from it is not.
    let whole = addresses.len() == message.addresses.len();
    let families = Families::of(addresses.iter().map(|own| own.address));
    let families = if whole { families } else { Families { v4: true, v6: true } };
    if !list.is_empty() && whole && addresses.is_empty() {
        findings.add("spec.portMappings", "given, but the Port has no address: spec.addresses expected");
    }
    let mut mappings: Vec<PortMapping> = Vec::with_capacity(list.len());
    for (index, message) in list.iter().enumerate() {
        let Some(mapping) = mapping(index, message, families, findings) else { continue };
        if let Some(other) = mappings.iter().find(|other| mapping.overlaps(families, other, families)) {
            let path = format!("spec.portMappings[{index}].hostPort");
            findings.add(&path, format_args!("{mapping} overlaps {other} of the same Port"));
        }
        mappings.push(mapping);
    }
    mappings
}

fn mapping(
    index: usize,
    message: &v1::PortMapping,
    families: Families,
    findings: &mut Findings<'_>,
) -> Option<PortMapping> {
    let path = |field: &str| format!("spec.portMappings[{index}].{field}");
    let protocol = findings.value(&path("protocol"), protocol(&message.protocol));
    let host_port = findings.value(&path("hostPort"), port(message.host_port));
    let container_port = findings.value(&path("containerPort"), port(message.container_port));
    let host_address = match message.host_address.as_str() {
        "" => None,
        text => {
            let address = findings.value(&path("hostAddress"), host_address(text))?;
            if families != Families::default() && !families.has(address) {
                let text = format_args!("{address} given, but the Port has no address of that family");
                findings.add(&path("hostAddress"), text);
            }
            Some(address)
        }
    };
    Some(PortMapping {
        protocol: protocol?,
        host_port: host_port?,
        container_port: container_port?,
        host_address,
    })
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "" | "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(format!("{text:?} is not a protocol with ports, one of tcp, udp, sctp expected")),
    }
}

fn port(given: u32) -> Result<u16, String> {
    match u16::try_from(given) {
        Ok(port @ 1..) => Ok(port),
        Ok(0) => Err("not given, 1 to 65535 expected".to_owned()),
        _ => Err(format!("{given} is out of range, 1 to 65535 expected")),
    }
}

fn host_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr =
        text.parse().map_err(|_| format!("\"{text}\" is not an address, such as 192.0.2.1 expected"))?;
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address == Ipv6Addr::LOCALHOST {
        Err("::1 cannot be led to another device, an address of the node's devices expected".to_owned())
    } else if address.is_unspecified() {
        Err(format!("{address} is no address, nothing expected for all addresses of the node"))
    } else if address.is_multicast() || broadcast {
        Err(format!("{address} is not a unicast address"))
    } else {
        Ok(address)
    }
}

#[cfg(test)]
mod tests;
