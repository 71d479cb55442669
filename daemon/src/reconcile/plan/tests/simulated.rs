//! A kernel small enough to be right: it does to plain values what Linux does to devices.

use super::*;
use crate::reconcile::observe::PlaceView;

pub struct Kernel {
    pub observed: Observed,
    next: u32,
}

impl Kernel {
    /// Only the namespace that the daemon runs in.
    pub fn new() -> Kernel {
        let mut kernel = Kernel { observed: Observed::default(), next: 10 };
        kernel.make_namespace(&Place::Own);
        kernel
    }

    pub fn make_namespace(&mut self, place: &Place) {
        let id = NetNsId { device: 4, inode: u64::from(self.number()) };
        let view = PlaceView { id, devices: BTreeMap::new() };
        let before = self.observed.places.insert(place.clone(), PlaceState::Present(view));
        assert!(!matches!(before, Some(PlaceState::Present(_))), "{place:?} exists already");
    }

    pub fn remove_namespace(&mut self, place: &Place) {
        let indices: Vec<_> = self.view(place).devices.keys().copied().collect();
        for index in indices {
            self.remove_device(place, index);
        }
        self.observed.places.insert(place.clone(), PlaceState::Absent);
    }

    /// A device and, of a pair, its other end.
    pub fn remove_device(&mut self, place: &Place, index: u32) {
        let Some(device) = self.view(place).devices.remove(&index) else { return };
        if device.kind != DeviceKind::Veth {
            return;
        }
        for state in self.observed.places.values_mut() {
            if let PlaceState::Present(view) = state {
                view.devices.retain(|_, other| other.peer != Some(index) || Some(other.index) != device.peer);
            }
        }
    }

    pub fn add_device(&mut self, place: &Place, mut device: Device) -> u32 {
        let view = self.view(place);
        assert!(view.named(&device.name).is_none(), "{place:?} has a {} already", device.name);
        if device.index == 0 {
            device.index = self.number();
        }
        let index = device.index;
        self.view(place).devices.insert(index, device);
        index
    }

    pub fn view(&mut self, place: &Place) -> &mut PlaceView {
        self.observed.view_mut(place).unwrap_or_else(|| panic!("{place:?} does not exist"))
    }

    pub fn device(&mut self, place: &Place, name: &str) -> &mut Device {
        let devices = &mut self.view(place).devices;
        devices
            .values_mut()
            .find(|device| device.name == name)
            .unwrap_or_else(|| panic!("no {name} at {place:?}"))
    }

    pub fn run(&mut self, plan: &Plan) {
        for operation in &plan.operations {
            self.step(operation);
        }
    }

    fn step(&mut self, operation: &Operation) {
        let place = &operation.place;
        match &operation.action {
            Action::MakeNamespace => self.make_namespace(place),
            Action::RemoveNamespace => self.remove_namespace(place),
            Action::RemoveDevice { index, name } => {
                if let Some(device) = self.view(place).devices.get(index) {
                    assert_eq!(device.name, *name);
                    assert!(device.owner.is_some() || *place == Place::Ports, "{name} is foreign");
                }
                self.remove_device(place, *index);
            }
            Action::MakeTap(new) => {
                let device = made(&operation.subject, new, DeviceKind::Tap);
                self.add_device(place, device);
            }
            Action::MakeVeth { device, host_end } => self.make_veth(operation, device, host_end),
            Action::Take(name) => {
                let Subject::Port(port) = &operation.subject else { panic!("{operation:?}") };
                let device = self.device(place, name);
                if device.taken.is_some() {
                    return;
                }
                assert!(device.owner.is_none() && device.used_for.is_none(), "{name} is not to be taken");
                (device.owner, device.taken) =
                    (Some(port.clone()), Some(Before { up: device.up, alias: None }));
            }
            Action::Inherit { device: name, from, before } => {
                let Subject::Port(heir) = &operation.subject else { panic!("{operation:?}") };
                let device = self.device(place, name);
                assert_eq!((device.owner.as_ref(), device.taken.as_ref()), (Some(from), Some(before)));
                device.alias_room = (device.alias_room + from.as_str().len())
                    .checked_sub(heir.as_str().len())
                    .expect("a mark that fits the alias");
                device.owner = Some(heir.clone());
            }
            Action::Release { name, before, used, .. } => {
                let device = self.device(place, name);
                assert_eq!(device.taken.take().as_ref(), Some(before));
                (device.owner, device.up) = (None, before.up || *used);
            }
            action => self.configure(place, action),
        }
    }

