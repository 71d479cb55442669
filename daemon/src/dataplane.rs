//! The packet side of the daemon: worker threads, the snapshot they read, and the devices they serve.
//!
//! The control side gives a whole picture to [`Dataplane::publish`]; it never touches a packet, and
//! workers never wait for it: a picture is an atomic pointer, and an acknowledgement a message.

mod fastpath;
mod live;
mod port;
mod report;
mod snapshot;
#[cfg(test)]
mod tests;
mod tunnel;
mod underlay;
mod worker;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use weft_host::fastpath::{FastPath, Totals};
use weft_host::poll::Wake;
use weft_stack::config::{Config, ConfigError, FabricSpec};
use weft_stack::tunnel::Underlay;
use weft_stack::verdict::DropReason;

use fastpath::Replayer;
use live::Watchers;
pub use live::{LiveReport, LiveTraces, TooManyWatchers};
pub use port::PortIo;
pub use report::{
    CounterReport, PortTotals, QueueReport, StageReport, TableSizes, TraceError, TracePacket, TraceReport,
    WorkerReport,
};
use snapshot::Snapshot;
pub use tunnel::{EndReport, TunnelReport};
pub use underlay::UnderlayIo;
use worker::{Worker, WorkerCounters};

/// What workers read and write.
#[derive(Debug, Default)]
pub struct OpenEnds {
    /// Of ports, by name.
    pub ports: HashMap<String, Arc<PortIo>>,
    /// Of the node, by which tunnels reach their far ends.
    pub underlays: HashMap<Underlay, Arc<UnderlayIo>>,
}

/// How many workers there are and how they wait.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Threads; at least 1.
    pub workers: usize,
    /// How long a worker looks for more packets after the last one before it sleeps, in microseconds.
    pub busy_poll_us: u32,
    /// What moves packets between veth pairs in place of the workers, once the stack has decided about their like.
    pub fast_path: Option<Arc<FastPath>>,
}

/// What the control side and the workers share.
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// Of the newest snapshot; workers compare it with that of their own.
    generation: AtomicU64,
    stop: AtomicBool,
    busy_poll: Duration,
    start: Instant,
    /// The same moment by the calendar.
    started: SystemTime,
    watchers: Watchers,
    replayer: Option<Replayer>,
    /// Held by a worker that sends packets with numbers.
    numbering: Mutex<()>,
    on_lost: Box<dyn Fn(&str) + Send + Sync>,
}

impl Shared {
    /// The time as the stack knows it.
    fn now(&self) -> weft_stack::time::Instant {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        weft_stack::time::Instant::from_nanos(nanos)
    }

    /// Has the stack look at all packets again: something has changed that its verdicts rest on.
    fn end_replays(&self) {
        self.replayer.iter().for_each(Replayer::turn);
    }
}

/// A worker as the control side knows it.
struct WorkerHandle {
    wake: Arc<Wake>,
    counters: Arc<WorkerCounters>,
    thread: Option<JoinHandle<()>>,
}

/// The running packet side. Dropping it stops the workers; the devices stay.
pub struct Dataplane {
    shared: Arc<Shared>,
    workers: Vec<WorkerHandle>,
    control: Mutex<Control>,
}

/// What only the control side uses, one caller at a time.
struct Control {
    acknowledged: Receiver<u64>,
    /// Drops of ports that are gone, so that totals never go down.
    retired: [u64; DropReason::COUNT],
    /// What is known of ends of living ports that were closed since, by port.
    closed: HashMap<Arc<str>, ClosedEnds>,
    /// Frames that have gone by the fast path from ports that are gone.
    replayed: u64,
}

/// What the kernel counted at ends that were closed.
#[derive(Debug, Clone, Copy, Default)]
struct ClosedEnds {
    /// What it threw away.
    overflows: u64,
    /// What went by the fast path.
    replayed: Totals,
}

/// How long a worker may take to see a new snapshot before that is logged as a fault.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(5);

