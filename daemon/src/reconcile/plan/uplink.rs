//! Network cards: `uplink` Ports. The card is somebody else's: it is taken and given back, and never made,
//! renamed, moved or removed.
//!
//! Several Ports can share a card, each with VLANs of its own. It carries the mark of one of them; when that one goes,
//! another is its heir, and the card is given back after the last.

use super::{Action, Operation, Planner, Refusal, Subject};
use crate::model::{Name, Port};
use crate::reconcile::card::is_card;
use crate::reconcile::observe::{Device, PlaceView};
use crate::reconcile::place::Place;

impl Planner<'_> {
    /// Plans for an `uplink` Port.
    pub(super) fn uplink(&mut self, name: &Name, port: &Port) -> Result<(), Refusal> {
        let place = Place::of(port);
        // The daemon's own namespace always exists; nothing can be there when it could not be read.
        let Some(view) = self.ground(&place)? else { return Ok(()) };
        let wanted = view.named(port.device.as_str());
        let result = wanted.ok_or_else(|| missing(name, port)).and_then(usable);
        let kept = result.as_ref().ok().map(|device| device.index);
        for device in view.owned_by(name).filter(|device| Some(device.index) != kept) {
            // Also when the Port is refused: an address that was given to the card is the node's to use.
            self.remove(name, &place, device);
        }
        let device = result?;
        let held = device.owner.as_ref().is_none_or(|owner| self.is_uplink_of(owner, device));
        if held {
            self.kept.insert((view.id, device.index));
        }
        // All that share a card would take it: when the first cannot, it is known of each whether it can.
        if device.taken.is_none() {
            self.configure_uplink(name, &place, Action::Take(device.name.clone()));
        }
        if !device.up {
            self.configure_uplink(name, &place, Action::Up(device.name.clone()));
        }
        Ok(())
    }

    /// Whether a Port that lives is this card.
    fn is_uplink_of(&self, name: &Name, device: &Device) -> bool {
        self.fabric.ports.get(name).is_some_and(|port| is_card(port, &device.name))
    }

    /// Hands a card whose Port goes on to another Port that shares it, and whose mark fits the card's alias; whether
    /// there is one.
    pub(super) fn inherit(&mut self, from: &Name, place: &Place, device: &Device) -> bool {
        let Some(before) = device.taken.clone() else { return false };
        let refused = |name: &Name| self.refusals.contains_key(&Subject::Port(name.clone()));
        let fits = |name: &Name| name.as_str().len() <= from.as_str().len() + device.alias_room;
        let mut heirs = self
            .fabric
            .ports
            .keys()
            .filter(|name| self.is_uplink_of(name, device) && !refused(name) && fits(name));
        let Some(heir) = heirs.next().cloned() else { return false };
        let action = Action::Inherit { device: device.name.clone(), from: from.clone(), before };
        self.configure_uplink(&heir, place, action);
        true
    }

    fn configure_uplink(&mut self, name: &Name, place: &Place, action: Action) {
        let subject = Subject::Port(name.clone());
        self.configuring.push(Operation { subject, place: place.clone(), action });
    }
}

/// The card that was taken for the Port, or for one that shares it.
pub(super) fn card<'a>(view: &'a PlaceView, port: &Port) -> Option<&'a Device> {
    view.named(port.device.as_str()).filter(|device| device.taken.is_some())
}

fn missing(name: &Name, port: &Port) -> Refusal {
    let message = format!(
        "there is no device {} in {}: it is used as soon as it is there; or make Port/{name} again with another spec.device",
        port.device,
        Place::Own
    );
    Refusal { reason: "DeviceMissing", message }
}

/// The device, unless the node or a Port of another kind needs it.
fn usable(device: &Device) -> Result<&Device, Refusal> {
    let in_use = |why: String| {
        let message =
            format!("{} is in use: {why}; what arrives there would be lost to the node", device.name);
        Err(Refusal { reason: "DeviceInUse", message })
    };
    match (&device.owner, &device.used_for) {
        (Some(owner), _) if device.taken.is_none() => in_use(format!("it was made for Port/{owner}")),
        (_, Some(used_for)) => in_use(used_for.to_string()),
        _ if device.mac.is_none() => {
            let message = format!("{} is no Ethernet device", device.name);
            Err(Refusal { reason: "DeviceUnsuitable", message })
        }
        _ => Ok(device),
    }
}
