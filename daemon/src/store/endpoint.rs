//! Attachments: from what a container runtime asks for to a Port, its addresses and its Namespace, and back.
//!
//! An attachment is a Port like any other, with a note of whose it is; its Namespace adopts the container's. Their
//! names follow from the container's, so that asking again finds them. No disk, no clock, as in [`change`](super::change).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use weft_proto::v1;
use weft_stack::config::UNTAGGED;

use super::change::{Draft, Outcome, check_outcome};
use super::{Adoptable, Picture};
use crate::error::{Error, Result};
use crate::ipam::{Asked, Ledger};
use crate::model::nat::Families;
use crate::model::{
    AddressRange, Endpoint, Fabric, InterfaceAddress, Kind, Name, Namespace, Network, Object, ObjectRef,
    Port, PortMapping, Violation, VlanId, fnv1a, on_vlan,
};

mod vlan;

pub(super) use vlan::chosen as chosen_vlan;

/// The label of a Port or Namespace that was made for a container: its name at its runtime.
pub const CONTAINER_LABEL: &str = "weft.dev/container-id";
/// The label of a Port that was made for a pod: NAMESPACE/NAME.
pub const POD_LABEL: &str = "weft.dev/pod";

/// Characters of a container's name that are seen in those of its objects: what runtimes show of it.
const SHOWN: usize = 12;

/// What a container shall get.
#[derive(Debug, Clone)]
pub struct AttachWish {
    /// Whose it is.
    pub endpoint: Endpoint,
    /// The Network.
    pub network: Name,
    /// The VLAN of it; `None`: the one that goes without saying.
    pub vlan: Option<VlanId>,
    /// Where the container's namespace is.
    pub netns: PathBuf,
    /// The Namespace that the daemon has made there, if it has.
    pub made_namespace: Option<Name>,
    /// The Port, but for what follows from the rest: Network, VLAN, Namespace, device, addresses, endpoint.
    pub port: v1::PortSpec,
    /// Where its addresses come from.
    pub addresses: AddressSource,
    /// Whether it gets default routes; `None`: if there are gateways, and the container has none.
    pub default_route: Option<bool>,
    /// Labels for the Port.
    pub labels: BTreeMap<String, String>,
}

