//! Network cards of the node as `uplink` Ports. A veth pair plays the card and its cable: `nic0` in the node, and
//! `eth0` in the namespace `outside`, where another host would be.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::frame;
use weft_testkit::raw::{Capture, send};
use weft_testkit::topology::{self, A_MAC, A4};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, Manifest, PortKind, Process, iperf3};

const SOON: Duration = Duration::from_secs(20);
/// The host outside.
const OUTSIDE4: &str = "198.18.1.50";
const OUTSIDE_MAC: &str = "02:00:00:00:00:50";

/// Plugs the cable in.
fn plug(lab: &Lab) -> Result<()> {
    if !lab.namespaces()?.contains(&"outside".to_owned()) {
        lab.node().run("ip netns add outside")?.ok()?;
    }
    let line = format!("ip link add nic0 type veth peer name eth0 address {OUTSIDE_MAC} netns outside");
    lab.node().run(&line)?.ok()?;
    let outside = lab.container("outside");
    outside.run("ip link set eth0 up")?.ok()?;
    outside.run(&format!("ip address add {OUTSIDE4}/24 dev eth0"))?.ok().map(drop)
}

/// Container `a`, and the card as the Port `wan` on the same Network.
fn manifest() -> Manifest {
    topology::front()
        .namespace("a")
        .port("a", topology::port("front", "a", PortKind::Tap, A_MAC, &[A4]))
        .port("wan", uplink())
}

fn uplink() -> Value {
    json!({ "network": "front", "type": "uplink", "device": "nic0" })
}

/// All of what the daemon may have changed of the card.
fn card(lab: &Lab) -> Result<String> {
    let mut text = String::new();
    for line in [
        "ip -details link show dev nic0",
        "ip address show dev nic0",
        "tc qdisc show dev nic0",
        "tc filter show dev nic0 ingress",
    ] {
        text += &lab.node().run(line)?.ok()?;
    }
    // Once a device has been up, the kernel says how it queues, for ever.
    let lines = text.lines().filter(|line| !line.starts_with("qdisc noqueue"));
    Ok(lines.map(|line| line.replace("qdisc noqueue", "qdisc noop") + "\n").collect())
}

#[test]
fn a_container_and_a_host_behind_the_card_reach_each_other() {
    Lab::test(|lab| {
        plug(lab)?;
        lab.apply(&manifest())?;
        for queues in [1, 2] {
            lab.apply(&manifest().with("Port", "wan", "queues", json!(queues)))?;
            lab.container("a").reaches(OUTSIDE4)?;
            lab.container("outside").reaches(A4)?;
            iperf3::streams(&lab.container("a"), &lab.container("outside"), OUTSIDE4, 1e8)?;
        }
        let promiscuous = lab.node().run("ip -details link show dev nic0")?.ok()?;
        ensure!(promiscuous.contains("promiscuity 2"), "promiscuous by two sockets: {promiscuous}");
        Ok(())
    });
}

/// A frame to all with a payload of its own, behind the tag of VLAN 7 if it is `tagged`.
fn broadcast(tagged: bool) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 0x77]);
    if tagged {
        frame.extend([0x81, 0x00, 0x00, 0x07]);
    }
    frame.extend([0x88, 0xb5]);
    frame.extend([0xa5; 46]);
    frame
}

#[test]
fn tags_pass_to_the_ports_of_their_vlan_and_from_them() {
    Lab::test(|lab| {
        plug(lab)?;
        let on_seven = json!({
            "network": "front", "namespace": "b", "type": "veth", "vlan": 7, "sourceCheck": false,
        });
        let trunk = json!({ "allowed": ["7"], "native": 0 });
        lab.apply(&manifest().with("Port", "wan", "trunk", trunk).namespace("b").port("b", on_seven))?;
        lab.container("a").reaches(OUTSIDE4)?;
        let (a, b) = (lab.container("a"), lab.container("b"));
        let (at_a, at_b) = (Capture::start(&a, "eth0")?, Capture::start(&b, "eth0")?);
        send(&lab.container("outside"), "eth0", &[broadcast(true)])?;
        at_b.wait_for("the frame without its tag", |frame| frame == broadcast(false))?;
        let line = "tcpdump --immediate-mode -l -n -e -i eth0 ether src 02:00:00:00:00:77";
        let mut watcher = lab.container("outside").spawn(line)?;
        watcher.wait_for("listening on")?;
        send(&b, "eth0", &[broadcast(false)])?;
        watcher.wait_for("vlan 7,")?;
        ensure!(!at_a.frames().contains(&broadcast(false)), "the untagged segment got a frame of VLAN 7");
        Ok(())
    });
}

