//! A Port's part in switching, from its message: VLANs, limits, isolation, mirroring.

use weft_proto::v1;
use weft_stack::config::{PortVlans, StormLimits, UNTAGGED, VlanSet};

use crate::model::violation::Findings;
use crate::model::{Mirror, Name, ObjectRef, Switching, VlanId};

const MAX_MACS: std::ops::RangeInclusive<u32> = 1..=1_048_576;
const STORM_RATE: std::ops::RangeInclusive<u32> = 1..=100_000_000;
/// Frames a second of each kind that an uplink may send to many, where nothing else is said.
const UPLINK_STORM_RATE: u32 = 10_000;

pub(super) fn parse(object: &ObjectRef, message: &v1::PortSpec, findings: &mut Findings<'_>) -> Switching {
    let uplink = message.r#type == v1::PortType::Uplink as i32;
    let max_macs = match message.max_macs {
        0 => None,
        given => Some(findings.number("spec.maxMacs", given, MAX_MACS, *MAX_MACS.start())),
    };
    Switching {
        vlans: vlans(message, findings),
        source_check: message.source_check.unwrap_or(!uplink),
        max_macs,
        isolated: message.isolated,
        storm: storm(message.storm_control.as_ref(), uplink, findings),
        mirror: message.mirror.as_ref().and_then(|mirror| self::mirror(object, mirror, findings)),
        coalesce: message.coalesce.unwrap_or(true),
    }
}

fn vlans(message: &v1::PortSpec, findings: &mut Findings<'_>) -> PortVlans {
    let vlan = match message.vlan {
        0 => UNTAGGED,
        id => findings.value("spec.vlan", VlanId::new(id)).map_or(UNTAGGED, VlanId::get),
    };
    let Some(trunk) = &message.trunk else {
        return if message.vlan_tunnel { PortVlans::Tunnel(vlan) } else { PortVlans::Access(vlan) };
    };
    if message.vlan != 0 {
        findings.add("spec.vlan", format_args!("{vlan} given, nothing expected beside spec.trunk"));
    }
    if message.vlan_tunnel {
        findings.add("spec.vlanTunnel", "true given, nothing expected beside spec.trunk");
    }
    let native = match trunk.native {
        None => None,
        Some(0) => Some(UNTAGGED),
        Some(id) => findings.value("spec.trunk.native", VlanId::new(id)).map(VlanId::get),
    };
    let mut allowed = VlanSet::default();
    for (index, text) in trunk.allowed.iter().enumerate() {
        let ids = findings.value(&format!("spec.trunk.allowed[{index}]"), vlan_range(text));
        ids.into_iter().flatten().for_each(|id| allowed.insert(id));
    }
    if trunk.allowed.is_empty() {
        findings.add("spec.trunk.allowed", "empty, VLAN ids such as \"10\" or \"100-199\" expected");
    }
    PortVlans::Trunk { native, allowed: Box::new(allowed) }
}

