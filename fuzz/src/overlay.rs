//! The fabric's tunnels, one of each kind, and what their far ends send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use weft_stack::config::{
    Carrier, Encapsulation, FabricSpec, GreSpec, Joins, TunnelSpec, UNTAGGED, VxlanRemote, VxlanSpec,
    WireGuardPeer, WireGuardSpec,
};
use weft_stack::tunnel::Underlay;
use weft_stack::tunnel::wireguard::{PrivateKey, PublicKey};
use weft_stack::wire::{ethernet, gre, ipv4, udp, vxlan};
use weft_stack::{MacAddr, Prefix};

use crate::fabric;

/// Octets of the largest IP packet in every tunnel.
pub const MTU: u32 = 1400;

/// The UDP port of VXLAN, and the segment of the tunnel that sockets carry.
pub const VXLAN: u16 = 4789;
pub const VNI: u32 = 42;
/// The segment of the one that a router carries.
const INNER_VNI: u32 = 43;
/// The UDP port of WireGuard.
pub const WIREGUARD: u16 = 51820;
/// The key of the GRE tunnel that has one.
const KEY: u32 = 7;

/// The tunnels' names, by which a bit leaves them out.
const NAMES: [&str; 5] = ["vx", "gr", "gt", "wg", "in"];

/// Who sends to the node: the far ends of "vx", of "gr", of "gt" and of "wg", and strangers.
const SOURCES: [&str; 8] = [
    "192.0.2.2",
    "192.0.2.3",
    "2001:db8:ff::2",
    "192.0.2.4",
    "192.0.2.9",
    "2001:db8:ff::9",
    "0.0.0.0",
    "255.255.255.255",
];

/// Secret and public keys: the node's, the far end's.
static KEYS: LazyLock<[(PrivateKey, PublicKey); 2]> = LazyLock::new(|| {
    [1, 2].map(|seed| {
        let private = PrivateKey::new([seed; 32]);
        let public = private.public_key();
        (private, public)
    })
});

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| unreachable!("{error}"))
}

/// Who sends to the node, by number.
pub fn source(number: usize) -> IpAddr {
    parse(SOURCES[number % SOURCES.len()])
}

/// The node's address for those of another's family.
pub fn local(other: IpAddr) -> IpAddr {
    parse(if other.is_ipv4() { "192.0.2.1" } else { "2001:db8:ff::1" })
}

/// Whether some tunnel that is not `left_out` has a far end there.
pub fn knows(underlay: Underlay, source: IpAddr, left_out: u8) -> bool {
    let there = |tunnel: usize| left_out >> tunnel & 1 == 0;
    let number = SOURCES.iter().position(|known| parse::<IpAddr>(known) == source);
    match (underlay, number) {
        (Underlay::Udp(VXLAN), Some(0 | 1)) => there(0),
        (Underlay::Gre, Some(0)) => there(1),
        (Underlay::Gre, Some(2)) => there(2),
        _ => false,
    }
}

/// A station behind a far end of "vx" that the node is told of.
pub fn station() -> MacAddr {
    MacAddr::from_name("station", "far")
}

/// The fabric and its tunnels without those that `left_out` has a bit for.
pub fn spec(left_out: u8) -> FabricSpec {
    let tunnels = [vx(), gr(), gt(), wg(), carried()];
    let kept = tunnels.into_iter().enumerate().filter(|(number, _)| left_out >> number & 1 == 0);
    FabricSpec { tunnels: kept.map(|(_, tunnel)| tunnel).collect(), ..fabric::spec(0) }
}

fn tunnel(number: usize, joins: Joins, encapsulation: Encapsulation) -> TunnelSpec {
    let name = NAMES[number].into();
    TunnelSpec { name, joins, mtu: MTU, carrier: Carrier::Node, local: None, encapsulation }
}

fn on_network(network: &str, vlan: u16) -> Joins {
    Joins::Network { network: network.into(), vlan }
}

fn on_router(addresses: &[(&str, &str)], routes: &[&str]) -> Joins {
    Joins::Router {
        router: "core".into(),
        addresses: addresses.iter().map(|(own, prefix)| (parse(own), parse(prefix))).collect(),
        routes: routes.iter().map(|prefix| parse(prefix)).collect(),
    }
}

fn vx() -> TunnelSpec {
    let remote = |number: usize, macs| VxlanRemote { address: source(number), macs };
    let remotes = vec![remote(0, vec![station()]), remote(1, Vec::new())];
    let means = VxlanSpec { vni: VNI, port: VXLAN, remotes, suppress_neighbors: true };
    tunnel(0, on_network("a", UNTAGGED), Encapsulation::Vxlan(means))
}

