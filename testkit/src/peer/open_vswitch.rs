//! Open vSwitch with its userspace datapath, which needs no kernel module: GRE of Ethernet frames and of IP packets (RFC
//! 2784, RFC 2890), and a switch between containers of one node. Its database and its sockets are in the lab's own
//! `/run`.
//!
//! Checksum and sequence number together are not for it: it sums the header up before it writes the number into it.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::kernel::{self, Station};
use crate::lab::Lab;
use crate::node::Node;
use crate::peer;
use crate::process::Process;
use crate::wait::{retry_until, wait_until};
use crate::wire::{self, Wire};

/// The device in the peer's namespace that the tunnel ends on.
pub const DEVICE: &str = "br-int";
/// The device that is on the wire in place of the peer's own.
const UNDERLAY: &str = "br-phy";

/// A GRE tunnel's wish.
#[derive(Debug, Clone, Copy)]
pub struct Gre {
    /// The far end.
    pub remote: IpAddr,
    /// Tells it apart from others.
    pub key: Option<u32>,
    /// With a checksum.
    pub checksum: bool,
    /// With sequence numbers.
    pub sequence: bool,
    /// IP packets instead of Ethernet frames.
    pub packets: bool,
}

impl Gre {
    /// A tunnel of Ethernet frames without any option.
    pub fn plain(remote: IpAddr) -> Gre {
        Gre { remote, key: None, checksum: false, sequence: false, packets: false }
    }

    /// Octets before the IP packet inside.
    pub fn overhead(&self) -> u32 {
        let options = [self.key.is_some(), self.checksum, self.sequence];
        let outer = if self.remote.is_ipv4() { 20 } else { 40 };
        let frame = if self.packets { 0 } else { 14 };
        outer + 4 + 4 * options.into_iter().filter(|on| *on).count() as u32 + frame
    }

    fn options(&self) -> Vec<String> {
        let mut options = vec![format!("options:remote_ip={}", self.remote)];
        options.extend(self.key.map(|key| format!("options:key={key}")));
        options.extend(self.checksum.then(|| "options:csum=true".into()));
        options.extend(self.sequence.then(|| "options:seq=true".into()));
        options.extend(self.packets.then(|| "options:packet_type=legacy_l3".into()));
        options
    }
}

/// A running Open vSwitch.
#[derive(Debug)]
pub struct OpenVSwitch {
    // The switch ends before its database.
    switch: Process,
    database: Process,
}

/// Where the switch finds its database.
const DATABASE: &str = "unix:/run/openvswitch/db.sock";

impl OpenVSwitch {
    /// Starts the programs in a lab, without any bridge.
    pub fn launch(lab: &Lab) -> Result<OpenVSwitch> {
        OpenVSwitch::run(lab, false)
    }

    /// Kills the switch and starts it anew, while its database goes on.
    pub fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.switch.signal("KILL")?;
        wait_until(Duration::from_secs(60), "the end of the switch", || !self.switch.is_running())?;
        self.switch = OpenVSwitch::spawn(lab)?;
        Ok(())
    }

    /// The process ids of the switch and of its database, as seen outside of the lab.
    pub fn pids(&self) -> [u32; 2] {
        [self.switch.pid(), self.database.pid()]
    }

    fn spawn(lab: &Lab) -> Result<Process> {
        lab.node().spawn(&format!("ovs-vswitchd {DATABASE} --disable-system --pidfile"))
    }

    /// Starts the programs and lets them have the node's end of the wire.
    pub fn start(wire: &Wire, node: &Node) -> Result<OpenVSwitch> {
        let switch = OpenVSwitch::run(node, false)?;
        for line in [
            format!("ip address flush dev {}", wire::DEVICE),
            format!("ovs-vsctl --timeout=10 add-br {UNDERLAY} -- set bridge {UNDERLAY} datapath_type=netdev"),
            format!("ovs-vsctl --timeout=10 add-port {UNDERLAY} {}", wire::DEVICE),
            format!("ip link set {UNDERLAY} up"),
        ] {
            node.must(&line)?;
        }
        wire.address(node, &node.at, UNDERLAY)?;
        Ok(switch)
    }

    /// Starts the programs, with segmentation offload in the userspace datapath or without. Its tunnels of this version
    /// (3.1) do not have it.
    fn run(lab: &Lab, segmentation: bool) -> Result<OpenVSwitch> {
        let must = |line: &str| lab.node().run(line)?.ok();
        must("mkdir -p /run/openvswitch")?;
        must("ovsdb-tool create /run/lab/conf.db /usr/share/openvswitch/vswitch.ovsschema")?;
        let database = lab.node().spawn(&format!("ovsdb-server /run/lab/conf.db --remote=p{DATABASE}"))?;
        retry_until(Duration::from_secs(10), "the database of Open vSwitch", || {
            must("ovs-vsctl --no-wait --timeout=1 init")
        })?;
        // It is looked at once, when the switch starts.
        let option = format!("other_config:userspace-tso-enable={segmentation}");
        must(&format!("ovs-vsctl --no-wait --timeout=10 set Open_vSwitch . {option}"))?;
        Ok(OpenVSwitch { switch: OpenVSwitch::spawn(lab)?, database })
    }

    /// What the switch has said until now.
    pub fn log(&self) -> String {
        self.switch.stdout() + &self.switch.stderr()
    }

    /// Makes a tunnel; [`DEVICE`] gets `addresses`, with prefix lengths, and an MTU for what `underlay_mtu` leaves.
    pub fn gre(&self, node: &Node, gre: &Gre, underlay_mtu: u32, addresses: &[&str]) -> Result<()> {
        let mtu = underlay_mtu - gre.overhead();
        let options = gre.options().join(" ");
        node.must(&format!(
            "ovs-vsctl --timeout=10 add-br {DEVICE} -- set bridge {DEVICE} datapath_type=netdev \
             -- add-port {DEVICE} gre0 -- set interface gre0 type=gre {options} \
             -- set interface {DEVICE} mtu_request={mtu}"
        ))?;
        if gre.packets {
            // Nobody answers for neighbours, and what comes has no Ethernet header to be addressed by.
            node.must(&format!("ip link set {DEVICE} arp off"))?;
            self.join_packets(node)?;
        }
        peer::address(node, DEVICE, addresses)
    }

    /// What a switch cannot find out about a port without MAC addresses.
    fn join_packets(&self, node: &Node) -> Result<()> {
        let link = node.must(&format!("ip -o link show dev {DEVICE}"))?;
        let mac = link.split("link/ether ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let mac = mac.with_context(|| format!("a MAC address expected: {link}"))?;
        node.must(&format!("ovs-ofctl del-flows {DEVICE}"))?;
        for protocol in ["ip", "ipv6"] {
            for flow in [
                format!("in_port=gre0,{protocol},actions=mod_dl_dst:{mac},LOCAL"),
                format!("in_port=LOCAL,{protocol},actions=output:gre0"),
            ] {
                node.must(&format!("ovs-ofctl add-flow {DEVICE} {flow}"))?;
            }
        }
        Ok(())
    }
}

