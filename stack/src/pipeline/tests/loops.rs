//! Loops between uplinks, over a little simulated wire.

use super::*;
use crate::config::PortVlans;
use crate::testing::{mac, tcp_frame};
use crate::wire::probe;

/// A frame is on the wire for so long.
const LATENCY: Duration = Duration::from_millis(1);
/// The wire carries so many frames at one time; more are lost.
const MOST: usize = 100;

/// A segment that joins some ports: what one sends the others get, a moment later.
struct Segment {
    fabric: Fabric,
    joined: Vec<&'static str>,
    flying: Vec<(&'static str, Packet)>,
    carried: u64,
}

impl Segment {
    fn new(spec: &FabricSpec, joined: &[&'static str]) -> Segment {
        Segment { fabric: Fabric::new(spec), joined: joined.to_vec(), flying: Vec::new(), carried: 0 }
    }

    /// Takes what left by the joined ports onto the wire; gives the rest.
    fn take(&mut self, sent: Vec<Sent>) -> Vec<Sent> {
        let mut rest = Vec::new();
        for (port, packet) in sent {
            let Some(by) = self.joined.iter().find(|joined| **joined == port) else {
                rest.push((port, packet));
                continue;
            };
            for other in self.joined.iter().filter(|other| *other != by) {
                if self.flying.len() < MOST {
                    self.flying.push((other, Packet::from_frame(packet.frame())));
                }
            }
        }
        rest
    }

    /// Lets time pass; tells how many frames reached ports that are not joined.
    fn run(&mut self, duration: Duration) -> usize {
        let end = self.fabric.now + duration;
        let mut reached = 0;
        while self.fabric.now < end {
            let due = self.fabric.advance(LATENCY);
            reached += self.take(due).len();
            for (port, packet) in std::mem::take(&mut self.flying) {
                self.carried += u64::from(!is_probe(&packet));
                let sent = self.fabric.receive(port, packet);
                reached += self.take(sent).len();
            }
        }
        reached
    }

    fn send(&mut self, port: &str, frame: &[u8]) -> Vec<Sent> {
        let sent = self.fabric.receive_frame(port, frame);
        self.take(sent)
    }

    fn blocked(&self) -> Vec<String> {
        let ports = self.fabric.stack.config().ports();
        let mut names: Vec<String> =
            ports.filter(|port| port.is_blocked()).map(|port| port.name.to_string()).collect();
        names.sort_unstable();
        names
    }
}

fn is_probe(packet: &Packet) -> bool {
    ethernet_of(packet).destination == probe::GROUP
}

/// Network `a` with uplinks u1, u2 and so on.
fn with_uplinks(count: u8) -> FabricSpec {
    let mut spec = testing::two_networks();
    for number in 1..=count {
        let mut uplink = testing::port(&format!("u{number}"), "a", 1, 100 + number);
        uplink.uplink = true;
        uplink.source_check = false;
        uplink.addresses.clear();
        spec.ports.push(uplink);
    }
    spec
}

fn broadcast(from: &str) -> Vec<u8> {
    addressed(tcp_frame(20), MacAddr::BROADCAST, mac(from))
}

#[test]
fn a_broadcast_that_goes_round_ends_with_the_loop() {
    let mut segment = Segment::new(&with_uplinks(2), &["u1", "u2"]);
    segment.send("a1", &broadcast("a1"));
    segment.run(Duration::from_millis(1500));
    assert_eq!(segment.blocked(), ["u2"]);
    assert!(segment.carried <= 2 * 1000 + 2, "it went round for a second at most: {}", segment.carried);
    assert!(segment.flying.iter().all(|(_, packet)| is_probe(packet)));
    let carried = segment.carried;
    segment.send("a1", &broadcast("a1"));
    let reached = segment.run(Duration::from_secs(5));
    assert_eq!(segment.carried, carried + 1, "the next goes out once");
    assert_eq!(reached, 0, "and does not come back");
    assert_eq!(segment.fabric.counted("loops_blocked"), 1);
    assert!(segment.fabric.dropped("u2", DropReason::LoopBlocked) > 0);
    assert_eq!(segment.blocked(), ["u2"], "as long as the loop is there");
}

#[test]
fn of_three_uplinks_one_stays_open_and_a_storm_that_grows_ends_too() {
    let mut segment = Segment::new(&with_uplinks(3), &["u1", "u2", "u3"]);
    segment.send("a1", &broadcast("a1"));
    segment.run(Duration::from_millis(20));
    assert_eq!(segment.blocked(), ["u2", "u3"], "the first probes are sent at once");
    segment.run(Duration::from_secs(2));
    assert!(segment.flying.iter().all(|(_, packet)| is_probe(packet)));
    assert!(segment.carried < 100, "{}", segment.carried);
}

#[test]
fn a_loop_that_is_made_later_is_found_within_a_second_and_a_little() {
    let mut segment = Segment::new(&with_uplinks(3), &[]);
    segment.run(Duration::from_secs(3));
    assert!(segment.blocked().is_empty());
    segment.joined = vec!["u1", "u2", "u3"];
    segment.send("a1", &broadcast("a1"));
    segment.run(Duration::from_millis(1010));
    assert_eq!(segment.blocked(), ["u2", "u3"]);
    segment.run(Duration::from_millis(10));
    assert!(segment.flying.iter().all(|(_, packet)| is_probe(packet)), "the wire is free again");
}

#[test]
fn storm_control_bounds_what_goes_round_until_then() {
    let mut spec = with_uplinks(3);
    for port in &mut spec.ports {
        port.storm.broadcast = Some(100);
    }
    let mut segment = Segment::new(&spec, &[]);
    segment.run(Duration::from_millis(100));
    segment.joined = vec!["u1", "u2", "u3"];
    segment.send("a1", &broadcast("a1"));
    let reached = segment.run(Duration::from_millis(900));
    let copies = reached / 3;
    assert!(copies <= 3 * (10 + 90), "a1 to a3 got {copies} copies of one broadcast each");
    assert!(segment.fabric.dropped("u1", DropReason::StormBroadcast) > 0);
}

#[test]
fn a_port_is_open_again_when_the_loop_has_gone() {
    let mut segment = Segment::new(&with_uplinks(2), &["u1", "u2"]);
    segment.run(Duration::from_secs(2));
    assert_eq!(segment.blocked(), ["u2"]);
    segment.joined.clear();
    segment.run(Duration::from_secs(8));
    assert_eq!(segment.blocked(), ["u2"]);
    segment.run(Duration::from_secs(3));
    assert!(segment.blocked().is_empty());
    assert_eq!(ports(&segment.send("a1", &broadcast("a1"))), ["a2", "a3", "u1", "u2"]);
}

#[test]
fn a_blocked_uplink_is_left_out_of_switching_and_its_stations_are_found_elsewhere() {
    let mut segment = Segment::new(&with_uplinks(2), &[]);
    let guest = MacAddr([2, 9, 9, 9, 9, 9]);
    segment.send("u2", &addressed(tcp_frame(20), mac("a1"), guest));
    assert_eq!(ports(&segment.send("a1", &addressed(tcp_frame(20), guest, mac("a1")))), ["u2"]);
    segment.joined = vec!["u1", "u2"];
    segment.run(Duration::from_secs(2));
    segment.joined.clear();
    let flooded = segment.send("a1", &addressed(tcp_frame(20), guest, mac("a1")));
    assert_eq!(ports(&flooded), ["a2", "a3", "u1"]);
    assert!(segment.send("u2", &addressed(tcp_frame(20), mac("a1"), guest)).is_empty());
    segment.send("u1", &addressed(tcp_frame(20), mac("a1"), guest));
    assert_eq!(ports(&segment.send("a1", &addressed(tcp_frame(20), guest, mac("a1")))), ["u1"]);
}

#[test]
fn probes_come_from_uplinks_that_share_a_vlan_and_only_from_these() {
    let names = |spec: &FabricSpec| {
        let mut fabric = Fabric::new(spec);
        let sent = fabric.advance(Duration::ZERO);
        assert!(sent.iter().all(|(_, packet)| is_probe(packet)));
        ports(&sent).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&with_uplinks(2)), ["u1", "u2"]);
    let mut apart = with_uplinks(2);
    apart.ports[4].vlans = PortVlans::Access(10);
    assert!(names(&apart).is_empty());
    let trunk =
        |ids: std::ops::Range<u16>| PortVlans::Trunk { native: None, allowed: Box::new(ids.collect()) };
    apart.ports[4].vlans = trunk(10..13);
    apart.ports[5].vlans = trunk(12..14);
    assert_eq!(names(&apart), ["u1", "u2"], "on VLAN 12");
    let fabric = Fabric::new(&with_uplinks(1));
    assert_eq!(fabric.stack.poll_at(), None);
}

#[test]
fn probes_of_other_nodes_are_frames_like_others_and_guests_send_none() {
    let mut fabric = Fabric::new(&with_uplinks(2));
    let mut other = Fabric::new(&with_uplinks(2));
    let probe = other.advance(Duration::ZERO)[0].1.frame().to_vec();
    assert_eq!(ports(&fabric.receive_frame("u2", &probe)), ["a1", "a2", "a3", "u1"]);
    let own = fabric.advance(Duration::ZERO)[0].1.frame().to_vec();
    assert!(fabric.stack.config().ports().all(|port| !port.is_blocked()));
    let through_a_guest = addressed(own.clone(), probe::GROUP, mac("a1"));
    assert!(fabric.receive_frame("a1", &through_a_guest).is_empty());
    assert_eq!(fabric.dropped("a1", DropReason::ProbeSpoofed), 1);
    assert!(fabric.receive_frame("u1", &own).is_empty(), "a reflection");
    assert!(fabric.stack.config().port_by_name("u1").unwrap().is_blocked());
}

#[test]
fn a_block_lives_as_long_as_there_is_another_uplink() {
    let mut spec = with_uplinks(2);
    let mut segment = Segment::new(&spec, &["u1", "u2"]);
    segment.run(Duration::from_secs(2));
    segment.fabric.reconfigure(&spec);
    assert_eq!(segment.blocked(), ["u2"]);
    spec.ports.retain(|port| port.name != "u1");
    segment.fabric.reconfigure(&spec);
    assert!(segment.blocked().is_empty());
}
