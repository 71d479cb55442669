//! Passes against the real kernel, each test in namespaces of its own. They need root.

use std::time::{Duration, Instant};

use super::agenda::News;
use super::fixture::{address, adopt, fabric, name, object, port, route};
use super::place::{Place, host_end};
use crate::model::Attachment::{Host, Tap, Veth};
use crate::model::{Fabric, Kind, Namespace};
use lab::Lab;

mod lab;
mod running;
mod tunnels;

/// A namespace `web` with a TAP and a veth port that have all there is to have, and a host port.
fn three_ports() -> Fabric {
    let mut tap = port("tap", Tap(name("web")), "eth0");
    tap.spec.addresses = vec![address("198.18.1.10/24"), address("2001:db8:1::10/64")];
    tap.spec.routes = vec![route("0.0.0.0/0", "198.18.1.1"), route("::/0", "2001:db8:1::1")];
    let mut veth = port("veth", Veth(name("web")), "eth1");
    veth.spec.addresses = vec![address("198.18.2.10/32"), address("2001:db8:2::10/64")];
    veth.spec.routes = vec![route("198.18.3.0/24", "198.18.2.1"), route("2001:db8:3::/64", "2001:db8:2::1")];
    fabric(&[("web", Namespace::Make)], vec![tap, veth, port("node", Host, "weft0")])
}

#[test]
fn a_pass_makes_everything_and_the_next_makes_nothing() {
    let mut lab = Lab::new();
    let outcome = lab.pass(&three_ports());
    for (kind, name, report) in &outcome.reports {
        assert!(report.ready, "{kind}/{name}: {report:?}");
    }
    assert_eq!(lab.picture().ports.len(), 3);
    let made = lab.work.tally().clone();
    assert_eq!((made.devices_created, made.namespaces_created, made.failures), (3, 2, 0), "{made:?}");
    let outcome = lab.look_at_everything(&three_ports());
    assert!(outcome.reports.iter().all(|(.., report)| report.ready), "{outcome:?}");
    let again = lab.work.tally();
    assert_eq!((again.devices_created, again.devices_adopted, again.namespaces_adopted), (3, 0, 0));
    assert_eq!(lab.pictures(), 1);
}

#[test]
fn addresses_are_usable_at_once_and_routes_carry_the_daemons_protocol() {
    let mut lab = Lab::new();
    lab.pass(&three_ports());
    let mut session = lab.enter("web");
    let addresses = session.netlink.addresses().unwrap();
    // The kernel gives a link-local address its last state a moment later, on a thread of its own.
    let mut given = addresses.iter().filter(|address| !address.is_link_local());
    assert!(given.all(|address| !address.tentative), "{addresses:?}");
    let local = addresses.iter().filter(|address| address.is_link_local());
    assert_eq!(local.count(), 2, "{addresses:?}");
    let routes = session.netlink.routes().unwrap();
    assert_eq!(routes.iter().filter(|route| route.protocol == 87).count(), 4, "{routes:?}");
    let links = session.netlink.links().unwrap();
    assert!(links.iter().all(|link| link.up && link.alias.is_some()), "{links:?}");
}

#[test]
fn what_is_deleted_leaves_nothing() {
    let mut lab = Lab::new();
    let mut fabric = three_ports();
    fabric.networks.insert(name("net"), std::sync::Arc::new(object("net", lab::network())));
    lab.pass(&fabric);
    lab::delete_everything(&mut fabric);
    let outcome = lab.pass(&fabric);
    let gone: Vec<_> = outcome.gone.iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
    assert_eq!(gone, ["Namespace/web", "Network/net", "Port/node", "Port/tap", "Port/veth"]);
    assert!(lab.picture().ports.is_empty());
    assert!(!lab.netns_path("web").exists());
    assert!(lab.devices(&Place::Own).is_empty() && lab.devices(&Place::Ports).is_empty());
    assert_eq!(lab.work.tally().devices_removed, 3);
    assert_eq!(lab.work.tally().namespaces_removed, 1);
}

