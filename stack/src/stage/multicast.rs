//! Multicast: listens in on IGMP and MLD, and has groups go only to who wants them (RFC 4541).
//!
//! It has an effect on a VLAN while somebody asks hosts what they listen to, the stack itself if the network says so
//! and no router does; until hosts had the time to answer, and without a querier, groups are flooded.
//!
//! Decisions that RFC 4541 leaves open: groups that nobody wants go to routers' ports alone. Reports go to these alone,
//! too, so that hosts do not hear each other and hold theirs back; also on a network that does not listen in, where each
//! container that comes would wake all others with them. A message that breaks its protocol is dropped. Only
//! ports without a source check can have a router behind them. A query from 0.0.0.0, as switches send it that have no
//! address, tells of a router behind an uplink only: there it is another fabric that must hear of our listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::egress::{self, Delivery, Targets};
use super::{Frame, L3, Layer3, Rejection};
use crate::MacAddr;
use crate::batch::Origin;
use crate::config::{Network, Port, PortId};
use crate::packet::Packet;
use crate::pipeline::{Context, Timer};
use crate::table::group::{
    Family, Groups, Joined, LAST_MEMBER_INTERVAL, QUERY_INTERVAL, Question, RESPONSE_INTERVAL, ROBUSTNESS,
    after_leave,
};
use crate::trace::step;
use crate::verdict::{DropReason, Verdict};
use crate::wire::membership::{Message, Query, Record, RecordKind, Report};
use crate::wire::{Malformed, ethernet, icmpv6, igmp, ipv4, ipv6, mld};

/// Protocol number of PIM (RFC 7761 section 4.9), which multicast routers speak.
const PIM: u8 = 103;
/// First octet of a PIM hello: version 2, type 0.
const PIM_HELLO: u8 = 0x20;
const ALL_PIM_ROUTERS_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 13);
const ALL_PIM_ROUTERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x0d);

/// Sends a frame that is not for one known station to whoever shall have it.
pub(crate) fn flood(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    from: &Port,
) -> Result<Verdict, Rejection> {
    let groups = cx.config.networks[from.network].groups.as_deref();
    let Some(group) = group_of(frame) else {
        return egress::flood(cx, packet, origin, frame, from, Targets::All);
    };
    let Some(groups) = groups else {
        return match is_report(packet, frame) {
            true => to_routers(cx, packet, origin, frame, from, Targets::Routers),
            false => egress::flood(cx, packet, origin, frame, from, Targets::All),
        };
    };
    let content = listen(cx, groups, packet, frame, from)?;
    let report = content == Content::Report;
    let everybodys = content == Content::Query || !report && is_always_flooded(group);
    let Some(audience) = groups.audience(frame.vlan, group).filter(|_| !everybodys) else {
        return match report {
            true => to_routers(cx, packet, origin, frame, from, Targets::Routers),
            false => egress::flood(cx, packet, origin, frame, from, Targets::All),
        };
    };
    let members = if report { &[][..] } else { audience.members() };
    let targets = Targets::Listeners { members, routers: audience.routers() };
    step!(
        cx,
        "multicast",
        "{group}: {} with a listener, {} with a router",
        members.len(),
        audience.routers().len()
    );
    match report {
        true => to_routers(cx, packet, origin, frame, from, targets),
        false => egress::flood(cx, packet, origin, frame, from, targets),
    }
}

/// Sends a report to those who may have a use for it. Where nobody does, the stack itself has taken it in.
fn to_routers(
    cx: &mut Context,
    packet: &mut Packet,
    origin: Origin,
    frame: &Frame,
    from: &Port,
    targets: Targets,
) -> Result<Verdict, Rejection> {
    match egress::flood(cx, packet, origin, frame, from, targets) {
        Err(rejection) if rejection.reason == DropReason::NoMember => Ok(Verdict::Answered),
        result => result,
    }
}

/// Whether a packet says what its sender listens to.
fn is_report(packet: &Packet, frame: &Frame) -> bool {
    let kind = || frame.transport(packet.frame()).first().copied();
    match &frame.network {
        Layer3::Ipv4(ip) => {
            ip.protocol == igmp::PROTOCOL && !ip.is_fragment() && kind().is_some_and(igmp::is_report)
        }
        Layer3::Ipv6(ip) => ip.protocol == ipv6::ICMPV6 && !ip.fragment && kind().is_some_and(mld::is_report),
        Layer3::Arp(_) | Layer3::Other => false,
    }
}

/// The group that an IP packet is for.
fn group_of(frame: &Frame) -> Option<IpAddr> {
    let destination = match &frame.network {
        Layer3::Ipv4(ip) => IpAddr::V4(ip.destination),
        Layer3::Ipv6(ip) => IpAddr::V6(ip.destination),
        Layer3::Arp(_) | Layer3::Other => return None,
    };
    (destination.is_multicast() && frame.ethernet.destination.is_multicast()).then_some(destination)
}