fn gr() -> TunnelSpec {
    let joins = on_router(
        &[("198.18.41.1", "198.18.41.0/30"), ("2001:db8:41::1", "2001:db8:41::/64")],
        &["198.18.20.0/24", "2001:db8:20::/48"],
    );
    let means = GreSpec { remote: source(0), key: Some(KEY), checksum: true, sequence: true };
    tunnel(1, joins, Encapsulation::Gre(means))
}

fn gt() -> TunnelSpec {
    let means = GreSpec { remote: source(2), key: None, checksum: false, sequence: false };
    tunnel(2, on_network("c", 7), Encapsulation::Gre(means))
}

fn wg() -> TunnelSpec {
    let joins = on_router(&[("198.18.40.1", "198.18.40.0/24")], &[]);
    let peer = peer(1, SocketAddr::new(source(3), WIREGUARD), &["198.18.30.0/24", "2001:db8:30::/48"]);
    tunnel(3, joins, Encapsulation::WireGuard(ward(0, peer)))
}

/// The one that the router carries, through "wg".
fn carried() -> TunnelSpec {
    let remotes = vec![VxlanRemote { address: parse("198.18.30.2"), macs: Vec::new() }];
    let means = VxlanSpec { vni: INNER_VNI, port: VXLAN, remotes, suppress_neighbors: false };
    TunnelSpec {
        carrier: Carrier::Router("core".into()),
        local: Some(parse("198.18.40.1")),
        mtu: 1300,
        ..tunnel(4, on_network("b", UNTAGGED), Encapsulation::Vxlan(means))
    }
}

fn peer(end: usize, endpoint: SocketAddr, allowed: &[&str]) -> WireGuardPeer {
    WireGuardPeer {
        keys: vec![KEYS[end].1],
        preshared_key: None,
        endpoint: Some(endpoint),
        allowed: allowed.iter().map(|prefix| parse::<Prefix>(prefix)).collect(),
        keepalive: 0,
    }
}

fn ward(end: usize, peer: WireGuardPeer) -> WireGuardSpec {
    WireGuardSpec { listen_port: WIREGUARD, keys: vec![KEYS[end].0.clone()], peers: vec![peer] }
}

/// The far end of "wg". It sends as whoever it likes.
pub fn far_end() -> WireGuardSpec {
    let node = SocketAddr::new(local(source(3)), WIREGUARD);
    ward(1, peer(0, node, &["0.0.0.0/0", "::/0"]))
}

/// Whether the far end of "wg" may send this packet.
pub fn may_send(packet: &[u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet.get(12..15) == Some(&[198, 18, 30]),
        Some(6) => packet.get(8..14) == Some(&[0x20, 0x01, 0x0d, 0xb8, 0, 0x30]),
        _ => false,
    }
}

/// A frame as the far ends of "vx" send it.
pub fn in_vxlan(frame: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; vxlan::HEADER_LENGTH];
    vxlan::emit(VNI, &mut octets);
    [&octets, frame].concat()
}

/// A frame as the far end of "gr" (its packet), or that of "gt" (all of it) sends it.
pub fn in_gre(routed: bool, number: u32, frame: &[u8]) -> Vec<u8> {
    let packet = frame.get(ethernet::HEADER_LENGTH..).unwrap_or_default();
    let protocol = frame.get(12..14).map_or(0, |octets| u16::from_be_bytes([octets[0], octets[1]]));
    let (header, inside) = if routed {
        (gre::Header { checksum: true, key: Some(KEY), sequence: Some(number), protocol }, packet)
    } else {
        (gre::Header { checksum: false, key: None, sequence: None, protocol: gre::ETHERNET }, frame)
    };
    let mut octets = [&vec![0; header.length()], inside].concat();
    header.emit(&mut octets);
    octets
}

/// A frame as the far end of the tunnel that the router carries sends it: a packet.
pub fn in_carried_vxlan(frame: &[u8]) -> Vec<u8> {
    let (source, destination) = (Ipv4Addr::new(198, 18, 30, 2), Ipv4Addr::new(198, 18, 40, 1));
    let length = udp::HEADER_LENGTH + vxlan::HEADER_LENGTH + frame.len();
    let mut packet = vec![0; ipv4::HEADER_LENGTH + length];
    let (header, datagram) = packet.split_at_mut(ipv4::HEADER_LENGTH);
    let fields = ipv4::Header::atomic(ipv4::UDP, length, source, destination);
    fields.emit(header);
    let (_, inside) = datagram.split_at_mut(udp::HEADER_LENGTH);
    vxlan::emit(INNER_VNI, inside);
    inside[vxlan::HEADER_LENGTH..].copy_from_slice(frame);
    let ports = udp::Header { source: 50_000, destination: VXLAN, length };
    ports.emit(source.into(), destination.into(), datagram);
    packet
}