#[test]
fn a_later_daemon_adopts_what_an_earlier_one_made() {
    let mut lab = Lab::new();
    lab.pass(&three_ports());
    let before = (lab.devices(&Place::Namespace(name("web"))), lab.devices(&Place::Ports));
    lab.restart();
    let outcome = lab.pass(&three_ports());
    assert!(outcome.reports.iter().all(|(.., report)| report.ready), "{outcome:?}");
    assert_eq!(before, (lab.devices(&Place::Namespace(name("web"))), lab.devices(&Place::Ports)));
    let tally = lab.work.tally();
    assert_eq!((tally.devices_created, tally.devices_adopted, tally.devices_removed), (0, 3, 0));
    assert_eq!((tally.namespaces_created, tally.namespaces_adopted), (0, 1));
}

#[test]
fn what_an_earlier_daemon_was_told_to_delete_is_removed_by_the_later() {
    let mut lab = Lab::new();
    lab.pass(&three_ports());
    lab.restart();
    let mut fabric = three_ports();
    lab::delete_everything(&mut fabric);
    assert_eq!(lab.pass(&fabric).gone.len(), 4);
    assert!(lab.devices(&Place::Own).is_empty() && lab.devices(&Place::Ports).is_empty());
}

#[test]
fn a_change_of_one_port_looks_at_its_namespace_only() {
    let mut lab = Lab::new();
    let ports = vec![port("a", Tap(name("one")), "eth0"), port("b", Tap(name("two")), "eth0")];
    let mut fabric = fabric(&[("one", Namespace::Make), ("two", Namespace::Make)], ports);
    lab.pass(&fabric);
    lab.remove_link("two", "eth0");
    std::sync::Arc::make_mut(fabric.ports.get_mut("a").unwrap()).spec.mtu =
        crate::model::Mtu::new(1400).unwrap();
    let outcome = lab.pass(&fabric);
    let told: Vec<_> = outcome.reports.iter().map(|(kind, name, _)| format!("{kind}/{name}")).collect();
    assert_eq!(told, ["Port/a", "Namespace/one"]);
    assert_eq!(lab.work.tally().devices_created, 2);
    assert_eq!(lab.devices(&Place::Namespace(name("two"))), []);
}

#[test]
fn attributes_that_somebody_changed_are_put_right() {
    let mut lab = Lab::new();
    lab.pass(&three_ports());
    {
        let mut session = lab.enter("web");
        for device in ["eth0", "eth1"] {
            let index = session.netlink.link_by_name(device).unwrap().unwrap().index;
            let change = weft_host::link::LinkChange {
                up: Some(false),
                mtu: Some(1300),
                name: Some(format!("{device}x")),
                mac: Some([2, 0, 0, 0, 0, 1]),
                ..Default::default()
            };
            session
                .netlink
                .set_link(index, &weft_host::link::LinkChange { up: Some(false), ..Default::default() })
                .unwrap();
            session.netlink.set_link(index, &change).unwrap();
            session.netlink.add_address(index, "203.0.113.7".parse().unwrap(), 24).unwrap();
        }
    }
    let outcome = lab.look_at_everything(&three_ports());
    assert!(outcome.reports.iter().all(|(.., report)| report.ready), "{outcome:?}");
    assert_eq!(lab.work.tally().devices_created, 3);
    let mut session = lab.enter("web");
    let addresses = session.netlink.addresses().unwrap();
    assert!(addresses.iter().all(|a| a.address.to_string() != "203.0.113.7"), "{addresses:?}");
    assert_eq!(session.netlink.routes().unwrap().iter().filter(|route| route.protocol == 87).count(), 4);
    let link = session.netlink.link_by_name("eth1").unwrap().unwrap();
    assert_eq!((link.mtu, link.mac), (1500, Some(three_ports().ports["veth"].spec.mac.0)));
}

#[test]
fn a_foreign_device_keeps_the_name_until_it_goes() {
    let mut lab = Lab::new();
    let fabric = fabric(&[], vec![port("node", Host, "weft0")]);
    let foreign = weft_host::tap::Tap::open("weft0", 1).unwrap();
    let before = lab.devices(&Place::Own);
    let outcome = lab.pass(&fabric);
    let (.., report) = &outcome.reports[0];
    assert_eq!((report.ready, report.reason), (false, "DeviceNameTaken"), "{report:?}");
    assert_eq!(before, lab.devices(&Place::Own));
    foreign.persist(false).unwrap();
    drop(foreign);
    let outcome = lab.pass_at(&fabric, &News::default(), Instant::now() + Duration::from_secs(1));
    assert!(outcome.reports[0].2.ready, "{outcome:?}");
}

