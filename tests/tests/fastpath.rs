//! The fast path: what the stack has decided goes on in the kernel, and ends there as soon as anything else holds.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::frame::{self, ARP, BROADCAST, IPV4, IPV6, mac};
use weft_testkit::lab::LabOptions;
use weft_testkit::raw::{self, Capture};
use weft_testkit::topology::{self, A_MAC, A4, A6, B_MAC, FAR_B4, FAR_B6, NEAR_B4, NEAR_B6};
use weft_testkit::traffic::Traffic;
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, Manifest, PortKind, iperf3};

const SOON: Duration = Duration::from_secs(10);

fn one_network() -> Manifest {
    topology::one_network(PortKind::Veth, PortKind::Veth)
}

fn two_networks() -> Manifest {
    topology::two_networks(PortKind::Veth, PortKind::Veth)
}

fn counter(lab: &Lab, port: &str, name: &str) -> Result<u64> {
    Ok(lab.get("port", port)?["status"]["counters"][name].as_u64().unwrap_or(0))
}

/// A UDP datagram of container `a` to `b`, behind these MAC addresses, that says a word.
fn datagram(destination: &str, target: &str, word: &str) -> Vec<u8> {
    let (source, target): (IpAddr, IpAddr) =
        (if target.contains(':') { A6 } else { A4 }.parse().unwrap(), target.parse().unwrap());
    let udp = frame::udp((source, 4000), (target, 4001), format!("{word:_<40}").as_bytes());
    let (kind, packet) = match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => (IPV4, frame::ipv4(source, target, 17, 64, &udp)),
        (IpAddr::V6(source), IpAddr::V6(target)) => (IPV6, frame::ipv6(source, target, 17, 64, &udp)),
        _ => panic!("two families"),
    };
    frame::ethernet(mac(destination), mac(A_MAC), kind, &packet)
}

