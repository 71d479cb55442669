//! Keys over real files: what is in use, what is left over, and who may read it.

use std::os::unix::fs::PermissionsExt;

use weft_proto::v1;

use super::*;
use crate::error::Error;
use crate::fixture::{BASE, object, resources};
use crate::model::{Kind, ObjectRef};
use crate::store::tests::Folder;
use crate::store::{Applied, Change, Rotation, Store, Wish};

const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
const PEER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const SHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn tunnel(wireguard: &str) -> String {
    object("Tunnel", "wg", &format!("  router: core\n  wireguard: {wireguard}"))
}

fn with_secrets() -> String {
    let peer = format!("{{publicKey: '{PEER}', presharedKey: '{SHARED}'}}");
    tunnel(&format!("{{privateKey: '{PRIVATE}', peers: [{peer}]}}"))
}

fn wish(yaml: &str) -> Wish {
    Wish { resources: resources(yaml), ..Wish::default() }
}

fn apply(store: &Store, yaml: &str) -> Applied {
    store.apply(wish(yaml), &|_| Ok(())).unwrap_or_else(|error| panic!("{error}"))
}

fn wg() -> ObjectRef {
    ObjectRef::new(Kind::Tunnel, Name::new("wg").unwrap())
}

fn keys(store: &Store) -> Arc<TunnelKeys> {
    Arc::clone(&store.fabric().keys["wg"])
}

fn publics(store: &Store) -> Vec<String> {
    keys(store).public().iter().map(ToString::to_string).collect()
}

fn generation(store: &Store) -> u64 {
    store.fabric().metadata(&wg()).unwrap().generation
}

/// The files of the folder, and what a text file says.
fn files(folder: &Folder) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join(FOLDER)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn secrets_are_in_a_file_of_their_own_for_the_daemon_only() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", with_secrets()));
    let files = files(&folder);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((files.len(), mode(&files[0])), (1, 0o600));
    assert_eq!(mode(&folder.path().join(FOLDER)), 0o700);
    let text = std::fs::read_to_string(&files[0]).unwrap();
    let expected = format!("private {PRIVATE}\npreshared {PEER} {SHARED}\n");
    assert_eq!(text.split_once('\n').unwrap().1, expected);
    assert_eq!(publics(&store), [PUBLIC]);
    drop(store);
    assert_eq!(publics(&folder.open()), [PUBLIC]);
}

#[test]
fn secrets_are_neither_in_the_state_file_nor_in_the_picture() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", with_secrets()));
    let Some(v1::resource::Kind::Tunnel(shown)) = store.picture().resources[&wg()].kind.clone() else {
        panic!()
    };
    let wireguard = shown.spec.unwrap().wireguard.unwrap();
    assert!(wireguard.private_key.is_empty() && wireguard.peers[0].preshared_key.is_empty());
    assert_eq!(wireguard.peers[0].public_key, PEER);
    drop(store);
    let state = std::fs::read(folder.path().join("weft.redb")).unwrap();
    let has = |text: &str| state.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has(PEER) && !has(PRIVATE) && !has(SHARED));
}

#[test]
fn a_key_is_made_when_none_is_given_and_kept_by_what_follows() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", tunnel("{}")));
    let first = keys(&store);
    let octets = *first.private().next().unwrap().as_bytes();
    assert_eq!((octets[0] & 7, octets[31] & 0xc0), (0, 0x40));
    let applied = apply(&store, &tunnel("{}"));
    assert_eq!(applied.changes, [(wg(), Change::Unchanged)]);
    apply(&store, &tunnel("{listenPort: 7}"));
    assert_eq!((keys(&store), generation(&store)), (Arc::clone(&first), 2));
    drop(store);
    let store = folder.open();
    assert_eq!(keys(&store), first);
    apply(&store, &object("Tunnel", "other", "  router: core\n  wireguard: {}"));
    assert_ne!(store.fabric().keys["other"].public(), first.public());
}

#[test]
fn another_secret_is_a_change_of_the_spec() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", tunnel("{}")));
    let given = || tunnel(&format!("{{privateKey: '{PRIVATE}'}}"));
    assert_eq!(apply(&store, &given()).changes, [(wg(), Change::Updated)]);
    assert_eq!((publics(&store), generation(&store)), (vec![PUBLIC.to_owned()], 2));
    assert_eq!(apply(&store, &given()).changes, [(wg(), Change::Unchanged)]);
    assert_eq!(files(&folder).len(), 1, "the file before is gone");
}

#[test]
fn a_dry_run_and_a_refused_request_leave_no_file() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, BASE);
    let dry_run = Wish { dry_run: true, ..wish(&with_secrets()) };
    assert_eq!(store.apply(dry_run, &|_| Ok(())).unwrap().changes, [(wg(), Change::Created)]);
    let own = tunnel(&format!("{{privateKey: '{PRIVATE}', peers: [{{publicKey: '{PUBLIC}'}}]}}"));
    let refused = store.apply(wish(&own), &|_| Ok(())).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!("Tunnel/wg: spec.wireguard.peers[0].publicKey: {PUBLIC} is this Tunnel's own key")
    );
    assert!(files(&folder).is_empty() && store.fabric().keys.is_empty());
}

