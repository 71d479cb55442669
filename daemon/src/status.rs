//! What is: the reconciler's word on each object, kept for Get, List and Watch.
//!
//! The board keeps what the reconciler last saw and since when it holds. Counters and table sizes
//! change with every packet and are not kept here: they are read when somebody asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use weft_stack::MacAddr;

pub use crate::model::Kind;
use crate::model::{Name, ObjectRef};

/// What the kernel was seen to have for an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// A namespace that can be entered.
    Namespace {
        /// Where it can be entered.
        path: PathBuf,
        /// Its nsfs inode number.
        inode: u64,
    },
    /// A Network has nothing in the kernel.
    Network {},
    /// A Port's device.
    Port {
        /// Device name inside the namespace.
        device: String,
        /// Its interface index there.
        ifindex: u32,
        /// The MAC address in use.
        mac: MacAddr,
        /// The MTU in use, in octets.
        mtu: u32,
        /// The stack's end of a veth pair.
        host_device: Option<String>,
        /// Its MAC address.
        host_mac: Option<MacAddr>,
        /// Offloads that the device takes, by their API names.
        offloads: Vec<&'static str>,
        /// Receive queues.
        queues: u32,
    },
    /// What a Router joins.
    Router {
        /// Attached Networks.
        networks: Vec<Name>,
        /// Routes in the forwarding table, connected ones included.
        routes: u32,
    },
    /// A Tunnel that the workers were told of.
    Tunnel {
        /// Octets of the largest IP packet inside.
        mtu: u32,
    },
}

/// What a pass of the reconciler says of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The kernel is as wished.
    pub ready: bool,
    /// One CamelCase word for programs.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
    /// What was seen; `None` when there is nothing.
    pub observed: Option<Observed>,
    /// The generation of the spec that was tried.
    pub generation: u64,
}

/// A [`Report`] with what the board adds.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The last report.
    pub report: Report,
    /// When `ready` last changed.
    pub changed: SystemTime,
    /// Grows with each change on the whole board: a greater one is newer.
    pub version: u64,
}

/// The last report of every object.
#[derive(Debug)]
pub struct StatusBoard {
    entries: Mutex<BTreeMap<ObjectRef, Status>>,
    version: watch::Sender<u64>,
    /// `None` before the first pass.
    done: watch::Sender<Option<u64>>,
}

impl Default for StatusBoard {
    fn default() -> Self {
        StatusBoard::new()
    }
}

impl StatusBoard {
    /// An empty board: nothing was tried yet.
    pub fn new() -> Self {
        StatusBoard {
            entries: Mutex::default(),
            version: watch::Sender::new(0),
            done: watch::Sender::new(None),
        }
    }

    /// Puts down what a pass says of an object. The same word again wakes nobody.
    pub fn report(&self, kind: Kind, name: &Name, report: Report) {
        let object = ObjectRef::new(kind, name.clone());
        let mut entries = self.lock();
        let before = entries.get(&object);
        if before.is_some_and(|status| status.report == report) {
            return;
        }
        let changed = match before {
            Some(status) if status.report.ready == report.ready => status.changed,
            _ => SystemTime::now(),
        };
        let version = *self.version.borrow() + 1;
        entries.insert(object, Status { report, changed, version });
        self.version.send_replace(version);
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, kind: Kind, name: &Name) {
        let mut entries = self.lock();
        if entries.remove(&ObjectRef::new(kind, name.clone())).is_some() {
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// What was last reported of an object.
    pub fn get(&self, object: &ObjectRef) -> Option<Status> {
        self.lock().get(object).cloned()
    }

    /// The version of an object's status; 0 when nothing was reported.
    pub fn version_of(&self, object: &ObjectRef) -> u64 {
        self.lock().get(object).map_or(0, |status| status.version)
    }

    /// Follows changes: the value grows with each one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The reconciler has tried everything up to this revision of the store.
    pub fn pass_done(&self, revision: u64) {
        self.done.send_if_modified(|done| {
            let newer = *done < Some(revision);
            *done = (*done).max(Some(revision));
            newer
        });
    }

    /// Waits until a pass has tried everything up to `revision`; false when `limit` passes first.
    pub async fn wait_for(&self, revision: u64, limit: Duration) -> bool {
        let mut done = self.done.subscribe();
        let reached = done.wait_for(|done| *done >= Some(revision));
        matches!(tokio::time::timeout(limit, reached).await, Ok(Ok(_)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectRef, Status>> {
        // Every change of the map is a single insert or remove: a panic cannot leave it half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ready: bool, message: &str) -> Report {
        Report { ready, reason: "Realized", message: message.to_owned(), observed: None, generation: 1 }
    }

    fn web() -> Name {
        Name::new("web").unwrap()
    }

    #[test]
    fn the_same_word_again_wakes_nobody() {
        let board = StatusBoard::new();
        let mut changes = board.subscribe();
        board.report(Kind::Port, &web(), report(true, "up"));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        board.report(Kind::Port, &web(), report(true, "up"));
        assert!(!changes.has_changed().unwrap());
    }

    #[test]
    fn the_time_of_change_is_that_of_readiness() {
        let board = StatusBoard::new();
        let object = ObjectRef::new(Kind::Port, web());
        board.report(Kind::Port, &web(), report(false, "the namespace is missing"));
        let first = board.get(&object).unwrap();
        board.report(Kind::Port, &web(), report(false, "still missing"));
        let second = board.get(&object).unwrap();
        assert_eq!(first.changed, second.changed);
        assert!(second.version > first.version);
        board.report(Kind::Port, &web(), report(true, "up"));
        assert!(board.get(&object).unwrap().changed > first.changed);
    }

    #[test]
    fn a_forgotten_object_has_no_status() {
        let board = StatusBoard::new();
        board.report(Kind::Port, &web(), report(true, "up"));
        let mut changes = board.subscribe();
        changes.mark_unchanged();
        board.forget(Kind::Port, &web());
        assert_eq!(board.get(&ObjectRef::new(Kind::Port, web())), None);
        assert!(changes.has_changed().unwrap());
    }

    #[tokio::test]
    async fn waiting_ends_with_the_pass_or_with_the_limit() {
        let board = StatusBoard::new();
        assert!(!board.wait_for(0, Duration::ZERO).await);
        board.pass_done(4);
        assert!(board.wait_for(4, Duration::from_secs(1)).await);
        assert!(!board.wait_for(5, Duration::ZERO).await);
        board.pass_done(3);
        assert!(board.wait_for(4, Duration::from_secs(1)).await);
        board.pass_done(9);
        assert!(board.wait_for(5, Duration::from_secs(1)).await);
    }
}
