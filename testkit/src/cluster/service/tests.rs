//! The server as its clients see it, without sockets.

use std::time::Duration;

use http_body_util::Full;

use super::*;
use crate::cluster::StoreOptions;

const NODES: &str = "/api/v1/nodes";
const MERGE: &str = "application/merge-patch+json";

fn server(options: StoreOptions) -> Server {
    Server::new(Arc::new(Store::open(options).unwrap()))
}

fn quick() -> Server {
    server(StoreOptions { bookmarks: Duration::from_millis(10), ..StoreOptions::default() })
}

async fn open(server: &Server, method: &str, url: &str, form: &str, body: Value) -> Response<Answer> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(url).header("content-type", form);
    server.clone().answer(request.body(Full::new(Bytes::from(text))).unwrap()).await.unwrap()
}

async fn ask(server: &Server, method: &str, url: &str, form: &str, body: Value) -> (u16, Value) {
    let response = open(server, method, url, form, body).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

async fn get(server: &Server, url: &str) -> Value {
    let (code, value) = ask(server, "GET", url, "", Value::Null).await;
    assert_eq!(code, 200, "{value}");
    value
}

async fn create(server: &Server, url: &str, body: Value) -> Value {
    let (code, value) = ask(server, "POST", url, "", body).await;
    assert_eq!(code, 201, "{value}");
    value
}

async fn patch(server: &Server, url: &str, body: Value) -> Value {
    let (code, value) = ask(server, "PATCH", url, MERGE, body).await;
    assert_eq!(code, 200, "{value}");
    value
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"name": name}}})
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

/// A watch's lines, one at a time.
struct Lines {
    body: Answer,
    rest: String,
}

impl Lines {
    async fn open(server: &Server, url: &str) -> Lines {
        let response = open(server, "GET", url, "", Value::Null).await;
        assert_eq!(response.status(), 200);
        Lines { body: response.into_body(), rest: String::new() }
    }

