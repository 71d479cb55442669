//! A watch: the events of a resource from a version on, one line of JSON each, until its time is over.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::cluster::fault::Faults;
use crate::cluster::object::Object;
use crate::cluster::path::{Query, Target};
use crate::cluster::refusal::Refusal;
use crate::cluster::selector::Selector;
use crate::cluster::store::Store;

/// How long a watch lasts that does not say.
const LASTS: Duration = Duration::from_secs(1800);
/// Objects in one piece of what a watch tells first.
const CHUNK: usize = 256;
/// Pieces that wait for the client to read them.
const WAITING: usize = 4;

/// A watch that somebody follows.
#[derive(Debug)]
pub struct Watch {
    store: Arc<Store>,
    faults: Arc<Faults>,
    target: Target,
    selector: Selector,
    bookmarks: bool,
    lasts: Duration,
    lines: mpsc::Sender<Bytes>,
    changed: watch::Receiver<u64>,
    closings: watch::Receiver<u64>,
}

/// Why a watch ends.
enum End {
    /// Its time is over, its client is gone, or a test wants it.
    Over,
    /// It cannot go on.
    Refused(Refusal),
}

impl Watch {
    /// Starts a watch as its query says; its lines come out of the receiver.
    pub fn start(
        store: Arc<Store>,
        faults: Arc<Faults>,
        target: Target,
        selector: Selector,
        query: &Query,
    ) -> mpsc::Receiver<Bytes> {
        let (lines, receiver) = mpsc::channel(WAITING);
        let watch = Watch {
            bookmarks: query.is_set("allowWatchBookmarks"),
            lasts: query.number("timeoutSeconds").map_or(LASTS, Duration::from_secs),
            changed: store.subscribe(&target.resource),
            closings: faults.closings(),
            store,
            faults,
            target,
            selector,
            lines,
        };
        let version = query.number("resourceVersion").filter(|version| *version > 0);
        let initial = query.is_set("sendInitialEvents");
        tokio::spawn(watch.run(version, initial));
        receiver
    }

    async fn run(mut self, version: Option<u64>, initial: bool) {
        let end = match version {
            Some(version) if !initial => self.follow(version).await,
            _ => match self.tell_all(initial).await {
                Ok(version) => self.follow(version).await,
                Err(end) => Err(end),
            },
        };
        if let Err(End::Refused(refusal)) = end {
            // It fails when the client is gone.
            let _ = self.send(line("ERROR", refusal.status().to_string().as_bytes())).await;
        }
    }

    /// Tells of every object as if it were new; the version from which to go on.
    async fn tell_all(&mut self, mark_end: bool) -> Result<u64, End> {
        let page = self.store.list(&self.target, &self.selector, usize::MAX, None);
        for objects in page.objects.chunks(CHUNK) {
            self.send(objects.iter().flat_map(|object| line("ADDED", &object.json)).collect()).await?;
        }
        if mark_end {
            let annotations = json!({"k8s.io/initial-events-end": "true"});
            self.send(self.bookmark(page.version, annotations)).await?;
        }
        Ok(page.version)
    }

    /// Tells of every change after a version, and now and then of the version that it has come to.
    async fn follow(&mut self, mut version: u64) -> Result<u64, End> {
        let current = self.store.version();
        if version > current {
            return Err(End::Refused(Refusal::too_large(version, current)));
        }
        let pause = self.store.options().bookmarks;
        let mut ticks = interval_at(Instant::now() + pause, pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = sleep(self.lasts);
        tokio::pin!(over);
        let mut bookmark_is_due = false;
        loop {
            let batch = self.store.since(&self.target.resource, version).map_err(End::Refused)?;
            version = batch.version;
            let heard = batch.events.iter().filter(|event| self.is_in_reach(&event.object));
            let heard = heard.filter_map(|event| Some((event.heard_as(&self.selector)?, event)));
            let lines: Vec<u8> = heard.flat_map(|(word, event)| line(word, &event.object.json)).collect();
            self.send(lines).await?;
            if batch.more {
                continue;
            }
            if std::mem::take(&mut bookmark_is_due) {
                self.send(self.bookmark(version, Value::Null)).await?;
            }
            // The first three fail only when the store or the faults are gone, which this watch itself holds.
            tokio::select! {
                _ = self.changed.changed() => {}
                _ = self.closings.changed() => return Err(End::Over),
                () = self.lines.closed() => return Err(End::Over),
                () = &mut over => return Err(End::Over),
                _ = ticks.tick(), if self.bookmarks => bookmark_is_due = true,
            }
        }
    }

    fn is_in_reach(&self, object: &Object) -> bool {
        let Target { namespace, name, .. } = &self.target;
        (namespace.is_empty() || object.word("namespace") == namespace)
            && (name.is_empty() || object.word("name") == name)
    }

    fn bookmark(&self, version: u64, annotations: Value) -> Vec<u8> {
        let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if !annotations.is_null() {
            metadata["annotations"] = annotations;
        }
        let kind = self.store.kind(&self.target.resource);
        let object = json!({"kind": kind, "apiVersion": self.target.api_version(), "metadata": metadata});
        line("BOOKMARK", object.to_string().as_bytes())
    }

    async fn send(&self, lines: Vec<u8>) -> Result<(), End> {
        if lines.is_empty() {
            return Ok(());
        }
        self.faults.while_hanging().await;
        self.lines.send(lines.into()).await.map_err(|_| End::Over)
    }
}

fn line(word: &str, object: &[u8]) -> Vec<u8> {
    [b"{\"type\":\"", word.as_bytes(), b"\",\"object\":", object, b"}\n"].concat()
}
