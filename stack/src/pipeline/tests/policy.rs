//! What routes do with packets beside sending them on, who looks into which table, which of several next
//! hops a flow takes, and prefixes of one and two addresses.

use super::*;
use crate::config::{FabricSpec, Hop, PolicyRule, RouteAction, RouteTable, StaticRoute};
use crate::testing::port;
use crate::wire::{icmpv4, icmpv6};

const GATEWAYS_B: [&str; 2] = ["198.18.2.1", "2001:db8:2::1"];

fn route(prefix: &str, action: RouteAction) -> StaticRoute {
    StaticRoute { prefix: prefix.parse().unwrap(), action }
}

fn via(hops: &[(&str, u8)]) -> RouteAction {
    let hop = |(address, weight): &(&str, u8)| Hop { address: address.parse().unwrap(), weight: *weight };
    RouteAction::Via(hops.iter().map(hop).collect())
}

/// The two networks with b1 and b2 to b4 on `b`, all known to the gateway.
fn with(change: impl FnOnce(&mut FabricSpec)) -> Fabric {
    let mut spec = testing::two_networks();
    let more = ["b2", "b3", "b4"].into_iter().zip(11..);
    spec.ports.extend(more.map(|(name, host)| port(name, "b", 2, host)));
    change(&mut spec);
    let mut fabric = Fabric::new(&spec);
    for port in spec.ports.iter().filter(|port| port.network == "b") {
        fabric.introduce(&port.name, GATEWAYS_B);
    }
    fabric
}

/// The port that an echo request from `from` to `destination` leaves by.
fn way(fabric: &mut Fabric, from: &str, destination: &str) -> Option<String> {
    let frame = fabric.echo(from, destination);
    let sent = fabric.receive_frame(from, &frame);
    sent.into_iter().map(|(port, _)| port).find(|port| port != from)
}

#[test]
fn a_route_may_drop_and_say_why_or_be_silent() {
    // Type and code as Linux sends them for `ip route add blackhole|unreachable|prohibit`.
    for (action, reason, v4, v6) in [
        (RouteAction::Blackhole, DropReason::RouteBlackhole, None, None),
        (RouteAction::Unreachable, DropReason::RouteUnreachable, Some([3, 1]), Some([1, 0])),
        (RouteAction::Prohibit, DropReason::RouteProhibited, Some([3, 13]), Some([1, 1])),
    ] {
        let mut fabric = with(|spec| {
            spec.routers[0].routes = vec![
                route("0.0.0.0/0", via(&[("198.18.2.10", 1)])),
                route("203.0.113.0/24", action.clone()),
                route("2001:db8:f::/48", action.clone()),
            ];
        });
        for (destination, at, answer) in [("203.0.113.9", 34, v4), ("2001:db8:f::9", 54, v6)] {
            let sent = fabric.receive_frame("a1", &fabric.echo("a1", destination));
            let told = sent.first().map(|(port, packet)| (port.as_str(), &packet.frame()[at..at + 2]));
            assert_eq!(told, answer.as_ref().map(|answer| ("a1", &answer[..])), "{destination}");
            if let (Some((_, packet)), true) = (sent.first(), destination.contains('.')) {
                assert_eq!(icmpv4::check(&packet.frame()[34..]), Ok(3));
            } else if let Some((_, packet)) = sent.first() {
                let ip = crate::wire::ipv6::Header::parse(&packet.frame()[14..]).unwrap();
                assert_eq!(icmpv6::check(ip.source, ip.destination, &packet.frame()[54..]), Ok(1));
            }
        }
        assert_eq!(fabric.dropped("a1", reason), 2);
        assert_eq!(way(&mut fabric, "a1", "203.0.114.9"), Some("b1".into()));
    }
}

#[test]
fn a_route_that_drops_says_so_before_the_hop_count_is_looked_at() {
    let mut fabric =
        with(|spec| spec.routers[0].routes = vec![route("203.0.113.0/24", RouteAction::Prohibit)]);
    let frame = fabric.frame("a1", |spec| {
        spec.destination = "203.0.113.9".parse().unwrap();
        spec.ttl = 1;
    });
    let sent = fabric.receive_frame("a1", &frame);
    assert!(told(&sent)[0].1.contains("ICMP administratively prohibited"), "{:?}", told(&sent));
}

