//! What the objects of a fabric may be in view of each other.
//!
//! Each check looks at the whole state as it would be, and puts the blame on what the request touches:
//! whoever applies a Port reads about that Port. Objects that are being taken down count as gone. Where a request touches
//! few Ports and Namespaces and nothing else, only what can be in their way is looked at: the others were when they came.

use std::collections::{BTreeSet, HashMap};

use super::violation::Violation;
use super::{
    Attachment, Fabric, Kind, Name, Namespace, Network, Object, ObjectRef, Objects, Port, Router, Tunnel,
    differences,
};

mod networks;
mod ports;
mod routers;
mod tunnels;

/// Everything that is wrong between the objects of `fabric`, ordered by field.
pub fn fabric(fabric: &Fabric, touched: &BTreeSet<ObjectRef>) -> Vec<Violation> {
    among(fabric, touched, few(touched))
}

/// As [`fabric`], with what can be in the way of `few` alone, where there are such.
fn among(
    fabric: &Fabric,
    touched: &BTreeSet<ObjectRef>,
    few: Option<&BTreeSet<ObjectRef>>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    namespaces(fabric, touched, few, &mut found);
    networks::check(fabric, touched, &mut found);
    ports::check(fabric, touched, few, &mut found);
    routers::check(fabric, &mut found);
    tunnels::check(fabric, touched, &mut found);
    found.sort();
    found.dedup();
    found
}

/// What a change must leave as it is: the place and the kind of what exists.
pub fn fixed_fields(before: &Fabric, after: &Fabric) -> Vec<(ObjectRef, Violation)> {
    let mut found = Vec::new();
    for (name, old, new) in renewed(&before.namespaces, &after.namespaces) {
        if old != new {
            found.push(fixed(ObjectRef::new(Kind::Namespace, name.clone()), "spec.path"));
        }
    }
    for (name, old, new) in renewed(&before.ports, &after.ports) {
        for path in moved(old, new) {
            found.push(fixed(ObjectRef::new(Kind::Port, name.clone()), path));
        }
    }
    found
}

/// The live objects that were there before, and are not as they were.
fn renewed<'a, T: PartialEq>(
    before: &'a Objects<T>,
    after: &'a Objects<T>,
) -> impl Iterator<Item = (&'a Name, &'a T, &'a T)> {
    differences(before, after).filter_map(|it| {
        let new = it.new.filter(|new| new.metadata.deleting.is_none())?;
        Some((it.name, &it.old?.spec, &new.spec))
    })
}

/// The fields that say where a Port's device is, as far as they differ.
fn moved(old: &Port, new: &Port) -> Vec<&'static str> {
    let kind = std::mem::discriminant::<Attachment>;
    let mut fields = Vec::new();
    if kind(&old.attachment) != kind(&new.attachment) {
        fields.push("spec.type");
    }
    if old.attachment.namespace() != new.attachment.namespace() {
        fields.push("spec.namespace");
    }
    if old.device != new.device {
        fields.push("spec.device");
    }
    fields
}

fn fixed(object: ObjectRef, path: &str) -> (ObjectRef, Violation) {
    let kind = object.kind;
    let description = format_args!("cannot be changed; delete the {kind} and make it again");
    let violation = Violation::new(&object, path, description);
    (object, violation)
}

