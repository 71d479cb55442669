//! etcd keeps what the cluster shares, for hosts of containers without Kubernetes: nodes, pools, blocks, and what users
//! declared. The keys are those of [`key`], which are documented in docs/etcd.md.
//!
//! One task has it all: it connects to the first endpoint that answers, lists, watches, and writes what this node says.
//! When the connection is lost it goes on with the next endpoint, and lists again: no number of etcd's says for sure that
//! its history is still the one that was heard, because a backup that was put back counts on from an older one. A node's
//! lease only says whether it is alive; what it told stays until it is forgotten.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use self::api::etcdserverpb::WatchResponse;
use self::client::{Connection, Endpoints};
use self::key::{Key, Keys};
use self::life::Life;
use self::mirror::Mirror;
use self::transaction::Claim;
use super::{Event, Line, NodeRecord, OwnNode, Told};
use crate::cache::Cache;
use crate::config::{Config, EtcdConfig};
use crate::error::{Error, Result, chain};

mod address;
mod api;
mod client;
mod key;
mod life;
mod login;
mod mirror;
mod tls;
mod transaction;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After a claim that failed.
const CLAIM_PAUSE: Duration = Duration::from_secs(5);
/// So much longer than a lease lasts do nodes stay that etcd does not know any more: they may only not have told it again
/// yet, because they try to connect every [`LONGEST_PAUSE`].
const HOLD: Duration = Duration::from_secs(30);
/// So long after a list is a record held back that was said before it: what was listed may make it another one.
const SETTLE: Duration = Duration::from_secs(3);
/// How often this node's own addresses are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Starts to listen, and to write what this node says. The task runs until the events' receiver is dropped.
///
/// Errors: a state folder that cannot be made, an endpoint that cannot be understood. That etcd does not answer is none.
pub fn start(config: &Config) -> Result<Line> {
    let (sender, events) = mpsc::channel(1024);
    let (told, tellings) = watch::channel(Told::default());
    let keys = Keys::new(&config.etcd.prefix);
    let known = Cache::open(&config.state_dir)?.load();
    let keeper = Keeper {
        name: config.node_name.clone(),
        addresses: config.addresses.node.clone(),
        endpoints: Endpoints::new(&config.etcd)?,
        config: config.etcd.clone(),
        mirror: Mirror::remembering(keys.clone(), &config.node_name, &known),
        keys,
        sender,
        tellings,
        lease: None,
        written: Written::default(),
        claim_at: Instant::now(),
        give_up_at: Instant::now(),
        record_at: Instant::now(),
        own: Vec::new(),
        instance: life::instance(),
        reached: false,
        warned: None,
    };
    tokio::spawn(keeper.run());
    Ok(Line { events, told })
}

/// Forgets a node that is gone for good.
pub async fn forget(config: &Config, node: &str) -> Result<()> {
    let connection = Endpoints::new(&config.etcd)?.connect().await?;
    transaction::forget(&connection, &Keys::new(&config.etcd.prefix), node).await
}

/// The pool that is declared for a prefix of `etcd.pools`. Errors: what is wrong with it.
pub fn check_pool(cidr: IpNet) -> std::result::Result<(), String> {
    let (name, value) = transaction::first_pool(cidr);
    mirror::parse_pool(&name, &value).map(drop)
}

struct Keeper {
    name: String,
    /// Addresses of the configuration.
    addresses: Vec<IpAddr>,
    config: EtcdConfig,
    endpoints: Endpoints,
    keys: Keys,
    sender: mpsc::Sender<Event>,
    tellings: watch::Receiver<Told>,
    mirror: Mirror,
    lease: Option<i64>,
    written: Written,
    /// When a claim may be tried.
    claim_at: Instant,
    /// When nodes are given up that etcd does not know any more.
    give_up_at: Instant,
    /// When a record may be written that was said before the last list.
    record_at: Instant,
    /// The own addresses that were told last.
    own: Vec<IpAddr>,
    /// Which network stack this is.
    instance: String,
    reached: bool,
    /// What is in the log of why etcd does not answer.
    warned: Option<String>,
}

/// What was written on this connection, and whose change was not heard yet.
#[derive(Debug, Default)]
struct Written {
    record: Option<NodeRecord>,
    /// And when.
    life: Option<(Life, Instant)>,
}

