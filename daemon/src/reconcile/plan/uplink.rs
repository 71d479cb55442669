//! Network cards: `uplink` Ports. The card is somebody else's: it is taken and given back, and never made,
//! renamed, moved or removed.

use super::{Action, Operation, Planner, Refusal, Subject};
use crate::model::{Name, Port};
use crate::reconcile::observe::{Device, PlaceView};
use crate::reconcile::place::Place;

impl Planner<'_> {
    /// Plans for an `uplink` Port.
    pub(super) fn uplink(&mut self, name: &Name, port: &Port) -> Result<(), Refusal> {
        let place = Place::of(port);
        // The daemon's own namespace always exists; nothing can be there when it could not be read.
        let Some(view) = self.ground(&place)? else { return Ok(()) };
        let wanted = view.named(port.device.as_str());
        let result = wanted.ok_or_else(|| missing(name, port)).and_then(|device| usable(name, device));
        let kept = result.as_ref().ok().map(|device| device.index);
        for device in view.owned_by(name).filter(|device| Some(device.index) != kept) {
            // Also when the Port is refused: an address that was given to the card is the node's to use.
            self.remove(name, &place, device);
        }
        let device = result?;
        self.kept.insert((view.id, device.index));
        if device.taken.is_none() {
            self.configure_uplink(name, &place, Action::Take(device.name.clone()));
        }
        if !device.up {
            self.configure_uplink(name, &place, Action::Up(device.name.clone()));
        }
        Ok(())
    }

    fn configure_uplink(&mut self, name: &Name, place: &Place, action: Action) {
        let subject = Subject::Port(name.clone());
        self.configuring.push(Operation { subject, place: place.clone(), action });
    }
}

/// The card that was taken for the Port.
pub(super) fn card<'a>(view: &'a PlaceView, name: &'a Name, port: &Port) -> Option<&'a Device> {
    view.owned_by(name).find(|device| device.taken.is_some() && device.name == port.device.as_str())
}

fn missing(name: &Name, port: &Port) -> Refusal {
    let message = format!(
        "there is no device {} in {}: it is used as soon as it is there; or make Port/{name} again with another spec.device",
        port.device,
        Place::Own
    );
    Refusal { reason: "DeviceMissing", message }
}

/// The device, unless the node or another Port needs it.
fn usable<'a>(name: &Name, device: &'a Device) -> Result<&'a Device, Refusal> {
    let in_use = |why: String| {
        let message =
            format!("{} is in use: {why}; what arrives there would be lost to the node", device.name);
        Err(Refusal { reason: "DeviceInUse", message })
    };
    match (&device.owner, &device.used_for) {
        (Some(owner), _) if device.taken.is_none() => in_use(format!("it was made for Port/{owner}")),
        (Some(owner), _) if owner != name => in_use(format!("it is Port/{owner}'s")),
        (_, Some(used_for)) => in_use(used_for.to_string()),
        _ if device.mac.is_none() => {
            let message = format!("{} is no Ethernet device", device.name);
            Err(Refusal { reason: "DeviceUnsuitable", message })
        }
        _ => Ok(device),
    }
}
