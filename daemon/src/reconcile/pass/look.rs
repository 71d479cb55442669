//! Keeping what is known of the kernel up to date.

use super::Reconciliation;
use crate::model::Name;
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

    /// Forgets what is known of objects that are no more.
    pub(super) fn forget(&mut self) {
        let (fabric, underlays) = (&self.fabric, &self.underlays);
        let lasts = |subject: &Subject| match subject {
            Subject::Ports | Subject::Nat => true,
            Subject::Namespace(name) => fabric.namespaces.contains_key(name),
            Subject::Port(name) => fabric.ports.contains_key(name),
            Subject::Underlay(underlay) => underlays.is_wanted(*underlay),
        };
        self.retries.retain(lasts);
        self.known.retain(lasts);
        self.complaints.retain(|subject, _| lasts(subject));
        self.observed.places.retain(|place, _| match place {
            Place::Own | Place::Ports => true,
            Place::Namespace(name) => fabric.namespaces.contains_key(name),
        });
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
