//! One pass: from news to a kernel that is as wished, a picture for the workers and a word on each object.
//!
//! Owns what is known of the kernel between passes, and the open ends of devices. Waiting for news, and
//! telling the store and the status board, are left to [`reconcile`](super).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_host::tap::Tap;
use weft_stack::config::{ConfigError, FabricSpec};

use super::agenda::News;
use super::card;
use super::error::{StepError, told};
use super::nat::{NodeNat, Wish};
use super::node_routes::NodeRoutes;
use super::observe::kernel::Kernel;
use super::observe::{Observed, Refusal};
use super::picture::{lives, picture};
use super::place::{is_uplink, is_veth};
use super::plan::{Plan, Subject, plan, standing};
use super::realize::{Done, realize};
use super::retry::Retries;
use super::scope::Scope;
use super::sockets::{Closing, Sockets};
use super::underlays::Underlays;
use super::{ReconcileOptions, ReconcilerReport};
use crate::dataplane::OpenEnds;
use crate::model::{Fabric, Kind, Name, Object, Objects, Port, differences};
use crate::status::Report;

mod look;
mod nat;
mod node_routes;
mod reach;
mod underlay;
mod verdict;

/// Gives the workers a picture; returns when all of them use it.
pub type Publish = Box<dyn FnMut(FabricSpec, OpenEnds) -> Result<(), ConfigError> + Send>;

/// How often a plan is made anew before the rest is left for later: a rename, then what the kernel forgot on
/// the way down, then what it removed along with an address.
const ROUNDS: usize = 4;
/// How often the paths of namespaces are looked at: the kernel does not tell when one is unmounted.
const PATHS: Duration = Duration::from_secs(1);
/// How long after the store failed everything is looked at again.
const SOON: Duration = Duration::from_secs(1);

/// What a pass has to say.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The store's revision that the pass was for.
    pub revision: u64,
    /// A word on each object that was looked at.
    pub reports: Vec<(Kind, Name, Report)>,
    /// Objects that were to be taken down and have nothing left in the kernel.
    pub gone: Vec<(Kind, Name)>,
}

/// What the reconciler knows and holds.
pub struct Reconciliation {
    kernel: Kernel,
    observed: Observed,
    fabric: Arc<Fabric>,
    sockets: Sockets,
    underlays: Underlays,
    nat: NodeNat,
    node_routes: NodeRoutes,
    retries: Retries,
    publish: Publish,
    /// The workers' picture is not that of `fabric` and `sockets`.
    unpublished: bool,
    /// The workers refused the last picture: the same one again would not help.
    refused: bool,
    /// Ports and namespaces that this process has made or taken over.
    known: HashSet<Subject>,
    /// What was last said of objects that cannot be made real, so that it is logged once.
    complaints: BTreeMap<Subject, Refusal>,
    tally: ReconcilerReport,
    queues: u32,
    resync: Duration,
    next_resync: Instant,
    next_paths: Instant,
}

/// What the rounds of a pass came to.
#[derive(Default)]
struct Settled {
    /// The last plan: its operations are what is still to be done.
    plan: Plan,
    failures: BTreeMap<Subject, Vec<StepError>>,
    taps: HashMap<Name, Tap>,
    refused_picture: Option<String>,
    published: bool,
    /// What is said of mappings or of routes of the node has changed: all Ports with some hear of it.
    retold: bool,
    /// Ports that are no more.
    forgotten: Vec<Name>,
    /// Ends on their way out; the pass is over when they are gone.
    closing: Closing,
}

impl Reconciliation {
    /// Nothing is known yet: the first pass looks at everything.
    pub fn new(kernel: Kernel, publish: Publish, options: &ReconcileOptions) -> Reconciliation {
        let now = Instant::now();
        Reconciliation {
            kernel,
            observed: Observed::default(),
            fabric: Arc::default(),
            sockets: Sockets::new(options.fast_path.clone()),
            underlays: Underlays::default(),
            nat: NodeNat::new(&options.instance),
            node_routes: NodeRoutes::default(),
            retries: Retries::new(options.retry_max),
            publish,
            unpublished: true,
            refused: false,
            known: HashSet::new(),
            complaints: BTreeMap::new(),
            tally: ReconcilerReport::default(),
            queues: u32::try_from(options.workers).unwrap_or(u32::MAX).max(1),
            resync: options.resync,
            next_resync: now,
            next_paths: now,
        }
    }

    /// When the next pass is due without any news.
    pub fn next_pass(&self) -> Instant {
        let timers = [Some(self.next_resync), Some(self.next_paths), self.retries.next()];
        timers.into_iter().flatten().min().unwrap_or(self.next_resync)
    }

    /// The counters.
    pub fn tally(&self) -> &ReconcilerReport {
        &self.tally
    }

    /// Makes a pass look at everything in a moment: not at once, for what failed would fail again.
    pub fn look_again_soon(&mut self) {
        self.next_resync = self.next_resync.min(Instant::now() + SOON);
    }

