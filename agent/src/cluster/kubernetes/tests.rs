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
use crate::config::Config;
use crate::pods::Source;

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

#[tokio::test(start_paused = true)]
async fn a_node_that_has_no_record_any_more_is_not_ready() {
    let cluster = Cluster::with_node("one").await;
    let told = keeper(&cluster, "one");
    told.send_replace(serving("one"));
    cluster.until(OWN, READY, json!("True")).await;
    told.send_replace(Told { record: None, ready: Some(ready(false)), ..Told::default() });
    cluster.until(OWN, READY, json!("False")).await;
    cluster.until(OWN, "/spec/tunnel/port", json!(51820)).await;
    told.send_replace(serving("one"));
    cluster.until(OWN, READY, json!("True")).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_somebody_deletes_comes_back_with_its_status() {
    let cluster = Cluster::with_node("one").await;
    let told = keeper(&cluster, "one");
    told.send_replace(serving("one"));
    cluster.until(OWN, READY, json!("True")).await;
    cluster.ask("DELETE", OWN, Value::Null).await;
    cluster.until(OWN, READY, json!("True")).await;
}

#[tokio::test(start_paused = true)]
async fn details_of_the_status_are_written_seldom_and_few_nodes_are_named() {
    let cluster = Cluster::with_node("one").await;
    let told = keeper(&cluster, "one");
    told.send_replace(serving("one"));
    cluster.until(OWN, READY, json!("True")).await;
    cluster.requests().await;
    // A thousand nodes come in a minute, and each is not reached at first.
    for step in 1..=200 {
        let node = |node| (format!("node-{node:04}"), "it has no prefix for pods".to_owned());
        told.send_modify(|told| told.unreached = (0..step * 5).map(node).collect());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let writes = cluster.requests().await.get("patch weftnodes/status").copied().unwrap_or(0);
    assert!(writes <= 2, "{writes} writes in a minute");
    cluster.until(OWN, "/status/unreachedCount", json!(1000)).await;
    assert_eq!(cluster.get(OWN).await["status"]["unreached"].as_array().unwrap().len(), 8);
    told.send_modify(|told| told.unreached.clear());
    cluster.until(OWN, "/status/unreachedCount", json!(0)).await;
    assert_eq!(cluster.get(OWN).await["status"]["unreached"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_starts_anew_writes_nothing_that_stands() {
    let cluster = Cluster::with_node("one").await;
    let told = keeper(&cluster, "one");
    told.send_replace(serving("one"));
    cluster.until(OWN, READY, json!("True")).await;
    let stands = cluster.get(OWN).await;
    drop(told);
    cluster.requests().await;
    let again = keeper(&cluster, "one");
    again.send_replace(serving("one"));
    tokio::time::sleep(Duration::from_secs(300)).await;
    let requests = cluster.requests().await;
    assert!(requests.keys().all(|request| !request.starts_with("patch weftnodes")), "{requests:?}");
    assert_eq!(cluster.get(OWN).await, stands);
}

const BLUE: &str = "/apis/weft.dev/v1/networks/blue";

#[tokio::test(start_paused = true)]
async fn of_many_nodes_that_come_to_the_same_few_say_so() {
    const NODES: usize = 50;
    let cluster = Cluster::new();
    cluster.declare("Network", "networks", "blue", json!({})).await;
    let mut keepers = Vec::new();
    for number in 0..NODES {
        let name = format!("node-{number}");
        cluster.add_node(&name).await;
        keepers.push(keeper(&cluster, &name));
        keepers[number].send_replace(serving(&name));
    }
    cluster.until("/apis/weft.dev/v1/weftnodes/node-49", READY, json!("True")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.requests().await;
    for keeper in &keepers {
        keeper.send_modify(|told| told.results = result("Network/blue", 1, true));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let requests = cluster.requests().await;
    assert!(!requests.contains_key("get networks"), "{requests:?}");
    assert!(requests["patch networks/status"] <= 5, "{requests:?}");
    cluster.until(BLUE, READY, json!("True")).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_fine_does_not_speak_for_one_that_has_trouble() {
    let cluster = Cluster::with_node("one").await;
    cluster.add_node("two").await;
    cluster.add_node("three").await;
    cluster.declare("Network", "networks", "blue", json!({})).await;
    let keepers = ["one", "two", "three"].map(|name| keeper(&cluster, name));
    for (keeper, is_ready) in keepers.iter().zip([true, false, false]) {
        keeper.send_replace(Told { results: result("Network/blue", 1, is_ready), ..Told::default() });
    }
    cluster.until(BLUE, READY, json!("False")).await;
    cluster.requests().await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let requests = cluster.requests().await;
    assert!(!requests.contains_key("patch networks/status"), "they toggle: {requests:?}");
    // The trouble of one ends, and that of the other is told then.
    let first = cluster.get(BLUE).await["status"]["conditions"][0]["message"].clone();
    let (ends, stays) = if first == "node two: words" { (1, 2) } else { (2, 1) };
    keepers[ends].send_replace(Told { results: result("Network/blue", 1, true), ..Told::default() });
    let message = ["node one: words", "node two: words", "node three: words"][stays];
    cluster.until(BLUE, "/status/conditions/0/message", json!(message)).await;
    keepers[stays].send_replace(Told { results: result("Network/blue", 1, true), ..Told::default() });
    cluster.until(BLUE, READY, json!("True")).await;
}

#[tokio::test(start_paused = true)]
async fn a_verdict_on_an_earlier_generation_does_not_replace_one_on_a_later() {
    let cluster = Cluster::with_node("one").await;
    cluster.declare("Network", "networks", "blue", json!({})).await;
    let told = keeper(&cluster, "one");
    told.send_replace(Told { results: result("Network/blue", 1, true), ..Told::default() });
    cluster.until(BLUE, READY, json!("True")).await;
    cluster.ask("PATCH", BLUE, json!({"spec": {"mtu": 1400}})).await;
    let later = json!({"type": "Ready", "status": "True", "reason": "Realized", "message": "of another node",
        "observedGeneration": 2, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    cluster.ask("PATCH", &format!("{BLUE}/status"), json!({"status": {"conditions": [later]}})).await;
    told.send_replace(Told { results: result("Network/blue", 1, false), ..Told::default() });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(cluster.get(BLUE).await["status"]["conditions"][0], later);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_refuses_a_kind_is_there() {
    let cluster = Cluster::with_node("one").await;
    cluster.fault(json!({"status": 404, "match": "weft.dev/v1/networks", "count": 1_000_000})).await;
    cluster.fault(json!({"status": 403, "match": "nodes/one/status", "count": 1_000_000})).await;
    let mut line = start(cluster.client(), "one", None);
    line.told.send_replace(Told { results: result("Network/blue", 1, true), ..serving("one") });
    assert!(!hears(&mut line, Event::Reached(false)).await, "it counts as away");
    cluster.until(OWN, "/spec/tunnel/port", json!(51820)).await;
    // What it does not answer at all is something else.
    cluster.fault(json!({"status": 503, "match": "weft.dev/v1/tunnels", "count": 1})).await;
    cluster.fault(json!({"expire": true})).await;
    assert!(hears(&mut line, Event::Reached(false)).await);
    assert!(hears(&mut line, Event::Reached(true)).await);
}

/// What a pool of two blocks says that are both another's.
async fn declare_full_pool(cluster: &Cluster) {
    cluster.declare("IPPool", "ippools", "pods", json!({"cidr": "198.18.0.0/23", "blockSize": 24})).await;
    let blocks = json!({"198.18.0.0/24": "one", "198.18.1.0/24": "gone"});
    cluster.ask("PATCH", &format!("{POOL}/status"), json!({"status": {"blocks": blocks, "used": 2}})).await;
}

const POOL: &str = "/apis/weft.dev/v1/ippools/pods";

#[tokio::test(start_paused = true)]
async fn a_block_of_a_node_that_is_gone_is_taken_with_one_list_of_nodes() {
    let cluster = Cluster::with_node("one").await;
    cluster.add_node("two").await;
    declare_full_pool(&cluster).await;
    let told = keeper(&cluster, "two");
    told.send_replace(serving("two"));
    cluster.until("/apis/weft.dev/v1/weftnodes/two", READY, json!("True")).await;
    cluster.requests().await;
    // Others are quicker some times.
    cluster.fault(json!({"status": 409, "match": "ippools/pods/status", "count": 5})).await;
    told.send_modify(|told| told.claims = BTreeSet::from(["pods".to_owned()]));
    cluster.until(POOL, "/status/blocks/198.18.1.0~124", json!("two")).await;
    let requests = cluster.requests().await;
    assert_eq!((requests["update ippools/status"], requests["list nodes"]), (6, 1), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_nodes_are_all_there_is_used_up_without_a_list_of_nodes() {
    let cluster = Cluster::new();
    let mut keepers = Vec::new();
    for name in ["one", "two", "gone"] {
        cluster.add_node(name).await;
        let told = keeper(&cluster, name);
        told.send_replace(serving(name));
        keepers.push(told);
        cluster.until(&format!("/apis/weft.dev/v1/weftnodes/{name}"), READY, json!("True")).await;
    }
    drop(keepers);
    declare_full_pool(&cluster).await;
    let mut line = start(cluster.client(), "two", None);
    line.told.send_replace(serving("two"));
    assert!(!hears(&mut line, Event::Reached(false)).await);
    cluster.requests().await;
    line.told.send_modify(|told| told.claims = BTreeSet::from(["pods".to_owned()]));
    // A pool that is used up is no API that does not answer, and keeps nothing from being said.
    assert!(!hears(&mut line, Event::Reached(false)).await);
    line.told.send_modify(|told| told.ready = Some(ready(false)));
    cluster.until("/apis/weft.dev/v1/weftnodes/two", READY, json!("False")).await;
    let requests = cluster.requests().await;
    assert!(requests["get ippools"] > 2 && !requests.contains_key("list nodes"), "{requests:?}");
}

/// What the chart's ClusterRole gives, in the words that the API server counts requests in.
fn granted() -> BTreeSet<String> {
    let chart = include_str!("../../../../charts/weft/templates/rbac.yaml");
    let rules = chart.split("\nrules:\n").nth(1).unwrap().split("\n---").next().unwrap();
    let rules: Vec<BTreeMap<String, Vec<String>>> = serde_yaml_ng::from_str(rules).unwrap();
    let words = rules.iter().flat_map(|rule| {
        let resources = rule["resources"].iter();
        resources.flat_map(|resource| rule["verbs"].iter().map(move |verb| format!("{verb} {resource}")))
    });
    words.collect()
}

#[tokio::test(start_paused = true)]
async fn the_charts_role_gives_what_is_asked_for_and_nothing_else() {
    let cluster = Cluster::with_node("two").await;
    declare_full_pool(&cluster).await;
    let results: BTreeMap<_, _> =
        DECLARED.iter().flat_map(|(kind, _)| result(&format!("{kind}/blue"), 1, true)).collect();
    for (kind, plural) in DECLARED {
        cluster.declare(kind, plural, "blue", json!({})).await;
    }
    cluster.requests().await;
    let folder = std::env::temp_dir().join(format!("weft-agent-{}-rights", std::process::id()));
    let config =
        Config { plugin_socket: folder.join("socket"), state_dir: folder.clone(), ..Config::default() };
    let told = drain(start(cluster.client(), "two", Some(Counter::open(&config).unwrap())));
    told.send_replace(Told { results, claims: BTreeSet::from(["pods".to_owned()]), ..serving("two") });
    let (_connected, clients) = watch::channel(cluster.client());
    assert_eq!(pods::Inquiry(clients).ask("default", "web").await, Ok(None));
    tokio::time::sleep(SOON).await;
    let asked: BTreeSet<String> = cluster.requests().await.into_keys().collect();
    assert_eq!(asked, granted());
    std::fs::remove_dir_all(folder).unwrap();
}

/// Whether a value is one that a schema describes: with fields that it knows, all that it requires, and their types.
fn fits(path: &str, schema: &Value, value: &Value) {
    let is_one = match schema["type"].as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("{path} is of type {other}"),
    };
    assert!(is_one, "{path}: {value}");
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(required.as_str().unwrap()).is_some(), "{path}.{required} is missing");
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
            Some(property) => fits(&path, property, field),
            // The API server's own, in every object.
            None => assert!(["apiVersion", "kind", "metadata"].contains(&&**name), "{path} would be pruned"),
        }
    }
    let (items, most) = (value.as_array().map_or(&[][..], Vec::as_slice), schema["maxItems"].as_u64());
    assert!(most.is_none_or(|most| items.len() as u64 <= most), "{path} has {} items", items.len());
    items.iter().for_each(|item| fits(&format!("{path}[]"), &schema["items"], item));
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_what_the_definitions_describe() {
    let cluster = Cluster::with_node("one").await;
    declare_full_pool(&cluster).await;
    cluster.declare("Network", "networks", "blue", json!({})).await;
    let told = keeper(&cluster, "one");
    let unreached =
        (0..20).map(|node| (format!("node-{node}"), "it has no prefix for pods".to_owned())).collect();
    let claims = BTreeSet::from(["pods".to_owned()]);
    let results = result("Network/blue", 1, false);
    cluster
        .ask("PATCH", &format!("{POOL}/status"), json!({"status": {"blocks": {"198.18.0.0/24": null}}}))
        .await;
    told.send_replace(Told { unreached, claims, results, ..serving("one") });
    tokio::time::sleep(SOON).await;
    for (kind, url) in [("WeftNode", OWN), ("IPPool", POOL), ("Network", BLUE)] {
        let definition = crate::crd::definitions().into_iter().find(|it| it.spec.names.kind == kind).unwrap();
        let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let mut object = cluster.get(url).await;
        assert!(!object["status"].is_null(), "{object:#}");
        object["metadata"] = json!({});
        fits(kind, &serde_json::to_value(schema).unwrap(), &object);
    }
    assert_eq!(cluster.get(POOL).await["status"]["used"], json!(2));
}
