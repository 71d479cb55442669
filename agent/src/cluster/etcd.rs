//! etcd keeps what the cluster shares, for hosts of containers without Kubernetes: nodes, pools, blocks, and what users
//! declared. The keys are those of [`key`], which are documented in docs/etcd.md.
//!
//! One task has it all: it connects to the first endpoint that answers, lists, watches, and writes what this node says.
//! When the connection is lost it goes on with the next endpoint, from the revision that it had come to. A node's lease
//! only says whether it is alive; what it told stays until it is forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use self::api::etcdserverpb::{ResponseHeader, WatchResponse};
use self::client::{Connection, Endpoints};
use self::key::{Key, Keys};
use self::mirror::Mirror;
use self::transaction::Claim;
use super::{Event, Line, NodeRecord, OwnNode, Told, block};
use crate::config::{Config, EtcdConfig};
use crate::error::{Error, Result, chain};

mod address;
mod api;
mod client;
mod key;
mod mirror;
mod transaction;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After a claim that failed.
const CLAIM_PAUSE: Duration = Duration::from_secs(5);
/// How often this node's own addresses are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Starts to listen, and to write what this node says. The task runs until the events' receiver is dropped.
///
/// Errors: a file that cannot be read, an endpoint that cannot be understood. That etcd does not answer is none.
pub fn start(config: &Config) -> Result<Line> {
    let (sender, events) = mpsc::channel(1024);
    let (told, tellings) = watch::channel(Told::default());
    let keys = Keys::new(&config.etcd.prefix);
    let keeper = Keeper {
        name: config.node_name.clone(),
        addresses: config.addresses.node.clone(),
        endpoints: Endpoints::new(&config.etcd)?,
        config: config.etcd.clone(),
        mirror: Mirror::new(keys.clone()),
        keys,
        sender,
        tellings,
        position: None,
        lease: None,
        written: Written::default(),
        had: BTreeMap::new(),
        claim_at: Instant::now(),
        own: Vec::new(),
        reached: false,
        warned: false,
    };
    tokio::spawn(keeper.run());
    Ok(Line { events, told })
}

/// Forgets a node that is gone for good.
pub async fn forget(config: &Config, node: &str) -> Result<()> {
    let (connection, _) = Endpoints::new(&config.etcd)?.connect().await?;
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
    position: Option<Position>,
    lease: Option<i64>,
    written: Written,
    /// Blocks that this node had, by pool: should etcd have lost them, they are claimed again.
    had: BTreeMap<String, Vec<IpNet>>,
    /// When a claim may be tried.
    claim_at: Instant,
    /// The own addresses that were told last.
    own: Vec<IpAddr>,
    reached: bool,
    /// It is in the log that etcd does not answer.
    warned: bool,
}

/// How far the mirror has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    store: u64,
    revision: i64,
}

