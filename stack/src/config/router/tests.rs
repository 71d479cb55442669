//! What a router takes over from the picture before, and that it is as one made anew.

use proptest::prelude::*;

use super::*;
use crate::config::{Config, FabricSpec, RouteTable, StaticRoute};
use crate::testing;

fn via(hosts: &[&str]) -> RouteAction {
    RouteAction::Via(hosts.iter().map(|host| Hop { address: host.parse().unwrap(), weight: 1 }).collect())
}

fn route(prefix: &str, action: RouteAction) -> StaticRoute {
    StaticRoute { prefix: prefix.parse().unwrap(), action }
}

fn with_routes(routes: Vec<StaticRoute>) -> FabricSpec {
    let mut spec = testing::two_networks();
    spec.routers[0].routes = routes;
    spec
}

fn build(spec: &FabricSpec, before: Option<&Config>) -> Config {
    Config::build(spec, before, 1).unwrap()
}

/// Where the router sends a packet from a1, with names that do not depend on the picture.
fn way(config: &Config, destination: &str) -> String {
    let from = config.port_by_name("a1").map_or(PortId::from_u32(u32::MAX), |port| port.id);
    let target =
        config.routers[0].route("198.18.1.10".parse().unwrap(), destination.parse().unwrap(), Some(from));
    let network = |interface: usize| &config.networks[config.interfaces[interface].network].name;
    match target {
        None => "no route".into(),
        Some(Target::Connected(interface)) => format!("on {}", network(*interface)),
        Some(Target::Via(hops)) => {
            let hops: Vec<_> = (0..64u64).map(|flow| hops.select(|| flow << 58)).collect();
            hops.iter().map(|hop| format!("{} on {} ", hop.address, network(hop.interface))).collect()
        }
        Some(other) => format!("{other:?}"),
    }
}

#[test]
fn a_picture_with_the_same_routes_shares_the_table_though_positions_moved() {
    let mut spec = with_routes(vec![route("203.0.113.0/24", via(&["198.18.2.10", "198.18.2.11"]))]);
    let first = build(&spec, None);
    spec.networks.reverse();
    let second = build(&spec, Some(&first));
    assert!(second.routers[0].main.fib.is_shared_with(&first.routers[0].main.fib));
    for destination in ["198.18.1.7", "198.18.2.7", "2001:db8:2::7", "203.0.113.1"] {
        assert_eq!(way(&second, destination), way(&first, destination));
    }
    assert_eq!(way(&second, "198.18.1.7"), "on a");
    assert!(way(&second, "203.0.113.1").contains("198.18.2.11 on b"));
}

#[test]
fn a_route_without_a_reachable_next_hop_leaves_its_place_to_the_shorter_one() {
    let routes =
        vec![route("203.0.113.0/24", RouteAction::Blackhole), route("203.0.113.0/25", via(&["198.18.2.10"]))];
    let mut spec = with_routes(routes);
    let first = build(&spec, None);
    assert!(way(&first, "203.0.113.1").contains("198.18.2.10"));
    spec.networks[1].router = None;
    let second = build(&spec, Some(&first));
    assert_eq!(way(&second, "203.0.113.1"), "Blackhole");
    spec.networks[1].router = Some("core".into());
    assert!(way(&build(&spec, Some(&second)), "203.0.113.1").contains("198.18.2.10"));
}

#[test]
fn of_two_routes_for_one_prefix_the_first_holds_and_what_is_the_routers_own_comes_before() {
    let mut spec = with_routes(vec![
        route("203.0.113.0/24", RouteAction::Prohibit),
        route("203.0.113.0/24", RouteAction::Blackhole),
        route("198.18.2.0/24", RouteAction::Blackhole),
        route("198.18.2.1/32", RouteAction::Blackhole),
    ]);
    let first = build(&spec, None);
    assert_eq!((way(&first, "203.0.113.1"), way(&first, "198.18.2.9")), ("Prohibited".into(), "on b".into()));
    assert_eq!(way(&first, "198.18.2.1"), "Local");
    spec.routers[0].routes.remove(0);
    let second = build(&spec, Some(&first));
    assert_eq!(way(&second, "203.0.113.1"), "Blackhole");
    assert_eq!(second.routers[0].prefix_count(), 11);
}

