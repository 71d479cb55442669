//! The testkit's API server, seen by the real client of Kubernetes.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use weft_host::netns::NetNs;
use weft_testkit::Lab;
use weft_testkit::cluster::ApiServer;

const SOON: Duration = Duration::from_secs(60);

/// Runs a test on a thread in a lab's namespace, with a server there and a client that its kubeconfig made.
fn with_server(test: impl AsyncFnOnce(ApiServer, Client) -> Result<()> + Send) {
    let run = || -> Result<()> {
        let lab = Lab::empty()?;
        let server = ApiServer::start(&lab.node(), "127.0.0.1:8080")?;
        let file = lab.path("/run/lab/kubeconfig");
        server.write_kubeconfig(&file)?;
        let _entered = NetNs::open(Path::new(&format!("/proc/{}/ns/net", lab.holder_pid())))?.enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(&file)?;
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            test(server, Client::try_from(config)?).await
        })
    };
    let result = std::thread::scope(|scope| scope.spawn(run).join());
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:?}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": "198.18.1.0/24"}})
}

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<Node>>> + Send>>;

/// The nodes as a watcher knows them.
struct World {
    events: Events,
    nodes: BTreeMap<String, Node>,
    listed: BTreeMap<String, Node>,
    lists: u32,
    errors: Vec<String>,
}

impl World {
    fn new(client: &Client, config: Config) -> World {
        let events = watcher(Api::all(client.clone()), config).default_backoff().boxed();
        World { events, nodes: BTreeMap::new(), listed: BTreeMap::new(), lists: 0, errors: Vec::new() }
    }

    fn names(&self) -> Vec<&str> {
        self.nodes.keys().map(String::as_str).collect()
    }

    /// Follows the events until the world is as it should be.
    async fn until(&mut self, what: &str, holds: impl Fn(&World) -> bool) -> Result<()> {
        let follow = async {
            while !holds(self) {
                let event = self.events.next().await.context("the watcher ended")?;
                self.take(event);
            }
            Ok(())
        };
        let ended = tokio::time::timeout(SOON, follow).await;
        ended.with_context(|| format!("waited in vain for {what}: {:?} {:?}", self.names(), self.errors))?
    }

    fn take(&mut self, event: watcher::Result<Event<Node>>) {
        match event {
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::InitApply(node)) => drop(self.listed.insert(node.name_any(), node)),
            Ok(Event::InitDone) => {
                self.nodes = std::mem::take(&mut self.listed);
                self.lists += 1;
            }
            Ok(Event::Apply(node)) => drop(self.nodes.insert(node.name_any(), node)),
            Ok(Event::Delete(node)) => drop(self.nodes.remove(&node.name_any())),
            Err(error) => self.errors.push(format!("{error:?}")),
        }
    }
}

async fn watcher_survives(mut server: ApiServer, client: Client, config: Config) -> Result<()> {
    server.apply_all(&["a", "b", "c", "d", "e"].map(node))?;
    let mut world = World::new(&client, config);
    world.until("the initial list", |w| w.names() == ["a", "b", "c", "d", "e"]).await?;

    server.patch("/api/v1/nodes/a", &json!({"metadata": {"labels": {"x": "y"}}}))?;
    world.until("a change", |w| w.nodes["a"].labels().get("x").is_some_and(|x| x == "y")).await?;
    server.delete("/api/v1/nodes/b")?;
    world.until("a deletion", |w| w.names() == ["a", "c", "d", "e"]).await?;
    ensure!(world.lists == 1 && world.errors.is_empty(), "{} lists, {:?}", world.lists, world.errors);

    server.fault(&json!({"close_watches": true}))?;
    server.apply(&node("f"))?;
    world.until("what came after a closed watch", |w| w.nodes.contains_key("f")).await?;
    ensure!(world.lists == 1, "a watch that was closed goes on where it was");

    server.fault(&json!({"expire": true}))?;
    server.delete("/api/v1/nodes/c")?;
    world.until("a list after 410", |w| w.lists == 2 && w.names() == ["a", "d", "e", "f"]).await?;
    ensure!(world.errors.iter().any(|error| error.contains("410")), "{:?}", world.errors);

    server.kill();
    server.restart()?;
    server.apply(&node("g"))?;
    world.until("what came after a restart", |w| w.nodes.contains_key("g")).await?;
    ensure!(world.names() == ["a", "d", "e", "f", "g"], "{:?}", world.names());
    Ok(())
}