/// Where a container's addresses come from.
#[derive(Debug, Clone)]
pub enum AddressSource {
    /// The pools of its Network.
    Pools {
        /// Just these, for their families.
        wanted: Vec<IpAddr>,
        /// From these ranges only, for their families.
        ranges: Vec<AddressRange>,
    },
    /// Somebody else, who gave these, with prefix length.
    Given(Vec<String>),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Attached {
    /// The Port is new, as of this revision.
    New(Name, u64),
    /// It was there already, as of this revision.
    Existing(Name, u64),
    /// An earlier one must be gone first.
    Leaving(ObjectRef),
}

/// The name of the Port of a container's device.
pub fn port_name(container_id: &str, interface: &str) -> Result<Name> {
    let shown = [word(container_id, SHOWN), word(interface, SHOWN)].join("-");
    named(&shown, &[container_id, interface])
}

pub(super) fn attach(
    before: &Picture,
    ledger: &Ledger,
    wish: &AttachWish,
    now: SystemTime,
    adoptable: Adoptable<'_>,
) -> Result<(Attached, Option<Outcome>)> {
    let Endpoint { container_id, interface, .. } = &wish.endpoint;
    let name = port_name(container_id, interface)?;
    let object = ObjectRef::new(Kind::Port, name.clone());
    if let Some(port) = before.fabric.ports.get(&name) {
        if port.metadata.deleting.is_some() {
            return Ok((Attached::Leaving(object), None));
        }
        if is_same(before, port, wish)? {
            return Ok((Attached::Existing(name, before.fabric.revision), None));
        }
        // The container was made anew, and nobody had said that the old one is gone.
        let outcome =
            detach(before, &|it| (&it.container_id, &it.interface) == (container_id, interface), now)?;
        return Ok((Attached::Leaving(object), Some(outcome)));
    }
    let network = before.fabric.networks.get(&wish.network).filter(|it| it.metadata.deleting.is_none());
    let missing = || Error::NotFound(vec![ObjectRef::new(Kind::Network, wish.network.clone())]);
    let network = &network.ok_or_else(missing)?.spec;
    let vlan = vlan::chosen(&before.fabric, &wish.network, network, wish.vlan)?;
    let mut draft = Draft::of(before, now);
    let namespace = namespace(before, wish, &mut draft)?;
    let addresses = match &wish.addresses {
        AddressSource::Given(given) => {
            vlan::check_given(given, vlan, &wish.network, network)?;
            given.clone()
        }
        AddressSource::Pools { wanted, ranges } => {
            let asked = Asked { owner: &wish.endpoint.owner, vlan, port: Some(&name), wanted, ranges };
            let chosen = ledger.choose(&wish.network, network, &asked, now)?;
            chosen
                .iter()
                .map(|InterfaceAddress { address, prefix_length }| format!("{address}/{prefix_length}"))
                .collect()
        }
    };
    let spec = v1::PortSpec {
        network: wish.network.to_string(),
        namespace: namespace.to_string(),
        device: interface.clone(),
        default_route: wish
            .default_route
            .unwrap_or_else(|| leads_out(network, &addresses) && !has_way_out(before, &namespace)),
        addresses,
        endpoint: Some(message(&wish.endpoint)),
        vlan: u32::from(vlan),
        ..wish.port.clone()
    };
    draft.put(object, port_resource(&name, wish, spec), None)?;
    let outcome = draft.finish(before)?;
    check_free(&outcome.fabric, &name)?;
    check_outcome(before, &outcome, adoptable)?;
    let revision = outcome.fabric.revision;
    Ok((Attached::New(name, revision), Some(outcome)))
}

pub(super) fn detach(
    before: &Picture,
    which: &dyn Fn(&Endpoint) -> bool,
    now: SystemTime,
) -> Result<Outcome> {
    let mut draft = Draft::of(before, now);
    let leaving = |port: &Object<Port>| port.spec.endpoint.as_ref().is_some_and(which);
    let ports = before.fabric.ports.iter().filter(|(_, port)| leaving(port));
    let mut spaces = Vec::new();
    for (name, port) in ports {
        draft.bury(&ObjectRef::new(Kind::Port, name.clone()));
        spaces.extend(port.spec.attachment.namespace().cloned());
    }
    for space in spaces {
        let others =
            before.fabric.ports.values().filter(|port| port.metadata.deleting.is_none() && !leaving(port));
        let used = others.map(|port| port.spec.attachment.namespace()).any(|other| other == Some(&space));
        if !used && is_of_container(before, &space) {
            draft.bury_silently(&ObjectRef::new(Kind::Namespace, space));
        }
    }
    draft.finish(before)
}

/// Whether nobody else has what a new Port wants: that is no mistake of the request.
fn check_free(fabric: &Fabric, name: &Name) -> Result<()> {
    let Some(port) = fabric.ports.get(name).map(|port| &port.spec) else { return Ok(()) };
    let families = |port: &Port| Families::of(port.addresses.iter().map(|own| own.address));
    for (other, theirs) in fabric.ports.iter().filter(|(other, _)| *other != name) {
        let occupied =
            |what: String| Err(Error::Occupied { what, by: ObjectRef::new(Kind::Port, other.clone()) });
        let theirs = &theirs.spec;
        let mut mappings = port.mappings.iter();
        let taken = |it: &&PortMapping| {
            theirs.mappings.iter().any(|mapped| it.overlaps(families(port), mapped, families(theirs)))
        };
        if let Some(mapping) = mappings.find(taken) {
            return occupied(format!("the node's port {mapping}"));
        }
        if port.network != theirs.network {
            continue;
        }
        if port.mac == theirs.mac {
            return occupied(format!("the MAC address {} on Network/{}", port.mac, port.network));
        }
        let mut addresses = port.addresses.iter().map(|own| own.address);
        if let Some(address) = addresses.find(|it| theirs.addresses.iter().any(|own| own.address == *it)) {
            return occupied(format!("{address} on Network/{}", port.network));
        }
    }
    Ok(())
}

/// Whether the Port that a container has is the one that it asks for; false: it was for another namespace, or another boot.
fn is_same(before: &Picture, port: &Object<Port>, wish: &AttachWish) -> Result<bool> {
    let object = || ObjectRef::new(Kind::Port, port.metadata.name.clone());
    let taken = |reason: String| Err(Error::Taken { object: object(), reason });
    let Some(endpoint) = &port.spec.endpoint else {
        return taken("it is not a container's".to_owned());
    };
    let key = |it: &Endpoint| (it.container_id.clone(), it.interface.clone());
    if key(endpoint) != key(&wish.endpoint) {
        return taken(format!("it is {} of container {}", endpoint.interface, endpoint.container_id));
    }
    let life = |it: &Endpoint| (it.boot_id.clone(), it.namespace_inode);
    if life(endpoint) != life(&wish.endpoint) {
        return Ok(false);
    }
    let space = port.spec.attachment.namespace().and_then(|name| before.fabric.namespaces.get(name));
    let same_place =
        space.is_some_and(|space| space.spec == Namespace::Adopt(wish.netns.clone()) || is_made(space, wish));
    if same_place && port.spec.network != wish.network {
        return taken(format!("{} is on Network/{} already", endpoint.interface, port.spec.network));
    }
    let on = port.spec.switching.vlans.own().unwrap_or(UNTAGGED);
    if let Some(vlan) = wish.vlan.filter(|vlan| same_place && on != vlan.get()) {
        let (interface, network) = (&endpoint.interface, &port.spec.network);
        let (on, wanted) = (on_vlan(on), on_vlan(vlan.get()));
        return taken(format!("{interface} is {on} of Network/{network} already, not {wanted}"));
    }
    Ok(same_place)
}

/// The Namespace of the container: one that is there, or a new one.
fn namespace(before: &Picture, wish: &AttachWish, draft: &mut Draft) -> Result<Name> {
    let live = before.fabric.namespaces.iter().filter(|(_, space)| space.metadata.deleting.is_none());
    let adopted = Namespace::Adopt(wish.netns.clone());
    let mut there = live.filter(|(_, space)| space.spec == adopted || is_made(space, wish));
    if let Some((name, _)) = there.next() {
        return Ok(name.clone());
    }
    let path = wish.netns.to_string_lossy();
    let container = &wish.endpoint.container_id;
    let name = named(&word(container, SHOWN), &[container, &path])?;
    let resource = v1::Resource {
        metadata: Some(v1::Metadata {
            name: name.to_string(),
            labels: BTreeMap::from([(CONTAINER_LABEL.to_owned(), container.clone())]),
            ..Default::default()
        }),
        kind: Some(v1::resource::Kind::Namespace(v1::Namespace {
            spec: Some(v1::NamespaceSpec { path: path.into_owned() }),
            status: None,
        })),
    };
    draft.put(ObjectRef::new(Kind::Namespace, name.clone()), resource, None)?;
    Ok(name)
}

/// Whether the wished namespace is this one, which the daemon itself has made.
fn is_made(space: &Object<Namespace>, wish: &AttachWish) -> bool {
    let made = wish.made_namespace.as_ref();
    space.spec == Namespace::Make && made == Some(&space.metadata.name)
}

/// Whether a Namespace was made for a container, and goes with its last Port.
fn is_of_container(before: &Picture, name: &Name) -> bool {
    let space = before.fabric.namespaces.get(name);
    space.is_some_and(|space| {
        matches!(space.spec, Namespace::Adopt(_)) && space.metadata.labels.contains_key(CONTAINER_LABEL)
    })
}

/// Whether the Network has a gateway on the link of one of these addresses.
fn leads_out(network: &Network, addresses: &[String]) -> bool {
    let own = addresses.iter().filter_map(|text| text.split_once('/')?.0.parse::<IpAddr>().ok());
    own.into_iter().any(|address| {
        network.subnets.iter().any(|subnet| subnet.gateway.is_some() && subnet.prefix.contains(address))
    })
}

/// Whether a device of the container leads to everywhere already.
fn has_way_out(before: &Picture, namespace: &Name) -> bool {
    let ports = before.fabric.ports.values().filter(|port| port.metadata.deleting.is_none());
    let mut beside = ports.filter(|port| port.spec.attachment.namespace() == Some(namespace));
    beside.any(|port| port.spec.routes.iter().any(|route| route.prefix.length() == 0))
}

fn port_resource(name: &Name, wish: &AttachWish, spec: v1::PortSpec) -> v1::Resource {
    let mut labels = wish.labels.clone();
    labels.insert(CONTAINER_LABEL.to_owned(), wish.endpoint.container_id.clone());
    if !wish.endpoint.owner.is_empty() {
        labels.insert(POD_LABEL.to_owned(), wish.endpoint.owner.clone());
    }
    v1::Resource {
        metadata: Some(v1::Metadata { name: name.to_string(), labels, ..Default::default() }),
        kind: Some(v1::resource::Kind::Port(v1::Port { spec: Some(spec), status: None })),
    }
}

fn message(endpoint: &Endpoint) -> v1::Endpoint {
    v1::Endpoint {
        container_id: endpoint.container_id.clone(),
        interface: endpoint.interface.clone(),
        configuration: endpoint.configuration.clone(),
        owner: endpoint.owner.clone(),
        boot_id: endpoint.boot_id.clone(),
        namespace_inode: endpoint.namespace_inode,
    }
}

/// The first characters of a text that a name may have.
fn word(text: &str, most: usize) -> String {
    let letters = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let word: String = letters.take(most).collect();
    word.trim_matches('-').to_owned()
}

/// A name that shows `shown`, and differs wherever one of `parts` does.
fn named(shown: &str, parts: &[&str]) -> Result<Name> {
    let name = format!("{}-{:08x}", shown.trim_matches('-'), digest(parts));
    Name::new(name.trim_matches('-')).map_err(|error| {
        Error::Refused(vec![Violation { field: "key".to_owned(), description: error.to_string() }])
    })
}

/// A number that differs for different parts.
fn digest(parts: &[&str]) -> u32 {
    // A part ends where no text can go on.
    let hash = fnv1a(parts.iter().flat_map(|part| part.bytes().chain([0xff])));
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests;
