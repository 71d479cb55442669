//! What is tried towards one node, from a pod of this one and from this node itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::Mode;

use super::echo::{self, Heard, Silence};
use super::finding::{Attempt, Check, Finding};

/// A port that a node's kubelet listens on; where none does, the kernel says so. Either way the node was reached.
const KUBELET: u16 = 10250;
/// The smallest packet that the way must take at any rate: IPv6 wants it.
const SMALL: u32 = 1280;

/// What every try goes by.
#[derive(Debug, Clone)]
pub struct Terms {
    /// This node.
    pub from: String,
    /// What carries packets from node to node.
    pub mode: Mode,
    /// Octets of the largest packet of a pod.
    pub mtu: u32,
    /// How long one try may take.
    pub timeout: Duration,
}

/// A node that things are tried towards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub node: String,
    /// Its probe's addresses, of the families that this node's pods have.
    pub probes: Vec<IpAddr>,
    /// Its own addresses, of those families.
    pub addresses: Vec<IpAddr>,
    /// It is this node.
    pub own: bool,
}

impl Target {
    /// From a pod: to be run in the probe's namespace.
    pub async fn from_pod(self, terms: Terms) -> Vec<Finding> {
        let mut findings = Vec::new();
        // To oneself there is no way that could be wrong.
        for probe in self.probes.iter().filter(|_| !self.own) {
            let reached = self.pod_to_pod(&terms, *probe).await;
            let mtu = match reached.ok {
                true => self.mtu(&terms, *probe).await,
                false => self.no_mtu(&terms, *probe),
            };
            findings.extend([reached, mtu]);
        }
        for address in &self.addresses {
            findings.push(self.pod_to_node(&terms, *address).await);
        }
        findings
    }

    /// From the node: to be run outside of that namespace.
    pub async fn from_node(&self, terms: &Terms) -> Vec<Finding> {
        let mut findings = Vec::new();
        for probe in &self.probes {
            let attempt = Attempt::new(&terms.from, Check::NodeToPod, &self.node, Some(*probe));
            let heard = echo::ask_by_stream(SocketAddr::new(*probe, echo::PORT), terms.timeout).await;
            findings.push(attempt.end(heard.map(said).map_err(|why| {
                format!("TCP: {why}; see whether the node's routes lead to weft-node (ip route get {probe})")
            })));
        }
        findings
    }

    async fn pod_to_pod(&self, terms: &Terms, probe: IpAddr) -> Finding {
        let attempt = Attempt::new(&terms.from, Check::PodToPod, &self.node, Some(probe));
        let to = SocketAddr::new(probe, echo::PORT);
        let udp = echo::ask_by_datagram(to, echo::SHORTEST, terms.timeout).await;
        let tcp = match udp {
            Ok(_) => echo::ask_by_stream(to, terms.timeout).await,
            // One silence is enough to wait for.
            Err(_) => return attempt.end(Err(format!("UDP: {}; {}", reason(&udp), way(terms.mode)))),
        };
        attempt.end(match (udp, tcp) {
            (Ok(heard), Ok(_)) => Ok(said(heard)),
            (_, Err(why)) => {
                Err(format!("UDP works, TCP does not: {why}; see weft counters --drops on both nodes"))
            }
            (Err(why), _) => Err(why.to_string()),
        })
    }

    async fn mtu(&self, terms: &Terms, probe: IpAddr) -> Finding {
        let attempt = Attempt::new(&terms.from, Check::Mtu, &self.node, Some(probe));
        let Terms { mtu, timeout, .. } = *terms;
        let to = SocketAddr::new(probe, echo::PORT);
        let full = echo::ask_by_datagram(to, payload(mtu, probe), timeout).await;
        let Err(why) = full else {
            let more = echo::ask_by_datagram(to, payload(mtu + 1, probe), timeout / 4).await;
            return attempt.end(match more {
                Err(Silence::TooLarge) => Ok(format!("{mtu} octets pass")),
                _ => Err(format!(
                    "{mtu} octets pass, and {} are not refused: the pods' devices have a larger MTU; see weft get port -o wide",
                    mtu + 1
                )),
            });
        };
        let small = mtu > SMALL && echo::ask_by_datagram(to, payload(SMALL, probe), timeout).await.is_ok();
        let passes = if small { format!(", {SMALL} do") } else { String::new() };
        attempt.end(Err(format!(
            "{mtu} octets do not pass: {why}{passes}; the network between the nodes takes less than its devices say: \
             lower tunnel.mtu, or raise the MTU there"
        )))
    }

    fn no_mtu(&self, terms: &Terms, probe: IpAddr) -> Finding {
        let attempt = Attempt::new(&terms.from, Check::Mtu, &self.node, Some(probe));
        attempt.end(Err("not tried: small packets do not pass either".into()))
    }

    async fn pod_to_node(&self, terms: &Terms, address: IpAddr) -> Finding {
        let attempt = Attempt::new(&terms.from, Check::PodToNode, &self.node, Some(address));
        let heard = echo::connect(SocketAddr::new(address, KUBELET), terms.timeout).await;
        attempt.end(match heard {
            Ok(Heard::Answer) => Ok(format!("TCP port {KUBELET} is open")),
            Ok(Heard::Refusal) => Ok(format!("TCP port {KUBELET} is closed, and the node says so")),
            Err(why) => Err(format!(
                "TCP port {KUBELET}: {why}; see whether the node's firewall drops what pods send, and masquerade"
            )),
        })
    }
}

/// Octets of a UDP datagram's payload in an IP packet of so many.
fn payload(packet: u32, to: IpAddr) -> usize {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    packet.saturating_sub(headers) as usize
}

fn reason(silence: &Result<Heard, Silence>) -> String {
    silence.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

fn said(heard: Heard) -> String {
    match heard {
        Heard::Answer => String::new(),
        Heard::Refusal => "reached, but weft-agent does not answer there: see its log".into(),
    }
}

/// Where to look when nothing comes through.
fn way(mode: Mode) -> &'static str {
    match mode {
        Mode::Wireguard => {
            "see weft describe tunnel mesh (last handshake), and whether a firewall lets its UDP port pass between the nodes"
        }
        Mode::Vxlan => {
            "see weft describe tunnel mesh, and whether a firewall lets its UDP port pass between the nodes"
        }
        Mode::Routes => "see whether the nodes share a segment that takes the pods' addresses, and ip route",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_fills_the_packet_exactly() {
        assert_eq!(payload(1420, "192.0.2.1".parse().unwrap()) + 20 + 8, 1420);
        assert_eq!(payload(1420, "2001:db8::1".parse().unwrap()) + 40 + 8, 1420);
    }
}