#[test]
fn an_adopted_namespace_that_goes_and_comes_back_takes_its_ports_along() {
    let mut lab = Lab::new();
    let path = lab.netns_path("theirs");
    let ports = vec![port("a", Tap(name("theirs")), "eth0"), port("b", Veth(name("theirs")), "eth1")];
    let fabric = fabric(&[("theirs", adopt(path.to_str().unwrap()))], ports);
    let outcome = lab.pass(&fabric);
    let reasons: Vec<_> = outcome.reports.iter().map(|(.., report)| report.reason).collect();
    assert_eq!(reasons, ["NamespaceMissing"; 3]);
    weft_host::netns::NetNs::create(&path, "somebody").unwrap();
    let outcome = lab.later(&fabric);
    assert!(
        outcome.reports.len() == 3 && outcome.reports.iter().all(|(.., report)| report.ready),
        "{outcome:?}"
    );
    weft_host::netns::remove(&path).unwrap();
    let outcome = lab.later(&fabric);
    assert!(outcome.reports.iter().all(|(.., report)| report.reason == "NamespaceMissing"), "{outcome:?}");
    assert!(lab.picture().ports.is_empty());
    weft_host::netns::NetNs::create(&path, "somebody").unwrap();
    let outcome = lab.later(&fabric);
    assert!(outcome.reports.iter().all(|(.., report)| report.ready), "{outcome:?}");
    assert_eq!(lab.picture().ports.len(), 2);
}

#[test]
fn a_made_namespace_that_was_removed_by_hand_is_made_again_with_its_ports() {
    let mut lab = Lab::new();
    lab.pass(&three_ports());
    weft_host::netns::remove(&lab.netns_path("web")).unwrap();
    let outcome = lab.later(&three_ports());
    assert!(outcome.reports.iter().all(|(.., report)| report.ready), "{outcome:?}");
    assert_eq!(lab.devices(&Place::Namespace(name("web"))).len(), 2);
    assert_eq!(lab.devices(&Place::Ports).len(), 1);
    assert_eq!(lab.picture().ports.len(), 3);
}

#[test]
fn a_namespace_that_somebody_else_made_is_not_used() {
    let mut lab = Lab::new();
    let path = lab.netns_path("web");
    weft_host::netns::NetNs::create(&path, "somebody").unwrap();
    let mut fabric = fabric(&[("web", Namespace::Make)], vec![port("a", Tap(name("web")), "eth0")]);
    let outcome = lab.pass(&fabric);
    assert!(outcome.reports.iter().all(|(.., report)| report.reason == "NamespaceTaken"), "{outcome:?}");
    lab::delete_everything(&mut fabric);
    assert_eq!(lab.pass(&fabric).gone.len(), 2);
    assert!(weft_host::netns::NetNs::open(&path).is_ok());
}

#[test]
fn a_pair_that_a_crash_left_without_marks_is_made_anew() {
    let mut lab = Lab::new();
    let fabric = fabric(&[("web", Namespace::Make)], vec![port("veth", Veth(name("web")), "eth1")]);
    lab.pass(&fabric);
    lab.unmark("web", "eth1");
    lab.unmark_end(&host_end(&name("veth")));
    lab.restart();
    let outcome = lab.pass(&fabric);
    assert!(outcome.reports.iter().all(|(.., report)| report.ready), "{outcome:?}");
    assert_eq!(lab.work.tally().devices_created, 1);
    assert_eq!(lab.devices(&Place::Ports).len(), 1);
}

#[test]
fn a_route_in_the_way_is_named_and_the_rest_of_the_port_works() {
    let mut lab = Lab::new();
    let mut veth = port("b", Veth(name("web")), "eth1");
    veth.spec.addresses = vec![address("198.18.2.10/24")];
    let mut fabric = fabric(&[("web", Namespace::Make)], vec![veth]);
    lab.pass(&fabric);
    {
        let mut session = lab.enter("web");
        let index = session.netlink.link_by_name("eth1").unwrap().map(|link| link.index);
        let prefix = ("0.0.0.0".parse().unwrap(), 0);
        let via = Some("198.18.2.9".parse().unwrap());
        let theirs = weft_host::link::Route { prefix, via, index, protocol: 4, metric: None, onlink: false };
        session.netlink.add_route(&theirs).unwrap();
    }
    std::sync::Arc::make_mut(fabric.ports.get_mut("b").unwrap()).spec.routes =
        vec![route("0.0.0.0/0", "198.18.2.1")];
    let outcome = lab.pass(&fabric);
    let report = &outcome.reports.iter().find(|(kind, ..)| *kind == Kind::Port).unwrap().2;
    assert_eq!((report.ready, report.reason), (false, "RouteTaken"), "{report:?}");
    assert_eq!(lab.picture().ports.len(), 1);
    assert_eq!(lab.work.tally().failures, 1);
}

