//! DHCP: gives the hosts of a network the IPv4 addresses that their ports are configured with (RFC 2131).
//!
//! There is no pool and no lease to remember: an address is a port's as long as the configuration says so. Whoever
//! asks is known by the port that it asks from, not by what it calls itself. A request is answered to its port, and
//! no other port sees it; those that came by a relay are not answered.

use std::net::{IpAddr, Ipv4Addr};

use super::egress::{self, Delivery};
use super::{Frame, L3, Layer3};
use crate::config::{DhcpSpec, Interface, Port};
use crate::packet::Packet;
use crate::pipeline::Context;
use crate::trace::step;
use crate::verdict::{DropReason, Verdict};
use crate::wire::dhcpv4::{CLIENT_PORT, Kind, Reply, Request, SERVER_PORT, option};
use crate::wire::{ethernet, ipv4, udp};
use crate::{MacAddr, Prefix};

/// Whether a frame is a datagram for the DHCP server of this interface, which has one.
#[inline]
pub(crate) fn is_for(interface: &Interface, frame: &Frame, packet: &[u8]) -> bool {
    if interface.dhcp.is_none() {
        return false;
    }
    let Layer3::Ipv4(header) = &frame.network else { return false };
    (header.destination.is_broadcast() || interface.has_v4(header.destination))
        && ports(header, frame.transport(packet)).is_some_and(|(_, to)| to == SERVER_PORT)
}

/// The UDP ports of a packet that is no fragment.
fn ports(header: &ipv4::Header, transport: &[u8]) -> Option<(u16, u16)> {
    if header.protocol != ipv4::UDP || header.is_fragment() {
        return None;
    }
    let header = udp::Header::parse(transport).ok()?;
    Some((header.source, header.destination))
}

/// Whether a packet is one that a client without an address sends.
pub(crate) fn is_from_nobody(header: &ipv4::Header, transport: &[u8]) -> bool {
    header.source.is_unspecified()
        && header.destination.is_broadcast()
        && ports(header, transport) == Some((CLIENT_PORT, SERVER_PORT))
}

/// Whether a packet, or its first fragment, is for a DHCP client: only servers send such.
pub(crate) fn is_servers(header: &ipv4::Header, transport: &[u8]) -> bool {
    header.protocol == ipv4::UDP
        && header.fragment_offset == 0
        && transport.get(2..4) == Some(&CLIENT_PORT.to_be_bytes())
}

/// Takes in a datagram for the server.
pub(crate) fn receive(
    cx: &mut Context,
    packet: &Packet,
    frame: &Frame,
    from: &Port,
    interface: &Interface,
) -> Result<Verdict, DropReason> {
    let (Some(spec), Layer3::Ipv4(header)) = (&interface.dhcp, &frame.network) else {
        return Err(DropReason::DhcpMalformed);
    };
    let request = check(packet, frame, header).inspect_err(|reason| {
        step!(cx, "dhcp", "{}", reason.description());
    })?;
    // Selecting and init-reboot name the address that they want; renewing and rebinding have it.
    let wanted = request.requested.unwrap_or(request.client);
    let Some(lease) = Lease::of(from, interface, frame.vlan, wanted) else {
        step!(cx, "dhcp", "port {} has no IPv4 address in a subnet with a gateway", from.name);
        return Err(DropReason::DhcpNoAddress);
    };
    let Some((kind, yours)) = decide(&request, &lease, wanted) else {
        step!(cx, "dhcp", "{:?}: no answer", request.kind);
        cx.counters.dhcp_declines.add(u64::from(request.kind == Kind::Decline));
        return Ok(Verdict::Answered);
    };
    step!(cx, "dhcp", "{:?}: {kind:?} of {yours}", request.kind);
    match kind {
        Kind::Offer => cx.counters.dhcp_offers.add(1),
        Kind::Refuse => cx.counters.dhcp_refusals.add(1),
        _ => cx.counters.dhcp_acknowledgements.add(1),
    }
    let reply = Reply { request, kind, yours, server: lease.gateway };
    let message = lease.emit(&reply, spec, from.mtu.min(interface.mtu));
    let delivery = Delivery { tag: frame.tag, ..Delivery::by(cx, interface, Some(from)) };
    send(cx, &reply, &message, interface.mac, &delivery);
    Ok(Verdict::Answered)
}

