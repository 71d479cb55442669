//! The agent's one loop: it takes in what is heard, works out what the daemon shall have, and tells the daemon and
//! the cluster.
//!
//! Whatever happens only marks that there is something to do. One round does all of it at once, and the next one
//! waits for a multiple of the time that the daemon took: a thousand nodes that join cost some rounds and not a
//! thousand, and one that changes its key is followed at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use weft_proto::Client;
use weft_proto::v1;

use crate::cache::Cache;
use crate::cluster::{Event, Told, View};
use crate::cni::Conflist;
use crate::config::{AddressSource, Config, Mode};
use crate::daemon::{Heard, Keys};
use crate::declared::Realizer;
use crate::error::{Error, Result, chain};
use crate::http::Command;
use crate::mesh::{MESH, Part, Settings};
use crate::program::{Noted, Program, in_time};
use crate::rotation::Rotation;
use crate::status::Status;
use crate::underlay;

mod round;

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
/// How long the cluster is waited for before what is on disk counts.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the daemon may be away, to be started anew, before the cluster is told.
const DAEMON_PATIENCE: Duration = Duration::from_secs(10);

/// What the agent works with.
#[derive(Debug)]
pub struct Steward {
    config: Config,
    settings: Settings,
    view: View,
    cache: Cache,
    conflist: Option<Conflist>,
    mesh: Program,
    declared: Realizer,
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
    started: Instant,
    /// The keeper has said that it does not answer.
    cluster_is_away: bool,
    /// Since when the daemon has not answered.
    daemon_away: Option<Instant>,
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
        Ok(Steward {
            settings: Settings::of(&config),
            conflist: Conflist::of(&config),
            mesh: Program::new(client.clone(), Part::Mesh.labels()),
            declared: Realizer::new(client.clone()),
            rotation: Rotation::load(&config.state_dir, &config.keys, &config.node_name),
            config,
            view,
            cache,
            keys: None,
            underlay_mtu: None,
            told,
            status,
            warned: BTreeMap::new(),
            unsaved: false,
            started: Instant::now(),
            cluster_is_away: false,
            daemon_away: None,
        })
    }

    /// Works until the cluster's events end or `stop` does, and puts on disk what was heard.
    pub async fn run(mut self, news: News, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = self.work(news) => {}
            () = stop => {}
        }
        self.save();
    }

    async fn work(&mut self, mut news: News) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut save = interval(SAVE);
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        loop {
            let at = due.map(|due| due.max(earliest));
            let to_do = tokio::select! {
                event = news.events.recv() => match event {
                    None => return,
                    Some(event) => self.take(event),
                },
                Some(heard) = news.daemon.recv() => self.hear(heard),
                Some(command) = news.commands.recv() => {
                    self.obey(command).await;
                    false
                }
                _ = look.tick() => self.look().await,
                _ = save.tick() => {
                    self.save();
                    false
                }
                () = sleep_until(at.unwrap_or_else(Instant::now).into()), if at.is_some() => {
                    due = None;
                    let (pause, again) = self.try_round().await;
                    earliest = Instant::now() + pause;
                    again
                }
            };
            if to_do {
                due.get_or_insert_with(Instant::now);
            }
            self.status.send_modify(|status| status.alive = Instant::now());
        }
    }

    /// One round. Gives how long to wait after it, and whether there is still something to do.
    async fn try_round(&mut self) -> (Duration, bool) {
        let Err(error) = self.round().await else {
            let pause = self.mesh.done().last * PAUSE_FACTOR;
            return (pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE), false);
        };
        if matches!(error, Error::DaemonAway(_)) {
            self.daemon_away.get_or_insert_with(Instant::now);
        }
        tracing::warn!("{}: trying again", chain(&error));
        (RETRY_PAUSE, true)
    }

    fn take(&mut self, event: Event) -> bool {
        if let Event::Reached(reached) = event {
            self.cluster_is_away = !reached;
        }
        self.status.send_modify(|status| {
            status.work.events += 1;
            status.cluster_answers = !self.cluster_is_away;
            if let Event::Silent(nodes) = &event {
                status.silent.clone_from(nodes);
            }
        });
        // What is on disk counts from now on.
        let alone = self.cluster_is_away && !self.has_heard();
        let changed = self.view.take(event);
        self.unsaved |= changed;
        changed || alone
    }

    /// Whether the cluster has said since the start what this node and all others are.
    fn has_heard(&self) -> bool {
        let heard = self.view.heard;
        heard.own && heard.nodes && (heard.pools || self.config.addresses.source == AddressSource::Node)
    }

    fn hear(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::Up => {
                tracing::info!("weftd answers");
                self.status.send_modify(|status| {
                    status.daemon_answers = true;
                    status.begun = true;
                });
                self.daemon_away = None;
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
            Heard::Object(seen) => {
                let noted = [self.mesh.note(&seen), self.declared.note(&seen)];
                if noted.contains(&Noted::Foreign) {
                    let object = seen.resource.id();
                    tracing::warn!(object, "somebody else changed what is the agent's: putting it back");
                }
                noted != [Noted::Same; 2]
            }
            Heard::Down(why) => {
                tracing::warn!(
                    why,
                    "weftd does not answer: what it was told last stays in force where it runs"
                );
                self.status.send_modify(|status| status.daemon_answers = false);
                self.daemon_away.get_or_insert_with(Instant::now);
                false
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        let Command::RotateKey(answer) = command;
        let done = if self.keys.is_some() && !self.is_known_by_its_key() {
            // Of keys before it, those that the cluster knows would be forgotten.
            Err("the cluster does not know the node's present key yet, which waits for it to answer: another \
                 one would cut the node off"
                .to_owned())
        } else {
            self.rotate(false).await.map_err(|error| chain(&error))
        };
        // Who asked may have gone.
        let _ = answer.send(done);
    }

    /// Introduces a new key, or with `finish` forgets those before it. Gives the public key.
    async fn rotate(&mut self, finish: bool) -> Result<String> {
        if self.settings.mode != Mode::Wireguard {
            return Err(Error::Refused("only a mesh over WireGuard has keys".into()));
        }
        let request = v1::RotateKeyRequest { name: MESH.into(), finish, ..Default::default() };
        let tunnel = in_time(self.mesh.client().tunnels.rotate_key(request)).await?.tunnel;
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
        self.tend_keys().await;
        let before = self.underlay_mtu;
        self.measure().await;
        let put_back = self.status.borrow().ready && self.write_conflist();
        if self.daemon_away.is_some_and(|since| since.elapsed() >= DAEMON_PATIENCE) {
            self.say_daemon_is_away();
        }
        put_back
            || self.underlay_mtu != before
            || self.declared.is_to_be_tried_again()
            || (!self.has_heard() && self.is_patience_over())
    }

    /// Changes the node's key when that is due, and forgets those before it when nobody uses them any more.
    async fn tend_keys(&mut self) {
        // Of another key nobody would learn, and all go on by the one before.
        if self.settings.mode != Mode::Wireguard || self.cluster_is_away || !self.is_known_by_its_key() {
            return;
        }
        if self.rotation.is_due() {
            if let Err(error) = self.rotate(false).await {
                tracing::warn!("the node's key could not be changed: {}", chain(&error));
            }
        } else if self.rotation.is_over(self.keys.as_ref())
            && let Err(error) = self.rotate(true).await
        {
            tracing::warn!("earlier keys of the node could not be forgotten: {}", chain(&error));
        }
    }

    /// Whether the cluster has the node's present key.
    fn is_known_by_its_key(&self) -> bool {
        let own = self.view.nodes.get(&self.config.node_name);
        own.zip(self.keys.as_ref()).is_some_and(|(own, keys)| own.public_key == keys.public)
    }

    fn is_patience_over(&self) -> bool {
        self.cluster_is_away || self.started.elapsed() >= PATIENCE
    }

    async fn measure(&mut self) {
        let Some(address) = self.view.own.addresses.first() else { return };
        match underlay::mtu(*address).await {
            Ok(Some(mtu)) => self.underlay_mtu = Some(mtu),
            Ok(None) => tracing::debug!(%address, "no device of this node has its address"),
            Err(error) => tracing::debug!("{}", chain(&error)),
        }
    }

    fn write_conflist(&self) -> bool {
        let Some(conflist) = &self.conflist else { return false };
        let written = conflist.write();
        match &written {
            Ok(true) => {
                let folder = self.config.cni.conf_dir.display();
                tracing::info!(%folder, "container runtimes are told to use Weft");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!("{}", chain(error)),
        }
        written.unwrap_or(false)
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
