//! Pools, without what other nodes do to them. All blocks of a pool are in its status, so that it grows with the nodes,
//! and each node that comes changes it: were that sent to all nodes, the API server would send the cube of their number.
//!
//! So only the metadata of pools is watched. A pool is read when it is new or its spec has changed, and after a while
//! when its status has: this node's own blocks are heard from [`super::claim`], which reads and changes pools.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::writer::{FIRST_PAUSE, LONGEST_PAUSE, now};
use super::{List, Listener};
use crate::cluster::{Event, Pool, spread};
use crate::crd::{IPPool, WeftNode};
use crate::error::{Error, Result};

/// After so long a pool is read again of which other nodes have taken blocks; each node adds a part of it again.
const REFRESH: Duration = Duration::from_secs(300);

/// Pools by name, as the watch tells of them; none before they were listed.
type Outlines = Option<BTreeMap<String, PartialObjectMeta<IPPool>>>;

impl Listener {
    /// Hears of pools, and from `found` what others have read of them.
    pub(super) async fn pools(self, name: String, found: mpsc::Receiver<IPPool>, own: Own) {
        let (outline, outlines) = watch::channel(None);
        let reader = Reader {
            listener: self.clone(),
            outlines,
            found,
            own,
            known: BTreeMap::new(),
            afresh: now(),
            refresh: REFRESH + REFRESH.mul_f64(spread::portion(&name)),
        };
        tokio::join!(self.outlines(outline), reader.run());
    }

    async fn outlines(self, outline: watch::Sender<Outlines>) {
        let mut list = List::default();
        // Of this type the API tells the metadata alone.
        let api = Api::<PartialObjectMeta<IPPool>>::all;
        self.follow(api, watcher::Config::default(), "ippools", |event| {
            let heard = list.take(event)?;
            outline.send_modify(|known| heard.note(known.get_or_insert_default()));
            None
        })
        .await;
    }
}

/// This node, of which it matters whether it is still the one that it was: while it was gone, others may have taken its
/// blocks.
pub(super) struct Own {
    node: watch::Receiver<Option<Node>>,
    record: watch::Receiver<Option<Option<WeftNode>>>,
    uids: [Option<String>; 2],
}

impl Own {
    pub fn new(
        node: watch::Receiver<Option<Node>>,
        record: watch::Receiver<Option<Option<WeftNode>>>,
    ) -> Own {
        Own { node, record, uids: [None, None] }
    }

    /// Whether its Node or its WeftNode is another one than before.
    fn is_new(&mut self) -> bool {
        let node = self.node.borrow_and_update().as_ref().and_then(ResourceExt::uid);
        let record = self.record.borrow_and_update().iter().flatten().next().and_then(ResourceExt::uid);
        let mut is_new = false;
        for (known, found) in self.uids.iter_mut().zip([node, record]) {
            if found.is_some() && *known != found {
                is_new |= known.is_some();
                *known = found;
            }
        }
        is_new
    }
}

/// Reads pools.
struct Reader {
    listener: Listener,
    outlines: watch::Receiver<Outlines>,
    found: mpsc::Receiver<IPPool>,
    own: Own,
    /// What was read, and when.
    known: BTreeMap<String, (IPPool, Instant)>,
    /// What was read before that says nothing.
    afresh: Instant,
    refresh: Duration,
}

impl Reader {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut told = None;
        loop {
            let outlines = self.outlines.borrow_and_update().clone();
            if self.own.is_new() {
                self.afresh = now();
            }
            let mut due = None;
            if let Some(outlines) = outlines {
                match self.read(&outlines).await {
                    Ok(next) => {
                        (due, pause) = (next, FIRST_PAUSE);
                        self.listener.reached("pools").await;
                        let pools: Vec<Pool> =
                            self.known.values().filter_map(|(pool, _)| pool_of(pool)).collect();
                        if told.as_ref() != Some(&pools) {
                            told = Some(pools.clone());
                            if self.listener.sender.send(Event::Pools(pools)).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => {
                        self.listener.request_failed("pools", &error).await;
                        due = Some(now() + pause);
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
            tokio::select! {
                () = sleep_until(due.unwrap_or_else(now).into()), if due.is_some() => {}
                Ok(()) = self.outlines.changed() => {}
                Ok(()) = self.own.node.changed() => {}
                Ok(()) = self.own.record.changed() => {}
                Some(pool) = self.found.recv() => drop(self.known.insert(pool.name_any(), (pool, now()))),
                () = self.listener.sender.closed() => return,
            }
        }
    }

    /// Brings what is known in line with the outlines. Gives when to do so again.
    async fn read(
        &mut self,
        outlines: &BTreeMap<String, PartialObjectMeta<IPPool>>,
    ) -> Result<Option<Instant>> {
        self.known.retain(|name, _| outlines.contains_key(name));
        let mut next = None;
        for (name, outline) in outlines {
            let due = self.due(name, outline);
            match due {
                None => continue,
                Some(due) if due > now() => {
                    next = Some(next.map_or(due, |next: Instant| next.min(due)));
                    continue;
                }
                Some(_) => {}
            }
            let api = Api::<IPPool>::all(self.listener.client());
            let found = api.get_opt(name).await.map_err(|error| Error::request("get", "ippools", error))?;
            // One that is gone already is told of next.
            self.known.extend(found.map(|pool| (name.clone(), (pool, now()))));
        }
        Ok(next)
    }

    /// When to read a pool; none: what is known is what there is.
    fn due(&self, name: &str, outline: &PartialObjectMeta<IPPool>) -> Option<Instant> {
        let Some((pool, read)) = self.known.get(name) else { return Some(now()) };
        if *read < self.afresh {
            return Some(now());
        }
        let (is, was) = (&outline.metadata, &pool.metadata);
        if is.resource_version == was.resource_version {
            return None;
        }
        let same_wish = is.generation.is_some() && (&is.uid, is.generation) == (&was.uid, was.generation);
        Some(if same_wish { *read + self.refresh } else { now() })
    }
}

/// The pool that an object describes; none, which the log says: it cannot be used.
pub(super) fn pool_of(pool: &IPPool) -> Option<Pool> {
    let told = |error: &String| tracing::warn!("IPPool/{}: {error}; it is left out", pool.name_any());
    pool.pool().inspect_err(told).ok()
}
