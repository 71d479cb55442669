//! Answers questions for neighbours behind a VXLAN tunnel in their place, so that questions to all need not go through
//! it (RFC 9161 section 3).
//!
//! What is known was heard from the far ends: ARP and neighbour discovery that came through. It counts while the MAC
//! address is known to be behind a far end. Probes for free addresses are not answered, since only their owner knows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{arp, discovery};
use crate::MacAddr;
use crate::config::{Network, Port};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::stage::bridge;
use crate::stage::egress::{Delivery, Targets};
use crate::stage::{Frame, Layer3};
use crate::time::Instant;
use crate::trace::step;
use crate::wire::arp::Operation;
use crate::wire::icmpv6::Neighbor;
use crate::wire::{icmpv6, ipv6};

/// Neighbours that are kept for one network; more are asked for as everywhere.
const MOST: usize = 16_384;

/// Least time between two searches of a full table for what is out of date.
const CLEAR_INTERVAL: Duration = Duration::from_secs(1);

/// The neighbours of one network that are behind tunnels, by VLAN and address. All workers share it.
#[derive(Debug, Default)]
pub(crate) struct FarNeighbors(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    known: HashMap<(u16, IpAddr), FarNeighbor, RandomState>,
    /// When those that are out of date were last looked for.
    cleared: Instant,
}

#[derive(Debug, Clone, Copy)]
struct FarNeighbor {
    mac: MacAddr,
    /// It says of itself that it is a router; `None`: it has not said.
    router: Option<bool>,
    heard: Instant,
}

impl FarNeighbors {
    fn hear(&self, now: Instant, ageing: Duration, key: (u16, IpAddr), heard: FarNeighbor) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.known.len() >= MOST && !table.known.contains_key(&key) {
            // Once a second at most, whatever comes.
            if now < table.cleared + CLEAR_INTERVAL {
                return;
            }
            table.cleared = now;
            table.known.retain(|_, known| now.since(known.heard) < ageing);
            if table.known.len() >= MOST {
                return;
            }
        }
        let entry = table.known.entry(key).or_insert(heard);
        *entry = FarNeighbor { router: heard.router.or(entry.router), ..heard };
    }

    fn get(&self, key: (u16, IpAddr)) -> Option<FarNeighbor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.get(&key).copied()
    }

    fn forget(&self, key: (u16, IpAddr)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.remove(&key);
    }
}

/// Notes what a frame that came through a tunnel says of neighbours.
#[inline(always)] // a comparison for most packets
pub(crate) fn learn(cx: &Context, packet: &Packet, frame: &Frame, from: &Port) {
    let network = &cx.config.networks[from.network];
    if network.far_neighbors.is_some() && !cx.dry_run {
        take_in(cx, network, packet, frame, from);
    }
}

fn take_in(cx: &Context, network: &Network, packet: &Packet, frame: &Frame, from: &Port) {
    let Some(known) = &network.far_neighbors else { return };
    let told = match &frame.network {
        Layer3::Arp(message) => Some((IpAddr::V4(message.sender), message.sender_mac, None)),
        Layer3::Ipv6(header) if is_discovery(packet, frame, header) => told(packet, frame, header),
        _ => None,
    };
    if let Some((address, mac, router)) = told
        && !address.is_unspecified()
        && !mac.is_multicast()
        && !mac.is_zero()
    {
        let key = (frame.vlan, address);
        // Whose address it is here is known better, and what is heard here holds.
        if from.far_end.is_none() || network.owners.contains_key(&address) {
            known.forget(key);
        } else {
            known.hear(cx.now, network.ageing, key, FarNeighbor { mac, router, heard: cx.now });
        }
    }
}

/// Whether it is a neighbour discovery message that came from this link (RFC 4861 section 7.1).
fn is_discovery(packet: &Packet, frame: &Frame, header: &ipv6::Header) -> bool {
    const HOP_LIMIT: u8 = 255;
    header.protocol == ipv6::ICMPV6
        && !header.fragment
        && header.hop_limit == HOP_LIMIT
        && icmpv6::check(header.source, header.destination, frame.transport(packet.frame())).is_ok()
}

fn told(packet: &Packet, frame: &Frame, header: &ipv6::Header) -> Option<(IpAddr, MacAddr, Option<bool>)> {
    let message = Neighbor::parse(frame.transport(packet.frame())).ok()?;
    let mac = message.link_layer?;
    Some(match message.solicitation {
        true => (header.source.into(), mac, None),
        false => (message.target.into(), mac, Some(message.router)),
    })
}

/// Answers a question to all in the place of a neighbour behind a tunnel. Whether it did.
pub(crate) fn answer(cx: &mut Context, packet: &Packet, frame: &Frame, from: &Port) -> bool {
    let config = cx.config;
    let network = &config.networks[from.network];
    if network.far_neighbors.is_none() || from.far_end.is_some() {
        return false;
    }
    let delivery =
        Delivery { tag: frame.tag, targets: Targets::One(from), ..Delivery::on(network, frame.vlan) };
    match &frame.network {
        Layer3::Arp(question) => {
            let asks = question.operation == Operation::Request
                && !question.sender.is_unspecified()
                && question.sender != question.target;
            let found = if asks { find(cx, network, frame.vlan, question.target.into()) } else { None };
            let Some(FarNeighbor { mac, .. }) = found else { return false };
            arp::answer_for(cx, question, mac, &delivery);
        }
        Layer3::Ipv6(header) if header.destination.is_multicast() && is_discovery(packet, frame, header) => {
            let Ok(question) = Neighbor::parse(frame.transport(packet.frame())) else { return false };
            let asks = question.solicitation && !header.source.is_unspecified();
            let found = if asks { find(cx, network, frame.vlan, question.target.into()) } else { None };
            let Some(FarNeighbor { mac, router: Some(router), .. }) = found else { return false };
            let asker = (header.source, frame.ethernet.source);
            discovery::answer_for(cx, question.target, (mac, router), asker, &delivery);
        }
        _ => return false,
    }
    step!(cx, "neighbor", "answered in the place of who is behind a tunnel");
    cx.counters.questions_suppressed.add(u64::from(!cx.dry_run));
    true
}

/// What is known of an address, if its MAC address is still behind a far end.
fn find(cx: &Context, network: &Network, vlan: u16, address: IpAddr) -> Option<FarNeighbor> {
    let known = network.far_neighbors.as_ref()?;
    let found = known.get((vlan, address))?;
    let fresh = cx.now.since(found.heard) < network.ageing;
    let there = bridge::find_on(cx, network, vlan, found.mac).is_some_and(|port| port.far_end.is_some());
    if !fresh || !there {
        known.forget((vlan, address));
        return None;
    }
    Some(found)
}