fn check<'a>(packet: &'a Packet, frame: &Frame, header: &ipv4::Header) -> Result<Request<'a>, DropReason> {
    let malformed = DropReason::DhcpMalformed;
    let ip = packet.frame().get(L3..L3 + header.header_length).ok_or(malformed)?;
    let datagram = frame.transport(packet.frame());
    let length = udp::Header::parse(datagram).map_err(|_| malformed)?.length;
    let datagram = &datagram[..length];
    let (source, destination) = (header.source.into(), header.destination.into());
    let summed = packet.offload.checksum.is_some()
        || packet.offload.verified
        || udp::checksum_is_valid(source, destination, datagram);
    if !summed || !ipv4::checksum_is_valid(ip) {
        return Err(malformed);
    }
    let request = Request::parse(&datagram[udp::HEADER_LENGTH..]).map_err(|_| malformed)?;
    // The answer goes to the port that asks: whose message a relay passes on, cannot be told.
    if !request.relay.is_unspecified() || request.mac.is_multicast() || request.mac.is_zero() {
        return Err(malformed);
    }
    Ok(request)
}

/// The address of a port, and what goes with it.
#[derive(Debug, Clone, Copy)]
struct Lease {
    address: Ipv4Addr,
    gateway: Ipv4Addr,
    subnet: Prefix,
}

impl Lease {
    /// The lease of a port: of several addresses the wanted one, or else the first.
    fn of(port: &Port, interface: &Interface, vlan: u16, wanted: Ipv4Addr) -> Option<Lease> {
        if port.vlans.own() != Some(vlan) {
            return None;
        }
        let leases = port.addresses.iter().filter_map(|address| {
            let IpAddr::V4(address) = *address else { return None };
            let (gateway, subnet) =
                interface.v4.iter().find(|(_, subnet)| subnet.contains(address.into()))?;
            Some(Lease { address, gateway: *gateway, subnet: *subnet })
        });
        leases.clone().find(|lease| lease.address == wanted).or_else(|| leases.clone().next())
    }

    /// The message with the options that the client wants.
    fn emit(&self, reply: &Reply, spec: &DhcpSpec, mtu: usize) -> Vec<u8> {
        let octets = |number: u32| number.to_be_bytes();
        let lease = u32::try_from(spec.lease.as_secs()).unwrap_or(u32::MAX);
        // RFC 2131 section 4.4.5: half of the time, and seven eighths.
        let times = [lease, lease / 2, (u64::from(lease) * 7 / 8) as u32].map(octets);
        let mask = octets(u32::MAX.checked_shl(32 - u32::from(self.subnet.length())).unwrap_or(0));
        let last = octets(self.address.to_bits() | !u32::from_be_bytes(mask));
        let gateway = self.gateway.octets();
        let dns: Vec<u8> = spec.dns.iter().flat_map(Ipv4Addr::octets).collect();
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
        let domain = spec.domain.as_deref().unwrap_or_default().as_bytes();
        let about: [(u8, &[u8]); 6] = [
            (option::SUBNET_MASK, &mask),
            (option::ROUTER, &gateway),
            (option::DNS, &dns),
            (option::DOMAIN, domain),
            (option::BROADCAST_ADDRESS, &last),
            (option::MTU, &mtu),
        ];
        let times = [
            (option::LEASE_TIME, &times[0][..]),
            (option::RENEWAL_TIME, &times[1]),
            (option::REBINDING_TIME, &times[2]),
        ];
        let leased = !reply.yours.is_unspecified();
        let id = reply.request.client_id.map(|id| (option::CLIENT_ID, id)); // RFC 6842
        let times = times.into_iter().filter(|_| leased);
        let wants = wanted(&about, reply.request.parameters).filter(|_| reply.kind != Kind::Refuse);
        reply.emit(id.into_iter().chain(times).chain(wants))
    }
}

