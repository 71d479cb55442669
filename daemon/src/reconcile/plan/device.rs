//! One device: from the attributes that it has to those that its Port wishes.
//!
//! A device is taken down for a new name or Ethernet address, so that its link-local address follows. The
//! kernel forgets routes and IPv6 addresses then; the next plan puts them back.

use std::collections::BTreeSet;

use weft_stack::tunnel::datagram::run_payload;

use super::{Action, Change, Operation, Planner, Subject};
use crate::model::{Fabric, Name, Port, TunnelForm};
use crate::reconcile::observe::Device;
use crate::reconcile::picture::lives;
use crate::reconcile::place::Place;

/// What a device's limit is as the kernel makes it (`GSO_LEGACY_MAX_SIZE` in `linux/netdevice.h`).
const GSO_MAX_SIZE: u32 = 65_536;

/// What the kernel's TCP takes off that limit for headers (`MAX_TCP_HEADER` and one more in `sk_setup_caps`), at most: where it
/// takes less, the rest is less than a segment.
const TCP_HEADERS: usize = 321;

impl Planner<'_> {
    /// Plans what a device that exists still lacks.
    pub(super) fn configure(&mut self, name: &Name, port: &Port, place: &Place, device: &Device) {
        // Once it is up it is the runtime's, whose other plugins may change it; what is wrong is Check's to say.
        if port.endpoint.is_some() && device.up {
            return;
        }
        let wanted = port.device.as_str().to_owned();
        let change = difference(port, device, self.gso_max_size(port));
        let down = device.up && (change.name.is_some() || change.mac.is_some());
        let mut actions = Vec::new();
        if down {
            actions.push(Action::Down(device.name.clone()));
        }
        if change != Change::default() {
            actions.push(Action::Change(device.name.clone(), change));
        }
        let addresses: BTreeSet<_> = port.addresses.iter().copied().collect();
        let removed = device.addresses.difference(&addresses);
        actions.extend(removed.map(|address| Action::RemoveAddress(wanted.clone(), *address)));
        // In the order of the specification: the first IPv4 address of a subnet is the primary one.
        let added = port.addresses.iter().filter(|address| !device.addresses.contains(address));
        actions.extend(added.map(|address| Action::AddAddress(wanted.clone(), *address)));
        if down || !device.up {
            actions.push(Action::Up(wanted.clone()));
        }
        let routes: BTreeSet<_> = port.routes.iter().copied().collect();
        let removed = device.routes.difference(&routes);
        actions.extend(removed.map(|route| Action::RemoveRoute(wanted.clone(), *route)));
        let added = port.routes.iter().filter(|route| !device.routes.contains(route));
        actions.extend(added.map(|route| Action::AddRoute(wanted.clone(), *route)));
        self.push_all(name, place, actions);
    }

    /// Plans what a device lacks that was made with its attributes.
    pub(super) fn configure_new(&mut self, name: &Name, port: &Port, place: &Place) {
        let device = || port.device.as_str().to_owned();
        let mut actions = Vec::new();
        actions.extend(port.addresses.iter().map(|address| Action::AddAddress(device(), *address)));
        actions.push(Action::Up(device()));
        actions.extend(port.routes.iter().map(|route| Action::AddRoute(device(), *route)));
        self.push_all(name, place, actions);
    }

    /// Octets of the longest super-packet that the Port's device is to be given; `None`: as many as the kernel likes.
    ///
    /// Where there are tunnels, one that is longer than a run of datagrams would take a second run for the rest of it,
    /// and all the way to the far end's containers everything that is done for a packet would be done twice. What the
    /// node itself routes to its own device may come from a network card, and longer ones would be cut for it. A
    /// container that is up keeps what it was made with.
    pub(super) fn gso_max_size(&self, port: &Port) -> Option<u32> {
        if !self.sends_runs || port.attachment.namespace().is_none() {
            return None;
        }
        let size = u32::try_from(run_payload(port.mtu.get() as usize)? + TCP_HEADERS).ok()?;
        Some(size.min(GSO_MAX_SIZE))
    }

    fn push_all(&mut self, name: &Name, place: &Place, actions: Vec<Action>) {
        let subject = Subject::Port(name.clone());
        let step = |action| Operation { subject: subject.clone(), place: place.clone(), action };
        self.configuring.extend(actions.into_iter().map(step));
    }
}

/// Whether a tunnel lives that sends runs of datagrams.
pub fn sends_runs(fabric: &Fabric) -> bool {
    let runs = |form: &TunnelForm| matches!(form, TunnelForm::Vxlan { .. } | TunnelForm::WireGuard { .. });
    fabric.tunnels.values().any(|tunnel| lives(tunnel) && runs(&tunnel.spec.form))
}

/// The attributes in which `device` differs from what `port` wishes.
fn difference(port: &Port, device: &Device, gso_max_size: Option<u32>) -> Change {
    let name = port.device.as_str();
    let wanted = gso_max_size.unwrap_or(GSO_MAX_SIZE);
    Change {
        name: (device.name != name).then(|| name.to_owned()),
        mac: (device.mac != Some(port.mac)).then_some(port.mac),
        mtu: (device.mtu != port.mtu.get()).then(|| port.mtu.get()),
        txqueuelen: (device.txqueuelen != port.txqueuelen).then_some(port.txqueuelen),
        gso_max_size: device.gso_max_size.filter(|size| *size != wanted).map(|_| wanted),
    }
}
