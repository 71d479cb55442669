//! Truncated, oversized and lying frames: dropped by name, and the fabric goes on.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use anyhow::{Result, ensure};
use weft_testkit::frame::{self, ARP, BROADCAST, IPV4, IPV6, mac};
use weft_testkit::topology::{self, A_MAC, A4, A6, B_MAC, FRONT_GATEWAY4, FRONT_GATEWAY6, NEAR_B4, NEAR_B6};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, PortKind, raw};

/// Sends frames behind virtio-net headers that contradict them; what the kernel refuses is not sent.
const LYING_HEADERS: &str = include_str!("lying_headers.py");

fn to_gateway(lab: &Lab, ether_type: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let network = lab.get("network", "front")?;
    let gateway = network["status"]["gatewayMac"].as_str().unwrap_or_default().to_owned();
    Ok(frame::ethernet(mac(&gateway), mac(A_MAC), ether_type, payload))
}

/// An echo request from `a` to `b` in IPv4 with one octet of the IP packet replaced.
fn bent_ipv4(at: usize, value: u8) -> Vec<u8> {
    let mut packet =
        frame::ipv4(A4.parse().unwrap(), NEAR_B4.parse().unwrap(), 1, 64, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    packet[at] = value;
    packet
}

fn bent_ipv6(at: usize, value: u8) -> Vec<u8> {
    let mut packet = frame::ipv6(A6.parse().unwrap(), NEAR_B6.parse().unwrap(), 59, 64, &[0; 8]);
    packet[at] = value;
    packet
}

fn cases(lab: &Lab) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let (gateway4, gateway6) = (FRONT_GATEWAY4.parse()?, FRONT_GATEWAY6.parse()?);
    let echo = |sum: [u8; 2]| [8, 0, sum[0], sum[1], 0, 0, 0, 0];
    let solicitation =
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &"2001:db8:1::1".parse::<std::net::Ipv6Addr>()?.octets()].concat();
    let mut bad_sum = frame::ipv4(A4.parse()?, "198.18.2.2".parse()?, 1, 64, &echo([0xf7, 0xff]));
    bad_sum[10] ^= 0x55;
    let to_b = |ether_type: u16, payload: &[u8]| frame::ethernet(mac(B_MAC), mac(A_MAC), ether_type, payload);
    let mut arp = frame::arp(1, (mac(A_MAC), A4.parse()?), ([0; 6], NEAR_B4.parse()?));
    arp[4] = 8;
    Ok(vec![
        ("ipv4_malformed", to_b(IPV4, &bent_ipv4(0, 0x55))),
        ("ipv4_malformed", to_b(IPV4, &bent_ipv4(0, 0x44))),
        ("ipv4_malformed", to_b(IPV4, &bent_ipv4(0, 0x4f))),
        ("ipv4_malformed", to_b(IPV4, &bent_ipv4(2, 0x40))),
        ("ipv6_malformed", to_b(IPV6, &bent_ipv6(0, 0x40))),
        ("ipv6_malformed", to_b(IPV6, &bent_ipv6(4, 0x40))),
        ("arp_malformed", frame::ethernet(BROADCAST, mac(A_MAC), ARP, &arp)),
        ("ipv4_checksum_bad", to_gateway(lab, IPV4, &bad_sum)?),
        (
            "icmp_checksum_bad",
            to_gateway(lab, IPV4, &frame::ipv4(A4.parse()?, gateway4, 1, 64, &echo([1, 2])))?,
        ),
        ("nd_malformed", to_gateway(lab, IPV6, &frame::ipv6(A6.parse()?, gateway6, 58, 64, &solicitation))?),
        ("vlan_not_allowed", to_b(0x8100, &[&[0, 5, 8, 0][..], &bent_ipv4(0, 0x45)].concat())),
        ("reserved_multicast", frame::ethernet(mac("01:80:c2:00:00:00"), mac(A_MAC), 0x88b5, &[0; 46])),
    ])
}

#[test]
fn lying_frames_are_dropped_by_name() {
    Lab::test(|lab| {
        for kind in [PortKind::Tap, PortKind::Veth] {
            lab.apply(&topology::one_network(kind, PortKind::Tap))?;
            for (reason, bytes) in cases(lab)? {
                let before = lab.drops("a", reason)?;
                raw::send(&lab.container("a"), "eth0", &[bytes])?;
                retry_until(Duration::from_secs(5), reason, || {
                    let after = lab.drops("a", reason)?;
                    ensure!(after == before + 1, "{kind:?}: {reason} went from {before} to {after}");
                    Ok(())
                })?;
            }
            lab.container("a").reaches(NEAR_B4)?;
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn every_truncation_of_a_frame_leaves_the_fabric_running() {
    Lab::test(|lab| {
        for kind in [PortKind::Tap, PortKind::Veth] {
            lab.apply(&topology::one_network(kind, PortKind::Veth))?;
            let whole = to_gateway(lab, IPV4, &bent_ipv4(0, 0x45))?;
            let six = to_gateway(lab, IPV6, &bent_ipv6(6, 58))?;
            let arp = frame::ethernet(
                BROADCAST,
                mac(A_MAC),
                ARP,
                &frame::arp(1, (mac(A_MAC), A4.parse()?), ([0; 6], NEAR_B4.parse()?)),
            );
            let cuts =
                [whole, six, arp].into_iter().flat_map(|f| (15..f.len()).map(move |end| f[..end].to_vec()));
            raw::send(&lab.container("a"), "eth0", &cuts.collect::<Vec<_>>())?;
            lab.container("a").reaches(NEAR_B4)?;
            lab.container("a").reaches(NEAR_B6)?;
            let malformed = lab.drops("a", "ipv4_malformed")?;
            ensure!(malformed > 10, "only {malformed} truncated packets were counted");
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn lying_offload_headers_leave_the_fabric_running() {
    Lab::test(|lab| {
        for kind in [PortKind::Tap, PortKind::Veth] {
            lab.apply(&topology::one_network(kind, PortKind::Tap))?;
            let a = lab.container("a");
            let sent = a.exec(&["python3", "-c", LYING_HEADERS, "eth0", A_MAC, B_MAC, A4, NEAR_B4])?.ok()?;
            let sent: u64 = sent.trim().parse()?;
            ensure!(sent > 0, "the kernel refused every lying header");
            a.reaches(NEAR_B4)?;
            lab.weft(&["status"])?.ok()?;
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}
