//! The wish, kept: what the user applied, durable, and its parsed picture for whoever needs it.
//!
//! A change is worked out in memory (`change`), written in one transaction that is on disk before the
//! call returns (`records`), and only then seen by others. A deleted object stays as a tombstone
//! until the reconciler has taken it down and calls [`Store::purge`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use weft_proto::v1;

use crate::error::{Error, Result};
use crate::ipam::{Ledger, ReleasedChanges, Usage};
use crate::model::parse::{self, Resources};
use crate::model::{Endpoint, Fabric, Kind, Name, ObjectRef, Survivors, VlanId};

use change::Outcome;
pub use change::{Applied, Change};
use keys::KeyFolder;
use mirror::Mirror;
use records::{Loaded, Records, Writing};
use weft_stack::tunnel::wireguard::PrivateKey;

mod change;
pub mod endpoint;
mod folder;
mod keys;
mod mirror;
mod rebuild;
mod records;

/// One revision of everything: as the user gave it and as the daemon understands it.
#[derive(Debug, Default)]
pub struct Picture {
    /// The messages, status left out, tombstones included.
    pub resources: Resources,
    /// The same, parsed.
    pub fabric: Arc<Fabric>,
}

/// Says whether a path is a namespace that can be adopted, and if not, why.
pub type Adoptable<'a> = &'a dyn Fn(&Path) -> std::result::Result<(), String>;

/// What an Apply asks for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Objects to make or change.
    pub resources: Vec<v1::Resource>,
    /// Delete the objects with all these labels that are not in `resources`; empty: none.
    pub prune: BTreeMap<String, String>,
    /// Check only.
    pub dry_run: bool,
}

/// A step of changing the key of a Tunnel.
#[derive(Debug, Clone, PartialEq)]
pub enum Rotation {
    /// It speaks with another key, this one or one that is made, and is still known by those before.
    Begin(Option<PrivateKey>),
    /// Those before are forgotten.
    Finish,
}

/// What is on disk.
#[derive(Debug)]
struct Files {
    records: Records,
    keys: KeyFolder,
    /// Who has which address: as the picture says, and what was given back.
    ledger: Ledger,
    mirror: Mirror,
}

/// The wish, kept.
#[derive(Debug)]
pub struct Store {
    files: Mutex<Files>,
    state_dir: PathBuf,
    /// The state file was damaged, and this is what could be had without it.
    rebuilt: bool,
    instance: String,
    picture: ArcSwap<Picture>,
    revision: watch::Sender<u64>,
}

impl Store {
    /// Opens the state in `state_dir`, or begins a new one there. A damaged file is kept under another name, and a new
    /// one begun with what the mirror in `run_dir` has. Fails when another daemon has it open, and names the object
    /// when a stored one cannot be understood.
    pub fn open(state_dir: &Path, run_dir: &Path) -> Result<Store> {
        let mut mirror = Mirror::of(run_dir);
        let (records, loaded, rebuilt) = open_or_rebuild(state_dir, run_dir, &mirror)?;
        mirror.agree(state_dir, &loaded);
        for folder in [state_dir, run_dir] {
            rebuild::keep_instance(folder, &loaded.instance, state_dir);
        }
        let mut fabric = parse::fabric(&loaded.resources, loaded.revision).map_err(|found| {
            let first = found.into_iter().next();
            let (object, reason) = first.map(|wrong| (wrong.field, wrong.description)).unwrap_or_default();
            Error::StateObject { path: records.path().to_owned(), object, reason }
        })?;
        let (folder, keys) = KeyFolder::open(state_dir, &fabric)?;
        fabric.keys = keys;
        let ledger = Ledger::of(&fabric, loaded.released);
        let picture = Picture { resources: loaded.resources, fabric: Arc::new(fabric) };
        Ok(Store {
            files: Mutex::new(Files { records, keys: folder, ledger, mirror }),
            state_dir: state_dir.to_owned(),
            rebuilt,
            instance: loaded.instance,
            picture: ArcSwap::from_pointee(picture),
            revision: watch::Sender::new(loaded.revision),
        })
    }

    /// Whether the state file was damaged when this was opened. What it says then may be older than the kernel.
    pub fn is_rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// Names this state for ever: devices that were made for it carry this.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Keeps what these devices have from others, and them from the reconciler, in place of those before. True: they
    /// are not the same.
    pub fn hold(&self, mut survivors: Survivors) -> bool {
        let mut files = self.lock();
        let before = self.picture();
        // What came meanwhile explains itself.
        survivors.retain(|name, _| !before.fabric.ports.contains_key(name));
        if *before.fabric.survivors == survivors {
            return false;
        }
        let fabric = Fabric { survivors: Arc::new(survivors), ..Fabric::clone(&before.fabric) };
        files.ledger.hold(&fabric, SystemTime::now());
        let picture = Picture { resources: before.resources.clone(), fabric: Arc::new(fabric) };
        self.picture.store(Arc::new(picture));
        true
    }

