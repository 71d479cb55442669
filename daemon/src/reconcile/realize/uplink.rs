//! Taking a network card, and giving it back as it was.
//!
//! The mark is set first and taken away last, and tells how the card was: whenever the daemon ends, the next
//! one can put it back.

use weft_host::ingress::{claim_ingress, drop_at_ingress, release_ingress};
use weft_host::link::LinkChange;

use super::Run;
use crate::model::Name;
use crate::reconcile::error::StepError;
use crate::reconcile::observe::Refusal;
use crate::reconcile::place::{Before, Marks, Place};

impl Run<'_> {
    /// Marks the card, and keeps what arrives there from the node's own network stack. Done already when another Port
    /// that shares it was first.
    pub(super) fn take(&mut self, place: &Place, port: &Name, device: &str) -> Result<(), StepError> {
        let netlink = &mut self.session(place)?.netlink;
        let link = netlink.link_by_name(device)?;
        let link = link.ok_or_else(|| StepError::DeviceGone(device.to_owned()))?;
        if link.alias.as_deref().is_some_and(|alias| self.kernel.marks.taken_for(alias).is_some()) {
            return Ok(());
        }
        let before = Before { up: link.up, alias: link.alias };
        self.mark(place, port, device, &before)?;
        let result = self.seize(place, link.index, device);
        if result.is_err() {
            self.set(place, device, &alias(before.alias))?;
        }
        result
    }

    /// Marks a card that carries the mark of another Port, which goes, as the heir's.
    pub(super) fn inherit(
        &mut self,
        place: &Place,
        (from, heir): (&Name, &Name),
        device: &str,
        before: &Before,
    ) -> Result<(), StepError> {
        let mark = self.kernel.marks.uplink(from, before);
        let link = self.session(place)?.netlink.link_by_name(device)?;
        match link.filter(|link| link.alias.as_ref() == Some(&mark)) {
            Some(_) => self.mark(place, heir, device, before),
            None => Ok(()),
        }
    }

    fn mark(&mut self, place: &Place, port: &Name, device: &str, before: &Before) -> Result<(), StepError> {
        let mark = self.kernel.marks.uplink(port, before);
        if mark.len() > Marks::MAX_LENGTH {
            let message = format!(
                "the alias of {device} is too long to be kept beside Weft's mark: {} bytes less expected",
                mark.len() - Marks::MAX_LENGTH
            );
            return Err(StepError::Refused(Refusal { reason: "AliasTooLong", message }));
        }
        self.set(place, device, &alias(Some(mark)))
    }

    fn seize(&mut self, place: &Place, index: u32, device: &str) -> Result<(), StepError> {
        let _entered = self.session(place)?.namespace.enter()?;
        match claim_ingress(index) {
            Err(error) if error.is_exists() => {
                let message = format!(
                    "{device} is in use: another program filters what arrives there (tc qdisc show dev {device})"
                );
                return Err(StepError::Refused(Refusal { reason: "DeviceInUse", message }));
            }
            other => other?,
        }
        let dropped = drop_at_ingress(index);
        if dropped.is_err() {
            release_ingress(index)?;
        }
        Ok(dropped?)
    }

    /// Gives a card back after a last look at whether it carries the mark still. One that is `used` stays up:
    /// to take it down would take the node's addresses with it.
    pub(super) fn release(
        &mut self,
        place: &Place,
        port: &Name,
        (index, device): (u32, &str),
        before: &Before,
        used: bool,
    ) -> Result<(), StepError> {
        let mark = self.kernel.marks.uplink(port, before);
        let session = self.session(place)?;
        let link = session.netlink.link_by_name(device)?;
        let Some(link) = link.filter(|link| link.index == index && link.alias.as_ref() == Some(&mark)) else {
            return Ok(());
        };
        {
            let _entered = session.namespace.enter()?;
            release_ingress(index)?;
        }
        if link.up && !before.up && !used {
            self.set(place, device, &LinkChange { up: Some(false), ..LinkChange::default() })?;
        }
        self.set(place, device, &alias(before.alias.clone()))
    }
}

/// A change of the alias; `None` takes it away.
fn alias(text: Option<String>) -> LinkChange {
    LinkChange { alias: Some(text.unwrap_or_default()), ..LinkChange::default() }
}
