//! The Kubernetes API keeps what the cluster shares: WeftNodes, pools, and what users declared.
//!
//! Each kind is listed and watched by a task of its own, which tries again with growing pauses while the API does not
//! answer, as kube's watcher does: what is known stays in force meanwhile. Of Nodes only this one is watched: the
//! others' heartbeats would be most of what the API server has to send. [`writer`] writes what this node says, and
//! [`claim`] takes blocks of pools for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::{Declared, Event, Line, NodeRecord, OwnNode, Told};
use crate::crd::WeftNode;
use crate::error::chain;
use crate::pods::Counter;
use crate::underlay;

mod claim;
mod client;
mod condition;
mod known;
mod pods;
mod pools;
mod reach;
mod report;
mod verdict;
mod writer;

#[cfg(test)]
mod tests;

pub use client::connect;
use known::{Known, Standing};
use reach::{Answers, Reach};

/// What users declare, and the plural of it.
const DECLARED: [(&str, &str); 3] = [("Network", "networks"), ("Router", "routers"), ("Tunnel", "tunnels")];

/// How often the node's addresses are looked at.
const ADDRESS_LOOK: Duration = Duration::from_secs(3);

/// Starts to listen, to write what node `name` says, and to answer at the counter what its pods want. The tasks run
/// until the events' receiver is dropped.
pub fn start(client: Client, name: &str, counter: Option<Counter>) -> Line {
    let (sender, events) = mpsc::channel(1024);
    let (connected, clients) = watch::channel(client);
    let (told, tellings) = watch::channel(Told::default());
    let (own, own_node) = watch::channel(None);
    let (record, own_record) = watch::channel(None);
    let (learn, known) = watch::channel(Known::default());
    let listener = Listener { sender, clients, reach: Arc::default(), learn: Arc::new(learn) };
    tokio::spawn(reconnect(connected, own_node.clone()));
    tokio::spawn(listener.clone().own_node(name.to_owned(), own));
    tokio::spawn(listener.clone().nodes(name.to_owned(), record));
    let (read, found) = mpsc::channel(16);
    let own = pools::Own::new(own_node.clone(), own_record.clone());
    tokio::spawn(listener.clone().pools(name.to_owned(), found, own));
    tokio::spawn(listener.clone().declared());
    if let Some(counter) = counter {
        tokio::spawn(listener.clone().pods(name.to_owned(), counter.pods.clone()));
        tokio::spawn(counter.serve(pods::Inquiry(listener.clients.clone())));
    }
    let claimer = claim::Claimer {
        name: name.to_owned(),
        listener: listener.clone(),
        tellings: tellings.clone(),
        own_node: own_node.clone(),
        known: known.clone(),
        read,
    };
    tokio::spawn(claimer.run());
    let sources = writer::Sources { tellings, own_node, own_record, known };
    tokio::spawn(writer::Writer::new(name, listener, sources).run());
    Line { events, told }
}

/// Connects anew when the node has lost an address: what was connected from there hears nothing any more, and would
/// find that out after minutes.
async fn reconnect(connected: watch::Sender<Client>, mut node: watch::Receiver<Option<Node>>) {
    let mut known: BTreeSet<IpAddr> = BTreeSet::new();
    let mut look = interval(ADDRESS_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            Ok(()) = node.changed() => {}
            () = connected.closed() => return,
        }
        let now = match underlay::addresses().await {
            Ok(now) => now,
            Err(error) => {
                tracing::debug!("{}", chain(&error));
                continue;
            }
        };
        // Other addresses of the node, those of Services for example, come and go, and nothing is connected from there.
        let own = node.borrow_and_update().as_ref().map(own_of).unwrap_or_default();
        let own: BTreeSet<IpAddr> = own.addresses.into_iter().filter(|own| now.contains(own)).collect();
        if known.iter().any(|address| !now.contains(address)) {
            match connect().await {
                Ok(client) => {
                    tracing::info!("an address of the node is gone: connecting to the Kubernetes API anew");
                    connected.send_replace(client);
                }
                Err(error) => {
                    tracing::warn!("{}", chain(&error));
                    continue;
                }
            }
        }
        known = own;
    }
}

