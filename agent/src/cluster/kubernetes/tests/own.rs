//! What a node says of itself, and to an API that refuses some of it.

use super::*;

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
