//! The kernel's side: bridges and a router in a private lab, and packet sockets on the far ends.
//!
//! Frames are attributed to their case by markers: behind each case a frame is flooded on every network,
//! and what arrives before it belongs to the case. The kernel forwards within the call that sends, on one
//! CPU and in order, so nothing has to be waited for.

use std::fmt::Write;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weft_host::link::Netlink;
use weft_host::netns::NetNs;
use weft_host::packet::PacketSocket;
use weft_host::poll::{Epoll, Events};
use weft_testkit::Lab;
use weft_testkit::frame::{BROADCAST, Mac};

use super::case::{Case, Outcome, is_waiting};
use super::generate::snooping;
use super::packet::{checksum, ethernet};
use super::topology::{ASIDE, Net, ROUTES, Way, Wire};

/// Longest time that a marker may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest time that the router may take to give up waiting for a neighbour.
const SLOW: Duration = Duration::from_secs(2);
/// How long to listen for stragglers: more than the time between two questions for a neighbour.
const QUIET: Duration = Duration::from_millis(40);
/// Time between two questions for a neighbour, in milliseconds: far below a second, so that slow cases are
/// quick.
const RETRANSMIT_MS: u32 = 20;
/// How long the kernel may have something to say by itself, and hosts may answer the first questions.
const SETTLING: Duration = Duration::from_millis(300);
/// The virtio-net header of packet sockets.
const HEADER: usize = 10;
/// More than the router needs to give up waiting for a neighbour: three questions, and a tick of the kernel's clock
/// for each.
const GIVING_UP: Duration = Duration::from_millis(100);
/// No buffer space available, in Linux's numbers.
const ENOBUFS: i32 = 105;
/// EtherType for local experiments (IEEE 802): what markers carry.
const MARKER: u16 = 0x88b5;
/// The MAC address that markers come from.
const MARKER_MAC: Mac = [0x02, 0, 0, 0xff, 0, 0];

/// The kernel's fabric.
#[derive(Debug)]
pub struct Linux {
    wires: Vec<PacketSocket>,
    markers: Vec<PacketSocket>,
    epoll: Epoll,
    count: u32,
    // Dropped last: it holds the namespaces.
    _lab: Lab,
}

impl Linux {
    pub fn start() -> Result<Linux> {
        stay_on_one_cpu()?;
        let lab = Lab::empty()?;
        run(&lab, &setup())?;
        let namespace = NetNs::open(&lab.path("/run/netns/wires"))?;
        let entered = namespace.enter()?;
        let mut netlink = Netlink::open()?;
        let mut open = |name: &str| -> Result<PacketSocket> {
            let link = netlink.link_by_name(name)?.with_context(|| format!("no device {name}"))?;
            Ok(PacketSocket::bind(link.index)?)
        };
        let wires =
            Wire::ALL.iter().map(|wire| open(&format!("at-{}", wire.name()))).collect::<Result<Vec<_>>>()?;
        let markers = Net::ALL
            .iter()
            .map(|net| open(&format!("m-{}", net.segment().name)))
            .collect::<Result<Vec<_>>>()?;
        drop(entered);
        let epoll = Epoll::new()?;
        for wire in &wires {
            epoll.add(wire.as_fd(), 0)?;
        }
        let mut linux = Linux { wires, markers, epoll, count: 0, _lab: lab };
        linux.settle()?;
        Ok(linux)
    }

    /// Sends the frames of a case and gives what comes out. Where the router waits for a neighbour, it is
    /// given time until `expected` frames have come, and then a little more.
    pub fn run(&mut self, case: &Case, expected: usize, closely: bool) -> Result<Outcome> {
        for step in &case.steps {
            let socket = &self.wires[step.from as usize];
            let buffer = [&[0; HEADER][..], &step.frame].concat();
            match socket.send(&buffer) {
                // The far end of the veth pair drops what is longer than its MTU allows.
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                sent => drop(sent.with_context(|| format!("send {} octets", step.frame.len()))?),
            }
        }
        let mut outcome = Outcome::new();
        self.until_marked(&mut outcome)?;
        if is_waiting(&outcome) {
            self.listen(SLOW, &mut outcome, |outcome| outcome.len() >= expected)?;
            self.listen(GIVING_UP, &mut outcome, |_| false)?;
        } else if closely {
            self.listen(QUIET, &mut outcome, |_| false)?;
        }
        Ok(outcome)
    }

