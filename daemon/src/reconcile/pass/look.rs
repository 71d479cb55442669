//! Keeping what is known of the kernel up to date.

use super::Reconciliation;
use crate::model::{Fabric, Name, Objects, differences};
use crate::reconcile::observe::PlaceState;
use crate::reconcile::place::{Place, host_end, is_veth};
use crate::reconcile::plan::Subject;
use crate::reconcile::realize::Done;
use crate::reconcile::scope::Scope;

impl Reconciliation {
    /// Looks at all of `scope`.
    pub(super) fn look(&mut self, scope: &Scope) {
        for place in &scope.places {
            self.look_at(place);
        }
        if !scope.places.contains(&Place::Ports) {
            let pairs = scope.ports.iter().filter(|name| self.has_end(name)).cloned();
            for name in pairs.collect::<Vec<_>>() {
                self.look_at_end(&name);
            }
        }
    }

    /// Looks at what a plan may have changed.
    pub(super) fn look_again(&mut self, done: &Done) {
        for place in &done.touched {
            self.look_at(place);
        }
        if !done.touched.contains(&Place::Ports) {
            for name in &done.ports {
                self.look_at_end(name);
            }
        }
    }

    /// Forgets what is known of objects that are no more since `before`, and returns the Ports among them.
    pub(super) fn forget(&mut self, before: &Fabric) -> Vec<Name> {
        let underlays = &self.underlays;
        let lasts = |subject: &Subject| match subject {
            Subject::Underlay(underlay) => underlays.is_wanted(*underlay),
            Subject::Ports | Subject::Nat | Subject::NodeRoutes => true,
            Subject::Namespace(_) | Subject::Port(_) => true,
        };
        self.retries.retain(lasts);
        self.complaints.retain(|subject, _| lasts(subject));
        let ports: Vec<Name> = gone(&before.ports, &self.fabric.ports).cloned().collect();
        let spaces: Vec<Name> = gone(&before.namespaces, &self.fabric.namespaces).cloned().collect();
        for name in &spaces {
            self.observed.places.remove(&Place::Namespace(name.clone()));
        }
        let of_ports = ports.iter().cloned().map(Subject::Port);
        for subject in of_ports.chain(spaces.into_iter().map(Subject::Namespace)) {
            self.retries.settled(&subject);
            self.known.remove(&subject);
            self.complaints.remove(&subject);
        }
        ports
    }

    fn look_at(&mut self, place: &Place) {
        let state = self.kernel.observe(&self.fabric, place);
        if let (Place::Namespace(name), PlaceState::Present(_)) = (place, &state) {
            let subject = Subject::Namespace(name.clone());
            let going =
                self.fabric.namespaces.get(name).is_none_or(|space| space.metadata.deleting.is_some());
            if !going && !self.known.contains(&subject) {
                tracing::info!(object = %subject, "namespace adopted");
                self.tally.namespaces_adopted += 1;
                self.known.insert(subject);
            }
        }
        self.observed.places.insert(place.clone(), state);
    }

    /// Looks at one of the stack's ends without listing all of them.
    fn look_at_end(&mut self, port: &Name) {
        let end = host_end(port);
        let found = self.kernel.observe_end(&end);
        match (found, self.observed.view_mut(&Place::Ports)) {
            (Ok(found), Some(view)) => {
                view.devices.retain(|_, device| device.name != end);
                view.devices.extend(found.map(|device| (device.index, device)));
            }
            // Not a place to look at single devices, or not any more.
            (Err(_), _) => self.look_at(&Place::Ports),
            (Ok(_), None) => {}
        }
    }

    fn has_end(&self, port: &Name) -> bool {
        self.fabric.ports.get(port).is_some_and(|port| is_veth(&port.spec))
    }
}

/// The names that are in `old` and no more in `new`.
fn gone<'a, T: PartialEq>(old: &'a Objects<T>, new: &'a Objects<T>) -> impl Iterator<Item = &'a Name> {
    differences(old, new).filter(|it| it.new.is_none()).map(|it| it.name)
}
