//! Loops between uplinks: two ports of one network that lead to the same segment would send each other's floods around
//! for ever.
//!
//! While a VLAN has two uplinks or more, each sends a probe every second. One that comes back shows a loop: of the port
//! that sent it and the one where it came in, the one with the higher id is blocked. A blocked port neither takes in
//! nor gets frames, but it goes on with probes: it is let go when none came back for [`RETRY`]. Storm control is the
//! second net, for the second that it takes. A probe is no secret: who can send one back on the segment can as well
//! send a storm. A trunk that allows many VLANs is probed on those that other ports of the network use.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use super::Frame;
use super::egress::{self, Delivery, Targets};
use crate::MacAddr;
use crate::config::{Config, Network, Port, PortId};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::time::Instant;
use crate::trace::step;
use crate::verdict::{DropReason, Verdict};
use crate::wire::probe::{self, Probe};

/// So long after the last probe that came back a port is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(10);
/// VLANs of a network that are probed each second, at most.
const MAX_VLANS: usize = 64;

/// Whether an uplink is blocked, shared by the workers.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    blocked: AtomicBool,
    /// When a probe showed the loop last, in nanoseconds.
    shown: AtomicU64,
}

impl Guard {
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Tells whether it was open before.
    fn block(&self, now: Instant) -> bool {
        self.shown.fetch_max(now.as_nanos(), Relaxed);
        !self.blocked.swap(true, Relaxed)
    }

    /// Lets the port go if the loop has gone.
    fn retry(&self, now: Instant) {
        let quiet = now.since(Instant::from_nanos(self.shown.load(Relaxed)));
        if quiet >= RETRY && self.is_blocked() {
            self.blocked.store(false, Relaxed);
        }
    }
}

/// Takes in a probe of this node; stops what else comes from a blocked port. `None`: the frame may go on.
pub(crate) fn receive(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
) -> Result<Option<Verdict>, DropReason> {
    // Only uplinks lead to other nodes: what a container sends on would cut them off.
    if frame.ethernet.destination == probe::GROUP && !from.uplink {
        return Err(DropReason::ProbeSpoofed);
    }
    let Some(guard) = &from.guard else { return Ok(None) };
    let probe = Probe::parse(packet.frame()).filter(|probe| probe.node == cx.config.node_key);
    if let Some(probe) = probe {
        step!(cx, "loops", "a probe of this node came back");
        if !cx.dry_run && probe.network == number(&cx.config.networks[from.network]) {
            show(cx, PortId::from_u32(probe.port), from);
        }
        return Ok(Some(Verdict::Answered));
    }
    if guard.is_blocked() { Err(DropReason::LoopBlocked) } else { Ok(None) }
}

/// A probe that `sender` sent came in at `from`.
fn show(cx: &mut Context, sender: PortId, from: &Port) {
    let Some(sender) = cx.config.port(sender) else { return };
    let higher = if sender.id > from.id { sender } else { from };
    let Some(guard) = &higher.guard else { return };
    if guard.block(cx.now) {
        cx.counters.loops_blocked.add(1);
        // What was heard behind it is on the other side, too.
        cx.config.networks[from.network].fdb.forget_port(higher.id);
    }
}

/// Sends the probes that are due each second, and opens ports again.
pub(crate) fn tick(cx: &mut Context) {
    for network in cx.config.networks.iter().filter(|network| network.uplinks.len() > 1) {
        for guard in uplinks(cx.config, network).filter_map(|port| port.guard.as_ref()) {
            guard.retry(cx.now);
        }
        let shared = network.vlans.iter().filter(|vlan| {
            uplinks(cx.config, network).filter(|port| port.vlans.carries(**vlan)).nth(1).is_some()
        });
        for vlan in shared.take(MAX_VLANS) {
            for port in uplinks(cx.config, network).filter(|port| port.vlans.carries(*vlan)) {
                send(cx, network, *vlan, port);
            }
        }
    }
}

/// Whether [`tick`] has something to do.
pub(crate) fn is_needed(networks: &[Network]) -> bool {
    networks.iter().any(|network| network.uplinks.len() > 1)
}

fn uplinks<'a>(config: &'a Config, network: &'a Network) -> impl Iterator<Item = &'a Port> {
    network.uplinks.iter().filter_map(|id| config.port(*id)).map(|port| &**port)
}

fn send(cx: &mut Context, network: &Network, vlan: u16, port: &Port) {
    let (origin, mut packet) = cx.output.take();
    packet.reset(probe::LENGTH);
    let probe = Probe { node: cx.config.node_key, network: number(network), port: port.id.to_u32() };
    // No two nodes' probes have one address, as switches on the way would see it move.
    let source = MacAddr::from_name("probe", &format!("{:x}/{}", cx.config.node_key, port.name));
    probe.emit(source, packet.frame_mut());
    let delivery = Delivery { targets: Targets::One(port), ..Delivery::on(network, vlan) };
    egress::spread(cx, &mut packet, origin, &delivery);
    cx.output.put(origin, packet);
}

/// A network as probes name it.
fn number(network: &Network) -> u64 {
    MacAddr::from_name("network", &network.name).to_u64()
}