/// A lab without a daemon in which the containers `a` and `b` hang on a switch with the addresses of
/// [`one_network`](crate::topology::one_network), as this version of it (3.1) does best: by TAP devices that the switch
/// has made, with segmentation offload.
///
/// By veth pairs a stream has half to three quarters of that, and small packets about two thirds. Without segmentation
/// offload a stream has a tenth, small packets are no faster, and veth pairs lose what has a checksum that the kernel
/// left to the device.
pub fn one_switch() -> Result<(Lab, OpenVSwitch)> {
    let lab = Lab::empty()?;
    let switch = OpenVSwitch::run(&lab, true)?;
    let must = |line: &str| lab.node().run(line)?.ok();
    must(&format!("ovs-vsctl --timeout=10 add-br {DEVICE} -- set bridge {DEVICE} datapath_type=netdev"))?;
    for station in [kernel::A, kernel::NEAR_B] {
        let Station { name, mac, .. } = station;
        must(&format!("ip netns add {name}"))?;
        let add = format!("ovs-vsctl --timeout=10 add-port {DEVICE} to-{name}");
        must(&format!("{add} -- set interface to-{name} type=tap"))?;
        must(&format!("ip link set to-{name} address {mac} name eth0 netns {name}"))?;
        kernel::settle(&lab, &station)?;
    }
    Ok((lab, switch))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::iperf3;
    use crate::sniffer::Sniffer;
    use crate::topology::{NEAR_B4, NEAR_B6};
    use crate::wire::Family;

    /// Two switches with this tunnel between them.
    fn meet(family: Family, wish: &dyn Fn(IpAddr) -> Gre) {
        let wire = Wire::link(1500).unwrap();
        let [a, b] = [(); 2].map(|()| Node::bare(&wire).unwrap());
        let [at_a, at_b] = [&a, &b].map(|node| OpenVSwitch::start(&wire, node).unwrap());
        let (to_b, to_a) = (wish(b.address(family)), wish(a.address(family)));
        at_a.gre(&a, &to_b, 1500, &["198.18.1.1/24", "2001:db8:1::1/64"]).unwrap();
        at_b.gre(&b, &to_a, 1500, &["198.18.1.2/24", "2001:db8:1::2/64"]).unwrap();
        let soon = Duration::from_secs(10);
        retry_until(soon, "the far end", || a.node().reaches("198.18.1.2")).unwrap();
        let sniffer = Sniffer::start(&wire, &a, "ip proto 47 or ip6 proto 47").unwrap();
        a.node().reaches("2001:db8:1::2").unwrap();
        sniffer.finish().unwrap().is_sound(&a.address(family).to_string()).unwrap();
        iperf3::streams(&a.node(), &b.node(), "198.18.1.2", 1e7).unwrap();
    }

    #[test]
    fn a_switch_joins_containers_by_taps_with_segmentation_offload() {
        let (lab, switch) = one_switch().unwrap();
        let (a, b) = (lab.container("a"), lab.container("b"));
        for near in [NEAR_B4, NEAR_B6] {
            retry_until(Duration::from_secs(10), "the other container", || a.reaches(near)).unwrap();
        }
        assert!(switch.log().contains("Userspace TCP Segmentation Offloading support enabled"));
        iperf3::run(&a, &b, NEAR_B4, "--time 1").unwrap();
        let counters = b.run("ip -j -s link show dev eth0").unwrap().ok().unwrap();
        let received = &serde_json::from_str::<Value>(&counters).unwrap()[0]["stats64"]["rx"];
        let [octets, packets] = ["bytes", "packets"].map(|field| received[field].as_f64().unwrap());
        assert!(octets / packets > 3.0 * 1514.0, "no super-packets: {received}");
        iperf3::datagrams(&a, &b, NEAR_B4, 1200).unwrap();
    }

    #[test]
    fn two_switches_reach_each_other_by_frames_with_a_key_and_a_checksum() {
        for family in Family::BOTH {
            meet(family, &|remote| Gre { key: Some(7), checksum: true, ..Gre::plain(remote) });
        }
    }

    #[test]
    fn two_switches_reach_each_other_by_packets_with_sequence_numbers() {
        for family in Family::BOTH {
            meet(family, &|remote| Gre { sequence: true, packets: true, ..Gre::plain(remote) });
        }
    }
}
