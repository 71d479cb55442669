//! One watch: the present state, then what changes.
//!
//! A watch keeps no queue of events. It remembers what it sent of each object and compares that with what is
//! now; a reader that is slow finds the latest state when it is ready, never a backlog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weft_proto::v1;

use super::{Node, resource};
use crate::model::{Kind, ObjectRef};
use crate::store::{Picture, has_labels};

/// Events that may lie ready for the transport.
const READY: usize = 16;

type Event = Result<v1::WatchEvent, Status>;

/// Tells one state of an object from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    revision: u64,
    status: u64,
}

/// What a watch is about, and what its reader knows.
struct Watching {
    node: Arc<Node>,
    kind: Option<Kind>,
    labels: BTreeMap<String, String>,
    sent: BTreeMap<ObjectRef, (Stamp, v1::Resource)>,
}

/// Starts a watch; it ends with its reader or with the daemon.
pub(super) fn start(
    node: Arc<Node>,
    kind: Option<Kind>,
    labels: BTreeMap<String, String>,
) -> ReceiverStream<Event> {
    let (events, stream) = mpsc::channel(READY);
    let mut closing = node.closing.clone();
    let reader = events.clone();
    let watching = Watching { node, kind, labels, sent: BTreeMap::new() };
    tokio::spawn(async move {
        tokio::select! {
            () = watching.run(&events) => {}
            () = reader.closed() => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    });
    ReceiverStream::new(stream)
}

impl Watching {
    /// Returns when the reader or the daemon is gone.
    async fn run(mut self, events: &mpsc::Sender<Event>) {
        let mut revision = self.node.store.subscribe();
        let mut status = self.node.status.subscribe();
        let mut found = v1::EventType::Present;
        loop {
            // Seen before looking, so that what happens while looking is looked at next time.
            revision.mark_unchanged();
            status.mark_unchanged();
            if !self.send_differences(found, events).await {
                return;
            }
            if found == v1::EventType::Present {
                let synced = self.event(v1::EventType::Synced, None, &self.node.store.picture());
                if events.send(Ok(synced)).await.is_err() {
                    return;
                }
                found = v1::EventType::Changed;
            }
            let alive = tokio::select! {
                changed = revision.changed() => changed.is_ok(),
                changed = status.changed() => changed.is_ok(),
            };
            if !alive {
                return;
            }
        }
    }

    /// Sends every object that differs from what was sent, each as it is when its turn comes. False when the
    /// reader is gone.
    async fn send_differences(&mut self, found: v1::EventType, events: &mpsc::Sender<Event>) -> bool {
        for object in self.differing() {
            let Ok(slot) = events.reserve().await else { return false };
            if let Some(event) = self.event_of(&object, found) {
                slot.send(Ok(event));
            }
        }
        true
    }

    /// The objects whose reader has not seen their present state.
    fn differing(&self) -> BTreeSet<ObjectRef> {
        let picture = self.node.store.picture();
        let mut differing = BTreeSet::new();
        for (object, stored) in picture.select(self.kind, &self.labels) {
            if self.sent.get(object).is_none_or(|(sent, _)| *sent != self.stamp(object, stored)) {
                differing.insert(object.clone());
            }
        }
        let vanished = self.sent.keys().filter(|object| !self.matches(&picture, object));
        differing.extend(vanished.cloned());
        differing
    }

    /// The event that brings a reader up to date; `None` when it is.
    fn event_of(&mut self, object: &ObjectRef, found: v1::EventType) -> Option<v1::WatchEvent> {
        let picture = self.node.store.picture();
        if !self.matches(&picture, object) {
            let (_, last) = self.sent.remove(object)?;
            return Some(self.event(v1::EventType::Deleted, Some(last), &picture));
        }
        let stored = picture.resources.get(object)?;
        // Read before the status itself: a change in between is sent once more, not lost.
        let stamp = self.stamp(object, stored);
        let shown = resource::shown(&self.node, &picture, object, stored);
        self.sent.insert(object.clone(), (stamp, shown.clone()));
        Some(self.event(found, Some(shown), &picture))
    }

    fn event(
        &self,
        kind: v1::EventType,
        resource: Option<v1::Resource>,
        picture: &Picture,
    ) -> v1::WatchEvent {
        v1::WatchEvent { r#type: kind as i32, resource, revision: picture.fabric.revision }
    }

    fn stamp(&self, object: &ObjectRef, stored: &v1::Resource) -> Stamp {
        let revision = stored.metadata.as_ref().map_or(0, |metadata| metadata.revision);
        Stamp { revision, status: self.node.status.version_of(object) }
    }

    fn matches(&self, picture: &Picture, object: &ObjectRef) -> bool {
        picture.resources.get(object).is_some_and(|stored| has_labels(stored, &self.labels))
    }
}
