//! The wire between nodes: what carries their tunnels. It hangs in a namespace of its own, either as one link that all
//! are on or as a router between links, and can be cut, narrowed, watched, and made to mark congestion.
//!
//! Addresses: on one link, member N has 192.0.2.N/24 and 2001:db8:ffff::N/64. With a router between, it has
//! 192.0.2.(16 N + 1)/28 and 2001:db8:ffff:N::1/64, and the router the last address but one of that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::kernel;
use crate::lab::{Lab, Place};
use crate::wait::{retry_until, wait_until};

/// The device by which a member is on the wire.
pub const DEVICE: &str = "wire";

/// Longest time that a cable takes to work.
const SOON: Duration = Duration::from_secs(10);

/// What the wire is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Link,
    Router,
}

/// A wire, with its namespace.
#[derive(Debug)]
pub struct Wire {
    lab: Lab,
    shape: Shape,
    mtu: u32,
    members: AtomicU8,
}

/// Where a member is on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    number: u8,
}

/// A version of IP, which is chosen for what carries a tunnel or goes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];
}

impl Plug {
    /// Its address of this family.
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// The wire's end of the member's cable.
    fn port(&self) -> String {
        format!("to-{}", self.number)
    }
}

impl Wire {
    /// One link of this MTU that all members are on.
    pub fn link(mtu: u32) -> Result<Wire> {
        let wire = Wire { lab: Lab::empty()?, shape: Shape::Link, mtu, members: AtomicU8::new(0) };
        wire.run(&format!("ip link add br0 mtu {mtu} type bridge mcast_snooping 0"))?;
        wire.run("ip link set br0 up")?;
        kernel::without_firewall(&wire.place())?;
        Ok(wire)
    }

    /// A router with a link of MTU 1500 for each member.
    pub fn routed() -> Result<Wire> {
        let wire = Wire { lab: Lab::empty()?, shape: Shape::Router, mtu: 1500, members: AtomicU8::new(0) };
        let switches =
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
        wire.place().exec(&["sh", "-ec", switches])?.ok()?;
        Ok(wire)
    }

    /// Puts a node on the wire by a device [`DEVICE`] with addresses.
    pub fn plug(&self, lab: &Lab) -> Result<Plug> {
        let number = self.members.fetch_add(1, Ordering::Relaxed) + 1;
        ensure!(number < 15, "a wire has room for 14 members");
        let plug = self.place_of(number);
        self.connect(lab, &plug)?;
        Ok(plug)
    }

    /// Puts a node where another one was, of which nothing may be left ([`Wire::unplug`]).
    pub fn plug_again(&self, lab: &Lab, plug: &Plug) -> Result<()> {
        self.connect(lab, plug)
    }

    /// Takes a member off the wire, with its device; also one whose namespace is gone.
    pub fn unplug(&self, plug: &Plug) -> Result<()> {
        // The kernel removes the device by itself a moment after the namespace at its other end.
        let _ = self.run(&format!("ip link delete {}", plug.port()));
        let look = format!("ip link show dev {}", plug.port());
        wait_until(SOON, "the end of a cable", || self.run(&look).is_err())
    }

    fn connect(&self, lab: &Lab, plug: &Plug) -> Result<()> {
        switch(lab, "ipv6/conf/default/accept_dad", "0")?;
        let (port, mtu, holder) = (plug.port(), self.mtu, lab.holder_pid());
        self.run(&format!(
            "ip link add {port} mtu {mtu} type veth peer name {DEVICE} mtu {mtu} netns {holder}"
        ))?;
        if self.shape == Shape::Link {
            self.run(&format!("ip link set {port} master br0"))?;
        }
        self.run(&format!("ip link set {port} up"))?;
        lab.node().run(&format!("ip link set {DEVICE} up"))?.ok()?;
        self.address(lab, plug, DEVICE)?;
        wait_for_carrier(&self.place(), &plug.port())?;
        wait_for_carrier(&lab.node(), DEVICE)?;
        if self.shape == Shape::Router {
            let (gateway4, gateway6) = gateways(plug.number);
            for gateway in [IpAddr::from(gateway4), gateway6.into()] {
                let ping = format!("ping -n -c 1 -W 1 {gateway}");
                retry_until(SOON, "the router to answer", || lab.node().run(&ping)?.ok())?;
            }
        }
        Ok(())
    }