#[test]
fn the_card_is_given_back_as_it_was() {
    Lab::test(|lab| {
        plug(lab)?;
        lab.node().exec(&["ip", "link", "set", "nic0", "alias", "to the roof"])?.ok()?;
        let before = card(lab)?;
        lab.apply(&manifest())?;
        lab.container("a").reaches(OUTSIDE4)?;
        ensure!(card(lab)? != before, "nothing shows that the card was taken");
        lab.weft(&["delete", "port", "wan"])?.ok()?;
        retry_until(SOON, "the card to be as before", || {
            let after = card(lab)?;
            ensure!(after == before, "before:\n{before}\nafter:\n{after}");
            Ok(())
        })
    });
}

#[test]
fn a_card_that_was_up_stays_up() {
    Lab::test(|lab| {
        plug(lab)?;
        lab.node().run("ip link set nic0 up")?.ok()?;
        lab.apply(&manifest())?;
        lab.weft(&["delete", "port", "wan"])?.ok()?;
        let link = lab.node().run("ip -o link show dev nic0")?.ok()?;
        ensure!(link.contains(",UP,") && !link.contains("alias"), "{link}");
        Ok(())
    });
}

#[test]
fn the_daemon_takes_its_card_over_again_after_sigkill_and_gives_it_back_when_nobody_wants_it() {
    Lab::test(|lab| {
        plug(lab)?;
        let before = card(lab)?;
        lab.apply(&manifest())?;
        for _ in 0..2 {
            lab.kill_daemon();
            lab.restart()?;
            retry_until(SOON, "traffic", || lab.container("a").reaches(OUTSIDE4))?;
        }
        lab.weft(&["delete", "port", "wan"])?.ok()?;
        retry_until(SOON, "the card to be as before", || {
            let after = card(lab)?;
            ensure!(after == before, "before:\n{before}\nafter:\n{after}");
            Ok(())
        })
    });
}

/// Networks `n10` and `n20` on a VLAN of the card each, with a container that has the same name.
fn two_on_the_card() -> Manifest {
    [10_u8, 20].into_iter().fold(Manifest::new(), |manifest, vlan| {
        let name = format!("n{vlan}");
        let subnet = json!({ "prefix": format!("198.18.{vlan}.0/24"), "vlan": vlan });
        let container = json!({
            "network": name, "namespace": name, "type": "veth", "vlan": vlan,
            "addresses": [format!("198.18.{vlan}.1/24")], "sourceCheck": false,
        });
        let trunk = json!({ "allowed": [vlan] });
        let wan = json!({ "network": name, "type": "uplink", "device": "nic0", "trunk": trunk });
        manifest
            .network(&name, json!({ "subnets": [subnet] }))
            .namespace(&name)
            .port(&name, container)
            .port(&format!("wan{vlan}"), wan)
    })
}

/// A frame to all with the tag of a VLAN, as it is on the wire; and as a Port of that VLAN gets it.
fn greeting(vlan: u8) -> (Vec<u8>, Vec<u8>) {
    let plain = frame::ethernet(frame::BROADCAST, [2, 0, 0, 0, 0, vlan], 0x88b5, &[vlan; 46]);
    (frame::tagged(&plain, vlan.into()), plain)
}

/// Sends frames by turns, thousands a second, until it is killed.
const FLOOD: &str = r#"
import itertools, socket, sys, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
link.bind(("eth0", 0))
for number, frame in enumerate(itertools.cycle(map(bytes.fromhex, sys.argv[1:]))):
    link.send(frame)
    time.sleep(0.0001)
    if number == 100:
        print("flows", flush=True)
"#;

/// Frames of both VLANs that come to the card until the process is dropped.
fn flood(lab: &Lab) -> Result<Process> {
    let frames = [10, 20].map(|vlan| {
        let octets = greeting(vlan).0;
        octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>()
    });
    let command = ["python3", "-c", FLOOD, &frames[0], &frames[1]];
    let mut flood = lab.container("outside").spawn_with_input(&command, None)?;
    flood.wait_for("flows")?;
    Ok(flood)
}