    /// Takes in what comes until `enough` holds, or for so long.
    fn listen(
        &mut self,
        longest: Duration,
        outcome: &mut Outcome,
        enough: impl Fn(&Outcome) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + longest;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|_| !enough(outcome)) {
            self.wait(left)?;
            self.until_marked(outcome)?;
        }
        Ok(())
    }

    /// Waits until what the kernel says by itself has been said.
    fn settle(&mut self) -> Result<()> {
        // A bridge that snoops floods until the first questions have had their time.
        for question in [snooping::igmp_query(2, None), snooping::mld_query(1, None)] {
            let buffer = [&[0; HEADER][..], &question].concat();
            self.wires[snooping::ROUTER as usize].send(&buffer)?;
        }
        let start = Instant::now();
        while start.elapsed() < SETTLING {
            self.until_marked(&mut Outcome::new())?;
        }
        Ok(())
    }

    /// Floods a marker on every network and takes in what comes before it.
    fn until_marked(&mut self, outcome: &mut Outcome) -> Result<()> {
        self.count += 1;
        let payload = [&self.count.to_be_bytes()[..], &[0; 42]].concat();
        let marker = ethernet(BROADCAST, MARKER_MAC, MARKER, &payload);
        let buffer = [&[0; HEADER][..], &marker].concat();
        for socket in &self.markers {
            socket.send(&buffer)?;
        }
        let start = Instant::now();
        for wire in Wire::ALL {
            while !self.receive(wire, &marker, outcome)? {
                ensure!(start.elapsed() < DEADLINE, "no marker at {} within {DEADLINE:?}", wire.name());
                self.wait(DEADLINE)?;
            }
        }
        Ok(())
    }

    /// Takes in what is there at one wire; true when the marker was among it.
    fn receive(&self, wire: Wire, marker: &[u8], outcome: &mut Outcome) -> Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.wires[wire as usize].recv(&mut buffer) {
                Ok(length) => {
                    let frame = complete(&mut buffer[..length])?;
                    if frame == marker {
                        return Ok(true);
                    }
                    if !is_marker(frame) && !is_own_report(frame) {
                        outcome.push((wire, frame.to_vec()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).with_context(|| format!("receive at {}", wire.name())),
            }
        }
    }

    fn wait(&self, longest: Duration) -> Result<()> {
        self.epoll.wait(&mut Events::with_capacity(1), Some(longest))?;
        Ok(())
    }
}

fn is_marker(frame: &[u8]) -> bool {
    frame.get(6..14) == Some(&[2, 0, 0, 0xff, 0, 0, 0x88, 0xb5])
}

/// Whether a gateway reports a group of its own (IGMP, MLD behind hop-by-hop options): it does so at any time after
/// a question, and the stack's gateways are in no groups.
fn is_own_report(frame: &[u8]) -> bool {
    let from_gateway = Net::ALL.into_iter().any(|net| frame[6..12] == net.segment().gateway_mac);
    let to_group = frame[0] & 1 != 0;
    let igmp = frame[12..14] == [0x08, 0x00] && frame.get(23) == Some(&2);
    let mld = frame[12..14] == [0x86, 0xdd] && frame.get(20) == Some(&0) && frame.get(54) == Some(&58);
    from_gateway && to_group && (igmp || mld && matches!(frame.get(62), Some(131 | 132 | 143)))
}

