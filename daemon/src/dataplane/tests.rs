//! Two nodes with a container each, and a tunnel between them, in namespaces of their own. They need root.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;

use weft_host::link::{LinkChange, Netlink, VethSpec};
use weft_host::netns::{Entered, NetNs};
use weft_host::tap::Tap;
use weft_stack::MacAddr;
use weft_stack::config::{
    BandwidthSpec, Carrier, Encapsulation, GreSpec, Joins, MulticastSpec, NetworkSpec, Offloads, PortSpec,
    PortVlans, StormLimits, TunnelSpec, VxlanRemote, VxlanSpec,
};

use super::*;

const WORKERS: usize = 2;
const DEADLINE: Duration = Duration::from_secs(20);
const STREAM: usize = 4 << 20;

/// By node: addresses on the wire between them, and those of their containers.
const WIRE: [[&str; 2]; 2] = [["198.18.7.1", "2001:db8:7::1"], ["198.18.7.2", "2001:db8:7::2"]];
const INSIDE: [[&str; 2]; 2] = [["198.18.1.1", "2001:db8:1::1"], ["198.18.1.2", "2001:db8:1::2"]];

struct Node {
    own: NetNs,
    container: NetNs,
    dataplane: Dataplane,
    port: Arc<PortIo>,
    number: usize,
}

/// Two namespaces with a veth between them; the thread is in the first.
fn wired() -> (Entered, [NetNs; 2]) {
    let nodes = [NetNs::create_anonymous().unwrap(), NetNs::create_anonymous().unwrap()];
    let entered = nodes[0].enter().unwrap();
    Netlink::open()
        .unwrap()
        .add_veth(&VethSpec {
            name: "wire0",
            mac: None,
            peer_name: "wire0",
            peer_mac: None,
            peer_netns: &nodes[1],
            mtu: 1500,
            txqueuelen: 1000,
        })
        .unwrap();
    for (node, addresses) in nodes.iter().zip(WIRE) {
        bring_up(node, "wire0", &addresses, None);
    }
    (entered, nodes)
}

fn bring_up(there: &NetNs, device: &str, addresses: &[&str], mtu: Option<u32>) {
    let _entered = there.enter().unwrap();
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.link_by_name(device).unwrap().unwrap().index;
    netlink.set_link(index, &LinkChange { up: Some(true), mtu, ..LinkChange::default() }).unwrap();
    for address in addresses {
        let address: IpAddr = address.parse().unwrap();
        netlink.add_address(index, address, if address.is_ipv4() { 24 } else { 64 }).unwrap();
    }
}

impl Node {
    fn new(own: NetNs, number: usize) -> Node {
        let container = NetNs::create_anonymous().unwrap();
        let tap = {
            let _entered = container.enter().unwrap();
            Tap::open("eth0", WORKERS).unwrap()
        };
        bring_up(&container, "eth0", &INSIDE[number], Some(1400));
        let options = WorkerOptions { workers: WORKERS, busy_poll_us: 0, fast_path: None };
        let _entered = own.enter().unwrap();
        let dataplane = Dataplane::start(&options, |_| {}).unwrap();
        drop(_entered);
        Node { own, container, dataplane, port: Arc::new(PortIo::tap(tap.queues, true)), number }
    }

    /// A network with the container's port and a tunnel to the other node.
    fn spec(&self, tunnel: Option<Encapsulation>) -> FabricSpec {
        let tunnel = tunnel.map(|encapsulation| TunnelSpec {
            name: "far".into(),
            joins: Joins::Network { network: "net".into(), vlan: 0 },
            mtu: 1400,
            carrier: Carrier::Node,
            local: None,
            encapsulation,
        });
        FabricSpec {
            networks: vec![network()],
            ports: vec![port(&INSIDE[self.number])],
            tunnels: tunnel.into_iter().collect(),
            ..FabricSpec::default()
        }
    }

    fn open(&self, underlay: Underlay) -> Arc<UnderlayIo> {
        let _entered = self.own.enter().unwrap();
        Arc::new(UnderlayIo::open(underlay, WORKERS).unwrap())
    }

    fn publish(&self, tunnel: Option<Encapsulation>, underlays: &[(Underlay, &Arc<UnderlayIo>)]) {
        let ends = OpenEnds {
            ports: HashMap::from([("web".to_owned(), Arc::clone(&self.port))]),
            underlays: underlays.iter().map(|(underlay, io)| (*underlay, Arc::clone(io))).collect(),
        };
        self.dataplane.publish(self.spec(tunnel), ends).unwrap();
    }

