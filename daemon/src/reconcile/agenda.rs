//! What has to be looked at, as told by other threads.
//!
//! Whoever has news writes it down and wakes the reconciler; nobody waits for it. What the news means for
//! which object is left to [`pass`](super::pass), which knows the kernel's state.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weft_host::monitor::{KernelChange, KernelEvent};

/// More news than this is no longer kept apart: everything is looked at.
const LIMIT: usize = 4096;

/// News that were not looked at yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct News {
    /// The store may have changed.
    pub store: bool,
    /// Anything may have changed anywhere.
    pub everything: bool,
    /// Devices that appeared, changed or went.
    pub links: HashSet<DeviceNews>,
    /// Namespaces, by number, where addresses or routes changed.
    pub addresses: HashSet<Option<i32>>,
    /// Tables of the node's packet filter that changed, each with the generation that made it so.
    pub tables: BTreeSet<(String, u32)>,
    /// Ports whose device a worker cannot use any more.
    pub lost: BTreeSet<String>,
    /// How many kernel events are in here.
    pub events: u64,
}

/// A device that appeared, changed or went.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceNews {
    /// The number of its namespace; `None` is the daemon's own.
    pub namespace: Option<i32>,
    /// Its interface index.
    pub index: u32,
    /// Its name, or its new one.
    pub name: String,
}

impl News {
    fn told_by_kernel(&self) -> bool {
        self.events > 0 || !self.lost.is_empty()
    }

    fn bound(&mut self) {
        if self.links.len() > LIMIT || self.tables.len() > LIMIT {
            self.everything = true;
            self.links.clear();
            self.addresses.clear();
            self.tables.clear();
        }
    }
}

/// Why a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Woken {
    /// There may be something to do.
    Work(News),
    /// The reconciler shall end.
    Stop,
}

#[derive(Debug, Default)]
struct State {
    news: News,
    /// When the first kernel event of the news came.
    since: Option<Instant>,
    stop: bool,
}

/// The news, shared by everyone who has some.
#[derive(Debug)]
pub struct Agenda {
    state: Mutex<State>,
    wake: Condvar,
    /// How long kernel events are gathered before they are looked at.
    debounce: Duration,
}

impl Agenda {
    /// An empty agenda.
    pub fn new(debounce: Duration) -> Agenda {
        Agenda { state: Mutex::default(), wake: Condvar::new(), debounce }
    }

    /// The store changed: look at once.
    pub fn store_changed(&self) {
        self.write(|state| state.news.store = true);
    }

    /// The kernel told of changes.
    pub fn kernel_changed(&self, events: Vec<KernelEvent>) {
        if events.is_empty() {
            return;
        }
        self.write(|state| {
            state.since.get_or_insert_with(Instant::now);
            let news = &mut state.news;
            news.events += events.len() as u64;
            for event in events {
                match event.what {
                    KernelChange::Link { index, name, .. } => {
                        news.links.insert(DeviceNews { namespace: event.nsid, index, name });
                    }
                    KernelChange::Address | KernelChange::Route => {
                        news.addresses.insert(event.nsid);
                    }
                    KernelChange::Table { name, generation } => {
                        news.tables.insert((name, generation));
                    }
                    KernelChange::Overrun => news.everything = true,
                }
            }
            news.bound();
        });
    }

    /// A worker found a Port's device gone.
    pub fn port_lost(&self, port: &str) {
        self.write(|state| {
            state.since.get_or_insert_with(Instant::now);
            state.news.lost.insert(port.to_owned());
        });
    }

    /// Ends the wait, and every later one.
    pub fn stop(&self) {
        self.write(|state| state.stop = true);
    }

    /// Whether the reconciler shall end.
    pub fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// Waits for news, at most until `deadline`; the news are then taken off the agenda.
    pub fn wait(&self, deadline: Instant) -> Woken {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let gathered = state.since.map(|since| since + self.debounce);
            let due =
                gathered.filter(|_| state.news.told_by_kernel()).map_or(deadline, |due| due.min(deadline));
            if state.stop {
                return Woken::Stop;
            }
            if state.news.store || now >= due {
                state.since = None;
                return Woken::Work(std::mem::take(&mut state.news));
            }
            let waited = self.wake.wait_timeout(state, due - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // News are only ever added: a panic between two of them loses none that was told.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(nsid: Option<i32>, name: &str) -> KernelEvent {
        let what = KernelChange::Link { index: 1, name: name.to_owned(), removed: false };
        KernelEvent { nsid, what }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(1)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn taken(woken: Woken) -> News {
        match woken {
            Woken::Work(news) => news,
            Woken::Stop => panic!("stopped"),
        }
    }

    #[test]
    fn a_change_of_the_store_does_not_wait_for_kernel_events_to_be_gathered() {
        let agenda = Agenda::new(Duration::from_secs(3600));
        agenda.kernel_changed(vec![link(None, "eth0")]);
        agenda.store_changed();
        let news = taken(agenda.wait(later()));
        assert!(news.store && news.links.iter().any(|link| link.name == "eth0"));
    }

    #[test]
    fn kernel_events_are_gathered_into_one_piece_of_work() {
        let agenda = Agenda::new(Duration::from_millis(5));
        agenda.kernel_changed(vec![link(Some(3), "eth0"), link(Some(3), "eth0")]);
        agenda.kernel_changed(vec![KernelEvent { nsid: Some(4), what: KernelChange::Route }]);
        let news = taken(agenda.wait(later()));
        assert_eq!((news.events, news.links.len(), news.addresses.len()), (3, 1, 1));
        assert_eq!(taken(agenda.wait(soon())), News::default());
    }

    #[test]
    fn a_changed_table_is_told_with_the_generation_that_made_it_so() {
        let agenda = Agenda::new(Duration::ZERO);
        let changed = |generation| KernelEvent {
            nsid: None,
            what: KernelChange::Table { name: "weft-4f2a".to_owned(), generation },
        };
        agenda.kernel_changed(vec![changed(7), changed(8)]);
        let news = taken(agenda.wait(later()));
        assert_eq!(news.tables, BTreeSet::from([("weft-4f2a".to_owned(), 7), ("weft-4f2a".to_owned(), 8)]));
    }

    #[test]
    fn an_overrun_or_too_much_news_means_everything() {
        let agenda = Agenda::new(Duration::ZERO);
        agenda.kernel_changed(vec![KernelEvent { nsid: None, what: KernelChange::Overrun }]);
        assert!(taken(agenda.wait(later())).everything);
        agenda.kernel_changed((0..=LIMIT).map(|i| link(None, &format!("d{i}"))).collect());
        let news = taken(agenda.wait(later()));
        assert!(news.everything && news.links.is_empty());
    }

    #[test]
    fn a_stop_goes_before_everything_else() {
        let agenda = Agenda::new(Duration::ZERO);
        agenda.store_changed();
        agenda.stop();
        assert_eq!(agenda.wait(later()), Woken::Stop);
    }
}
