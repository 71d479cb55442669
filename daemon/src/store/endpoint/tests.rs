//! Attaching and detaching over a real store, without a kernel.

use std::path::Path;

use super::*;
use crate::fixture::{BASE, port, resources};
use crate::store::tests::Folder;
use crate::store::{Store, Wish};

fn any_path(_: &Path) -> std::result::Result<(), String> {
    Ok(())
}

pub fn store(folder: &Folder) -> Store {
    let store = folder.open();
    store.apply(Wish { resources: resources(BASE), ..Wish::default() }, &any_path).unwrap();
    store
}

pub fn apply(store: &Store, yaml: &str) {
    store.apply(Wish { resources: resources(yaml), ..Wish::default() }, &any_path).unwrap();
}

pub fn wish(container: &str, interface: &str) -> AttachWish {
    AttachWish {
        endpoint: Endpoint {
            container_id: container.to_owned(),
            interface: interface.to_owned(),
            configuration: "front".to_owned(),
            owner: format!("default/{container}"),
            boot_id: "first".to_owned(),
            namespace_inode: 7,
        },
        network: Name::new("front").unwrap(),
        vlan: None,
        netns: PathBuf::from(format!("/run/netns/{container}")),
        made_namespace: None,
        port: v1::PortSpec { r#type: v1::PortType::Veth as i32, ..Default::default() },
        addresses: AddressSource::Pools { wanted: Vec::new(), ranges: Vec::new() },
        default_route: None,
        labels: BTreeMap::new(),
    }
}

pub fn attach(store: &Store, wish: &AttachWish) -> Attached {
    store.attach(wish, &any_path).unwrap_or_else(|error| panic!("{error}"))
}

fn purge(store: &Store) {
    let going =
        store.picture().resources.keys().filter(|object| store.fabric().is_going(object)).cloned().collect();
    let going: Vec<ObjectRef> = going;
    store.purge_all(&going).unwrap();
}

fn names(store: &Store) -> Vec<String> {
    let own = |object: &&ObjectRef| object.name.as_str().starts_with("4f2a");
    store.picture().resources.keys().filter(own).map(ObjectRef::to_string).collect()
}

#[test]
fn names_show_the_container_and_differ_wherever_it_does() {
    let long = "4f2a9c".repeat(10);
    let name = port_name(&long, "eth0").unwrap();
    assert!(name.as_str().starts_with("4f2a9c4f2a9c-eth0-"), "{name}");
    let others = [(long.as_str(), "eth1"), (&long[1..], "eth0"), ("a-b", "c"), ("a", "b-c"), ("..", "_x")];
    let all: std::collections::BTreeSet<_> =
        others.iter().map(|(id, dev)| port_name(id, dev).unwrap()).collect();
    assert_eq!(all.len(), others.len());
    assert!(!all.contains(&name));
}

#[test]
fn a_container_has_one_namespace_that_goes_with_its_last_port() {
    let folder = Folder::new();
    let store = store(&folder);
    attach(&store, &wish("4f2a", "eth0"));
    attach(&store, &wish("4f2a", "net1"));
    assert_eq!(names(&store).len(), 3, "{:?}", names(&store));
    store.detach(&|it| it.interface == "eth0").unwrap();
    purge(&store);
    assert_eq!(names(&store).len(), 2);
    store.detach(&|it| it.interface == "net1").unwrap();
    purge(&store);
    assert_eq!(names(&store), [""; 0]);
}

#[test]
fn a_namespace_that_a_user_adopted_is_used_and_stays() {
    let folder = Folder::new();
    let store = store(&folder);
    let yaml = crate::fixture::object("Namespace", "pod", "  path: /run/netns/4f2a");
    store.apply(Wish { resources: resources(&yaml), ..Wish::default() }, &any_path).unwrap();
    attach(&store, &wish("4f2a", "eth0"));
    let fabric = store.fabric();
    let port = fabric.ports.values().next().unwrap();
    assert_eq!(port.spec.attachment.namespace().unwrap().as_str(), "pod");
    store.detach(&|_| true).unwrap();
    purge(&store);
    assert!(store.fabric().namespaces.contains_key("pod"));
}

#[test]
fn a_lease_is_on_disk_before_it_is_told() {
    let folder = Folder::new();
    let before = store(&folder);
    attach(&before, &wish("4f2a", "eth0"));
    let addresses = |store: &Store| store.fabric().ports.values().next().unwrap().spec.addresses.clone();
    let given = addresses(&before);
    drop(before);
    let after = folder.open();
    assert_eq!(addresses(&after), given);
    attach(&after, &wish("9c01", "eth0"));
    let all: Vec<_> = after.fabric().ports.values().flat_map(|port| port.spec.addresses.clone()).collect();
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), 4, "{all:?}");
}

