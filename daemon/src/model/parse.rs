//! From the API's messages to the model: each object by itself, and every wrong field at once.
//!
//! What one object may be in view of the others is judged by [`check`](super::check). A Port is read with
//! its Network at hand, because its defaults come from there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use weft_proto::v1;

use super::violation::Findings;
use super::{Fabric, Kind, Metadata, Name, Network, Object, ObjectRef, Objects, Violation};

mod addressing;
mod bandwidth;
mod namespace;
mod nat;
mod network;
mod node_routes;
mod port;
mod router;
mod services;
mod static_neighbors;
mod switching;
mod tunnel;

pub use addressing::{is_container_id, range};
pub(super) use network::reserved_end;
pub use port::interface_address;
pub use tunnel::take_secrets;

/// Stored resources by name, as the user gave them.
pub type Resources = BTreeMap<ObjectRef, Arc<v1::Resource>>;

/// The most labels that an object carries.
const MAX_LABELS: usize = 64;
/// The longest label key or value, in bytes.
const MAX_LABEL_LENGTH: usize = 253;

/// The kind and name of the resource at `index` of a request, its labels checked.
pub fn identity(index: usize, resource: &v1::Resource) -> Result<ObjectRef, Vec<Violation>> {
    let wrong = |path: &str, description: String| {
        Err(vec![Violation { field: format!("resources[{index}]: {path}"), description }])
    };
    let Some(kind) = kind_of(resource) else {
        return wrong(
            "kind",
            "not given, one of Namespace, Network, Port, Router, Tunnel expected".to_owned(),
        );
    };
    let metadata = resource.metadata.clone().unwrap_or_default();
    let name = match Name::new(&metadata.name) {
        Ok(name) => name,
        Err(error) => return wrong("metadata.name", error.to_string()),
    };
    let object = ObjectRef::new(kind, name);
    let mut findings = Findings::of(&object);
    check_labels(&metadata.labels, &mut findings);
    findings.finish(Some(())).map(|()| object)
}

/// The kind that a message carries.
pub fn kind_of(resource: &v1::Resource) -> Option<Kind> {
    match resource.kind.as_ref()? {
        v1::resource::Kind::Namespace(_) => Some(Kind::Namespace),
        v1::resource::Kind::Network(_) => Some(Kind::Network),
        v1::resource::Kind::Port(_) => Some(Kind::Port),
        v1::resource::Kind::Router(_) => Some(Kind::Router),
        v1::resource::Kind::Tunnel(_) => Some(Kind::Tunnel),
    }
}

/// Everything, as of one revision. The keys of `resources` must be their kinds and names.
pub fn fabric(resources: &Resources, revision: u64) -> Result<Fabric, Vec<Violation>> {
    let mut fabric = Fabric { revision, ..Fabric::default() };
    let mut wrong = Vec::new();
    // The order of kinds puts a Network before the Ports on it.
    for (object, resource) in resources {
        if let Err(found) = add(&mut fabric, object, resource, resources) {
            wrong.extend(found);
        }
    }
    if wrong.is_empty() { Ok(fabric) } else { Err(wrong) }
}

/// Everything as of another revision, of which only the objects `written` differ from `before`.
pub fn follow(
    before: &Fabric,
    resources: &Resources,
    written: &BTreeSet<ObjectRef>,
    revision: u64,
) -> Result<Fabric, Vec<Violation>> {
    // What a Port is depends on its Network, and nothing on Ports and Namespaces.
    if !written.iter().all(|object| matches!(object.kind, Kind::Namespace | Kind::Port)) {
        return fabric(resources, revision);
    }
    let mut fabric = Fabric { revision, ..before.clone() };
    let mut wrong = Vec::new();
    for object in written {
        match object.kind {
            Kind::Namespace => drop(fabric.namespaces.remove(&object.name)),
            _ => drop(fabric.ports.remove(&object.name)),
        }
        let Some(resource) = resources.get(object) else { continue };
        if let Err(found) = add(&mut fabric, object, resource, resources) {
            wrong.extend(found);
        }
    }
    if wrong.is_empty() { Ok(fabric) } else { Err(wrong) }
}

