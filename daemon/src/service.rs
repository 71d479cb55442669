//! The daemon's life: what is started and stopped, in which order.
//!
//! Stopping leaves devices and namespaces where they are; the next daemon adopts them.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use weft_host::fastpath::FastPath;
use weft_proto::detach_queue::DetachQueue;

use crate::api::{Api, Node, Realizer};
use crate::collector::Collector;
use crate::config::Config;
use crate::dataplane::{Dataplane, WorkerOptions};
use crate::error::{Error, Result};
use crate::reconcile::{Folders, ReconcileOptions, Reconciler, told};
use crate::status::StatusBoard;
use crate::store::Store;

/// Threads of the API: it waits most of the time.
const API_THREADS: usize = 2;

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(config: &Config) -> Result<()> {
    let started = SystemTime::now();
    if let Err(error) = weft_host::limits::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is: raise it for more than a few hundred ports");
    }
    let store = Arc::new(Store::open(&config.state_dir, &config.run_dir)?);
    if let Err(error) = weft_host::netns::share_folder(&config.netns_dir) {
        tracing::warn!("{error}; namespaces are named there all the same");
    }
    let status = Arc::new(StatusBoard::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let stop = runtime.block_on(async { StopSignals::new() })?;
    let workers = worker_count(config);
    // First of all that others can see: a second daemon must not touch anything before it finds this one.
    let api = Api::bind(&config.socket)?;
    let boot_id = boot_id();
    let collector = Arc::new(collector(config, &store, &boot_id));
    collector.catch_up();
    let (dataplane, reconciler) = start_forwarding(config, workers, &store, &status)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        socket = %config.socket.display(),
        workers,
        revision = store.revision(),
        "weftd is up"
    );
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let (close, closing) = watch::channel(false);
    let realizer: Arc<dyn Realizer> = Arc::clone(&reconciler) as _;
    let node = Node {
        store,
        status,
        dataplane: Arc::clone(&dataplane),
        realizer,
        boot_id,
        folders: folders(config),
        started,
        closing,
    };
    let served = runtime.block_on(async {
        tokio::spawn(async move {
            stop.received().await;
            notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
            close.send_replace(true);
        });
        tokio::spawn(collect(collector, Arc::clone(&node.realizer)));
        api.serve(node).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    reconciler.stop();
    drop(reconciler);
    drop(dataplane);
    tracing::info!("weftd has stopped; devices and namespaces stay");
    served
}

/// The workers and the reconciler, which tell each other of devices.
fn start_forwarding(
    config: &Config,
    workers: usize,
    store: &Arc<Store>,
    status: &Arc<StatusBoard>,
) -> Result<(Arc<Dataplane>, Arc<Reconciler>)> {
    let asked: Arc<OnceLock<Weak<Reconciler>>> = Arc::default();
    let teller = Arc::clone(&asked);
    let lost = move |port: &str| {
        if let Some(reconciler) = teller.get().and_then(Weak::upgrade) {
            reconciler.port_lost(port);
        }
    };
    let fast_path = if config.fast_path { load_fast_path() } else { None };
    let options = WorkerOptions { workers, busy_poll_us: config.busy_poll_us, fast_path: fast_path.clone() };
    let dataplane = Arc::new(Dataplane::start(&options, lost).map_err(Error::Workers)?);
    let options = ReconcileOptions {
        run_dir: config.run_dir.clone(),
        netns_dir: config.netns_dir.clone(),
        workers,
        instance: store.instance().to_owned(),
        debounce: Duration::from_millis(config.reconcile.debounce_ms.into()),
        resync: Duration::from_secs(config.reconcile.resync_seconds.into()),
        retry_max: Duration::from_secs(config.reconcile.retry_max_seconds.into()),
        fast_path,
    };
    let reconciler =
        Reconciler::start(Arc::clone(store), Arc::clone(status), Arc::clone(&dataplane), options)
            .map_err(Error::Reconciler)?;
    let reconciler = Arc::new(reconciler);
    // It is set here only, so it cannot be set already.
    let _ = asked.set(Arc::downgrade(&reconciler));
    Ok((dataplane, reconciler))
}

/// Without it the workers do all by themselves: slower, not wrong.
fn load_fast_path() -> Option<Arc<FastPath>> {
    match FastPath::load() {
        Ok(fast_path) => Some(Arc::new(fast_path)),
        Err(error) => {
            tracing::warn!(
                "there is no fast path between veth Ports, which needs Linux 5.11, CAP_BPF and CAP_NET_ADMIN (set fast_path = false to do without): {}",
                told(&error)
            );
            None
        }
    }
}

fn folders(config: &Config) -> Folders {
    Folders { netns: config.netns_dir.clone(), run: config.run_dir.clone() }
}

fn collector(config: &Config, store: &Arc<Store>, boot_id: &str) -> Collector {
    let queue = DetachQueue::new(&config.endpoints.detach_queue);
    let grace = Duration::from_secs(config.endpoints.collect_seconds.into());
    Collector::new(Arc::clone(store), queue, boot_id.to_owned(), folders(config), grace)
}

/// Looks for attachments whose containers are gone, now and then.
async fn collect(collector: Arc<Collector>, realizer: Arc<dyn Realizer>) {
    let mut turns = tokio::time::interval(collector.interval());
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let collector = Arc::clone(&collector);
        let changed = tokio::task::spawn_blocking(move || collector.round(Instant::now())).await;
        if changed.unwrap_or(false) {
            realizer.wake();
        }
    }
}

/// Names this boot of the node; empty where the kernel does not tell.
fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => text.trim().to_owned(),
        Err(error) => {
            tracing::warn!(%error, "the kernel does not tell which boot this is: what containers of an earlier one had is found by their namespaces");
            String::new()
        }
    }
}

fn worker_count(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers as usize,
    }
}

/// SIGTERM and SIGINT, caught from the moment this is made.
struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> Result<StopSignals> {
        let catch = |kind| signal(kind).map_err(Error::Runtime);
        Ok(StopSignals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    }
}

/// Tells systemd, if it asked to be told.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told of the daemon's state");
    }
}
