//! The fabric that frames are thrown at: small, with a port of every kind.

use std::net::IpAddr;
use std::time::Duration;

use weft_stack::config::{
    AdvertisementSpec, BandwidthSpec, DhcpSpec, FabricSpec, Hop, MulticastSpec, NetworkSpec, Offloads,
    PortSpec, PortVlans, RouteAction, RouterSpec, StaticRoute, StormLimits, SubnetSpec, UNTAGGED,
};
use weft_stack::{MacAddr, Prefix};

/// What every device takes.
const ALL: Offloads = Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true };
/// What a device takes that can do nothing.
const NOTHING: Offloads = Offloads { checksum: false, tso4: false, tso6: false, tso_ecn: false, uso: false };

/// Bound of every FDB and neighbour table: small, so that it is reached.
pub const TABLE: usize = 8;

/// A port of the fabric, in short: name, network and host number there, and what is not usual about it.
struct Kind {
    name: &'static str,
    network: &'static str,
    host: u16,
    mtu: u32,
    vlans: Vlans,
    has_addresses: bool,
    source_check: bool,
    offloads: Offloads,
}

/// The VLANs of a port.
#[derive(Clone, Copy)]
enum Vlans {
    Access(u16),
    /// The native VLAN, and what is allowed beside it.
    Trunk(Option<u16>, &'static [u16]),
    Tunnel(u16),
}

const USUAL: Kind = Kind {
    name: "a1",
    network: "a",
    host: 10,
    mtu: 1500,
    vlans: Vlans::Access(UNTAGGED),
    has_addresses: true,
    source_check: true,
    offloads: ALL,
};

/// Networks `a` and `b` are on a router, `b` with its subnets on VLAN 9 as well; `c` is not.
const PORTS: &[Kind] = &[
    USUAL,
    Kind { name: "a2", host: 11, mtu: 1400, offloads: NOTHING, ..USUAL },
    Kind { name: "a3", host: 12, has_addresses: false, ..USUAL },
    Kind { name: "b1", network: "b", ..USUAL },
    Kind { name: "b2", network: "b", host: 11, mtu: 1280, source_check: false, ..USUAL },
    Kind { name: "b3", network: "b", host: 12, vlans: Vlans::Trunk(Some(UNTAGGED), &[7, 9]), ..USUAL },
    Kind { name: "b4", network: "b", host: 13, vlans: Vlans::Access(9), ..USUAL },
    Kind { name: "c1", network: "c", vlans: Vlans::Access(7), ..USUAL },
    Kind {
        name: "c2",
        network: "c",
        host: 11,
        vlans: Vlans::Trunk(None, &[7, 8]),
        offloads: NOTHING,
        ..USUAL
    },
    Kind { name: "c3", network: "c", host: 12, vlans: Vlans::Tunnel(7), source_check: false, ..USUAL },
    Kind { name: "c4", network: "c", host: 13, vlans: Vlans::Tunnel(7), ..USUAL },
];

/// The networks' names.
pub const NETWORKS: [&str; 3] = ["a", "b", "c"];

/// How many ports there are.
pub const COUNT: usize = PORTS.len();

/// The name of a port.
pub fn name(port: usize) -> &'static str {
    PORTS[port % COUNT].name
}

/// The MAC address of a port's device.
pub fn mac(port: usize) -> MacAddr {
    MacAddr::from_name("port", name(port))
}

/// The MAC address of the gateway on a port's network.
pub fn gateway_mac(port: usize) -> MacAddr {
    MacAddr::from_name("gateway", PORTS[port % COUNT].network)
}

/// The addresses of a port's device: IPv4, then IPv6.
pub fn addresses(port: usize) -> [IpAddr; 2] {
    let kind = &PORTS[port % COUNT];
    // The addresses of VLAN 9 are those of subnet 9.
    let (v4, v6) = subnets(if kind.name == "b4" { "i" } else { kind.network });
    [host(v4, kind.host), host(v6, kind.host)]
}

