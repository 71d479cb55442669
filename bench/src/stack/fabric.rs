//! The fabric of a load: two networks on a router, a port for each host.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use weft_stack::config::{
    BandwidthSpec, FabricSpec, Hop, MulticastSpec, NetworkSpec, Offloads, PortSpec, PortVlans, RouteAction,
    RouterSpec, StaticRoute, StormLimits, SubnetSpec, UNTAGGED,
};
use weft_stack::{MacAddr, Prefix};

use super::load::{Frames, Load};

/// Where the sources are.
pub const NEAR: &str = "near";
/// Where the destinations of routed frames are, or the routers that lead there.
pub const FAR: &str = "far";

/// Static routes lead to the first of the hosts on the far network.
const NEXT_HOPS: usize = 16;

/// A container: a port of its own with one address of each family.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its port.
    pub name: String,
    /// The network that it is on.
    pub network: &'static str,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Host {
    fn new(network: &'static str, number: usize) -> Host {
        let name = format!("{network}-{number}");
        let (_, v4, v6) = gateway(network);
        Host {
            mac: MacAddr::from_name("port", &name),
            v4: Ipv4Addr::from_bits(v4.to_bits() + 1 + number as u32),
            v6: Ipv6Addr::from_bits(v6.to_bits() + 1 + number as u128),
            name,
            network,
        }
    }
}

/// A network's gateway: MAC address, and the first address of each of its subnets.
pub fn gateway(network: &str) -> (MacAddr, Ipv4Addr, Ipv6Addr) {
    let mac = MacAddr::from_name("gateway", network);
    if network == NEAR {
        (mac, Ipv4Addr::new(198, 18, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1))
    } else {
        (mac, Ipv4Addr::new(198, 19, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1))
    }
}

/// The hosts of a load.
#[derive(Debug)]
pub struct Hosts {
    /// They send.
    pub sources: Vec<Host>,
    /// They receive: on the same network if frames are bridged, else on the other one.
    pub sinks: Vec<Host>,
    /// What the flows are addressed to: the sinks, or addresses behind static routes.
    pub destinations: Vec<IpAddr>,
}

/// The hosts, and the description of their fabric.
pub fn build(load: &Load) -> (Hosts, FabricSpec) {
    let sources: Vec<_> = (0..load.sources).map(|number| Host::new(NEAR, number)).collect();
    let (network, first) = if load.frames.are_routed() { (FAR, 0) } else { (NEAR, load.sources) };
    let sinks = if load.routes.used { NEXT_HOPS } else { load.destinations };
    let sinks: Vec<_> = (first..first + sinks).map(|number| Host::new(network, number)).collect();
    let routes = static_routes(load, &sinks);
    let destinations = if load.routes.used {
        behind(&routes, load.destinations)
    } else {
        sinks.iter().map(|sink| address_of(sink, load.frames)).collect()
    };
    let spec = FabricSpec {
        tunnels: Vec::new(),
        routers: vec![RouterSpec { name: "router".into(), routes, ..RouterSpec::default() }],
        networks: vec![network_spec(NEAR), network_spec(FAR)],
        ports: sources.iter().chain(&sinks).map(port_spec).collect(),
    };
    (Hosts { sources, sinks, destinations }, spec)
}

fn address_of(host: &Host, frames: Frames) -> IpAddr {
    if frames == Frames::V6 { host.v6.into() } else { host.v4.into() }
}

fn network_spec(name: &str) -> NetworkSpec {
    let (mac, v4, v6) = gateway(name);
    let subnet = |address: IpAddr, length: u8| SubnetSpec {
        prefix: Prefix::containing(address, length).unwrap_or_else(|error| unreachable!("{error}")),
        gateway: Some(address),
        vlan: UNTAGGED,
    };
    NetworkSpec {
        name: name.into(),
        router: Some("router".into()),
        subnets: vec![subnet(v4.into(), 16), subnet(v6.into(), 64)],
        mtu: 1500,
        gateway_mac: mac,
        ageing: Duration::from_secs(300),
        max_macs: 4096,
        max_neighbors: 4096,
        static_macs: Vec::new(),
        static_neighbors: Default::default(),
        multicast: MulticastSpec::default(),
        advertisements: None,
        proxy_neighbors: false,
        dhcp: None,
    }
}

fn port_spec(host: &Host) -> PortSpec {
    PortSpec {
        name: host.name.clone(),
        network: host.network.into(),
        mac: host.mac,
        addresses: vec![host.v4.into(), host.v6.into()],
        vlans: PortVlans::default(),
        mtu: 1500,
        source_check: true,
        offloads: Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true },
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

/// Routes of a table like that of the Internet: more than half of them /24, few shorter than /16.
fn static_routes(load: &Load, sinks: &[Host]) -> Vec<StaticRoute> {
    let mut numbers = Numbers(1);
    let mut seen = HashSet::new();
    let mut routes = Vec::with_capacity(load.routes.count);
    while routes.len() < load.routes.count {
        let length = match numbers.below(100) {
            0..60 => 24,
            60..95 => 18 + numbers.below(6) as u8,
            _ => 14 + numbers.below(4) as u8,
        };
        let address = Ipv4Addr::from_bits(numbers.next() as u32);
        let Ok(prefix) = Prefix::containing(address.into(), length) else { continue };
        if !(1..127).contains(&address.octets()[0]) || !seen.insert(prefix) {
            continue;
        }
        let hop = sinks[routes.len() % sinks.len().min(NEXT_HOPS)].v4;
        let action = RouteAction::Via(vec![Hop { address: hop.into(), weight: 1 }]);
        routes.push(StaticRoute { prefix, action });
    }
    routes
}

/// An address in each of `count` of the routes.
fn behind(routes: &[StaticRoute], count: usize) -> Vec<IpAddr> {
    let mut numbers = Numbers(2);
    let mut address = || {
        let prefix = routes[numbers.below(routes.len())].prefix;
        let host_bits = u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
        match prefix.address() {
            IpAddr::V4(first) => {
                IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | numbers.next() as u32 & host_bits))
            }
            first @ IpAddr::V6(_) => first,
        }
    };
    (0..count).map(|_| address()).collect()
}

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next one below `bound`, which is above 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