    /// The present revision.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// The parsed picture of now, tombstones included.
    pub fn fabric(&self) -> Arc<Fabric> {
        Arc::clone(&self.picture.load().fabric)
    }

    /// The picture of now with the messages.
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.load_full()
    }

    /// Follows the revision.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Makes, changes and prunes, all or nothing. On disk when it returns.
    pub fn apply(&self, wish: Wish, adoptable: Adoptable<'_>) -> Result<Applied> {
        let mut files = self.lock();
        let before = self.picture();
        let dry_run = wish.dry_run;
        let outcome = change::apply(&before, wish, SystemTime::now(), adoptable)?;
        check_survivors(&outcome)?;
        let changes = outcome.changes.clone();
        let revision = if dry_run { self.revision() } else { self.commit(&mut files, outcome)? };
        Ok(Applied { changes, revision })
    }

    /// Marks objects for deletion, all or none, and returns those that were there and the revision. On disk
    /// when it returns.
    pub fn delete(&self, objects: &[ObjectRef], ignore_missing: bool) -> Result<(Vec<ObjectRef>, u64)> {
        let mut files = self.lock();
        let outcome = change::delete(&self.picture(), objects, ignore_missing, SystemTime::now())?;
        let deleted = outcome.changes.iter().map(|(object, _)| object.clone()).collect();
        let revision = self.commit(&mut files, outcome)?;
        Ok((deleted, revision))
    }

    /// Changes the key of a Tunnel, and returns the revision. On disk when it returns.
    pub fn rotate(&self, object: &ObjectRef, rotation: Rotation) -> Result<u64> {
        let mut files = self.lock();
        let outcome = change::rotate(&self.picture(), object, rotation)?;
        self.commit(&mut files, outcome)
    }

    /// Forgets a tombstone. Does nothing to an object that was applied again meanwhile.
    pub fn purge(&self, kind: Kind, name: &Name) -> Result<()> {
        self.purge_all(&[ObjectRef::new(kind, name.clone())])
    }

    /// Forgets several tombstones in one transaction.
    pub fn purge_all(&self, objects: &[ObjectRef]) -> Result<()> {
        let mut files = self.lock();
        let outcome = change::purge(&self.picture(), objects)?;
        self.commit(&mut files, outcome).map(|_| ())
    }

    /// Gives a container a Port, or says what it has. On disk when it returns.
    pub fn attach(
        &self,
        wish: &endpoint::AttachWish,
        adoptable: Adoptable<'_>,
    ) -> Result<endpoint::Attached> {
        let mut files = self.lock();
        let now = SystemTime::now();
        let expired = files.ledger.expire(&self.fabric(), now);
        let (attached, outcome) = endpoint::attach(&self.picture(), &files.ledger, wish, now, adoptable)?;
        if let Some(outcome) = outcome {
            check_survivors(&outcome)?;
            self.commit_with(&mut files, outcome, expired)?;
        }
        Ok(attached)
    }

    /// Marks what containers have for deletion, and returns whose it was and the revision. On disk when it returns.
    pub fn detach(&self, which: &dyn Fn(&Endpoint) -> bool) -> Result<(Vec<ObjectRef>, u64)> {
        let mut files = self.lock();
        let outcome = endpoint::detach(&self.picture(), which, SystemTime::now())?;
        let detached = outcome.changes.iter().map(|(object, _)| object.clone()).collect();
        let revision = self.commit(&mut files, outcome)?;
        Ok((detached, revision))
    }

    /// How full the pools of a Network are, in the order of its subnets.
    pub fn pools(&self, network: &Name) -> Vec<Usage> {
        self.lock().ledger.usage(network)
    }

    /// How full the pools are that an attachment to a Network with this VLAN gets its addresses of; `None`: there is no
    /// such Network. Errors: it could not be attached with that VLAN, or has to name one.
    pub fn usage_for(&self, network: &Name, vlan: Option<VlanId>) -> Option<Result<Vec<Usage>>> {
        let fabric = self.fabric();
        let object = fabric.networks.get(network)?;
        let vlan = match endpoint::chosen_vlan(&fabric, network, &object.spec, vlan) {
            Ok(vlan) => vlan,
            Err(error) => return Some(Err(error)),
        };
        let of_it = |pool: &Usage| {
            object.spec.subnets.iter().any(|subnet| subnet.vlan == vlan && subnet.prefix == pool.prefix)
        };
        Some(Ok(self.pools(network).into_iter().filter(of_it).collect()))
    }

    fn commit(&self, files: &mut Files, outcome: Outcome) -> Result<u64> {
        self.commit_with(files, outcome, ReleasedChanges::new())
    }

    /// Writes what an outcome changed, and which addresses wait no longer, then shows it.
    fn commit_with(&self, files: &mut Files, outcome: Outcome, mut released: ReleasedChanges) -> Result<u64> {
        let revision = outcome.fabric.revision;
        if outcome.written.is_empty() {
            return Ok(revision);
        }
        let before = self.fabric();
        released.extend(files.ledger.follow(&before, &outcome.fabric, &outcome.written, SystemTime::now()));
        let written = self.write(files, &outcome, &released);
        if written.is_err() {
            files.ledger.go_back(&before, &released);
        }
        written?;
        let picture = Picture { resources: outcome.resources, fabric: Arc::new(outcome.fabric) };
        self.picture.store(Arc::new(picture));
        self.revision.send_replace(revision);
        Ok(revision)
    }

    fn write(&self, files: &mut Files, outcome: &Outcome, released: &ReleasedChanges) -> Result<()> {
        let with_keys = outcome.written.iter().any(|object| object.kind == Kind::Tunnel);
        if with_keys {
            files.keys.prepare(&outcome.fabric, &outcome.keys_written)?;
        }
        let writing = Writing {
            resources: &outcome.resources,
            named: &outcome.written,
            released,
            revision: outcome.fabric.revision,
        };
        files.records.write(&writing)?;
        let ledger = &files.ledger;
        files.mirror.follow(&writing, &self.state_dir, || Loaded {
            resources: outcome.resources.clone(),
            released: ledger.released(),
            revision: writing.revision,
            instance: self.instance.clone(),
        });
        if with_keys {
            files.keys.commit(&outcome.fabric, &outcome.keys_written);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        // A transaction that a panic ended was not committed, and the picture is stored after it.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Picture {
    /// The objects of a kind (`None`: of all) that have all these labels, in order.
    pub fn select<'a>(
        &'a self,
        kind: Option<Kind>,
        labels: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a ObjectRef, &'a Arc<v1::Resource>)> {
        self.resources.iter().filter(move |(object, resource)| {
            kind.is_none_or(|kind| kind == object.kind) && has_labels(resource, labels)
        })
    }
}