    /// The drops of all ports, those above zero.
    fn drops(&self) -> Vec<(&'static str, u64)> {
        self.dataplane.counters().drops.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

fn network() -> NetworkSpec {
    NetworkSpec {
        name: "net".into(),
        router: None,
        subnets: Vec::new(),
        mtu: 1400,
        gateway_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ageing: Duration::from_secs(300),
        max_macs: 16,
        max_neighbors: 16,
        static_macs: Vec::new(),
        static_neighbors: Default::default(),
        multicast: MulticastSpec::default(),
        advertisements: None,
        proxy_neighbors: false,
        dhcp: None,
    }
}

fn port(addresses: &[&str]) -> PortSpec {
    PortSpec {
        name: "web".into(),
        network: "net".into(),
        mac: MacAddr([2, 0, 0, 0, 0, 2]),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        vlans: PortVlans::Access(0),
        mtu: 1400,
        source_check: false,
        offloads: Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true },
        uplink: false,
        max_macs: None,
        isolated: false,
        storm: StormLimits::default(),
        mirror: None,
        watches: false,
        coalesce: true,
        replay: false,
        bandwidth: BandwidthSpec::default(),
    }
}

fn vxlan(remote: &str) -> Encapsulation {
    Encapsulation::Vxlan(VxlanSpec {
        vni: 42,
        port: 4789,
        remotes: vec![VxlanRemote { address: remote.parse().unwrap(), macs: Vec::new() }],
        suppress_neighbors: false,
    })
}

fn gretap(remote: &str) -> Encapsulation {
    Encapsulation::Gre(GreSpec {
        remote: remote.parse().unwrap(),
        key: Some(7),
        checksum: true,
        sequence: false,
    })
}

/// Sends a stream from the first container to the second; what arrives.
fn stream(nodes: &[Node; 2], to: &str, payload: &[u8]) -> Vec<u8> {
    let address = (to.parse::<IpAddr>().unwrap(), 7000);
    let ready = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let _entered = nodes[1].container.enter().unwrap();
            let listener = TcpListener::bind(address).unwrap();
            ready.store(true, Ordering::Release);
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        while !ready.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let _entered = nodes[0].container.enter().unwrap();
        let mut stream = TcpStream::connect_timeout(&address.into(), DEADLINE).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(payload).unwrap();
        drop(stream);
        server.join().unwrap()
    })
}

#[test]
fn containers_of_two_nodes_talk_through_tunnels_over_either_family() {
    let (_entered, [one, two]) = wired();
    let nodes = [Node::new(one, 0), Node::new(two, 1)];
    let payload: Vec<u8> = (0..STREAM).map(|at| ((at * 31) >> 3) as u8).collect();
    for underlay in [Underlay::Udp(4789), Underlay::Gre] {
        let encapsulation = if underlay == Underlay::Gre { gretap } else { vxlan };
        for remotes in [[WIRE[1][0], WIRE[0][0]], [WIRE[1][1], WIRE[0][1]]] {
            for (node, remote) in nodes.iter().zip(remotes) {
                node.publish(Some(encapsulation(remote)), &[(underlay, &node.open(underlay))]);
            }
            for address in INSIDE[1] {
                assert!(stream(&nodes, address, &payload) == payload, "{underlay:?} {remotes:?} {address}");
            }
            nodes.iter().for_each(|node| node.publish(None, &[]));
        }
    }
}

#[test]
fn workers_let_go_of_sockets_that_are_not_in_the_picture_any_more() {
    let (_entered, [one, _]) = wired();
    let node = Node::new(one, 0);
    for underlay in [Underlay::Udp(4789), Underlay::Gre] {
        let io = node.open(underlay);
        node.publish(Some(vxlan(WIRE[1][0])), &[(underlay, &io)]);
        assert!(Arc::strong_count(&io) > 1);
        node.publish(None, &[]);
        assert_eq!(Arc::strong_count(&io), 1);
    }
    drop(node.open(Underlay::Udp(4789)));
}

#[test]
fn what_no_socket_takes_is_counted() {
    let (_entered, [one, _two]) = wired();
    let node = Node::new(one, 0);
    let knock = || {
        let _entered = node.container.enter().unwrap();
        let address = (INSIDE[1][0].parse::<IpAddr>().unwrap(), 7000);
        // Its ARP requests go out, which is all that is wanted.
        let _ = TcpStream::connect_timeout(&address.into(), Duration::from_millis(10));
    };
    let until = |reason: &str| {
        let end = Instant::now() + DEADLINE;
        while !node.drops().iter().any(|(name, _)| *name == reason) {
            assert!(Instant::now() < end, "{:?}", node.drops());
            knock();
        }
    };
    node.publish(Some(vxlan(WIRE[1][0])), &[]);
    until("port_down");
    let sent = |remote: &str| node.dataplane.port_totals(&format!("far/{remote}")).unwrap().tx_packets;
    assert_eq!(sent(WIRE[1][0]), 0, "what was dropped was not sent");
    let io = node.open(Underlay::Udp(4789));
    // The node has no way there.
    node.publish(Some(vxlan("192.0.2.1")), &[(Underlay::Udp(4789), &io)]);
    until("device_error");
    assert_eq!(sent("192.0.2.1"), 0, "what was dropped was not sent");
    node.publish(Some(vxlan(WIRE[1][0])), &[(Underlay::Udp(4789), &io)]);
    let end = Instant::now() + DEADLINE;
    while sent(WIRE[1][0]) == 0 {
        assert!(Instant::now() < end, "{:?}", node.drops());
        knock();
    }
}

#[test]
fn a_tunnel_tells_the_address_that_it_speaks_from() {
    let (_entered, [one, _two]) = wired();
    let node = Node::new(one, 0);
    let local = || node.dataplane.tunnel("far").unwrap().local;
    for (own, remote) in WIRE[0].iter().zip(WIRE[1]) {
        node.publish(Some(vxlan(remote)), &[]);
        assert_eq!(local(), Some(own.parse().unwrap()));
    }
    node.publish(Some(vxlan("192.0.2.1")), &[]);
    assert_eq!(local(), None, "no way leads there");
}