/// The frame behind a virtio-net header, with the checksum that was left to the device computed.
fn complete(buffer: &mut [u8]) -> Result<&[u8]> {
    ensure!(buffer.len() > HEADER, "a frame that does not fit");
    let (header, frame) = buffer.split_at_mut(HEADER);
    let word = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    if header[1] != 0 {
        bail!("a super-packet, from a kernel that was sent none");
    }
    if header[0] & 1 != 0 {
        let (start, at) = (word(6), word(6) + word(8));
        let sum = checksum(&frame[start..]);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(frame)
}

/// Keeps the thread, and with it what the kernel does on its behalf, on one CPU: in order.
fn stay_on_one_cpu() -> Result<()> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let thread = field("Pid:").context("no Pid in /proc/thread-self/status")?;
    let allowed = field("Cpus_allowed_list:").context("no Cpus_allowed_list")?;
    let first = allowed.split([',', '-']).next().unwrap_or("0");
    let output = Command::new("taskset").args(["-c", "-p", first, thread]).output().context("taskset")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn run(lab: &Lab, script: &str) -> Result<()> {
    lab.node().spawn_with_input(&["sh", "-e"], Some(script))?.wait()?.ok().map(drop)
}

/// All that makes the kernel the router and bridge of [`topology`](super::topology).
fn setup() -> String {
    let mut script = String::from("ip netns add wires\n");
    for (name, value) in SETTINGS_BEFORE {
        // Kernels without br_netfilter, or older ones, lack some of them; what these would turn off is not there.
        let file = format!("/proc/sys/net/{name}");
        let _ = writeln!(script, "if [ -e {file} ]; then echo {value} >{file}; fi");
    }
    for name in ["default", "all"] {
        let _ = writeln!(
            script,
            "ip netns exec wires sh -c 'echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6'"
        );
    }
    for net in Net::ALL {
        bridge(&mut script, net);
    }
    for wire in Wire::ALL {
        host(&mut script, wire);
    }
    for (prefix, way) in ROUTES {
        let _ = match way {
            Way::Via(host) => writeln!(script, "ip route add {prefix} via {}", address_of(host, prefix)),
            Way::Blackhole => writeln!(script, "ip route add blackhole {prefix}"),
            Way::Unreachable => writeln!(script, "ip route add unreachable {prefix}"),
            Way::Prohibit => writeln!(script, "ip route add prohibit {prefix}"),
        };
    }
    for source in ASIDE {
        let family = if source.contains(':') { "-6" } else { "-4" };
        let next = address_of(Wire::F, source);
        let _ = writeln!(
            script,
            "ip {family} rule add from {source} priority 100 lookup 100\n\
             ip {family} route add default via {next} table 100"
        );
    }
    script
}

/// The host's address of the same family as a prefix.
fn address_of(host: Wire, prefix: &str) -> IpAddr {
    if prefix.contains(':') { host.v6().into() } else { host.v4().into() }
}

/// Settings of the node's namespace, in effect for devices that are made later. The rate limits are off;
/// what differs from how a host is set by default makes it a router; no fragment is given up during a run.
const SETTINGS_BEFORE: [(&str, &str); 31] = [
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
    ("ipv4/ip_forward", "1"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv4/icmp_ratemask", "0"),
    ("ipv4/icmp_msgs_per_sec", "1000000"),
    ("ipv4/icmp_msgs_burst", "1000000"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/default/arp_ignore", "1"),
    ("ipv4/conf/default/igmpv3_unsolicited_report_interval", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/mldv1_unsolicited_report_interval", "1"),
    ("ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
    ("ipv6/conf/default/ndisc_notify", "0"),
    ("ipv6/conf/default/addr_gen_mode", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv6/icmp/ratemask", "\"\""),
    ("ipv6/auto_flowlabels", "0"),
    ("ipv4/ipfrag_time", "3600"),
    ("ipv6/ip6frag_time", "3600"),
];

fn bridge(script: &mut String, net: Net) {
    let segment = net.segment();
    let (name, mtu) = (segment.name, segment.mtu);
    let (mac, snooping) = (text(segment.gateway_mac), u8::from(net == Net::Snooped));
    let (v4, v6) = (segment.gateway4, segment.gateway6);
    let (length4, length6) = (segment.prefix4.1, segment.prefix6.1);
    let _ = writeln!(
        script,
        "ip link add br-{name} address {mac} type bridge stp_state 0 mcast_snooping {snooping} forward_delay 0\n\
         ip link add to-m-{name} type veth peer name m-{name} netns wires\n\
         echo 1 >/proc/sys/net/ipv6/conf/to-m-{name}/disable_ipv6\n\
         ip link set to-m-{name} mtu {mtu} master br-{name} up\n\
         ip -n wires link set m-{name} up arp off\n\
         ip link set br-{name} mtu {mtu} up\n\
         ip address add {v4}/{length4} dev br-{name}\n\
         ip address add {v6}/{length6} dev br-{name} nodad\n\
         echo {RETRANSMIT_MS} >/proc/sys/net/ipv4/neigh/br-{name}/retrans_time_ms\n\
         echo 3600 >/proc/sys/net/ipv4/neigh/br-{name}/delay_first_probe_time\n\
         echo 3600 >/proc/sys/net/ipv6/neigh/br-{name}/delay_first_probe_time\n\
         echo {RETRANSMIT_MS} >/proc/sys/net/ipv6/neigh/br-{name}/retrans_time_ms"
    );
}

fn host(script: &mut String, wire: Wire) {
    let (name, segment) = (wire.name(), wire.net().segment());
    let (bridge, mtu, mac) = (segment.name, segment.mtu, text(wire.mac()));
    let _ = writeln!(
        script,
        "ip link add to-{name} type veth peer name at-{name} netns wires\n\
         echo 1 >/proc/sys/net/ipv6/conf/to-{name}/disable_ipv6\n\
         ip -n wires link set at-{name} mtu 9000 up arp off\n\
         ip link set to-{name} mtu {mtu} master br-{bridge} up\n\
         bridge fdb add {mac} dev to-{name} master static sticky"
    );
    if wire.is_isolated() {
        let _ = writeln!(script, "bridge link set dev to-{name} isolated on");
    }
    for address in wire.addresses() {
        let _ = writeln!(script, "ip neighbor add {address} lladdr {mac} nud permanent dev br-{bridge}");
    }
}

fn text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