    /// Gives a member's device its addresses and routes, which it loses when it goes down.
    pub fn address(&self, lab: &Lab, plug: &Plug, device: &str) -> Result<()> {
        let node = |line: &str| lab.node().run(line)?.ok().map(drop);
        let Plug { v4, v6, number } = plug;
        let length = if self.shape == Shape::Link { 24 } else { 28 };
        node(&format!("ip address replace {v4}/{length} dev {device}"))?;
        node(&format!("ip address replace {v6}/64 dev {device} nodad"))?;
        if self.shape == Shape::Router {
            let (gateway4, gateway6) = gateways(*number);
            for (gateway, length) in [(IpAddr::from(gateway4), 28), (gateway6.into(), 64)] {
                self.run(&format!("ip address replace {gateway}/{length} dev {} nodad", plug.port()))?;
            }
            node(&format!("ip route replace 192.0.2.0/24 via {gateway4} dev {device}"))?;
            node(&format!("ip route replace 2001:db8:ffff::/48 via {gateway6} dev {device}"))?;
        }
        Ok(())
    }

    /// Gives a member of a link other addresses than it has, and takes the old ones.
    pub fn readdress(&self, lab: &Lab, plug: &Plug) -> Result<Plug> {
        let number = self.members.fetch_add(1, Ordering::Relaxed) + 1;
        let mut moved = self.place_of(number);
        moved.number = plug.number;
        // The old ones first: what comes later into the same prefix goes with what was there before.
        for (old, length) in [(IpAddr::from(plug.v4), 24), (plug.v6.into(), 64)] {
            lab.node().run(&format!("ip address delete {old}/{length} dev {DEVICE}"))?.ok()?;
        }
        self.address(lab, &moved, DEVICE)?;
        Ok(moved)
    }

    /// Lets a member's device take nothing over any more, so that packets leave it as they would leave a real one: cut and
    /// summed up. A veth pair passes on what is left to be done, which a socket at its other end does not hear of.
    pub fn complete_packets(&self, lab: &Lab) -> Result<()> {
        let line = format!("ethtool -K {DEVICE} tx off tso off gso off tx-udp-segmentation off");
        lab.node().run(&line)?.ok().map(drop)
    }

    /// Pulls a member's cable.
    pub fn cut(&self, plug: &Plug) -> Result<()> {
        self.run(&format!("ip link set {} down", plug.port()))
    }

    /// Puts a member's cable back.
    pub fn mend(&self, plug: &Plug) -> Result<()> {
        self.run(&format!("ip link set {} up", plug.port()))?;
        if self.shape == Shape::Router {
            let (_, gateway6) = gateways(plug.number);
            self.run(&format!("ip address replace {gateway6}/64 dev {} nodad", plug.port()))?;
        }
        wait_for_carrier(&self.place(), &plug.port())
    }

    /// Lets the router take no larger packets to any member than these; it tells who sends larger ones.
    pub fn narrow(&self, mtu: u32) -> Result<()> {
        ensure!(self.shape == Shape::Router, "only a router has links of different MTUs");
        for number in 1..=self.members.load(Ordering::Relaxed) {
            let (plug, (gateway4, gateway6)) = (self.place_of(number), gateways(number));
            let (net4, port) = (Ipv4Addr::new(192, 0, 2, 16 * number), plug.port());
            self.run(&format!("ip route replace {net4}/28 dev {port} src {gateway4} mtu lock {mtu}"))?;
            let net6 = Ipv6Addr::from(u128::from(gateway6) & !0xffff);
            self.run(&format!("ip -6 route replace {net6}/64 dev {port} metric 256 mtu lock {mtu}"))?;
        }
        Ok(())
    }

    /// Marks everything to a member as having met congestion (RFC 3168: CE), whatever its sender understands.
    pub fn congest(&self, plug: &Plug) -> Result<()> {
        let port = plug.port();
        let rules = format!(
            "table netdev congestion {{ chain out {{ type filter hook egress device {port} priority 0; \
             ip ecn set ce; ip6 ecn set ce; }}; }}"
        );
        self.lab.node().spawn_with_input(&["nft", "-f", "-"], Some(&rules))?.wait()?.ok().map(drop)
    }

    /// Marks nothing any more.
    pub fn clear(&self) -> Result<()> {
        self.run("nft delete table netdev congestion")
    }

