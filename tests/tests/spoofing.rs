//! A container cannot speak for another one, nor for the gateway: it is refused, and counted by name.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use serde_json::json;
use weft_testkit::frame::{self, ARP, BROADCAST, IPV4, IPV6, Mac, mac};
use weft_testkit::raw::{self, Capture};
use weft_testkit::topology::{self, A_MAC, A4, A6, B_MAC, FRONT_GATEWAY4, NEAR_B4};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, PortKind};

use std::time::Duration;

const STRANGER_MAC: &str = "02:00:00:00:00:99";

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// A UDP datagram to container `b` that claims these sources and carries `tag`.
fn datagram(source_mac: Mac, source: &str, tag: &[u8]) -> Vec<u8> {
    let (source, destination) = (v4(source), v4(NEAR_B4));
    let udp = frame::udp((IpAddr::V4(source), 4000), (IpAddr::V4(destination), 4001), tag);
    frame::ethernet(mac(B_MAC), source_mac, IPV4, &frame::ipv4(source, destination, 17, 64, &udp))
}

fn claim(sender_mac: Mac, address: &str) -> Vec<u8> {
    let packet = frame::arp(2, (sender_mac, v4(address)), (mac(B_MAC), v4(NEAR_B4)));
    frame::ethernet(BROADCAST, mac(A_MAC), ARP, &packet)
}

fn rogue_advertisement() -> Vec<u8> {
    let source: Ipv6Addr = "fe80::ff:fe00:a".parse().unwrap();
    let everyone: Ipv6Addr = "ff02::1".parse().unwrap();
    let message = frame::router_advertisement(source, everyone);
    let packet = frame::ipv6(source, everyone, 58, 255, &message);
    frame::ethernet(mac("33:33:00:00:00:01"), mac(A_MAC), IPV6, &packet)
}

fn spoofed_ipv6() -> Vec<u8> {
    let (source, destination) = ("2001:db8:1::99".parse().unwrap(), "2001:db8:1::11".parse().unwrap());
    let udp = frame::udp((IpAddr::V6(source), 4000), (IpAddr::V6(destination), 4001), b"spoofed");
    frame::ethernet(mac(B_MAC), mac(A_MAC), IPV6, &frame::ipv6(source, destination, 17, 64, &udp))
}

#[test]
fn frames_with_foreign_sources_are_refused_and_counted_by_name() {
    Lab::test(|lab| {
        for kind in [PortKind::Tap, PortKind::Veth] {
            lab.apply(&topology::one_network(kind, PortKind::Tap))?;
            refused(lab)?;
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

fn refused(lab: &Lab) -> Result<()> {
    let cases: [(&str, Vec<u8>); 8] = [
        ("source_mac_spoofed", datagram(mac(STRANGER_MAC), A4, b"spoofed")),
        ("source_mac_invalid", datagram(mac("03:00:00:00:00:01"), A4, b"spoofed")),
        ("source_address_spoofed", datagram(mac(A_MAC), "198.18.1.99", b"spoofed")),
        ("source_address_spoofed", spoofed_ipv6()),
        ("source_address_spoofed", claim(mac(A_MAC), FRONT_GATEWAY4)),
        ("source_address_spoofed", claim(mac(A_MAC), NEAR_B4)),
        ("source_mac_spoofed", claim(mac(STRANGER_MAC), A4)),
        ("router_message_spoofed", rogue_advertisement()),
    ];
    let capture = Capture::start(&lab.container("b"), "eth0")?;
    for (reason, bytes) in &cases {
        let before = lab.drops("a", reason)?;
        raw::send(&lab.container("a"), "eth0", std::slice::from_ref(bytes))?;
        retry_until(Duration::from_secs(5), reason, || {
            let after = lab.drops("a", reason)?;
            ensure!(after == before + 1, "{reason} went from {before} to {after}");
            Ok(())
        })?;
    }
    raw::send(&lab.container("a"), "eth0", &[datagram(mac(A_MAC), A4, b"honest!")])?;
    capture.wait_for("the honest datagram", |f| f.windows(7).any(|w| w == b"honest!"))?;
    let arrived = capture.frames();
    for (reason, bytes) in &cases {
        ensure!(!arrived.contains(bytes), "a frame that should be refused as {reason} arrived");
    }
    Ok(())
}

#[test]
fn a_port_without_source_check_may_use_any_source() {
    Lab::test(|lab| {
        let manifest = topology::one_network(PortKind::Tap, PortKind::Veth);
        lab.apply(&manifest.with("Port", "a", "sourceCheck", json!(false)))?;
        let capture = Capture::start(&lab.container("b"), "eth0")?;
        let foreign = datagram(mac(STRANGER_MAC), "198.18.1.99", b"foreign");
        raw::send(&lab.container("a"), "eth0", std::slice::from_ref(&foreign))?;
        capture.wait_for("the foreign datagram", |f| f == foreign).map(drop)
    });
}

#[test]
fn honest_traffic_of_a_checked_port_is_not_refused() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Veth, PortKind::Tap))?;
        lab.container("b").reaches(A4)?;
        lab.container("b").reaches(A6)?;
        for reason in ["source_mac_spoofed", "source_address_spoofed", "router_message_spoofed"] {
            ensure!(lab.drops("a", reason)? == 0, "honest frames of a were dropped as {reason}");
        }
        Ok(())
    });
}
