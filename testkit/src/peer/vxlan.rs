//! The Linux kernel's VXLAN device (RFC 7348), with unicast far ends.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::node::Node;
use crate::peer;

/// The device in the peer's namespace.
pub const DEVICE: &str = "vxlan0";
/// The port that IANA assigned.
pub const PORT: u16 = 4789;

/// Makes the device, which speaks from `local` and sends what is for many to each of `remotes`. Its MTU leaves room for
/// what goes before the frame.
pub fn add(node: &Node, vni: u32, local: IpAddr, remotes: &[IpAddr], addresses: &[&str]) -> Result<()> {
    // Ethernet 14, VXLAN 8, UDP 8, and IP.
    let mtu = underlay_mtu(node)? - if local.is_ipv4() { 50 } else { 70 };
    node.must(&format!(
        "ip link add {DEVICE} mtu {mtu} type vxlan id {vni} local {local} dstport {PORT} udpcsum udp6zerocsumrx"
    ))?;
    for remote in remotes {
        node.must(&format!("bridge fdb append 00:00:00:00:00:00 dev {DEVICE} dst {remote}"))?;
    }
    peer::address(node, DEVICE, addresses)
}

fn underlay_mtu(node: &Node) -> Result<u32> {
    let text = node.must("ip -o link show dev wire")?;
    let mtu = text.split_whitespace().skip_while(|word| *word != "mtu").nth(1).map(str::parse);
    mtu.with_context(|| format!("an MTU expected: {text}"))?.context("an MTU")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iperf3;
    use crate::sniffer::Sniffer;
    use crate::wire::{Family, Wire};

    #[test]
    fn two_kernels_reach_each_other_over_both_families() {
        for family in Family::BOTH {
            let wire = Wire::link(1500).unwrap();
            let [a, b] = [(); 2].map(|()| Node::bare(&wire).unwrap());
            let (near, far) = (a.address(family), b.address(family));
            add(&a, 7, near, &[far], &["198.18.1.1/24"]).unwrap();
            add(&b, 7, far, &[near], &["198.18.1.2/24"]).unwrap();
            let sniffer = Sniffer::start(&wire, &a, "udp port 4789").unwrap();
            a.node().reaches("198.18.1.2").unwrap();
            let recording = sniffer.finish().unwrap();
            recording.is_sound(&near.to_string()).unwrap();
            let vnis = recording.values("vxlan.vni").unwrap();
            assert!(vnis.len() >= 6 && vnis.iter().all(|vni| vni == "7"), "{vnis:?}");
            iperf3::streams(&a.node(), &b.node(), "198.18.1.2", 1e7).unwrap();
        }
    }
}
