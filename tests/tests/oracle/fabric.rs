//! The fabric of [`topology`](super::topology), as the stack is told of it.

use std::net::IpAddr;
use std::time::Duration;

use weft_stack::config::{
    BandwidthSpec, FabricSpec, Hop, MulticastSpec, NetworkSpec, Offloads, PolicyRule, PortSpec, PortVlans,
    RouteAction, RouteTable, RouterSpec, StaticRoute, StormLimits, SubnetSpec, UNTAGGED,
};
use weft_stack::{MacAddr, Prefix};
use weft_testkit::frame::Mac;

use super::packet::address;
use super::topology::{ASIDE, Net, ROUTES, TRUNK_VLANS, Way, Wire};

/// All of it. Sources are not checked: a kernel bridge does not do so either.
pub fn spec() -> FabricSpec {
    let route = |prefix: &str, way: Way| {
        let prefix: Prefix = address(prefix);
        StaticRoute { prefix, action: action(way, prefix.is_ipv4()) }
    };
    let by_f = ["0.0.0.0/0", "::/0"].map(|prefix| route(prefix, Way::Via(Wire::F)));
    let aside = |source: &str| PolicyRule {
        priority: 100,
        source: Some(address(source)),
        port: None,
        table: "aside".into(),
    };
    let core = RouterSpec {
        name: "core".into(),
        routes: ROUTES.map(|(prefix, way)| route(prefix, way)).into(),
        tables: vec![RouteTable { name: "aside".into(), routes: by_f.into() }],
        rules: ASIDE.map(aside).into(),
    };
    FabricSpec {
        tunnels: Vec::new(),
        routers: vec![core],
        networks: Net::ALL.into_iter().map(network).collect(),
        ports: Wire::ALL.into_iter().map(port).collect(),
    }
}

fn action(way: Way, v4: bool) -> RouteAction {
    match way {
        Way::Via(host) => {
            let address = if v4 { host.v4().into() } else { host.v6().into() };
            RouteAction::Via(vec![Hop { address, weight: 1 }])
        }
        Way::Blackhole => RouteAction::Blackhole,
        Way::Unreachable => RouteAction::Unreachable,
        Way::Prohibit => RouteAction::Prohibit,
    }
}

fn network(net: Net) -> NetworkSpec {
    let segment = net.segment();
    let subnet = |(first, length): (IpAddr, u8), gateway: IpAddr| SubnetSpec {
        prefix: address(&format!("{first}/{length}")),
        gateway: Some(gateway),
        vlan: UNTAGGED,
    };
    let (first4, length4) = segment.prefix4;
    let (first6, length6) = segment.prefix6;
    NetworkSpec {
        name: segment.name.into(),
        router: Some("core".into()),
        subnets: vec![
            subnet((first4.into(), length4), segment.gateway4.into()),
            subnet((first6.into(), length6), segment.gateway6.into()),
        ],
        mtu: segment.mtu,
        gateway_mac: mac(segment.gateway_mac),
        ageing: Duration::from_secs(300),
        max_macs: 4096,
        max_neighbors: 4096,
        static_macs: Vec::new(),
        static_neighbors: Default::default(),
        multicast: MulticastSpec { snooping: net == Net::Snooped, querier: false },
        advertisements: None,
        proxy_neighbors: false,
        dhcp: None,
    }
}

fn port(wire: Wire) -> PortSpec {
    let segment = wire.net().segment();
    PortSpec {
        name: wire.name().into(),
        network: segment.name.into(),
        mac: mac(wire.mac()),
        addresses: vec![wire.v4().into(), wire.v6().into()],
        vlans: vlans(wire.net()),
        mtu: segment.mtu,
        source_check: false,
        offloads: Offloads::default(),
        uplink: false,
        max_macs: None,
        isolated: wire.is_isolated(),
        storm: StormLimits::default(),
        mirror: None,
        watches: false,
        coalesce: false,
        replay: false,
        bandwidth: BandwidthSpec::default(),
    }
}

/// How the ports of a network treat tags.
fn vlans(net: Net) -> PortVlans {
    match net {
        Net::Front | Net::Back | Net::Link | Net::Apart | Net::Snooped => PortVlans::Access(UNTAGGED),
        Net::Tunnel => PortVlans::Tunnel(UNTAGGED),
        Net::Trunk => {
            PortVlans::Trunk { native: Some(UNTAGGED), allowed: Box::new(TRUNK_VLANS.into_iter().collect()) }
        }
    }
}

fn mac(octets: Mac) -> MacAddr {
    MacAddr(octets)
}
