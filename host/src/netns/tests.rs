//! Namespaces: made, marked, found again, removed; and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::testing::{Folder, own_namespace};

#[test]
fn a_made_namespace_is_found_by_its_path_with_its_mark_until_it_is_removed() {
    let folder = Folder::new("made");
    let path = folder.path().join("deeper").join("web");
    let made = NetNs::create(&path, "weft:test:namespace/web").unwrap();
    let found = NetNs::open(&path).unwrap();
    assert_eq!(found.id(), made.id());
    assert_ne!(found.id(), NetNs::current().unwrap().id());
    assert_eq!(found.mark().unwrap().as_deref(), Some("weft:test:namespace/web"));
    remove(&path).unwrap();
    assert!(NetNs::open(&path).unwrap_err().is_gone());
    assert!(!path.exists());
    remove(&path).unwrap();
}

#[test]
fn the_loopback_of_a_made_namespace_works() {
    let (_entered, namespace) = own_namespace();
    assert_eq!(namespace.mark().unwrap(), None);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"echo", socket.local_addr().unwrap()).unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);
}

#[test]
fn an_existing_namespace_is_not_made_again() {
    let folder = Folder::new("existing");
    let path = folder.path().join("web");
    let made = NetNs::create(&path, "first").unwrap();
    assert!(NetNs::create(&path, "second").unwrap_err().is_exists());
    let found = NetNs::open(&path).unwrap();
    assert_eq!((found.id(), found.mark().unwrap().as_deref()), (made.id(), Some("first")));
}

#[test]
fn an_empty_file_that_a_crash_left_is_used_and_can_be_removed() {
    let folder = Folder::new("left-over");
    let path = folder.path().join("web");
    fs::write(&path, "").unwrap();
    NetNs::create(&path, "mark").unwrap();
    assert_eq!(NetNs::open(&path).unwrap().mark().unwrap().as_deref(), Some("mark"));
    remove(&path).unwrap();
    fs::write(&path, "").unwrap();
    remove(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let folder = Folder::new("failed");
    let path = folder.path().join("web");
    // The kernel takes an alias of at most 255 bytes.
    NetNs::create(&path, &"x".repeat(300)).unwrap_err();
    assert!(!path.exists());
}

#[test]
fn a_file_with_content_is_neither_used_nor_removed() {
    let folder = Folder::new("content");
    let path = folder.path().join("notes");
    fs::write(&path, "mine").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(NetNs::create(&path, "mark").unwrap_err().is_exists());
    assert!(matches!(remove(&path), Err(Error::NotANamespace { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn what_is_no_network_namespace_is_refused_by_name() {
    for path in ["/proc/self/status", "/dev/null", "/proc/self/ns/uts", "/proc/self"] {
        let error = NetNs::open(Path::new(path)).unwrap_err();
        assert!(matches!(error, Error::NotANamespace { .. }), "{path}: {error}");
        assert!(error.to_string().starts_with(path), "{error}");
    }
    assert!(NetNs::open(Path::new("/run/netns/absent/web")).unwrap_err().is_gone());
}

#[test]
fn the_thread_goes_back_when_the_guard_is_dropped() {
    let before = NetNs::current().unwrap().id();
    let (outer, inner) = (NetNs::create_anonymous().unwrap(), NetNs::create_anonymous().unwrap());
    {
        let _outer = outer.enter().unwrap();
        {
            let _inner = inner.enter().unwrap();
            assert_eq!(NetNs::current().unwrap().id(), inner.id());
        }
        assert_eq!(NetNs::current().unwrap().id(), outer.id());
        let elsewhere = std::thread::spawn(|| NetNs::current().unwrap().id()).join().unwrap();
        assert_eq!(elsewhere, outer.id(), "a thread starts where its maker is");
    }
    assert_eq!(NetNs::current().unwrap().id(), before);
}

#[test]
fn a_namespace_gets_one_number_and_keeps_it() {
    let (_entered, _here) = own_namespace();
    let (one, two) = (NetNs::create_anonymous().unwrap(), NetNs::create_anonymous().unwrap());
    let number = namespace_id(&one).unwrap();
    assert_ne!(namespace_id(&two).unwrap(), number);
    assert_eq!(namespace_id(&one.try_clone().unwrap()).unwrap(), number);
}