/// Those of `options` that have a value and that the client asks for, in its order; all, if it does not say. The
/// mask comes first (RFC 2132 section 3.3), and comes always: without it the address is of no use.
fn wanted<'a>(
    options: &'a [(u8, &'a [u8]); 6],
    parameters: Option<&'a [u8]>,
) -> impl Iterator<Item = (u8, &'a [u8])> {
    let codes = parameters.unwrap_or(&ALL);
    let mut left: Vec<u8> = [option::SUBNET_MASK].iter().chain(codes).copied().collect();
    let mut seen = [false; 256];
    left.retain(|code| !std::mem::replace(&mut seen[usize::from(*code)], true));
    left.into_iter().filter_map(|wanted| {
        options.iter().find(|(code, value)| *code == wanted && !value.is_empty()).copied()
    })
}

const ALL: [u8; 6] = [
    option::SUBNET_MASK,
    option::ROUTER,
    option::DNS,
    option::DOMAIN,
    option::BROADCAST_ADDRESS,
    option::MTU,
];

/// What a request is answered with, and for which address (RFC 2131 sections 4.3.1 to 4.3.5). `None`: with nothing.
fn decide(request: &Request, lease: &Lease, wanted: Ipv4Addr) -> Option<(Kind, Ipv4Addr)> {
    match request.kind {
        Kind::Discover => Some((Kind::Offer, lease.address)),
        // It has an address, and wants to know the rest.
        Kind::Inform => Some((Kind::Acknowledge, Ipv4Addr::UNSPECIFIED)),
        Kind::Request => {
            if request.server.is_some_and(|server| server != lease.gateway) {
                return None; // It has chosen another server.
            }
            let is_own = wanted == lease.address;
            Some(if is_own { (Kind::Acknowledge, wanted) } else { (Kind::Refuse, Ipv4Addr::UNSPECIFIED) })
        }
        Kind::Decline | Kind::Release | Kind::Offer | Kind::Acknowledge | Kind::Refuse => None,
    }
}

/// Where an answer goes (RFC 2131 section 4.1): to the client's address if it has one, or to the one that it is
/// given, unless it cannot take that yet.
fn destination(reply: &Reply) -> (Ipv4Addr, MacAddr) {
    let request = &reply.request;
    let all = (Ipv4Addr::BROADCAST, MacAddr::BROADCAST);
    match reply.kind {
        Kind::Refuse => all,
        _ if !request.client.is_unspecified() => (request.client, request.mac),
        _ if request.broadcast || reply.yours.is_unspecified() => all,
        _ => (reply.yours, request.mac),
    }
}

fn send(cx: &mut Context, reply: &Reply, message: &[u8], mac: MacAddr, delivery: &Delivery) {
    let (address, to) = destination(reply);
    let length = udp::HEADER_LENGTH + message.len();
    let (origin, mut packet) = cx.output.take_for(L3 + ipv4::HEADER_LENGTH + length);
    packet.reset(L3 + ipv4::HEADER_LENGTH + length);
    let bytes = packet.frame_mut();
    ethernet::Header { destination: to, source: mac, ethertype: ethernet::IPV4 }.emit(bytes);
    let fields = ipv4::Header::atomic(ipv4::UDP, length, reply.server, address);
    fields.emit(&mut bytes[L3..]);
    let datagram = &mut bytes[L3 + ipv4::HEADER_LENGTH..];
    datagram[udp::HEADER_LENGTH..].copy_from_slice(message);
    let header = udp::Header { source: SERVER_PORT, destination: CLIENT_PORT, length };
    header.emit(reply.server.into(), address.into(), datagram);
    egress::spread(cx, &mut packet, origin, delivery);
    cx.output.put(origin, packet);
}
