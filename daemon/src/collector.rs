//! Attachments whose containers are gone: what runtimes say while nobody hears it, and what they never say.
//!
//! Three ways lead out. A detachment that the CNI plugin had to leave in its queue is made up for. A boot of the node
//! ends all containers. And a namespace that is gone, with nobody left inside, for as long as is configured, takes its
//! attachments along. An address of a container that lives is never let go: what is not known for sure counts as alive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weft_host::link::Netlink;
use weft_host::netns::{NetNs, entered};
use weft_proto::detach_queue::{DetachQueue, QueuedDetach};

use crate::error::Result;
use crate::model::{Endpoint, Fabric, Name, Namespace, Port};
use crate::reconcile::{Folders, Marks, host_end};
use crate::store::Store;
use crate::survivors;

/// How often the queue and the namespaces are looked at, unless attachments shall go sooner.
const INTERVAL: Duration = Duration::from_secs(5);

/// Finds attachments whose containers are gone.
#[derive(Debug)]
pub struct Collector {
    store: Arc<Store>,
    queue: DetachQueue,
    boot_id: String,
    folders: Folders,
    /// How long a container has been gone before its attachments go; zero: they stay.
    grace: Duration,
    /// Since when containers were not seen, by Port.
    gone: Mutex<HashMap<Name, Instant>>,
}

impl Collector {
    /// Nothing is looked at yet.
    pub fn new(
        store: Arc<Store>,
        queue: DetachQueue,
        boot_id: String,
        folders: Folders,
        grace: Duration,
    ) -> Collector {
        Collector { store, queue, boot_id, folders, grace, gone: Mutex::default() }
    }

    /// How often to call [`round`](Self::round).
    pub fn interval(&self) -> Duration {
        if self.grace.is_zero() { INTERVAL } else { INTERVAL.min(self.grace) }
    }

    /// Makes up for what happened while no daemon was there, before anybody attaches. True: the store changed.
    pub fn catch_up(&self) -> bool {
        let ended = |it: &Endpoint| !it.boot_id.is_empty() && it.boot_id != self.boot_id;
        let ended = match self.boot_id.is_empty() {
            true => false,
            false => self.detach("the node was booted since they were made", &ended),
        };
        let drained = self.drain();
        let lost = self.store.is_rebuilt() && self.detach_all_lost();
        self.look_for_survivors(self.store.is_rebuilt());
        drained | ended | lost
    }

    /// Looks at everything once. True: the store changed.
    pub fn round(&self, now: Instant) -> bool {
        let drained = self.drain();
        let known = !self.store.fabric().survivors.is_empty();
        let drained = drained | (known && self.look_for_survivors(true));
        if self.grace.is_zero() {
            return drained;
        }
        let lost = self.lost(now);
        drained | (!lost.is_empty() && self.detach("their namespaces are gone", &|it| lost.contains(it)))
    }

    /// Lets go of what containers had that ended before the state was rebuilt. Nobody knows since when they are gone.
    fn detach_all_lost(&self) -> bool {
        let lost: Vec<Endpoint> = self.missing(&self.store.fabric()).into_iter().map(|(_, it)| it).collect();
        !lost.is_empty() && self.detach("their namespaces are gone", &|it| lost.contains(it))
    }

    /// Finds devices that the state does not explain. True: they are not those of before.
    fn look_for_survivors(&self, thorough: bool) -> bool {
        let fabric = self.store.fabric();
        let marks = Marks::new(self.store.instance());
        let found = survivors::find(&marks, &fabric, &self.folders, &fabric.survivors, thorough);
        for (name, survivor) in found.iter().filter(|(name, _)| !fabric.survivors.contains_key(*name)) {
            let addresses: Vec<_> = survivor.addresses.iter().map(ToString::to_string).collect();
            tracing::warn!(
                device = %survivor.device,
                place = %survivor.place,
                "a living device was made for Port/{name}, which is not known any more: it stays as it is, and \
                 nobody gets its addresses ({}); they are free again once its container is gone",
                addresses.join(", ")
            );
        }
        self.store.hold(found)
    }

    /// Does what the plugin left to do.
    fn drain(&self) -> bool {
        let queued = match self.queue.list() {
            Ok(queued) => queued,
            Err(error) => {
                tracing::error!("detachments that the CNI plugin left are not heard: {error}");
                return false;
            }
        };
        for (path, reason) in queued.unreadable {
            tracing::error!(path = %path.display(), "a detachment that the CNI plugin left cannot be read: {reason}; remove the file");
        }
        let mut changed = false;
        for request in queued.requests {
            changed |= self.make_up_for(&request);
        }
        changed
    }