#[test]
fn a_lost_prefix_route_comes_back_with_the_routes_that_need_it() {
    let mut lab = Lab::new();
    let fabric = three_ports();
    lab.pass(&fabric);
    let routes = |lab: &mut Lab| {
        let mut session = lab.enter("web");
        let mut routes = session.netlink.routes().unwrap();
        // The kernel's own of link-local addresses, and for multicast, do not depend on Weft.
        routes
            .retain(|route| matches!(route.protocol, 2 | 87) && !route.prefix.0.to_string().starts_with('f'));
        routes.sort_by_key(|route| (route.prefix, route.index));
        routes
    };
    // Somebody else's, which has nothing to do with it.
    {
        let mut session = lab.enter("web");
        let index = session.netlink.link_by_name("eth0").unwrap().map(|link| link.index);
        let prefix = ("203.0.113.0".parse().unwrap(), 24);
        let theirs =
            weft_host::link::Route { prefix, via: None, index, protocol: 2, metric: Some(7), onlink: false };
        session.netlink.add_route(&theirs).unwrap();
    }
    let before = routes(&mut lab);
    {
        let mut session = lab.enter("web");
        // Those by a next hop first.
        for own in [true, false] {
            for route in before.iter().filter(|it| (it.protocol == 87) == own && it.metric != Some(7)) {
                session.netlink.remove_route(route).unwrap();
            }
        }
        assert!(session.netlink.routes().unwrap().iter().all(|route| route.protocol != 87));
    }
    let outcome = lab.look_at_everything(&fabric);
    assert!(outcome.reports.iter().all(|(.., report)| report.ready), "{outcome:?}");
    assert_eq!(routes(&mut lab), before);
}

#[test]
fn tunnels_are_in_the_picture_while_they_live_and_have_their_keys() {
    use crate::fixture;
    use weft_stack::tunnel::wireguard::PrivateKey;
    let mut lab = Lab::new();
    let gre = fixture::object("Tunnel", "g", "  router: core\n  gre: {remote: 192.0.2.2}");
    let wireguard = fixture::object("Tunnel", "w", "  router: core\n  wireguard: {}");
    let yaml = format!("{}{gre}{wireguard}", fixture::object("Router", "core", ""));
    let mut fabric = fixture::fabric(&yaml);
    let told = |outcome: &super::pass::Outcome| {
        let tunnels = outcome.reports.iter().filter(|(kind, ..)| *kind == Kind::Tunnel);
        tunnels.map(|(_, name, report)| format!("{name} {}", report.reason)).collect::<Vec<_>>()
    };
    assert_eq!(told(&lab.pass(&fabric)), ["g Realized", "w KeyMissing"]);
    assert_eq!(lab.picture().tunnels.len(), 1);
    let keys = |number| {
        let key = PrivateKey::new([number; 32]);
        std::sync::Arc::new(crate::model::TunnelKeys::new(key, Vec::new(), Default::default()))
    };
    for number in [1, 2] {
        fabric.keys.insert(name("w"), keys(number));
        assert_eq!(told(&lab.pass(&fabric)), ["g Realized", "w Realized"], "another key is another picture");
    }
    assert_eq!((lab.picture().tunnels.len(), lab.pictures()), (2, 3));
    std::sync::Arc::make_mut(fabric.tunnels.get_mut("w").unwrap()).metadata.deleting =
        Some(std::time::SystemTime::now());
    let outcome = lab.pass(&fabric);
    assert_eq!(outcome.gone, [(Kind::Tunnel, name("w"))]);
    assert_eq!(lab.picture().tunnels.len(), 1);
}
