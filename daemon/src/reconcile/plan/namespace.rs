//! Namespaces: which to make, which to remove, and why a Port cannot use one.

use super::{Action, Operation, PlaceState, Planner, Refusal, Subject};
use crate::model::{Name, Namespace, Object};
use crate::reconcile::observe::PlaceView;
use crate::reconcile::place::Place;

impl<'a> Planner<'a> {
    /// Makes and removes the namespaces of the scope.
    pub(super) fn namespaces(&mut self) {
        let (scope, fabric) = (self.scope, self.fabric);
        for place in &scope.places {
            let Place::Namespace(name) = place else { continue };
            if let Some(namespace) = fabric.namespaces.get(name) {
                self.namespace(name, namespace);
            }
        }
    }

    fn namespace(&mut self, name: &Name, namespace: &Object<Namespace>) {
        let place = Place::Namespace(name.clone());
        let subject = Subject::Namespace(name.clone());
        let state = self.observed.places.get(&place).unwrap_or(&PlaceState::Absent);
        if namespace.metadata.deleting.is_some() {
            let made = namespace.spec == Namespace::Make && matches!(state, PlaceState::Present(_));
            if made && !self.is_used(name) {
                self.closing.push(Operation { subject, place, action: Action::RemoveNamespace });
            }
            return;
        }
        match (state, &namespace.spec) {
            (PlaceState::Present(_), _) => {}
            (PlaceState::Absent, Namespace::Make) => {
                self.making.push(Operation { subject, place, action: Action::MakeNamespace });
            }
            (PlaceState::Absent, Namespace::Adopt(path)) => {
                let message = format!(
                    "{} does not exist: it is used as soon as it does; or delete Namespace/{name}",
                    path.display()
                );
                self.refusals.insert(subject, Refusal { reason: "NamespaceMissing", message });
            }
            (PlaceState::Unusable(refusal), _) => {
                self.refusals.insert(subject, refusal.clone());
            }
        }
    }

    /// Whether a Port that stays is in this Namespace.
    fn is_used(&self, namespace: &Name) -> bool {
        let place = Place::Namespace(namespace.clone());
        let mut ports = self.fabric.ports.values().filter(|port| port.metadata.deleting.is_none());
        ports.any(|port| Place::of(&port.spec) == place)
    }

    /// The devices where a Port shall be; `None`: the place is made by this plan and empty.
    pub(super) fn ground(&self, place: &Place) -> Result<Option<&'a PlaceView>, Refusal> {
        if let Some(view) = self.observed.view(place) {
            return Ok(Some(view));
        }
        if self.is_made(place) {
            return Ok(None);
        }
        if let (Place::Namespace(_), Some(PlaceState::Unusable(refusal))) =
            (place, self.observed.places.get(place))
        {
            let message = format!("its namespace cannot be used: {}", refusal.message);
            return Err(Refusal { reason: refusal.reason, message });
        }
        Err(match place {
            Place::Namespace(name) => Refusal {
                reason: "NamespaceMissing",
                message: format!("Namespace/{name} does not exist in the kernel: see its own condition"),
            },
            Place::Own | Place::Ports => match self.observed.places.get(place) {
                Some(PlaceState::Unusable(refusal)) => refusal.clone(),
                _ => Refusal {
                    reason: "NamespaceMissing",
                    message: "the daemon's own namespace was not observed: it is tried again".to_owned(),
                },
            },
        })
    }

    /// The devices in the namespace of the stack's ends, which is made when it is needed first.
    pub(super) fn ends(&mut self) -> Result<Option<&'a PlaceView>, Refusal> {
        let absent = matches!(self.observed.places.get(&Place::Ports), None | Some(PlaceState::Absent));
        if absent && !self.is_made(&Place::Ports) {
            self.making.push(Operation {
                subject: Subject::Ports,
                place: Place::Ports,
                action: Action::MakeNamespace,
            });
        }
        self.ground(&Place::Ports)
    }
}
