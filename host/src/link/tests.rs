//! Devices, addresses and routes, against the kernel.

use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use super::*;
use crate::Error;
use crate::testing::{DEADLINE, MAC_A, MAC_B, own_namespace, veth_up};

const ADDRESS: &str = "198.18.7.2";
const ADDRESS_V6: &str = "2001:db8:7::2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn spec<'a>(peer_netns: &'a NetNs) -> VethSpec<'a> {
    VethSpec {
        name: "near0",
        mac: Some(MAC_A),
        peer_name: "far0",
        peer_mac: Some(MAC_B),
        peer_netns,
        mtu: 1400,
        txqueuelen: 321,
    }
}

#[test]
fn a_veth_pair_spans_two_namespaces_as_it_was_asked_for() {
    let (_entered, here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let mut netlink = Netlink::open().unwrap();
    netlink.add_veth(&spec(&there)).unwrap();
    let near = netlink.link_by_name("near0").unwrap().unwrap();
    assert_eq!((near.mac, near.mtu, near.txqueuelen), (Some(MAC_A), 1400, 321));
    assert_eq!((near.kind.as_deref(), near.up, near.carrier), (Some("veth"), false, false));
    assert!(netlink.link_by_name("far0").unwrap().is_none());

    let _entered = there.enter().unwrap();
    let far = Netlink::open().unwrap().link_by_name("far0").unwrap().unwrap();
    assert_eq!((far.mac, far.mtu, far.txqueuelen), (Some(MAC_B), 1400, 321));
    assert_eq!((near.peer_index, far.peer_index), (Some(far.index), Some(near.index)));
    assert_eq!(far.peer_netns_id, Some(crate::netns::namespace_id(&here).unwrap()));
}

#[test]
fn a_taken_name_is_told_apart_and_leaves_no_half_pair() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let mut netlink = Netlink::open().unwrap();
    netlink.add_veth(&spec(&there)).unwrap();
    let taken_there = VethSpec { name: "other0", mac: None, peer_mac: None, ..spec(&there) };
    assert!(netlink.add_veth(&taken_there).unwrap_err().is_exists());
    assert!(netlink.add_veth(&spec(&there)).unwrap_err().is_exists());
    let names: Vec<_> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(names, ["lo", "near0"]);
}

#[test]
fn a_group_of_devices_is_removed_at_once_and_no_other() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let mut netlink = Netlink::open().unwrap();
    for name in ["near0", "near1", "near2"] {
        let peer = name.replace("near", "far");
        netlink.add_veth(&VethSpec { name, peer_name: &peer, ..spec(&there) }).unwrap();
        let index = netlink.link_by_name(name).unwrap().unwrap().index;
        let group = (name != "near1").then_some(7);
        netlink.set_link(index, &LinkChange { group, ..LinkChange::default() }).unwrap();
    }
    netlink.delete_group(7).unwrap();
    let left: Vec<_> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(left, ["lo", "near1"]);
    assert!(netlink.delete_group(7).unwrap_err().is_gone());
}

#[test]
fn a_device_is_changed_and_removed_with_its_other_end() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let mut netlink = Netlink::open().unwrap();
    netlink.add_veth(&spec(&there)).unwrap();
    let index = netlink.link_by_name("near0").unwrap().unwrap().index;
    let change = LinkChange {
        name: Some("web0".into()),
        mac: Some([2, 1, 2, 3, 4, 5]),
        mtu: Some(9000),
        txqueuelen: Some(77),
        gso_max_size: Some(60_000),
        alias: Some("weft:test:port/web".into()),
        group: None,
        up: Some(true),
    };
    netlink.set_link(index, &change).unwrap();
    let link = netlink.link_by_name("web0").unwrap().unwrap();
    assert_eq!(
        (link.index, link.mac, link.mtu, link.txqueuelen, link.gso_max_size, link.up),
        (index, change.mac, 9000, 77, Some(60_000), true)
    );
    assert_eq!(link.alias, change.alias);
    netlink.set_link(index, &LinkChange { alias: Some(String::new()), ..LinkChange::default() }).unwrap();
    assert_eq!(netlink.link_by_name("web0").unwrap().unwrap().alias, None);

    netlink.delete_link(index).unwrap();
    assert!(netlink.delete_link(index).unwrap_err().is_gone());
    let _entered = there.enter().unwrap();
    assert!(Netlink::open().unwrap().link_by_name("far0").unwrap().is_none());
}

#[test]
fn addresses_are_usable_at_once() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("near0", "far0", &there);
    let mut netlink = Netlink::open().unwrap();
    netlink.add_address(index, ip(ADDRESS), 24).unwrap();
    netlink.add_address(index, ip(ADDRESS_V6), 64).unwrap();
    UdpSocket::bind((ADDRESS, 0)).unwrap();
    UdpSocket::bind((ADDRESS_V6, 0)).unwrap();

    let on_device = |found: Vec<Address>| -> Vec<Address> {
        found.into_iter().filter(|found| found.index == index && !found.is_link_local()).collect()
    };
    let expected = [(ip(ADDRESS), 24), (ip(ADDRESS_V6), 64)].map(|(address, prefix_length)| Address {
        index,
        address,
        prefix_length,
        permanent: true,
        tentative: false,
        global: true,
    });
    assert_eq!(on_device(netlink.addresses().unwrap()), expected);
    assert!(netlink.add_address(index, ip(ADDRESS), 24).unwrap_err().is_exists());
    netlink.remove_address(index, ip(ADDRESS), 24).unwrap();
    assert!(netlink.remove_address(index, ip(ADDRESS), 24).unwrap_err().is_gone());
    assert_eq!(on_device(netlink.addresses().unwrap()), expected[1..]);
}

