//! The difference between what is wished and what is, as operations in a safe order.
//!
//! [`plan`] is a pure function; carrying the operations out is left to [`realize`](super::realize). A plan
//! for a world that already is as wished is empty. What a plan cannot foresee (the kernel forgets routes
//! when a device goes down) is found by observing again and planning again.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use weft_host::netns::NetNsId;
use weft_stack::MacAddr;
use weft_stack::tunnel::Underlay;

use super::observe::{Device, DeviceKind, Observed, PlaceState, Refusal};
use super::place::{Before, Place, host_end, is_uplink, is_veth};
use super::scope::Scope;
use crate::model::{Attachment, Fabric, InterfaceAddress, Name, Object, Port, PortRoute};

pub(super) use device::sends_runs;

mod device;
mod namespace;
mod pair;
mod tap;
#[cfg(test)]
mod tests;
mod uplink;

/// What an operation, a refusal or an error is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The namespace of the stack's ends of veth pairs.
    Ports,
    /// A Namespace object.
    Namespace(Name),
    /// A Port object, or a device left of one.
    Port(Name),
    /// Sockets of the node that Tunnels need.
    Underlay(Underlay),
    /// What the node's kernel translates.
    Nat,
    /// By which ways the node's kernel reaches other nodes.
    NodeRoutes,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Ports => f.write_str("the namespace of veth host ends"),
            Subject::Namespace(name) => write!(f, "Namespace/{name}"),
            Subject::Port(name) => write!(f, "Port/{name}"),
            Subject::Underlay(Underlay::Udp(port)) => write!(f, "UDP port {port}"),
            Subject::Underlay(Underlay::Gre) => f.write_str("GRE sockets"),
            Subject::Nat => f.write_str("the node's port mappings and masquerading"),
            Subject::NodeRoutes => f.write_str("the node's routes to other nodes"),
        }
    }
}

/// One step for the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Whom it is for.
    pub subject: Subject,
    /// Where.
    pub place: Place,
    /// What.
    pub action: Action,
}

/// What a step does. Devices are meant by name: an index does not exist before the device does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the place itself.
    MakeNamespace,
    /// Remove the place itself.
    RemoveNamespace,
    /// Remove a device that carries the mark, or an end in the daemon's own namespace.
    RemoveDevice {
        /// Its interface index.
        index: u32,
        /// Its name, for people.
        name: String,
    },
    /// Make a TAP device, marked, down.
    MakeTap(NewDevice),
    /// Make a veth pair, both ends marked and down.
    MakeVeth {
        /// The end at the operation's place.
        device: NewDevice,
        /// The name of the stack's end, in [`Place::Ports`].
        host_end: String,
    },
    /// Take a network card that others made: mark it, and keep what arrives there from the node.
    Take(String),
    /// Give a network card back as it was before.
    Release {
        /// Its interface index.
        index: u32,
        /// Its name, for people.
        name: String,
        /// How it was.
        before: Before,
        /// The node has begun to use it: it stays up.
        used: bool,
    },
    /// Mark a network card that was taken for another Port, which goes, as this one's.
    Inherit {
        /// Its name.
        device: String,
        /// The Port that it was taken for.
        from: Name,
        /// How it was before that.
        before: Before,
    },
    /// Take a device down.
    Down(String),
    /// Set a device's attributes.
    Change(String, Change),
    /// Take an address from a device.
    RemoveAddress(String, InterfaceAddress),
    /// Give a device an address.
    AddAddress(String, InterfaceAddress),
    /// Bring a device up.
    Up(String),
    /// Remove a route by a device.
    RemoveRoute(String, PortRoute),
    /// Add a route by a device.
    AddRoute(String, PortRoute),
}

/// The attributes that a device is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Largest IP packet in octets.
    pub mtu: u32,
    /// Transmit queue length in packets.
    pub txqueuelen: u32,
    /// Octets of the longest super-packet; `None`: the kernel's own limit.
    pub gso_max_size: Option<u32>,
}