fn add(
    fabric: &mut Fabric,
    object: &ObjectRef,
    resource: &v1::Resource,
    all: &Resources,
) -> Result<(), Vec<Violation>> {
    let metadata = metadata(object, resource);
    let name = object.name.clone();
    match &resource.kind {
        Some(v1::resource::Kind::Namespace(message)) => {
            let spec = namespace::parse(object, message.spec.as_ref())?;
            fabric.namespaces.insert(name, Arc::new(Object { metadata, spec }));
        }
        Some(v1::resource::Kind::Network(message)) => {
            let spec = network::parse(object, message.spec.as_ref())?;
            fabric.networks.insert(name, Arc::new(Object { metadata, spec }));
        }
        Some(v1::resource::Kind::Port(message)) => {
            let networks =
                Networks { parsed: &fabric.networks, all, port_is_going: metadata.deleting.is_some() };
            let spec = port::parse(object, message.spec.as_ref(), &networks)?;
            fabric.ports.insert(name, Arc::new(Object { metadata, spec }));
        }
        Some(v1::resource::Kind::Router(message)) => {
            let spec = router::parse(object, message.spec.as_ref())?;
            fabric.routers.insert(name, Arc::new(Object { metadata, spec }));
        }
        Some(v1::resource::Kind::Tunnel(message)) => {
            let spec = tunnel::parse(object, message.spec.as_ref())?;
            fabric.tunnels.insert(name, Arc::new(Object { metadata, spec }));
        }
        None => return Err(vec![Violation::new(object, "kind", "not given")]),
    }
    Ok(())
}

/// Where a Port finds its Network.
struct Networks<'a> {
    parsed: &'a Objects<Network>,
    all: &'a Resources,
    /// A Port that is being taken down may outlive its Network, or what it needed of it.
    port_is_going: bool,
}

/// What looking for a Port's Network gave.
enum Found<'a> {
    Network(&'a Network),
    /// It is there, but wrong itself, which is said elsewhere.
    Wrong,
    Missing,
}

impl<'a> Networks<'a> {
    fn find(&self, name: &Name) -> Found<'a> {
        match self.parsed.get(name).filter(|_| !self.port_is_going) {
            Some(network) => Found::Network(&network.spec),
            None if self.port_is_going => Found::Missing,
            None if self.all.contains_key(&ObjectRef::new(Kind::Network, name.clone())) => Found::Wrong,
            None => Found::Missing,
        }
    }
}

fn metadata(object: &ObjectRef, resource: &v1::Resource) -> Metadata {
    let message = resource.metadata.clone().unwrap_or_default();
    let time =
        |stamp: Option<prost_types::Timestamp>| stamp.and_then(|stamp| SystemTime::try_from(stamp).ok());
    Metadata {
        name: object.name.clone(),
        labels: message.labels,
        uid: message.uid,
        generation: message.generation,
        revision: message.revision,
        created: time(message.created).unwrap_or(SystemTime::UNIX_EPOCH),
        deleting: time(message.deleting),
    }
}

fn check_labels(labels: &BTreeMap<String, String>, findings: &mut Findings<'_>) {
    if labels.len() > MAX_LABELS {
        findings
            .add("metadata.labels", format_args!("{} labels, at most {MAX_LABELS} expected", labels.len()));
    }
    let in_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'_' | b'-');
    for (key, value) in labels {
        if key.is_empty() || key.len() > MAX_LABEL_LENGTH || !key.bytes().all(in_key) {
            let expected = "1 to 253 letters, digits, '.', '/', '_' and '-' expected";
            findings.add("metadata.labels", format_args!("{key:?} is not a label key, {expected}"));
        }
        if value.len() > MAX_LABEL_LENGTH || value.chars().any(char::is_control) {
            let path = format!("metadata.labels[{key}]");
            findings.add(&path, "not a label value, at most 253 bytes without control characters expected");
        }
    }
}

/// An address that a single station can have.
fn unicast(text: &str) -> Result<IpAddr, String> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(format!("\"{text}\" is not an IP address, such as 198.18.1.1 or 2001:db8:1::1 expected"));
    };
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(format!("{address} is not a unicast address"));
    }
    Ok(address)
}

#[cfg(test)]
mod tests;