/// What was written on this connection, and whose change was not heard yet.
#[derive(Debug, Default)]
struct Written {
    record: Option<NodeRecord>,
    life: Option<Vec<u8>>,
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
        let (connection, header) = self.endpoints.connect().await?;
        self.written = Written::default();
        self.lease = Some(connection.renew(self.lease, self.config.lease_seconds.into()).await?);
        if transaction::declare_pools(&connection, &self.keys, &self.config.pools).await? {
            tracing::info!(pools = ?self.config.pools, "there were no pools: declared those of etcd.pools");
        }
        if !self.position.is_some_and(|position| position.holds(&header)) {
            self.list(&connection, &header).await?;
        }
        let next = self.position.map_or(0, |position| position.revision + 1);
        let mut changes = connection.watch(self.keys.all(), next).await?;
        self.answers(connection.endpoint()).await;
        let mut beat = interval(Duration::from_secs(self.config.lease_seconds.into()) / 3);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.write(&connection).await?;
            let told = self.tellings.borrow().clone();
            let claims = self.open_claims(&told);
            tokio::select! {
                response = changes.next() => self.hear(&response?).await?,
                _ = beat.tick() => self.beat(&connection).await?,
                _ = look.tick() => self.look().await,
                changed = self.tellings.changed() => match changed {
                    Ok(()) => self.claim_at = Instant::now(),
                    Err(_) => return Ok(()),
                },
                () = sleep_until(self.claim_at), if !claims.is_empty() => self.claim(&connection, claims).await?,
            }
        }
    }

    async fn list(&mut self, connection: &Connection, header: &ResponseHeader) -> Result<()> {
        let (pairs, revision) = connection.list(self.keys.all()).await?;
        let events = self.mirror.replace(&pairs);
        self.position = Some(Position { store: header.cluster_id, revision });
        self.note_blocks();
        self.tell(events).await;
        Ok(())
    }

    async fn hear(&mut self, response: &WatchResponse) -> Result<()> {
        if response.canceled {
            // What was missed is no longer there to be heard: list anew.
            self.position = None;
            let why = &response.cancel_reason;
            return Err(Error::Etcd(format!(
                "it ended the watch (compacted to {}): {why}",
                response.compact_revision
            )));
        }
        let last =
            response.events.iter().filter_map(|event| event.kv.as_ref()).map(|pair| pair.mod_revision).max();
        // Without changes it says how far everything was told; one that has just begun says nothing of it.
        let idle = response.header.as_ref().filter(|_| !response.created).map(|header| header.revision);
        if let (Some(position), Some(revision)) = (&mut self.position, last.or(idle)) {
            position.revision = position.revision.max(revision);
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
        self.note_blocks();
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

    /// Writes what etcd does not have yet of what this node says.
    async fn write(&mut self, connection: &Connection) -> Result<()> {
        let told = self.tellings.borrow().clone();
        let life = life(&told);
        if self.written.life.as_ref() != Some(&life) {
            let key = self.keys.text(&Key::Alive(self.name.clone()));
            connection.put(key, life.clone(), self.lease.unwrap_or(0)).await?;
            self.written.life = Some(life);
        }
        let Some(record) = told.record else { return Ok(()) };
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
    fn open_claims(&self, told: &Told) -> Vec<String> {
        if told.claims.is_empty() {
            return Vec::new();
        }
        let pools = self.mirror.pools().into_iter();
        let open = pools
            .filter(|pool| told.claims.contains(&pool.name) && block::owned(pool, &self.name).is_empty());
        open.map(|pool| pool.name).collect()
    }

    async fn claim(&mut self, connection: &Connection, pools: Vec<String>) -> Result<()> {
        // What was taken is heard of soon; what was refused is tried again later.
        self.claim_at = Instant::now() + CLAIM_PAUSE;
        for pool in pools {
            let had = self.had.get(&pool).map_or(&[][..], Vec::as_slice);
            let claim = Claim { connection, keys: &self.keys, node: &self.name, had };
            match claim.take(&pool).await {
                Ok(Some(block)) => tracing::info!(pool, %block, "claimed a block for this node"),
                Ok(None) => {}
                Err(error @ Error::Etcd(_)) => return Err(error),
                Err(error) => tracing::warn!("{}", chain(&error)),
            }
        }
        Ok(())
    }

    fn note_blocks(&mut self) {
        for pool in self.mirror.pools() {
            let owned = block::owned(&pool, &self.name);
            if !owned.is_empty() {
                self.had.insert(pool.name, owned);
            }
        }
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
        let mut events = vec![Event::Own(OwnNode { addresses: found, pods: Vec::new() })];
        if !self.reached {
            events.push(Event::Reached(false));
        }
        self.tell(events).await;
    }

    async fn tell(&self, events: Vec<Event>) {
        for event in events {
            // Nobody wants to hear any more: the task ends soon.
            let _ = self.sender.send(event).await;
        }
    }

    async fn answers(&mut self, endpoint: &str) {
        tracing::info!(endpoint, "etcd answers");
        (self.reached, self.warned) = (true, false);
        self.tell(vec![Event::Reached(true)]).await;
    }

    async fn unreached(&mut self, error: &Error) {
        let error = chain(error);
        if std::mem::replace(&mut self.warned, true) {
            tracing::debug!(error, "etcd does not answer");
        } else {
            tracing::warn!(error, "etcd does not answer: what is known stays in force");
            self.tell(vec![Event::Reached(false)]).await;
        }
    }
}

impl Position {
    /// Whether it is one in the store that said this, and not one in another or before a backup was put back.
    fn holds(&self, header: &ResponseHeader) -> bool {
        self.store == header.cluster_id && self.revision <= header.revision
    }
}

/// What this node says of itself as long as it lives.
fn life(told: &Told) -> Vec<u8> {
    let ready = told.ready.as_ref();
    let refused: BTreeMap<&String, &String> =
        told.results.iter().filter(|(_, (_, it))| !it.ready).map(|(id, (_, it))| (id, &it.message)).collect();
    let life = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": ready.is_some_and(|it| it.ready),
        "reason": ready.map_or("Starting", |it| it.reason),
        "message": ready.map_or("", |it| it.message.as_str()),
        "unreached": told.unreached,
        "refused": refused,
    });
    life.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_good_in_its_own_store_only_and_not_after_its_end() {
        let position = Position { store: 7, revision: 10 };
        let header = |cluster_id, revision| ResponseHeader { cluster_id, revision, ..Default::default() };
        assert!(position.holds(&header(7, 10)) && position.holds(&header(7, 11)));
        assert!(!position.holds(&header(7, 9)), "a backup was put back");
        assert!(!position.holds(&header(8, 11)), "another store");
    }
}