#[test]
fn a_rotation_keeps_the_key_before_until_it_is_finished() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", with_secrets()));
    let revision = store.rotate(&wg(), Rotation::Begin(None)).unwrap();
    assert_eq!((revision, generation(&store), store.revision()), (2, 2, 2));
    let rotated = publics(&store);
    assert_eq!((rotated.len(), &rotated[1]), (2, &PUBLIC.to_owned()));
    assert!(keys(&store).preshared(&PEER.parse().unwrap()).is_some());
    apply(&store, &with_secrets().replace("{privateKey", "{listenPort: 7, privateKey"));
    assert_eq!(publics(&store), [PUBLIC, &rotated[0]], "the key that was given is kept, and goes first");
    drop(store);
    let store = folder.open();
    assert_eq!(publics(&store).len(), 2);
    store.rotate(&wg(), Rotation::Finish).unwrap();
    assert_eq!(publics(&store), [PUBLIC]);
    assert_eq!(store.rotate(&wg(), Rotation::Finish).unwrap(), store.revision(), "nothing is left to finish");
    assert_eq!(files(&folder).len(), 1);
}

#[test]
fn rotations_that_cannot_be_say_why() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", tunnel("{}")));
    apply(&store, &object("Tunnel", "gre", "  router: core\n  gre: {remote: 192.0.2.2}"));
    let told = |name: &str, rotation| {
        let object = ObjectRef::new(Kind::Tunnel, Name::new(name).unwrap());
        store.rotate(&object, rotation).unwrap_err().to_string()
    };
    assert_eq!(told("none", Rotation::Finish), "there is no Tunnel/none");
    assert_eq!(
        told("gre", Rotation::Begin(None)),
        "Tunnel/gre has no keys, a Tunnel with wireguard expected"
    );
    for _ in 0..3 {
        store.rotate(&wg(), Rotation::Begin(None)).unwrap();
    }
    assert_eq!(
        told("wg", Rotation::Begin(None)),
        "Tunnel/wg has 3 earlier keys by which peers are let in; finish the rotation first"
    );
}

#[test]
fn keys_go_with_their_tunnel_and_not_before() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", with_secrets()));
    store.delete(&[wg()], false).unwrap();
    assert_eq!(files(&folder).len(), 1);
    assert!(matches!(store.rotate(&wg(), Rotation::Finish), Err(Error::Going(_))));
    store.purge(Kind::Tunnel, &wg().name).unwrap();
    assert!(files(&folder).is_empty() && store.fabric().keys.is_empty());
}

#[test]
fn another_life_of_a_tunnel_has_another_key() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", with_secrets()));
    store.delete(&[wg()], false).unwrap();
    apply(&store, &tunnel("{}"));
    assert_ne!(publics(&store), [PUBLIC]);
    assert_eq!(files(&folder).len(), 1);
    apply(&store, &object("Tunnel", "wg", "  router: core\n  gre: {remote: 192.0.2.2}"));
    assert!(files(&folder).is_empty() && store.fabric().keys.is_empty(), "GRE has no keys");
}

#[test]
fn what_a_crash_left_is_collected_and_the_record_decides() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", with_secrets()));
    drop(store);
    let used = files(&folder).remove(0);
    let beside = |name: &str| used.with_file_name(name);
    let uid = used.file_name().unwrap().to_str().unwrap().split('.').nth(1).unwrap().to_owned();
    // Written, but the record did not follow; half written; of a tunnel that is no more; of an earlier life.
    let left =
        [format!("wg.{uid}.2"), format!("wg.{uid}.2.new"), "gone.1-2.1".to_owned(), "wg.1-2.1".to_owned()];
    for name in &left {
        std::fs::write(beside(name), format!("private {SHARED}\n")).unwrap();
    }
    std::fs::write(beside("README"), "somebody's own").unwrap();
    let store = folder.open();
    assert_eq!(publics(&store), [PUBLIC]);
    assert_eq!(files(&folder), [beside("README"), used]);
}

#[test]
fn what_a_write_left_that_its_record_did_not_follow_is_not_taken_for_a_later_one() {
    let folder = Folder::new();
    let store = folder.open();
    apply(&store, &format!("{BASE}{}", with_secrets()));
    let used = files(&folder).remove(0);
    let next = used.with_extension("2");
    std::fs::write(&next, format!("private {SHARED}\n")).unwrap();
    apply(&store, &tunnel(&format!("{{listenPort: 7, peers: [{{publicKey: '{PEER}'}}]}}")));
    assert_eq!(generation(&store), 2);
    drop(store);
    assert_eq!(publics(&folder.open()), [PUBLIC]);
}

#[test]
fn a_lost_or_broken_file_is_no_reason_not_to_start_and_is_made_anew_by_an_apply() {
    for content in [None, Some("private hunter2\n"), Some("preshared a b\n"), Some("")] {
        let folder = Folder::new();
        let store = folder.open();
        apply(&store, &format!("{BASE}{}", tunnel("{}")));
        drop(store);
        let file = files(&folder).remove(0);
        match content {
            None => std::fs::remove_file(file).unwrap(),
            Some(content) => std::fs::write(file, content).unwrap(),
        }
        let store = folder.open();
        assert!(store.fabric().keys.is_empty());
        assert_eq!(apply(&store, &tunnel("{}")).changes, [(wg(), Change::Updated)]);
        let made = publics(&store);
        drop(store);
        assert_eq!(publics(&folder.open()), made);
        assert_eq!(files(&folder).len(), 1);
    }
}

#[test]
fn what_is_wrong_in_a_file_is_told_by_its_line_and_not_repeated() {
    let told = |text: &str| keys_of(text).unwrap_err();
    assert_eq!(told("# x\n"), "there is no private key in it");
    assert_eq!(
        told("# x\nprivate hunter2"),
        "line 2: not a key, 32 octets in Base64 (44 characters, as `wg genkey` writes them) expected"
    );
    assert_eq!(told("hunter2"), "line 1: a word that is not known, private, previous or preshared expected");
}

fn keys_of(text: &str) -> std::result::Result<TunnelKeys, String> {
    super::keys(text)
}
