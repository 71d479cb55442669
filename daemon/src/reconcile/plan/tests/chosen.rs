//! One world and one expectation each.

use super::simulated::{Kernel, settle};
use super::*;
use crate::model::Attachment::{Host, Tap, Uplink, Veth};
use crate::model::Survivor;
use crate::reconcile::observe::Use;
use std::sync::Arc;

fn web() -> Place {
    Place::Namespace(name("web"))
}

fn all(kernel: &Kernel, fabric: &Fabric) -> Plan {
    plan(&kernel.observed, fabric, &Scope::everything(fabric))
}

fn actions(plan: &Plan) -> Vec<&Action> {
    plan.operations.iter().map(|operation| &operation.action).collect()
}

fn delete<T: Clone>(object: &mut Arc<Object<T>>) {
    Arc::make_mut(object).metadata.deleting = Some(SystemTime::UNIX_EPOCH);
}

#[test]
fn a_tap_is_made_in_its_namespace_which_is_made_first() {
    let mut tap = port("web", Tap(name("web")), "eth0");
    tap.spec.addresses = vec![address("198.18.1.10/24")];
    tap.spec.routes = vec![route("0.0.0.0/0", "198.18.1.1")];
    let fabric = fabric(&[("web", Namespace::Make)], vec![tap]);
    let plan = all(&Kernel::new(), &fabric);
    assert!(
        matches!(
            actions(&plan)[..],
            [
                Action::MakeNamespace,
                Action::MakeTap(_),
                Action::AddAddress(..),
                Action::Up(_),
                Action::AddRoute(..)
            ]
        ),
        "{plan:?}"
    );
}

#[test]
fn a_veth_pair_needs_the_namespace_of_the_ends_once() {
    let ports = vec![port("a", Veth(name("web")), "eth0"), port("b", Veth(name("web")), "eth1")];
    let fabric = fabric(&[("web", Namespace::Make)], ports);
    let plan = all(&Kernel::new(), &fabric);
    let made =
        plan.operations.iter().filter(|o| o.place == Place::Ports && o.action == Action::MakeNamespace);
    assert_eq!(made.count(), 1);
    assert_eq!(plan.uprooted().cloned().collect::<Vec<_>>(), [name("a"), name("b")]);
}

#[test]
fn what_was_made_needs_nothing_more() {
    let ports = vec![
        port("a", Veth(name("web")), "eth0"),
        port("b", Tap(name("web")), "eth1"),
        port("node", Host, "weft0"),
    ];
    let fabric = fabric(&[("web", Namespace::Make)], ports);
    let mut kernel = Kernel::new();
    kernel.run(&all(&kernel, &fabric));
    assert_eq!(all(&kernel, &fabric), Plan::default());
}

#[test]
fn super_packets_are_as_long_as_a_run_of_datagrams_while_there_is_a_tunnel() {
    let mut long = port("c", Tap(name("web")), "eth2");
    // Two segments and the room for headers would be longer than a TAP takes.
    long.spec.mtu = Mtu::new(32_664).unwrap();
    let node = port("node", Host, "weft0");
    let ports = vec![port("a", Tap(name("web")), "eth0"), port("b", Veth(name("web")), "eth1"), long, node];
    let mut fabric = fabric(&[("web", Namespace::Make)], ports);
    let mut kernel = Kernel::new();
    kernel.run(&all(&kernel, &fabric));
    fabric.tunnels.insert(name("far"), Arc::new(object("far", vxlan())));
    // 42 segments of 1,448 octets.
    for expected in [42 * 1448 + 321, 65_536] {
        let plan = all(&kernel, &fabric);
        let limits = Change { gso_max_size: Some(expected), ..Change::default() };
        let changes = ["eth0", "eth1"].map(|device| Action::Change(device.into(), limits.clone()));
        assert_eq!(actions(&plan), changes.iter().collect::<Vec<_>>());
        kernel.run(&plan);
        assert_eq!(all(&kernel, &fabric), Plan::default());
        delete(fabric.tunnels.get_mut(&name("far")).unwrap());
    }
}

#[test]
fn a_foreign_device_with_the_wanted_name_is_left_alone_and_named() {
    let fabric = fabric(&[], vec![port("node", Host, "weft0")]);
    let mut kernel = Kernel::new();
    kernel.add_device(&Place::Own, foreign(7, "weft0"));
    let plan = all(&kernel, &fabric);
    assert!(plan.operations.is_empty(), "{plan:?}");
    let refusal = &plan.refusals[&Subject::Port(name("node"))];
    assert_eq!(refusal.reason, "DeviceNameTaken");
    assert!(
        refusal.message.contains("weft0") && refusal.message.contains("spec.device"),
        "{}",
        refusal.message
    );
}