#[test]
fn networks_share_a_card_by_vlans_and_the_last_gives_it_back() {
    Lab::test(|lab| {
        plug(lab)?;
        let before = card(lab)?;
        lab.apply(&two_on_the_card())?;
        let hears = |lab: &Lab, vlan: u8, other: u8| -> Result<()> {
            let place = lab.container(&format!("n{vlan}"));
            let inside = Capture::start(&place, "eth0")?;
            let at_host = Capture::start(&lab.container("outside"), "eth0")?;
            let (tagged, plain) = greeting(vlan);
            send(&lab.container("outside"), "eth0", &[greeting(other).0, tagged])?;
            inside.wait_for("the frame without its tag", |frame| frame == plain)?;
            let stranger = inside.frames().iter().any(|frame| frame.ends_with(&[other; 46]));
            ensure!(!stranger, "VLAN {vlan} heard VLAN {other}");
            let from_here = frame::ethernet(frame::BROADCAST, [2, 0, 0, 0, 1, vlan], 0x88b6, &[vlan; 46]);
            send(&place, "eth0", std::slice::from_ref(&from_here))?;
            let wanted = frame::tagged(&from_here, vlan.into());
            at_host.wait_for("the frame with its tag", |frame| frame == wanted).map(drop)
        };
        hears(lab, 10, 20)?;
        hears(lab, 20, 10)?;
        for port in ["wan10", "wan20"] {
            ensure!(lab.drops(port, "vlan_not_allowed")? == 0, "{port} heard frames of the other");
        }
        let mut flood = flood(lab)?;
        lab.kill_daemon();
        lab.restart()?;
        for port in ["wan10", "wan20"] {
            lab.wait_for_state("port", port, true, None)?;
            ensure!(lab.drops(port, "vlan_not_allowed")? == 0, "{port} heard frames of the other at first");
        }
        ensure!(flood.is_running(), "the flood has ended");
        drop(flood);
        hears(lab, 20, 10)?;
        lab.weft(&["delete", "port", "wan10"])?.ok()?;
        hears(lab, 20, 10)?;
        lab.weft(&["delete", "port", "wan20"])?.ok()?;
        retry_until(SOON, "the card to be as before", || {
            let after = card(lab)?;
            ensure!(after == before, "before:\n{before}\nafter:\n{after}");
            Ok(())
        })
    });
}

#[test]
fn all_that_share_a_card_tell_that_it_cannot_be_taken() {
    Lab::test(|lab| {
        plug(lab)?;
        lab.node().run("tc qdisc add dev nic0 clsact")?.ok()?;
        let output = lab.try_apply(&two_on_the_card().to_string())?;
        ensure!(output.code == Some(5), "exit code 5 expected: {output}");
        for port in ["wan10", "wan20"] {
            lab.wait_for_state("port", port, false, Some("DeviceInUse"))?;
        }
        lab.node().run("tc qdisc del dev nic0 clsact")?.ok()?;
        for port in ["wan10", "wan20"] {
            lab.wait_for_state("port", port, true, None)?;
        }
        Ok(())
    });
}

#[test]
fn the_node_itself_hears_nothing_of_what_arrives_at_the_card() {
    Lab::test(|lab| {
        plug(lab)?;
        let outside = lab.container("outside");
        lab.node().run("ip link set nic0 up")?.ok()?;
        // Linux answers for any address of the node on any card.
        lab.node().run("ip address add 198.18.1.77/32 dev lo")?.ok()?;
        lab.node().run("ip route add 198.18.1.50/32 dev nic0")?.ok()?;
        outside.reaches("198.18.1.77")?;
        outside.run("ip neighbour flush dev eth0")?.ok()?;
        lab.apply(&manifest())?;
        outside.does_not_reach("198.18.1.77")?;
        outside.reaches(A4)?;
        lab.weft(&["delete", "port", "wan"])?.ok()?;
        outside.run("ip neighbour flush dev eth0")?.ok()?;
        outside.reaches("198.18.1.77")
    });
}

#[test]
fn a_card_in_use_is_refused_and_given_back_when_it_comes_into_use() {
    Lab::test(|lab| {
        plug(lab)?;
        let node = |line: &str| lab.node().run(line)?.ok();
        let uses = [
            ("ip address add 192.0.2.1/24 dev nic0", "ip address del 192.0.2.1/24 dev nic0"),
            ("ip address add fd00::1/64 dev nic0", "ip address del fd00::1/64 dev nic0"),
            ("ip link set nic0 master br0", "ip link set nic0 nomaster"),
        ];
        node("ip link add br0 type bridge")?;
        for (begin, end) in uses {
            node(begin)?;
            let output = lab.try_apply(&manifest().to_string())?;
            ensure!(output.code == Some(5), "{begin}: exit code 5 expected: {output}");
            lab.wait_for_state("port", "wan", false, Some("DeviceInUse"))?;
            let refused = card(lab)?;
            ensure!(!refused.contains("clsact") && !refused.contains("weft:"), "{begin}: {refused}");
            node(end)?;
            lab.wait_for_state("port", "wan", true, None)?;
            lab.container("a").reaches(OUTSIDE4)?;
            node(begin)?;
            lab.wait_for_state("port", "wan", false, Some("DeviceInUse"))?;
            let released = card(lab)?;
            ensure!(!released.contains("clsact") && !released.contains("weft:"), "{begin}: {released}");
            node(end)?;
            lab.wait_for_state("port", "wan", true, None)?;
            lab.weft(&["delete", "port", "wan"])?.ok()?;
        }
        node("ip link add link nic0 name top0 type macvlan")?;
        lab.try_apply(&manifest().to_string())?;
        lab.wait_for_state("port", "wan", false, Some("DeviceInUse"))?;
        node("tc qdisc add dev nic0 clsact")?;
        node("ip link del top0")?;
        retry_until(SOON, "another program's filters to be respected", || {
            let (ready, reason, message) = lab.ready("port", "wan")?;
            let told = message.contains("another program filters");
            ensure!(!ready && reason == "DeviceInUse" && told, "{ready} {reason}: {message}");
            Ok(())
        })?;
        let left = card(lab)?;
        ensure!(left.contains("clsact") && !left.contains("weft:"), "{left}");
        node("tc qdisc del dev nic0 clsact")?;
        lab.wait_for_state("port", "wan", true, None)
    });
}

