//! What goes over the wire, by tcpdump, and what tshark makes of it.

use anyhow::{Context, Result, bail, ensure};

use crate::node::Node;
use crate::process::Process;
use crate::wire::Wire;

/// Where the packets are kept in the wire's lab.
const FILE: &str = "/run/lab/wire.pcap";

/// What tshark is told: to check all checksums, and not to judge how the ends of a TCP connection behave.
const PREFERENCES: [&str; 4] = [
    "ip.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "tcp.analyze_sequence_numbers:FALSE",
];

/// What iperf3 sends is noise, in which tshark would find protocols.
const NOISE: [&str; 4] = ["-d", "tcp.port==5201,data", "-d", "udp.port==5201,data"];

/// Notices of tshark that are about conversations, not about packets.
const CONVERSATION: &str = "icmp.resp_not_found || icmpv6.resp_not_found || tcp.connection.rst || tcp.connection.fin \
    || tcp.options.sack.dsack";

/// A recording of what one member sends and gets.
#[derive(Debug)]
pub struct Sniffer<'a> {
    wire: &'a Wire,
    process: Process,
}

/// A finished recording.
#[derive(Debug)]
pub struct Recording<'a> {
    wire: &'a Wire,
}

impl Sniffer<'_> {
    /// Starts to record at a member's end; returns when it does. One at a time for a wire. The member's packets
    /// are completed before they are seen, as [`Wire::complete_packets`] tells.
    pub fn start<'a>(wire: &'a Wire, node: &Node, filter: &str) -> Result<Sniffer<'a>> {
        wire.complete_packets(node)?;
        let device = wire.tap(&node.at);
        let command = ["tcpdump", "--immediate-mode", "-U", "-n", "-i", &device, "-w", FILE, filter];
        let mut process = wire.place().spawn_with_input(&command, None)?;
        process.wait_for("listening on")?;
        Ok(Sniffer { wire, process })
    }
}

impl<'a> Sniffer<'a> {
    /// Ends the recording.
    pub fn finish(self) -> Result<Recording<'a>> {
        self.process.signal("INT")?;
        self.process.wait()?.ok()?;
        Ok(Recording { wire: self.wire })
    }
}

impl Recording<'_> {
    /// How many packets pass a display filter of tshark.
    pub fn count(&self, filter: &str) -> Result<usize> {
        Ok(self.tshark(&["-Y", filter])?.lines().count())
    }

    /// The values of a field in the packets that have it, such as `vxlan.vni`.
    pub fn values(&self, field: &str) -> Result<Vec<String>> {
        let text = self.tshark(&["-Y", field, "-T", "fields", "-e", field])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// An error that shows what tshark finds wrong in packets from this address; also when there are none.
    pub fn is_sound(&self, source: &str) -> Result<()> {
        let family = if source.contains(':') { "ipv6" } else { "ip" };
        let from = format!("{family}.src == {source}");
        ensure!(self.count(&from)? > 0, "nothing of {source} was recorded");
        let wrong =
            format!("{from} && (_ws.malformed || _ws.expert.severity >= 0x600000) && !({CONVERSATION})");
        if self.count(&wrong)? == 0 {
            return Ok(());
        }
        bail!("tshark finds fault with:\n{}", self.tshark(&["-Y", &wrong, "-V"])?)
    }

    fn tshark(&self, arguments: &[&str]) -> Result<String> {
        let preferences = PREFERENCES.iter().flat_map(|preference| ["-o", preference]);
        let options = ["tshark", "-n", "-r", FILE].into_iter().chain(NOISE).chain(preferences);
        let command: Vec<&str> = options.chain(arguments.iter().copied()).collect();
        self.wire.place().exec(&command)?.ok().context("tshark")
    }
}