    /// The next event; `None` at the watch's end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let event = serde_json::from_str(line).unwrap();
                self.rest = rest.to_owned();
                return Some(event);
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await;
            let bytes = frame.expect("an event in time")?.unwrap().into_data().unwrap();
            self.rest += std::str::from_utf8(&bytes).unwrap();
        }
    }

    /// The next event that is no bookmark: its type and the object's name.
    async fn told(&mut self) -> String {
        loop {
            let event = self.next().await.expect("an event");
            if event["type"] != "BOOKMARK" {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"]));
            }
        }
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_object_is_created_read_replaced_and_deleted() {
    let server = quick();
    let made = create(&server, NODES, node("a")).await;
    assert_eq!((&made["metadata"]["generation"], &made["kind"]), (&json!(1), &json!("Node")));
    assert_eq!(get(&server, "/api/v1/nodes/a").await, made);
    assert_eq!(ask(&server, "POST", NODES, "", node("a")).await.1["reason"], "AlreadyExists");

    let mut wish = made.clone();
    wish["spec"] = json!({"podCIDR": "198.18.1.0/24"});
    let (code, replaced) = ask(&server, "PUT", "/api/v1/nodes/a", "", wish.clone()).await;
    assert_eq!((code, &replaced["metadata"]["generation"]), (200, &json!(2)));
    assert!(version(&replaced) > version(&made));
    let (code, refused) = ask(&server, "PUT", "/api/v1/nodes/a", "", wish).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")));

    let (code, status) = ask(&server, "DELETE", "/api/v1/nodes/a", "", Value::Null).await;
    assert_eq!((code, &status["status"]), (200, &json!("Success")));
    let (code, status) = ask(&server, "GET", "/api/v1/nodes/a", "", Value::Null).await;
    assert_eq!((code, &status["kind"], &status["reason"]), (404, &json!("Status"), &json!("NotFound")));
}

#[tokio::test]
async fn a_change_that_changes_nothing_makes_no_version() {
    let server = quick();
    let made = create(&server, NODES, node("a")).await;
    let same = patch(&server, "/api/v1/nodes/a", json!({"metadata": {"labels": {"name": "a"}}})).await;
    assert_eq!(same, made);
}

#[tokio::test]
async fn the_status_changes_through_its_own_path_alone() {
    let server = quick();
    create(&server, NODES, node("a")).await;
    let both = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"s": 1}, "status": {"t": 2}});
    let changed = patch(&server, "/api/v1/nodes/a/status", both.clone()).await;
    assert_eq!((&changed["status"]["t"], &changed["spec"]), (&json!(2), &Value::Null));
    assert_eq!(changed["metadata"]["labels"], json!({"name": "a"}));
    assert_eq!(changed["metadata"]["generation"], 1);
    let changed = patch(&server, "/api/v1/nodes/a", json!({"spec": {"s": 1}, "status": {"t": 3}})).await;
    assert_eq!((&changed["status"]["t"], &changed["spec"]["s"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn a_patch_made_for_another_version_conflicts() {
    let server = quick();
    let made = create(&server, NODES, node("a")).await;
    patch(&server, "/api/v1/nodes/a", json!({"spec": {"a": 1}})).await;
    let late =
        json!({"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "spec": {"a": 2}});
    assert_eq!(ask(&server, "PATCH", "/api/v1/nodes/a", MERGE, late).await.0, 409);
    let test = json!([{"op": "test", "path": "/spec/a", "value": 7}, {"op": "remove", "path": "/spec/a"}]);
    assert_eq!(ask(&server, "PATCH", "/api/v1/nodes/a", "application/json-patch+json", test).await.0, 422);
    assert_eq!(ask(&server, "PATCH", "/api/v1/nodes/a", "text/plain", json!({})).await.0, 415);
}

#[tokio::test]
async fn a_list_comes_in_parts_of_one_version() {
    let server = quick();
    for name in ["c", "a", "e", "b", "d"] {
        create(&server, NODES, node(name)).await;
    }
    let first = get(&server, "/api/v1/nodes?limit=2").await;
    assert_eq!((names(&first), &first["kind"]), (vec!["a", "b"], &json!("NodeList")));
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    create(&server, NODES, node("f")).await;
    let next = first["metadata"]["continue"].as_str().unwrap();
    let second = get(&server, &format!("/api/v1/nodes?limit=9&continue={next}")).await;
    assert_eq!(names(&second), ["c", "d", "e", "f"]);
    assert_eq!(version(&second), version(&first));
    assert_eq!(second["metadata"]["continue"], Value::Null);

    assert_eq!(names(&get(&server, "/api/v1/nodes?labelSelector=name%20in%20(a,d)").await), ["a", "d"]);
    assert_eq!(ask(&server, "POST", "/_faults", "", json!({"expire": true})).await.0, 200);
    let url = format!("/api/v1/nodes?continue={next}");
    assert_eq!(ask(&server, "GET", &url, "", Value::Null).await.1["reason"], "Expired");
}

#[tokio::test]
async fn objects_of_a_namespace_are_listed_apart_and_together() {
    let server = quick();
    for (namespace, name) in [("x", "p"), ("x", "q"), ("y", "p")] {
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}});
        create(&server, &format!("/api/v1/namespaces/{namespace}/pods"), pod).await;
    }
    assert_eq!(names(&get(&server, "/api/v1/namespaces/x/pods").await), ["p", "q"]);
    assert_eq!(names(&get(&server, "/api/v1/namespaces/y/pods").await), ["p"]);
    assert_eq!(names(&get(&server, "/api/v1/pods").await).len(), 3);
    assert_eq!(names(&get(&server, "/api/v1/pods?limit=2").await), ["p", "q"]);
}

#[tokio::test]
async fn a_watch_tells_what_came_after_its_version() {
    let server = quick();
    let a = create(&server, NODES, node("a")).await;
    create(&server, NODES, node("b")).await;
    let mut lines =
        Lines::open(&server, &format!("{NODES}?watch=true&resourceVersion={}", version(&a))).await;
    assert_eq!(lines.told().await, "ADDED b");
    patch(&server, "/api/v1/nodes/a", json!({"spec": {"x": 1}})).await;
    assert_eq!(lines.told().await, "MODIFIED a");
    ask(&server, "DELETE", "/api/v1/nodes/b", "", Value::Null).await;
    assert_eq!(lines.told().await, "DELETED b");
}

#[tokio::test]
async fn bookmarks_advance_with_what_happens_elsewhere() {
    let server = quick();
    let a = create(&server, NODES, node("a")).await;
    let url = format!("{NODES}?watch=true&resourceVersion={}&allowWatchBookmarks=true", version(&a));
    let mut lines = Lines::open(&server, &url).await;
    let other = create(&server, "/apis/weft.dev/v1/ippools", json!({"metadata": {"name": "p"}})).await;
    loop {
        let event = lines.next().await.unwrap();
        assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("BOOKMARK"), &json!("Node")));
        if version(&event["object"]) == version(&other) {
            break;
        }
    }
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_that_says_so() {
    let server = quick();
    create(&server, NODES, node("a")).await;
    let url = "/api/v1/nodes?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&server, url).await;
    assert_eq!(lines.told().await, "ADDED a");
    let end = lines.next().await.unwrap();
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_watch_from_an_old_version_gets_410() {
    let server = server(StoreOptions { history: 3, ..StoreOptions::default() });
    let a = create(&server, NODES, node("a")).await;
    for name in ["b", "c", "d", "e"] {
        create(&server, NODES, node(name)).await;
    }
    let mut lines =
        Lines::open(&server, &format!("{NODES}?watch=true&resourceVersion={}", version(&a))).await;
    let event = lines.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn faults_expire_and_close_open_watches() {
    let server = quick();
    let a = create(&server, NODES, node("a")).await;
    let url = format!("{NODES}?watch=true&resourceVersion={}", version(&a));
    let mut lines = Lines::open(&server, &url).await;
    ask(&server, "POST", "/_faults", "", json!({"close_watches": true})).await;
    assert_eq!(lines.next().await, None);
    let mut lines = Lines::open(&server, &url).await;
    ask(&server, "POST", "/_faults", "", json!({"expire": true})).await;
    assert_eq!(lines.next().await.unwrap()["object"]["code"], 410);
}

#[tokio::test]
async fn a_fault_refuses_as_often_as_it_says_and_only_what_it_matches() {
    let server = quick();
    let fault = json!({"status": 429, "retryAfter": 7, "count": 2, "match": "weftnodes"});
    assert_eq!(ask(&server, "POST", "/_faults", "", fault).await.0, 200);
    let url = "/apis/weft.dev/v1/weftnodes";
    get(&server, NODES).await;
    for _ in 0..2 {
        let response = open(&server, "GET", url, "", Value::Null).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (429, &"7".parse().unwrap())
        );
    }
    get(&server, url).await;
    assert_eq!(get(&server, "/_requests").await, json!({"list nodes": 1, "list weftnodes": 3}));
    assert_eq!(ask(&server, "POST", "/_faults", "", json!({"hangs": true})).await.0, 400);
}

#[tokio::test]
async fn a_server_that_hangs_answers_when_it_is_healed() {
    let server = quick();
    ask(&server, "POST", "/_faults", "", json!({"hang": true})).await;
    let mut pending = tokio::spawn({
        let server = server.clone();
        async move { get(&server, NODES).await }
    });
    tokio::select! {
        biased;
        _ = &mut pending => panic!("it answered while it hung"),
        () = tokio::task::yield_now() => {}
    }
    ask(&server, "DELETE", "/_faults", "", Value::Null).await;
    assert_eq!(names(&pending.await.unwrap()).len(), 0);
}

#[tokio::test]
async fn what_belongs_to_an_object_goes_with_it() {
    let server = quick();
    let owner = create(&server, NODES, node("a")).await;
    let uid = owner["metadata"]["uid"].clone();
    let url = "/apis/weft.dev/v1/weftnodes";
    let owned =
        |name: &str| json!({"metadata": {"name": name, "ownerReferences": [{"uid": uid, "name": "a"}]}});
    create(&server, url, owned("a")).await;
    create(&server, url, json!({"metadata": {"name": "free"}})).await;
    ask(&server, "DELETE", "/api/v1/nodes/a", "", Value::Null).await;
    assert_eq!(names(&get(&server, url).await), ["free"]);
    create(&server, url, owned("late")).await;
    assert_eq!(names(&get(&server, url).await), ["free"], "its owner was gone before it came");
}

#[tokio::test]
async fn an_object_with_finalizers_goes_when_they_are_gone() {
    let server = quick();
    let mut wish = node("a");
    wish["metadata"]["finalizers"] = json!(["weft.dev/x"]);
    create(&server, NODES, wish).await;
    let (_, marked) = ask(&server, "DELETE", "/api/v1/nodes/a", "", Value::Null).await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    patch(&server, "/api/v1/nodes/a", json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(ask(&server, "GET", "/api/v1/nodes/a", "", Value::Null).await.0, 404);
}

#[tokio::test]
async fn apply_makes_what_is_not_there_and_takes_yaml() {
    let server = quick();
    let url = "/apis/weft.dev/v1/weftnodes/a";
    let apply = |text: &str| {
        let request = Request::builder().method("PATCH").uri(format!("{url}?fieldManager=m&force=true"));
        let request = request.header("content-type", "application/apply-patch+yaml");
        server.clone().answer(request.body(Full::new(Bytes::from(text.to_owned()))).unwrap())
    };
    let text = "apiVersion: weft.dev/v1\nkind: WeftNode\nmetadata: {name: a}\nspec: {port: 51820, key: k}\n";
    assert_eq!(apply(text).await.unwrap().status(), 201);
    let once = get(&server, url).await;
    assert_eq!(apply(text).await.unwrap().status(), 200);
    assert_eq!(get(&server, url).await, once);
    assert_eq!(apply(&text.replace(", key: k", "")).await.unwrap().status(), 200);
    assert_eq!(get(&server, url).await["spec"], json!({"port": 51820}));
}

#[tokio::test]
async fn a_server_that_returns_has_its_objects_and_versions() {
    let path = std::env::temp_dir().join(format!("weft-cluster-{}.json", std::process::id()));
    let options = StoreOptions { state: Some(path.clone()), ..StoreOptions::default() };
    let first = server(options.clone());
    let a = create(&first, NODES, node("a")).await;
    create(&first, NODES, node("b")).await;
    ask(&first, "DELETE", "/api/v1/nodes/b", "", Value::Null).await;
    let before = get(&first, NODES).await;
    drop(server(options.clone()));
    let second = server(options);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(get(&second, NODES).await, before);
    let mut lines =
        Lines::open(&second, &format!("{NODES}?watch=true&resourceVersion={}", version(&a))).await;
    assert_eq!(lines.next().await.unwrap()["object"]["code"], 410);
    let mut lines =
        Lines::open(&second, &format!("{NODES}?watch=true&resourceVersion={}", version(&before))).await;
    create(&second, NODES, node("c")).await;
    assert_eq!(lines.told().await, "ADDED c");
}
