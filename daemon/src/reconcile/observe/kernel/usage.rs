//! What the node itself uses its devices for: a card that is in use must not become a Port, since the node
//! would no longer hear what arrives there.

use weft_host::Result;

use super::Session;
use crate::reconcile::error::told;
use crate::reconcile::observe::{PlaceState, PlaceView, Refusal, Use};
use crate::reconcile::place::Marks;

/// Notes what each device of the daemon's own namespace is used for.
pub(super) fn look(marks: &Marks, session: &mut Session, state: &mut PlaceState) {
    let PlaceState::Present(view) = state else { return };
    if let Err(error) = note(marks, session, view) {
        let message = format!("the namespace could not be read: {}", told(&error));
        *state = PlaceState::Unusable(Refusal { reason: "Unreadable", message });
    }
}

fn note(marks: &Marks, session: &mut Session, view: &mut PlaceView) -> Result<()> {
    let links = session.netlink.links()?;
    for link in &links {
        let name_of = |index: u32| links.iter().find(|other| other.index == index).map(|it| it.name.clone());
        if let Some(master) = link.master_index {
            let master = name_of(master).unwrap_or_else(|| format!("link {master}"));
            set(view, link.index, Use::PortOf(master));
        }
        let upper_of = link.peer_index.filter(|_| link.kind.as_deref() != Some("veth"));
        if let Some(lower) = upper_of.filter(|_| link.peer_netns_id.is_none()) {
            set(view, lower, Use::Below(link.name.clone()));
        }
        if link.alias.as_deref().is_some_and(|alias| marks.is_anothers(alias)) {
            set(view, link.index, Use::AnotherDaemon);
        }
    }
    // The kernel makes link-local addresses by itself; every other one was somebody's wish.
    for found in session.netlink.addresses()?.iter().filter(|found| !found.is_link_local()) {
        set(view, found.index, Use::Address(found.address));
    }
    Ok(())
}

fn set(view: &mut PlaceView, index: u32, used_for: Use) {
    if let Some(device) = view.devices.get_mut(&index) {
        device.used_for.get_or_insert(used_for);
    }
}
