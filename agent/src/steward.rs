//! The agent's one loop: it takes in what is heard, works out what the daemon shall have, and tells the daemon and
//! the cluster.
//!
//! Whatever happens only marks that there is something to do. One round does all of it at once, and the next one
//! waits for a multiple of the time that the daemon took: a thousand nodes that join cost some rounds and not a
//! thousand, and one that changes its key is followed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use weft_proto::Client;
use weft_proto::v1;

use crate::cache::Cache;
use crate::cluster::{Event, Line, NodeRecord, OwnNode, Readiness, Told, View, block};
use crate::cni::Conflist;
use crate::config::{AddressSource, Config, Mode};
use crate::daemon::{Heard, Keys};
use crate::declared;
use crate::error::{Error, Result, chain};
use crate::http::Command;
use crate::mesh::{self, MESH, OWNER_LABEL, Own, Settings, Wish};
use crate::program::Program;
use crate::rotation::Rotation;
use crate::status::{Peer, Status};
use crate::underlay;

/// The shortest time between two rounds.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// A round that took the daemon so long is followed by a pause of as many times that.
const PAUSE_FACTOR: u32 = 4;
/// The longest one: a daemon that was slow once is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After an error.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How often things are looked at that nobody tells of: the underlay's MTU, the configuration of runtimes.
const LOOK: Duration = Duration::from_secs(10);
/// How often what was heard is put on disk, at most.
const SAVE: Duration = Duration::from_secs(5);

/// What the agent works with.
#[derive(Debug)]
pub struct Steward {
    config: Config,
    settings: Settings,
    view: View,
    cache: Cache,
    conflist: Option<Conflist>,
    mesh: Program,
    declared: Program,
    rotation: Rotation,
    /// The mesh's keys, once the daemon has told them.
    keys: Option<Keys>,
    underlay_mtu: Option<u32>,
    told: watch::Sender<Told>,
    status: watch::Sender<Status>,
    /// Nodes that were told of in the log as left out.
    warned: BTreeMap<String, String>,
    /// What was heard is not on disk yet.
    unsaved: bool,
    /// Something that users declared was refused, perhaps for a while only.
    again: bool,
}

/// Where news come from.
#[derive(Debug)]
pub struct News {
    /// The cluster.
    pub events: mpsc::Receiver<Event>,
    /// The daemon.
    pub daemon: mpsc::Receiver<Heard>,
    /// People.
    pub commands: mpsc::Receiver<Command>,
}

impl Steward {
    /// A steward that knows what was last heard of the cluster.
    pub fn new(
        config: Config,
        client: &Client,
        told: watch::Sender<Told>,
        status: watch::Sender<Status>,
    ) -> Result<Steward> {
        let cache = Cache::open(&config.state_dir)?;
        let view = cache.load();
        let owner = (OWNER_LABEL.0.to_owned(), OWNER_LABEL.1.to_owned());
        let part = (declared::PART_LABEL.0.to_owned(), declared::PART_LABEL.1.to_owned());
        let meshed = (part.0.clone(), mesh::PART.to_owned());
        Ok(Steward {
            settings: Settings::of(&config),
            conflist: Conflist::of(&config),
            mesh: Program::new(client.clone(), BTreeMap::from([owner.clone(), meshed])),
            declared: Program::new(client.clone(), BTreeMap::from([owner, part])),
            rotation: Rotation::load(&config.state_dir, &config.keys),
            config,
            view,
            cache,
            keys: None,
            underlay_mtu: None,
            told,
            status,
            warned: BTreeMap::new(),
            unsaved: false,
            again: false,
        })
    }