fn rule(priority: u32, source: Option<&str>, port: Option<&str>, table: &str) -> PolicyRule {
    let source = source.map(|source| source.parse().unwrap());
    PolicyRule { priority, source, port: port.map(str::to_owned), table: table.into() }
}

fn table(name: &str, routes: &[(&str, &str)]) -> RouteTable {
    let routes = routes.iter().map(|(prefix, hop)| route(prefix, via(&[(hop, 1)]))).collect();
    RouteTable { name: name.into(), routes }
}

/// By default to b1; what comes from a2's addresses or by a3 is sent elsewhere.
fn policies(fabric: &mut FabricSpec) {
    fabric.routers[0].routes =
        vec![route("0.0.0.0/0", via(&[("198.18.2.10", 1)])), route("::/0", via(&[("2001:db8:2::a", 1)]))];
    fabric.routers[0].tables = vec![
        table("second", &[("0.0.0.0/0", "198.18.2.11"), ("::/0", "2001:db8:2::b")]),
        table("third", &[("203.0.113.0/24", "198.18.2.12")]),
        table("fourth", &[("203.0.0.0/16", "198.18.2.13")]),
    ];
    fabric.routers[0].rules = vec![
        rule(20, None, Some("a3"), "fourth"),
        rule(30, None, Some("no such port"), "second"),
        rule(5, None, None, "no such table"),
        rule(10, None, Some("a3"), "third"),
        rule(30, Some("198.18.1.11/32"), None, "second"),
        rule(30, Some("2001:db8:1::b/128"), None, "second"),
    ];
}

#[test]
fn rules_choose_the_table_by_source_and_port_in_order_of_priority() {
    let mut fabric = with(policies);
    for (from, destination, expected) in [
        ("a1", "203.0.113.9", "b1"),
        ("a1", "2001:db8:f::9", "b1"),
        ("a2", "203.0.113.9", "b2"),
        ("a2", "2001:db8:f::9", "b2"),
        // The tables of both rules for a3 have a route: priority decides, not the longer prefix.
        ("a3", "203.0.113.9", "b3"),
        // What the first table does not have is looked for in the next, and at last in the main one.
        ("a3", "203.0.114.9", "b4"),
        ("a3", "192.0.2.9", "b1"),
        ("a3", "2001:db8:f::9", "b1"),
    ] {
        assert_eq!(way(&mut fabric, from, destination).as_deref(), Some(expected), "{from} to {destination}");
    }
}

#[test]
fn links_are_in_the_main_table_alone_and_own_addresses_in_all() {
    let mut fabric = with(policies);
    // The second table's default route comes before the main table's links, as with Linux.
    assert_eq!(way(&mut fabric, "a2", "198.18.2.13").as_deref(), Some("b2"));
    assert_eq!(way(&mut fabric, "a1", "198.18.2.13").as_deref(), Some("b4"));
    let sent = fabric.receive_frame("a2", &fabric.echo("a2", "198.18.2.1"));
    assert!(told(&sent)[0].1.contains("echo reply"), "{:?}", told(&sent));
}

/// By which ports 400 flows from a1 to one address go.
fn spread(fabric: &mut Fabric, destination: &str) -> Vec<String> {
    let mut flow = |source_port| {
        let frame = fabric.frame("a1", |spec| {
            spec.destination = destination.parse().unwrap();
            spec.protocol = Protocol::Tcp;
            spec.source_port = source_port;
        });
        fabric.receive_frame("a1", &frame).remove(0).0
    };
    (0..400).map(&mut flow).collect()
}