    /// The wire's namespace, for what only a test needs.
    pub fn place(&self) -> Place<'_> {
        self.lab.node()
    }

    /// The device in the wire's namespace where all that a member sends and gets passes.
    pub fn tap(&self, plug: &Plug) -> String {
        plug.port()
    }

    fn place_of(&self, number: u8) -> Plug {
        let (n, segment) = (u16::from(number), 0xffff);
        match self.shape {
            Shape::Link => Plug {
                v4: [192, 0, 2, number].into(),
                v6: [0x2001, 0xdb8, segment, 0, 0, 0, 0, n].into(),
                number,
            },
            Shape::Router => Plug {
                v4: [192, 0, 2, 16 * number + 1].into(),
                v6: [0x2001, 0xdb8, segment, n, 0, 0, 0, 1].into(),
                number,
            },
        }
    }

    fn run(&self, line: &str) -> Result<()> {
        self.lab.node().run(line)?.ok().map(drop).context("on the wire")
    }
}

/// The kernel may take a second to notice that both ends of a cable are up.
fn wait_for_carrier(place: &Place<'_>, device: &str) -> Result<()> {
    let line = format!("ip -o link show dev {device}");
    wait_until(SOON, "the link to be up", || {
        place.run(&line).is_ok_and(|output| output.stdout.contains("state UP"))
    })
}

/// Sets a sysctl of a lab's own network namespace.
fn switch(lab: &Lab, name: &str, value: &str) -> Result<()> {
    let write = format!("echo {value} >/proc/sys/net/{name}");
    lab.node().exec(&["sh", "-c", &write])?.ok().map(drop)
}

fn gateways(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    let n = u16::from(number);
    ([192, 0, 2, 16 * number + 14].into(), [0x2001, 0xdb8, 0xffff, n, 0, 0, 0, 0xff].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(wire: &Wire) -> [(Lab, Plug); 2] {
        std::array::from_fn(|_| {
            let lab = Lab::empty().unwrap();
            let plug = wire.plug(&lab).unwrap();
            (lab, plug)
        })
    }

    fn answers(lab: &Lab, address: IpAddr, options: &str) -> bool {
        lab.node().run(&format!("ping -n -c 1 -W 2 {options} {address}")).unwrap().success()
    }

    #[test]
    fn members_of_a_link_reach_each_other_until_it_is_cut() {
        let wire = Wire::link(1500).unwrap();
        let [(a, _), (_b, at)] = &pair(&wire);
        for family in Family::BOTH {
            assert!(answers(a, at.address(family), ""));
        }
        wire.cut(at).unwrap();
        assert!(!answers(a, at.v4.into(), ""));
        wire.mend(at).unwrap();
        for family in Family::BOTH {
            assert!(answers(a, at.address(family), ""));
        }
    }

    #[test]
    fn a_router_says_what_does_not_fit() {
        let wire = Wire::routed().unwrap();
        let [(a, _), (_b, at)] = &pair(&wire);
        for family in Family::BOTH {
            assert!(answers(a, at.address(family), "-M do -s 1400"), "{family:?}");
        }
        wire.narrow(1300).unwrap();
        for (family, size) in [(Family::V4, 1273), (Family::V6, 1253)] {
            let told = a.node().run(&format!("ping -n -c 1 -W 2 -M do -s {size} {}", at.address(family)));
            assert!(told.unwrap().text().contains("mtu"), "{family:?}");
            assert!(answers(a, at.address(family), &format!("-M do -s {}", size - 1)));
        }
    }

    #[test]
    fn a_member_that_moves_is_found_at_its_new_address_only() {
        let wire = Wire::link(1500).unwrap();
        let [(a, _), (b, at)] = &pair(&wire);
        let moved = wire.readdress(b, at).unwrap();
        assert!(answers(a, moved.v4.into(), "") && answers(a, moved.v6.into(), ""));
        assert!(!answers(a, at.v4.into(), ""));
    }

    #[test]
    fn congestion_is_marked_in_both_families() {
        let wire = Wire::link(1500).unwrap();
        let [(a, _), (b, at)] = &pair(&wire);
        wire.congest(at).unwrap();
        for (family, filter) in
            [(Family::V4, "icmp and ip[1]&3==3"), (Family::V6, "icmp6 and ip6[1]&0x30==0x30")]
        {
            let arguments = ["tcpdump", "--immediate-mode", "-n", "-c", "1", "-i", DEVICE, filter];
            let mut watcher = b.node().spawn_with_input(&arguments, None).unwrap();
            watcher.wait_for("listening on").unwrap();
            assert!(answers(a, at.address(family), "-Q 2"), "{family:?}");
            watcher.wait().unwrap().ok().unwrap();
        }
        wire.clear().unwrap();
    }
}
