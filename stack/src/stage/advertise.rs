//! Advertise: tells IPv6 hosts of the router, of their link's prefixes and MTU, and of name servers (router
//! advertisements, RFC 4861 section 6.2; RFC 4862 section 5.5; RFC 8106).
//!
//! One moment says when a gateway's next advertisement to all is due. Every such advertisement draws the next moment,
//! a solicitation may bring it forward, and whichever worker set the timer that comes then sends it. What other
//! routers on the link advertise is not compared (section 6.2.7).

use std::net::Ipv6Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::egress::{self, Delivery};
use super::{Frame, L3, Layer3};
use crate::config::{AdvertisementSpec, Config, Interface, Port, PortId};
use crate::packet::Packet;
use crate::pipeline::{Context, State, Timer};
use crate::time::Instant;
use crate::trace::step;
use crate::verdict::DropReason;
use crate::wire::router_advertisement::{self, Advertisement, PrefixInformation};
use crate::wire::{ethernet, icmpv6, ipv6};
use crate::{MacAddr, Prefix, jitter};

/// Most and least time between two advertisements that nobody asked for (RFC 4861 section 6.2.1).
const MOST: Duration = Duration::from_secs(600);
const LEAST_MOST: Duration = Duration::from_secs(4);
const LEAST: Duration = Duration::from_secs(3);
/// The first ones follow each other more quickly (section 10, MAX_INITIAL_RTR_ADVERT_INTERVAL and _ADVERTISEMENTS).
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
const INITIAL: u8 = 3;
/// Least time between two advertisements to all (MIN_DELAY_BETWEEN_RAS).
const BETWEEN: Duration = Duration::from_secs(3);
/// Longest wait before an answer (MAX_RA_DELAY_TIME).
const ANSWER_DELAY: Duration = Duration::from_millis(500);

const HOP_LIMIT: u8 = 255;
/// What hosts set in their packets (section 6.2.1, AdvCurHopLimit).
const HOSTS_HOP_LIMIT: u8 = 64;
/// Seconds that a prefix holds, and that addresses in it are preferred (AdvValidLifetime, AdvPreferredLifetime).
const VALID: u32 = 30 * 86_400;
const PREFERRED: u32 = 7 * 86_400;
/// Seconds that name servers hold: three times the longest interval (RFC 8106 section 5.1).
const DNS_LIFETIME: u32 = 1800;

/// When a gateway advertises.
#[derive(Debug, Default)]
pub(crate) struct Schedule(Mutex<Moments>);

#[derive(Debug, Default)]
struct Moments {
    /// When the next advertisement to all is due.
    due: Option<Instant>,
    /// When the last one was sent.
    last: Option<Instant>,
    /// How many were sent since something changed.
    sent: u8,
    /// Prefixes that the link no longer has, which hosts are told a few times.
    gone: Vec<Prefix>,
}