/// The objects that refer to this one and are not being taken down themselves.
pub fn referrers(fabric: &Fabric, object: &ObjectRef) -> Vec<ObjectRef> {
    let name = &object.name;
    let ports = |wanted: fn(&Port, &Name) -> bool| -> Vec<ObjectRef> {
        live(&fabric.ports)
            .filter(|(_, port)| wanted(&port.spec, name))
            .map(|(port, _)| ObjectRef::new(Kind::Port, port.clone()))
            .collect()
    };
    let tunnels = |wanted: fn(&Tunnel, &Name) -> bool| {
        let referring = live(&fabric.tunnels).filter(move |(_, tunnel)| wanted(&tunnel.spec, name));
        referring.map(|(tunnel, _)| ObjectRef::new(Kind::Tunnel, tunnel.clone()))
    };
    match object.kind {
        Kind::Namespace => ports(|port, name| port.attachment.namespace() == Some(name)),
        Kind::Network => {
            let mut found = ports(|port, name| port.network == *name);
            found.extend(tunnels(|tunnel, name| {
                tunnel.segment().is_some_and(|segment| segment.network == *name)
            }));
            found
        }
        Kind::Port => {
            let names_it = |network: &Network| network.services.static_macs.iter().any(|it| it.port == *name);
            let networks = live(&fabric.networks).filter(|(_, network)| names_it(&network.spec));
            let rules = |router: &Router| router.rules.iter().any(|rule| rule.port.as_ref() == Some(name));
            let routers = live(&fabric.routers).filter(|(_, router)| rules(&router.spec));
            let mirrors =
                |port: &Port, name: &Name| port.switching.mirror.as_ref().is_some_and(|it| it.to == *name);
            let mut found: Vec<ObjectRef> =
                networks.map(|(name, _)| ObjectRef::new(Kind::Network, name.clone())).collect();
            found.extend(ports(mirrors));
            found.extend(routers.map(|(name, _)| ObjectRef::new(Kind::Router, name.clone())));
            found
        }
        Kind::Router => live(&fabric.networks)
            .filter(|(_, network)| network.spec.router.as_ref() == Some(name))
            .map(|(network, _)| ObjectRef::new(Kind::Network, network.clone()))
            .chain(tunnels(|tunnel, name| {
                tunnel.carrier() == Some(name) || tunnel.link().is_some_and(|link| link.router == *name)
            }))
            .collect(),
        Kind::Tunnel => Vec::new(),
    }
}

/// The objects that are not being taken down.
fn live<T>(objects: &Objects<T>) -> impl Iterator<Item = (&Name, &Object<T>)> {
    let objects = objects.iter().map(|(name, object)| (name, &**object));
    objects.filter(|(_, object)| object.metadata.deleting.is_none())
}

/// These objects, those that the request touches last: what comes second is blamed.
fn blamed_last<'a, T>(
    kind: Kind,
    objects: impl Iterator<Item = (&'a Name, &'a Object<T>)>,
    touched: &BTreeSet<ObjectRef>,
) -> Vec<(ObjectRef, &'a T)> {
    let named = objects.map(|(name, object)| (ObjectRef::new(kind, name.clone()), &object.spec));
    let mut ordered: Vec<_> = named.collect();
    ordered.sort_by_key(|(object, _)| touched.contains(object));
    ordered
}

/// Puts down a reference to an object that is not there.
fn check_reference<T>(
    from: &ObjectRef,
    path: &str,
    kind: Kind,
    name: &Name,
    objects: &Objects<T>,
    found: &mut Vec<Violation>,
) {
    match objects.get(name) {
        None => found.push(Violation::new(from, path, format_args!("there is no {kind}/{name}"))),
        Some(object) if object.metadata.deleting.is_some() => {
            found.push(Violation::new(from, path, format_args!("{kind}/{name} is being deleted")));
        }
        Some(_) => {}
    }
}

/// More touched objects than this are not looked for one by one: everything is looked at.
const FEW: usize = 8;

/// What the request touches, where it is few Ports and Namespaces and nothing else.
fn few(touched: &BTreeSet<ObjectRef>) -> Option<&BTreeSet<ObjectRef>> {
    let light = |object: &ObjectRef| matches!(object.kind, Kind::Namespace | Kind::Port);
    (1..=FEW).contains(&touched.len()).then_some(touched).filter(|touched| touched.iter().all(light))
}

fn namespaces(
    fabric: &Fabric,
    touched: &BTreeSet<ObjectRef>,
    few: Option<&BTreeSet<ObjectRef>>,
    found: &mut Vec<Violation>,
) {
    let of_kind = |touched: &BTreeSet<ObjectRef>| {
        let objects = touched.iter().filter(|object| object.kind == Kind::Namespace);
        objects.filter_map(|object| Some(&fabric.namespaces.get(&object.name)?.spec)).collect::<Vec<_>>()
    };
    let few = few.map(of_kind);
    let concerned = live(&fabric.namespaces)
        .filter(|(_, space)| few.as_ref().is_none_or(|few| few.contains(&&space.spec)));
    let mut paths = HashMap::new();
    for (object, spec) in blamed_last(Kind::Namespace, concerned, touched) {
        let Namespace::Adopt(path) = spec else { continue };
        if let Some(other) = paths.get(path) {
            let description = format!("{} is adopted by {other} already", path.display());
            found.push(Violation::new(&object, "spec.path", description));
        } else {
            paths.insert(path, object);
        }
    }
}

#[cfg(test)]
mod tests;
