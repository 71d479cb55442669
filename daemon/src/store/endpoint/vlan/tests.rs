//! Which VLAN containers are put on, over a real store.

use super::super::tests::{apply, attach, store, wish};
use super::super::{AddressSource, AttachWish, Attached};
use super::*;
use crate::fixture::object;
use crate::store::Store;
use crate::store::tests::Folder;

/// A Network `n` with these lines of its spec.
fn network(spec: &str) -> String {
    object("Network", "n", &format!("  router: core\n{spec}"))
}

const OFFICE: &str = "  subnets:\n  - {prefix: 198.18.10.0/24, gateway: 198.18.10.1, vlan: 10}\n  \
                      - {prefix: 198.18.20.0/24, gateway: 198.18.20.1, vlan: 20}\n  \
                      - {prefix: 'fd00:20::/64', gateway: 'fd00:20::1', vlan: 20}";

fn on(container: &str, vlan: u32) -> AttachWish {
    let vlan = (vlan != 0).then(|| VlanId::new(vlan).unwrap());
    AttachWish { network: Name::new("n").unwrap(), vlan, ..wish(container, "eth0") }
}

/// VLAN, addresses and next hops of the Port.
fn made(store: &Store, wish: &AttachWish) -> (u16, Vec<String>, Vec<String>) {
    let Attached::New(name, _) = attach(store, wish) else { panic!("it was there") };
    let port = store.fabric().ports[&name].spec.clone();
    let addresses = port.addresses.iter().map(|own| own.address.to_string());
    let hops = port.routes.iter().map(|route| route.via.to_string());
    (port.switching.vlans.own().unwrap(), addresses.collect(), hops.collect())
}

fn refused(store: &Store, wish: &AttachWish) -> String {
    store.attach(wish, &|_| Ok(())).unwrap_err().to_string()
}

#[test]
fn addresses_and_gateways_are_those_of_the_vlan() {
    let folder = Folder::new();
    let store = store(&folder);
    apply(&store, &network(OFFICE));
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        made(&store, &on("4f2a", 20)),
        (20, texts(&["198.18.20.2", "fd00:20::2"]), texts(&["198.18.20.1", "fd00:20::1"]))
    );
    assert_eq!(made(&store, &on("9c01", 10)), (10, texts(&["198.18.10.2"]), texts(&["198.18.10.1"])));
}

#[test]
fn what_the_network_does_not_have_is_refused_with_what_it_has() {
    let folder = Folder::new();
    let store = store(&folder);
    apply(&store, &network(OFFICE));
    assert_eq!(refused(&store, &on("4f2a", 30)), "vlan: 30 is no VLAN of Network/n, one of 10, 20 expected");
    assert_eq!(refused(&store, &on("4f2a", 0)), "vlan: not given, one of Network/n's 10, 20 expected");
    let plain = AttachWish { network: Name::new("front").unwrap(), ..on("4f2a", 7) };
    let expected = "vlan: 7 given, but Network/front has no VLANs: nothing expected";
    assert_eq!(refused(&store, &plain), expected);
    let want = |text: &str| AddressSource::Pools { wanted: vec![text.parse().unwrap()], ranges: Vec::new() };
    let other = AttachWish { addresses: want("198.18.20.9"), ..on("4f2a", 10) };
    let expected = "198.18.20.9 is in no subnet of Network/n on VLAN 10, one of 198.18.10.0/24 expected";
    assert!(refused(&store, &other).ends_with(expected), "{}", refused(&store, &other));
    let given = AddressSource::Given(vec!["198.18.10.9/24".into(), "198.18.20.9/24".into()]);
    let other = AttachWish { addresses: given, ..on("4f2a", 10) };
    let expected = "given.addresses[1]: 198.18.20.9 is of 198.18.20.0/24 of Network/n, which is on VLAN 20, one on \
                    VLAN 10 expected";
    assert_eq!(refused(&store, &other), expected);
}

#[test]
fn the_only_vlan_goes_without_saying_and_the_untagged_segment_first() {
    let folder = Folder::new();
    let store = store(&folder);
    apply(&store, &network("  subnets: [{prefix: 198.18.20.0/24, vlan: 20}]"));
    assert_eq!(made(&store, &on("4f2a", 0)).0, 20);
    apply(&store, &network("  subnets: [{prefix: 198.18.20.0/24, vlan: 20}, {prefix: 198.18.30.0/24}]"));
    assert_eq!(made(&store, &on("9c01", 0)).1, ["198.18.30.1"]);
    apply(&store, &object("Network", "l2", "  mtu: 1400"));
    let l2 = |container| AttachWish { network: Name::new("l2").unwrap(), ..on(container, 0) };
    assert_eq!(made(&store, &l2("a1")).0, UNTAGGED);
    let wan = "  network: l2\n  type: uplink\n  device: nic0\n  trunk: {allowed: ['7']}";
    apply(&store, &object("Port", "wan", wan));
    assert_eq!(made(&store, &l2("a2")), (7, vec![], vec![]));
    apply(&store, &object("Port", "wan", &wan.replace("'7'", "7, 100-199")));
    assert_eq!(refused(&store, &l2("a3")), "vlan: not given, one of Network/l2's 7, 100-199 expected");
    let known = AttachWish { vlan: VlanId::new(150).ok(), ..l2("a3") };
    assert_eq!(made(&store, &known).0, 150);
}

#[test]
fn a_device_stays_on_its_vlan() {
    let folder = Folder::new();
    let store = store(&folder);
    apply(&store, &network(OFFICE));
    made(&store, &on("4f2a", 20));
    assert!(matches!(attach(&store, &on("4f2a", 20)), Attached::Existing(..)));
    assert!(matches!(attach(&store, &on("4f2a", 0)), Attached::Existing(..)), "nothing else is asked for");
    let expected = "eth0 is on VLAN 20 of Network/n already, not on VLAN 10";
    assert!(refused(&store, &on("4f2a", 10)).ends_with(expected), "{}", refused(&store, &on("4f2a", 10)));
    let later = AttachWish {
        endpoint: super::super::Endpoint { namespace_inode: 8, ..on("4f2a", 10).endpoint },
        ..on("4f2a", 10)
    };
    assert!(matches!(attach(&store, &later), Attached::Leaving(_)), "another container of the name");
}

#[test]
fn a_full_vlan_does_not_take_from_another() {
    let folder = Folder::new();
    let store = store(&folder);
    apply(
        &store,
        &network("  subnets: [{prefix: 198.18.10.0/30, vlan: 10}, {prefix: 198.18.20.0/24, vlan: 20}]"),
    );
    for container in ["a1", "a2"] {
        made(&store, &on(container, 10));
    }
    let told = refused(&store, &on("a3", 10));
    assert!(told.contains("198.18.10.0/30: 2 of 2 in use") && !told.contains("198.18.20.0"), "{told}");
    assert_eq!(made(&store, &on("a3", 20)).1, ["198.18.20.1"]);
}