impl Schedule {
    fn lock(&self) -> MutexGuard<'_, Moments> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A gateway that no longer advertises: hosts shall not use it any more (RFC 4861 section 6.2.5).
#[derive(Debug)]
pub(crate) struct Farewell {
    network: std::sync::Arc<str>,
    vlan: u16,
    mac: MacAddr,
    link_local: Ipv6Addr,
    gone: Vec<Prefix>,
}

/// Has gateways begin to advertise which did not in `previous`, tell again what they tell now otherwise, and say
/// farewell.
pub(crate) fn begin(config: &Config, previous: &Config, state: &mut State) {
    let at_once = Instant::default();
    for interface in config.interfaces.iter().filter(|interface| is_advertising(interface)) {
        let before = previous.interface_by_id(interface.id).filter(|before| is_advertising(before));
        if before.is_some_and(|before| told_by(before) == told_by(interface)) {
            continue;
        }
        let mut moments = interface.schedule.lock();
        let lost = before.iter().flat_map(|before| &before.on_link).copied();
        moments.gone.extend(lost);
        moments.gone.retain(|prefix| !interface.on_link.contains(prefix));
        (moments.due, moments.sent) = (Some(at_once), 0);
        state.set_timer(at_once, Timer::Advertise { interface: interface.id });
    }
    // An interface with another table is another one, and yet the same router to its hosts.
    let goes_on = |before: &Interface| {
        let name = &previous.networks[before.network].name;
        config.interface_by_id(before.id).is_some_and(is_advertising)
            || config.interfaces.iter().filter(|now| is_advertising(now)).any(|now| {
                let same_link = now.vlan == before.vlan && config.networks[now.network].name == *name;
                same_link && now.link_local == before.link_local
            })
    };
    let silenced = |before: &&Interface| is_advertising(before) && !goes_on(before);
    for before in previous.interfaces.iter().filter(silenced) {
        before.schedule.lock().due = None;
        state.farewells.push(Farewell {
            network: previous.networks[before.network].name.clone(),
            vlan: before.vlan,
            mac: before.mac,
            link_local: before.link_local,
            gone: before.on_link.clone(),
        });
        state.set_timer(at_once, Timer::Farewell);
    }
}

/// A gateway without an IPv6 address has nothing to advertise.
fn is_advertising(interface: &Interface) -> bool {
    interface.advertisements.is_some() && !interface.v6.is_empty()
}

/// All that an advertisement depends on.
fn told_by(interface: &Interface) -> (&Option<AdvertisementSpec>, MacAddr, usize, &[Prefix]) {
    (&interface.advertisements, interface.mac, interface.mtu, &interface.on_link)
}

/// Takes in a router solicitation that the gateway received or overheard. False: the frame is none, or the gateway
/// does not advertise.
pub(crate) fn receive(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    interface: &Interface,
) -> Result<bool, DropReason> {
    let Layer3::Ipv6(header) = &frame.network else { return Ok(false) };
    let message = frame.transport(packet.frame());
    let solicits = header.protocol == ipv6::ICMPV6
        && !header.fragment
        && message.first() == Some(&icmpv6::ROUTER_SOLICITATION);
    if !solicits || !is_advertising(interface) {
        return Ok(false);
    }
    check(packet, header, message)?;
    step!(cx, "neighbor", "a router solicitation: answered within {ANSWER_DELAY:?}");
    if cx.dry_run {
        return Ok(true);
    }
    let at = cx.now + jitter::between((interface.mac, cx.now), Duration::ZERO, ANSWER_DELAY);
    // An answer to the asker alone keeps it from the others; when many ask, one to all is less (section 6.2.6).
    if !header.source.is_unspecified() && cx.state.limits.advertisements.allow(cx.now) {
        let asker = (header.source, frame.ethernet.source, from.id);
        cx.state.set_timer(at, Timer::AdvertiseTo { interface: interface.id, asker });
    } else {
        bring_forward(cx, interface, at);
    }
    Ok(true)
}

/// The checks of RFC 4861 section 6.1.1.
fn check(packet: &Packet, header: &ipv6::Header, message: &[u8]) -> Result<(), DropReason> {
    let malformed = DropReason::NdMalformed;
    if header.hop_limit != HOP_LIMIT || message.get(1) != Some(&0) {
        return Err(malformed);
    }
    if packet.offload.checksum.is_none() {
        icmpv6::check(header.source, header.destination, message).map_err(|_| malformed)?;
    }
    let link_layer = router_advertisement::parse_solicitation(message).map_err(|_| malformed)?;
    if header.source.is_unspecified() && link_layer.is_some() { Err(malformed) } else { Ok(()) }
}

/// Has the next advertisement to all go out at `at`, or as soon after it as one may, unless it is due before.
fn bring_forward(cx: &mut Context, interface: &Interface, at: Instant) {
    let mut moments = interface.schedule.lock();
    let at = moments.last.map_or(at, |last| at.max(last + BETWEEN));
    if moments.due.is_none_or(|due| at < due) {
        moments.due = Some(at);
        cx.state.set_timer(at, Timer::Advertise { interface: interface.id });
    }
}

/// An advertisement to all may be due.
pub(crate) fn expire(cx: &mut Context, interface: &Interface) {
    let Some(spec) = interface.advertisements.as_ref().filter(|_| is_advertising(interface)) else { return };
    let mut moments = interface.schedule.lock();
    let Some(due) = moments.due.filter(|due| *due <= cx.now) else { return };
    let earliest = moments.last.map_or(due, |last| last + BETWEEN);
    let sends = earliest <= cx.now;
    let next = if sends {
        moments.last = Some(cx.now);
        moments.sent = moments.sent.saturating_add(1);
        cx.now + pause(spec, (interface.mac, cx.now), moments.sent)
    } else {
        earliest
    };
    moments.due = Some(next);
    let gone = moments.gone.clone();
    if moments.sent >= INITIAL {
        moments.gone.clear();
    }
    drop(moments);
    cx.state.set_timer(next, Timer::Advertise { interface: interface.id });
    if sends {
        let delivery = Delivery::by(cx, interface, None);
        let advertisement = describe(interface, spec, &gone);
        let all = (ipv6::ALL_NODES, MacAddr::ipv6_multicast(ipv6::ALL_NODES));
        send(cx, &advertisement, interface.link_local, all, &delivery);
    }
}

/// Time until the next advertisement to all, after `sent` of them.
fn pause(spec: &AdvertisementSpec, seed: (MacAddr, Instant), sent: u8) -> Duration {
    // The router must be heard before hosts give it up (section 6.2.1, AdvDefaultLifetime).
    let lifetime = Duration::from_secs(spec.router_lifetime.into());
    let most = if lifetime.is_zero() { MOST } else { (lifetime / 3).clamp(LEAST_MOST, MOST) };
    let least = (most / 3).max(LEAST);
    let drawn = jitter::between(seed, least, most);
    if sent < INITIAL { drawn.min(INITIAL_INTERVAL) } else { drawn }
}

/// It is time to answer one host.
pub(crate) fn answer(cx: &mut Context, interface: &Interface, asker: (Ipv6Addr, MacAddr, PortId)) {
    let (address, mac, port) = asker;
    let Some(spec) = interface.advertisements.as_ref().filter(|_| is_advertising(interface)) else { return };
    let Some(port) = cx.config.port(port).filter(|port| port.network == interface.network) else { return };
    let gone = interface.schedule.lock().gone.clone();
    let delivery = Delivery::by(cx, interface, Some(port));
    send(cx, &describe(interface, spec, &gone), interface.link_local, (address, mac), &delivery);
}

/// Says farewell for gateways that no longer advertise.
pub(crate) fn say_farewell(cx: &mut Context) {
    for farewell in std::mem::take(&mut cx.state.farewells) {
        let Some(network) = cx.config.networks.iter().find(|network| network.name == farewell.network) else {
            continue;
        };
        let delivery = Delivery::on(network, farewell.vlan);
        let advertisement = Advertisement {
            link_layer: Some(farewell.mac),
            prefixes: farewell.gone.into_iter().map(withdrawn).collect(),
            ..Advertisement::default()
        };
        let all = (ipv6::ALL_NODES, MacAddr::ipv6_multicast(ipv6::ALL_NODES));
        send(cx, &advertisement, farewell.link_local, all, &delivery);
    }
}

/// What a gateway tells.
fn describe(interface: &Interface, spec: &AdvertisementSpec, gone: &[Prefix]) -> Advertisement {
    let prefixes = interface.on_link.iter().map(|prefix| PrefixInformation {
        prefix: *prefix,
        on_link: true,
        // Hosts make addresses of 64 bits of their own (RFC 4862 section 5.5.3 d).
        autonomous: spec.autonomous && prefix.length() == 64,
        valid: VALID,
        preferred: PREFERRED,
    });
    Advertisement {
        hop_limit: HOSTS_HOP_LIMIT,
        router_lifetime: spec.router_lifetime,
        link_layer: Some(interface.mac),
        mtu: Some(interface.mtu as u32),
        prefixes: prefixes.chain(gone.iter().copied().map(withdrawn)).collect(),
        dns: Some((DNS_LIFETIME, spec.dns.clone())),
        search: Some((DNS_LIFETIME, spec.search.clone())),
        ..Advertisement::default()
    }
}

/// A prefix that the link no longer has (RFC 4862 section 5.5.4): addresses in it are deprecated.
fn withdrawn(prefix: Prefix) -> PrefixInformation {
    PrefixInformation { prefix, on_link: true, autonomous: prefix.length() == 64, valid: 0, preferred: 0 }
}

fn send(
    cx: &mut Context,
    advertisement: &Advertisement,
    source: Ipv6Addr,
    (destination, mac): (Ipv6Addr, MacAddr),
    delivery: &Delivery,
) {
    // Everything that a link with the least MTU can carry (RFC 8200 section 5).
    let room = icmpv6::MAX_ERROR - ipv6::HEADER_LENGTH;
    let message = advertisement.emit(source, destination, room);
    let (origin, mut packet) = cx.output.take_for(L3 + ipv6::HEADER_LENGTH + message.len());
    packet.reset(L3 + ipv6::HEADER_LENGTH + message.len());
    let bytes = packet.frame_mut();
    let own = advertisement.link_layer.unwrap_or_default();
    ethernet::Header { destination: mac, source: own, ethertype: ethernet::IPV6 }.emit(bytes);
    let fields = ipv6::Fields {
        payload_length: message.len(),
        next_header: ipv6::ICMPV6,
        hop_limit: HOP_LIMIT,
        source,
        destination,
    };
    fields.emit(&mut bytes[L3..]);
    bytes[L3 + ipv6::HEADER_LENGTH..].copy_from_slice(&message);
    cx.counters.router_advertisements.add(1);
    egress::spread(cx, &mut packet, origin, delivery);
    cx.output.put(origin, packet);
}