/// Whether to say this now, when that was said then. The next look comes soon enough for what is to be said later.
fn is_due(life: &Life, said: &Life, at: Instant) -> bool {
    life != said && (!life.differs_in_details(said) || at.elapsed() >= life::APART)
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let closed = self.sender.clone();
        loop {
            self.look().await;
            let error = tokio::select! {
                served = self.serve() => match served {
                    Ok(()) => return,
                    Err(error) => error,
                },
                () = closed.closed() => return,
            };
            if std::mem::replace(&mut self.reached, false) {
                pause = FIRST_PAUSE;
            }
            self.unreached(&error).await;
            tokio::select! {
                () = sleep(pause) => {}
                () = closed.closed() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection's life. Ends well only when nobody wants to hear any more.
    async fn serve(&mut self) -> Result<()> {
        let connection = self.endpoints.connect().await?;
        self.written = Written::default();
        self.lease = Some(connection.renew(self.lease, self.config.lease_seconds.into()).await?);
        // Before anything is heard: where another host has this name, all that is there is of that one.
        self.announce(&connection).await?;
        if transaction::declare_pools(&connection, &self.keys, &self.config.pools).await? {
            tracing::info!(pools = ?self.config.pools, "there were no pools: declared those of etcd.pools");
        }
        let revision = self.list(&connection).await?;
        let mut changes = connection.watch(self.keys.all(), revision + 1).await?;
        self.answers(connection.endpoint()).await;
        let mut beat = interval(Duration::from_secs(self.config.lease_seconds.into()) / 3);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.write(&connection).await?;
            let claims = self.open_claims();
            tokio::select! {
                response = changes.next() => self.hear(&response?).await?,
                _ = beat.tick() => self.beat(&connection).await?,
                _ = look.tick() => self.look().await,
                changed = self.tellings.changed() => match changed {
                    Ok(()) => (self.claim_at, self.record_at) = (Instant::now(), Instant::now()),
                    Err(_) => return Ok(()),
                },
                () = sleep_until(self.record_at), if Instant::now() < self.record_at => {}
                () = sleep_until(self.give_up_at), if self.mirror.missing().next().is_some() => self.give_up().await,
                () = sleep_until(self.claim_at), if !claims.is_empty() => self.claim(&connection, claims).await?,
            }
        }
    }

    /// Hears all that there is. Gives the revision that it is of.
    async fn list(&mut self, connection: &Connection) -> Result<i64> {
        let (pairs, revision) = connection.list(self.keys.all()).await?;
        let held = self.mirror.missing().next().is_some();
        let events = self.mirror.replace(&pairs);
        let missing: Vec<&str> = self.mirror.missing().map(|node| node.name.as_str()).collect();
        if !held && !missing.is_empty() {
            let hold = HOLD + Duration::from_secs(self.config.lease_seconds.into());
            self.give_up_at = Instant::now() + hold;
            let seconds = hold.as_secs();
            tracing::warn!(
                nodes = ?missing, seconds,
                "etcd does not know nodes any more: they stay so long, to tell it again"
            );
        }
        self.claim_at = Instant::now();
        self.record_at = Instant::now() + SETTLE;
        self.tellings.mark_unchanged();
        self.tell(events).await;
        Ok(revision)
    }

    async fn give_up(&mut self) {
        let gone: Vec<&str> = self.mirror.missing().map(|node| node.name.as_str()).collect();
        tracing::warn!(nodes = ?gone, "nodes that etcd does not know any more are gone");
        let events = self.mirror.give_up();
        self.tell(events).await;
    }

    async fn hear(&mut self, response: &WatchResponse) -> Result<()> {
        if response.canceled {
            // What was missed is no longer there to be heard: all is listed again.
            let why = &response.cancel_reason;
            return Err(Error::Etcd(format!(
                "it ended the watch (compacted to {}): {why}",
                response.compact_revision
            )));
        }
        let events = self.mirror.change(&response.events);
        let of_us = |event: &Event| match event {
            Event::Node(record) => record.name == self.name,
            Event::NodeGone(name) => *name == self.name,
            _ => false,
        };
        if events.iter().any(of_us) {
            self.written.record = None;
        }
        if !self.mirror.hears(&self.name) && events.iter().any(|event| matches!(event, Event::Silent(_))) {
            self.written.life = None;
        }
        self.tell(events).await;
        Ok(())
    }

    async fn beat(&mut self, connection: &Connection) -> Result<()> {
        let lease = connection.renew(self.lease, self.config.lease_seconds.into()).await?;
        if self.lease.replace(lease) != Some(lease) {
            self.written.life = None;
        }
        Ok(())
    }

    /// Says that this node is alive, and how it is.
    async fn announce(&mut self, connection: &Connection) -> Result<()> {
        let life = Life::of(&self.tellings.borrow(), &self.own, &self.instance);
        if self.written.life.as_ref().is_none_or(|(said, at)| is_due(&life, said, *at)) {
            let lease = self.lease.unwrap_or(0);
            transaction::announce(connection, &self.keys, &self.name, &life, lease).await?;
            self.written.life = Some((life, Instant::now()));
        }
        Ok(())
    }

    /// Writes what etcd does not have yet of what this node says.
    async fn write(&mut self, connection: &Connection) -> Result<()> {
        self.announce(connection).await?;
        let Some(record) = self.tellings.borrow().record.clone() else { return Ok(()) };
        if Instant::now() < self.record_at {
            return Ok(());
        }
        if self.mirror.record(&self.name) == Some(&record) || self.written.record.as_ref() == Some(&record) {
            return Ok(());
        }
        // A record is names, addresses and numbers: this cannot fail.
        let value = serde_json::to_vec(&record).unwrap_or_default();
        connection.put(self.keys.text(&Key::Node(self.name.clone())), value, 0).await?;
        tracing::info!(node = self.name, "told the cluster how this node is reached");
        self.written.record = Some(record);
        Ok(())
    }

    /// Pools of which a block is wanted, and none is had.
    fn open_claims(&self) -> BTreeSet<String> {
        let told = self.tellings.borrow();
        let wanted = told.claims.iter().filter(|pool| !self.mirror.has_block(pool)).cloned();
        wanted.chain(self.mirror.lost()).collect()
    }

    async fn claim(&mut self, connection: &Connection, pools: BTreeSet<String>) -> Result<()> {
        // What was taken is heard of soon; what was refused is tried again later.
        self.claim_at = Instant::now() + CLAIM_PAUSE;
        let others = self.mirror.missing().filter(|node| node.name != self.name);
        let spared: Vec<IpNet> = others.flat_map(|node| node.pods.clone()).collect();
        for pool in pools {
            let had = self.mirror.had(&pool);
            let claim = Claim { connection, keys: &self.keys, node: &self.name, had, spared: &spared };
            match claim.take(&pool).await {
                Ok(Some(block)) => tracing::info!(pool, %block, "claimed a block for this node"),
                Ok(None) => {}
                Err(error @ Error::Etcd(_)) => return Err(error),
                Err(error) => tracing::warn!("{}", chain(&error)),
            }
        }
        Ok(())
    }

    /// Looks at this node's own addresses, which nobody tells.
    async fn look(&mut self) {
        let mut found = self.addresses.clone();
        if found.is_empty() {
            found = address::own(&self.config.endpoints).await;
        }
        // A route that is away for a moment takes no address from the node.
        if found.is_empty() || found == self.own {
            return;
        }
        self.own.clone_from(&found);
        self.tell(vec![Event::Own(OwnNode { addresses: found, pods: Vec::new() })]).await;
    }

    async fn tell(&self, events: Vec<Event>) {
        for event in events {
            // Nobody wants to hear any more: the task ends soon.
            let _ = self.sender.send(event).await;
        }
    }

    async fn answers(&mut self, endpoint: &str) {
        tracing::info!(endpoint, "etcd answers");
        (self.reached, self.warned) = (true, None);
        self.tell(vec![Event::Reached(true)]).await;
    }

    async fn unreached(&mut self, error: &Error) {
        let text = chain(error);
        if self.warned.as_ref() == Some(&text) {
            tracing::debug!(error = text, "still");
            return;
        }
        match error {
            Error::Refused(_) => tracing::error!("{text}: this one stays out of the cluster"),
            _ => tracing::warn!(error = text, "etcd does not answer: what is known stays in force"),
        }
        if self.warned.replace(text).is_none() {
            self.tell(vec![Event::Reached(false)]).await;
        }
    }
}
