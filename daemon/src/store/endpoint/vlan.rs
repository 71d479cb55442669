//! The VLAN of its Network that an attachment is on: the one that is asked for, or the one that goes without saying.
//!
//! A Network has the VLANs of its subnets, and those of what leads out of it: Tunnels, uplink and host Ports. What
//! other containers are on does not count.

use std::collections::BTreeSet;

use weft_stack::config::{PortVlans, UNTAGGED};

use crate::error::{Error, Result};
use crate::model::{Attachment, Fabric, InterfaceAddress, Name, Network, Violation, VlanId, on_vlan, parse};

/// The VLAN of an attachment to this Network, 0 for the untagged segment.
///
/// # Errors
/// When the Network does not have the one that was asked for, or has several and none was.
pub(in crate::store) fn chosen(
    fabric: &Fabric,
    name: &Name,
    network: &Network,
    asked: Option<VlanId>,
) -> Result<u16> {
    let with_subnets: BTreeSet<u16> = network.subnets.iter().map(|subnet| subnet.vlan).collect();
    match asked.map(VlanId::get) {
        Some(vlan) if with_subnets.contains(&vlan) => Ok(vlan),
        Some(vlan) => {
            let there = &with_subnets | &leading_out(fabric, name);
            if there.contains(&vlan) { Ok(vlan) } else { Err(wrong(unknown(vlan, name, there))) }
        }
        None => unsaid(fabric, name, with_subnets),
    }
}

/// Refuses addresses of somebody else that are of another VLAN's subnets. What else may be wrong with them is found
/// with the Port.
pub(super) fn check_given(given: &[String], vlan: u16, name: &Name, network: &Network) -> Result<()> {
    let mut violations = Vec::new();
    for (index, text) in given.iter().enumerate() {
        let Ok(InterfaceAddress { address, .. }) = parse::interface_address(text) else { continue };
        let subnet = network.subnets.iter().find(|subnet| subnet.prefix.contains(address));
        if let Some(subnet) = subnet.filter(|subnet| subnet.vlan != vlan) {
            let (prefix, there, here) = (subnet.prefix, on_vlan(subnet.vlan), on_vlan(vlan));
            let description =
                format!("{address} is of {prefix} of Network/{name}, which is {there}, one {here} expected");
            violations.push(Violation { field: format!("given.addresses[{index}]"), description });
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Refused(violations)) }
}

/// Where nothing is asked for: the untagged segment, if the Network uses it, or the only VLAN that there is.
fn unsaid(fabric: &Fabric, name: &Name, with_subnets: BTreeSet<u16>) -> Result<u16> {
    let there = if with_subnets.is_empty() { leading_out(fabric, name) } else { with_subnets };
    if there.is_empty() || there.contains(&UNTAGGED) {
        return Ok(UNTAGGED);
    }
    match there.first() {
        Some(only) if there.len() == 1 => Ok(*only),
        _ => Err(wrong(format!("not given, one of Network/{name}'s {} expected", listed(&there)))),
    }
}

/// The VLANs of what leads out of a Network.
fn leading_out(fabric: &Fabric, name: &Name) -> BTreeSet<u16> {
    let mut found = BTreeSet::new();
    let ports = fabric.ports.values().filter(|port| port.metadata.deleting.is_none());
    let outward = ports.filter(|port| matches!(port.spec.attachment, Attachment::Uplink | Attachment::Host));
    for port in outward.filter(|port| port.spec.network == *name) {
        match &port.spec.switching.vlans {
            PortVlans::Access(vlan) | PortVlans::Tunnel(vlan) => drop(found.insert(*vlan)),
            PortVlans::Trunk { native, allowed } => {
                found.extend(native.iter().copied().chain(allowed.iter()))
            }
        }
    }
    let tunnels = fabric.tunnels.values().filter(|tunnel| tunnel.metadata.deleting.is_none());
    let segments = tunnels.filter_map(|tunnel| tunnel.spec.segment());
    found.extend(segments.filter(|segment| segment.network == *name).map(|segment| segment.vlan));
    found
}

fn unknown(vlan: u16, name: &Name, mut there: BTreeSet<u16>) -> String {
    there.remove(&UNTAGGED);
    match there.is_empty() {
        true => format!("{vlan} given, but Network/{name} has no VLANs: nothing expected"),
        false => format!("{vlan} is no VLAN of Network/{name}, one of {} expected", listed(&there)),
    }
}

/// VLANs in words: "10, 20-29".
fn listed(vlans: &BTreeSet<u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for vlan in vlans {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *vlan => *last = *vlan,
            _ => runs.push((*vlan, *vlan)),
        }
    }
    let text = |(first, last): (u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

fn wrong(description: String) -> Error {
    Error::Refused(vec![Violation { field: "vlan".to_owned(), description }])
}

#[cfg(test)]
mod tests;