    /// Works until the cluster's events end.
    pub async fn run(mut self, mut news: News) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut save = interval(SAVE);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        loop {
            let at = due.map(|due| due.max(earliest));
            tokio::select! {
                event = news.events.recv() => match event {
                    None => break,
                    Some(event) => if self.take(event) { due.get_or_insert_with(Instant::now); }
                },
                Some(heard) = news.daemon.recv() => if self.hear(heard) {
                    due.get_or_insert_with(Instant::now);
                },
                Some(command) = news.commands.recv() => self.obey(command).await,
                _ = look.tick() => if self.look().await { due.get_or_insert_with(Instant::now); },
                _ = save.tick() => self.save(),
                () = sleep_until(at.unwrap_or_else(Instant::now).into()), if at.is_some() => {
                    due = None;
                    let pause = match self.round().await {
                        Ok(()) => (self.mesh.done().last * PAUSE_FACTOR).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
                        Err(error) => {
                            tracing::warn!("{}: trying again", chain(&error));
                            due = Some(Instant::now());
                            RETRY_PAUSE
                        }
                    };
                    earliest = Instant::now() + pause;
                }
            }
            self.status.send_modify(|status| status.alive = Instant::now());
        }
        self.save();
    }

    fn take(&mut self, event: Event) -> bool {
        self.status.send_modify(|status| {
            status.work.events += 1;
            status.cluster_answers = !matches!(event, Event::Reached(false));
            if let Event::Silent(nodes) = &event {
                status.silent.clone_from(nodes);
            }
        });
        let changed = self.view.take(event);
        self.unsaved |= changed;
        changed
    }

    fn hear(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::Up => {
                tracing::info!("weftd answers");
                self.status.send_modify(|status| {
                    status.daemon_answers = true;
                    status.begun = true;
                });
                self.mesh.forget();
                self.declared.forget();
                true
            }
            Heard::Keys(keys) => {
                let changed = self.keys.as_ref() != Some(&keys);
                self.rotation.note(&keys);
                self.keys = Some(keys);
                changed
            }
            Heard::Down(why) => {
                tracing::warn!(
                    why,
                    "weftd does not answer: what it was told last stays in force where it runs"
                );
                self.status.send_modify(|status| status.daemon_answers = false);
                false
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        let Command::RotateKey(answer) = command;
        let done = self.rotate(false).await;
        // Who asked may have gone.
        let _ = answer.send(done.map_err(|error| chain(&error)));
    }

    /// Introduces a new key, or with `finish` forgets those before it. Gives the public key.
    async fn rotate(&mut self, finish: bool) -> Result<String> {
        if self.settings.mode != Mode::Wireguard {
            return Err(Error::Refused("only a mesh over WireGuard has keys".into()));
        }
        let request = v1::RotateKeyRequest { name: MESH.into(), finish, ..Default::default() };
        let tunnel = self.mesh.client().tunnels.rotate_key(request).await?.into_inner().tunnel;
        let key = match tunnel.and_then(|tunnel| tunnel.kind) {
            Some(v1::resource::Kind::Tunnel(tunnel)) => tunnel.status.unwrap_or_default().public_key,
            _ => String::new(),
        };
        let what = if finish { "keys before it are forgotten" } else { "the node's key was changed" };
        tracing::info!(public_key = key, "{what}");
        Ok(key)
    }

    /// Looks at what nobody tells of.
    async fn look(&mut self) -> bool {
        if !self.is_heard() {
            // Nobody would learn of another key, and all go on by the one before.
        } else if self.rotation.is_due() && self.keys.is_some() && self.settings.mode == Mode::Wireguard {
            if let Err(error) = self.rotate(false).await {
                tracing::warn!("the node's key could not be changed: {}", chain(&error));
            }
        } else if self.rotation.is_over(self.keys.as_ref())
            && let Err(error) = self.rotate(true).await
        {
            tracing::warn!("earlier keys of the node could not be forgotten: {}", chain(&error));
        }
        let before = self.underlay_mtu;
        self.measure().await;
        let told = self.status.borrow().ready && self.write_conflist();
        told || self.again || self.underlay_mtu != before
    }

    /// Whether the cluster answers, and has what this node says of its key.
    fn is_heard(&self) -> bool {
        let own = self.view.nodes.get(&self.config.node_name);
        let said = own.zip(self.keys.as_ref()).is_some_and(|(own, keys)| own.public_key == keys.public);
        said && self.status.borrow().cluster_answers
    }

    async fn measure(&mut self) {
        let Some(address) = self.view.own.addresses.first() else { return };
        match underlay::mtu(*address).await {
            Ok(Some(mtu)) => self.underlay_mtu = Some(mtu),
            Ok(None) => tracing::debug!(%address, "no device of this node has its address"),
            Err(error) => tracing::debug!("{}", chain(&error)),
        }
    }

    /// Tells the daemon and the cluster what they shall know.
    async fn round(&mut self) -> Result<()> {
        if self.view.own == OwnNode::default() && !self.view.heard.own {
            return Ok(());
        }
        if self.view.nodes.is_empty() && !self.view.heard.nodes {
            // The daemon may know more than we do as yet.
            return Ok(());
        }
        if self.underlay_mtu.is_none() {
            self.measure().await;
        }
        let pods = self.pods();
        let claims = self.claims(&pods);
        let keys: Vec<String> = self.keys.iter().flat_map(Keys::all).collect();
        let own = Own {
            name: &self.config.node_name,
            addresses: &self.view.own.addresses,
            pods: &pods,
            underlay_mtu: self.underlay_mtu.unwrap_or(1500),
            keys: &keys,
        };
        let wish = match mesh::wish(&self.settings, &own, self.view.nodes.values()) {
            Ok(wish) => wish,
            Err(not_yet) => {
                self.say(
                    claims,
                    None,
                    BTreeMap::new(),
                    BTreeMap::new(),
                    Readiness { ready: false, reason: "Waiting", message: not_yet.to_string() },
                );
                return Ok(());
            }
        };
        self.warn_of(&wish);
        let complete = self.view.heard.own && self.view.heard.nodes;
        let realized = self.mesh.realize(&wish.resources, complete).await;
        if let Err(error) = &realized {
            let message = chain(error);
            self.status.send_modify(|status| {
                status.note(&Readiness { ready: false, reason: "NotRealized", message });
            });
        }
        realized?;
        // What users declared keeps nothing of the node's own from being said.
        let declared = self.realize_declared().await;
        if self.settings.mode == Mode::Wireguard
            && self.keys.as_ref().is_some_and(|keys| keys.public.is_empty())
        {
            // The daemon has lost its key: it waits to be given another one.
            self.rotate(false).await?;
        }
        let record = self.record(pods);
        let ready = match &record {
            Some(_) => Readiness {
                ready: true,
                reason: "Serving",
                message: "pods on this node have a network".into(),
            },
            None => Readiness {
                ready: false,
                reason: "NoKey",
                message: "weftd has not told the node's key yet".into(),
            },
        };
        if ready.ready {
            self.write_conflist();
        }
        let unreached = wish.refused.iter().map(|it| (it.node.clone(), it.why.clone())).collect();
        self.status.send_modify(|status| status.mtu = wish.mtu);
        let (results, failed) = match declared {
            Ok(results) => (results, None),
            Err(error) => (self.told.borrow().results.clone(), Some(error)),
        };
        self.say(claims, record, unreached, results, ready);
        failed.map_or(Ok(()), Err)
    }

    /// Prefixes of this node's pods.
    fn pods(&self) -> Vec<IpNet> {
        match self.config.addresses.source {
            AddressSource::Node => self.view.own.pods.clone(),
            AddressSource::Pools => {
                let pools = self.view.pools.values().filter(|pool| pool.network.is_empty());
                pools.flat_map(|pool| block::owned(pool, &self.config.node_name)).collect()
            }
        }
    }

    /// Pools that this node wants a block of: one of each family for its pods, and one of each that is for a Network.
    fn claims(&self, pods: &[IpNet]) -> BTreeSet<String> {
        let mut claims: BTreeSet<String> = declared::claims(&self.view, &self.config.node_name).collect();
        if self.config.addresses.source == AddressSource::Node {
            return claims;
        }
        for v4 in [true, false] {
            if pods.iter().any(|prefix| prefix.addr().is_ipv4() == v4) {
                continue;
            }
            let mut fitting = self.view.pools.values().filter(|pool| {
                pool.network.is_empty()
                    && pool.cidr.addr().is_ipv4() == v4
                    && block::block_count(pool) > pool.blocks.len() as u128
            });
            let any = || {
                let mut all = self.view.pools.values();
                all.find(|pool| pool.network.is_empty() && pool.cidr.addr().is_ipv4() == v4)
            };
            claims.extend(fitting.next().or_else(any).map(|pool| pool.name.clone()));
        }
        claims
    }

    /// How others reach this node; none before its key is known.
    fn record(&self, pods: Vec<IpNet>) -> Option<NodeRecord> {
        let keys = match self.settings.mode {
            Mode::Wireguard => self.keys.clone().filter(|keys| !keys.public.is_empty())?,
            Mode::Vxlan | Mode::Routes => Keys::default(),
        };
        Some(NodeRecord {
            name: self.config.node_name.clone(),
            addresses: self.view.own.addresses.clone(),
            pods,
            port: self.settings.port,
            public_key: keys.public,
            previous_public_keys: keys.previous,
        })
    }

    /// What users declared: each object that is wrong is told of, and keeps no other from working.
    async fn realize_declared(&mut self) -> Result<BTreeMap<String, (i64, Readiness)>> {
        let addresses: Vec<IpAddr> = self.view.own.addresses.clone();
        let wished = declared::wish(&self.view, &self.config.node_name, &addresses);
        let mut results = BTreeMap::new();
        let mut accepted: Vec<v1::Resource> = Vec::new();
        let fine = || Readiness {
            ready: true,
            reason: "Realized",
            message: "all nodes that said something have it".into(),
        };
        let wrong = |message| Readiness { ready: false, reason: "Refused", message };
        let known = self.declared.known().await?.clone();
        // What is refused now stays as it was: others may use it.
        let all: Vec<v1::Resource> = wished
            .iter()
            .flat_map(|(id, _, outcome)| match outcome {
                Ok(resources) => resources.clone(),
                Err(_) => declared::there(&known, id),
            })
            .collect();
        let whole = match self.declared.realize(&all, self.view.heard.all()).await {
            Err(error @ Error::DaemonAway(_)) => return Err(error),
            whole => whole,
        };
        for (id, generation, outcome) in wished {
            let readiness = match (outcome, &whole) {
                (Err(message), _) => {
                    accepted.extend(declared::there(&known, &id));
                    wrong(message)
                }
                (Ok(_), Ok(_)) => fine(),
                (Ok(resources), Err(_)) => {
                    let tried = [accepted.as_slice(), resources.as_slice()].concat();
                    match self.declared.realize(&tried, false).await {
                        Ok(_) => {
                            accepted = tried;
                            fine()
                        }
                        Err(error @ Error::DaemonAway(_)) => return Err(error),
                        Err(error) => {
                            accepted.extend(declared::there(&known, &id));
                            wrong(chain(&error))
                        }
                    }
                }
            };
            results.insert(id, (generation, readiness));
        }
        self.again = results.values().any(|(_, readiness)| !readiness.ready);
        if whole.is_err()
            && let Err(error) = self.declared.realize(&accepted, self.view.heard.all()).await
        {
            tracing::warn!("what is not declared any more is still there: {}", chain(&error));
            self.again = true;
        }
        Ok(results)
    }

    fn say(
        &mut self,
        claims: BTreeSet<String>,
        record: Option<NodeRecord>,
        unreached: BTreeMap<String, String>,
        results: BTreeMap<String, (i64, Readiness)>,
        ready: Readiness,
    ) {
        let peers = self.view.nodes.values().filter(|node| node.name != self.config.node_name).map(|node| {
            let refused = unreached.get(&node.name).cloned().unwrap_or_default();
            (node.name.clone(), Peer { addresses: node.addresses.clone(), pods: node.pods.clone(), refused })
        });
        let (mesh, declared) = (self.mesh.done(), self.declared.done());
        self.status.send_modify(|status| {
            if status.ready != ready.ready || status.reason != ready.reason {
                tracing::info!(ready = ready.ready, reason = ready.reason, "{}", ready.message);
            }
            status.note(&ready);
            status.record.clone_from(&record);
            status.nodes = peers.collect();
            status.work.rounds += 1;
            status.work.calls = mesh.calls + declared.calls;
            status.work.objects = mesh.objects + declared.objects;
        });
        let told = Told { record, ready: Some(ready), unreached, claims, results };
        self.told.send_if_modified(|known| {
            let changed = *known != told;
            *known = told;
            changed
        });
    }

    fn warn_of(&mut self, wish: &Wish) {
        let refused: BTreeMap<String, String> =
            wish.refused.iter().map(|it| (it.node.clone(), it.why.clone())).collect();
        for (node, why) in refused.iter().filter(|(node, why)| self.warned.get(*node) != Some(*why)) {
            tracing::warn!(node, "its pods are not reached: {why}");
        }
        self.warned = refused;
    }

    fn write_conflist(&self) -> bool {
        match self.conflist.as_ref().map(Conflist::write) {
            Some(Ok(changed)) => {
                if changed {
                    tracing::info!(folder = %self.config.cni.conf_dir.display(), "container runtimes are told to use Weft");
                }
                changed
            }
            Some(Err(error)) => {
                tracing::warn!("{}", chain(&error));
                false
            }
            None => false,
        }
    }

    fn save(&mut self) {
        if !self.unsaved {
            return;
        }
        match self.cache.save(&self.view) {
            Ok(()) => self.unsaved = false,
            Err(error) => tracing::warn!("{}", chain(&error)),
        }
    }
}

/// Starts everything, and works until told to stop.
pub async fn run(
    config: Config,
    line: Line,
    client: Client,
    status: watch::Sender<Status>,
    commands: mpsc::Receiver<Command>,
) -> Result<()> {
    let (sender, daemon) = mpsc::channel(64);
    tokio::spawn(crate::daemon::listen(client.clone(), sender));
    let steward = Steward::new(config, &client, line.told, status)?;
    steward.run(News { events: line.events, daemon, commands }).await;
    Ok(())
}
