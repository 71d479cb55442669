//! Following real packets: who watches, what the workers are told of it, and the way back.
//!
//! A worker looks at one number a round while nobody watches. What it sees goes to each watcher by a bounded
//! queue; what does not fit is counted, so that a slow reader costs a worker nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use weft_stack::config::Config;
use weft_stack::time::Instant;
use weft_stack::trace::{LiveFilter, LiveTrace, describe};

use super::report::TraceReport;
use super::{Dataplane, Shared};

/// How many may watch at a time.
const MOST: usize = 8;

/// Traces that wait for one reader.
const WAITING: usize = 256;

/// A worker follows at most this many packets...
pub(super) const FOLLOWED: usize = 100;

/// ...in this time.
pub(super) const PERIOD: Duration = Duration::from_millis(100);

/// Everyone who watches.
#[derive(Default)]
pub(super) struct Watchers {
    list: ArcSwap<Vec<Arc<Watcher>>>,
    /// Of the newest list; workers compare it with that of their own.
    version: AtomicU64,
    next: AtomicU64,
    count: AtomicUsize,
}

/// Someone who watches, as the workers know it.
pub(super) struct Watcher {
    id: u64,
    filters: Vec<LiveFilter>,
    traces: Sender<(LiveTrace, Arc<Config>)>,
    missed: AtomicU64,
}

/// There are as many watchers already as are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} live traces run already: end one of them first")]
pub struct TooManyWatchers;

/// A real packet, and what became of it.
#[derive(Debug, Clone)]
pub struct LiveReport {
    /// When it came in.
    pub at: SystemTime,
    /// Where it came in.
    pub port: String,
    /// The frame as it came.
    pub frame: Vec<u8>,
    /// The frame in words.
    pub summary: String,
    /// What became of it.
    pub trace: TraceReport,
    /// Packets that fitted before it and after the last report, and were not followed.
    pub missed: u64,
}

/// The packets that one watcher gets. Dropping it ends the watch.
pub struct LiveTraces {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    traces: Receiver<(LiveTrace, Arc<Config>)>,
}

impl Dataplane {
    /// Follows packets from now on that fit one of `filters`, which must not overlap.
    ///
    /// # Errors
    /// There are too many watchers.
    pub fn watch(&self, filters: Vec<LiveFilter>) -> Result<LiveTraces, TooManyWatchers> {
        let watchers = &self.shared.watchers;
        let room = |count| (count < MOST).then_some(count + 1);
        watchers.count.fetch_update(AcqRel, Acquire, room).map_err(|_| TooManyWatchers)?;
        let (sender, traces) = channel(WAITING);
        let id = watchers.next.fetch_add(1, Relaxed);
        let watcher = Arc::new(Watcher { id, filters, traces: sender, missed: AtomicU64::new(0) });
        watchers.change(|list| list.push(Arc::clone(&watcher)));
        self.shared.end_replays();
        Ok(LiveTraces { shared: Arc::clone(&self.shared), watcher, traces })
    }
}

impl Watchers {
    /// The version of the newest list.
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// Everyone who watches now.
    pub fn list(&self) -> Arc<Vec<Arc<Watcher>>> {
        self.list.load_full()
    }

    fn change(&self, change: impl Fn(&mut Vec<Arc<Watcher>>)) {
        self.list.rcu(|list| {
            let mut list = Vec::clone(list);
            change(&mut list);
            list
        });
        self.version.fetch_add(1, AcqRel);
    }
}

/// The filters of all, each with its watcher's number, as a stack takes them.
pub(super) fn filters(list: &[Arc<Watcher>]) -> impl Iterator<Item = (u64, LiveFilter)> + '_ {
    list.iter().flat_map(|watcher| watcher.filters.iter().map(|filter| (watcher.id, filter.clone())))
}

/// Hands out what a worker's stack has seen.
pub(super) fn deliver(
    list: &[Arc<Watcher>],
    config: &Arc<Config>,
    (traces, missed): (Vec<LiveTrace>, Vec<(u64, u64)>),
) {
    let watcher = |id: u64| list.iter().find(|watcher| watcher.id == id);
    for (id, count) in missed {
        if let Some(watcher) = watcher(id) {
            watcher.missed.fetch_add(count, Relaxed);
        }
    }
    for trace in traces {
        for watcher in trace.watchers.iter().filter_map(|id| watcher(*id)) {
            if watcher.traces.try_send((trace.clone(), Arc::clone(config))).is_err() {
                watcher.missed.fetch_add(1, Relaxed);
            }
        }
    }
}

impl LiveTraces {
    /// The next packet; `None` when the packet side ends.
    pub async fn next(&mut self) -> Option<LiveReport> {
        let (seen, config) = self.traces.recv().await?;
        let name = config.port(seen.port).map_or_else(String::new, |port| port.name.to_string());
        Some(LiveReport {
            at: self.shared.started + since_start(seen.at),
            port: name,
            summary: describe(&seen.frame),
            trace: TraceReport::new(seen.trace, &config),
            missed: self.watcher.missed.swap(0, Relaxed),
            frame: seen.frame,
        })
    }
}

fn since_start(at: Instant) -> Duration {
    at.since(Instant::from_nanos(0))
}

impl Drop for LiveTraces {
    fn drop(&mut self) {
        let watchers = &self.shared.watchers;
        watchers.change(|list| list.retain(|other| other.id != self.watcher.id));
        watchers.count.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::WorkerOptions;

    fn dataplane() -> Dataplane {
        Dataplane::start(&WorkerOptions { workers: 1, busy_poll_us: 0, fast_path: None }, |_| {}).unwrap()
    }

    #[test]
    fn who_goes_away_makes_room() {
        let dataplane = dataplane();
        let all: Vec<_> = (0..MOST).map(|_| dataplane.watch(Vec::new()).unwrap()).collect();
        assert_eq!(dataplane.watch(Vec::new()).err(), Some(TooManyWatchers));
        assert_eq!(dataplane.shared.watchers.list().len(), MOST);
        drop(all);
        assert!(dataplane.watch(Vec::new()).is_ok());
        assert!(dataplane.shared.watchers.list().is_empty());
    }
}
