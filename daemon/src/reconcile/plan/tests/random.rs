//! Random fabrics over random leftovers.

use proptest::prelude::*;

use super::simulated::{Kernel, settle};
use super::*;

const NAMESPACES: [&str; 3] = ["red", "green", "blue"];
const DEVICES: [&str; 3] = ["eth0", "eth1", "lan0"];

/// A port as numbers: name, kind, namespace, device, addresses, mtu, being taken down.
type Dice = (u8, u8, usize, usize, u8, bool, bool);

fn dice() -> impl Strategy<Value = Vec<Dice>> {
    let one = (0..6u8, 0..3u8, 0..3usize, 0..3usize, any::<u8>(), any::<bool>(), prop::bool::weighted(0.2));
    prop::collection::vec(one, 0..8)
}

/// The fabric that these numbers stand for; device names are unique in a namespace, as the API demands.
fn fabric_of(dice: &[Dice], adopted: [bool; 3]) -> Fabric {
    let spec = |i: usize| if adopted[i] { adopt("/run/netns/any") } else { Namespace::Make };
    let mut fabric = fabric(&[0, 1, 2].map(|i| (NAMESPACES[i], spec(i))), Vec::new());
    for &(number, kind, namespace, device, bits, big, deleting) in dice {
        let space = name(NAMESPACES[namespace]);
        let attachment = match kind {
            0 => Attachment::Tap(space),
            1 => Attachment::Veth(space),
            _ => Attachment::Host,
        };
        let mut port = port(&format!("port-{number}"), attachment, DEVICES[device]);
        port.spec.addresses = (0..8).filter(|bit| bits & (1 << bit) != 0).map(chosen_address).collect();
        if !port.spec.addresses.is_empty() {
            port.spec.routes = vec![route("0.0.0.0/0", "198.18.1.1"), route("::/0", "2001:db8::1")];
        }
        port.spec.mtu = Mtu::new(if big { 9000 } else { 1500 }).unwrap();
        port.metadata.deleting = deleting.then_some(SystemTime::UNIX_EPOCH);
        let (place, wanted) = (Place::of(&port.spec), &port.spec.device);
        let mut others = fabric.ports.values().filter(|other| other.metadata.name != port.metadata.name);
        if !others.any(|other| Place::of(&other.spec) == place && other.spec.device == *wanted) {
            fabric.ports.insert(port.metadata.name.clone(), std::sync::Arc::new(port));
        }
    }
    fabric
}

fn chosen_address(bit: u8) -> InterfaceAddress {
    if bit < 4 {
        address(&format!("198.18.{}.{bit}/24", bit & 1))
    } else {
        address(&format!("2001:db8::{bit}/64"))
    }
}

/// What may happen to a kernel between two passes: at a place, to its nth device.
fn disturb(kernel: &mut Kernel, place: &Place, nth: usize, what: u8) {
    if kernel.observed.view(place).is_none() {
        return;
    }
    let view = kernel.view(place);
    let Some(index) = view.devices.keys().nth(nth).copied() else { return };
    let free = view.named("tmp0").is_none();
    let Some(device) = view.devices.get_mut(&index).filter(|device| device.owner.is_some()) else { return };
    match what {
        0 => kernel.remove_device(place, index),
        1 => device.up = false,
        2 => device.addresses.clear(),
        3 => device.mac = Some(MacAddr([2, 0, 0, 0, 0, 1])),
        4 if free => device.name = "tmp0".to_owned(),
        5 => drop(device.addresses.insert(address("203.0.113.7/24"))),
        6 if *place == Place::Ports => device.owner = None,
        _ => device.routes.clear(),
    }
}

fn places() -> Vec<Place> {
    let mut places = vec![Place::Own, Place::Ports];
    places.extend(NAMESPACES.map(|n| Place::Namespace(name(n))));
    places
}

/// A world in which `before` was made true, strangers moved in and accidents happened.
fn world(
    before: &Fabric,
    adopted: [bool; 3],
    strangers: &[(usize, usize)],
    accidents: &[(usize, usize, u8)],
) -> Kernel {
    let mut kernel = Kernel::new();
    for i in 0..3 {
        if adopted[i] {
            kernel.make_namespace(&Place::Namespace(name(NAMESPACES[i])));
        }
    }
    settle(&mut kernel, before, &Scope::everything(before));
    let places = places();
    for &(place, device) in strangers {
        let place = [&places[0], &places[2], &places[3]][place];
        if kernel.observed.view(place).is_some_and(|view| view.named(DEVICES[device]).is_none()) {
            kernel.add_device(place, foreign(0, DEVICES[device]));
        }
    }
    for &(place, nth, what) in accidents {
        disturb(&mut kernel, &places[place], nth, what);
    }
    kernel
}

fn strangers_in(kernel: &Kernel) -> Vec<(Place, Device)> {
    let mut found = Vec::new();
    for place in places().into_iter().filter(|place| *place != Place::Ports) {
        let devices = kernel.observed.view(&place).into_iter().flat_map(|view| view.devices.values());
        found.extend(devices.filter(|d| d.owner.is_none()).map(|device| (place.clone(), device.clone())));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_world_settles_and_strangers_stay_as_they_are(
        before in dice(), after in dice(), adopted in any::<[bool; 3]>(),
        strangers in prop::collection::vec((0..3usize, 0..3usize), 0..4),
        accidents in prop::collection::vec((0..5usize, 0..4usize, 0..8u8), 0..6),
    ) {
        let mut kernel = world(&fabric_of(&before, adopted), adopted, &strangers, &accidents);
        let found = strangers_in(&kernel);
        let fabric = fabric_of(&after, adopted);
        let (last, _) = settle(&mut kernel, &fabric, &Scope::everything(&fabric));
        prop_assert_eq!(found, strangers_in(&kernel));
        for (port, object) in &fabric.ports {
            let refused = last.refusals.contains_key(&Subject::Port(port.clone()));
            let view = kernel.observed.view(&Place::of(&object.spec));
            let there = view.is_some_and(|view| view.owned_by(port).count() == 1);
            let wished = object.metadata.deleting.is_none();
            prop_assert!(refused || there == wished, "{} {:?}", port, last);
        }
    }

    #[test]
    fn a_fabric_taken_down_leaves_nothing(before in dice(), adopted in any::<[bool; 3]>()) {
        let mut fabric = fabric_of(&before, adopted);
        let mut kernel = world(&fabric, adopted, &[], &[]);
        fabric.ports.values_mut().for_each(|port| std::sync::Arc::make_mut(port).metadata.deleting = Some(SystemTime::UNIX_EPOCH));
        fabric.namespaces.values_mut().for_each(|space| std::sync::Arc::make_mut(space).metadata.deleting = Some(SystemTime::UNIX_EPOCH));
        settle(&mut kernel, &fabric, &Scope::everything(&fabric));
        for (place, state) in &kernel.observed.places {
            match state {
                PlaceState::Present(view) => prop_assert!(view.devices.is_empty(), "{:?}: {:?}", place, view),
                _ => continue,
            }
            let adopted_place = (0..3).any(|i| adopted[i] && *place == Place::Namespace(name(NAMESPACES[i])));
            prop_assert!(adopted_place || matches!(place, Place::Own | Place::Ports));
        }
    }
}