#[test]
fn an_adopted_namespace_that_is_missing_refuses_its_ports_only() {
    let ports = vec![port("a", Tap(name("gone")), "eth0"), port("b", Tap(name("web")), "eth0")];
    let fabric = fabric(&[("gone", adopt("/run/netns/gone")), ("web", Namespace::Make)], ports);
    let plan = all(&Kernel::new(), &fabric);
    assert_eq!(plan.refusals[&Subject::Namespace(name("gone"))].reason, "NamespaceMissing");
    assert_eq!(plan.refusals[&Subject::Port(name("a"))].reason, "NamespaceMissing");
    assert_eq!(plan.refusals.len(), 2);
    assert_eq!(plan.uprooted().cloned().collect::<Vec<_>>(), [name("b")]);
}

#[test]
fn an_unusable_namespace_is_neither_made_nor_removed() {
    let mut fabric = fabric(&[("web", Namespace::Make)], vec![port("a", Tap(name("web")), "eth0")]);
    let mut kernel = Kernel::new();
    let refusal = Refusal { reason: "NamespaceTaken", message: "somebody made it".to_owned() };
    kernel.observed.places.insert(web(), PlaceState::Unusable(refusal));
    let first = all(&kernel, &fabric);
    assert!(first.operations.is_empty());
    assert_eq!(first.refusals[&Subject::Port(name("a"))].reason, "NamespaceTaken");
    fabric.namespaces.values_mut().for_each(delete);
    fabric.ports.values_mut().for_each(delete);
    assert_eq!(all(&kernel, &fabric), Plan::default());
}

#[test]
fn devices_are_removed_before_their_namespace() {
    let ports = vec![port("a", Veth(name("web")), "eth0"), port("b", Tap(name("web")), "eth1")];
    let mut fabric = fabric(&[("web", Namespace::Make)], ports);
    let mut kernel = Kernel::new();
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    fabric.namespaces.values_mut().for_each(delete);
    fabric.ports.values_mut().for_each(delete);
    let last = all(&kernel, &fabric);
    assert_eq!(last.operations.last().unwrap().action, Action::RemoveNamespace);
    kernel.run(&last);
    assert!(kernel.view(&Place::Ports).devices.is_empty());
    assert_eq!(all(&kernel, &fabric), Plan::default());
}

#[test]
fn an_adopted_namespace_is_left_where_it_is() {
    let mut fabric = fabric(&[("web", adopt("/run/netns/web"))], vec![port("a", Tap(name("web")), "eth0")]);
    let mut kernel = Kernel::new();
    kernel.make_namespace(&web());
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    fabric.namespaces.values_mut().for_each(delete);
    fabric.ports.values_mut().for_each(delete);
    let last = all(&kernel, &fabric);
    assert!(matches!(actions(&last)[..], [Action::RemoveDevice { .. }]), "{last:?}");
}

#[test]
fn a_pair_cut_short_by_a_crash_is_made_anew() {
    let fabric = fabric(&[("web", Namespace::Make)], vec![port("a", Veth(name("web")), "eth0")]);
    let mut kernel = Kernel::new();
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    kernel.device(&Place::Ports, &host_end(&name("a"))).owner = None;
    kernel.device(&web(), "eth0").owner = None;
    let plan = all(&kernel, &fabric);
    assert!(plan.refusals.is_empty(), "{plan:?}");
    assert!(
        matches!(actions(&plan)[..2], [Action::RemoveDevice { .. }, Action::MakeVeth { .. }]),
        "{plan:?}"
    );
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
}

#[test]
fn a_lost_end_takes_the_whole_pair_and_both_are_made_again() {
    let fabric = fabric(&[("web", Namespace::Make)], vec![port("a", Veth(name("web")), "eth0")]);
    let mut kernel = Kernel::new();
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    kernel.view(&Place::Ports).devices.clear();
    let plan = all(&kernel, &fabric);
    assert!(
        matches!(actions(&plan)[..2], [Action::RemoveDevice { .. }, Action::MakeVeth { .. }]),
        "{plan:?}"
    );
}

