//! Containers by number: what they are called, which addresses they have, and what is written down for each side.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use serde_json::json;
use weft_testkit::{Lab, Manifest, PortKind};

/// The Network's gateways.
pub const GATEWAYS: [&str; 2] = ["198.18.0.1", "2001:db8:1::1"];
/// Containers of a third octet of their IPv4 addresses.
const ROW: u32 = 250;
/// Longest time until a ping crosses, in seconds: shorter than what a program may take in a lab.
const CROSSING: u32 = 80;

/// So many containers with one port each, on one Network.
#[derive(Debug, Clone, Copy)]
pub struct Containers {
    /// How many.
    pub count: u32,
    /// What Weft makes for each. The peers have veth pairs in any case.
    pub kind: PortKind,
}

impl Containers {
    /// All of them, by name.
    pub fn names(&self) -> impl Iterator<Item = String> {
        (0..self.count).map(name)
    }

    /// A Namespace that is adopted and a Port for each, and the Network that they are on, in one manifest.
    pub fn manifest(&self) -> Manifest {
        let [v4, v6] = GATEWAYS;
        let subnets = json!([
            { "prefix": "198.18.0.0/16", "gateway": v4 },
            { "prefix": "2001:db8:1::/64", "gateway": v6 },
        ]);
        let network = json!({ "router": "main", "subnets": subnets });
        let manifest = Manifest::new().router("main").network("front", network);
        (0..self.count).fold(manifest, |manifest, number| {
            let name = name(number);
            let port = json!({
                "network": "front",
                "namespace": name,
                "type": self.kind.name(),
                "mac": mac(number),
                "addresses": addresses(number),
                "defaultRoute": true,
            });
            manifest.adopted(&name, &format!("/run/netns/{name}")).port(&name, port)
        })
    }

    /// The lines for `ip` that make a veth pair for each, up, whose end in the node is of no use to anybody yet.
    pub fn pairs(&self) -> String {
        (0..self.count).fold(String::new(), |mut lines, number| {
            let (name, mac) = (name(number), mac(number));
            // A String takes any text.
            let _ = writeln!(lines, "link add to-{name} type veth peer name eth0 address {mac} netns {name}");
            let _ = writeln!(lines, "link set to-{name} up");
            lines
        })
    }

    /// The lines for `ip` that set the device of one container up, with addresses and default routes.
    pub fn inside(number: u32) -> String {
        let ([v4, v6], [gateway4, gateway6]) = (addresses(number), GATEWAYS);
        format!(
            "link set eth0 up\naddress add {v4} dev eth0\naddress add {v6} dev eth0 nodad\n\
             route add default via {gateway4} dev eth0\nroute add default via {gateway6} dev eth0\n"
        )
    }

    /// Has the first and the last container know each other's MAC address for good. What is measured is when frames
    /// cross again; the kernel asks for a neighbour once a second only.
    pub fn introduce(&self, lab: &Lab) -> Result<()> {
        let ends = [0, self.count - 1];
        for [here, there] in [ends, [ends[1], ends[0]]] {
            let (address, mac) = (v4(there), mac(there));
            let line = format!("ip neigh replace {address} lladdr {mac} dev eth0 nud permanent");
            lab.container(&name(here)).run(&line)?.ok()?;
        }
        self.cross(lab)
    }

    /// Waits until a ping from the first container to the last one is answered. One is sent every 20 ms, and whichever
    /// answer is the first ends it.
    pub fn cross(&self, lab: &Lab) -> Result<()> {
        let ping = format!("ping -n -q -c 1 -i 0.02 -w {CROSSING} {}", v4(self.count - 1));
        lab.container(&name(0)).run(&ping)?.ok().map(drop)
    }
}

/// A namespace for each of these containers. Nodes borrow them one after the other: the kernel takes minutes to remove a
/// thousand, and slows down meanwhile whoever makes devices.
pub struct Namespaces {
    lab: Lab,
    containers: Containers,
}

impl Namespaces {
    /// Makes them, empty, as a runtime does before it asks for a network.
    pub fn make(containers: Containers) -> Result<Namespaces> {
        let lab = Lab::empty()?;
        let lines: String = containers.names().map(|name| format!("netns add {name}\n")).collect();
        batch(&lab, "namespaces", &lines)?;
        Ok(Namespaces { lab, containers })
    }

    /// Whose they are.
    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    /// Gives them to a node, without what the one before has left in them.
    pub fn lend(&self, to: &Lab) -> Result<()> {
        let names: String = self.containers.names().map(|name| format!("{name} ")).collect();
        let clear = format!(
            "printf '%s\\n' {names} | xargs -P 4 -I NAME ip -n NAME link delete eth0 2>/dev/null; true\n"
        );
        let path = write(&self.lab, "clear", &clear)?;
        self.lab.node().run(&format!("sh {path}"))?.ok()?;
        let folder = format!("/proc/{}/root/run/netns", self.lab.holder_pid());
        let take = format!(
            "for name in {names}; do : >/run/netns/$name && mount --no-canonicalize --bind {folder}/$name /run/netns/$name; done\n"
        );
        let path = write(to, "take", &take)?;
        to.node().run(&format!("sh -e {path}"))?.ok().map(drop)
    }
}

/// Has `ip` carry out lines, which are kept in a file of the lab.
pub fn batch(lab: &Lab, file: &str, lines: &str) -> Result<()> {
    let path = write(lab, file, lines)?;
    lab.node().run(&format!("ip -batch {path}"))?.ok().map(drop)
}

/// Writes a file of the lab; its path there.
pub fn write(lab: &Lab, file: &str, text: &str) -> Result<String> {
    let path = format!("/run/lab/{file}");
    fs::write(lab.path(&path), text).with_context(|| path.clone())?;
    Ok(path)
}

/// What a container, its namespace and its Port are called.
pub fn name(number: u32) -> String {
    format!("c{number}")
}

fn mac(number: u32) -> String {
    let [_, _, high, low] = (number + 1).to_be_bytes();
    format!("02:00:00:00:{high:02x}:{low:02x}")
}

fn v4(number: u32) -> Ipv4Addr {
    // The gateway's third octet is left out.
    Ipv4Addr::from(0xc612_0101 + ((number / ROW) << 8) + number % ROW)
}

fn addresses(number: u32) -> [String; 2] {
    let v6 = Ipv6Addr::from(0x2001_0db8_0001_0000_0000_0000_0000_0010 + u128::from(number));
    [format!("{}/16", v4(number)), format!("{v6}/64")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_has_addresses_of_its_own() {
        assert_eq!(addresses(0), ["198.18.1.1/16", "2001:db8:1::10/64"]);
        assert_eq!(addresses(249), ["198.18.1.250/16", "2001:db8:1::109/64"]);
        assert_eq!(addresses(250), ["198.18.2.1/16", "2001:db8:1::10a/64"]);
        assert_eq!((mac(0), mac(999)), ("02:00:00:00:00:01".into(), "02:00:00:00:03:e8".into()));
    }

    #[test]
    fn the_manifest_has_a_namespace_and_a_port_for_each() {
        let text = Containers { count: 3, kind: PortKind::Veth }.manifest().to_string();
        assert_eq!(text.matches("\"kind\":\"Port\"").count(), 3);
        assert!(text.contains("\"path\":\"/run/netns/c2\"") && text.contains("\"type\":\"veth\""), "{text}");
    }
}
