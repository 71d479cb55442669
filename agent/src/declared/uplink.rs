//! A Network on a device of the nodes: the Port there, and what that means for the Network's VLANs.
//!
//! `spec.uplink` is the agent's alone. With `vlan` all of the Network is that VLAN of the device: its subnets are put
//! there, and pods need not name it. Without, tags on the wire are VLANs of the Network.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::Value;
use weft_proto::v1::{self, Resource, resource};

use crate::cluster::View;

/// `spec.uplink`, as users write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Uplink {
    device: String,
    vlan: Option<u32>,
    #[serde(default)]
    vlans: Vec<String>,
}

/// The Port of a Network with this `spec.uplink`, after its VLANs are put into the Network. Errors: the field, its
/// value and what was expected.
pub fn port(name: &str, given: &Value, network: &mut v1::NetworkSpec) -> Result<Resource, String> {
    let Uplink { device, vlan, vlans } =
        Uplink::deserialize(given).map_err(|error| format!("spec.uplink: {given}: {error}"))?;
    let trunk = match vlan {
        Some(vlan) if !vlans.is_empty() => {
            return Err(format!("spec.uplink.vlan: {vlan}, nothing expected beside spec.uplink.vlans"));
        }
        Some(vlan @ 1..=4094) => {
            put_on(vlan, network)?;
            Some(v1::Trunk { allowed: vec![vlan.to_string()], native: None })
        }
        Some(other) => return Err(format!("spec.uplink.vlan: {other}, a VLAN id of 1 to 4094 expected")),
        None => several(vlans, network)?,
    };
    let spec = v1::PortSpec {
        network: name.into(),
        r#type: v1::PortType::Uplink.into(),
        device,
        trunk,
        ..Default::default()
    };
    Ok(Resource {
        metadata: Some(v1::Metadata { name: format!("{name}-uplink"), ..Default::default() }),
        kind: Some(resource::Kind::Port(v1::Port { spec: Some(spec), status: None })),
    })
}

/// The VLAN that all of a declared Network is; 0: none.
pub fn vlan_of(view: &View, network: &str) -> u32 {
    let declared = view.declared.get(&format!("Network/{network}"));
    let uplink = declared.and_then(|declared| Uplink::deserialize(declared.uplink.as_ref()?).ok());
    uplink.and_then(|uplink| uplink.vlan).unwrap_or_default()
}

/// Puts all of a Network on one VLAN.
fn put_on(vlan: u32, network: &mut v1::NetworkSpec) -> Result<(), String> {
    let subnets = network.subnets.iter_mut().map(|subnet| ("subnets", &mut subnet.vlan)).enumerate();
    let macs = network.static_macs.iter_mut().map(|entry| ("staticMacs", &mut entry.vlan)).enumerate();
    for (index, (list, own)) in subnets.chain(macs) {
        if ![0, vlan].contains(own) {
            return Err(format!(
                "spec.{list}[{index}].vlan: {own}, {vlan} or nothing expected: spec.uplink.vlan is for all of the Network"
            ));
        }
        *own = vlan;
    }
    Ok(())
}

/// The VLANs that go over the device: those that are told, or those of subnets. `None`: there are none.
fn several(vlans: Vec<String>, network: &v1::NetworkSpec) -> Result<Option<v1::Trunk>, String> {
    let tagged = || network.subnets.iter().enumerate().filter(|(_, subnet)| subnet.vlan != 0);
    let mut allowed = vlans;
    if allowed.is_empty() {
        let own: BTreeSet<u32> = tagged().map(|(_, subnet)| subnet.vlan).collect();
        allowed = own.iter().map(u32::to_string).collect();
    } else if let Some(ranges) = allowed.iter().map(|text| range(text)).collect::<Option<Vec<_>>>() {
        // What is no range the daemon refuses.
        let missing = |vlan: u32| !ranges.iter().any(|range| range.contains(&vlan));
        if let Some((index, subnet)) = tagged().find(|(_, subnet)| missing(subnet.vlan)) {
            return Err(format!(
                "spec.subnets[{index}].vlan: {}, one of spec.uplink.vlans ({}) expected",
                subnet.vlan,
                allowed.join(", ")
            ));
        }
    }
    Ok((!allowed.is_empty()).then_some(v1::Trunk { allowed, native: Some(0) }))
}

/// "10" or "100-199".
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn network(vlans: &[u32]) -> v1::NetworkSpec {
        let subnets = vlans.iter().map(|vlan| v1::Subnet { vlan: *vlan, ..Default::default() }).collect();
        v1::NetworkSpec { subnets, ..Default::default() }
    }

    fn made(given: &Value, vlans: &[u32]) -> Result<(Option<v1::Trunk>, Vec<u32>), String> {
        let mut network = network(vlans);
        let port = port("blue", given, &mut network)?;
        let Some(resource::Kind::Port(port)) = port.kind else { panic!() };
        Ok((port.spec.unwrap().trunk, network.subnets.iter().map(|subnet| subnet.vlan).collect()))
    }

    fn trunk(allowed: &[&str], native: Option<u32>) -> Option<v1::Trunk> {
        Some(v1::Trunk { allowed: allowed.iter().map(|text| (*text).to_owned()).collect(), native })
    }

    #[test]
    fn one_vlan_is_for_all_of_the_network_and_tagged_on_the_wire() {
        let one = json!({"device": "eth1", "vlan": 20});
        assert_eq!(made(&one, &[0, 20]), Ok((trunk(&["20"], None), vec![20, 20])));
        assert_eq!(made(&one, &[]), Ok((trunk(&["20"], None), vec![])));
        let wrong = made(&one, &[0, 30]).unwrap_err();
        assert!(wrong.starts_with("spec.subnets[1].vlan: 30, 20 or nothing expected"), "{wrong}");
    }

    #[test]
    fn several_vlans_are_told_or_those_of_the_subnets() {
        let told = json!({"device": "eth1", "vlans": ["20", "30-39"]});
        assert_eq!(made(&told, &[0, 20, 35]), Ok((trunk(&["20", "30-39"], Some(0)), vec![0, 20, 35])));
        let device = json!({"device": "eth1"});
        assert_eq!(made(&device, &[30, 20, 30]), Ok((trunk(&["20", "30"], Some(0)), vec![30, 20, 30])));
        assert_eq!(made(&device, &[0]), Ok((None, vec![0])), "a plain Port");
        let wrong = made(&told, &[40]).unwrap_err();
        assert_eq!(wrong, "spec.subnets[0].vlan: 40, one of spec.uplink.vlans (20, 30-39) expected");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value() {
        for (given, expected) in [
            (json!({"vlan": 20}), "missing field `device`"),
            (json!({"device": "eth1", "vlann": 20}), "unknown field `vlann`"),
            (json!({"device": "eth1", "vlan": 0}), "spec.uplink.vlan: 0, a VLAN id of 1 to 4094 expected"),
            (json!({"device": "eth1", "vlan": 4095}), "spec.uplink.vlan: 4095, a VLAN id"),
            (
                json!({"device": "eth1", "vlan": 2, "vlans": ["3"]}),
                "spec.uplink.vlan: 2, nothing expected beside",
            ),
            (json!("eth1"), "spec.uplink: \"eth1\": invalid type"),
        ] {
            let wrong = made(&given, &[]).unwrap_err();
            assert!(wrong.contains(expected), "{wrong}");
        }
    }
}
