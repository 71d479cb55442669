//! The same topologies on the kernel's own bridge and router: the peer of benchmarks and the oracle of tests.

use anyhow::Result;

use crate::lab::{Lab, Place};
use crate::topology::{
    A_MAC, A4, A6, B_MAC, FAR_B4, FAR_B6, FRONT_GATEWAY4, FRONT_GATEWAY6, NEAR_B4, NEAR_B6,
};

/// A container, with its device `eth0`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Station {
    pub(crate) name: &'static str,
    pub(crate) mac: &'static str,
    pub(crate) v4: &'static str,
    pub(crate) v6: &'static str,
}

/// `a`, in both topologies.
pub(crate) const A: Station = Station { name: "a", mac: A_MAC, v4: A4, v6: A6 };
/// `b` of [`one_network`](crate::topology::one_network).
pub(crate) const NEAR_B: Station = Station { name: "b", mac: B_MAC, v4: NEAR_B4, v6: NEAR_B6 };
/// `b` of [`two_networks`](crate::topology::two_networks).
const FAR_B: Station = Station { name: "b", mac: B_MAC, v4: FAR_B4, v6: FAR_B6 };

/// A lab without a daemon in which the containers `a` and `b` hang on a bridge in the node by veth pairs, with
/// the addresses of [`one_network`](crate::topology::one_network).
pub fn one_bridge() -> Result<Lab> {
    let lab = Lab::empty()?;
    bridge(&lab, "br0")?;
    for station in [A, NEAR_B] {
        hang(&lab, &station, "br0")?;
    }
    Ok(lab)
}

/// A lab without a daemon in which `a` and `b` hang on a bridge each by veth pairs, and the node routes between the
/// bridges, with the addresses of [`two_networks`](crate::topology::two_networks).
pub fn two_bridges() -> Result<Lab> {
    let lab = Lab::empty()?;
    let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
    lab.node().exec(&["sh", "-ec", forward])?.ok()?;
    for (name, station, gateways) in [
        ("br-front", A, [FRONT_GATEWAY4, FRONT_GATEWAY6]),
        ("br-back", FAR_B, ["198.18.2.1", "2001:db8:2::1"]),
    ] {
        bridge(&lab, name)?;
        hang(&lab, &station, name)?;
        let [v4, v6] = gateways;
        lab.node().run(&format!("ip address add {v4}/24 dev {name}"))?.ok()?;
        lab.node().run(&format!("ip address add {v6}/64 dev {name} nodad"))?.ok()?;
        for gateway in gateways {
            lab.container(station.name).run(&format!("ip route add default via {gateway}"))?.ok()?;
        }
    }
    Ok(lab)
}

/// A lab without a daemon in which one veth pair leads from `a` to `b`, with nothing in between, and the addresses of
/// [`one_network`](crate::topology::one_network).
pub fn one_pair() -> Result<Lab> {
    let lab = Lab::empty()?;
    let node = |line: &str| lab.node().run(line)?.ok();
    for Station { name, .. } in [A, NEAR_B] {
        node(&format!("ip netns add {name}"))?;
    }
    let peer = format!("peer name eth0 address {B_MAC} netns b");
    node(&format!("ip -n a link add eth0 address {A_MAC} type veth {peer}"))?;
    settle(&lab, &A)?;
    settle(&lab, &NEAR_B)?;
    Ok(lab)
}

/// Has the namespace's bridges ask no firewall hooks for each frame, which they do by default where the kernel has
/// br_netfilter.
pub(crate) fn without_firewall(place: &Place<'_>) -> Result<()> {
    let switches = "for all in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $all ] || echo 0 >$all; done";
    place.exec(&["sh", "-ec", switches])?.ok().map(|_| ())
}

fn bridge(lab: &Lab, name: &str) -> Result<()> {
    without_firewall(&lab.node())?;
    lab.node().run(&format!("ip link add {name} type bridge"))?.ok()?;
    lab.node().run(&format!("ip link set {name} up"))?.ok().map(drop)
}

/// Makes a container and puts it on a bridge.
fn hang(lab: &Lab, station: &Station, bridge: &str) -> Result<()> {
    let Station { name, mac, .. } = station;
    let node = |line: &str| lab.node().run(line)?.ok();
    node(&format!("ip netns add {name}"))?;
    node(&format!("ip link add to-{name} type veth peer name eth0 address {mac} netns {name}"))?;
    node(&format!("ip link set to-{name} master {bridge} up"))?;
    settle(lab, station)
}

/// Gives a container's device its addresses.
pub(crate) fn settle(lab: &Lab, station: &Station) -> Result<()> {
    let Station { name, v4, v6, .. } = station;
    let container = lab.container(name);
    container.run("ip link set lo up")?.ok()?;
    container.run("ip link set eth0 up")?.ok()?;
    container.run(&format!("ip address add {v4}/24 dev eth0"))?.ok()?;
    container.run(&format!("ip address add {v6}/64 dev eth0 nodad"))?.ok().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_joins_its_containers() {
        let lab = one_bridge().unwrap();
        lab.container("a").run(&format!("ping -n -c 1 -W 5 {NEAR_B4}")).unwrap().ok().unwrap();
        lab.container("a").run(&format!("ping -n -c 1 -W 5 {NEAR_B6}")).unwrap().ok().unwrap();
    }

    #[test]
    fn a_pair_joins_two_containers_without_the_node() {
        let lab = one_pair().unwrap();
        lab.container("a").run(&format!("ping -n -c 1 -W 5 {NEAR_B4}")).unwrap().ok().unwrap();
        assert_eq!(lab.node().run("ip -o link show type veth").unwrap().ok().unwrap(), "");
    }

    #[test]
    fn the_node_routes_between_its_bridges() {
        let lab = two_bridges().unwrap();
        for far in [FAR_B4, FAR_B6] {
            let answer = lab.container("a").run(&format!("ping -n -c 1 -W 5 {far}")).unwrap().ok().unwrap();
            // One hop away: the node has taken one from the 64 that the answer set out with.
            assert!(answer.contains("ttl=63"), "{answer}");
        }
    }

    #[test]
    fn nothing_of_a_lab_is_seen_outside() {
        let lab = one_bridge().unwrap();
        assert_eq!(lab.namespaces().unwrap(), ["a", "b"]);
        assert!(!std::path::Path::new("/run/netns/a").exists());
        assert!(!std::path::Path::new("/sys/class/net/to-a").exists());
    }
}
