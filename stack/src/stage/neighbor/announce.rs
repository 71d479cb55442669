//! Says unasked whose a gateway's addresses are: when the interface is new or its MAC address changed (RFC 5227
//! section 2.3 and 3, RFC 4861 section 7.2.6), and when somebody else claims one (RFC 5227 section 2.4).
//!
//! A gateway does not probe before it uses an address (RFC 5227 section 2.1, RFC 4862 section 5.4): it has it by
//! configuration, and nodes that share a network by uplinks have the same gateway on purpose.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{arp, discovery};
use crate::MacAddr;
use crate::config::{Config, Interface, Port};
use crate::packet::Packet;
use crate::pipeline::{Context, Timer};
use crate::stage::egress::Delivery;
use crate::stage::{Frame, Layer3};
use crate::time::Instant;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::{icmpv6, ipv6};

/// Announcements of an IPv6 address, [`INTERVAL`] apart (RFC 4861 section 10, MAX_NEIGHBOR_ADVERTISEMENT). Those of
/// an IPv4 address are every second one: two, two seconds apart (RFC 5227 section 1.1, ANNOUNCE_NUM).
pub(super) const ROUNDS: u8 = 3;
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two defences of one address (RFC 5227 section 1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// The interfaces that were not there in `previous`, or that had another MAC address or other addresses.
pub(crate) fn changed<'a>(config: &'a Config, previous: &'a Config) -> impl Iterator<Item = &'a Interface> {
    config.interfaces.iter().filter(|interface| interface.far.is_none()).filter(|interface| {
        previous.interface_by_id(interface.id).is_none_or(|before| {
            (before.mac, &before.v4, &before.v6) != (interface.mac, &interface.v4, &interface.v6)
        })
    })
}

/// Announces all addresses of an interface for the `round`th time, from 0, and sets the timer for the next.
pub(crate) fn announce(cx: &mut Context, interface: &Interface, round: u8) {
    let delivery = Delivery::by(cx, interface, None);
    if round.is_multiple_of(2) {
        for (address, _) in &interface.v4 {
            arp::announce(cx, interface.mac, *address, &delivery);
        }
    }
    for address in interface.all_v6() {
        discovery::announce(cx, interface.mac, true, address, &delivery);
    }
    if round + 1 < ROUNDS {
        let timer = Timer::Announce { interface: interface.id, round: round + 1 };
        cx.state.set_timer(cx.now + INTERVAL, timer);
    }
}

/// When which of a gateway's addresses was last defended.
#[derive(Debug, Default)]
pub(crate) struct Defences(Mutex<HashMap<IpAddr, Instant>>);

impl Defences {
    /// Whether it is time to defend `address`, one of the gateway's own, once more.
    fn allow(&self, now: Instant, address: IpAddr) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&address).is_some_and(|last| now.since(*last) < DEFEND_INTERVAL) {
            return false;
        }
        last.insert(address, now);
        true
    }
}

/// Refuses a message that claims one of the gateway's addresses for another MAC address, and says to all whose it is.
///
/// Also ports whose source is not checked may not do that: they may speak for others, and a gateway's addresses are
/// nobody else's by configuration. The gateway never gives one up (RFC 5227 section 2.4 c).
pub(crate) fn refuse_claims(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
) -> Result<(), DropReason> {
    let Some(interface) = cx.config.interface(from.network, frame.vlan) else { return Ok(()) };
    let Some((address, mac)) = claimed(packet, frame) else { return Ok(()) };
    if mac == interface.mac || !interface.speaks_from(address) {
        return Ok(());
    }
    step!(cx, "source", "{address} is the gateway's, not {mac}'s");
    cx.counters.address_conflicts.add(1);
    if !cx.dry_run && interface.defences.allow(cx.now, address) {
        let delivery = Delivery::by(cx, interface, None);
        match address {
            IpAddr::V4(address) => arp::announce(cx, interface.mac, address, &delivery),
            IpAddr::V6(address) => discovery::announce(cx, interface.mac, true, address, &delivery),
        }
    }
    Err(DropReason::GatewayAddressClaimed)
}

/// The address that an ARP or neighbour discovery message claims, and for whom.
fn claimed(packet: &Packet, frame: &Frame) -> Option<(IpAddr, MacAddr)> {
    match &frame.network {
        Layer3::Arp(message) => Some((message.sender.into(), message.sender_mac)),
        Layer3::Ipv6(header) if header.protocol == ipv6::ICMPV6 && header.fragment_offset == 0 => {
            let message = icmpv6::Neighbor::parse(frame.transport(packet.frame())).ok()?;
            let address = if message.solicitation { header.source } else { message.target };
            Some((address.into(), message.link_layer.unwrap_or(frame.ethernet.source)))
        }
        _ => None,
    }
}