/// The fabric without the ports that `left_out` has a bit for.
pub fn spec(left_out: u16) -> FabricSpec {
    let kept = PORTS.iter().enumerate().filter(|(index, _)| left_out >> index & 1 == 0);
    let near = [addresses(3)[0], addresses(4)[0]];
    let routes = vec![
        route("203.0.113.0/24", RouteAction::Via(via(&near[..1]))),
        route("0.0.0.0/0", RouteAction::Via(via(&near))),
        route("2001:db8:ffff::/48", RouteAction::Via(via(&[addresses(3)[1]]))),
        route("203.0.113.16/28", RouteAction::Blackhole),
        route("203.0.113.32/28", RouteAction::Unreachable),
        route("2001:db8:fffe::/48", RouteAction::Prohibit),
    ];
    FabricSpec {
        tunnels: Vec::new(),
        routers: vec![RouterSpec { name: "core".into(), routes, ..RouterSpec::default() }],
        networks: NETWORKS.map(network).into(),
        ports: kept.map(|(index, kind)| port(index, kind)).collect(),
    }
}

fn route(prefix: &str, action: RouteAction) -> StaticRoute {
    StaticRoute { prefix: prefix.parse().unwrap_or_else(|error| unreachable!("{error}")), action }
}

fn via(addresses: &[IpAddr]) -> Vec<Hop> {
    addresses.iter().map(|address| Hop { address: *address, weight: 1 }).collect()
}

fn subnets(network: &str) -> (Prefix, Prefix) {
    let prefix = |text: String| text.parse().unwrap_or_else(|error| unreachable!("{error}"));
    let number = network.bytes().next().map_or(0, |letter| letter - b'a' + 1);
    (prefix(format!("198.18.{number}.0/24")), prefix(format!("2001:db8:{number}::/64")))
}

fn host(prefix: Prefix, number: u16) -> IpAddr {
    match prefix.address() {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits() + u32::from(number)).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() + u128::from(number)).into()),
    }
}

fn network(name: &str) -> NetworkSpec {
    let (v4, v6) = subnets(name);
    let subnet = |prefix: Prefix, vlan: u16| SubnetSpec { prefix, gateway: Some(host(prefix, 1)), vlan };
    let mut subnets = vec![subnet(v4, UNTAGGED), subnet(v6, UNTAGGED)];
    if name == "b" {
        let (v4, v6) = self::subnets("i");
        subnets.extend([subnet(v4, 9), subnet(v6, 9)]);
    }
    // The guests of one network expect to be told, and take everything to be on their link.
    let guests = name == "b";
    NetworkSpec {
        name: name.into(),
        router: (name != "c").then(|| "core".into()),
        subnets,
        mtu: 1500,
        gateway_mac: MacAddr::from_name("gateway", name),
        ageing: Duration::from_secs(300),
        max_macs: TABLE,
        max_neighbors: TABLE,
        static_macs: Vec::new(),
        static_neighbors: Default::default(),
        multicast: MulticastSpec::default(),
        advertisements: guests
            .then(|| AdvertisementSpec { router_lifetime: 1800, ..AdvertisementSpec::default() }),
        proxy_neighbors: guests,
        dhcp: guests.then(|| DhcpSpec { lease: Duration::from_secs(600), dns: Vec::new(), domain: None }),
    }
}

fn port(index: usize, kind: &Kind) -> PortSpec {
    PortSpec {
        name: kind.name.into(),
        network: kind.network.into(),
        mac: mac(index),
        addresses: if kind.has_addresses { addresses(index).into() } else { Vec::new() },
        vlans: match kind.vlans {
            Vlans::Access(vlan) => PortVlans::Access(vlan),
            Vlans::Trunk(native, allowed) => {
                PortVlans::Trunk { native, allowed: Box::new(allowed.iter().copied().collect()) }
            }
            Vlans::Tunnel(vlan) => PortVlans::Tunnel(vlan),
        },
        mtu: kind.mtu,
        source_check: kind.source_check,
        offloads: kind.offloads,
        uplink: false,
        max_macs: None,
        isolated: false,
        storm: StormLimits::default(),
        mirror: None,
        watches: false,
        coalesce: false,
        replay: false,
        bandwidth: BandwidthSpec::default(),
    }
}
