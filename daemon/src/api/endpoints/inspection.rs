//! Whether an attachment is in the kernel what it was made to be, by looking there now.
//!
//! Other plugins of a chain may have added to a device or changed it; what counts then is what the caller tells of the
//! chain's result. What is there beside does not matter.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use weft_host::link::{Link, Netlink};
use weft_host::netns::NetNs;
use weft_stack::config::UNTAGGED;
use weft_stack::{MacAddr, Prefix};

use crate::model::{Fabric, InterfaceAddress, Name, Port, VlanId, on_vlan};
use crate::reconcile::Folders;

/// What must be so; `None`: as the Port was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The Network that it is on.
    pub network: Option<String>,
    /// The VLAN of it.
    pub vlan: Option<VlanId>,
    /// The path of its namespace.
    pub netns: Option<PathBuf>,
    /// The device's MAC address.
    pub mac: Option<MacAddr>,
    /// Addresses that the device has.
    pub addresses: Option<Vec<InterfaceAddress>>,
    /// Routes in the main table, with a next hop where that matters.
    pub routes: Option<Vec<(Prefix, Option<IpAddr>)>>,
}

/// Looks at a Port's device. The error says what is not as it was made.
pub fn inspect(fabric: &Fabric, folders: &Folders, name: &Name, expected: &Expected) -> Result<(), String> {
    let port = fabric.ports.get(name).map(|port| &port.spec).ok_or_else(|| format!("Port/{name} is gone"))?;
    if let Some(network) = expected.network.as_ref().filter(|network| *network != port.network.as_str()) {
        return Err(format!("Port/{name} is on Network/{}, not on Network/{network}", port.network));
    }
    let on = port.switching.vlans.own().unwrap_or(UNTAGGED);
    if let Some(vlan) = expected.vlan.filter(|vlan| vlan.get() != on) {
        let (on, wanted) = (on_vlan(on), on_vlan(vlan.get()));
        return Err(format!("Port/{name} is {on} of Network/{}, not {wanted}", port.network));
    }
    let space = port.attachment.namespace().ok_or_else(|| format!("Port/{name} has no namespace"))?;
    let namespace = fabric.namespaces.get(space).ok_or_else(|| format!("Namespace/{space} is gone"))?;
    let path = folders.namespace(space, &namespace.spec);
    if let Some(netns) = expected.netns.as_ref().filter(|netns| **netns != path) {
        return Err(format!("Port/{name} is in {}, not in {}", path.display(), netns.display()));
    }
    let namespace = NetNs::open(&path).map_err(|error| error.to_string())?;
    let seen = look(&namespace, port.device.as_str()).map_err(|error| error.to_string())?;
    compare(port, &path, seen, expected)
}

/// A device with its addresses and the routes by it.
struct Seen {
    link: Link,
    addresses: Vec<InterfaceAddress>,
    routes: Vec<(Prefix, Option<IpAddr>)>,
}

fn look(namespace: &NetNs, device: &str) -> weft_host::Result<Option<Seen>> {
    let mut netlink = {
        let _entered = namespace.enter()?;
        Netlink::open()?
    };
    let Some(link) = netlink.link_by_name(device)? else { return Ok(None) };
    let addresses = netlink.addresses()?.into_iter().filter(|found| found.index == link.index);
    let addresses = addresses
        .map(|found| InterfaceAddress { address: found.address, prefix_length: found.prefix_length })
        .collect();
    let routes = netlink.routes()?.into_iter().filter(|found| found.index == Some(link.index));
    let prefix = |(address, length)| Prefix::containing(address, length).ok();
    let routes = routes.filter_map(|found| Some((prefix(found.prefix)?, found.via))).collect();
    Ok(Some(Seen { link, addresses, routes }))
}

fn compare(port: &Port, path: &Path, seen: Option<Seen>, expected: &Expected) -> Result<(), String> {
    let (device, place) = (&port.device, path.display());
    let Some(Seen { link, addresses, routes }) = seen else {
        return Err(format!("there is no device {device} in {place}"));
    };
    if !link.up {
        return Err(format!("device {device} in {place} is down"));
    }
    let wanted = expected.mac.unwrap_or(port.mac);
    match link.mac.map(MacAddr) {
        Some(mac) if mac == wanted => {}
        Some(mac) => {
            return Err(format!("device {device} in {place} has the MAC address {mac}, not {wanted}"));
        }
        None => return Err(format!("device {device} in {place} is not an Ethernet device")),
    }
    let wanted = expected.addresses.as_ref().unwrap_or(&port.addresses);
    if let Some(missing) = wanted.iter().find(|own| !addresses.contains(own)) {
        let InterfaceAddress { address, prefix_length } = missing;
        return Err(format!(
            "device {device} in {place} does not have the address {address}/{prefix_length}"
        ));
    }
    let own: Vec<_> = port.routes.iter().map(|route| (route.prefix, Some(route.via))).collect();
    for (prefix, via) in expected.routes.as_ref().unwrap_or(&own) {
        let there = |found: &(Prefix, Option<IpAddr>)| {
            found.0 == *prefix && via.is_none_or(|via| found.1 == Some(via))
        };
        if !routes.iter().any(there) {
            let hop = via.map(|via| format!(" by {via}")).unwrap_or_default();
            return Err(format!("there is no route to {prefix}{hop} by device {device} in {place}"));
        }
    }
    Ok(())
}
