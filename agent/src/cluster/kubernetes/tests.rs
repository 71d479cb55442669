//! The keeper against the testkit's API server, in one process and in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use kube::Client;
use serde_json::{Value, json};
use weft_testkit::cluster::{Server, Store, StoreOptions};

use super::*;
use crate::cluster::Readiness;

mod outage;
mod own;
mod pools;
mod rights;
mod verdicts;

/// Longest virtual time until something happens.
const SOON: Duration = Duration::from_secs(120);

/// An API server, and a test's way to it.
#[derive(Clone)]
struct Cluster(Server);

impl Cluster {
    fn new() -> Cluster {
        let options = StoreOptions { bookmarks: Duration::from_secs(60), ..StoreOptions::default() };
        Cluster(Server::new(Arc::new(Store::open(options).unwrap())))
    }

    /// One with a Node.
    async fn with_node(name: &str) -> Cluster {
        let cluster = Cluster::new();
        cluster.add_node(name).await;
        cluster
    }

    fn client(&self) -> Client {
        let server = self.0.clone();
        let service =
            tower::service_fn(move |request: Request<kube::client::Body>| server.clone().answer(request));
        Client::new(service, "default")
    }

    async fn ask(&self, method: &str, url: &str, body: Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let form = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(url).header("content-type", form);
        let answer =
            self.0.clone().answer(request.body(Full::new(Bytes::from(text))).unwrap()).await.unwrap();
        let code = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&body).unwrap();
        assert!(code.is_success() || code == 404, "{method} {url}: {value}");
        value
    }

    async fn get(&self, url: &str) -> Value {
        self.ask("GET", url, Value::Null).await
    }

    async fn add_node(&self, name: &str) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDRs": ["198.18.1.0/24"], "taints": [{"key": "node.weft.dev/not-ready", "effect": "NoSchedule"}]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        });
        self.ask("POST", "/api/v1/nodes", node).await;
    }

    async fn declare(&self, kind: &str, plural: &str, name: &str, spec: Value) {
        let object =
            json!({"apiVersion": "weft.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.ask("POST", &format!("/apis/weft.dev/v1/{plural}"), object).await;
    }

    async fn fault(&self, fault: Value) {
        self.ask("POST", "/_faults", fault).await;
    }

    /// How often what was asked since the last time.
    async fn requests(&self) -> BTreeMap<String, u64> {
        let counts = self.get("/_requests").await;
        self.ask("DELETE", "/_requests", Value::Null).await;
        serde_json::from_value(counts).unwrap()
    }

    /// Waits until a part of an object is as expected.
    async fn until(&self, url: &str, pointer: &str, expected: Value) {
        let wait = async {
            while self.get(url).await.pointer(pointer) != Some(&expected) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(SOON, wait).await;
        let found = self.get(url).await;
        assert!(in_time.is_ok(), "{pointer} of {url} is not {expected}: {found:#}");
    }
}

fn record(name: &str, port: u16) -> NodeRecord {
    NodeRecord {
        name: name.into(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        pods: vec!["198.18.1.0/24".parse().unwrap()],
        port,
        public_key: "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=".into(),
        previous_public_keys: Vec::new(),
    }
}

fn ready(ready: bool) -> Readiness {
    Readiness { ready, reason: if ready { "Serving" } else { "Waiting" }, message: "words".into() }
}

fn serving(name: &str) -> Told {
    Told { record: Some(record(name, 51820)), ready: Some(ready(true)), ..Told::default() }
}

fn result(kind: &str, generation: i64, is_ready: bool) -> BTreeMap<String, (i64, Readiness)> {
    BTreeMap::from([(kind.to_owned(), (generation, ready(is_ready)))])
}

/// Throws away what is heard, so that the keeper goes on.
fn drain(line: Line) -> watch::Sender<Told> {
    let (mut events, told) = (line.events, line.told);
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    told
}

fn keeper(cluster: &Cluster, name: &str) -> watch::Sender<Told> {
    drain(start(cluster.client(), name, None))
}

/// Whether an event is heard soon.
async fn hears(line: &mut Line, expected: Event) -> bool {
    let wait = async {
        while let Some(event) = line.events.recv().await {
            if event == expected {
                return;
            }
        }
        panic!("the keeper has ended");
    };
    tokio::time::timeout(SOON, wait).await.is_ok()
}

const OWN: &str = "/apis/weft.dev/v1/weftnodes/one";
const READY: &str = "/status/conditions/0/status";
const BLUE: &str = "/apis/weft.dev/v1/networks/blue";
const POOL: &str = "/apis/weft.dev/v1/ippools/pods";

/// What a pool of two blocks says that are both another's.
async fn declare_full_pool(cluster: &Cluster) {
    cluster.declare("IPPool", "ippools", "pods", json!({"cidr": "198.18.0.0/23", "blockSize": 24})).await;
    let blocks = json!({"198.18.0.0/24": "one", "198.18.1.0/24": "gone"});
    cluster.ask("PATCH", &format!("{POOL}/status"), json!({"status": {"blocks": blocks, "used": 2}})).await;
}
