//! The reconciler with its threads, over a real store.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weft_host::netns::NetNs;
use weft_stack::config::FabricSpec;

use super::lab::{Folder, record, remove};
use super::name;
use crate::fixture;
use crate::model::{Kind, ObjectRef};
use crate::reconcile::Reconciler;
use crate::reconcile::observe::kernel::Session;
use crate::status::{Observed, StatusBoard};
use crate::store::{Store, Wish};

const LIMIT: Duration = Duration::from_secs(20);

struct Node {
    reconciler: Reconciler,
    store: Arc<Store>,
    status: Arc<StatusBoard>,
    shown: Arc<Mutex<Vec<FabricSpec>>>,
    folder: Folder,
}

/// Starts over what `BASE` and a veth Port `web` in it wish for.
fn node() -> Node {
    let folder = Folder::new();
    let store = Arc::new(Store::open(&folder.0.join("state"), &folder.0.join("run")).unwrap());
    let status = Arc::new(StatusBoard::new());
    let shown = Arc::default();
    let publish = record(&shown);
    let reconciler =
        Reconciler::launch(Arc::clone(&store), Arc::clone(&status), publish, &folder.options()).unwrap();
    let node = Node { reconciler, store, status, shown, folder };
    let yaml = format!("{}{}", fixture::BASE, fixture::port("web", "  addresses: [198.18.1.10/24]"));
    let wish =
        Wish { resources: fixture::resources(&yaml.replace("type: tap", "type: veth")), ..Wish::default() };
    let applied = node.store.apply(wish, &|_| Ok(())).unwrap();
    node.reconciler.wake();
    node.done(applied.revision);
    node
}

impl Node {
    fn done(&self, revision: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        assert!(runtime.block_on(self.status.wait_for(revision, LIMIT)));
    }

    fn last_shown(&self) -> FabricSpec {
        self.shown.lock().unwrap().last().cloned().unwrap()
    }

    fn ifindex(&self) -> Option<u32> {
        let status = self.status.get(&ObjectRef::new(Kind::Port, name("web")))?.report;
        match status.observed {
            Some(Observed::Port { ifindex, .. }) if status.ready => Some(ifindex),
            _ => None,
        }
    }

    /// Waits for a change of the status board that makes `right` true.
    fn until(&self, what: &str, right: impl Fn(&Node) -> bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut changes = self.status.subscribe();
        let end = Instant::now() + LIMIT;
        while !right(self) {
            let left = end.saturating_duration_since(Instant::now());
            let change = runtime.block_on(async { tokio::time::timeout(left, changes.changed()).await });
            assert!(change.is_ok(), "not {what} within {LIMIT:?}: {:?}", self.reconciler.report());
        }
    }
}

#[test]
fn a_device_removed_by_hand_is_put_back() {
    let _entered = NetNs::create_anonymous().unwrap().enter().unwrap();
    let node = node();
    let before = node.ifindex().unwrap();
    let container = NetNs::open(&node.folder.0.join("netns/box")).unwrap();
    remove(&mut Session::open(container).unwrap(), "eth0");
    node.until("put back", |node| node.ifindex().is_some_and(|now| now != before));
    let report = node.reconciler.report();
    assert_eq!((report.devices_created, report.failures), (2, 0), "{report:?}");
    assert!(report.kernel_events > 0);
}

#[test]
fn what_is_deleted_is_struck_off_the_store() {
    let _entered = NetNs::create_anonymous().unwrap().enter().unwrap();
    let node = node();
    let all: Vec<_> = node.store.picture().resources.keys().cloned().collect();
    node.store.delete(&all, false).unwrap();
    node.reconciler.wake();
    node.until("gone", |node| node.store.picture().resources.is_empty());
    assert!(!node.folder.0.join("netns/box").exists());
    let last = node.last_shown();
    assert!(last.ports.is_empty() && last.networks.is_empty());
}

#[test]
fn workers_have_let_go_of_all_ends_when_the_reconciler_has_stopped() {
    let _entered = NetNs::create_anonymous().unwrap().enter().unwrap();
    let node = node();
    let sockets = || {
        let _entered = NetNs::open(&node.folder.0.join("run/netns/ports")).unwrap().enter().unwrap();
        std::fs::read_to_string("/proc/thread-self/net/packet").unwrap().lines().count() - 1
    };
    assert_eq!((node.last_shown().ports.len(), sockets()), (1, 1));
    node.reconciler.stop();
    assert_eq!((node.last_shown().ports.len(), sockets()), (0, 0), "the kernel has closed them");
}

#[test]
fn devices_stay_when_the_reconciler_stops() {
    let _entered = NetNs::create_anonymous().unwrap().enter().unwrap();
    let node = node();
    node.reconciler.stop();
    let container = NetNs::open(&node.folder.0.join("netns/box")).unwrap();
    let mut session = Session::open(container).unwrap();
    assert!(session.netlink.link_by_name("eth0").unwrap().is_some_and(|link| link.carrier));
}
