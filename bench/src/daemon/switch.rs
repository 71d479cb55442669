//! Open vSwitch with its userspace datapath, as a user would have it in place of Weft: a veth pair for each container.

use std::time::{Duration, Instant};

use anyhow::Result;
use weft_testkit::Lab;
use weft_testkit::peer::open_vswitch::OpenVSwitch;

use super::containers::{Containers, Namespaces, batch, name};
use super::memory;

/// The bridge that all containers are on.
const BRIDGE: &str = "br0";

/// A node with a running switch.
pub struct Switch {
    // The programs end before the namespaces that they are in.
    programs: OpenVSwitch,
    lab: Lab,
    containers: Containers,
}

impl Switch {
    /// A switch with an empty bridge, and containers beside it.
    pub fn start(namespaces: &Namespaces) -> Result<Switch> {
        let lab = Lab::empty()?;
        namespaces.lend(&lab)?;
        let programs = OpenVSwitch::launch(&lab)?;
        let line =
            format!("ovs-vsctl --timeout=10 add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type=netdev");
        lab.node().run(&line)?.ok()?;
        Ok(Switch { programs, lab, containers: *namespaces.containers() })
    }

    /// Where it runs.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Memory of the switch and of its database, in KiB.
    pub fn resident(&self) -> Result<f64> {
        memory::resident(&self.programs.pids())
    }

    /// Puts all containers on the bridge, and returns when frames cross it.
    pub fn attach(&self) -> Result<()> {
        batch(&self.lab, "pairs", &self.containers.pairs())?;
        for number in 0..self.containers.count {
            let name = name(number);
            let lines = Containers::inside(number);
            self.lab
                .node()
                .spawn_with_input(&["ip", "-n", &name, "-batch", "-"], Some(&lines))?
                .wait()?
                .ok()?;
        }
        let ports = self.containers.names().map(|name| format!(" -- add-port {BRIDGE} to-{name}"));
        let line = format!("ovs-vsctl --timeout=90{}", ports.collect::<String>());
        self.lab.node().run(&line)?.ok()?;
        self.containers.cross(&self.lab)
    }

    /// Kills the switch, but not its database, and starts it anew; how long no frame crossed.
    pub fn restart(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.programs.restart(&self.lab)?;
        self.containers.cross(&self.lab)?;
        Ok(start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use weft_testkit::PortKind;

    use super::*;

    #[test]
    fn frames_cross_again_after_the_switch_was_killed() {
        let containers = Containers { count: 3, kind: PortKind::Veth };
        let mut switch = Switch::start(&Namespaces::make(containers).unwrap()).unwrap();
        let before = switch.programs.pids();
        switch.attach().unwrap();
        containers.introduce(switch.lab()).unwrap();
        switch.restart().unwrap();
        let after = switch.programs.pids();
        assert!(before[0] != after[0] && before[1] == after[1], "{before:?} {after:?}");
        assert!(switch.resident().unwrap() > 1024.0);
    }
}
