//! TAP devices: `tap` and `host` Ports.

use super::{Action, NewDevice, Operation, Planner, Refusal, Subject};
use crate::model::{Name, Port};
use crate::reconcile::observe::{Device, DeviceKind, PlaceView};
use crate::reconcile::place::Place;

impl Planner<'_> {
    /// Plans for a `tap` or `host` Port.
    pub(super) fn tap(&mut self, name: &Name, port: &Port) -> Result<(), Refusal> {
        let place = Place::of(port);
        let view = self.ground(&place)?;
        let device = view.and_then(|view| keeper(view, name, port, DeviceKind::Tap));
        self.check_name(name, port, &place, view, device)?;
        match (view, device) {
            (Some(view), Some(device)) => {
                self.kept.insert((view.id, device.index));
                self.configure(name, port, &place, device);
            }
            _ => {
                let action = Action::MakeTap(self.new_device(port));
                self.configuring.push(Operation {
                    subject: Subject::Port(name.clone()),
                    place: place.clone(),
                    action,
                });
                self.configure_new(name, port, &place);
            }
        }
        Ok(())
    }

    /// The attributes that the Port's device is made with.
    pub(super) fn new_device(&self, port: &Port) -> NewDevice {
        NewDevice {
            name: port.device.as_str().to_owned(),
            mac: port.mac,
            mtu: port.mtu.get(),
            txqueuelen: port.txqueuelen,
            gso_max_size: self.gso_max_size(port),
        }
    }

    /// Refuses a Port whose device name is held by a device that stays.
    pub(super) fn check_name(
        &self,
        name: &Name,
        port: &Port,
        place: &Place,
        view: Option<&PlaceView>,
        device: Option<&Device>,
    ) -> Result<(), Refusal> {
        let Some(holder) = view.and_then(|view| view.named(port.device.as_str())) else { return Ok(()) };
        if device.is_some_and(|device| device.index == holder.index) {
            return Ok(());
        }
        let (wanted, whose) = match &holder.owner {
            None => (&port.device, "which is not Weft's".to_owned()),
            // An own one: it goes by this very plan, unless a Port that stays has it.
            Some(owner) if owner == name || !self.stays(owner) => return Ok(()),
            Some(owner) => (&port.device, format!("which is Port/{owner}'s")),
        };
        let message = format!(
            "{place} already has a device {wanted}, {whose}: rename or remove it, or make Port/{name} again with another spec.device"
        );
        Err(Refusal { reason: "DeviceNameTaken", message })
    }

    /// Whether `owner` is a Port that is not being taken down, or one that is not known and whose device is left alone.
    fn stays(&self, owner: &Name) -> bool {
        self.fabric.survivors.contains_key(owner)
            || self.fabric.ports.get(owner).is_some_and(|port| port.metadata.deleting.is_none())
    }
}

/// The device that stands for the Port: one with its mark, the one with its name first.
pub(super) fn keeper<'a>(
    view: &'a PlaceView,
    name: &'a Name,
    port: &Port,
    kind: DeviceKind,
) -> Option<&'a Device> {
    let mut devices: Vec<_> =
        view.owned_by(name).filter(|device| device.kind == kind && device.taken.is_none()).collect();
    devices.sort_by_key(|device| (device.name != port.device.as_str(), device.index));
    devices.first().copied()
}
