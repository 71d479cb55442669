//! State files that are cut off, zeroed or flipped, and what a store makes of them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::super::tests::Folder;
use super::*;
use crate::error::Error;
use crate::fixture::{BASE, object, port, resources};
use crate::model::{Name, Survivor, Survivors};
use crate::store::{Store, Wish};

fn apply(store: &Store, yaml: &str) {
    let wish = Wish { resources: resources(yaml), ..Wish::default() };
    store.apply(wish, &|_| Ok(())).unwrap();
}

/// A folder with a state of two revisions: five objects and another.
fn written() -> (Folder, String) {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", port("web", "  addresses: [198.18.1.10/24]")));
    apply(&store, &port("db", "  device: eth1\n  vlan: 7"));
    (folder, store.instance().to_owned())
}

fn state_file(folder: &Folder) -> PathBuf {
    folder.path().join(FILE_NAME)
}

fn mirror_file(folder: &Folder, name: &str) -> PathBuf {
    folder.run().join("state").join(name)
}

fn kept(folder: &Folder) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("weft.redb.damaged-")).collect()
}

fn damage(folder: &Folder, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let path = state_file(folder);
    let mut octets = fs::read(&path).unwrap();
    change(&mut octets);
    fs::write(&path, &octets).unwrap();
    octets
}

#[test]
fn a_damaged_file_is_kept_and_all_of_it_comes_back_from_the_mirror() {
    let (folder, instance) = written();
    let before = folder.open().fabric();
    let octets = damage(&folder, |octets| octets[..4096].fill(0));
    let store = folder.open();
    assert!(store.is_rebuilt());
    assert_eq!(store.instance(), instance);
    assert!(store.revision() > before.revision);
    assert_eq!(store.fabric().ports, before.ports);
    assert_eq!(store.fabric().networks, before.networks);
    assert_eq!(store.fabric().routers, before.routers);
    let kept = kept(&folder);
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read(&kept[0]).unwrap(), octets);
    apply(&store, &port("more", "  device: eth3"));
    drop(store);
    let store = folder.open();
    assert!(!store.is_rebuilt() && store.fabric().ports.len() == 3);
}

#[test]
fn nothing_that_was_done_to_the_file_is_believed_or_ends_in_a_panic() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % bound
    };
    let mut told = 0;
    for round in 0..60 {
        let (folder, instance) = written();
        damage(&folder, |octets| match round % 4 {
            0 => octets.truncate(next(octets.len())),
            1 => {
                let first = next(octets.len());
                let last = (first + 4096).min(octets.len());
                octets[first..last].fill(0);
            }
            // The first page says which of two pictures is the last one.
            2 => octets[next(320)] ^= 1 << next(8),
            _ => {
                let at = next(octets.len() / 16);
                octets[at] ^= 1 << next(8);
            }
        });
        let store = folder.open();
        told += usize::from(store.is_rebuilt());
        assert_eq!(kept(&folder).len(), usize::from(store.is_rebuilt()), "round {round}");
        assert_eq!((store.fabric().ports.len(), store.instance()), (2, &*instance), "round {round}");
    }
    assert!(told > 20, "only {told} of 60");
}

#[test]
fn empty_missing_and_foreign_files_are_damage_too() {
    for change in [
        |path: &Path| fs::write(path, "").unwrap(),
        |path: &Path| fs::remove_file(path).unwrap(),
        |path: &Path| fs::write(path, "not a database").unwrap(),
    ] {
        let (folder, instance) = written();
        change(&state_file(&folder));
        let store = folder.open();
        assert!(store.is_rebuilt());
        assert_eq!((store.fabric().ports.len(), store.instance()), (2, &*instance));
    }
}

#[test]
fn an_older_copy_of_the_file_does_not_undo_what_was_done() {
    let (folder, _) = written();
    let old = fs::read(state_file(&folder)).unwrap();
    let store = folder.open();
    apply(&store, &port("third", "  device: eth2"));
    drop(store);
    fs::write(state_file(&folder), &old).unwrap();
    let store = folder.open();
    assert!(store.is_rebuilt() && store.fabric().ports.len() == 3);
    drop(store);
    // Whoever means it takes the mirror away.
    fs::remove_dir_all(folder.run()).unwrap();
    fs::write(state_file(&folder), &old).unwrap();
    let store = folder.open();
    assert!(!store.is_rebuilt() && store.fabric().ports.len() == 2);
}

#[test]
fn without_a_mirror_the_state_begins_anew_under_the_same_instance() {
    let (folder, instance) = written();
    fs::remove_dir_all(folder.run()).unwrap();
    damage(&folder, |octets| octets.truncate(5000));
    let store = folder.open();
    assert!(store.is_rebuilt() && store.fabric().ports.is_empty());
    assert_eq!(store.instance(), instance);
    assert_eq!(kept(&folder).len(), 1);
    apply(&store, BASE);
}

#[test]
fn devices_of_this_boot_are_known_when_all_of_the_state_is_gone() {
    let (folder, instance) = written();
    fs::remove_dir_all(folder.run().join("state")).unwrap();
    fs::remove_file(folder.path().join(INSTANCE_FILE)).unwrap();
    fs::remove_file(state_file(&folder)).unwrap();
    let store = folder.open();
    assert_eq!((store.instance(), store.revision()), (&*instance, 0));
    let other = Folder::new();
    let store = Store::open(other.path(), &folder.run()).unwrap();
    assert_ne!(store.instance(), instance, "of another state folder it is another daemon's");
}

