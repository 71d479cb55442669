//! Port mirroring: who sees what, and what it does not change.

use super::*;
use crate::config::{MirrorSpec, PortVlans, VlanSet};
use crate::packet::{Gso, GsoKind, PartialChecksum};
use crate::testing::{mac, tcp_frame};
use crate::wire::vlan::Tci;

fn watch(spec: &mut FabricSpec, port: usize, to: &str, received: bool, sent: bool) {
    spec.ports[port].mirror = Some(MirrorSpec { to: to.into(), received, sent });
}

/// a1 is watched from w, which is on network b.
fn watched(received: bool, sent: bool) -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.ports.push(testing::port("w", "b", 2, 99));
    watch(&mut spec, 0, "w", received, sent);
    spec
}

fn copies<'a>(sent: &'a [Sent], to: &str) -> Vec<&'a Packet> {
    sent.iter().filter(|(port, _)| port == to).map(|(_, packet)| packet).collect()
}

#[test]
fn what_a_port_sends_and_gets_is_copied_as_asked() {
    let back = addressed(tcp_frame(20), mac("a1"), mac("a2"));
    for (received, sent) in [(true, false), (false, true), (true, true)] {
        let mut spec = watched(received, sent);
        spec.ports[1].source_check = false;
        let mut fabric = Fabric::new(&spec);
        let out = fabric.receive_frame("a1", &tcp_frame(20));
        assert_eq!(copies(&out, "a2")[0].frame(), tcp_frame(20));
        assert_eq!(copies(&out, "w").len(), usize::from(received));
        assert!(copies(&out, "w").iter().all(|copy| copy.frame() == tcp_frame(20)));
        let out = fabric.receive_frame("a2", &back);
        assert_eq!(copies(&out, "w").len(), usize::from(sent));
        assert!(copies(&out, "w").iter().all(|copy| copy.frame() == back));
    }
}

#[test]
fn a_copy_is_what_came_in_before_the_gateway_changed_it() {
    let mut fabric = Fabric::new(&watched(true, false));
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    let ping = fabric.echo("a1", "198.18.2.10");
    let out = fabric.receive_frame("a1", &ping);
    assert_eq!(ports(&out), ["b1", "w"]);
    assert_eq!(copies(&out, "w")[0].frame(), ping);
    assert_ne!(copies(&out, "b1")[0].frame(), ping);
}

#[test]
fn answers_of_the_gateway_and_its_questions_are_seen_too() {
    let mut fabric = Fabric::new(&watched(false, true));
    let question = fabric.resolve("a1", "198.18.1.1");
    assert_eq!(ports(&fabric.receive_frame("a1", &question)), ["a1", "w"]);
    let ping = fabric.echo("a1", "198.18.1.1");
    let out = fabric.receive_frame("a1", &ping);
    assert_eq!(copies(&out, "w")[0].frame(), copies(&out, "a1")[0].frame());
    fabric.introduce("b1", ["198.18.2.1", "2001:db8:2::1"]);
    let ping = fabric.echo("b1", "198.18.1.10");
    fabric.receive_frame("b1", &ping);
    let asked = fabric.advance(Duration::from_secs(60));
    assert_eq!(copies(&asked, "w").len(), copies(&asked, "a1").len(), "what timers send");
}

#[test]
fn a_frame_that_is_dropped_is_seen_all_the_same() {
    let mut fabric = Fabric::new(&watched(true, false));
    let stolen = addressed(tcp_frame(20), mac("a2"), mac("a3"));
    let out = fabric.receive_frame("a1", &stolen);
    assert_eq!((ports(&out), copies(&out, "w")[0].frame()), (vec!["w"], &stolen[..]));
    assert_eq!(fabric.dropped("a1", DropReason::SourceMacSpoofed), 1);
    assert_eq!(ports(&fabric.receive_frame("a1", &[1, 2, 3])), ["w"]);
}

