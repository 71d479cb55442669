//! The store over real files: what is applied is there, also after a restart.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::fixture::{BASE, object, port, resources};

/// A folder of this test's own; removed when it ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weft-store-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path.join("state"))
    }

    pub fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    pub fn try_open(&self) -> Result<Store> {
        Store::open(&self.0, &self.run())
    }

    /// Where the mirror is.
    pub fn run(&self) -> PathBuf {
        self.0.parent().unwrap().join("run")
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn any_path(_: &Path) -> std::result::Result<(), String> {
    Ok(())
}

fn wish(yaml: &str) -> Wish {
    Wish { resources: resources(yaml), ..Wish::default() }
}

fn apply(store: &Store, yaml: &str) -> Applied {
    store.apply(wish(yaml), &any_path).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(store: &Store, yaml: &str) -> String {
    store.apply(wish(yaml), &any_path).unwrap_err().to_string()
}

fn reference(text: &str) -> ObjectRef {
    let (kind, name) = text.split_once('/').unwrap();
    let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind).unwrap();
    ObjectRef::new(kind, Name::new(name).unwrap())
}

fn changes(applied: &Applied) -> Vec<(String, Change)> {
    applied.changes.iter().map(|(object, change)| (object.to_string(), *change)).collect()
}

fn metadata(store: &Store, object: &str) -> crate::model::Metadata {
    store.fabric().metadata(&reference(object)).unwrap().clone()
}

#[test]
fn what_was_applied_is_there_after_a_restart() {
    let folder = Folder::new();
    let before = folder.open();
    assert_eq!(before.revision(), 0);
    let applied = apply(&before, &format!("{BASE}{}", port("web", "  vlan: 7")));
    assert_eq!((applied.revision, applied.changes.len()), (1, 5));
    apply(&before, &port("web", "  vlan: 8"));
    let (fabric, instance) = (before.fabric(), before.instance().to_owned());
    drop(before);
    let after = folder.open();
    assert_eq!((after.revision(), after.instance()), (2, &*instance));
    assert_eq!(after.fabric().ports, fabric.ports);
    assert_eq!(after.fabric().networks, fabric.networks);
    assert_eq!(after.fabric().namespaces, fabric.namespaces);
    assert_eq!(after.fabric().routers, fabric.routers);
}

#[test]
fn files_are_for_the_daemon_only() {
    let folder = Folder::new();
    let store = folder.open();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.0), 0o700);
    assert_eq!(mode(&folder.0.join("weft.redb")), 0o600);
    drop(store);
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let folder = Folder::new();
    let _first = folder.open();
    let error = folder.try_open().unwrap_err();
    assert!(matches!(error, Error::StateLocked { .. }), "{error}");
}

#[test]
fn every_state_has_an_instance_of_its_own() {
    let (one, other) = (Folder::new(), Folder::new());
    let (one, other) = (one.open(), other.open());
    assert_ne!(one.instance(), other.instance());
    assert_eq!(one.instance().len(), 12);
}

#[test]
fn generations_count_specs_and_revisions_count_changes() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, BASE);
    let first = metadata(&store, "Network/front");
    assert_eq!((first.generation, first.revision), (1, 1));
    assert_eq!(changes(&apply(&store, BASE)).iter().filter(|(_, it)| *it == Change::Unchanged).count(), 4);
    assert_eq!(store.revision(), 1);
    let relabelled = BASE.replace("{tier: front}", "{tier: edge}");
    assert_eq!(changes(&apply(&store, &relabelled))[1], ("Network/front".to_owned(), Change::Updated));
    let second = metadata(&store, "Network/front");
    assert_eq!((second.generation, second.revision, &second.uid), (1, 2, &first.uid));
    apply(&store, &relabelled.replace("mtu: 9000", "mtu: 8000"));
    let third = metadata(&store, "Network/back");
    assert_eq!((third.generation, third.revision), (2, 3));
    assert_eq!(metadata(&store, "Network/front").revision, 2);
}

#[test]
fn an_absent_spec_is_the_same_as_an_empty_one() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &object("Namespace", "box", ""));
    let mut again = wish(&object("Namespace", "box", ""));
    again.resources[0].kind = Some(v1::resource::Kind::Namespace(v1::Namespace {
        spec: Some(v1::NamespaceSpec::default()),
        status: Some(v1::NamespaceStatus { inode: 7, ..Default::default() }),
    }));
    let applied = store.apply(again, &any_path).unwrap();
    assert_eq!(changes(&applied), [("Namespace/box".to_owned(), Change::Unchanged)]);
}

#[test]
fn a_refused_request_changes_nothing() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, BASE);
    let both = format!("{}{}", object("Router", "new", ""), port("web", "  vlan: 4095"));
    assert_eq!(refused(&store, &both), "Port/web: spec.vlan: 4095 is not a VLAN id, 1 to 4094 expected");
    assert_eq!(store.revision(), 1);
    assert!(!store.fabric().routers.contains_key("new"));
    drop(store);
    assert!(!folder.open().fabric().routers.contains_key("new"));
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let folder = Folder::new();
    let store = folder.open();
    let dry = Wish { dry_run: true, ..wish(BASE) };
    let applied = store.apply(dry, &any_path).unwrap();
    assert_eq!(changes(&applied)[0], ("Router/core".to_owned(), Change::Created));
    assert_eq!((applied.revision, store.revision()), (0, 0));
    assert!(store.picture().resources.is_empty());
}

#[test]
fn one_request_names_an_object_once() {
    let folder = Folder::new();
    let store = folder.open();
    let mut twice = wish(&object("Router", "core", ""));
    twice.resources.push(twice.resources[0].clone());
    let error = store.apply(twice, &any_path).unwrap_err();
    assert_eq!(error.to_string(), "Router/core: metadata.name: given twice in one request");
}

