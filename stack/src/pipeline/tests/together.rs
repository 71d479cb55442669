//! Everything that switching has, at once: nothing panics, and every frame that goes nowhere is counted, or waits.

use proptest::prelude::*;

use super::*;
use crate::config::{MirrorSpec, MulticastSpec, PortVlans, StaticMac, StormLimits, VlanSet};
use crate::testing::{mac, tcp_frame};
use crate::wire::vlan::Tci;

/// Network `a` with ports of every kind; a1 is watched by `w`.
fn everything() -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.networks[0].multicast = MulticastSpec { snooping: true, querier: true };
    spec.networks[0].static_macs.push(StaticMac { mac: address(3), vlan: 0, port: "a3".into() });
    let trunk = |native| {
        let allowed: VlanSet = [10, 20].into_iter().collect();
        PortVlans::Trunk { native, allowed: Box::new(allowed) }
    };
    for (name, vlans) in [
        ("a4", trunk(Some(0))),
        ("a5", PortVlans::Tunnel(20)),
        ("u1", trunk(Some(0))),
        ("u2", trunk(None)),
        ("w", PortVlans::Access(0)),
    ] {
        let mut port = testing::port(name, "a", 1, 100 + spec.ports.len() as u8);
        port.vlans = vlans;
        port.uplink = name.starts_with('u');
        spec.ports.push(port);
    }
    for port in &mut spec.ports {
        port.source_check = false;
        port.max_macs = Some(3);
        port.storm = StormLimits { broadcast: Some(10), multicast: Some(20), unknown_unicast: Some(20) };
    }
    spec.ports[0].mirror = Some(MirrorSpec { to: "w".into(), received: false, sent: true });
    spec.ports[1].isolated = true;
    spec.ports[2].isolated = true;
    spec
}

fn address(number: u8) -> MacAddr {
    match number {
        0 => MacAddr::BROADCAST,
        1 => MacAddr([1, 0, 0x5e, 1, 2, 3]),
        2 => MacAddr([1, 0x80, 0xc2, 0, 0, 0]),
        3 => MacAddr([2, 3, 3, 3, 3, 3]),
        4 => testing::gateway_mac("a"),
        5 => mac("a2"),
        6 => mac("w"),
        7 => crate::wire::probe::GROUP,
        _ => MacAddr([2, 9, 9, 9, 9, number]),
    }
}

const PORTS: [&str; 8] = ["a1", "a2", "a3", "a4", "a5", "u1", "u2", "w"];

/// All that is counted of frames that went nowhere, or were taken in.
fn counted(fabric: &Fabric) -> u64 {
    let config = fabric.stack.config();
    let drops =
        config.ports().flat_map(|port| DropReason::ALL.iter().map(|why| port.counters(0).dropped(*why)));
    drops.sum::<u64>() + config.stack_counters()[0].values().map(|(_, value)| value).sum::<u64>()
}

proptest! {
    #[test]
    fn a_frame_goes_somewhere_or_is_counted(
        frames in proptest::collection::vec(
            (0usize..8, 0u8..14, 8u8..20, 0usize..5, 0u64..3_000, 0u16..3), 1..60,
        ),
    ) {
        let mut fabric = Fabric::new(&everything());
        for (port, to, from, kind, pause, tag) in frames {
            fabric.advance(Duration::from_millis(pause));
            let mut frame = addressed(tcp_frame(20), address(to), address(from));
            match kind {
                0 => frame[30..34].copy_from_slice(&[239, 1, 2, 3]),
                1 => frame[12..14].copy_from_slice(&[0x88, 0xb5]),
                2 => frame[23] = 2, // taken for IGMP, and broken
                3 => frame[12..14].copy_from_slice(&[0, 38]),
                _ => {}
            }
            let mut packet = Packet::from_frame(&frame);
            packet.dress([None, Some(Tci(10)), Some(Tci(20))][usize::from(tag)]);
            let waits = {
                let id = fabric.stack.config().port_by_name(PORTS[port]).unwrap().id;
                let trace = fabric.stack.trace(fabric.now, id, &mut Packet::from_frame(packet.frame()));
                trace.unwrap().verdict == Verdict::Queued
            };
            let before = counted(&fabric);
            let sent = fabric.receive_frame(PORTS[port], packet.frame());
            let after = counted(&fabric);
            let (way, mac) = (PORTS[port], address(to));
            prop_assert!(!sent.is_empty() || after > before || waits, "{way} to {mac}, kind {kind}, tag {tag}");
            prop_assert!(sent.iter().all(|(port, _)| port != "w") || sent.iter().any(|(port, _)| port == "a1"));
        }
    }
}