#[test]
fn a_copy_has_the_tag_of_the_wire() {
    let mut spec = watched(true, true);
    let allowed: VlanSet = [10].into_iter().collect();
    spec.ports[0].vlans = PortVlans::Trunk { native: Some(0), allowed: Box::new(allowed) };
    spec.ports[1].vlans = PortVlans::Access(10);
    let mut fabric = Fabric::new(&spec);
    let dress = |frame: &[u8], tci: u16| {
        let mut packet = Packet::from_frame(frame);
        packet.dress(Some(Tci(tci)));
        packet.frame().to_vec()
    };
    let mut bare = addressed(tcp_frame(20), MacAddr::BROADCAST, mac("a1"));
    bare[12..14].copy_from_slice(&[0x88, 0xb5]);
    let out = fabric.receive_frame("a1", &dress(&bare, 0xa00a));
    assert_eq!(copies(&out, "a2")[0].frame(), bare);
    assert_eq!(copies(&out, "w")[0].frame(), dress(&bare, 0xa00a));
    bare[6..12].copy_from_slice(&mac("a2").0);
    let out = fabric.receive_frame("a2", &bare);
    assert_eq!(copies(&out, "w")[0].frame(), dress(&bare, 10));
}

fn super_packet() -> Packet {
    let mut packet = Packet::from_frame(&tcp_frame(3000));
    packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
    packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1448, header_length: 0, ecn: false });
    packet
}

#[test]
fn a_super_packet_is_seen_whole_where_the_destination_takes_it() {
    let mut fabric = Fabric::new(&watched(true, false));
    let out = fabric.receive("a1", super_packet());
    let copy = copies(&out, "w")[0];
    assert_eq!((copy.len(), copy.offload.gso.unwrap().header_length), (3054, 54));
    let mut spec = watched(true, false);
    spec.ports[4].offloads = Default::default();
    let mut fabric = Fabric::new(&spec);
    let out = fabric.receive("a1", super_packet());
    assert_eq!(copies(&out, "w").len(), 3);
    assert!(copies(&out, "w").iter().all(|copy| copy.offload.checksum.is_none()));
    assert!(copies(&out, "a2")[0].offload.gso.is_some(), "the original is as it was");
}

#[test]
fn a_lying_offload_header_is_not_handed_on() {
    let mut fabric = Fabric::new(&watched(true, false));
    let mut packet = super_packet();
    packet.offload.checksum = Some(PartialChecksum { start: 65_000, offset: 16 });
    let out = fabric.receive("a1", packet);
    assert_eq!(fabric.dropped("a1", DropReason::OffloadInvalid), 1);
    assert_eq!(copies(&out, "w")[0].offload, Default::default());
}

#[test]
fn the_destination_gets_nothing_else_and_may_not_send() {
    let mut spec = testing::two_networks();
    spec.ports.push(testing::port("w", "a", 1, 99));
    watch(&mut spec, 0, "w", true, false);
    spec.ports[2].source_check = false;
    let mut fabric = Fabric::new(&spec);
    let broadcast = addressed(tcp_frame(20), MacAddr::BROADCAST, mac("a3"));
    assert_eq!(ports(&fabric.receive_frame("a3", &broadcast)), ["a1", "a2"]);
    let to_it = addressed(tcp_frame(20), mac("w"), mac("a3"));
    assert_eq!(ports(&fabric.receive_frame("a3", &to_it)), ["a1", "a2"], "unknown here");
    assert!(fabric.receive_frame("w", &addressed(tcp_frame(20), mac("a2"), mac("w"))).is_empty());
    assert_eq!(fabric.dropped("w", DropReason::MirrorDestination), 1);
    spec.ports[0].mirror = None;
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a3", &to_it)), ["w"], "a port like others again");
}