    /// Makes the kernel follow `fabric`, as far as the news, the clock and its own changes call for.
    pub fn pass(&mut self, fabric: Arc<Fabric>, news: &News, now: Instant) -> Outcome {
        let scope = self.scope(&fabric, news, now);
        if !same_picture(&self.fabric, &fabric) {
            self.unpublished = true;
            self.nat.want(Wish::of(&fabric));
            self.node_routes.want(&fabric);
        }
        let before = std::mem::replace(&mut self.fabric, fabric);
        let mut settled = Settled::default();
        self.open_underlays(&mut settled, now);
        settled.forgotten = self.forget(&before);
        self.drop_lost(news, &mut settled);
        let left_open = settled.forgotten.iter().any(|name| self.sockets.get(name).is_some());
        if !scope.is_empty() || left_open {
            self.tally.passes += 1;
            self.look(&scope);
            self.settle(&scope, &mut settled);
            self.open_ends(&scope, &mut settled);
        }
        self.translate(&scope, news, &mut settled, now);
        self.route_node(news, &mut settled, now);
        self.unpublished |= self.sockets.forget_paused();
        self.show(&mut settled);
        self.close_underlays();
        self.count_failures(&settled);
        self.verdict(&scope, settled, now)
    }

    /// Closes all ends, several at a time, and returns when they are closed: who leaves that to the end of the process
    /// has a thousand packet sockets close one by one, for twelve seconds. Devices stay.
    pub fn close(&mut self) {
        let ends = self.sockets.take_all();
        if let Err(error) = (self.publish)(FabricSpec::default(), OpenEnds::default()) {
            // Their ends close one by one then, when the workers end.
            tracing::error!("the workers keep their picture: {}", told(&error));
        }
        Closing::default().start(ends);
    }

    /// Plans and carries out until nothing is left to do that could be done.
    fn settle(&mut self, scope: &Scope, settled: &mut Settled) {
        for _ in 0..ROUNDS {
            settled.plan = plan(&self.observed, &self.fabric, scope);
            self.close_ends(scope, settled);
            let mut next = settled.plan.clone();
            next.operations.retain(|operation| !settled.failures.contains_key(&operation.subject));
            if next.operations.is_empty() {
                return;
            }
            for port in next.uprooted() {
                settled.taps.remove(port);
            }
            let fabric = Arc::clone(&self.fabric);
            let done = realize(&mut self.kernel, &fabric, &next, self.queues);
            self.count(&done);
            self.look_again(&done);
            settled.taps.extend(done.taps);
            for (subject, errors) in done.failures {
                settled.failures.entry(subject).or_default().extend(errors);
            }
        }
        settled.plan = plan(&self.observed, &self.fabric, scope);
    }

    /// Closes what no longer is the end of a wished device, after the workers have let go of it.
    fn close_ends(&mut self, scope: &Scope, settled: &mut Settled) {
        let uprooted: BTreeSet<_> = settled.plan.uprooted().collect();
        let is_stale = |name: &&Name| match self.fabric.ports.get(*name).filter(|port| lives(port)) {
            None => true,
            Some(port) if scope.ports.contains(*name) => {
                let refused = settled.plan.refusals.contains_key(&Subject::Port((*name).clone()));
                refused || uprooted.contains(name) || !self.is_open(name, &port.spec)
            }
            Some(_) => false,
        };
        let looked_at = scope.ports.iter().chain(&settled.forgotten);
        let open = looked_at.filter(|name| self.sockets.get(name).is_some());
        let stale: Vec<Name> = open.filter(is_stale).cloned().collect();
        if stale.is_empty() {
            return;
        }
        let returns = |name: &Name| {
            let refused = settled.plan.refusals.contains_key(&Subject::Port(name.clone()));
            !refused && self.fabric.ports.get(name).is_some_and(|port| lives(port))
        };
        let (returning, leaving): (Vec<_>, Vec<_>) = stale.iter().partition(|name| returns(name));
        let paused = returning.into_iter().filter_map(|name| self.sockets.pause(name)).collect();
        let taken = leaving.into_iter().filter_map(|name| self.sockets.take(name)).collect();
        self.unpublished = true;
        self.show(settled);
        settled.closing.start(paused);
        Closing::default().start(taken).leave();
    }

    /// Whether the Port's device stands and its end is open.
    fn is_open(&self, name: &Name, port: &Port) -> bool {
        let queues = self.queues_of(port);
        standing(&self.observed, name, port).is_some_and(|found| self.sockets.fits(name, &found, queues))
    }

    /// How many receive queues the Port has.
    fn queues_of(&self, port: &Port) -> u32 {
        port.queues.unwrap_or(if is_veth(port) || is_uplink(port) { 1 } else { self.queues })
    }

