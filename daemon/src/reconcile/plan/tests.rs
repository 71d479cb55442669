//! Plans for chosen worlds, and for random ones against a simulated kernel.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::*;
use crate::model::{Attachment, Mtu, Namespace};
use crate::reconcile::fixture::{address, adopt, fabric, name, object, port, route, vxlan};

mod chosen;
mod random;
mod simulated;

/// A device as somebody else would have made it.
fn foreign(index: u32, name: &str) -> Device {
    Device {
        index,
        name: name.to_owned(),
        owner: None,
        kind: DeviceKind::Tap,
        mac: None,
        mtu: 1500,
        txqueuelen: 500,
        gso_max_size: Some(65_536),
        up: true,
        peer: None,
        taken: None,
        alias_room: 100,
        retired: false,
        carrier: true,
        used_for: None,
        addresses: BTreeSet::from([address("192.0.2.1/24")]),
        routes: BTreeSet::new(),
    }
}
