//! The same devices without any daemon: `ip` makes veth pairs between the namespaces and a bridge of the kernel. It is
//! the least that has to be done.

use std::time::{Duration, Instant};

use anyhow::Result;
use weft_testkit::Lab;

use super::containers::{Containers, GATEWAYS, Namespaces, name, write};

/// Attaches all containers to a bridge of a new node; how long `ip` takes for that, with one process for the node and
/// one for each container, whose namespace it has to be in.
pub fn attach(namespaces: &Namespaces) -> Result<Duration> {
    let (lab, containers) = (Lab::empty()?, namespaces.containers());
    namespaces.lend(&lab)?;
    let mut script = format!("ip -batch {}\n", write(&lab, "node.ip", &node(containers))?);
    for number in 0..containers.count {
        let name = name(number);
        let path = write(&lab, &format!("{name}.ip"), &Containers::inside(number))?;
        script += &format!("ip -n {name} -batch {path}\n");
    }
    let path = write(&lab, "attach", &script)?;
    let start = Instant::now();
    lab.node().run(&format!("sh -e {path}"))?.ok()?;
    let time = start.elapsed();
    containers.cross(&lab)?;
    Ok(time)
}

/// The lines for the node's end of everything.
fn node(containers: &Containers) -> String {
    let [v4, v6] = GATEWAYS;
    let bridge = format!(
        "link add br0 type bridge\nlink set br0 up\naddress add {v4}/16 dev br0\naddress add {v6}/64 dev br0 nodad\n"
    );
    let members = containers.names().map(|name| format!("link set to-{name} master br0\n"));
    bridge + &containers.pairs() + &members.collect::<String>()
}

#[cfg(test)]
mod tests {
    use weft_testkit::PortKind;

    use super::*;

    #[test]
    fn containers_on_the_bridge_reach_each_other() {
        let time = attach(&Namespaces::make(Containers { count: 3, kind: PortKind::Veth }).unwrap()).unwrap();
        assert!(time > Duration::ZERO);
    }
}
