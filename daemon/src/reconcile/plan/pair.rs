//! Veth pairs: one end where the container is, the other where the stack reads.
//!
//! The stack's end is marked last. One without a mark is the rest of an attempt that was cut short: it
//! stands in the daemon's own namespace, so it is removed with its peer and made anew.

use super::tap::keeper;
use super::{Action, Change, Operation, Planner, Refusal, Subject};
use crate::model::{Name, Port};
use crate::reconcile::observe::{Device, DeviceKind};
use crate::reconcile::place::{Place, host_end};

impl Planner<'_> {
    /// Plans for a `veth` Port.
    pub(super) fn pair(&mut self, name: &Name, port: &Port) -> Result<(), Refusal> {
        let place = Place::of(port);
        let view = self.ground(&place)?;
        let ends = self.ends()?;
        let end = ends.and_then(|ends| ends.named(&host_end(name)));
        if let Some(other) = end.and_then(|end| end.owner.as_ref()).filter(|owner| *owner != name) {
            let message =
                format!("its host device would have the name of Port/{other}'s: choose another name");
            return Err(Refusal { reason: "DeviceNameTaken", message });
        }
        let peer = view.and_then(|view| keeper(view, name, port, DeviceKind::Veth));
        let whole = match (end, peer) {
            (Some(end), Some(peer)) => is_pair(name, end, peer),
            _ => false,
        };
        let peer = peer.filter(|_| whole);
        self.check_name(name, port, &place, view, peer).or_else(|refusal| {
            self.unless_cut_short(view.and_then(|v| v.named(port.device.as_str())), end, refusal)
        })?;
        if let (Some(view), Some(ends), Some(end), Some(peer)) = (view, ends, end, peer) {
            self.kept.extend([(view.id, peer.index), (ends.id, end.index)]);
            self.configure(name, port, &place, peer);
            self.configure_end(name, port, end);
        } else {
            self.make_pair(name, port, &place);
        }
        Ok(())
    }

    /// The holder of the wanted name is no obstacle when it is the peer of an end that was never marked:
    /// both go together.
    fn unless_cut_short(
        &self,
        holder: Option<&Device>,
        end: Option<&Device>,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        match (holder, end) {
            (Some(holder), Some(end))
                if end.owner.is_none() && holder.owner.is_none() && are_ends(end, holder) =>
            {
                Ok(())
            }
            _ => Err(refusal),
        }
    }

    fn make_pair(&mut self, name: &Name, port: &Port, place: &Place) {
        self.remove_host_end(name);
        let subject = Subject::Port(name.clone());
        let action = Action::MakeVeth { device: self.new_device(port), host_end: host_end(name) };
        self.configuring.push(Operation { subject: subject.clone(), place: place.clone(), action });
        self.configuring.push(Operation { subject, place: Place::Ports, action: Action::Up(host_end(name)) });
        self.configure_new(name, port, place);
    }

    /// Removes the stack's end of the Port's pair, and the pair with it.
    pub(super) fn remove_host_end(&mut self, name: &Name) {
        let Some(ends) = self.observed.view(&Place::Ports) else { return };
        if let Some(end) = ends.named(&host_end(name)) {
            self.remove(name, &Place::Ports, end);
        }
    }

    /// Whether the stack's end of the Port's pair goes by itself.
    pub(super) fn has_retired_end(&self, name: &Name) -> bool {
        let ends = self.observed.view(&Place::Ports);
        ends.and_then(|ends| ends.named(&host_end(name))).is_some_and(|end| end.retired)
    }

    fn configure_end(&mut self, name: &Name, port: &Port, end: &Device) {
        let subject = Subject::Port(name.clone());
        let mut push = |action| {
            self.configuring.push(Operation { subject: subject.clone(), place: Place::Ports, action });
        };
        if end.mtu != port.mtu.get() {
            push(Action::Change(end.name.clone(), Change { mtu: Some(port.mtu.get()), ..Change::default() }));
        }
        if !end.up {
            push(Action::Up(end.name.clone()));
        }
    }
}

/// Whether the two are the marked ends of the Port's pair.
pub(super) fn is_pair(name: &Name, end: &Device, peer: &Device) -> bool {
    end.kind == DeviceKind::Veth && end.owner.as_ref() == Some(name) && are_ends(end, peer)
}

fn are_ends(one: &Device, other: &Device) -> bool {
    one.kind == DeviceKind::Veth
        && other.kind == DeviceKind::Veth
        && one.peer == Some(other.index)
        && other.peer == Some(one.index)
}