#[test]
fn a_new_ethernet_address_is_set_on_a_device_that_is_down_and_routes_return() {
    let mut tap = port("a", Tap(name("web")), "eth0");
    tap.spec.addresses = vec![address("198.18.1.10/24"), address("2001:db8:1::10/64")];
    tap.spec.routes = vec![route("::/0", "2001:db8:1::1")];
    let mut fabric = fabric(&[("web", Namespace::Make)], vec![tap]);
    let mut kernel = Kernel::new();
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    fabric.ports.values_mut().for_each(|port| Arc::make_mut(port).spec.mac = MacAddr([2, 0, 0, 0, 0, 9]));
    let change = all(&kernel, &fabric);
    assert!(
        matches!(actions(&change)[..], [Action::Down(_), Action::Change(..), Action::Up(_)]),
        "{change:?}"
    );
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    let device = kernel.device(&web(), "eth0");
    assert_eq!((device.addresses.len(), device.routes.len()), (2, 1));
}

#[test]
fn addresses_and_routes_follow_the_wish() {
    let mut tap = port("a", Tap(name("web")), "eth0");
    tap.spec.addresses = vec![address("198.18.1.10/24"), address("198.18.1.11/24")];
    tap.spec.routes = vec![route("0.0.0.0/0", "198.18.1.1")];
    let mut fabric = fabric(&[("web", Namespace::Make)], vec![tap]);
    let mut kernel = Kernel::new();
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    let spec = &mut Arc::make_mut(fabric.ports.get_mut("a").unwrap()).spec;
    spec.addresses = vec![address("198.18.1.11/24")];
    spec.routes = vec![route("0.0.0.0/0", "198.18.1.2")];
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    let device = kernel.device(&web(), "eth0");
    assert_eq!(device.addresses, BTreeSet::from([address("198.18.1.11/24")]));
    assert_eq!(device.routes, BTreeSet::from([route("0.0.0.0/0", "198.18.1.2")]));
}

#[test]
fn a_port_of_another_kind_replaces_the_device() {
    let mut fabric = fabric(&[("web", Namespace::Make)], vec![port("a", Veth(name("web")), "eth0")]);
    let mut kernel = Kernel::new();
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    Arc::make_mut(fabric.ports.get_mut("a").unwrap()).spec.attachment = Tap(name("web"));
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    assert_eq!(kernel.device(&web(), "eth0").kind, DeviceKind::Tap);
    assert!(kernel.view(&Place::Ports).devices.is_empty());
}

#[test]
fn a_device_of_a_port_that_is_no_more_is_removed() {
    let mut kernel = Kernel::new();
    let mut old = foreign(7, "old0");
    old.owner = Some(name("old"));
    kernel.add_device(&Place::Own, old);
    let plan = all(&kernel, &Fabric::default());
    assert!(matches!(actions(&plan)[..], [Action::RemoveDevice { index: 7, .. }]), "{plan:?}");
}

#[test]
fn what_survives_of_a_port_that_nobody_knows_is_left_alone_and_named() {
    let ports = vec![port("a", Veth(name("web")), "eth0"), port("b", Tap(name("web")), "eth1")];
    let before = fabric(&[("web", Namespace::Make)], ports);
    let mut kernel = Kernel::new();
    kernel.run(&all(&kernel, &before));
    let mut after = fabric(&[("web", Namespace::Make)], vec![port("c", Tap(name("web")), "eth0")]);
    after.survivors = Arc::new([name("a"), name("b")].map(|it| (it, Survivor::default())).into());
    let plan = all(&kernel, &after);
    assert!(plan.operations.is_empty(), "{plan:?}");
    assert_eq!(plan.refusals[&Subject::Port(name("c"))].reason, "DeviceNameTaken");
    after.survivors = Arc::default();
    assert!(!all(&kernel, &after).operations.is_empty());
}

#[test]
fn a_name_passes_from_a_port_that_goes_to_one_that_comes() {
    let mut fabric = fabric(&[("web", Namespace::Make)], vec![port("old", Tap(name("web")), "eth0")]);
    let mut kernel = Kernel::new();
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    fabric.ports.values_mut().for_each(delete);
    fabric.ports.insert(name("new"), Arc::new(port("new", Tap(name("web")), "eth0")));
    let plan = all(&kernel, &fabric);
    assert!(matches!(actions(&plan)[..2], [Action::RemoveDevice { .. }, Action::MakeTap(_)]), "{plan:?}");
}

#[test]
fn a_namespace_reached_by_two_paths_keeps_the_ports_of_both() {
    let ports = vec![port("a", Tap(name("one")), "eth0"), port("b", Tap(name("two")), "eth1")];
    let fabric = fabric(&[("one", adopt("/proc/7/ns/net")), ("two", adopt("/run/netns/x"))], ports);
    let mut kernel = Kernel::new();
    let (one, two) = (Place::Namespace(name("one")), Place::Namespace(name("two")));
    kernel.make_namespace(&one);
    let mut a = foreign(7, "eth0");
    a.owner = Some(name("a"));
    let mut b = foreign(8, "eth1");
    b.owner = Some(name("b"));
    kernel.add_device(&one, a);
    kernel.add_device(&one, b);
    let same = kernel.observed.places[&one].clone();
    kernel.observed.places.insert(two, same);
    let removed = |plan: &Plan| actions(plan).iter().any(|a| matches!(a, Action::RemoveDevice { .. }));
    assert!(!removed(&all(&kernel, &fabric)));
    let narrow = Scope::closed(&fabric, BTreeSet::from([one]), BTreeSet::new());
    assert!(!removed(&plan(&kernel.observed, &fabric, &narrow)));
}