    /// Opens the ends of devices that stand.
    fn open_ends(&mut self, scope: &Scope, settled: &mut Settled) {
        let fabric = Arc::clone(&self.fabric);
        for name in &scope.ports {
            let Some(port) = fabric.ports.get(name).filter(|port| lives(port)) else { continue };
            let subject = Subject::Port(name.clone());
            if let Some(found) = standing(&self.observed, name, &port.spec) {
                self.unpublished |= self.sockets.limit(name, &found);
            }
            if self.sockets.get(name).is_some() || settled.plan.refusals.contains_key(&subject) {
                continue;
            }
            let Some(found) = standing(&self.observed, name, &port.spec) else { continue };
            let queues = self.queues_of(&port.spec);
            let made = settled.taps.remove(name);
            let result =
                self.sockets.open(&mut self.kernel, &fabric, (name, &port.spec), &found, made, queues);
            match result {
                Ok(()) => self.opened(subject),
                Err(error) => {
                    tracing::warn!(object = %subject, "{}; it is tried again", told(&error));
                    settled.failures.entry(subject).or_default().push(error);
                }
            }
        }
        self.part_cards(scope);
    }

    /// Uplinks that share a card hear what is theirs alone, also those that were open before.
    fn part_cards(&mut self, scope: &Scope) {
        let fabric = Arc::clone(&self.fabric);
        for name in &scope.ports {
            let Some(port) = fabric.ports.get(name).filter(|port| lives(port) && is_uplink(&port.spec))
            else {
                continue;
            };
            self.sockets.admit(name, card::heard(&fabric, name, &port.spec));
        }
    }

    fn opened(&mut self, subject: Subject) {
        self.unpublished = true;
        if !self.known.contains(&subject) {
            tracing::info!(object = %subject, "device adopted");
            self.tally.devices_adopted += 1;
            self.known.insert(subject);
        }
    }

    /// Gives the workers the present picture, when theirs is older.
    fn show(&mut self, settled: &mut Settled) {
        if !self.unpublished {
            return;
        }
        settled.published = true;
        self.unpublished = false;
        let ends = OpenEnds { ports: self.sockets.shared(), underlays: self.underlays.shared() };
        let answer = (self.publish)(picture(&self.fabric, &self.sockets), ends);
        self.refused = answer.is_err();
        settled.refused_picture = answer.err().map(|error| told(&error));
        if let Some(error) = &settled.refused_picture {
            tracing::error!("the workers keep their old picture: {error}");
        }
    }

    /// Closes the ends that workers could not use any more.
    fn drop_lost(&mut self, news: &News, settled: &mut Settled) {
        let lost: Vec<_> = news.lost.iter().filter_map(|name| Name::new(name).ok()).collect();
        let closed: Vec<_> = lost.iter().filter_map(|name| self.sockets.pause(name)).collect();
        if !closed.is_empty() {
            self.unpublished = true;
            self.show(settled);
            settled.closing.start(closed);
        }
    }

    fn count(&mut self, done: &Done) {
        for subject in &done.made {
            self.known.insert(subject.clone());
            match subject {
                Subject::Port(_) => self.tally.devices_created += 1,
                Subject::Namespace(_) | Subject::Ports => self.tally.namespaces_created += 1,
                Subject::Underlay(_) | Subject::Nat | Subject::NodeRoutes => {}
            }
        }
        let removed: BTreeSet<_> = done.removed.iter().collect();
        for subject in removed {
            match subject {
                Subject::Port(_) => self.tally.devices_removed += 1,
                Subject::Namespace(_) | Subject::Ports => self.tally.namespaces_removed += 1,
                Subject::Underlay(_) | Subject::Nat | Subject::NodeRoutes => {}
            }
            if !done.made.contains(subject) {
                self.known.remove(subject);
            }
        }
    }

    fn count_failures(&mut self, settled: &Settled) {
        let steps = settled.failures.iter().flat_map(|(subject, errors)| {
            errors.iter().map(move |error| format!("{subject}: {}", told(error)))
        });
        let errors: Vec<_> = steps.chain(settled.refused_picture.clone()).collect();
        self.tally.failures += u64::from(!errors.is_empty());
        self.tally.last_error = errors.join("; ");
    }
}

/// Whether both make the same picture for the workers: tombstones are not in it.
fn same_picture(one: &Fabric, other: &Fabric) -> bool {
    same_living(&one.ports, &other.ports)
        && same_living(&one.networks, &other.networks)
        && same_living(&one.routers, &other.routers)
        && same_living(&one.tunnels, &other.tunnels)
        && one.keys == other.keys
}

fn same_living<T: PartialEq>(one: &Objects<T>, other: &Objects<T>) -> bool {
    differences(one, other).all(|it| {
        let living = |object: Option<&'_ Object<T>>| object.is_some_and(lives);
        match (living(it.old), living(it.new)) {
            (true, true) => it.old.map(|old| &old.spec) == it.new.map(|new| &new.spec),
            (was, is) => was == is,
        }
    })
}