/// Turns what is heard into events.
#[derive(Clone)]
struct Listener {
    sender: mpsc::Sender<Event>,
    clients: watch::Receiver<Client>,
    reach: Arc<Reach>,
    /// What was heard last, for those who write. It is changed by those who listen.
    learn: Arc<watch::Sender<Known>>,
}

impl Listener {
    /// The one that is connected now.
    fn client(&self) -> Client {
        self.clients.borrow().clone()
    }

    async fn own_node(self, name: String, own: watch::Sender<Option<Node>>) {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        self.follow(Api::<Node>::all, config, "nodes", |event| {
            let node = match event {
                watcher::Event::Apply(node) | watcher::Event::InitApply(node) => node,
                // What is written for a Node that is gone would be taken away with it, again and again.
                watcher::Event::Delete(_) | watcher::Event::Init => {
                    own.send_replace(None);
                    return None;
                }
                watcher::Event::InitDone => return None,
            };
            let heard = own_of(&node);
            own.send_replace(Some(node));
            Some(Event::Own(heard))
        })
        .await;
    }

    async fn nodes(self, name: String, own: watch::Sender<Option<Option<WeftNode>>>) {
        let mut list = List::default();
        self.follow(Api::<WeftNode>::all, watcher::Config::default(), "weftnodes", |event| {
            match &event {
                watcher::Event::Apply(node) if node.name_any() == name => {
                    own.send_replace(Some(Some(node.clone())));
                }
                watcher::Event::Delete(node) if node.name_any() == name => {
                    own.send_replace(Some(None));
                }
                _ => {}
            }
            let event = list.take(event)?;
            if let Heard::All(nodes) = &event {
                own.send_replace(Some(nodes.get(&name).cloned()));
            }
            self.learn_names(&event);
            Some(match event {
                Heard::All(nodes) => Event::Nodes(nodes.values().filter_map(record_of).collect()),
                Heard::One(node) => match record_of(&node) {
                    Some(record) => Event::Node(record),
                    None => Event::NodeGone(node.name_any()),
                },
                Heard::Gone(name) => Event::NodeGone(name),
            })
        })
        .await;
    }

    /// Notes names of nodes. That one is gone may change what others say.
    fn learn_names(&self, heard: &Heard<WeftNode>) {
        self.learn.send_if_modified(|known| {
            let names = known.nodes.get_or_insert_default();
            match heard {
                Heard::All(nodes) => *names = nodes.keys().cloned().collect(),
                Heard::One(node) => drop(names.insert(node.name_any())),
                Heard::Gone(name) => drop(names.remove(name)),
            }
            matches!(heard, Heard::Gone(_) | Heard::All(_))
        });
    }

    /// All kinds that users declare; told of when all were listed.
    async fn declared(self) {
        let known: Arc<Mutex<BTreeMap<&str, BTreeMap<String, DynamicObject>>>> = Arc::default();
        let tasks = DECLARED.map(|(kind, plural)| {
            let (listener, known) = (self.clone(), Arc::clone(&known));
            async move {
                let resource = resource(kind, plural);
                let api = |client| Api::<DynamicObject>::all_with(client, &resource);
                let mut list = List::default();
                listener
                    .follow(api, watcher::Config::default(), plural, |event| {
                        let heard = list.take(event)?;
                        let news = listener.learn_standings(kind, &heard);
                        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                        heard.note(known.entry(kind).or_default());
                        let all = known.iter().flat_map(|(kind, objects)| {
                            objects.values().map(|object| declared_of(kind, object))
                        });
                        (news && known.len() == DECLARED.len()).then(|| Event::Declared(all.collect()))
                    })
                    .await;
            }
        });
        futures::future::join_all(tasks).await;
    }

    /// Notes what stands of what users declared. False: an object has got another status, and nothing else.
    fn learn_standings(&self, kind: &str, heard: &Heard<DynamicObject>) -> bool {
        let id = |name: &str| format!("{kind}/{name}");
        let mut news = true;
        self.learn.send_modify(|known| match heard {
            Heard::All(objects) => {
                let others = |id: &String| id.split('/').next() != Some(kind);
                known.declared.retain(|id, _| others(id));
                let standings = objects.iter().map(|(name, object)| (id(name), Standing::of(object)));
                known.declared.extend(standings);
            }
            Heard::One(object) => {
                let standing = Standing::of(object);
                let before = known.declared.insert(id(&object.name_any()), standing.clone());
                news = !before.is_some_and(|before| before.wishes_the_same(&standing));
            }
            Heard::Gone(name) => drop(known.declared.remove(&id(name))),
        });
        news
    }