#[test]
fn a_path_is_checked_when_it_is_adopted_and_not_again() {
    let folder = Folder::new();
    let store = folder.open();
    let yaml = object("Namespace", "pod", "  path: /run/netns/pod");
    let missing = |path: &Path| Err(format!("{} does not exist", path.display()));
    let error = store.apply(wish(&yaml), &missing).unwrap_err();
    assert_eq!(error.to_string(), "Namespace/pod: spec.path: /run/netns/pod does not exist");
    apply(&store, &yaml);
    assert!(store.apply(wish(&yaml), &missing).is_ok());
}

#[test]
fn places_cannot_be_changed() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", port("web", "")));
    assert_eq!(
        refused(&store, &port("web", "  device: eth3")),
        "Port/web: spec.device: cannot be changed; delete the Port and make it again"
    );
}

#[test]
fn a_deleted_object_is_a_tombstone_until_it_is_purged() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", port("web", "")));
    let web = reference("Port/web");
    let (deleted, revision) = store.delete(std::slice::from_ref(&web), false).unwrap();
    assert_eq!((deleted, revision), (vec![web.clone()], 2));
    assert!(store.fabric().is_going(&web));
    drop(store);
    let store = folder.open();
    assert!(store.fabric().is_going(&web));
    store.purge(Kind::Port, &web.name).unwrap();
    assert_eq!((store.revision(), store.fabric().ports.len()), (3, 0));
    drop(store);
    assert_eq!(folder.open().fabric().ports.len(), 0);
}

#[test]
fn deleting_twice_or_what_is_not_there() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, BASE);
    let (front, none) = (reference("Network/front"), reference("Network/none"));
    let error = store.delete(&[front.clone(), none.clone()], false).unwrap_err();
    assert_eq!(error.to_string(), "there is no Network/none");
    assert!(!store.fabric().is_going(&front));
    let (deleted, revision) = store.delete(&[front.clone(), none], true).unwrap();
    assert_eq!((deleted.len(), revision), (1, 2));
    assert_eq!(store.delete(std::slice::from_ref(&front), false).unwrap(), (vec![front], 2));
}

#[test]
fn what_others_refer_to_is_not_deleted() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", port("web", "")));
    let (front, web) = (reference("Network/front"), reference("Port/web"));
    let error = store.delete(std::slice::from_ref(&front), false).unwrap_err();
    assert_eq!(error.to_string(), "Network/front is used by Port/web; delete or change those first");
    assert_eq!(store.delete(&[front, web], false).unwrap().0.len(), 2);
}

#[test]
fn a_tombstone_that_is_applied_again_lives_again() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", port("web", "  vlan: 7")));
    let (web, first) = (reference("Port/web"), metadata(&store, "Port/web"));
    store.delete(std::slice::from_ref(&web), false).unwrap();
    let error = refused(&store, &port("web", "  device: eth3"));
    assert_eq!(error, "Port/web is still being deleted; try again when it is gone");
    let applied = apply(&store, &port("web", "  vlan: 7"));
    assert_eq!(changes(&applied), [("Port/web".to_owned(), Change::Created)]);
    let second = metadata(&store, "Port/web");
    assert!(second.uid != first.uid && second.deleting.is_none());
    store.purge(Kind::Port, &web.name).unwrap();
    assert_eq!((store.fabric().ports.len(), store.revision()), (1, applied.revision));
}

#[test]
fn pruning_deletes_what_has_the_labels_and_was_not_given() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &BASE.replace("{name: back}", "{name: back, labels: {tier: front}}"));
    let given = Wish { prune: BTreeMap::from([("tier".to_owned(), "front".to_owned())]), ..wish(BASE) };
    let kept = Wish { resources: given.resources[1..2].to_vec(), ..given };
    let applied = store.apply(kept, &any_path).unwrap();
    assert_eq!(
        changes(&applied),
        [("Network/front".to_owned(), Change::Unchanged), ("Network/back".to_owned(), Change::Deleted)]
    );
    assert!(store.fabric().is_going(&reference("Network/back")));
    assert!(!store.fabric().is_going(&reference("Router/core")));
}

#[test]
fn pruning_what_is_used_is_refused() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", port("web", "")));
    let prune = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
    let error = store.apply(Wish { prune, ..Wish::default() }, &any_path).unwrap_err();
    assert_eq!(error.to_string(), "Network/front is used by Port/web; delete or change those first");
}

#[test]
fn followers_see_each_revision_with_its_picture() {
    let folder = Folder::new();
    let store = folder.open();
    let mut revision = store.subscribe();
    apply(&store, BASE);
    assert!(revision.has_changed().unwrap());
    assert_eq!(*revision.borrow_and_update(), 1);
    assert_eq!(store.fabric().revision, 1);
    apply(&store, BASE);
    assert!(!revision.has_changed().unwrap());
}

#[test]
fn a_stored_object_that_cannot_be_understood_is_named() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", port("web", "")));
    {
        let mut files = store.lock();
        let mut resources = store.picture().resources.clone();
        let web = reference("Port/web");
        if let Some(v1::resource::Kind::Port(port)) =
            &mut Arc::make_mut(resources.get_mut(&web).unwrap()).kind
        {
            port.spec.as_mut().unwrap().vlan = 5000;
        }
        let (named, released) = (std::collections::BTreeSet::from([web]), ReleasedChanges::new());
        let writing = Writing { resources: &resources, named: &named, released: &released, revision: 2 };
        files.records.write(&writing).unwrap();
    }
    drop(store);
    let error = folder.try_open().unwrap_err().to_string();
    assert!(
        error.ends_with("weft.redb: Port/web: spec.vlan: 5000 is not a VLAN id, 1 to 4094 expected"),
        "{error}"
    );
}
