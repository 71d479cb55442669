//! The same topology on the kernel's own bridge: the peer of benchmarks and the oracle of tests.

use anyhow::Result;

use crate::lab::Lab;
use crate::topology::{A_MAC, A4, A6, B_MAC, NEAR_B4, NEAR_B6};

/// A lab without a daemon in which the containers `a` and `b` hang on a bridge in the node by veth pairs, with
/// the addresses of [`one_network`](crate::topology::one_network).
pub fn one_bridge() -> Result<Lab> {
    let lab = Lab::empty()?;
    let node = |line: &str| lab.node().run(line)?.ok();
    node("ip link add br0 type bridge")?;
    node("ip link set br0 up")?;
    for (name, mac, v4, v6) in [("a", A_MAC, A4, A6), ("b", B_MAC, NEAR_B4, NEAR_B6)] {
        node(&format!("ip netns add {name}"))?;
        node(&format!("ip link add to-{name} type veth peer name eth0 address {mac} netns {name}"))?;
        node(&format!("ip link set to-{name} master br0 up"))?;
        let container = lab.container(name);
        container.run("ip link set lo up")?.ok()?;
        container.run("ip link set eth0 up")?.ok()?;
        container.run(&format!("ip address add {v4}/24 dev eth0"))?.ok()?;
        container.run(&format!("ip address add {v6}/64 dev eth0 nodad"))?.ok()?;
    }
    Ok(lab)
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
    fn nothing_of_a_lab_is_seen_outside() {
        let lab = one_bridge().unwrap();
        assert_eq!(lab.namespaces().unwrap(), ["a", "b"]);
        assert!(!std::path::Path::new("/run/netns/a").exists());
        assert!(!std::path::Path::new("/sys/class/net/to-a").exists());
    }
}
