//! The objects of a cluster in memory: their versions, their history, and who owns whom.
//!
//! It knows no kinds but one: the status of a Node is kept at its creation, as kubelets register with it. What a list shows is what is now,
//! also on its later pages; their version is the first page's, so that a watch from there tells the rest.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::sync::watch;

use crate::cluster::history::{Event, History};
use crate::cluster::journal::{Entry, Journal, Line};
use crate::cluster::object::{self, Object};
use crate::cluster::ownership::Ownership;
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

#[derive(Debug)]
struct Cluster {
    version: u64,
    /// Nothing is known of what was until here.
    horizon: u64,
    bound: usize,
    collections: BTreeMap<Resource, Collection>,
    ownership: Ownership,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Collection {
    objects: BTreeMap<Key, Arc<Object>>,
    history: History,
    changed: watch::Sender<u64>,
    kind: Option<String>,
}

impl Store {
    /// A store with what its file holds. Without a file the first version is the time, so that a server that forgot
    /// everything does not give out a version twice.
    pub fn open(options: StoreOptions) -> Result<Store> {
        let mut cluster = Cluster {
            version: 1,
            horizon: 1,
            bound: options.history,
            collections: BTreeMap::new(),
            ownership: Ownership::default(),
            journal: None,
        };
        match &options.state {
            Some(path) => cluster.load(path).context("the cluster's objects")?,
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                cluster.version = u64::try_from(now.as_millis()).unwrap_or(1);
                cluster.horizon = cluster.version;
            }
        }
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
        self.lock().collection(resource).changed.subscribe()
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
        let mut cluster = self.lock();
        cluster.version += 1;
        cluster.horizon = cluster.version;
        let version = cluster.version;
        if let Some(journal) = &mut cluster.journal {
            report(journal.add_version(version));
        }
        for collection in cluster.collections.values_mut() {
            collection.history.expire(version);
            collection.changed.send_replace(version);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    fn load(&mut self, path: &std::path::Path) -> Result<()> {
        for line in Journal::read(path)? {
            match line {
                Line::Version(version) => self.version = self.version.max(version),
                Line::Change(entry) => self.load_entry(entry),
            }
        }
        self.horizon = self.version;
        for collection in self.collections.values_mut() {
            collection.history.expire(self.horizon);
        }
        let entries = self.collections.iter().flat_map(|(resource, collection)| {
            collection.objects.values().map(move |object| (resource, &object.value))
        });
        self.journal = Some(Journal::create(path, self.version, entries)?);
        Ok(())
    }

    fn load_entry(&mut self, entry: Entry) {
        let version = object::word(&entry.object, "resourceVersion").parse().unwrap_or(0);
        self.version = self.version.max(version);
        let object = Object::new(entry.object, version);
        let collection = self.collection(&entry.resource);
        collection.learn_kind(&object.value);
        let before = match entry.deleted {
            true => collection.objects.remove(&object.key()),
            false => collection.objects.insert(object.key(), Arc::new(object.clone())),
        };
        let after = Some(&object).filter(|_| !entry.deleted);
        self.ownership.changed(&entry.resource, before.as_deref(), after);
    }

    fn collection(&mut self, resource: &Resource) -> &mut Collection {
        let (bound, horizon) = (self.bound, self.horizon);
        self.collections.entry(resource.clone()).or_insert_with(|| Collection {
            objects: BTreeMap::new(),
            history: History::new(bound, horizon),
            changed: watch::Sender::new(horizon),
            kind: None,
        })
    }

    fn find(&mut self, target: &Target) -> Result<Arc<Object>, Refusal> {
        let found = self.collection(&target.resource).objects.get(&target.key());
        found.cloned().ok_or_else(|| Refusal::not_found(target))
    }

    fn create(&mut self, target: &Target, mut body: Value) -> Result<Arc<Object>, Refusal> {
        let mut target = target.clone();
        if target.name.is_empty() {
            target.name = name_for(&body)?;
        }
        if self.find(&target).is_ok() {
            return Err(Refusal::already_exists(&target));
        }
        let fields = object::metadata(&mut body);
        fields.insert("name".into(), target.name.as_str().into());
        if !target.namespace.is_empty() {
            fields.insert("namespace".into(), target.namespace.as_str().into());
        }
        object::born(&mut body);
        if body["kind"] != "Node"
            && let Value::Object(fields) = &mut body
        {
            fields.remove("status");
        }
        let object = self.commit(&target.resource, body);
        if self.ownership.is_orphan(&object) {
            self.remove(&target.resource, &object.key());
        }
        Ok(object)
    }

    fn change(
        &mut self,
        target: &Target,
        edit: impl FnOnce(&Value) -> Result<Value, Refusal>,
    ) -> Result<Arc<Object>, Refusal> {
        let old = self.find(target)?;
        let mut new = edit(&old.value)?;
        check_identity(target, &old, &new)?;
        if target.status {
            let mut with_status = old.value.clone();
            object::copy_field(&mut with_status, &new, "status");
            if let Some(managers) = new["metadata"].get("managedFields") {
                object::metadata(&mut with_status).insert("managedFields".into(), managers.clone());
            }
            new = with_status;
        } else {
            object::copy_field(&mut new, &old.value, "status");
        }
        object::keep_identity(&mut new, &old.value);
        if new == old.value {
            return Ok(old);
        }
        let object = self.commit(&target.resource, new);
        let is_marked = !object.word("deletionTimestamp").is_empty();
        if (is_marked && !object.has_finalizers()) || self.ownership.is_orphan(&object) {
            self.remove(&target.resource, &object.key());
        }
        Ok(object)
    }

    /// Takes an object away and then what it owned; the object that stays marked, if it has finalizers.
    fn remove(&mut self, resource: &Resource, key: &Key) -> Option<Arc<Object>> {
        let mut marked = None;
        let mut doomed = vec![(resource.clone(), key.clone())];
        while let Some((resource, key)) = doomed.pop() {
            let Some(object) = self.collection(&resource).objects.get(&key).cloned() else { continue };
            if object.has_finalizers() {
                let mut value = object.value.clone();
                object::metadata(&mut value)
                    .entry("deletionTimestamp")
                    .or_insert_with(|| object::now().into());
                let object = if value == object.value { object } else { self.commit(&resource, value) };
                marked.get_or_insert(object);
                continue;
            }
            self.bury(&resource, &object);
            for (resource, key) in self.ownership.departed(object.word("uid")) {
                let orphan = self.collection(&resource).objects.get(&key).cloned();
                if orphan.is_some_and(|object| self.ownership.is_orphan(&object)) {
                    doomed.push((resource, key));
                }
            }
        }
        marked
    }

    /// Makes a version of an object that is now.
    fn commit(&mut self, resource: &Resource, value: Value) -> Arc<Object> {
        self.version += 1;
        let version = self.version;
        let object = Arc::new(Object::new(value, version));
        let collection = self.collection(resource);
        collection.learn_kind(&object.value);
        let previous = collection.objects.insert(object.key(), object.clone());
        self.record(resource, Event { object: object.clone(), previous, deleted: false, version });
        object
    }

    /// Makes the version in which an object is gone.
    fn bury(&mut self, resource: &Resource, object: &Arc<Object>) {
        self.version += 1;
        let version = self.version;
        let last = Arc::new(Object::new(object.value.clone(), version));
        let previous = self.collection(resource).objects.remove(&object.key());
        self.record(resource, Event { object: last, previous, deleted: true, version });
    }

    fn record(&mut self, resource: &Resource, event: Event) {
        let after = Some(&*event.object).filter(|_| !event.deleted);
        self.ownership.changed(resource, event.previous.as_deref(), after);
        if let Some(journal) = &mut self.journal {
            report(journal.add(resource, &event.object.value, event.deleted));
        }
        let version = event.version;
        let collection = self.collection(resource);
        collection.history.push(event);
        collection.changed.send_replace(version);
    }
}

impl Collection {
    fn learn_kind(&mut self, object: &Value) {
        if self.kind.is_none() {
            self.kind = object["kind"].as_str().map(str::to_owned);
        }
    }
}

/// A change that is not kept is still made.
fn report(kept: std::io::Result<()>) {
    if let Err(error) = kept {
        eprintln!("the change is not kept: {error}");
    }
}

fn name_for(body: &Value) -> Result<String, Refusal> {
    match (object::word(body, "name"), object::word(body, "generateName")) {
        ("", "") => Err(Refusal::invalid("metadata.name: name or generateName is required")),
        ("", prefix) => Ok(format!("{prefix}{}", object::suffix())),
        (name, _) => Ok(name.to_owned()),
    }
}

/// Refuses what was made for another version or another object of the name.
fn check_identity(target: &Target, old: &Object, new: &Value) -> Result<(), Refusal> {
    let differs =
        |field| !matches!(object::word(new, field), "") && object::word(new, field) != old.word(field);
    if differs("name") || differs("namespace") {
        return Err(Refusal::bad_request("the name of the object does not match the name on the URL"));
    }
    if differs("uid") {
        return Err(Refusal::conflict(target, "the uid is that of another object"));
    }
    if differs("resourceVersion") {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Refusal::conflict(target, why));
    }
    Ok(())
}

/// `weftnodes` becomes `Weftnode`: the kind of a resource that never had objects.
fn guess_kind(plural: &str) -> String {
    let mut letters = plural.strip_suffix('s').unwrap_or(plural).chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
