//! Storms: one port's floods do not become everybody's.

use super::*;
use crate::config::StormLimits;
use crate::packet::{Gso, GsoKind, PartialChecksum};
use crate::testing::{mac, tcp_frame};

const GROUP: MacAddr = MacAddr([0x01, 0, 0x5e, 1, 2, 3]);
const NOBODY: MacAddr = MacAddr([2, 9, 9, 9, 9, 9]);

fn limited(limits: StormLimits) -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.ports[0].storm = limits;
    spec
}

fn to(destination: MacAddr) -> Vec<u8> {
    addressed(tcp_frame(10), destination, mac("a1"))
}

/// How many of so many frames at one moment get through.
fn passed(fabric: &mut Fabric, frame: &[u8], count: usize) -> usize {
    (0..count).filter(|_| !fabric.receive_frame("a1", frame).is_empty()).count()
}

#[test]
fn each_kind_of_flood_has_a_limit_of_its_own() {
    let limits = StormLimits { broadcast: Some(100), multicast: Some(200), unknown_unicast: Some(300) };
    let mut fabric = Fabric::new(&limited(limits));
    for (destination, burst, rate, reason) in [
        (MacAddr::BROADCAST, 10, 100, DropReason::StormBroadcast),
        (GROUP, 20, 200, DropReason::StormMulticast),
        (NOBODY, 30, 300, DropReason::StormUnknownUnicast),
    ] {
        assert_eq!(passed(&mut fabric, &to(destination), 500), burst);
        assert_eq!(fabric.dropped("a1", reason), 500 - burst as u64);
        let mut through = 0;
        for _ in 0..1000 {
            fabric.advance(Duration::from_millis(1));
            through += passed(&mut fabric, &to(destination), 1);
        }
        assert!(through.abs_diff(rate) <= 1, "{reason:?}: {through} in a second");
    }
    assert_eq!(passed(&mut fabric, &to(mac("a2")), 500), 500, "one known station is no flood");
}

#[test]
fn a_limit_that_stays_gives_no_fresh_burst_when_the_picture_changes() {
    let mut spec = limited(StormLimits { broadcast: Some(100), ..StormLimits::default() });
    let mut fabric = Fabric::new(&spec);
    assert_eq!(passed(&mut fabric, &to(MacAddr::BROADCAST), 100), 10);
    fabric.reconfigure(&spec);
    assert_eq!(passed(&mut fabric, &to(MacAddr::BROADCAST), 100), 0);
    spec.ports[0].storm.broadcast = Some(1000);
    fabric.reconfigure(&spec);
    assert_eq!(passed(&mut fabric, &to(MacAddr::BROADCAST), 200), 100);
}

#[test]
fn workers_share_a_ports_limit() {
    let spec = limited(StormLimits { broadcast: Some(100), ..StormLimits::default() });
    let config = Arc::new(Config::build(&spec, None, 2).unwrap());
    let now = Instant::from_nanos(1_000_000_000);
    let mut fabrics = [0, 1].map(|worker| Fabric { now, stack: Stack::new(worker, config.clone()) });
    let through: usize = fabrics.iter_mut().map(|fabric| passed(fabric, &to(MacAddr::BROADCAST), 100)).sum();
    assert_eq!(through, 10);
}

#[test]
fn a_super_packet_counts_as_the_frames_that_it_stands_for() {
    let mut fabric = Fabric::new(&limited(StormLimits { broadcast: Some(100), ..StormLimits::default() }));
    let send = |fabric: &mut Fabric| {
        let mut packet = Packet::from_frame(&addressed(tcp_frame(3000), MacAddr::BROADCAST, mac("a1")));
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
        packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1000, header_length: 54, ecn: false });
        !fabric.receive("a1", packet).is_empty()
    };
    let through = (0..10).filter(|_| send(&mut fabric)).count();
    assert_eq!(through, 4, "three each, and the last may be owed in part");
}

#[test]
fn a_limit_of_zero_lets_nothing_through() {
    let mut fabric = Fabric::new(&limited(StormLimits { multicast: Some(0), ..StormLimits::default() }));
    assert_eq!(passed(&mut fabric, &to(GROUP), 3), 0);
    assert_eq!(passed(&mut fabric, &to(MacAddr::BROADCAST), 3), 3);
}

#[test]
fn a_storm_of_made_up_addresses_is_named_and_the_others_do_not_notice() {
    let mut spec = limited(StormLimits { unknown_unicast: Some(1000), ..StormLimits::default() });
    spec.ports.iter_mut().for_each(|port| port.source_check = false);
    spec.ports[0].max_macs = Some(16);
    let mut fabric = Fabric::new(&spec);
    let (neighbor, mut flooded) = (MacAddr([2, 8, 8, 8, 8, 8]), 0);
    let made_up = |kind: u8, number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        MacAddr([2, kind, a, b, c, 0])
    };
    for number in 0..20_000u32 {
        // 100,000 frames a second for a fifth of one, from addresses of which most cannot be learned.
        fabric.now = fabric.now + Duration::from_micros(10);
        let source = if number % 2 == 0 { made_up(1, number % 16) } else { made_up(1, number) };
        let frame = addressed(tcp_frame(10), made_up(2, number), source);
        flooded += fabric.receive_frame("a1", &frame).len();
        if number == 10_000 {
            // A newcomer elsewhere finds room, and is found.
            fabric.receive_frame("a2", &addressed(tcp_frame(10), mac("a3"), neighbor));
        }
    }
    assert_eq!(ports(&fabric.receive_frame("a3", &addressed(tcp_frame(10), neighbor, mac("a3")))), ["a2"]);
    assert!((400..=620).contains(&flooded), "{flooded} copies on two other ports");
    assert!(fabric.dropped("a1", DropReason::MacLimit) > 9_000);
    assert!(fabric.dropped("a1", DropReason::StormUnknownUnicast) > 9_000);
    assert_eq!(fabric.counted("fdb_full"), 0);
    let (macs, _) = fabric.stack.config().table_sizes("a", fabric.now).unwrap();
    assert_eq!(macs, 3 + 16 + 1);
}

#[test]
fn the_gateways_questions_are_not_limited_by_a_ports_storm() {
    let mut spec = testing::two_networks();
    for port in &mut spec.ports {
        port.storm.broadcast = Some(0);
    }
    let mut fabric = Fabric::new(&spec);
    let ping = fabric.echo("b1", "198.18.1.99");
    assert_eq!(ports(&fabric.receive_frame("b1", &ping)), ["a1", "a2", "a3"]);
}
