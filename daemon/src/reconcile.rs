//! Making the kernel follow the wish: observe, plan, apply, observe again, tell.
//!
//! One thread does all of it; a second one hears what the kernel tells. `pass` is one turn, `plan` the
//! pure difference between wish and world. Packets are left to [`dataplane`](crate::dataplane).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weft_host::fastpath::FastPath;
use weft_host::monitor::Monitor;
use weft_host::poll::Wake;

use crate::dataplane::Dataplane;
use crate::model::ObjectRef;
use crate::status::StatusBoard;
use crate::store::Store;
use agenda::{Agenda, Woken};
pub(crate) use error::told;
use observe::kernel::Kernel;
use pass::{Outcome, Publish, Reconciliation};

pub use error::Error;
pub use observe::kernel::{Session, id_at};
pub use place::{Folders, Marks, host_end};

mod agenda;
mod card;
mod error;
#[cfg(test)]
mod fixture;
mod nat;
mod node_routes;
mod observe;
mod pass;
mod picture;
mod place;
mod plan;
mod realize;
mod remover;
mod retry;
mod scope;
mod sockets;
#[cfg(test)]
mod tests;
mod underlays;

/// How the reconciler works.
#[derive(Debug, Clone)]
pub struct ReconcileOptions {
    /// State of this boot; the namespace of veth host ends is mounted at `netns/ports` below it.
    pub run_dir: PathBuf,
    /// Where the namespaces that the daemon makes are mounted.
    pub netns_dir: PathBuf,
    /// How many queues a TAP has whose Port does not say.
    pub workers: usize,
    /// The id of the daemon's state: part of the marks.
    pub instance: String,
    /// How long kernel events are gathered before they are looked at.
    pub debounce: Duration,
    /// How often everything is looked at without any news.
    pub resync: Duration,
    /// The longest wait before what failed is tried again.
    pub retry_max: Duration,
    /// What packets of veth pairs may go by.
    pub fast_path: Option<Arc<FastPath>>,
}

/// Counters since the daemon's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReconcilerReport {
    /// Passes made.
    pub passes: u64,
    /// Passes that ended with an error.
    pub failures: u64,
    /// Devices made; a veth pair is one.
    pub devices_created: u64,
    /// Devices found that an earlier daemon had made.
    pub devices_adopted: u64,
    /// Devices removed; a veth pair is one.
    pub devices_removed: u64,
    /// Namespaces made, that of the veth host ends included.
    pub namespaces_created: u64,
    /// Namespaces found: those of an earlier daemon, and those that were asked to be adopted.
    pub namespaces_adopted: u64,
    /// Namespaces removed.
    pub namespaces_removed: u64,
    /// Kernel notifications that led to a pass.
    pub kernel_events: u64,
    /// What the last failed pass said; empty after a pass without errors.
    pub last_error: String,
}

/// The running reconciler. Devices and namespaces stay when it stops.
#[derive(Debug)]
pub struct Reconciler {
    agenda: Arc<Agenda>,
    report: Arc<Mutex<ReconcilerReport>>,
    monitor: Arc<Wake>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Reconciler {
    /// Starts its threads. The namespace that the calling thread is in is the daemon's own.
    ///
    /// # Errors
    /// When the kernel cannot be talked to by netlink, or a thread does not start.
    pub fn start(
        store: Arc<Store>,
        status: Arc<StatusBoard>,
        dataplane: Arc<Dataplane>,
        options: ReconcileOptions,
    ) -> Result<Reconciler, Error> {
        let publish = Box::new(move |spec, ends| dataplane.publish(spec, ends));
        Reconciler::launch(store, status, publish, &options)
    }

    fn launch(
        store: Arc<Store>,
        status: Arc<StatusBoard>,
        publish: Publish,
        options: &ReconcileOptions,
    ) -> Result<Reconciler, Error> {
        let folders = Folders { netns: options.netns_dir.clone(), run: options.run_dir.clone() };
        let kernel = Kernel::open(Marks::new(&options.instance), folders).map_err(Error::Own)?;
        let monitor = Monitor::open().map_err(Error::Monitor)?;
        let agenda = Arc::new(Agenda::new(options.debounce));
        let reconciler = Reconciler {
            agenda: Arc::clone(&agenda),
            report: Arc::default(),
            monitor: monitor.waker(),
            threads: Mutex::default(),
        };
        let work = Reconciliation::new(kernel, publish, options);
        let report = Arc::clone(&reconciler.report);
        let events = Arc::clone(&agenda);
        // Dropped on an error, the reconciler ends the thread that did start.
        reconciler.spawn("weft-kernel", move || listen(monitor, &events))?;
        reconciler.spawn("weft-reconcile", move || run(work, &store, &status, &agenda, &report))?;
        Ok(reconciler)
    }

    /// The store has changed: look now.
    pub fn wake(&self) {
        self.agenda.store_changed();
    }

    /// A worker found this Port's device gone. Returns at once.
    pub fn port_lost(&self, port: &str) {
        self.agenda.port_lost(port);
    }

    /// The counters as of the last pass.
    pub fn report(&self) -> ReconcilerReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends after the pass that is under way, and closes the devices' ends: nothing is forwarded from then on. A second
    /// call does nothing.
    pub fn stop(&self) {
        self.agenda.stop();
        self.monitor.wake();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!("the thread {name} had panicked");
            }
        }
    }

    fn spawn(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        let thread = thread.map_err(|source| Error::Thread { name, source })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Passes until it is told to stop.
fn run(
    mut work: Reconciliation,
    store: &Store,
    status: &StatusBoard,
    agenda: &Agenda,
    report: &Mutex<ReconcilerReport>,
) {
    while let Woken::Work(news) = agenda.wait(work.next_pass()) {
        let outcome = work.pass(store.fabric(), &news, Instant::now());
        report.lock().unwrap_or_else(PoisonError::into_inner).clone_from(work.tally());
        if !tell(outcome, store, status) {
            work.look_again_soon();
        }
    }
    work.close();
}

/// Puts down what a pass found. False: what is gone could not be struck off the store.
fn tell(outcome: Outcome, store: &Store, status: &StatusBoard) -> bool {
    for (kind, name, report) in outcome.reports {
        status.report(kind, &name, report);
    }
    status.pass_done(outcome.revision);
    if outcome.gone.is_empty() {
        return true;
    }
    let gone: Vec<_> = outcome.gone.into_iter().map(|(kind, name)| ObjectRef::new(kind, name)).collect();
    if let Err(error) = store.purge_all(&gone) {
        tracing::error!("what was taken down stays in the store for now: {}", told(&error));
        return false;
    }
    for object in gone {
        status.forget(object.kind, &object.name);
    }
    true
}

/// Hears the kernel until it is told to stop.
fn listen(mut monitor: Monitor, agenda: &Agenda) {
    // A wake-up may come along with events, so it is not known by their absence.
    while !agenda.is_stopped() {
        match monitor.next() {
            Ok(events) => agenda.kernel_changed(events),
            Err(error) => {
                tracing::error!(
                    "kernel events are not heard any more, only full looks find changes: {}",
                    told(&error)
                );
                return;
            }
        }
    }
}
