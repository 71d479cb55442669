//! Network cards that several `uplink` Ports share, each with VLANs of its own.

use std::ops::RangeInclusive;

use weft_host::packet::Tags;

use super::picture::lives;
use super::place::is_uplink;
use crate::model::{Fabric, Name, Object, Port};

/// Whether a Port lives and is the network card of this name.
pub fn is_card(port: &Object<Port>, card: &str) -> bool {
    lives(port) && is_uplink(&port.spec) && port.spec.device == *card
}

/// The other Ports that live and are the card that `port` is.
pub fn sharing<'a>(fabric: &'a Fabric, name: &'a Name, port: &'a Port) -> impl Iterator<Item = &'a Name> {
    let others = fabric.ports.iter().filter(move |(other, _)| *other != name);
    others.filter(|(_, there)| is_card(there, port.device.as_str())).map(|(other, _)| other)
}

/// What the end of `port` shall hear; `None`: all, as nobody shares its card.
pub fn heard(fabric: &Fabric, name: &Name, port: &Port) -> Option<Tags> {
    let shared = is_uplink(port) && sharing(fabric, name, port).next().is_some();
    shared.then(|| tags(port))
}

/// The tags on the wire that are this Port's.
fn tags(port: &Port) -> Tags {
    let (untagged, vlans) = port.switching.on_the_wire();
    let mut ids: Vec<RangeInclusive<u16>> = Vec::new();
    for id in vlans.iter() {
        match ids.last_mut().filter(|run| run.end() + 1 == id) {
            Some(run) => *run = *run.start()..=id,
            None => ids.push(id..=id),
        }
    }
    Tags { untagged, ids }
}
