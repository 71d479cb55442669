//! Steps on a device that exists. Doing again what is done already is no error.

use std::net::IpAddr;

use weft_host::link::{LinkChange, ROUTE_PROTOCOL_WEFT, Route};
use weft_host::tap::Tap;

use super::Run;
use crate::model::{InterfaceAddress, Name, PortRoute};
use crate::reconcile::error::{StepError, told};
use crate::reconcile::observe::Refusal;
use crate::reconcile::observe::kernel::Session;
use crate::reconcile::place::{Place, host_end};
use crate::reconcile::plan::Change;
use crate::reconcile::remover::RETIRED_GROUP;

impl Run<'_> {
    /// The interface index of a device by its name.
    pub(super) fn index(&mut self, place: &Place, device: &str) -> Result<u32, StepError> {
        let key = (place.clone(), device.to_owned());
        if let Some(index) = self.indices.get(&key) {
            return Ok(*index);
        }
        let link = self.session(place)?.netlink.link_by_name(device)?;
        let index = link.ok_or_else(|| StepError::DeviceGone(device.to_owned()))?.index;
        self.indices.insert(key, index);
        Ok(index)
    }

    /// Removes a device after a last look at whose it is. False: it was gone already.
    pub(super) fn remove_device(
        &mut self,
        place: &Place,
        port: &Name,
        index: u32,
        name: &str,
    ) -> Result<bool, StepError> {
        self.indices.retain(|(at, device), _| at != place || device != name);
        let mark = self.kernel.marks.port(port);
        let own_end = *place == Place::Ports && name == host_end(port);
        let retires = self.is_leaving_container(port) && (own_end || matches!(place, Place::Namespace(_)));
        let netlink = &mut self.session(place)?.netlink;
        let Some(link) = netlink.link_by_name(name)?.filter(|link| link.index == index) else {
            return Ok(false);
        };
        if link.alias.as_ref() != Some(&mark) && !own_end {
            return Ok(false);
        }
        let removed = match retires {
            true => self.retire(place, index, name, link.kind.as_deref() == Some("tun")),
            false => netlink.delete_link(index).map_err(StepError::from),
        };
        match removed {
            Ok(()) => Ok(true),
            Err(StepError::Host(error)) if error.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the Port is a container's device that is being taken down: runtimes wait for that, a thousand times an
    /// hour.
    fn is_leaving_container(&self, port: &Name) -> bool {
        let port = self.fabric.ports.get(port).filter(|port| port.metadata.deleting.is_some());
        port.is_some_and(|port| port.spec.endpoint.is_some())
    }

    /// Takes a device out of use, and leaves its removal to the [`Remover`](super::super::remover::Remover): the kernel
    /// takes some 15 ms for it, most of it waiting. The container's device gives its name back at once.
    fn retire(&mut self, place: &Place, index: u32, name: &str, is_tap: bool) -> Result<(), StepError> {
        let retired = LinkChange { alias: Some(self.kernel.marks.retired()), ..LinkChange::default() };
        if *place == Place::Ports {
            let Some(ports) = self.kernel.kept(place) else { return Ok(()) };
            ports.netlink.set_link(index, &LinkChange { group: Some(RETIRED_GROUP), ..retired })?;
            let ports = ports.namespace.try_clone()?;
            self.kernel.remover.remove_ends(ports);
            return Ok(());
        }
        let session = self.session(place)?;
        session.netlink.set_link(index, &LinkChange { up: Some(false), ..LinkChange::default() })?;
        let tap = match is_tap.then(|| transient(session, index, name)) {
            None => None,
            Some(Ok(Some(tap))) => Some(tap),
            Some(other) => {
                let why = other.err().map_or_else(|| "another has its name".to_owned(), |error| told(&error));
                tracing::info!(device = name, "its removal is waited for: {why}");
                return Ok(session.netlink.delete_link(index)?);
            }
        };
        match session.netlink.set_link(index, &LinkChange { name: Some(retired_name(index)), ..retired }) {
            // The container has a device of that name.
            Err(error) if error.is_exists() => return Ok(session.netlink.delete_link(index)?),
            other => other?,
        }
        if let Some(tap) = tap {
            self.kernel.remover.remove_tap(tap);
        }
        Ok(())
    }

    /// Takes a device down.
    pub(super) fn take_down(&mut self, place: &Place, device: &str) -> Result<(), StepError> {
        self.set(place, device, &LinkChange { up: Some(false), ..LinkChange::default() })
    }

    /// Brings a device up.
    pub(super) fn bring_up(&mut self, place: &Place, device: &str) -> Result<(), StepError> {
        self.set(place, device, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        // A new carrier is acted on in the background, up to a second later, and IPv6 waits for it. Asking for
        // the link makes the kernel (6.8 and later: linkwatch_sync_dev in rtnl_getlink) do it now.
        self.session(place)?.netlink.link_by_name(device)?;
        Ok(())
    }

    /// Sets a device's attributes.
    pub(super) fn change(&mut self, place: &Place, device: &str, change: &Change) -> Result<(), StepError> {
        let change = LinkChange {
            name: change.name.clone(),
            mac: change.mac.map(|mac| mac.0),
            mtu: change.mtu,
            txqueuelen: change.txqueuelen,
            gso_max_size: change.gso_max_size,
            ..LinkChange::default()
        };
        self.set(place, device, &change)?;
        if change.name.is_some() {
            self.indices.remove(&(place.clone(), device.to_owned()));
        }
        Ok(())
    }

    pub(super) fn set(&mut self, place: &Place, device: &str, change: &LinkChange) -> Result<(), StepError> {
        let index = self.index(place, device)?;
        Ok(self.session(place)?.netlink.set_link(index, change)?)
    }

    /// Gives a device an address.
    pub(super) fn add_address(
        &mut self,
        place: &Place,
        device: &str,
        address: &InterfaceAddress,
    ) -> Result<(), StepError> {
        let index = self.index(place, device)?;
        let netlink = &mut self.session(place)?.netlink;
        let added = netlink.add_address(index, address.address, address.prefix_length);
        unless(added, weft_host::Error::is_exists)
    }

    /// Takes an address from a device.
    pub(super) fn remove_address(
        &mut self,
        place: &Place,
        device: &str,
        address: &InterfaceAddress,
    ) -> Result<(), StepError> {
        let index = self.index(place, device)?;
        let netlink = &mut self.session(place)?.netlink;
        let removed = netlink.remove_address(index, address.address, address.prefix_length);
        unless(removed, weft_host::Error::is_gone)
    }

    /// Adds a route by a device; `onlink` when no prefix of the device covers the next hop.
    pub(super) fn add_route(
        &mut self,
        place: &Place,
        device: &str,
        port: &Name,
        route: &PortRoute,
        onlink: bool,
    ) -> Result<(), StepError> {
        let index = self.index(place, device)?;
        let wanted = host_route(index, route, onlink);
        let mut added = self.session(place)?.netlink.add_route(&wanted);
        if !onlink
            && added.as_ref().is_err_and(weft_host::Error::is_unreachable)
            && self.restore_prefixes(place, index, port, route.via)
        {
            added = self.session(place)?.netlink.add_route(&wanted);
        }
        match added {
            Err(error) if error.is_exists() => Err(StepError::Refused(Refusal {
                reason: "RouteTaken",
                message: format!(
                    "there is a route to {} that Weft did not make: remove it, or take it from spec.routes",
                    route.prefix
                ),
            })),
            other => Ok(other?),
        }
    }

    /// Puts back the kernel's routes to the prefixes that cover `via`, where they are missing; whether one was. The kernel
    /// makes them when the device comes up, and says nothing when it has no memory for one then; or somebody has
    /// removed it.
    fn restore_prefixes(&mut self, place: &Place, index: u32, port: &Name, via: IpAddr) -> bool {
        let addresses = self.port(port).map(|port| port.addresses.clone()).unwrap_or_default();
        let Ok(session) = self.session(place) else { return false };
        let mut restored = false;
        for address in addresses {
            let Some(block) = address.on_link().filter(|block| block.contains(via)) else { continue };
            let prefix = (block.address(), block.length());
            // One that is there, and a device that is down, are errors; what to say is the route's own.
            restored |= session.netlink.restore_prefix_route(index, prefix, address.address).is_ok();
        }
        restored
    }

    /// Removes a route by a device.
    pub(super) fn remove_route(
        &mut self,
        place: &Place,
        device: &str,
        route: &PortRoute,
    ) -> Result<(), StepError> {
        let index = self.index(place, device)?;
        let removed = self.session(place)?.netlink.remove_route(&host_route(index, route, false));
        unless(removed, weft_host::Error::is_gone)
    }
}

/// What a container's device is called that gave its name back: no other one that did is called so.
fn retired_name(index: u32) -> String {
    format!("weft{index}")
}

/// A queue of a TAP that nobody has open. The device goes with it, and with the daemon: nothing that has lost its mark stays.
/// `None`: the container has given the name to another device.
fn transient(session: &mut Session, index: u32, name: &str) -> weft_host::Result<Option<Tap>> {
    let tap = {
        let _entered = session.namespace.enter()?;
        Tap::attach(name, 1)?
    };
    if session.netlink.link_by_name(name)?.is_none_or(|link| link.index != index) {
        return Ok(None);
    }
    tap.persist(false)?;
    Ok(Some(tap))
}

/// The result, where an error that says that all is `done` already counts as success.
fn unless(result: weft_host::Result<()>, done: fn(&weft_host::Error) -> bool) -> Result<(), StepError> {
    match result {
        Err(error) if !done(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn host_route(index: u32, route: &PortRoute, onlink: bool) -> Route {
    Route {
        prefix: (route.prefix.address(), route.prefix.length()),
        via: Some(route.via),
        index: Some(index),
        protocol: ROUTE_PROTOCOL_WEFT,
        metric: None,
        onlink,
    }
}