    fn make_veth(&mut self, operation: &Operation, new: &NewDevice, host_end: &str) {
        let peer = self.add_device(&operation.place, made(&operation.subject, new, DeviceKind::Veth));
        let end = NewDevice { name: host_end.to_owned(), mac: MacAddr([2; 6]), ..new.clone() };
        let end = Device { peer: Some(peer), ..made(&operation.subject, &end, DeviceKind::Veth) };
        let end = self.add_device(&Place::Ports, end);
        self.device(&operation.place, &new.name).peer = Some(end);
    }

    fn configure(&mut self, place: &Place, action: &Action) {
        match action {
            Action::Down(name) => {
                let device = self.device(place, name);
                device.up = false;
                device.routes.clear();
                device.addresses.retain(|address| address.address.is_ipv4());
            }
            Action::Up(name) => self.device(place, name).up = true,
            Action::Change(name, change) => self.change(place, name, change),
            Action::AddAddress(name, address) => {
                assert!(self.device(place, name).addresses.insert(*address), "{address:?} is there already");
            }
            Action::RemoveAddress(name, address) => self.remove_address(place, name, address),
            Action::AddRoute(name, route) => {
                let device = self.device(place, name);
                assert!(device.up, "a route by {name}, which is down");
                assert!(device.routes.insert(*route), "{route:?} is there already");
            }
            Action::RemoveRoute(name, route) => {
                self.device(place, name).routes.remove(route);
            }
            other => panic!("{other:?} is no configuration"),
        }
    }

    fn change(&mut self, place: &Place, name: &str, change: &Change) {
        if let Some(new) = &change.name {
            assert!(self.view(place).named(new).is_none(), "{new} is taken");
        }
        let device = self.device(place, name);
        assert!(device.owner.is_some(), "{name} is foreign");
        assert!(!(device.up && (change.name.is_some() || change.mac.is_some())), "{name} is up");
        device.mac = change.mac.or(device.mac);
        device.mtu = change.mtu.unwrap_or(device.mtu);
        device.txqueuelen = change.txqueuelen.unwrap_or(device.txqueuelen);
        device.gso_max_size = change.gso_max_size.or(device.gso_max_size);
        device.name = change.name.clone().unwrap_or(device.name.clone());
    }

    /// Removing an address takes those of its IPv4 subnet with it, as without promote_secondaries.
    fn remove_address(&mut self, place: &Place, name: &str, address: &InterfaceAddress) {
        let subnet =
            |a: &InterfaceAddress| weft_stack::Prefix::containing(a.address, a.prefix_length).unwrap();
        let gone = subnet(address);
        let device = self.device(place, name);
        device.addresses.remove(address);
        device.addresses.retain(|other| !other.address.is_ipv4() || subnet(other) != gone);
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}

fn made(subject: &Subject, new: &NewDevice, kind: DeviceKind) -> Device {
    let Subject::Port(owner) = subject else { panic!("{subject:?} has no device") };
    Device {
        index: 0,
        name: new.name.clone(),
        owner: Some(owner.clone()),
        kind,
        mac: Some(new.mac),
        mtu: new.mtu,
        txqueuelen: new.txqueuelen,
        gso_max_size: new.gso_max_size.or(Some(65_536)),
        up: false,
        peer: None,
        taken: None,
        alias_room: 100,
        retired: false,
        carrier: true,
        used_for: None,
        addresses: BTreeSet::new(),
        routes: BTreeSet::new(),
    }
}

/// Plans and runs until a plan is empty; the last plan and how many were run.
pub fn settle(kernel: &mut Kernel, fabric: &Fabric, scope: &Scope) -> (Plan, usize) {
    // Devices that hand their names on in a chain take a round a link, and addresses one more.
    for round in 0..6 {
        let next = plan(&kernel.observed, fabric, scope);
        if next.operations.is_empty() {
            return (next, round);
        }
        kernel.run(&next);
    }
    panic!("still {:?}", plan(&kernel.observed, fabric, scope).operations);
}
