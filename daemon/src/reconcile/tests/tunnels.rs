//! The sockets that Tunnels need.

use std::time::{Duration, Instant};

use super::lab::{self, Lab};
use super::{fabric, name, object, port};
use crate::model::{Attachment, Fabric, Kind, Namespace};
use crate::reconcile::agenda::News;
use crate::reconcile::fixture::vxlan;
use crate::reconcile::pass::Outcome;
use crate::status::Report;

const PORT: u16 = 4789;

fn tunneled() -> Fabric {
    let mut fabric = fabric(&[], Vec::new());
    fabric.networks.insert(name("net"), std::sync::Arc::new(object("net", lab::network())));
    fabric.tunnels.insert(name("far"), std::sync::Arc::new(object("far", vxlan())));
    fabric
}

fn report(outcome: &Outcome) -> Option<&Report> {
    outcome.reports.iter().find(|(kind, ..)| *kind == Kind::Tunnel).map(|(.., report)| report)
}

fn is_free() -> bool {
    std::net::UdpSocket::bind(("0.0.0.0", PORT)).is_ok()
}

#[test]
fn the_port_of_a_tunnel_is_open_while_there_is_one() {
    let mut lab = Lab::new();
    let mut fabric = tunneled();
    let outcome = lab.pass(&fabric);
    assert!(report(&outcome).unwrap().ready, "{outcome:?}");
    assert!(!is_free());
    std::sync::Arc::make_mut(fabric.tunnels.get_mut("far").unwrap()).metadata.deleting =
        Some(std::time::SystemTime::UNIX_EPOCH);
    assert_eq!(lab.pass(&fabric).gone, [(Kind::Tunnel, name("far"))]);
    assert!(is_free());
}

#[test]
fn a_tunnel_whose_port_is_used_by_others_says_so_and_is_there_when_it_is_free() {
    let mut lab = Lab::new();
    let fabric = tunneled();
    let held = std::net::UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
    let outcome = lab.pass(&fabric);
    let told = report(&outcome).unwrap();
    assert_eq!((told.ready, told.reason), (false, "PortInUse"), "{told:?}");
    assert!(told.message.contains("UDP port 4789"), "{told:?}");
    let now = Instant::now();
    assert!(lab.work.next_pass() <= now + Duration::from_millis(100));
    let again = lab.pass_at(&fabric, &News::default(), now + Duration::from_millis(200));
    assert!(report(&again).is_none(), "nothing new is to be told: {again:?}");
    assert_eq!(lab.work.tally().failures, 2);
    drop(held);
    let outcome = lab.pass_at(&fabric, &News::default(), now + Duration::from_secs(2));
    assert!(report(&outcome).unwrap().ready, "{outcome:?}");
    assert!(!is_free());
}

#[test]
fn a_tunnel_that_comes_or_goes_has_devices_take_super_packets_of_another_length_at_once() {
    let mut lab = Lab::new();
    let mut fabric = tunneled();
    let tunnel = fabric.tunnels.remove("far").unwrap();
    let space = object("box", Namespace::Make);
    fabric.namespaces.insert(name("box"), std::sync::Arc::new(space));
    let web = port("web", Attachment::Tap(name("box")), "eth0");
    fabric.ports.insert(name("web"), std::sync::Arc::new(web));
    let limit = |lab: &mut Lab| {
        let mut session = lab.enter("box");
        session.netlink.link_by_name("eth0").unwrap().and_then(|link| link.gso_max_size)
    };
    lab.pass(&fabric);
    let before = limit(&mut lab).unwrap();
    fabric.tunnels.insert(name("far"), tunnel);
    lab.pass(&fabric);
    assert!(limit(&mut lab).is_some_and(|now| (50_000..before).contains(&now)), "{:?}", limit(&mut lab));
    fabric.tunnels.clear();
    lab.pass(&fabric);
    assert_eq!(limit(&mut lab), Some(before));
}