#[test]
fn the_kernels_link_local_address_is_recognised() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("near0", "far0", &there);
    let mut netlink = Netlink::open().unwrap();
    // The kernel makes it a little after the carrier comes.
    let end = Instant::now() + DEADLINE;
    let local = loop {
        let found = netlink.addresses().unwrap();
        if let Some(local) = found.into_iter().find(|found| found.index == index) {
            break local;
        }
        assert!(Instant::now() < end, "no address in time");
        std::thread::yield_now();
    };
    assert!(local.is_link_local() && !local.global);
}

#[test]
fn routes_are_added_listed_and_removed() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("near0", "far0", &there);
    let mut netlink = Netlink::open().unwrap();
    netlink.add_address(index, ip(ADDRESS), 24).unwrap();
    netlink.add_address(index, ip(ADDRESS_V6), 64).unwrap();
    let route = |prefix: &str, length, via: &str, metric, onlink| Route {
        prefix: (ip(prefix), length),
        via: Some(ip(via)),
        index: Some(index),
        protocol: ROUTE_PROTOCOL_WEFT,
        metric,
        onlink,
    };
    let routes = [
        route("0.0.0.0", 0, "198.18.7.1", None, false),
        route("198.19.0.0", 16, "192.0.2.1", Some(50), true),
        route("::", 0, "2001:db8:7::1", Some(1024), false),
        route("fd00:1::", 32, "2001:db8:99::1", Some(7), true),
    ];
    for route in &routes {
        netlink.add_route(route).unwrap();
        assert!(netlink.add_route(route).unwrap_err().is_exists(), "{route:?}");
    }
    let ours = |netlink: &mut Netlink| -> Vec<Route> {
        let all = netlink.routes().unwrap();
        assert!(all.iter().any(|route| route.protocol == 2), "the kernel's own are listed too");
        all.into_iter().filter(|route| route.protocol == ROUTE_PROTOCOL_WEFT).collect()
    };
    let found = ours(&mut netlink);
    assert_eq!(found.len(), routes.len());
    assert!(routes.iter().all(|route| found.contains(route)), "{found:?}");
    for route in &routes {
        netlink.remove_route(route).unwrap();
        assert!(netlink.remove_route(route).unwrap_err().is_gone(), "{route:?}");
    }
    assert_eq!(ours(&mut netlink), []);
}

#[test]
fn a_route_takes_the_place_of_another_at_once_and_finds_its_device() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("near0", "far0", &there);
    let mut netlink = Netlink::open().unwrap();
    netlink.add_address(index, ip(ADDRESS), 24).unwrap();
    netlink.add_address(index, ip(ADDRESS_V6), 64).unwrap();
    for (prefix, length, vias) in [
        ("198.19.0.0", 16, ["198.18.7.1", "198.18.7.3"]),
        ("fd00:1::", 32, ["2001:db8:7::1", "2001:db8:7::3"]),
    ] {
        for via in vias {
            netlink
                .replace_route(&Route {
                    prefix: (ip(prefix), length),
                    via: Some(ip(via)),
                    index: None,
                    protocol: ROUTE_PROTOCOL_WEFT,
                    metric: None,
                    onlink: false,
                })
                .unwrap();
            let all = netlink.routes().unwrap().into_iter();
            let found: Vec<_> = all.filter(|route| route.prefix == (ip(prefix), length)).collect();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].via, found[0].index), (Some(ip(via)), Some(index)));
        }
    }
}

#[test]
fn a_refusal_carries_the_kernels_sentence() {
    let (_entered, _here) = own_namespace();
    let there = NetNs::create_anonymous().unwrap();
    let index = veth_up("near0", "far0", &there);
    let unreachable = Route {
        prefix: (ip("198.19.0.0"), 16),
        via: Some(ip("192.0.2.1")),
        index: Some(index),
        protocol: ROUTE_PROTOCOL_WEFT,
        metric: None,
        onlink: false,
    };
    let error = Netlink::open().unwrap().add_route(&unreachable).unwrap_err();
    let Error::Netlink { detail: Some(detail), .. } = &error else { panic!("{error:?}") };
    assert!(detail.contains("gateway"), "{detail}");
    assert!(error.to_string().contains("198.19.0.0/16 via 192.0.2.1"), "{error}");
}

#[test]
fn a_listing_goes_past_one_datagram() {
    let (_entered, _here) = own_namespace();
    let mut netlink = Netlink::open().unwrap();
    let loopback = netlink.link_by_name("lo").unwrap().unwrap().index;
    for host in 0..1000u32 {
        let address = std::net::Ipv4Addr::from_bits(0xc612_0000 + host);
        netlink.add_address(loopback, address.into(), 32).unwrap();
    }
    let listed = netlink.addresses().unwrap();
    assert_eq!(listed.iter().filter(|found| found.prefix_length == 32).count(), 1000);
}