/// The attributes to set on a device; `None` leaves one as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// A new name.
    pub name: Option<String>,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Largest IP packet in octets.
    pub mtu: Option<u32>,
    /// Transmit queue length in packets.
    pub txqueuelen: Option<u32>,
    /// Octets of the longest super-packet.
    pub gso_max_size: Option<u32>,
}

/// What to do, and what is not to be done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Steps in order: namespaces made, devices removed, devices made and configured, namespaces removed.
    pub operations: Vec<Operation>,
    /// Objects that cannot be made real as things are.
    pub refusals: BTreeMap<Subject, Refusal>,
}

impl Plan {
    /// The Ports whose device is removed or made: their open ends are of no further use.
    pub fn uprooted(&self) -> impl Iterator<Item = &Name> {
        self.operations.iter().filter_map(|operation| match (&operation.subject, &operation.action) {
            (
                Subject::Port(name),
                Action::RemoveDevice { .. }
                | Action::Release { .. }
                | Action::MakeTap(_)
                | Action::MakeVeth { .. },
            ) => Some(name),
            _ => None,
        })
    }
}

/// Plans for the part of `fabric` that is in `scope`, all places of which were observed.
pub fn plan(observed: &Observed, fabric: &Fabric, scope: &Scope) -> Plan {
    let mut planner = Planner::start(observed, fabric, scope);
    planner.namespaces();
    let ports: Vec<_> = scope.ports.iter().filter_map(|name| Some((name, fabric.ports.get(name)?))).collect();
    for (name, port) in &ports {
        planner.port(name, port);
    }
    planner.strays();
    planner.finish()
}

/// The device of a Port that stands: for a veth port, both ends of the pair.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// The namespace of the device.
    pub namespace: NetNsId,
    /// The device where it appears.
    pub device: &'a Device,
    /// The stack's end of a pair, and the namespace that it is in.
    pub end: Option<&'a Device>,
    ends: Option<NetNsId>,
}

impl Standing<'_> {
    /// The device that the stack opens, by namespace and interface index.
    pub fn opened(&self) -> (NetNsId, u32) {
        match (self.end, self.ends) {
            (Some(end), Some(ends)) => (ends, end.index),
            _ => (self.namespace, self.device.index),
        }
    }
}

/// The device that a plan would keep for a Port; `None`: there is none that is whole.
pub fn standing<'a>(observed: &'a Observed, name: &'a Name, port: &Port) -> Option<Standing<'a>> {
    let view = observed.view(&Place::of(port))?;
    if is_uplink(port) {
        let device = uplink::card(view, port)?;
        return Some(Standing { namespace: view.id, device, end: None, ends: None });
    }
    if !is_veth(port) {
        let device = tap::keeper(view, name, port, DeviceKind::Tap)?;
        return Some(Standing { namespace: view.id, device, end: None, ends: None });
    }
    let ends = observed.view(&Place::Ports)?;
    let end = ends.named(&host_end(name))?;
    let device = tap::keeper(view, name, port, DeviceKind::Veth)?;
    let whole = pair::is_pair(name, end, device);
    whole.then_some(Standing { namespace: view.id, device, end: Some(end), ends: Some(ends.id) })
}

fn replaced(port: &Port) -> Refusal {
    let container = port.endpoint.as_ref().map(|endpoint| endpoint.container_id.as_str()).unwrap_or_default();
    let message =
        format!("the path of container {container}'s namespace leads to another one: the container is gone");
    Refusal { reason: "NamespaceReplaced", message }
}

/// A plan in the making.
struct Planner<'a> {
    observed: &'a Observed,
    fabric: &'a Fabric,
    scope: &'a Scope,
    /// A tunnel lives that sends runs of datagrams.
    sends_runs: bool,
    /// Devices that stay.
    kept: HashSet<(NetNsId, u32)>,
    making: Vec<Operation>,
    removing: Vec<Operation>,
    configuring: Vec<Operation>,
    closing: Vec<Operation>,
    refusals: BTreeMap<Subject, Refusal>,
}