/// `10` or `100-199`.
fn vlan_range(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let syntax =
        || format!("\"{text}\" is neither a VLAN id nor a range of them, such as 10 or 100-199 expected");
    let id = |text: &str| -> Result<u16, String> {
        let number: u32 = text.trim().parse().map_err(|_| syntax())?;
        VlanId::new(number).map(VlanId::get).map_err(|error| error.to_string())
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (id(first)?, id(last)?);
    if first <= last {
        Ok(first..=last)
    } else {
        Err(format!("{first} is above {last}, the lower id first expected"))
    }
}

fn storm(message: Option<&v1::StormControl>, uplink: bool, findings: &mut Findings<'_>) -> StormLimits {
    let default = uplink.then_some(UPLINK_STORM_RATE);
    let mut limit = |field: &str, given: Option<u32>| match given {
        None if message.is_none() => default,
        None => None,
        Some(rate) if STORM_RATE.contains(&rate) => Some(rate),
        Some(rate) => {
            let (least, most) = (STORM_RATE.start(), STORM_RATE.end());
            let path = format!("spec.stormControl.{field}");
            findings.add(&path, format_args!("{rate} is out of range, {least} to {most} expected"));
            None
        }
    };
    StormLimits {
        broadcast: limit("broadcast", message.and_then(|storm| storm.broadcast)),
        multicast: limit("multicast", message.and_then(|storm| storm.multicast)),
        unknown_unicast: limit("unknownUnicast", message.and_then(|storm| storm.unknown_unicast)),
    }
}

fn mirror(object: &ObjectRef, message: &v1::Mirror, findings: &mut Findings<'_>) -> Option<Mirror> {
    let to = match message.to.as_str() {
        "" => {
            findings.add("spec.mirror.to", "not given, the name of a Port expected");
            None
        }
        text => findings.value("spec.mirror.to", Name::new(text)),
    }?;
    if to == object.name {
        findings.add("spec.mirror.to", format_args!("\"{to}\" is this Port itself, another one expected"));
    }
    let Ok(direction) = v1::MirrorDirection::try_from(message.direction) else {
        let text = format!("{} is not a direction, one of both, received, sent expected", message.direction);
        findings.add("spec.mirror.direction", text);
        return None;
    };
    Some(Mirror {
        to,
        received: direction != v1::MirrorDirection::Sent,
        sent: direction != v1::MirrorDirection::Received,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{BASE, fabric, port, wrong};

    fn switching(spec: &str) -> Switching {
        fabric(&format!("{BASE}{}", port("web", spec))).ports["web"].spec.switching.clone()
    }

    #[test]
    fn a_trunk_has_its_native_vlan_and_those_that_tags_may_name() {
        let trunk = |native, allowed: &[u16]| PortVlans::Trunk {
            native,
            allowed: Box::new(allowed.iter().copied().collect()),
        };
        assert_eq!(switching("  trunk: {allowed: [10, 20-22]}").vlans, trunk(None, &[10, 20, 21, 22]));
        assert_eq!(switching("  trunk: {allowed: ['7'], native: 0}").vlans, trunk(Some(0), &[7]));
        assert_eq!(switching("  vlan: 5\n  vlanTunnel: true").vlans, PortVlans::Tunnel(5));
        assert_eq!(switching("  vlan: 5").vlans, PortVlans::Access(5));
    }

    #[test]
    fn limits_are_as_given() {
        let storm = switching("  stormControl: {broadcast: 100}\n  maxMacs: 8\n  isolated: true");
        assert_eq!((storm.storm.broadcast, storm.storm.multicast), (Some(100), None));
        assert_eq!((storm.max_macs, storm.isolated), (Some(8), true));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let cases = [
            ("  trunk: {}", "spec.trunk.allowed: empty, VLAN ids such as \"10\" or \"100-199\" expected"),
            ("  vlan: 3\n  trunk: {allowed: [1]}", "spec.vlan: 3 given, nothing expected beside spec.trunk"),
            (
                "  trunk: {allowed: [ten]}",
                "spec.trunk.allowed[0]: \"ten\" is neither a VLAN id nor a range of them, such as 10 or 100-199 expected",
            ),
            ("  trunk: {allowed: [9-5]}", "spec.trunk.allowed[0]: 9 is above 5, the lower id first expected"),
            (
                "  trunk: {allowed: [4095]}",
                "spec.trunk.allowed[0]: 4095 is not a VLAN id, 1 to 4094 expected",
            ),
            (
                "  trunk: {allowed: [1], native: 4095}",
                "spec.trunk.native: 4095 is not a VLAN id, 1 to 4094 expected",
            ),
            (
                "  stormControl: {unknownUnicast: 0}",
                "spec.stormControl.unknownUnicast: 0 is out of range, 1 to 100000000 expected",
            ),
            ("  mirror: {}", "spec.mirror.to: not given, the name of a Port expected"),
            ("  mirror: {to: web}", "spec.mirror.to: \"web\" is this Port itself, another one expected"),
            ("  mirror: {to: none}", "spec.mirror.to: there is no Port/none"),
            (
                "  addresses: [198.18.1.10/24]\n  trunk: {allowed: [1]}",
                "spec.addresses: given, but frames without a tag are dropped: spec.trunk.native expected",
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(wrong(&port("web", spec)), format!("Port/web: {expected}"), "{spec}");
        }
    }

    #[test]
    fn a_port_that_is_mirrored_gets_no_copies() {
        let three = [
            port("a", "  device: a\n  mirror: {to: b}"),
            port("b", "  device: b\n  mirror: {to: c}"),
            port("c", "  device: c"),
        ];
        let expected = "Port/a: spec.mirror.to: Port/b is mirrored itself, a Port that is not expected";
        assert_eq!(wrong(&three.concat()), expected);
    }
}
