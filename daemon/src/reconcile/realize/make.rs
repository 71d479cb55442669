//! Making devices, so that an end at any moment leaves nothing that cannot be told for the daemon's own.
//!
//! A TAP goes away with its queues until it is marked and only then made to stay. The stack's end of a veth
//! pair is marked last, and found by its name until then.

use weft_host::link::{LinkChange, VethSpec};
use weft_host::sysctl::OwnParameters;
use weft_host::tap::Tap;

use super::Run;
use crate::model::Name;
use crate::reconcile::error::{StepError, told};
use crate::reconcile::observe::Refusal;
use crate::reconcile::place::Place;
use crate::reconcile::plan::NewDevice;

impl Run<'_> {
    /// Makes a TAP with its attributes, marked and persistent, down.
    pub(super) fn make_tap(
        &mut self,
        place: &Place,
        port: &Name,
        device: &NewDevice,
    ) -> Result<Tap, StepError> {
        let queues = self.port(port).and_then(|port| port.queues).unwrap_or(self.queues);
        let mark = self.kernel.marks.port(port);
        let (listens, endpoint) = (self.listens(port), self.is_endpoint(port));
        let session = self.session(place)?;
        // Opening an existing TAP would take it over, whoever made it.
        if session.netlink.link_by_name(&device.name)?.is_some() {
            return Err(taken(&device.name));
        }
        if endpoint {
            session.netlink.bring_loopback_up(None)?;
        }
        let namespace = session.namespace.try_clone()?;
        let tap = {
            let _entered = namespace.enter()?;
            let tap = Tap::attach(&device.name, queues as usize)?;
            prepare(&mut self.kernel.parameters, &device.name, listens);
            tap
        };
        let change = LinkChange {
            mac: Some(device.mac.0),
            mtu: Some(device.mtu),
            txqueuelen: Some(device.txqueuelen),
            gso_max_size: device.gso_max_size,
            alias: Some(mark),
            ..LinkChange::default()
        };
        self.set(place, &device.name, &change)?;
        let index = self.index(place, &device.name)?;
        if let Err(error) = self.session(place)?.netlink.leave_out_queue(index) {
            tracing::debug!(device = device.name, "it keeps the kernel's queues: {}", told(&error));
        }
        tap.persist(true)?;
        Ok(tap)
    }

    /// Makes a veth pair with its attributes, both ends marked and down.
    pub(super) fn make_veth(
        &mut self,
        place: &Place,
        port: &Name,
        device: &NewDevice,
        host_end: &str,
    ) -> Result<(), StepError> {
        let mark = LinkChange { alias: Some(self.kernel.marks.port(port)), ..LinkChange::default() };
        let (listens, endpoint) = (self.listens(port), self.is_endpoint(port));
        let session = self.session(place)?;
        if endpoint {
            session.netlink.bring_loopback_up(None)?;
        }
        let peer_netns = session.namespace.try_clone()?;
        let spec = VethSpec {
            name: host_end,
            mac: None,
            peer_name: &device.name,
            peer_mac: Some(device.mac.0),
            peer_netns: &peer_netns,
            mtu: device.mtu,
            txqueuelen: device.txqueuelen,
        };
        match self.session(&Place::Ports)?.netlink.add_veth(&spec) {
            Err(error) if error.is_exists() => return Err(taken(&device.name)),
            other => other?,
        }
        {
            let _entered = peer_netns.enter()?;
            prepare(&mut self.kernel.parameters, &device.name, listens);
        }
        self.set(place, &device.name, &LinkChange { gso_max_size: device.gso_max_size, ..mark.clone() })?;
        self.set(&Place::Ports, host_end, &mark)
    }

    /// Whether the Port is a container's: its namespace is new, and nobody else brings the loopback device up.
    fn is_endpoint(&self, port: &Name) -> bool {
        self.port(port).is_some_and(|port| port.endpoint.is_some())
    }

    /// Whether the gateway of the Port's Network tells hosts of itself.
    fn listens(&self, port: &Name) -> bool {
        let network = self.port(port).and_then(|port| self.fabric.networks.get(&port.network));
        network.is_some_and(|network| network.spec.services.advertisements.is_some())
    }
}

/// IPv6 of a device of the thread's namespace, before it comes up: its link-local address is usable at once, and
/// it `listens` to router advertisements only where the Network sends them.
fn prepare(parameters: &mut OwnParameters, device: &str, listens: bool) {
    let values = [("accept_dad", "0"), ("accept_ra", if listens { "1" } else { "0" })];
    match parameters.set_all(&format!("net/ipv6/conf/{device}"), &values) {
        // A kernel without IPv6, or a namespace where it is off.
        Err(error) if error.is_gone() => {}
        Err(error) => tracing::warn!(device, "{}: its first IPv6 packets may wait", told(&error)),
        Ok(()) => {}
    }
}

fn taken(device: &str) -> StepError {
    StepError::Refused(Refusal {
        reason: "DeviceNameTaken",
        message: format!("a device {device} appeared meanwhile that is not Weft's: rename or remove it"),
    })
}