/// Groups that hosts do not report: the local network control block (RFC 4541 section 2.1.2 (2)), all nodes (section
/// 3), and what does not leave a host at all.
fn is_always_flooded(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
        IpAddr::V6(group) => group == mld::ALL_NODES || group.octets()[1] & 0x0f <= 1,
    }
}

/// What a frame to a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Query,
    Report,
    Other,
}

/// Notes what a frame says about listeners and routers.
fn listen(
    cx: &mut Context,
    groups: &Groups,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
) -> Result<Content, DropReason> {
    let malformed = |cx: &mut Context, malformed: Malformed| {
        step!(cx, "multicast", "{malformed}");
        DropReason::MembershipMalformed
    };
    let message = match &frame.network {
        Layer3::Ipv4(ip) => read_v4(packet, frame, ip),
        Layer3::Ipv6(ip) => read_v6(packet, frame, ip),
        Layer3::Arp(_) | Layer3::Other => Ok(None),
    };
    let Some((source, message)) = message.map_err(|error| malformed(cx, error))? else {
        if !cx.dry_run && !from.source_check && is_routers(packet, frame) {
            let family = if matches!(frame.network, Layer3::Ipv4(_)) { Family::V4 } else { Family::V6 };
            groups.router(cx.now, frame.vlan, family, from.id);
        }
        return Ok(Content::Other);
    };
    match message {
        Message::Query(query) => {
            if !cx.dry_run {
                hear_query(cx, groups, frame, from, source, &query);
            }
            Ok(Content::Query)
        }
        Message::Report(report) => {
            if !cx.dry_run {
                hear_report(cx, groups, frame, from, report);
            }
            Ok(Content::Report)
        }
    }
}

/// What may be looked into, and who sent it.
type Heard<'a> = Option<(IpAddr, Message<'a>)>;

fn read_v4<'a>(packet: &'a Packet, frame: &Frame, ip: &ipv4::Header) -> Result<Heard<'a>, Malformed> {
    if ip.protocol != igmp::PROTOCOL || ip.is_fragment() {
        return Ok(None);
    }
    let message = frame.transport(packet.frame());
    let known = message.first().is_some_and(|kind| *kind == igmp::QUERY || igmp::is_report(*kind));
    if !known {
        return Ok(None);
    }
    if ip.ttl != 1 {
        return Err(Malformed("an IGMP message with a TTL other than 1"));
    }
    if !ipv4::checksum_is_valid(&packet.frame()[L3..L3 + ip.header_length]) {
        return Err(Malformed("an IGMP message in a packet with a wrong checksum"));
    }
    Ok(igmp::parse(message)?.map(|message| (ip.source.into(), message)))
}

fn read_v6<'a>(packet: &'a Packet, frame: &Frame, ip: &ipv6::Header) -> Result<Heard<'a>, Malformed> {
    if ip.protocol != ipv6::ICMPV6 || ip.fragment {
        return Ok(None);
    }
    let message = frame.transport(packet.frame());
    let Some(parsed) = mld::parse(message)? else { return Ok(None) };
    if ip.hop_limit != 1 {
        return Err(Malformed("an MLD message with a hop limit other than 1"));
    }
    // A report may come from :: while its sender has no address yet (RFC 3590).
    let report = matches!(parsed, Message::Report(_));
    if !(ip.source.is_unicast_link_local() || report && ip.source.is_unspecified()) {
        return Err(Malformed("an MLD message whose source is not link-local"));
    }
    if packet.offload.checksum.is_none() && !packet.offload.verified {
        icmpv6::check(ip.source, ip.destination, message)?;
    }
    Ok(Some((ip.source.into(), parsed)))
}

/// Whether only a multicast router says this: a PIM hello, or an advertisement of RFC 4286.
fn is_routers(packet: &Packet, frame: &Frame) -> bool {
    let first = frame.transport(packet.frame()).first().copied();
    match &frame.network {
        Layer3::Ipv4(ip) => match ip.protocol {
            PIM => ip.destination == ALL_PIM_ROUTERS_V4 && first == Some(PIM_HELLO),
            igmp::PROTOCOL => ip.ttl == 1 && first == Some(igmp::ROUTER_ADVERTISEMENT),
            _ => false,
        },
        Layer3::Ipv6(ip) => match ip.protocol {
            PIM => ip.destination == ALL_PIM_ROUTERS_V6 && first == Some(PIM_HELLO),
            ipv6::ICMPV6 => ip.hop_limit == 1 && first == Some(mld::ROUTER_ADVERTISEMENT),
            _ => false,
        },
        Layer3::Arp(_) | Layer3::Other => false,
    }
}

fn hear_query(cx: &mut Context, groups: &Groups, frame: &Frame, from: &Port, source: IpAddr, query: &Query) {
    step!(cx, "multicast", "a query from {source}");
    let router = !source.is_unspecified() || from.uplink;
    groups.query(cx.now, frame.vlan, source, router.then_some(from.id), query);
}

