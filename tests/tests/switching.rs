//! What a Port may send to others, who hears it, and who watches: limits, isolation, static addresses, mirrors,
//! multicast groups.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use weft_testkit::frame::{self, BROADCAST};
use weft_testkit::raw::{Capture, send};
use weft_testkit::topology::{self, A4, FRONT_GATEWAY4, NEAR_B4, PortKind};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, Manifest};

const SOON: Duration = Duration::from_secs(20);
const C4: &str = "198.18.1.12";
const MEMBER: &str = include_str!("member.py");

/// Containers `a`, `b` and `c` on one Network.
fn three(a: PortKind, b: PortKind) -> Manifest {
    let c = topology::port("front", "c", b, "02:00:00:00:00:0c", &[C4]);
    topology::one_network(a, b).namespace("c").port("c", c)
}

/// A frame from `a` to `destination`, told from others by `number`.
fn numbered(destination: [u8; 6], source: [u8; 6], number: u16) -> Vec<u8> {
    let mut payload = [0x5a; 46];
    payload[..2].copy_from_slice(&number.to_be_bytes());
    frame::ethernet(destination, source, 0x88b5, &payload)
}

const A: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];

#[test]
fn isolated_ports_reach_the_others_and_the_gateway_only() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            let manifest = three(a, b).with("Port", "a", "isolated", json!(true)).with(
                "Port",
                "b",
                "isolated",
                json!(true),
            );
            lab.apply(&manifest)?;
            lab.container("a").reaches(C4)?;
            lab.container("b").reaches(C4)?;
            lab.container("a").reaches(FRONT_GATEWAY4)?;
            lab.container("a").does_not_reach(NEAR_B4)?;
            lab.weft(&["delete", "port", "a", "b", "c"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn a_storm_is_held_back_at_its_port() {
    Lab::test(|lab| {
        let limits = json!({ "broadcast": 100, "unknownUnicast": 100 });
        lab.apply(&three(PortKind::Tap, PortKind::Veth).with("Port", "a", "stormControl", limits))?;
        let at_b = Capture::start(&lab.container("b"), "eth0")?;
        let unknown = [2, 0, 0, 0, 9, 9];
        for (destination, reason) in [(BROADCAST, "storm_broadcast"), (unknown, "storm_unknown_unicast")] {
            let storm: Vec<_> = (0..5000).map(|number| numbered(destination, A, number)).collect();
            send(&lab.container("a"), "eth0", &storm)?;
            // What is known goes on as before.
            lab.container("a").reaches(C4)?;
            let held_back = lab.drops("a", reason)?;
            ensure!((2000..5000).contains(&held_back), "{reason}: {held_back} of 5000 held back");
            let passed = at_b.frames().iter().filter(|frame| frame[..6] == destination[..]).count() as u64;
            ensure!(
                passed + held_back < 5100 && passed > 0,
                "{passed} passed and {held_back} were held back"
            );
        }
        Ok(())
    });
}

#[test]
fn no_more_addresses_are_learned_on_a_port_than_it_may_have() {
    Lab::test(|lab| {
        let manifest = three(PortKind::Tap, PortKind::Tap)
            .with("Port", "a", "sourceCheck", json!(false))
            .with("Port", "a", "maxMacs", json!(4));
        lab.apply(&manifest)?;
        let frames: Vec<_> = (0..20u8).map(|n| numbered(BROADCAST, [2, 0, 0, 1, 0, n], n.into())).collect();
        let at_b = Capture::start(&lab.container("b"), "eth0")?;
        send(&lab.container("a"), "eth0", &frames)?;
        at_b.wait_for("a frame of the first address", |frame| frame == frames[0])?;
        ensure!(lab.drops("a", "mac_limit")? == 16, "{} of 20 dropped", lab.drops("a", "mac_limit")?);
        lab.container("a").reaches(C4)
    });
}

#[test]
fn a_static_address_is_where_it_was_said_to_be() {
    Lab::test(|lab| {
        let entry = json!([{ "mac": "02:00:00:00:00:99", "port": "b" }]);
        lab.apply(&three(PortKind::Tap, PortKind::Veth).with("Network", "front", "staticMacs", entry))?;
        let (b, c) = (lab.container("b"), lab.container("c"));
        let (at_b, at_c) = (Capture::start(&b, "eth0")?, Capture::start(&c, "eth0")?);
        let wanted = numbered([2, 0, 0, 0, 0, 0x99], A, 1);
        send(&lab.container("a"), "eth0", &[wanted.clone(), numbered(BROADCAST, A, 2)])?;
        at_b.wait_for("the frame", |frame| frame == wanted)?;
        at_c.wait_for("what came behind it", |frame| frame == numbered(BROADCAST, A, 2))?;
        ensure!(!at_c.frames().contains(&wanted), "it was flooded");
        Ok(())
    });
}

#[test]
fn a_mirror_shows_both_directions_and_nothing_else() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            let mirrored = three(a, b).with("Port", "a", "mirror", json!({ "to": "c" }));
            lab.apply(&mirrored)?;
            let line = "tcpdump --immediate-mode -l -n -i eth0 icmp";
            let mut watcher = lab.container("c").spawn(line)?;
            watcher.wait_for("listening on")?;
            lab.container("a").reaches(NEAR_B4)?;
            watcher.wait_for(&format!("{A4} > {NEAR_B4}: ICMP echo request"))?;
            watcher.wait_for(&format!("{NEAR_B4} > {A4}: ICMP echo reply"))?;
            lab.container("c").does_not_reach(NEAR_B4)?;
            ensure!(lab.drops("c", "mirror_destination")? > 0, "what the watcher sent is not counted");
            lab.weft(&["delete", "port", "a", "b", "c"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn a_group_is_heard_by_its_members() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            let multicast = json!({ "snooping": true, "querier": true });
            lab.apply(&three(a, b).with("Network", "front", "multicast", multicast))?;
            for (group, source) in [("239.1.2.3", A4), ("ff05::1:3", "2001:db8:1::10")] {
                let command = ["python3", "-c", MEMBER, "join", group];
                let mut member = lab.container("b").spawn_with_input(&command, None)?;
                member.wait_for("joined")?;
                // At first all hear all: until somebody asks for members, nobody knows who is none.
                retry_until(SOON, "strangers that are left alone", || {
                    let at_c = Capture::start(&lab.container("c"), "eth0")?;
                    lab.container("a").exec(&["python3", "-c", MEMBER, "send", group, source])?.ok()?;
                    member.wait_for("heard")?;
                    // For all to hear: what c is to get of before has come when this is there.
                    send(&lab.container("a"), "eth0", &[numbered(BROADCAST, A, 7)])?;
                    at_c.wait_for("the frame for all", |frame| frame == numbered(BROADCAST, A, 7))?;
                    let told = to_group(&at_c);
                    ensure!(told.is_empty(), "a stranger heard {group}: {told:?}");
                    Ok(())
                })?;
                let groups = lab.get("network", "front")?["status"]["groups"].as_u64().context("groups")?;
                ensure!(groups > 0, "{groups} groups");
                drop(member);
            }
            lab.weft(&["delete", "port", "a", "b", "c"])?.ok()?;
        }
        Ok(())
    });
}

/// The datagrams that came to the members' UDP port, in hexadecimal digits.
fn to_group(capture: &Capture) -> Vec<String> {
    let frames = capture.frames();
    let datagrams = frames.iter().filter(|frame| {
        let to = if frame[12..14] == [0x08, 0x00] { 36 } else { 56 };
        frame[0] & 1 == 1 && frame.get(to..to + 2) == Some(&[0x1b, 0x39])
    });
    datagrams.map(|frame| frame.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}
