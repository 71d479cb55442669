//! What is found to differ, when it is looked for, and what Ports hear of it.

use super::*;
use crate::reconcile::fixture::{fabric, name, port, route};

fn seen(routes: &[PortRoute]) -> BTreeMap<PortRoute, u32> {
    routes.iter().map(|route| (*route, 7)).collect()
}

fn wish(routes: &[PortRoute]) -> BTreeSet<PortRoute> {
    routes.iter().copied().collect()
}

/// A route to the containers of node `number` by its address.
fn to(number: u16) -> PortRoute {
    let [high, low] = number.to_be_bytes();
    route(&format!("10.{high}.{low}.0/24"), &format!("192.0.{high}.{low}"))
}

fn host(text: &str, routes: &[PortRoute]) -> Object<Port> {
    let mut port = port(text, Attachment::Host, text);
    port.spec.node_routes = routes.to_vec();
    port
}

/// As if the wish had been carried out.
fn settled(fabric: &Fabric) -> NodeRoutes {
    let mut routes = NodeRoutes::default();
    routes.want(fabric);
    routes.seen = Some(routes.wish.iter().map(|route| (*route, 7)).collect());
    routes.due = false;
    routes
}

#[test]
fn what_is_as_wished_needs_nothing() {
    let all: Vec<PortRoute> = (1..20).map(to).collect();
    assert_eq!(plan(&seen(&all), &wish(&all)), []);
}

#[test]
fn one_change_among_thousands_is_one_message() {
    let all: Vec<PortRoute> = (1..=5000).map(to).collect();
    let mut changed = all.clone();
    changed[77] = route(&all[77].prefix.to_string(), "192.0.2.200");
    assert_eq!(plan(&seen(&all), &wish(&changed)), [Step::Replace(all[77], changed[77])]);
    assert_eq!(plan(&seen(&all), &wish(&all[..4999])), [Step::Remove(all[4999])]);
    assert_eq!(plan(&seen(&all[1..]), &wish(&all)), [Step::Add(all[0])]);
}

#[test]
fn of_several_routes_to_one_prefix_the_wished_one_stays() {
    let (right, wrong) = (to(1), route("10.0.1.0/24", "192.0.2.99"));
    assert_eq!(plan(&seen(&[right, wrong]), &wish(&[right])), [Step::Remove(wrong)]);
}

#[test]
fn both_families_are_told_apart() {
    let (v4, v6) = (route("0.0.0.0/0", "192.0.2.9"), route("::/0", "2001:db8:9::9"));
    assert_eq!(plan(&seen(&[v4]), &wish(&[v6])), [Step::Remove(v4), Step::Add(v6)]);
}

#[test]
fn a_change_of_another_port_makes_nothing_due() {
    let before = fabric(&[], vec![host("node", &[to(1)])]);
    let mut routes = settled(&before);
    let mut after = before.clone();
    after.ports.insert(name("web"), Arc::new(port("web", Attachment::Veth(name("box")), "eth0")));
    routes.want(&after);
    assert!(!routes.is_due());
    after.ports.insert(name("node"), Arc::new(host("node", &[to(1), to(2)])));
    routes.want(&after);
    assert!(routes.is_due() && routes.seen.is_some(), "what is known stays known");
}

#[test]
fn a_port_that_goes_takes_its_routes_along() {
    let mut fabric = fabric(&[], vec![host("node", &[to(1)])]);
    let mut routes = settled(&fabric);
    assert!(routes.is_clean());
    let node = fabric.ports.get_mut("node").unwrap();
    Arc::make_mut(node).metadata.deleting = Some(std::time::SystemTime::UNIX_EPOCH);
    routes.want(&fabric);
    assert!(routes.is_due() && !routes.is_clean());
    assert_eq!(plan(routes.seen.as_ref().unwrap(), &routes.wish), [Step::Remove(to(1))]);
}

#[test]
fn only_devices_that_carry_routes_count_while_all_is_well() {
    let mut routes = settled(&fabric(&[], vec![host("node", &[to(1)])]));
    routes.heard_of_link(3);
    assert!(!routes.is_due());
    routes.heard_of_link(7);
    assert!(routes.is_due() && routes.seen.is_none());
    // While one is missing, any device may bring it back.
    let mut routes = settled(&fabric(&[], vec![host("node", &[to(1)])]));
    routes.seen = Some(BTreeMap::new());
    routes.heard_of_link(3);
    assert!(routes.is_due());
}

#[test]
fn without_a_wish_the_nodes_routes_are_looked_at_once() {
    let mut routes = NodeRoutes::default();
    assert!(routes.is_due(), "an earlier daemon may have left some");
    routes.seen = Some(BTreeMap::new());
    routes.due = false;
    routes.heard();
    assert!(!routes.is_due());
}

#[test]
fn a_port_says_which_routes_are_refused_and_no_more_than_some() {
    let all: Vec<PortRoute> = (1..=5).map(to).collect();
    let fabric = fabric(&[], vec![host("node", &all), host("other", &[to(9)])]);
    let routes = settled(&fabric);
    let failed = all.iter().map(|route| (*route, format!("add {}", route.prefix))).collect();
    let troubles = routes.troubles_of(&failed);
    let message = &troubles[&name("node")].message;
    assert!(
        message.ends_with(": add 10.0.1.0/24; add 10.0.2.0/24; add 10.0.3.0/24; and 2 more"),
        "{message}"
    );
    assert!(!troubles.contains_key(&name("other")));
}