#[test]
fn what_was_given_back_still_waits_after_a_restart() {
    let folder = Folder::new();
    let before = store(&folder);
    attach(&before, &wish("4f2a", "eth0"));
    before.detach(&|_| true).unwrap();
    let front = Name::new("front").unwrap();
    assert_eq!(
        (before.pools(&front)[0].used, before.pools(&front)[0].quarantined),
        (1, 0),
        "until it is gone"
    );
    purge(&before);
    assert_eq!((before.pools(&front)[0].used, before.pools(&front)[0].quarantined), (0, 1));
    drop(before);
    let after = folder.open();
    assert_eq!((after.pools(&front)[0].used, after.pools(&front)[0].quarantined), (0, 1));
    attach(&after, &wish("4f2a", "eth0"));
    let port = after.fabric().ports.values().next().unwrap().spec.clone();
    assert_eq!(port.addresses[0].address.to_string(), "198.18.1.3", "198.18.1.2 waits");
}

#[test]
fn a_container_of_an_earlier_boot_is_another_one() {
    let folder = Folder::new();
    let store = store(&folder);
    attach(&store, &wish("4f2a", "eth0"));
    let mut later = wish("4f2a", "eth0");
    later.endpoint.boot_id = "second".to_owned();
    assert!(matches!(attach(&store, &later), Attached::Leaving(_)));
    assert!(matches!(attach(&store, &later), Attached::Leaving(_)), "until it is gone");
    purge(&store);
    assert!(matches!(attach(&store, &later), Attached::New(..)));
    assert!(matches!(attach(&store, &later), Attached::Existing(..)));
}

#[test]
fn a_port_of_a_user_is_never_taken_over() {
    let folder = Folder::new();
    let store = store(&folder);
    let name = port_name("4f2a", "eth0").unwrap();
    let yaml = port(name.as_str(), "");
    store.apply(Wish { resources: resources(&yaml), ..Wish::default() }, &any_path).unwrap();
    let error = store.attach(&wish("4f2a", "eth0"), &any_path).unwrap_err().to_string();
    assert_eq!(error, format!("Port/{name} is there already, and it is not a container's"));
    store.detach(&|_| true).unwrap();
    assert!(!store.fabric().is_going(&ObjectRef::new(Kind::Port, name)));
}

#[test]
fn reading_only_what_changed_gives_what_reading_everything_gives() {
    let folder = Folder::new();
    let store = store(&folder);
    for container in ["4f2a", "9c01", "77aa"] {
        attach(&store, &wish(container, "eth0"));
    }
    store.detach(&|it| it.container_id == "9c01").unwrap();
    purge(&store);
    store.detach(&|it| it.container_id == "77aa").unwrap();
    let (picture, fabric) = (store.picture(), store.fabric());
    let anew = crate::model::parse::fabric(&picture.resources, fabric.revision).unwrap();
    assert_eq!((&anew.ports, &anew.namespaces), (&fabric.ports, &fabric.namespaces));
    assert_eq!((&anew.networks, &anew.routers), (&fabric.networks, &fabric.routers));
}