    fn make_up_for(&self, request: &QueuedDetach) -> bool {
        let key = &request.key;
        // A plugin that attaches the same container again takes the request away before.
        let meant = |it: &Endpoint| {
            it.container_id == key.container_id
                && (key.interface.is_empty() || it.interface == key.interface)
                && self.queue.holds(key)
        };
        let before = self.store.revision();
        if let Err(error) = self.store.detach(&meant) {
            tracing::error!(container = %key.container_id, "a detachment is put off: {error}");
            return false;
        }
        if let Err(error) = self.queue.remove(key) {
            tracing::error!("{error}");
        }
        tracing::info!(container = %key.container_id, device = %key.interface, "detached, as was asked while weftd was down");
        self.store.revision() != before
    }

    /// The containers that have been gone for long enough.
    fn lost(&self, now: Instant) -> Vec<Endpoint> {
        let missing = self.missing(&self.store.fabric());
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|name, _| missing.iter().any(|(other, _)| other == name));
        let mut lost = Vec::new();
        for (name, endpoint) in missing {
            let since = *gone.entry(name).or_insert(now);
            if now.duration_since(since) >= self.grace {
                lost.push(endpoint);
            }
        }
        lost
    }

    /// The attachments whose namespaces are gone.
    fn missing(&self, fabric: &Fabric) -> Vec<(Name, Endpoint)> {
        let ports = fabric.ports.iter().filter(|(_, port)| port.metadata.deleting.is_none());
        let endpoints =
            ports.filter_map(|(name, port)| Some((name, &port.spec, port.spec.endpoint.as_ref()?)));
        let missing = endpoints.filter(|(name, port, endpoint)| !self.lives(fabric, name, port, endpoint));
        missing.map(|(name, _, endpoint)| (name.clone(), endpoint.clone())).collect()
    }

    /// Whether a container's namespace is there, or may be.
    fn lives(&self, fabric: &Fabric, name: &Name, port: &Port, endpoint: &Endpoint) -> bool {
        let space = port.attachment.namespace().and_then(|space| fabric.namespaces.get(space));
        let Some(Namespace::Adopt(path)) = space.map(|space| &space.spec) else { return true };
        match NetNs::open(path) {
            Ok(namespace) if namespace.id().inode == endpoint.namespace_inode => return true,
            // Another container's, or an empty file that a namespace was mounted on.
            Ok(_) | Err(weft_host::Error::NotANamespace { .. }) => {}
            Err(error) if error.is_gone() => {}
            Err(_) => return true,
        }
        self.has_end(name) || self.is_inhabited(name, endpoint)
    }

    /// Whether somebody is in the container's namespace, though it has no name any more. It has the device that was
    /// made there: one that only has its number now does not.
    fn is_inhabited(&self, name: &Name, endpoint: &Endpoint) -> bool {
        let marks = Marks::new(self.store.instance());
        let find = |space: &NetNs| -> weft_host::Result<bool> {
            let _entered = space.enter()?;
            let device = Netlink::open()?.link_by_name(&endpoint.interface)?;
            Ok(device.and_then(|it| it.alias).is_some_and(|alias| marks.owner(&alias).as_ref() == Some(name)))
        };
        entered(endpoint.namespace_inode).is_some_and(|space| find(&space).unwrap_or(true))
    }

    /// Whether the stack's end of a veth pair is there, as it is as long as the container's namespace.
    fn has_end(&self, name: &Name) -> bool {
        let find = || -> weft_host::Result<bool> {
            let ports = NetNs::open(&self.folders.ports())?;
            let _entered = ports.enter()?;
            Ok(Netlink::open()?.link_by_name(&host_end(name))?.is_some())
        };
        find().unwrap_or(false)
    }

    fn detach(&self, why: &str, which: &dyn Fn(&Endpoint) -> bool) -> bool {
        let detached: Result<_> = self.store.detach(which);
        match detached {
            Ok((ports, _)) => {
                for port in &ports {
                    tracing::info!(object = %port, "detached: {why}");
                }
                !ports.is_empty()
            }
            Err(error) => {
                tracing::error!("what containers that are gone had stays for now: {error}");
                false
            }
        }
    }
}