#[test]
fn an_address_learned_before_is_not_found_behind_a_mirror() {
    let mut spec = testing::two_networks();
    spec.ports.push(testing::port("w", "a", 1, 99));
    spec.ports.iter_mut().for_each(|port| port.source_check = false);
    let mut fabric = Fabric::new(&spec);
    let guest = MacAddr([2, 9, 9, 9, 9, 9]);
    fabric.receive_frame("w", &addressed(tcp_frame(20), mac("a1"), guest));
    assert_eq!(ports(&fabric.receive_frame("a1", &addressed(tcp_frame(20), guest, mac("a1")))), ["w"]);
    watch(&mut spec, 0, "w", false, true);
    fabric.reconfigure(&spec);
    let flooded = fabric.receive_frame("a1", &addressed(tcp_frame(20), guest, mac("a1")));
    assert_eq!(ports(&flooded), ["a2", "a3"]);
}

#[test]
fn there_is_no_mirror_of_a_mirror_and_no_loop() {
    let mut spec = testing::two_networks();
    watch(&mut spec, 0, "a2", true, true);
    watch(&mut spec, 1, "a3", true, true);
    let mut fabric = Fabric::new(&spec);
    let broadcast = addressed(tcp_frame(20), MacAddr::BROADCAST, mac("a1"));
    assert_eq!(ports(&fabric.receive_frame("a1", &broadcast)), ["a2", "a3"], "one copy, and the flood");
    watch(&mut spec, 1, "a1", true, true);
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a1", &broadcast)), ["a2", "a3"], "each other's: neither is one");
    spec.ports[1].mirror = None;
    watch(&mut spec, 0, "a1", true, true);
    fabric.reconfigure(&spec);
    assert_eq!(ports(&fabric.receive_frame("a1", &broadcast)), ["a2", "a3"], "nor is one its own");
}

#[test]
fn copies_that_find_no_buffer_are_counted_and_the_traffic_goes_on() {
    let mut spec = watched(true, true);
    watch(&mut spec, 1, "w", true, true);
    spec.ports[1].offloads = Default::default();
    let config = Arc::new(Config::build(&spec, None, 1).unwrap());
    let mut stack = Stack::new(0, config.clone());
    let mut batch = Batch::new();
    for _ in 0..BATCH {
        let mut packet = Packet::from_frame(&tcp_frame(65_000));
        packet.offload.checksum = Some(PartialChecksum { start: 34, offset: 16 });
        packet.offload.gso = Some(Gso { kind: GsoKind::TcpV4, size: 500, header_length: 54, ecn: false });
        *batch.vacant() = packet;
        batch.commit(1);
    }
    let mut output = Output::new();
    stack.process(Instant::from_nanos(1), config.port_by_name("a1").unwrap().id, &mut batch, &mut output);
    let to = |name: &str| {
        let id = config.port_by_name(name).unwrap().id;
        output.sends().iter().filter(|send| send.port == id).count() as u64
    };
    let lost = config.stack_counters()[0].mirror_lost.get();
    let exhausted = config.port_by_name("a1").unwrap().counters(0).dropped(DropReason::BuffersExhausted);
    assert!(lost > 0);
    assert_eq!(to("a2") % 130, 0);
    assert_eq!(to("a2") / 130 + exhausted, BATCH as u64);
    assert_eq!(to("w") + lost, BATCH as u64 + to("a2"));
}

#[test]
fn who_watches_gets_nothing_else_also_while_there_is_nobody_to_watch() {
    let mut spec = testing::two_networks();
    spec.ports[1].watches = true;
    let mut fabric = Fabric::new(&spec);
    let question = fabric.resolve("a1", "198.18.1.99");
    assert_eq!(ports(&fabric.receive_frame("a1", &question)), ["a3"]);
    let question = fabric.resolve("a2", "198.18.1.99");
    assert!(fabric.receive_frame("a2", &question).is_empty());
    assert_eq!(fabric.dropped("a2", DropReason::MirrorDestination), 1);
}