#[test]
fn a_narrow_scope_leaves_the_rest_of_the_fabric_alone() {
    let ports = vec![port("a", Tap(name("web")), "eth0"), port("b", Tap(name("db")), "eth0")];
    let fabric = fabric(&[("web", Namespace::Make), ("db", Namespace::Make)], ports);
    let scope = Scope::closed(&fabric, BTreeSet::new(), BTreeSet::from([name("a")]));
    let plan = plan(&Kernel::new().observed, &fabric, &scope);
    assert!(plan.operations.iter().all(|operation| operation.place == web()), "{plan:?}");
    assert_eq!(plan.uprooted().collect::<Vec<_>>(), [&name("a")]);
}

/// A network card of the node, down and without addresses.
fn card(index: u32, name: &str) -> Device {
    Device {
        kind: DeviceKind::Other,
        up: false,
        addresses: BTreeSet::new(),
        mac: Some(MacAddr([2; 6])),
        ..foreign(index, name)
    }
}

#[test]
fn a_card_is_taken_and_given_back_as_it_was() {
    let mut kernel = Kernel::new();
    kernel.add_device(&Place::Own, card(5, "lan0"));
    let before = kernel.view(&Place::Own).clone();
    let mut fabric = fabric(&[], vec![port("wan", Uplink, "lan0")]);
    let plan = all(&kernel, &fabric);
    assert_eq!(actions(&plan), [&Action::Take("lan0".into()), &Action::Up("lan0".into())]);
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    let wan = fabric.ports.get_mut("wan").unwrap();
    assert!(standing(&kernel.observed, &name("wan"), &wan.spec).is_some());
    delete(wan);
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    assert_eq!(*kernel.view(&Place::Own), before);
}

#[test]
fn a_card_that_ports_share_is_taken_once_inherited_and_given_back_after_the_last() {
    let mut kernel = Kernel::new();
    kernel.add_device(&Place::Own, card(5, "lan0"));
    let before = kernel.view(&Place::Own).clone();
    let mut fabric = fabric(&[], vec![port("blue", Uplink, "lan0"), port("green", Uplink, "lan0")]);
    let whole = |fabric: &Fabric| Scope::everything(fabric);
    let each = [Action::Take("lan0".into()), Action::Up("lan0".into())];
    assert_eq!(actions(&all(&kernel, &fabric)), each.iter().chain(&each).collect::<Vec<_>>());
    settle(&mut kernel, &fabric, &whole(&fabric));
    let owner = |kernel: &mut Kernel| kernel.device(&Place::Own, "lan0").owner.clone().unwrap();
    assert_eq!(owner(&mut kernel), name("blue"));
    for (uplink, object) in &fabric.ports {
        assert!(standing(&kernel.observed, uplink, &object.spec).is_some(), "{uplink}");
    }
    delete(fabric.ports.get_mut("blue").unwrap());
    let plan = all(&kernel, &fabric);
    assert!(matches!(actions(&plan)[..], [Action::Inherit { .. }]) && plan.uprooted().next().is_none());
    settle(&mut kernel, &fabric, &whole(&fabric));
    assert_eq!(owner(&mut kernel), name("green"));
    fabric.ports.insert(name("blue"), Arc::new(port("blue", Uplink, "lan0")));
    assert_eq!(actions(&all(&kernel, &fabric)), [] as [&Action; 0]);
    kernel.device(&Place::Own, "lan0").used_for = Some(Use::PortOf("br0".into()));
    let (plan, _) = settle(&mut kernel, &fabric, &whole(&fabric));
    assert_eq!((plan.refusals.len(), kernel.device(&Place::Own, "lan0").owner.clone()), (2, None));
    kernel.device(&Place::Own, "lan0").used_for = None;
    settle(&mut kernel, &fabric, &whole(&fabric));
    fabric.ports.values_mut().for_each(delete);
    kernel.device(&Place::Own, "lan0").up = true;
    settle(&mut kernel, &fabric, &whole(&fabric));
    assert_eq!(kernel.view(&Place::Own).devices.keys().count(), before.devices.keys().count());
    assert!(kernel.device(&Place::Own, "lan0").taken.is_none());
}