fn hear_report(cx: &mut Context, groups: &Groups, frame: &Frame, from: &Port, report: Report) {
    cx.counters.group_reports.add(1);
    match report {
        Report::Join(group) => join(cx, groups, frame.vlan, group, from),
        Report::Leave(group) => leave(cx, groups, frame.vlan, group, from),
        Report::Records(records) => {
            for Record { kind, group, sources } in records.filter(|record| record.group.is_multicast()) {
                // Sources are merged: a group of which any source is wanted is wanted.
                match (kind, sources) {
                    (None | Some(RecordKind::Block), _)
                    | (Some(RecordKind::IsInclude | RecordKind::Allow), 0) => {}
                    (Some(RecordKind::ToInclude), 0) => leave(cx, groups, frame.vlan, group, from),
                    _ => join(cx, groups, frame.vlan, group, from),
                }
            }
        }
    }
}

fn join(cx: &mut Context, groups: &Groups, vlan: u16, group: IpAddr, from: &Port) {
    if is_always_flooded(group) {
        return;
    }
    step!(cx, "multicast", "port {} listens to {group}", from.name);
    if groups.join(cx.now, vlan, group, from.id) == Joined::Full {
        cx.counters.groups_full.add(1);
    }
}

fn leave(cx: &mut Context, groups: &Groups, vlan: u16, group: IpAddr, from: &Port) {
    step!(cx, "multicast", "somebody on port {} has left {group}", from.name);
    if !cx.state.limits.leaves.allow(cx.now) {
        // Who has left is found out by the next general question, then.
        cx.counters.leaves_limited.add(1);
        return;
    }
    let Some(question) = groups.leave(cx.now, vlan, group, from.id) else { return };
    ask(cx, from.network, &question);
    for wait in after_leave() {
        cx.state.set_timer(cx.now + wait, Timer::Membership);
    }
}

/// Does what is due: forgets who has not spoken up, and asks.
pub(crate) fn tick(cx: &mut Context) {
    for position in 0..cx.config.networks.len() {
        let network = &cx.config.networks[position];
        let Some(groups) = network.groups.as_deref() else { continue };
        let config = cx.config;
        let asks_as = |vlan: u16, family: Family| {
            network.querier.then(|| match family {
                Family::V4 => {
                    let interface = config.interface(position, vlan);
                    let own = interface.and_then(|interface| interface.v4.first()).map(|(own, _)| *own);
                    IpAddr::V4(own.unwrap_or(Ipv4Addr::UNSPECIFIED))
                }
                Family::V6 => IpAddr::V6(network.gateway_mac.link_local()),
            })
        };
        for question in groups.tick(cx.now, &network.vlans, asks_as) {
            ask(cx, position, &question);
        }
    }
}

/// Whether [`tick`] has something to do.
pub(crate) fn is_needed(networks: &[Network]) -> bool {
    networks.iter().any(|network| network.groups.is_some())
}

fn ask(cx: &mut Context, position: usize, question: &Question) {
    let network = &cx.config.networks[position];
    let port = |id: PortId| cx.config.port(id).map(|port| &**port);
    let targets = match question.port.map(port) {
        None => Targets::All,
        Some(Some(port)) => Targets::One(port),
        Some(None) => return,
    };
    let delivery = Delivery { targets, ..Delivery::on(network, question.vlan) };
    let wait = if question.group.is_some() { LAST_MEMBER_INTERVAL } else { RESPONSE_INTERVAL };
    let (origin, mut packet) = cx.output.take();
    let (destination, ethertype) = match (question.source, question.group) {
        (IpAddr::V4(source), group) => {
            packet.reset(L3 + igmp::QUERY_PACKET);
            let group = if let Some(IpAddr::V4(group)) = group { group } else { Ipv4Addr::UNSPECIFIED };
            let bytes = &mut packet.frame_mut()[L3..];
            igmp::emit_query(source, group, wait, ROBUSTNESS, QUERY_INTERVAL, bytes);
            let to = if group.is_unspecified() { igmp::ALL_SYSTEMS } else { group };
            (MacAddr::ipv4_multicast(to), ethernet::IPV4)
        }
        (IpAddr::V6(source), group) => {
            packet.reset(L3 + mld::QUERY_PACKET);
            let group = if let Some(IpAddr::V6(group)) = group { group } else { Ipv6Addr::UNSPECIFIED };
            let bytes = &mut packet.frame_mut()[L3..];
            mld::emit_query(source, group, wait, ROBUSTNESS, QUERY_INTERVAL, bytes);
            let to = if group.is_unspecified() { mld::ALL_NODES } else { group };
            (MacAddr::ipv6_multicast(to), ethernet::IPV6)
        }
    };
    ethernet::Header { destination, source: network.gateway_mac, ethertype }.emit(packet.frame_mut());
    cx.counters.group_queries.add(1);
    egress::spread(cx, &mut packet, origin, &delivery);
    cx.output.put(origin, packet);
}
