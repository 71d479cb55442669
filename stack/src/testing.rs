//! What the stack's own tests share: a small fabric, and frames.

use std::net::IpAddr;
use std::time::Duration;

use crate::MacAddr;
use crate::config::{
    BandwidthSpec, FabricSpec, MulticastSpec, NetworkSpec, Offloads, PortSpec, PortVlans, RouterSpec,
    StormLimits, SubnetSpec, UNTAGGED,
};
use crate::wire::{ethernet, ipv4};

/// A port's MAC address is made from its name, as the daemon does it.
pub fn mac(port: &str) -> MacAddr {
    MacAddr::from_name("port", port)
}

/// The gateway's MAC address on a network.
pub fn gateway_mac(network: &str) -> MacAddr {
    MacAddr::from_name("gateway", network)
}

fn network(name: &str, number: u8) -> NetworkSpec {
    let subnet = |prefix: String, gateway: String| SubnetSpec {
        prefix: prefix.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        vlan: UNTAGGED,
    };
    NetworkSpec {
        name: name.into(),
        router: Some("core".into()),
        subnets: vec![
            subnet(format!("198.18.{number}.0/24"), format!("198.18.{number}.1")),
            subnet(format!("2001:db8:{number}::/64"), format!("2001:db8:{number}::1")),
        ],
        mtu: 1500,
        gateway_mac: gateway_mac(name),
        ageing: Duration::from_secs(300),
        max_macs: 64,
        max_neighbors: 64,
        static_macs: Vec::new(),
        static_neighbors: Default::default(),
        multicast: MulticastSpec::default(),
        advertisements: None,
        proxy_neighbors: false,
        dhcp: None,
    }
}

/// A port with host number `host` on network `number`.
pub fn port(name: &str, on: &str, number: u8, host: u8) -> PortSpec {
    let addresses: [IpAddr; 2] = [
        format!("198.18.{number}.{host}").parse().unwrap(),
        format!("2001:db8:{number}::{host:x}").parse().unwrap(),
    ];
    PortSpec {
        name: name.into(),
        network: on.into(),
        mac: mac(name),
        addresses: addresses.into(),
        vlans: PortVlans::Access(UNTAGGED),
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

/// Networks `a` (198.18.1.0/24, 2001:db8:1::/64) and `b` (198.18.2.0/24, 2001:db8:2::/64) on router
/// `core`, gateways at .1; ports a1, a2, a3 at .10, .11, .12 and b1 at .10.
pub fn two_networks() -> FabricSpec {
    FabricSpec {
        tunnels: Vec::new(),
        routers: vec![RouterSpec { name: "core".into(), ..RouterSpec::default() }],
        networks: vec![network("a", 1), network("b", 2)],
        ports: vec![
            port("a1", "a", 1, 10),
            port("a2", "a", 1, 11),
            port("a3", "a", 1, 12),
            port("b1", "b", 2, 10),
        ],
    }
}

/// A TCP frame from a1 to a2 with this much payload, checksum not filled in.
pub fn tcp_frame(payload: usize) -> Vec<u8> {
    let mut frame = vec![0; 54 + payload];
    let header = ethernet::Header { destination: mac("a2"), source: mac("a1"), ethertype: ethernet::IPV4 };
    header.emit(&mut frame);
    let ip = ipv4::Header {
        header_length: 20,
        total_length: 40 + payload,
        tos: 0,
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 64,
        protocol: ipv4::TCP,
        source: [198, 18, 1, 10].into(),
        destination: [198, 18, 1, 11].into(),
    };
    ip.emit(&mut frame[14..]);
    frame[34..36].copy_from_slice(&40_000u16.to_be_bytes());
    frame[36..38].copy_from_slice(&80u16.to_be_bytes());
    frame[46] = 0x50;
    for (index, byte) in frame[54..].iter_mut().enumerate() {
        *byte = index as u8;
    }
    frame
}