#[test]
fn when_a_next_hop_goes_only_its_flows_move() {
    let hops = [("198.18.2.10", 1), ("198.18.2.11", 1), ("198.18.2.12", 2)];
    let with_hops = |hops: &[(&str, u8)]| {
        let action = via(hops);
        move |spec: &mut FabricSpec| spec.routers[0].routes = vec![route("203.0.113.0/24", action)]
    };
    let mut fabric = with(with_hops(&hops));
    let before = spread(&mut fabric, "203.0.113.9");
    let count = |flows: &[String], port: &str| flows.iter().filter(|flow| *flow == port).count();
    assert!(count(&before, "b1") > 60 && count(&before, "b2") > 60, "{}", count(&before, "b1"));
    assert!(count(&before, "b3") > 160, "the one with weight 2: {}", count(&before, "b3"));

    let mut fewer = testing::two_networks();
    fewer.ports.extend([port("b2", "b", 2, 11), port("b3", "b", 2, 12)]);
    with_hops(&hops[1..])(&mut fewer);
    fabric.reconfigure(&fewer);
    let after = spread(&mut fabric, "203.0.113.9");
    assert!(before.iter().zip(&after).all(|(before, after)| before == "b1" || before == after));
    assert_eq!(count(&after, "b1"), 0);
}

#[test]
fn fragments_of_a_datagram_go_the_same_way() {
    let hops = [("198.18.2.10", 1), ("198.18.2.11", 1), ("198.18.2.12", 1), ("198.18.2.13", 1)];
    let mut fabric = with(|spec| spec.routers[0].routes = vec![route("203.0.113.0/24", via(&hops))]);
    let mut ways = Vec::new();
    for (source_port, fragment) in [(1, 0x2000u16), (2, 0x2000), (3, 0x0002), (4, 0x2004), (5, 0x2008)] {
        let mut frame = fabric.frame("a1", |spec| {
            spec.destination = "203.0.113.9".parse().unwrap();
            spec.protocol = Protocol::Udp;
            spec.source_port = source_port;
            spec.length = Some(44);
        });
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        crate::wire::ipv4::fill_checksum(&mut frame[14..34]);
        ways.push(fabric.receive_frame("a1", &frame).remove(0).0);
    }
    ways.dedup();
    assert_eq!(ways.len(), 1, "{ways:?}");
}

#[test]
fn links_of_two_addresses_have_no_broadcast() {
    let mut fabric = with(|spec| {
        let subnets = &mut spec.networks[1].subnets;
        subnets[0].prefix = "198.18.2.0/31".parse().unwrap();
        subnets[0].gateway = Some("198.18.2.1".parse().unwrap());
        subnets[1].prefix = "2001:db8:2::/127".parse().unwrap();
        subnets[1].gateway = Some("2001:db8:2::1".parse().unwrap());
        spec.ports.truncate(4);
        spec.ports[3].addresses = vec!["198.18.2.0".parse().unwrap(), "2001:db8:2::".parse().unwrap()];
        spec.routers[0].routes = vec![
            route("203.0.113.0/24", via(&[("198.18.2.0", 1)])),
            route("::/0", via(&[("2001:db8:2::", 1)])),
        ];
    });
    for destination in ["198.18.2.0", "2001:db8:2::", "203.0.113.0", "203.0.113.255", "2001:db8:f::"] {
        assert_eq!(way(&mut fabric, "a1", destination).as_deref(), Some("b1"), "{destination}");
    }
    let sent = fabric.receive_frame("b1", &fabric.echo("b1", "198.18.2.1"));
    assert!(told(&sent)[0].1.contains("echo reply"), "{:?}", told(&sent));
}

#[test]
fn routes_to_single_hosts_come_before_the_link_that_they_are_in() {
    let mut fabric = with(|spec| {
        spec.routers[0].routes = vec![
            route("203.0.113.0/24", via(&[("198.18.2.11", 1)])),
            route("203.0.113.0/32", via(&[("198.18.2.10", 1)])),
            route("203.0.113.255/32", via(&[("198.18.2.12", 1)])),
            route("2001:db8:f::1/128", via(&[("2001:db8:2::c", 1)])),
            route("198.18.2.99/32", via(&[("198.18.2.13", 1)])),
            route("198.18.2.98/32", RouteAction::Prohibit),
        ];
    });
    for (destination, expected) in [
        ("203.0.113.0", Some("b1")),
        ("203.0.113.1", Some("b2")),
        ("203.0.113.255", Some("b3")),
        ("2001:db8:f::1", Some("b3")),
        ("2001:db8:f::2", None),
        ("198.18.2.99", Some("b4")),
        ("198.18.2.98", None),
    ] {
        assert_eq!(way(&mut fabric, "a1", destination).as_deref(), expected, "{destination}");
    }
}