    /// Follows a kind until the agent ends.
    async fn follow<K>(
        &self,
        api: impl Fn(Client) -> Api<K>,
        config: watcher::Config,
        plural: &'static str,
        mut take: impl FnMut(watcher::Event<K>) -> Option<Event>,
    ) where
        K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut clients = self.clients.clone();
        let mut answers = Answers::default();
        let heeded = answers.heeded();
        let streams = |client: Client| watcher(api(heeded(client)), config.clone()).default_backoff().boxed();
        let mut stream = streams(clients.borrow_and_update().clone());
        loop {
            let item = tokio::select! {
                item = stream.next() => item,
                // After an outage it goes on where it was, and yields nothing before something changes.
                () = answers.stand() => {
                    self.reached(plural).await;
                    continue;
                }
                Ok(()) = clients.changed() => {
                    stream = streams(clients.borrow_and_update().clone());
                    continue;
                }
                () = self.sender.closed() => return,
            };
            let event = match item {
                None => return,
                Some(Ok(event)) => {
                    // The beginning of a list is no answer yet.
                    if !matches!(event, watcher::Event::Init) {
                        self.reached(plural).await;
                    }
                    take(event)
                }
                Some(Err(error)) => {
                    answers.fail();
                    self.watch_failed(plural, &error).await;
                    None
                }
            };
            if let Some(event) = event
                && self.sender.send(event).await.is_err()
            {
                return;
            }
        }
    }
}

/// A list that is being heard.
struct List<K>(BTreeMap<String, K>);

impl<K> Default for List<K> {
    fn default() -> Self {
        List(BTreeMap::new())
    }
}

/// What was heard of a kind.
enum Heard<K> {
    All(BTreeMap<String, K>),
    One(K),
    Gone(String),
}

impl<K: kube::Resource> List<K> {
    /// `None`: the list is not whole yet.
    fn take(&mut self, event: watcher::Event<K>) -> Option<Heard<K>> {
        match event {
            watcher::Event::Init => {
                self.0.clear();
                None
            }
            watcher::Event::InitApply(object) => {
                self.0.insert(object.name_any(), object);
                None
            }
            watcher::Event::InitDone => Some(Heard::All(std::mem::take(&mut self.0))),
            watcher::Event::Apply(object) => Some(Heard::One(object)),
            watcher::Event::Delete(object) => Some(Heard::Gone(object.name_any())),
        }
    }
}

impl<K: kube::Resource> Heard<K> {
    fn note(self, known: &mut BTreeMap<String, K>) {
        match self {
            Heard::All(all) => *known = all,
            Heard::One(object) => {
                known.insert(object.name_any(), object);
            }
            Heard::Gone(name) => {
                known.remove(&name);
            }
        }
    }
}

/// What the API calls one of Weft's kinds.
fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("weft.dev", "v1", kind), plural)
}

fn own_of(node: &Node) -> OwnNode {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let pods = node.spec.iter().flat_map(|spec| {
        let several = spec.pod_cidrs.iter().flatten();
        // Where only the older field is set, it is the one prefix.
        several.chain(spec.pod_cidr.iter().filter(|_| spec.pod_cidrs.is_none()))
    });
    OwnNode {
        addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
        pods: pods.filter_map(|text| text.parse().ok()).collect(),
    }
}

fn record_of(node: &WeftNode) -> Option<NodeRecord> {
    let name = node.name_any();
    let record = node.spec.record(&name);
    record.inspect_err(|error| tracing::warn!("WeftNode/{name}: {error}; the node is left out")).ok()
}

fn declared_of(kind: &str, object: &DynamicObject) -> Declared {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    Declared::new(kind, &object.name_any(), object.metadata.generation.unwrap_or(0), spec)
}