impl Dataplane {
    /// Starts the workers. `on_lost` is called (from a worker) with a port's name when its device is gone.
    ///
    /// # Errors
    /// The kernel gives no thread, epoll or eventfd.
    pub fn start(
        options: &WorkerOptions,
        on_lost: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Dataplane> {
        let count = options.workers.max(1);
        let empty = Config::build(&FabricSpec::default(), None, count).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            generation: AtomicU64::new(empty.generation()),
            snapshot: ArcSwap::from_pointee(Snapshot::new(empty, OpenEnds::default())),
            stop: AtomicBool::new(false),
            busy_poll: Duration::from_micros(options.busy_poll_us.into()),
            start: Instant::now(),
            started: SystemTime::now(),
            watchers: Watchers::default(),
            replayer: options.fast_path.clone().map(Replayer::new),
            numbering: Mutex::new(()),
            on_lost: Box::new(on_lost),
        });
        let (acknowledge, acknowledged) = channel();
        let retired = [0; DropReason::COUNT];
        let control = Mutex::new(Control { acknowledged, retired, closed: HashMap::new(), replayed: 0 });
        let mut dataplane = Dataplane { shared, workers: Vec::new(), control };
        for index in 0..count {
            dataplane.spawn(index, acknowledge.clone())?;
        }
        Ok(dataplane)
    }

    fn spawn(&mut self, index: usize, acknowledge: Sender<u64>) -> io::Result<()> {
        let wake = Arc::new(Wake::new()?);
        let counters = Arc::new(WorkerCounters::default());
        let worker = Worker::new(index, self.shared.clone(), wake.clone(), counters.clone(), acknowledge)?;
        let thread = std::thread::Builder::new()
            .name(format!("weft-worker-{index}"))
            .spawn(move || abort_on_panic(|| worker.run()))?;
        self.workers.push(WorkerHandle { wake, counters, thread: Some(thread) });
        Ok(())
    }

    /// Gives the workers a new picture. Returns when every worker uses it; from then on nobody else refers to
    /// what is no longer among `ends`. What is to be sent by a port or an underlay of `spec` that is not among them
    /// is dropped.
    ///
    /// # Errors
    /// The picture contradicts itself; the old one stays in use.
    pub fn publish(&self, spec: FabricSpec, ends: OpenEnds) -> Result<(), ConfigError> {
        let mut control = self.control();
        let previous = self.shared.snapshot.load_full();
        let config = Config::build(&spec, Some(&previous.config), self.workers.len())?;
        let generation = config.generation();
        self.shared.snapshot.store(Arc::new(Snapshot::new(config, ends)));
        self.shared.generation.store(generation, Ordering::Release);
        self.workers.iter().for_each(|worker| worker.wake.wake());
        self.shared.end_replays();
        control.wait_for(generation, self.workers.len());
        control.retire(&previous, &self.shared.snapshot.load());
        Ok(())
    }

    /// Whether the kernel forwards by itself where it can.
    pub fn has_fast_path(&self) -> bool {
        self.shared.replayer.is_some()
    }

    /// The generation of the picture that all workers use.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    fn wait_for(&mut self, generation: u64, workers: usize) {
        let mut missing = workers;
        while missing > 0 {
            match self.acknowledged.recv_timeout(ACKNOWLEDGE_WITHIN) {
                Ok(seen) if seen == generation => missing -= 1,
                Ok(_) => {}
                Err(_) => {
                    tracing::error!(
                        missing,
                        generation,
                        "workers did not take up the new configuration in time; report this with a stack trace"
                    );
                    return;
                }
            }
        }
    }

    fn retire(&mut self, previous: &Snapshot, next: &Snapshot) {
        for port in previous.config.ports() {
            let lives = next.config.port_by_name(&port.name);
            let io = previous.io(port.id);
            let kept = lives.and_then(|port| next.io(port.id));
            if let Some(closed) = io.filter(|io| kept.is_none_or(|kept| !Arc::ptr_eq(kept, io))) {
                let known = self.closed.entry(port.name.clone()).or_default();
                known.overflows += closed.overflows();
                known.replayed += closed.replayed();
            }
            if lives.is_some() {
                continue;
            }
            for (total, reason) in self.retired.iter_mut().zip(DropReason::ALL) {
                *total += port.all_counters().iter().map(|c| c.dropped(*reason)).sum::<u64>();
            }
            let known = self.closed.remove(&port.name).unwrap_or_default();
            self.retired[DropReason::ReceiveOverflow.index()] += known.overflows;
            self.replayed += known.replayed.rx_packets;
        }
    }

    /// What the kernel threw away of a port's frames, at this end and at earlier ones.
    fn overflows(&self, port: &str, io: Option<&Arc<PortIo>>) -> u64 {
        self.closed.get(port).map_or(0, |known| known.overflows) + io.map_or(0, |io| io.overflows())
    }

    /// What has gone by the fast path, at a port's end and at earlier ones.
    fn replayed(&self, port: &str, io: Option<&Arc<PortIo>>) -> Totals {
        let mut totals = self.closed.get(port).map_or_else(Totals::default, |known| known.replayed);
        totals += io.map_or_else(Totals::default, |io| io.replayed());
        totals
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for worker in &mut self.workers {
            worker.wake.wake();
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has aborted the process, so there is nothing to hear.
                let _ = thread.join();
            }
        }
    }
}

/// A worker that is gone would silently hold up a part of the traffic; a daemon that is gone is
/// started again and adopts its devices.
fn abort_on_panic(work: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
        tracing::error!("a worker panicked: the daemon ends, to be started again");
        std::process::abort();
    }
}