#[test]
fn a_watcher_that_lists_in_parts_survives_what_api_servers_do() {
    with_server(async |server, client| {
        watcher_survives(server, client, Config::default().page_size(2)).await
    });
}

#[test]
fn a_watcher_that_streams_its_list_survives_what_api_servers_do() {
    with_server(async |server, client| {
        watcher_survives(server, client, Config::default().streaming_lists()).await
    });
}

#[test]
fn a_client_that_is_told_to_wait_comes_again() {
    with_server(async |server, client| {
        server.apply(&node("a"))?;
        server.forget_requests()?;
        server.fault(&json!({"status": 429, "retryAfter": 1, "count": 2, "match": "/nodes"}))?;
        let nodes: Api<Node> = Api::all(client);
        let list = nodes.list(&ListParams::default()).await?;
        ensure!(list.items.len() == 1 && list.metadata.resource_version.is_some(), "{list:?}");
        ensure!(server.requests()? == json!({"list nodes": 3}), "{}", server.requests()?);
        Ok(())
    });
}

#[test]
fn a_watcher_of_labels_sees_objects_come_and_go() {
    with_server(async |server, client| {
        server.apply(&node("a"))?;
        let mut world = World::new(&client, Config::default().labels("in=yes"));
        world.until("the empty list", |w| w.lists == 1).await?;
        server.patch("/api/v1/nodes/a", &json!({"metadata": {"labels": {"in": "yes"}}}))?;
        world.until("a node that starts to match", |w| w.names() == ["a"]).await?;
        server.patch("/api/v1/nodes/a", &json!({"metadata": {"labels": {"in": "no"}}}))?;
        world.until("a node that stops to match", |w| w.names().is_empty()).await
    });
}

#[test]
fn a_status_that_was_made_for_an_older_version_conflicts() {
    with_server(async |server, client| {
        server.apply(&node("a"))?;
        let nodes: Api<Node> = Api::all(client);
        let mut old = nodes.get("a").await?;
        server.patch("/api/v1/nodes/a", &json!({"metadata": {"labels": {"x": "y"}}}))?;
        old.status.get_or_insert_default().phase = Some("Running".into());
        let refused = nodes.replace_status("a", &PostParams::default(), &old).await;
        ensure!(matches!(&refused, Err(kube::Error::Api(status)) if status.is_conflict()), "{refused:?}");
        old.metadata.resource_version = nodes.get("a").await?.metadata.resource_version;
        let done = nodes.replace_status("a", &PostParams::default(), &old).await?;
        ensure!(done.status == old.status && done.labels().contains_key("x"), "{done:?}");
        Ok(())
    });
}

#[test]
fn custom_resources_are_applied_from_the_server_side() {
    with_server(async |_server, client| {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("weft.dev", "v1alpha1", "WeftNode"));
        let weft_nodes: Api<DynamicObject> = Api::all_with(client, &kind);
        let parameters = PatchParams::apply("weft-agent").force();
        let mut wish =
            DynamicObject::new("a", &kind).data(json!({"spec": {"port": 51820, "publicKey": "k"}}));
        let made = weft_nodes.patch("a", &parameters, &Patch::Apply(&wish)).await?;
        ensure!(made.data["spec"]["publicKey"] == "k" && made.metadata.generation == Some(1), "{made:?}");
        wish.data = json!({"spec": {"port": 51821}});
        let changed = weft_nodes.patch("a", &parameters, &Patch::Apply(&wish)).await?;
        ensure!(changed.data["spec"] == json!({"port": 51821}), "{changed:?}");
        ensure!(changed.metadata.generation == Some(2) && changed.uid() == made.uid(), "{changed:?}");

        wish.data = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let status = weft_nodes.patch_status("a", &parameters, &Patch::Apply(&wish)).await?;
        ensure!(status.data["status"]["conditions"][0]["type"] == "Ready", "{status:?}");
        ensure!(status.data["spec"] == json!({"port": 51821}), "{status:?}");

        let deleted = weft_nodes.delete("a", &DeleteParams::default()).await?;
        ensure!(deleted.is_right(), "{deleted:?}");
        ensure!(weft_nodes.get_opt("a").await?.is_none(), "it is still there");
        Ok(())
    });
}