fn says(frame: &[u8], word: &str) -> bool {
    frame.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Sends such datagrams until the kernel takes them by itself.
fn warm_up(lab: &Lab, frame: &[u8]) -> Result<()> {
    let before = counter(lab, "a", "fastPackets")?;
    retry_until(SOON, "the fast path", || {
        raw::send(&lab.container("a"), "eth0", &[frame.to_vec()])?;
        ensure!(counter(lab, "a", "fastPackets")? > before, "the stack forwards it");
        Ok(())
    })
}

/// The MAC address that container `a` sends to, to reach this address.
fn next_hop(lab: &Lab, target: &str) -> Result<String> {
    lab.container("a").reaches(target)?;
    let route = lab.container("a").run(&format!("ip -j route get {target}"))?.ok()?;
    let route: Value = serde_json::from_str(&route)?;
    let gateway = route[0]["gateway"].as_str().unwrap_or(target);
    let known = lab.container("a").run(&format!("ip -j neighbor show {gateway} dev eth0"))?.ok()?;
    let known: Value = serde_json::from_str(&known)?;
    Ok(known[0]["lladdr"].as_str().context("an address")?.to_owned())
}

#[test]
fn streams_between_veth_ports_stay_in_the_kernel_and_every_octet_is_counted() {
    for (manifest, targets) in [(one_network(), [NEAR_B4, NEAR_B6]), (two_networks(), [FAR_B4, FAR_B6])] {
        Lab::test(|lab| {
            lab.apply(&manifest)?;
            let status = lab.weft(&["status"])?.ok()?;
            ensure!(status.contains("fast path: on"), "{status}");
            let device = |name: &str| -> Result<[u64; 2]> {
                let text = lab.container(name).run("ip -j -s link show eth0")?.ok()?;
                let link: Value = serde_json::from_str(&text)?;
                let of = |way: &str, what: &str| link[0]["stats64"][way][what].as_u64().context("a number");
                Ok([of("tx", "packets")?, of("tx", "bytes")?])
            };
            let port = |name: &str| -> Result<[u64; 2]> {
                Ok([counter(lab, name, "rxPackets")?, counter(lab, name, "rxBytes")?])
            };
            let more = |now: [u64; 2], then: [u64; 2]| [now[0] - then[0], now[1] - then[1]];
            lab.container("a").reaches(targets[0])?;
            // What was sent lately may not have come to the Port yet.
            let mut last = Vec::new();
            retry_until(SOON, "silence", || {
                let now = vec![(device("a")?, port("a")?), (device("b")?, port("b")?)];
                let silent = now == last;
                last = now;
                ensure!(silent, "{last:?}");
                Ok(())
            })?;
            for target in targets {
                iperf3::streams(&lab.container("a"), &lab.container("b"), target, 1e8)?;
                iperf3::datagrams(&lab.container("a"), &lab.container("b"), target, 1200)?;
            }
            for (name, then) in ["a", "b"].into_iter().zip(last) {
                retry_until(SOON, "the same numbers", || {
                    let (sent, seen) = (more(device(name)?, then.0), more(port(name)?, then.1));
                    ensure!(sent == seen, "{name}: the device sent {sent:?}, the Port saw {seen:?}");
                    Ok(())
                })?;
                let (all, fast) = (counter(lab, name, "rxPackets")?, counter(lab, name, "fastPackets")?);
                ensure!(fast * 100 > all * 95, "{name}: {fast} of {all} packets stayed in the kernel");
            }
            let text = lab.weft(&["counters"])?.ok()?;
            ensure!(text.contains("fast_path_packets"), "{text}");
            Ok(())
        });
    }
}

#[test]
fn the_fast_path_can_be_left_out() {
    Lab::test_with(&LabOptions::without_fast_path(), |lab| {
        lab.apply(&one_network())?;
        let status = lab.weft(&["status"])?.ok()?;
        ensure!(status.contains("fast path: off"), "{status}");
        iperf3::streams(&lab.container("a"), &lab.container("b"), NEAR_B4, 1e8)?;
        iperf3::streams(&lab.container("a"), &lab.container("b"), NEAR_B6, 1e8)?;
        ensure!(counter(lab, "a", "fastPackets")? == 0, "the kernel forwards");
        Ok(())
    });
}

/// Frames to `b` in all the ways in which one can differ from the next.
fn variants(destination: &str, target: &str) -> Vec<Vec<u8>> {
    let six = target.contains(':');
    let (ttl, protocol) = if six { (21, 20) } else { (22, 23) };
    let plain = |word: &str| datagram(destination, target, word);
    let sum = |mut frame: Vec<u8>| {
        if !six {
            frame[24..26].fill(0);
            let length = 14 + usize::from(frame[14] & 15) * 4;
            let sum = frame::checksum(&frame[14..length]).to_be_bytes();
            frame[24..26].copy_from_slice(&sum);
        }
        frame
    };
    let with = |word: &str, at: usize, octets: &[u8]| {
        let mut frame = plain(word);
        frame[at..at + octets.len()].copy_from_slice(octets);
        sum(frame)
    };
    let mut all: Vec<_> = (0..8).map(|number| plain(&format!("plain{number}"))).collect();
    all.extend([0, 1, 2, 255].map(|hops| with(&format!("ttl{hops}"), ttl, &[hops])));
    all.extend([6, 1, 58, 132].map(|number| with(&format!("protocol{number}"), protocol, &[number])));
    let ports = if six { 54 } else { 34 };
    all.extend([67u16, 68, 546, 547].map(|port| with(&format!("to{port}"), ports + 2, &port.to_be_bytes())));
    all.push([plain("padded"), vec![0; 3]].concat());
    all.push(frame::tagged(&plain("tagged"), 7));
    all.push(frame::tagged(&plain("priority"), 5 << 13));
    all.push(with("spoofed", 6, &[2, 0, 0, 0, 0, 9]));
    if !six {
        all.push(with("options", 14, &[0x46]));
        all.push(with("fragment", 20, &[0x20, 0]));
        all.push(with("later", 20, &[0, 9]));
        all.push(with("reserved", 20, &[0x80, 0]));
        all.push(with("ecn", 15, &[3]));
        let mut wrong = plain("checksum");
        wrong[24] ^= 0x55;
        all.push(wrong);
        all.push(with("other", 29, &[99]));
    } else {
        all.push(with("class", 14, &[0x6f, 0xf3, 0x12, 0x34]));
        all.push(with("other", 37, &[99]));
    }
    // Nothing comes after this: what is for DHCP's port goes by the stack.
    all.push(with("the-end", ports + 2, &67_u16.to_be_bytes()));
    all
}

#[test]
fn with_the_fast_path_the_same_frames_arrive_as_without_it() {
    let arrived = |options: &LabOptions, manifest: &Manifest, target: &str| {
        let mut seen = Vec::new();
        Lab::test_with(options, |lab| {
            lab.apply(manifest)?;
            let destination = next_hop(lab, target)?;
            if options.fast_path {
                warm_up(lab, &datagram(&destination, target, "warm"))?;
            }
            let fast = counter(lab, "a", "fastPackets")?;
            let capture = Capture::start(&lab.container("b"), "eth0")?;
            let sent = variants(&destination, target);
            // One after the other: so each is looked at by itself.
            for frame in &sent {
                let before = counter(lab, "a", "rxPackets")?;
                raw::send(&lab.container("a"), "eth0", std::slice::from_ref(frame))?;
                retry_until(SOON, "the frame to be seen", || {
                    ensure!(counter(lab, "a", "rxPackets")? > before, "not yet");
                    Ok(())
                })?;
            }
            capture.wait_for("the last", |frame| says(frame, "the-end"))?;
            // What the kernels of the containers say by themselves differs from time to time.
            seen = capture.frames();
            seen.retain(|frame| says(frame, "____"));
            // The kernel may overtake the stack.
            seen.sort_unstable();
            let replayed = counter(lab, "a", "fastPackets")? - fast;
            ensure!(options.fast_path == (replayed >= 9), "{replayed} frames were replayed");
            Ok(())
        });
        seen
    };
    for (manifest, targets) in [(one_network(), [NEAR_B4, NEAR_B6]), (two_networks(), [FAR_B4, FAR_B6])] {
        for target in targets {
            let fast = arrived(&LabOptions::default(), &manifest, target);
            let slow = arrived(&LabOptions::without_fast_path(), &manifest, target);
            assert!(slow.len() > 12, "{target}: {} frames", slow.len());
            assert_eq!(fast, slow, "{target}");
        }
    }
}

/// Sends datagrams all of which the stack is to drop for this reason: the kernel forwards none by itself.
fn is_cut_off(lab: &Lab, frame: &[u8], reason: &str) -> Result<()> {
    let (before, fast) = (lab.drops("a", reason)?, counter(lab, "a", "fastPackets")?);
    raw::send(&lab.container("a"), "eth0", &vec![frame.to_vec(); 20])?;
    retry_until(SOON, reason, || {
        let dropped = lab.drops("a", reason)? - before;
        ensure!(dropped >= 20, "{dropped} of 20 datagrams were dropped");
        Ok(())
    })?;
    ensure!(counter(lab, "a", "fastPackets")? == fast, "the kernel goes on");
    Ok(())
}

#[test]
fn what_is_forbidden_ends_at_once() {
    Lab::test(|lab| {
        let isolated = |on: bool| {
            let both = one_network().with("Port", "a", "isolated", json!(on));
            both.with("Port", "b", "isolated", json!(on))
        };
        lab.apply(&isolated(false))?;
        let frame = datagram(&next_hop(lab, NEAR_B4)?, NEAR_B4, "forbidden");
        for _ in 0..3 {
            warm_up(lab, &frame)?;
            lab.apply(&isolated(true))?;
            is_cut_off(lab, &frame, "port_isolated")?;
            lab.apply(&isolated(false))?;
        }
        Ok(())
    });
    Lab::test(|lab| {
        lab.apply(&two_networks())?;
        let frame = datagram(&next_hop(lab, FAR_B4)?, FAR_B4, "forbidden");
        warm_up(lab, &frame)?;
        let blackhole = json!([{"prefix": "198.18.2.11/32", "action": "blackhole"}]);
        lab.apply(&two_networks().with("Router", "main", "routes", blackhole))?;
        is_cut_off(lab, &frame, "route_blackhole")
    });
}

#[test]
fn a_rate_holds_for_a_stream_that_ran_in_the_kernel() {
    Lab::test(|lab| {
        lab.apply(&one_network())?;
        iperf3::streams(&lab.container("a"), &lab.container("b"), NEAR_B4, 1e8)?;
        let fast = counter(lab, "a", "fastPackets")?;
        ensure!(fast > 0, "it did not run in the kernel");
        let rate = json!({"egress": {"bitsPerSecond": 20_000_000}});
        lab.apply(&one_network().with("Port", "a", "bandwidth", rate))?;
        let options = "--time 3 --omit 1";
        let report = iperf3::run(&lab.container("a"), &lab.container("b"), NEAR_B4, options)?;
        ensure!(report.rate()? <= 20e6, "{} bit/s", report.rate()?);
        ensure!(counter(lab, "a", "fastPackets")? == fast, "the kernel forwards what is limited");
        Ok(())
    });
}

#[test]
fn who_watches_sees_packets_that_went_by_the_kernel_before() {
    Lab::test(|lab| {
        lab.apply(&one_network())?;
        let destination = next_hop(lab, NEAR_B4)?;
        let frame = datagram(&destination, NEAR_B4, "watched");
        warm_up(lab, &frame)?;
        let trace = lab.weft_process(&["trace", "--live", "-o", "json", "a", "--udp", "4001"], None)?;
        retry_until(SOON, "a packet to be followed", || {
            raw::send(&lab.container("a"), "eth0", std::slice::from_ref(&frame))?;
            ensure!(trace.stdout().contains("\"forwarded\""), "nothing yet: {}", trace.stdout());
            Ok(())
        })?;
        let fast = counter(lab, "a", "fastPackets")?;
        raw::send(&lab.container("a"), "eth0", &vec![frame.clone(); 20])?;
        retry_until(SOON, "all to be followed", || {
            let followed = trace.stdout().matches("\"forwarded\"").count();
            ensure!(followed > 20, "{followed} followed");
            Ok(())
        })?;
        ensure!(counter(lab, "a", "fastPackets")? == fast, "the kernel takes packets that somebody watches");
        trace.signal("INT")?;
        trace.wait()?;
        warm_up(lab, &frame)
    });
}

#[test]
fn copies_are_made_of_what_went_by_the_kernel_before() {
    Lab::test(|lab| {
        let watcher = topology::port("front", "w", PortKind::Veth, "02:00:00:00:00:0c", &[]);
        let manifest =
            one_network().namespace("w").port("w", watcher).with("Port", "w", "defaultRoute", json!(false));
        lab.apply(&manifest)?;
        let destination = next_hop(lab, NEAR_B4)?;
        warm_up(lab, &datagram(&destination, NEAR_B4, "warm"))?;
        let capture = Capture::start(&lab.container("w"), "eth0")?;
        lab.apply(&manifest.with("Port", "a", "mirror", json!({"to": "w"})))?;
        raw::send(&lab.container("a"), "eth0", &[datagram(&destination, NEAR_B4, "copied")])?;
        capture.wait_for("the copy", |frame| says(frame, "copied")).map(drop)
    });
}

#[test]
fn an_address_that_moves_to_another_container_takes_its_traffic_along() {
    const SHARED: &str = "198.18.2.100";
    Lab::test(|lab| {
        let third = topology::port("back", "c", PortKind::Veth, "02:00:00:00:00:0c", &["198.18.2.12"]);
        let mut manifest = two_networks().namespace("c").port("c", third);
        for port in ["b", "c"] {
            manifest = manifest.with("Port", port, "sourceCheck", json!(false));
        }
        lab.apply(&manifest)?;
        let destination = next_hop(lab, FAR_B4)?;
        let frame = datagram(&destination, SHARED, "moved");
        for (holder, address) in [("b", B_MAC), ("c", "02:00:00:00:00:0c"), ("b", B_MAC)] {
            let (shared, gateway): (Ipv4Addr, Ipv4Addr) = (SHARED.parse()?, "198.18.2.1".parse()?);
            let claim = frame::arp(1, (mac(address), shared), (mac(address), shared));
            let question = frame::arp(1, (mac(address), shared), ([0; 6], gateway));
            let told = [claim, question].map(|packet| frame::ethernet(BROADCAST, mac(address), ARP, &packet));
            let capture = Capture::start(&lab.container(holder), "eth0")?;
            raw::send(&lab.container(holder), "eth0", &told)?;
            // The gateway's answer: it has heard who asks.
            capture.wait_for("the answer", |frame| frame[12..14] == [8, 6] && frame[20..22] == [0, 2])?;
            raw::send(&lab.container("a"), "eth0", std::slice::from_ref(&frame))?;
            capture.wait_for("the datagram", |frame| says(frame, "moved"))?;
            warm_up(lab, &frame)?;
        }
        Ok(())
    });
}

#[test]
fn it_can_be_left_out_from_the_next_start_on() {
    Lab::test(|lab| {
        lab.apply(&one_network())?;
        let destination = next_hop(lab, NEAR_B4)?;
        let frame = datagram(&destination, NEAR_B4, "warm");
        let path = lab.path("/run/lab/weftd.toml");
        for _ in 0..2 {
            warm_up(lab, &frame)?;
            ensure!(programs(lab)? == 2, "{} programs", programs(lab)?);
            let with = fs::read_to_string(&path)?;
            fs::write(&path, with.replace("fast_path = true", "fast_path = false"))?;
            lab.restart()?;
            iperf3::streams(&lab.container("a"), &lab.container("b"), NEAR_B4, 1e8)?;
            ensure!(counter(lab, "a", "fastPackets")? == 0, "the kernel forwards");
            ensure!(programs(lab)? == 0, "{} programs are left", programs(lab)?);
            fs::write(&path, with)?;
            lab.restart()?;
        }
        Ok(())
    });
}

/// How many programs are at the stack's ends of veth pairs.
fn programs(lab: &Lab) -> Result<usize> {
    let inside = |line: &str| lab.node().run(&format!("nsenter --net=/run/weft/netns/ports {line}"))?.ok();
    let mut attached = 0;
    for link in inside("ip -o link show type veth")?.lines() {
        let end = link.split([':', '@']).nth(1).context("a name")?.trim();
        attached += inside(&format!("tc filter show dev {end} ingress"))?
            .matches("weft_forward direct-action")
            .count();
    }
    Ok(attached)
}

#[test]
fn a_killed_daemon_takes_its_ports_over_and_their_streams_go_on() {
    Lab::test(|lab| {
        lab.apply(&one_network())?;
        let addresses = [NEAR_B4.to_owned()];
        for round in 0..3 {
            let mut traffic = Traffic::start(&lab.container("a"), &lab.container("b"), &addresses)?;
            lab.kill_daemon();
            lab.restart()?;
            traffic.goes_on()?;
            drop(traffic);
            let destination = next_hop(lab, NEAR_B4)?;
            warm_up(lab, &datagram(&destination, NEAR_B4, "warm"))?;
            ensure!(programs(lab)? == 2, "round {round}: {} programs at two ends", programs(lab)?);
        }
        Ok(())
    });
}

#[test]
fn a_container_that_comes_and_goes_leaves_no_descriptor_behind() {
    Lab::test(|lab| {
        lab.apply(&one_network())?;
        let destination = next_hop(lab, NEAR_B4)?;
        let pid = lab.daemon_pid()?;
        let descriptors = || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count()) };
        let before = descriptors()?;
        for _ in 0..5 {
            warm_up(lab, &datagram(&destination, NEAR_B4, "warm"))?;
            lab.weft(&["delete", "port", "b"])?.ok()?;
            is_gone(lab, &destination)?;
            lab.apply(&one_network())?;
        }
        retry_until(SOON, "no more descriptors than before", || {
            let now = descriptors()?;
            ensure!(now <= before, "{now} descriptors are open, {before} were");
            Ok(())
        })
    });
}

/// Datagrams to a Port that is gone are the stack's again: it floods or drops them.
fn is_gone(lab: &Lab, destination: &str) -> Result<()> {
    let fast = counter(lab, "a", "fastPackets")?;
    let before = counter(lab, "a", "rxPackets")?;
    raw::send(&lab.container("a"), "eth0", &vec![datagram(destination, NEAR_B4, "gone"); 5])?;
    retry_until(SOON, "all to be seen", || {
        ensure!(counter(lab, "a", "rxPackets")? >= before + 5, "not yet");
        Ok(())
    })?;
    ensure!(counter(lab, "a", "fastPackets")? == fast, "the kernel goes on");
    Ok(())
}