#[test]
fn a_second_damaged_file_does_not_replace_the_first() {
    let (folder, _) = written();
    for _ in 0..3 {
        damage(&folder, |octets| octets.truncate(5000));
        assert!(folder.open().is_rebuilt());
    }
    assert_eq!(kept(&folder).len(), 3);
}

#[test]
fn a_file_that_is_in_use_is_not_taken_away() {
    let (folder, _) = written();
    let _store = folder.open();
    let error = folder.try_open().unwrap_err();
    assert!(matches!(error, Error::StateLocked { .. }), "{error}");
    let error = Records::set_aside(folder.path(), "aside").unwrap_err();
    assert!(matches!(error, Error::StateLocked { .. }), "{error}");
    assert!(state_file(&folder).exists());
}

#[test]
fn a_damaged_file_of_the_mirror_costs_no_more_than_what_needs_it() {
    let (folder, _) = written();
    let path = mirror_file(&folder, "Port.web");
    let mut octets = fs::read(&path).unwrap();
    let last = octets.len() - 1;
    octets[last] ^= 1;
    fs::write(&path, octets).unwrap();
    damage(&folder, |octets| octets.fill(0));
    let fabric = folder.open().fabric();
    assert_eq!(fabric.ports.keys().map(Name::as_str).collect::<Vec<_>>(), ["db"]);
    fs::write(mirror_file(&folder, "Network.front"), "").unwrap();
    damage(&folder, |octets| octets.fill(0));
    let fabric = folder.open().fabric();
    assert!(fabric.ports.is_empty() && fabric.namespaces.len() == 1);
}

#[test]
fn the_mirror_follows_and_is_for_the_daemon_only() {
    let (folder, _) = written();
    let store = folder.open();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.run().join("state")), 0o700);
    assert_eq!(mode(&mirror_file(&folder, "Port.db")), 0o600);
    let db = ObjectRef::new(Kind::Port, Name::new("db").unwrap());
    store.delete(std::slice::from_ref(&db), false).unwrap();
    store.purge_all(&[db]).unwrap();
    assert!(!mirror_file(&folder, "Port.db").exists());
    let (revision, ports) = (store.revision(), store.fabric().ports.clone());
    drop(store);
    let mirrored = Mirror::of(&folder.run()).read(folder.path());
    assert_eq!(mirrored.revision, Some(revision));
    assert_eq!(mirrored.resources.keys().filter(|it| it.kind == Kind::Port).count(), ports.len());
}

#[test]
fn a_mirror_that_cannot_be_written_fails_no_change_and_is_whole_after_the_next_start() {
    let (folder, _) = written();
    let store = folder.open();
    fs::remove_dir_all(folder.run()).unwrap();
    fs::write(folder.run(), "no folder").unwrap();
    apply(&store, &port("third", "  device: eth2"));
    drop(store);
    drop(folder.open());
    fs::remove_file(folder.run()).unwrap();
    drop(folder.open());
    damage(&folder, |octets| octets.fill(0));
    assert_eq!(folder.open().fabric().ports.len(), 3);
}

#[test]
fn keys_of_tunnels_are_kept_when_the_tunnels_are_lost() {
    let (folder, _) = written();
    let store = folder.open();
    apply(&store, &object("Tunnel", "wg", "  router: core\n  wireguard: {listenPort: 51820}"));
    let keys = || fs::read_dir(folder.path().join("keys")).unwrap().count();
    let key = store.fabric().keys.values().next().cloned();
    assert!(key.is_some() && keys() == 1);
    drop(store);
    damage(&folder, |octets| octets.fill(0));
    assert_eq!(folder.open().fabric().keys.values().next().cloned(), key);
    fs::remove_dir_all(folder.run()).unwrap();
    damage(&folder, |octets| octets.fill(0));
    assert!(folder.open().fabric().keys.is_empty() && keys() == 0);
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = names.filter(|path| path.to_string_lossy().contains("keys.damaged-")).collect();
    assert_eq!(fs::read_dir(&aside[0]).unwrap().count(), 1);
}

#[test]
fn nobody_gets_the_address_of_a_living_device_that_nobody_explains() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, BASE);
    let address: IpAddr = "198.18.1.10".parse().unwrap();
    let survivor = Survivor { addresses: vec![address], ..Survivor::default() };
    assert!(store.hold(Survivors::from([(Name::new("web").unwrap(), survivor.clone())])));
    let wish = |name: &str| Wish {
        resources: resources(&port(name, "  addresses: [198.18.1.10/24]")),
        ..Wish::default()
    };
    let refused = store.apply(wish("other"), &|_| Ok(())).unwrap_err();
    assert_eq!(refused.to_string(), "198.18.1.10 on Network/front is taken by Port/web");
    store.apply(wish("web"), &|_| Ok(())).unwrap();
    assert!(store.hold(Survivors::from([(Name::new("web").unwrap(), survivor)])));
    assert!(store.fabric().survivors.is_empty(), "a Port that is known explains its device");
}
