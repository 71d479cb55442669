//! The objects behind a store's lock: every change makes a version, an event, and a line of the journal.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;
use tokio::sync::watch;

use crate::cluster::history::{Event, History};
use crate::cluster::journal::{Entry, Journal, Line};
use crate::cluster::object::{self, Object};
use crate::cluster::ownership::Ownership;
use crate::cluster::path::{Key, Resource, Target};
use crate::cluster::refusal::Refusal;

/// All objects of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The version of the latest change.
    pub(super) version: u64,
    /// Nothing is known of what was until here.
    horizon: u64,
    bound: usize,
    collections: BTreeMap<Resource, Collection>,
    ownership: Ownership,
    journal: Option<Journal>,
}

/// The objects of one resource.
#[derive(Debug)]
pub(super) struct Collection {
    pub(super) objects: BTreeMap<Key, Arc<Object>>,
    pub(super) history: History,
    changed: watch::Sender<u64>,
    /// Of the first object that there was.
    pub(super) kind: Option<String>,
}

impl Cluster {
    /// No objects, in this version, with a history of at most `bound` events of each resource.
    pub(super) fn empty(version: u64, bound: usize) -> Cluster {
        Cluster {
            version,
            horizon: version,
            bound,
            collections: BTreeMap::new(),
            ownership: Ownership::default(),
            journal: None,
        }
    }

    /// The objects that a file holds, which will hold their changes too.
    pub(super) fn open(path: &Path, bound: usize) -> Result<Cluster> {
        let mut cluster = Cluster::empty(1, bound);
        cluster.load(path)?;
        Ok(cluster)
    }

    /// Forgets all history: every version that was given out until now is expired.
    pub(super) fn expire(&mut self) {
        self.version += 1;
        self.horizon = self.version;
        if let Some(journal) = &mut self.journal {
            report(journal.add_version(self.version));
        }
        for collection in self.collections.values_mut() {
            collection.history.expire(self.version);
            collection.changed.send_replace(self.version);
        }
    }

    fn load(&mut self, path: &Path) -> Result<()> {
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

    pub(super) fn collection(&mut self, resource: &Resource) -> &mut Collection {
        let (bound, horizon) = (self.bound, self.horizon);
        self.collections.entry(resource.clone()).or_insert_with(|| Collection {
            objects: BTreeMap::new(),
            history: History::new(bound, horizon),
            changed: watch::Sender::new(horizon),
            kind: None,
        })
    }

    pub(super) fn find(&mut self, target: &Target) -> Result<Arc<Object>, Refusal> {
        let found = self.collection(&target.resource).objects.get(&target.key());
        found.cloned().ok_or_else(|| Refusal::not_found(target))
    }

    pub(super) fn create(&mut self, target: &Target, mut body: Value) -> Result<Arc<Object>, Refusal> {
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
        // Kubelets register with a status; of everything else it comes later, through its own path.
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

    pub(super) fn change(
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
    pub(super) fn remove(&mut self, resource: &Resource, key: &Key) -> Option<Arc<Object>> {
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
    /// Tells of changes; the value says nothing.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

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