impl<'a> Planner<'a> {
    fn start(observed: &'a Observed, fabric: &'a Fabric, scope: &'a Scope) -> Planner<'a> {
        Planner {
            observed,
            fabric,
            scope,
            sends_runs: sends_runs(fabric),
            kept: HashSet::new(),
            making: Vec::new(),
            removing: Vec::new(),
            configuring: Vec::new(),
            closing: Vec::new(),
            refusals: BTreeMap::new(),
        }
    }

    fn port(&mut self, name: &Name, port: &Object<Port>) {
        let result = match (port.metadata.deleting, &port.spec.attachment) {
            (Some(_), Attachment::Veth(_)) => {
                if !self.has_retired_end(name) {
                    self.remove_host_end(name);
                }
                Ok(())
            }
            (Some(_), _) => Ok(()),
            (None, _) if self.is_elsewhere(&port.spec) => Err(replaced(&port.spec)),
            (None, Attachment::Veth(_)) => self.pair(name, &port.spec),
            (None, Attachment::Tap(_) | Attachment::Host) => self.tap(name, &port.spec),
            (None, Attachment::Uplink) => self.uplink(name, &port.spec),
        };
        if let Err(refusal) = result {
            self.refusals.insert(Subject::Port(name.clone()), refusal);
        }
    }

    /// Whether the path of a container's namespace leads to another one now.
    fn is_elsewhere(&self, port: &Port) -> bool {
        let Some(endpoint) = &port.endpoint else { return false };
        let view = self.observed.view(&Place::of(port));
        view.is_some_and(|view| view.id.inode != endpoint.namespace_inode)
    }

    /// Marked devices that no Port keeps.
    fn strays(&mut self) {
        let (observed, scope) = (self.observed, self.scope);
        let mut seen = HashSet::new();
        for place in &scope.places {
            let Some(view) = observed.view(place) else { continue };
            for device in view.devices.values() {
                let Some(owner) = &device.owner else { continue };
                let known = (view.id, device.index);
                if !self.kept.contains(&known)
                    && self.is_stray(owner)
                    && seen.insert(known)
                    && !self.inherit(owner, place, device)
                {
                    self.remove(owner, place, device);
                }
            }
        }
    }

    /// Whether a device marked for `owner` that was not kept may go: its Port is no more, or was judged
    /// with its true place in sight.
    fn is_stray(&self, owner: &Name) -> bool {
        match self.fabric.ports.get(owner) {
            // What a living container still has is not taken from it.
            None => !self.fabric.survivors.contains_key(owner),
            Some(port) if port.metadata.deleting.is_some() => true,
            Some(port) => {
                self.scope.ports.contains(owner)
                    && !self.refusals.contains_key(&Subject::Port(owner.clone()))
                    && self.is_made(&Place::of(&port.spec))
            }
        }
    }

    /// Whether `place` is there, or will be by this plan.
    fn is_made(&self, place: &Place) -> bool {
        self.observed.view(place).is_some() || self.making.iter().any(|operation| operation.place == *place)
    }

    /// Removes a device that the daemon made; a card that it only took goes back.
    fn remove(&mut self, port: &Name, place: &Place, device: &Device) {
        let (index, name) = (device.index, device.name.clone());
        let action = match &device.taken {
            None => Action::RemoveDevice { index, name },
            Some(before) => {
                Action::Release { index, name, before: before.clone(), used: device.used_for.is_some() }
            }
        };
        let operation = Operation { subject: Subject::Port(port.clone()), place: place.clone(), action };
        if !self.removing.contains(&operation) {
            self.removing.push(operation);
        }
    }

    fn finish(self) -> Plan {
        let mut operations = self.making;
        operations.extend(self.removing);
        operations.extend(self.configuring);
        operations.extend(self.closing);
        Plan { operations, refusals: self.refusals }
    }
}
