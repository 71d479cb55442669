//! From news to the scope of a pass.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{PATHS, Reconciliation};
use crate::model::{Fabric, Name, differences};
use crate::reconcile::agenda::{DeviceNews, News};
use crate::reconcile::observe::PlaceState;
use crate::reconcile::observe::kernel::id_at;
use crate::reconcile::place::{Place, is_here};
use crate::reconcile::plan::{Subject, sends_runs};
use crate::reconcile::scope::Scope;

/// A scope before it is closed.
#[derive(Default)]
struct Reach {
    places: BTreeSet<Place>,
    ports: BTreeSet<Name>,
}

impl Reconciliation {
    /// What has to be looked at. What has to wait after a failure is left out, unless it was changed.
    pub(super) fn scope(&mut self, fabric: &Fabric, news: &News, now: Instant) -> Scope {
        let changed = self.changed(fabric);
        let mut reach = Reach::default();
        self.heard(fabric, news, &mut reach);
        self.tally.kernel_events +=
            if reach.places.is_empty() && reach.ports.is_empty() { 0 } else { news.events };
        self.timed(fabric, now, &mut reach);
        let due: BTreeSet<_> = self.retries.due(now).cloned().collect();
        for subject in &due {
            match subject {
                Subject::Ports => drop(reach.places.insert(Place::Ports)),
                Subject::Namespace(name) => drop(reach.places.insert(Place::Namespace(name.clone()))),
                Subject::Port(name) => drop(reach.ports.insert(name.clone())),
                // Nothing has to be looked at: opening tells, and so does changing the node's table and its routes.
                Subject::Underlay(_) | Subject::Nat | Subject::NodeRoutes => {}
            }
        }
        reach.places.extend(changed.places.iter().cloned());
        reach.ports.extend(changed.ports.iter().cloned());
        self.add_other_names(&mut reach);
        let mut scope = if news.everything || now >= self.next_resync {
            self.next_resync = now + self.resync;
            self.kernel.number_anew();
            self.nat.doubt();
            self.node_routes.heard();
            Scope::everything(fabric)
        } else {
            Scope::closed(fabric, reach.places, reach.ports)
        };
        scope.ports.retain(|name| {
            changed.ports.contains(name) || !self.retries.holds(&Subject::Port(name.clone()), now)
        });
        scope
    }

    /// Objects that differ from those of the last pass.
    fn changed(&self, fabric: &Fabric) -> Reach {
        let spaces = differences(&self.fabric.namespaces, &fabric.namespaces);
        let ports = differences(&self.fabric.ports, &fabric.ports);
        // How long super-packets may be depends on whether there are tunnels.
        let all = sends_runs(&self.fabric) != sends_runs(fabric);
        let others = fabric.ports.keys().filter(|_| all).cloned();
        Reach {
            places: spaces.filter_map(|it| it.new.map(|_| Place::Namespace(it.name.clone()))).collect(),
            ports: ports.filter_map(|it| it.new.map(|_| it.name.clone())).chain(others).collect(),
        }
    }

    /// What the kernel and the workers told of.
    fn heard(&self, fabric: &Fabric, news: &News, reach: &mut Reach) {
        let lost = news.lost.iter().filter_map(|name| fabric.ports.get_key_value(name.as_str()));
        reach.ports.extend(lost.map(|(name, _)| name.clone()));
        for device in &news.links {
            for place in self.kernel.places_numbered(device.namespace, &self.observed) {
                self.heard_of_link(fabric, &place, device, reach);
            }
        }
        for number in &news.addresses {
            for place in self.kernel.places_numbered(*number, &self.observed) {
                let of_others = match &place {
                    // The stack's ends have neither addresses nor routes.
                    Place::Ports => true,
                    Place::Own => !fabric.ports.values().any(|port| is_here(&port.spec)),
                    Place::Namespace(_) => false,
                };
                if !of_others {
                    reach.places.insert(place);
                }
            }
        }
    }

    fn heard_of_link(&self, fabric: &Fabric, place: &Place, device: &DeviceNews, reach: &mut Reach) {
        // By index: a device of the daemon's may have been given another name.
        let known = self.observed.view(place).and_then(|view| view.devices.get(&device.index));
        let owner = known.and_then(|device| device.owner.clone());
        match place {
            Place::Ports => reach.ports.extend(owner.filter(|name| fabric.ports.contains_key(name))),
            // The node's own devices come and go; only those that are or shall be the daemon's count.
            Place::Own if owner.is_none() && !is_wished_here(fabric, &device.name) => {}
            Place::Own | Place::Namespace(_) => drop(reach.places.insert(place.clone())),
        }
    }

    /// What the clock calls for: namespaces whose path leads elsewhere now.
    fn timed(&mut self, fabric: &Fabric, now: Instant, reach: &mut Reach) {
        if now < self.next_paths {
            return;
        }
        self.next_paths = now + PATHS;
        let spaces = fabric.namespaces.keys().cloned().map(Place::Namespace);
        for place in spaces.chain([Place::Ports]) {
            let Some(path) = self.kernel.path(fabric, &place) else { continue };
            let moved = match self.observed.places.get(&place) {
                Some(PlaceState::Present(view)) => id_at(&path) != Some(view.id),
                // An absent one of the daemon's own is made by the pass that needs it.
                Some(PlaceState::Absent) => place != Place::Ports && id_at(&path).is_some(),
                Some(PlaceState::Unusable(_)) | None => false,
            };
            if moved {
                reach.places.insert(place);
            }
        }
    }

    /// Whoever looks at a namespace by one path looks at it by every other.
    fn add_other_names(&self, reach: &mut Reach) {
        let ids: BTreeSet<_> =
            reach.places.iter().filter_map(|place| self.observed.view(place)).map(|v| v.id.inode).collect();
        if ids.is_empty() {
            return;
        }
        for (place, state) in &self.observed.places {
            if matches!(state, PlaceState::Present(view) if ids.contains(&view.id.inode)) {
                reach.places.insert(place.clone());
            }
        }
    }
}

fn is_wished_here(fabric: &Fabric, device: &str) -> bool {
    let mut ports = fabric.ports.values();
    ports.any(|port| is_here(&port.spec) && port.spec.device == device)
}