#[test]
fn a_card_that_vanishes_is_told_and_taken_again_when_it_is_back() {
    Lab::test(|lab| {
        lab.try_apply(&manifest().to_string())?;
        lab.wait_for_state("port", "wan", false, Some("DeviceMissing"))?;
        for _ in 0..2 {
            plug(lab)?;
            lab.wait_for_state("port", "wan", true, None)?;
            retry_until(SOON, "traffic", || lab.container("a").reaches(OUTSIDE4))?;
            lab.node().run("ip link delete nic0")?.ok()?;
            lab.wait_for_state("port", "wan", false, Some("DeviceMissing"))?;
        }
        Ok(())
    });
}

#[test]
fn a_cable_that_is_pulled_is_told() {
    Lab::test(|lab| {
        plug(lab)?;
        lab.apply(&manifest())?;
        let outside = lab.container("outside");
        outside.run("ip link set eth0 down")?.ok()?;
        lab.wait_for_state("port", "wan", false, Some("NoCarrier"))?;
        outside.run("ip link set eth0 up")?.ok()?;
        lab.wait_for_state("port", "wan", true, None)?;
        retry_until(SOON, "traffic", || lab.container("a").reaches(OUTSIDE4))
    });
}

#[test]
fn the_cards_own_mtu_is_left_alone_and_counts() {
    Lab::test(|lab| {
        plug(lab)?;
        lab.node().run("ip link set nic0 mtu 1400")?.ok()?;
        lab.apply(&manifest())?;
        let mtu = |lab: &Lab| -> Result<u64> {
            lab.get("port", "wan")?["status"]["mtu"].as_u64().context("status.mtu")
        };
        ensure!(mtu(lab)? == 1400, "1400 expected: {}", mtu(lab)?);
        let (_, _, message) = lab.ready("port", "wan")?;
        ensure!(message.contains("its MTU of 1400 is less than the 1500"), "{message}");
        let large = format!("ping -n -c 1 -W 1 -M do -s 1450 {OUTSIDE4}");
        ensure!(!lab.container("a").run(&large)?.success(), "a frame that is too long passed");
        lab.node().run("ip link set nic0 mtu 1500")?.ok()?;
        retry_until(SOON, "the larger MTU", || {
            lab.container("a").run(&large)?.ok()?;
            ensure!(mtu(lab)? == 1500, "{}", mtu(lab)?);
            Ok(())
        })
    });
}

#[test]
fn a_loop_between_two_uplinks_is_cut_and_said() {
    Lab::test(|lab| {
        plug(lab)?;
        // A switch outside joins both cards.
        for line in [
            "ip link add sw0 type bridge",
            "ip link set eth0 master sw0",
            "ip link add eth1 type veth peer name nic1",
            "ip link set eth1 master sw0 up",
            "ip address flush dev eth0",
            "ip link set sw0 up",
            &format!("ip address add {OUTSIDE4}/24 dev sw0"),
        ] {
            lab.container("outside").run(line)?.ok()?;
        }
        lab.container("outside")
            .exec(&["ip", "link", "set", "nic1", "netns", &lab.holder_pid().to_string()])?
            .ok()?;
        let second = json!({ "network": "front", "type": "uplink", "device": "nic1" });
        lab.apply(&manifest().port("wan2", second))?;
        let blocked =
            |port: &str| -> Result<bool> { Ok(lab.get("port", port)?["status"]["blocked"] == true) };
        retry_until(SOON, "one of the two to be blocked", || {
            let both = (blocked("wan")?, blocked("wan2")?);
            ensure!(both.0 != both.1, "blocked: {both:?}");
            Ok(())
        })?;
        let table = lab.weft(&["get", "ports"])?.ok()?;
        ensure!(table.contains("LoopBlocked"), "{table}");
        retry_until(SOON, "the way by the other", || lab.container("a").reaches(OUTSIDE4))
    });
}