#[test]
fn a_shared_card_that_the_first_port_cannot_take_is_for_the_next_to_take() {
    let mut kernel = Kernel::new();
    kernel.add_device(&Place::Own, card(5, "lan0"));
    let fabric = fabric(&[], vec![port("blue", Uplink, "lan0"), port("green", Uplink, "lan0")]);
    let mut plan = all(&kernel, &fabric);
    plan.operations.retain(|operation| operation.subject != Subject::Port(name("blue")));
    kernel.run(&plan);
    let device = kernel.device(&Place::Own, "lan0");
    assert_eq!((device.owner.clone(), device.up), (Some(name("green")), true));
    assert_eq!(actions(&all(&kernel, &fabric)), [] as [&Action; 0]);
}

#[test]
fn a_card_goes_to_an_heir_whose_mark_fits_or_back() {
    let mut kernel = Kernel::new();
    kernel.add_device(&Place::Own, card(5, "lan0"));
    let ports = ["amber", "brown-ochre", "green"].map(|uplink| port(uplink, Uplink, "lan0"));
    let mut fabric = fabric(&[], ports.to_vec());
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    kernel.device(&Place::Own, "lan0").alias_room = "brown-ochre".len() - "amber".len() - 1;
    delete(fabric.ports.get_mut("amber").unwrap());
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    assert_eq!(kernel.device(&Place::Own, "lan0").owner, Some(name("green")));
    delete(fabric.ports.get_mut("green").unwrap());
    let plan = all(&kernel, &fabric);
    assert!(matches!(actions(&plan)[..], [Action::Release { .. }]), "{plan:?}");
}

#[test]
fn a_card_is_left_alone_when_another_is_named() {
    let mut kernel = Kernel::new();
    kernel.add_device(&Place::Own, card(5, "lan0"));
    kernel.add_device(&Place::Own, card(6, "lan1"));
    let mut fabric = fabric(&[], vec![port("wan", Uplink, "lan0")]);
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    Arc::make_mut(fabric.ports.get_mut("wan").unwrap()).spec.device =
        crate::model::DeviceName::new("lan1").unwrap();
    let plan = all(&kernel, &fabric);
    assert_eq!(plan.uprooted().collect::<Vec<_>>(), [&name("wan")]);
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    let taken = |kernel: &mut Kernel, name| kernel.device(&Place::Own, name).taken.is_some();
    assert_eq!((taken(&mut kernel, "lan0"), taken(&mut kernel, "lan1")), (false, true));
}

#[test]
fn a_card_in_use_is_refused_and_one_that_comes_into_use_is_given_back() {
    let mut kernel = Kernel::new();
    kernel.add_device(&Place::Own, card(5, "lan0"));
    let fabric = fabric(&[], vec![port("wan", Uplink, "lan0")]);
    settle(&mut kernel, &fabric, &Scope::everything(&fabric));
    for used_for in [
        Use::Address("192.0.2.1".parse().unwrap()),
        Use::PortOf("br0".into()),
        Use::Below("lan0.7".into()),
        Use::AnotherDaemon,
    ] {
        kernel.device(&Place::Own, "lan0").used_for = Some(used_for.clone());
        let (plan, _) = settle(&mut kernel, &fabric, &Scope::everything(&fabric));
        let refusal = &plan.refusals[&Subject::Port(name("wan"))];
        assert_eq!(refusal.reason, "DeviceInUse");
        assert!(refusal.message.contains(&used_for.to_string()), "{}", refusal.message);
        let device = kernel.device(&Place::Own, "lan0");
        assert!(device.owner.is_none() && device.up);
        kernel.device(&Place::Own, "lan0").used_for = None;
        settle(&mut kernel, &fabric, &Scope::everything(&fabric));
        assert!(kernel.device(&Place::Own, "lan0").taken.is_some());
    }
}

#[test]
fn a_missing_card_and_one_that_is_a_port_already_are_refused() {
    let mut kernel = Kernel::new();
    let mut host = fabric(&[], vec![port("node", Host, "lan0")]);
    settle(&mut kernel, &host, &Scope::everything(&host));
    let wan = port("wan", Uplink, "lan0");
    host.ports.insert(name("wan"), Arc::new(wan.clone()));
    let reason = |plan: &Plan| plan.refusals[&Subject::Port(name("wan"))].reason;
    assert_eq!(reason(&all(&kernel, &host)), "DeviceInUse");
    assert_eq!(reason(&all(&Kernel::new(), &fabric(&[], vec![wan]))), "DeviceMissing");
}
