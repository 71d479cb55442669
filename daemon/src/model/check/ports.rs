//! Ports: what they refer to exists, addresses fit their Network, and nothing is taken twice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use weft_stack::config::UNTAGGED;
use weft_stack::{MacAddr, Prefix};

use super::{blamed_last, check_reference, live};
use crate::model::nat::Families;
use crate::model::parse::reserved_end;
use crate::model::{
    Attachment, DeviceName, Fabric, InterfaceAddress, Kind, Name, Network, ObjectRef, Port, PortMapping,
    PortRoute, Protocol, Violation,
};

/// Where a device appears; `None` is the daemon's own namespace.
type Place<'a> = Option<&'a Name>;

/// A mapping, the families of its Port, and the Port.
type Mapped<'a> = (&'a PortMapping, Families, ObjectRef);

/// What the Ports seen so far have taken, and which of them.
#[derive(Default)]
struct Taken<'a> {
    macs: HashMap<(&'a Name, MacAddr), ObjectRef>,
    addresses: HashMap<(&'a Name, IpAddr), ObjectRef>,
    devices: BTreeMap<(Place<'a>, &'a DeviceName), Vec<(ObjectRef, &'a Port)>>,
    routes: BTreeMap<(Place<'a>, Prefix), ObjectRef>,
    mappings: BTreeMap<(Protocol, u16), Vec<Mapped<'a>>>,
}

/// Puts down a violation of the Port at hand.
type Report<'r> = dyn FnMut(&str, String) + 'r;

pub(super) fn check(
    fabric: &Fabric,
    touched: &BTreeSet<ObjectRef>,
    few: Option<&BTreeSet<ObjectRef>>,
    found: &mut Vec<Violation>,
) {
    let few = few.map(|touched| those(fabric, touched));
    let concerned = live(&fabric.ports)
        .filter(|(name, port)| few.as_ref().is_none_or(|few| is_concerned(name, &port.spec, few)));
    let mut taken = Taken::default();
    let ports = blamed_last(Kind::Port, concerned, touched);
    check_node_routes(&ports, found);
    for (object, port) in ports {
        check_reference(&object, "spec.network", Kind::Network, &port.network, &fabric.networks, found);
        if let Some(namespace) = port.attachment.namespace() {
            check_reference(&object, "spec.namespace", Kind::Namespace, namespace, &fabric.namespaces, found);
        }
        check_mirror(&object, port, fabric, found);
        let mut report = |path: &str, text: String| found.push(Violation::new(&object, path, text));
        if let Some(network) = fabric.networks.get(&port.network) {
            fits(port, &network.spec, &mut report);
        }
        taken.take(&object, port, &mut report);
    }
}

/// The Ports among these objects.
fn those<'a>(fabric: &'a Fabric, touched: &BTreeSet<ObjectRef>) -> Vec<(&'a Name, &'a Port)> {
    let ports = touched.iter().filter(|object| object.kind == Kind::Port);
    let found = ports.filter_map(|object| fabric.ports.get_key_value(&object.name));
    found.map(|(name, port)| (name, &port.spec)).collect()
}

/// Whether a Port is one of `touched`, or the two may want the same or go by each other.
fn is_concerned(name: &Name, port: &Port, touched: &[(&Name, &Port)]) -> bool {
    touched.iter().any(|(other, theirs)| {
        let has = |it: &InterfaceAddress| theirs.addresses.iter().any(|own| own.address == it.address);
        let same_ends = port.mac == theirs.mac || port.addresses.iter().any(has);
        *other == name
            || (same_ends && port.network == theirs.network)
            || (!port.mappings.is_empty() && !theirs.mappings.is_empty())
            || port.attachment.namespace() == theirs.attachment.namespace()
            || port.switching.mirror.as_ref().is_some_and(|mirror| mirror.to == **other)
    })
}

fn fits(port: &Port, network: &Network, report: &mut Report<'_>) {
    for (index, address) in port.addresses.iter().enumerate() {
        if let Err(description) = fits_address(address, port, network) {
            report(&format!("spec.addresses[{index}]"), description);
        }
    }
    for (index, route) in port.node_routes.iter().enumerate() {
        if let Some((field, description)) = misleads(route, port, network) {
            report(&format!("spec.nodeRoutes[{index}].{field}"), description);
        }
    }
    if port.mac == network.gateway_mac {
        report("spec.mac", format!("{} is the gateway's of Network/{}", port.mac, port.network));
    }
    let own = port.switching.vlans.own();
    if own.is_none() && !port.addresses.is_empty() {
        report(
            "spec.addresses",
            "given, but frames without a tag are dropped: spec.trunk.native expected".to_owned(),
        );
    }
    for subnet in network.subnets.iter().filter(|subnet| own.is_some_and(|own| own != subnet.vlan)) {
        let by_it = |via: IpAddr| subnet.gateway == Some(via);
        if port.routes.iter().any(|route| by_it(route.via)) {
            let (prefix, here) = (subnet.prefix, shown_vlan(subnet.vlan));
            let reason =
                format!("the gateway of {prefix} is on {here}: no default route and no route by it expected");
            report("spec.vlan", format!("{} given, but {reason}", own.unwrap_or_default()));
        }
    }
}

/// What is wrong with a route of the node: it is by other nodes, not to the Port's own Network or by it.
fn misleads(route: &PortRoute, port: &Port, network: &Network) -> Option<(&'static str, String)> {
    let (PortRoute { prefix, via }, name) = (route, &port.network);
    let subnets = || network.subnets.iter().map(|subnet| subnet.prefix);
    if let Some(subnet) = subnets().find(|subnet| subnet.contains(*via)) {
        let text =
            format!("{via} is inside {subnet} of Network/{name}, an address of the node's network expected");
        return Some(("via", text));
    }
    let inside = |subnet: &Prefix| subnet.length() <= prefix.length() && subnet.contains(prefix.address());
    let subnet = subnets().find(inside)?;
    Some(("prefix", format!("{prefix} is inside {subnet} of Network/{name}, which is on this node")))
}

/// The node's kernel has one route to a prefix. Those by devices of Weft were compared with each other before, and so
/// were those of one Port's `nodeRoutes`.
fn check_node_routes(ports: &[(ObjectRef, &Port)], found: &mut Vec<Violation>) {
    let here = || ports.iter().filter(|(_, port)| port.attachment == Attachment::Host);
    // Thousands, as a rule of a single Port: they are looked through, and not put into a table at each change.
    let alone = here().filter(|(_, port)| !port.node_routes.is_empty()).count() == 1;
    let mut taken: HashMap<Prefix, &ObjectRef> = HashMap::new();
    for (object, port) in here() {
        taken.extend(port.routes.iter().map(|route| (route.prefix, object)));
    }
    for (object, port) in here() {
        for route in &port.node_routes {
            if let Some(other) = taken.get(&route.prefix) {
                let text = format!("{} has a route of {other} in {} already", route.prefix, shown(None));
                found.push(Violation::new(object, "spec.nodeRoutes", text));
            } else if !alone {
                taken.insert(route.prefix, object);
            }
        }
    }
}

fn shown_vlan(vlan: u16) -> String {
    if vlan == UNTAGGED { "the untagged VLAN only".to_owned() } else { format!("VLAN {vlan} only") }
}

/// The Port that gets the copies exists, and is not watched itself.
fn check_mirror(object: &ObjectRef, port: &Port, fabric: &Fabric, found: &mut Vec<Violation>) {
    let Some(mirror) = &port.switching.mirror else { return };
    let path = "spec.mirror.to";
    check_reference(object, path, Kind::Port, &mirror.to, &fabric.ports, found);
    let watched = fabric.ports.get(&mirror.to).is_some_and(|to| to.spec.switching.mirror.is_some());
    if watched {
        let text = format!("Port/{} is mirrored itself, a Port that is not expected", mirror.to);
        found.push(Violation::new(object, path, text));
    }
}

fn fits_address(own: &InterfaceAddress, port: &Port, network: &Network) -> Result<(), String> {
    let (name, address) = (&port.network, own.address);
    let Some(subnet) = network.subnets.iter().find(|subnet| subnet.prefix.contains(address)) else {
        let subnets: Vec<String> = network.subnets.iter().map(|subnet| subnet.prefix.to_string()).collect();
        let expected = match subnets.is_empty() {
            true => "which has none".to_owned(),
            false => format!("which has {}", subnets.join(", ")),
        };
        return Err(format!("{address} is not inside a subnet of Network/{name}, {expected}"));
    };
    let prefix = subnet.prefix;
    if own.prefix_length < prefix.length() {
        let (given, least) = (own.prefix_length, prefix.length());
        return Err(format!("/{given} is wider than the subnet {prefix}, /{least} or longer expected"));
    }
    let vlan = port.switching.vlans.own().filter(|vlan| *vlan != subnet.vlan);
    if let Some(vlan) = vlan.filter(|_| subnet.vlan != UNTAGGED) {
        let on = if vlan == UNTAGGED { "the untagged VLAN".to_owned() } else { format!("VLAN {vlan}") };
        return Err(format!("{address} is of {prefix} on VLAN {}, and the Port is on {on}", subnet.vlan));
    }
    if let Some(what) = reserved_end(&prefix, address) {
        return Err(format!("{address} is the {what} address of {prefix}"));
    }
    if subnet.gateway == Some(address) {
        return Err(format!("{address} is the gateway of {prefix}"));
    }
    if network.static_neighbors.get(address).is_some() {
        return Err(format!("{address} is a static neighbour of Network/{name}"));
    }
    Ok(())
}

impl<'a> Taken<'a> {
    fn take(&mut self, object: &ObjectRef, port: &'a Port, report: &mut Report<'_>) {
        let network = &port.network;
        let place = port.attachment.namespace();
        if let Some(other) = self.macs.insert((network, port.mac), object.clone()) {
            report("spec.mac", format!("{} is taken by {other} on Network/{network}", port.mac));
        }
        for (index, own) in port.addresses.iter().enumerate() {
            if let Some(other) = self.addresses.insert((network, own.address), object.clone()) {
                let description = format!("{} is taken by {other} on Network/{network}", own.address);
                report(&format!("spec.addresses[{index}]"), description);
            }
        }
        let there = self.devices.entry((place, &port.device)).or_default();
        if let Some(description) = there.iter().find_map(|(other, theirs)| clash(other, theirs, port)) {
            report("spec.device", format!("{description} in {}", shown(place)));
        }
        there.push((object.clone(), port));
        for route in &port.routes {
            if let Some(other) = self.routes.insert((place, route.prefix), object.clone()) {
                let description =
                    format!("{} has a route of {other} in {} already", route.prefix, shown(place));
                report("spec.routes", description);
            }
        }
        self.take_mappings(object, port, report);
    }

    /// Ports of the node lead to one container each. Those that overlap within a Port were found when it was read.
    fn take_mappings(&mut self, object: &ObjectRef, port: &'a Port, report: &mut Report<'_>) {
        let families = Families::of(port.addresses.iter().map(|own| own.address));
        for (index, mapping) in port.mappings.iter().enumerate() {
            let taken = self.mappings.entry((mapping.protocol, mapping.host_port)).or_default();
            let others = taken.iter().filter(|(_, _, other)| other != object);
            let mut overlapping = others.filter(|(it, theirs, _)| mapping.overlaps(families, it, *theirs));
            if let Some((it, _, other)) = overlapping.next() {
                let description = format!("{mapping} is taken by {other}, which maps {it}");
                report(&format!("spec.portMappings[{index}].hostPort"), description);
            }
            taken.push((mapping, families, object.clone()));
        }
    }
}

/// Why two Ports cannot have one device. Uplinks of different Networks can, when their frames can be told apart by
/// their tags.
fn clash(other: &ObjectRef, theirs: &Port, port: &Port) -> Option<String> {
    let device = &port.device;
    let cards = [theirs, port].iter().all(|it| it.attachment == Attachment::Uplink);
    if !cards || theirs.network == port.network {
        return Some(format!("\"{device}\" is taken by {other}"));
    }
    let (one, two) = (port.switching.on_the_wire(), theirs.switching.on_the_wire());
    let what = match (one.0 && two.0, one.1.iter().find(|id| two.1.contains(*id))) {
        (true, _) => "frames without a tag".to_owned(),
        (false, Some(id)) => format!("VLAN {id}"),
        (false, None) => return None,
    };
    Some(format!("\"{device}\" is taken by {other} with {what}, other VLANs of it expected (spec.trunk)"))
}

fn shown(place: Place<'_>) -> String {
    place.map_or_else(|| "the daemon's own namespace".to_owned(), |name| format!("Namespace/{name}"))
}