/// Refuses Ports that would get an address which a living device has that was made for another one.
fn check_survivors(outcome: &Outcome) -> Result<()> {
    let fabric = &outcome.fabric;
    let changed = outcome.changes.iter().filter(|(object, change)| {
        object.kind == Kind::Port && matches!(change, Change::Created | Change::Updated)
    });
    for (name, port) in changed.filter_map(|(object, _)| fabric.ports.get_key_value(&object.name)) {
        for own in &port.spec.addresses {
            let mut others = fabric.survivors.iter().filter(|(other, _)| *other != name);
            if let Some((other, _)) = others.find(|(_, it)| it.addresses.contains(&own.address)) {
                let what = format!("{} on Network/{}", own.address, port.spec.network);
                return Err(Error::Occupied { what, by: ObjectRef::new(Kind::Port, other.clone()) });
            }
        }
    }
    Ok(())
}

/// The records of `state_dir`, and whether they had to be made anew.
fn open_or_rebuild(state_dir: &Path, run_dir: &Path, mirror: &Mirror) -> Result<(Records, Loaded, bool)> {
    records::make_folder(state_dir)?;
    let mirrored = mirror.read(state_dir);
    let there = state_dir.join(records::FILE_NAME).exists();
    let what = if !there && !mirrored.is_empty() {
        "it is gone".to_owned()
    } else {
        if !there && let Some((records, loaded)) = rebuild::begin_anew(state_dir, run_dir)? {
            return Ok((records, loaded, true));
        }
        match Records::open(state_dir) {
            Ok((records, loaded)) => match rebuild::lost(&loaded, &mirrored) {
                None => return Ok((records, loaded, false)),
                Some(what) => what,
            },
            Err(Error::StateDamaged { what, .. }) => what,
            Err(error) => return Err(error),
        }
    };
    let (records, loaded) = rebuild::rebuild(state_dir, run_dir, mirror, mirrored, &what)?;
    Ok((records, loaded, true))
}

/// Whether a resource has all these labels.
pub fn has_labels(resource: &v1::Resource, wanted: &BTreeMap<String, String>) -> bool {
    let labels = resource.metadata.as_ref().map(|metadata| &metadata.labels);
    wanted.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
}

#[cfg(test)]
mod tests;