#[test]
fn one_route_among_many_is_changed_in_place() {
    let many = |skip: usize| -> Vec<StaticRoute> {
        let prefix = |n: usize| Prefix::new([10, (n >> 8) as u8, n as u8, 0].into(), 24).unwrap();
        let number = (0..20_000).filter(|n| *n != skip);
        number.map(|n| StaticRoute { prefix: prefix(n), action: via(&["198.18.2.10"]) }).collect()
    };
    let first = build(&with_routes(many(usize::MAX)), None);
    let second = build(&with_routes(many(4711)), Some(&first));
    assert_eq!((way(&second, "10.18.103.1"), second.routers[0].prefix_count()), ("no route".into(), 20_009));
    let (old, new) = (&first.routers[0].main, &second.routers[0].main);
    assert!(new.fib.parts_beside(&old.fib) < 5, "{}", new.fib.parts_beside(&old.fib));
    let third = build(&with_routes(many(usize::MAX)), Some(&second));
    assert_eq!(way(&third, "10.18.103.1"), way(&first, "10.18.103.1"));
}

#[test]
fn numbers_of_routes_that_are_gone_are_used_again() {
    let mut config = build(&with_routes(Vec::new()), None);
    for n in 0..100u8 {
        let action = via(&[&format!("198.18.2.{}", n + 2)]);
        let mut spec = with_routes(vec![route("203.0.113.0/24", action.clone())]);
        spec.routers[0].tables =
            vec![RouteTable { name: format!("t{n}"), routes: vec![route("0.0.0.0/0", action)] }];
        config = build(&spec, Some(&config));
    }
    assert!(config.routers[0].targets.len() < 10, "{}", config.routers[0].targets.len());
}

fn any_route() -> impl Strategy<Value = StaticRoute> {
    let prefixes =
        ["0.0.0.0/0", "203.0.113.0/24", "203.0.113.0/25", "203.0.113.7/32", "198.18.1.0/24", "::/0"];
    let hops = [&["198.18.1.20"][..], &["198.18.2.20"], &["198.18.1.20", "198.18.2.20"], &["192.0.2.1"]];
    let action = prop_oneof![
        proptest::sample::select(hops.to_vec()).prop_map(via),
        Just(RouteAction::Blackhole),
        Just(RouteAction::Prohibit),
    ];
    (proptest::sample::select(prefixes.to_vec()), action).prop_map(|(prefix, action)| route(prefix, action))
}

/// A description: routes, further tables, which of the networks are there, whether reversed, rules.
fn any_spec() -> impl Strategy<Value = FabricSpec> {
    let routes = || proptest::collection::vec(any_route(), 0..6);
    let tables = proptest::collection::vec((proptest::sample::select(vec!["x", "y"]), routes()), 0..3);
    // Many routes that are always there, so that single changes are applied to the table as it is.
    (routes(), tables, any::<[bool; 3]>(), any::<bool>()).prop_map(
        |(mut routes, mut tables, [a, b, back], much)| {
            tables.sort_by_key(|(name, _)| *name);
            tables.dedup_by_key(|(name, _)| *name);
            if much {
                let prefix = |n: u32| Prefix::new([100, 64, (n >> 8) as u8, n as u8].into(), 32).unwrap();
                routes.extend(
                    (0..700).map(|n| StaticRoute { prefix: prefix(n), action: RouteAction::Blackhole }),
                );
            }
            let mut spec = with_routes(routes);
            let rule = |(priority, (name, _)): (u32, &(&str, _))| PolicyRule {
                priority,
                source: None,
                port: None,
                table: (*name).into(),
            };
            spec.routers[0].rules = (0..).zip(&tables).map(rule).collect();
            spec.routers[0].tables =
                tables.into_iter().map(|(name, routes)| RouteTable { name: name.into(), routes }).collect();
            for (network, attached) in spec.networks.iter_mut().zip([a, b]) {
                network.router = attached.then(|| "core".into());
            }
            if back {
                spec.networks.reverse();
            }
            spec
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_router_made_from_the_one_before_is_as_one_made_anew(
        specs in proptest::collection::vec(any_spec(), 1..6),
    ) {
        let mut before = None;
        for spec in &specs {
            let next = build(spec, before.as_ref());
            let anew = build(spec, None);
            for destination in
                ["203.0.113.7", "203.0.113.8", "203.0.113.200", "198.18.1.9", "198.18.2.9", "192.0.2.9", "100.64.2.9", "2001:db8::1"]
            {
                prop_assert_eq!(way(&next, destination), way(&anew, destination), "{}", destination);
            }
            prop_assert_eq!(next.routers[0].prefix_count(), anew.routers[0].prefix_count());
            before = Some(next);
        }
    }
}
