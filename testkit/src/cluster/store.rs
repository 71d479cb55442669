//! The objects of a cluster in memory, for many clients at a time. What becomes of them is in `contents.rs`.
//!
//! What a list shows is what is now, also on its later pages; their version is the first page's, so that a watch
//! from there tells the rest.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::sync::watch;

use crate::cluster::contents::Cluster;
use crate::cluster::history::Event;
use crate::cluster::object::Object;
use crate::cluster::path::{Key, Resource, Target};
use crate::cluster::refusal::Refusal;
use crate::cluster::selector::Selector;

/// Events that a watch is given at a time.
const BATCH: usize = 256;

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Events that are remembered of each resource.
    pub history: usize,
    /// Time between two bookmarks of a watch.
    pub bookmarks: Duration,
    /// The file that keeps the objects.
    pub state: Option<PathBuf>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { history: 10_000, bookmarks: Duration::from_secs(1), state: None }
    }
}

/// The objects of a cluster.
#[derive(Debug)]
pub struct Store {
    cluster: Mutex<Cluster>,
    options: StoreOptions,
}

/// A part of a list.
#[derive(Debug)]
pub struct Page {
    /// The objects, in order of namespace and name.
    pub objects: Vec<Arc<Object>>,
    /// The version of the list.
    pub version: u64,
    /// Where the next part begins.
    pub next: Option<Key>,
    /// Objects after this part.
    pub remaining: usize,
}

/// What a watch is told at a time.
#[derive(Debug)]
pub struct Batch {
    /// The events.
    pub events: Vec<Arc<Event>>,
    /// From where to ask next.
    pub version: u64,
    /// Whether more are there already.
    pub more: bool,
}

impl Store {
    /// A store with what its file holds. Without a file the first version is the time, so that a server that forgot
    /// everything does not give out a version twice.
    pub fn open(options: StoreOptions) -> Result<Store> {
        let cluster = match &options.state {
            Some(path) => Cluster::open(path, options.history).context("the cluster's objects")?,
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Cluster::empty(u64::try_from(now.as_millis()).unwrap_or(1), options.history)
            }
        };
        Ok(Store { cluster: Mutex::new(cluster), options })
    }

    /// How it behaves.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// The version of the latest change.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// One object.
    pub fn get(&self, target: &Target) -> Result<Arc<Object>, Refusal> {
        self.lock().find(target)
    }

    /// The objects that match, of one namespace or of all, after `from`.
    pub fn list(&self, target: &Target, selector: &Selector, limit: usize, from: Option<&Key>) -> Page {
        let mut cluster = self.lock();
        let version = cluster.version;
        let objects = &cluster.collection(&target.resource).objects;
        let first = Key { namespace: target.namespace.clone(), name: String::new() };
        let start = from.map_or(Bound::Included(&first), Bound::Excluded);
        let in_reach = |key: &Key| target.namespace.is_empty() || key.namespace == target.namespace;
        let range = objects.range((start, Bound::Unbounded)).take_while(|(key, _)| in_reach(key));
        let mut matching = range.map(|(_, object)| object).filter(|object| selector.matches(&object.value));
        let objects: Vec<_> = matching.by_ref().take(limit).cloned().collect();
        let remaining = matching.count();
        let next = objects.last().filter(|_| remaining > 0).map(|object| object.key());
        Page { objects, version, next, remaining }
    }

    /// Refuses a version whose history is gone.
    pub fn reaches_back_to(&self, resource: &Resource, version: u64) -> Result<(), Refusal> {
        self.lock().collection(resource).history.reaches_back_to(version)
    }

    /// What happened to a resource after `version`.
    pub fn since(&self, resource: &Resource, version: u64) -> Result<Batch, Refusal> {
        let mut cluster = self.lock();
        let current = cluster.version;
        let events = cluster.collection(resource).history.since(version, BATCH)?;
        let more = events.len() == BATCH;
        let version = events.last().filter(|_| more).map_or(current, |event| event.version);
        Ok(Batch { events, version, more })
    }

    /// Tells of changes to a resource; the value says nothing.
    pub fn subscribe(&self, resource: &Resource) -> watch::Receiver<u64> {
        self.lock().collection(resource).subscribe()
    }

    /// The kind of a resource's objects: what those are that it has or had, else a guess.
    pub fn kind(&self, resource: &Resource) -> String {
        self.lock().collection(resource).kind.clone().unwrap_or_else(|| guess_kind(&resource.plural))
    }

    /// A new object.
    pub fn create(&self, target: &Target, body: Value) -> Result<Arc<Object>, Refusal> {
        self.lock().create(target, body)
    }

    /// The object as `edit` makes it of what it is. The status alone changes where the target is the status, and
    /// never elsewhere. An edit that changes nothing makes no version.
    pub fn change(
        &self,
        target: &Target,
        edit: impl FnOnce(&Value) -> Result<Value, Refusal>,
    ) -> Result<Arc<Object>, Refusal> {
        self.lock().change(target, edit)
    }

    /// The object as `edit` makes it of what it is, or of nothing.
    pub fn change_or_create(
        &self,
        target: &Target,
        edit: impl FnOnce(Option<&Value>) -> Result<Value, Refusal>,
    ) -> Result<(Arc<Object>, bool), Refusal> {
        let mut cluster = self.lock();
        if cluster.find(target).is_ok() {
            return Ok((cluster.change(target, |old| edit(Some(old)))?, false));
        }
        if target.status {
            return Err(Refusal::not_found(target));
        }
        Ok((cluster.create(target, edit(None)?)?, true))
    }

    /// Takes an object away, and what it owned; `check` may refuse that. With finalizers it is only marked, and
    /// the marked object returned.
    pub fn delete(
        &self,
        target: &Target,
        check: impl FnOnce(&Object) -> Result<(), Refusal>,
    ) -> Result<Arc<Object>, Refusal> {
        let mut cluster = self.lock();
        let object = cluster.find(target)?;
        check(&object)?;
        Ok(cluster.remove(&target.resource, &object.key()).unwrap_or(object))
    }

    /// Forgets all history: every version that was given out until now is expired.
    pub fn expire(&self) {
        self.lock().expire();
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `weftnodes` becomes `Weftnode`: the kind of a resource that never had objects.
fn guess_kind(plural: &str) -> String {
    let mut letters = plural.strip_suffix('s').unwrap_or(plural).chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
