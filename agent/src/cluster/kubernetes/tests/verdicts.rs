//! What became of what users declared.

use super::*;

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
    for ((keeper, name), is_ready) in keepers.iter().zip(["one", "two", "three"]).zip([true, false, false]) {
        keeper.send_replace(Told { results: result("Network/blue", 1, is_ready), ..serving(name) });
    }
    cluster.until(BLUE, READY, json!("False")).await;
    cluster.requests().await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let requests = cluster.requests().await;
    assert!(!requests.contains_key("patch networks/status"), "they toggle: {requests:?}");
    // The trouble of one ends, and that of the other is told then.
    let first = cluster.get(BLUE).await["status"]["conditions"][0]["message"].clone();
    let (ends, stays) = if first == "node two: words" { (1, 2) } else { (2, 1) };
    keepers[ends].send_modify(|told| told.results = result("Network/blue", 1, true));
    let message = ["node one: words", "node two: words", "node three: words"][stays];
    cluster.until(BLUE, "/status/conditions/0/message", json!(message)).await;
    // The node with trouble goes, and takes it along.
    let name = ["one", "two", "three"][stays];
    cluster.ask("DELETE", &format!("/api/v1/nodes/{name}"), Value::Null).await;
    cluster.until(BLUE, READY, json!("True")).await;
}

#[tokio::test(start_paused = true)]
async fn a_verdict_on_an_earlier_generation_does_not_replace_one_on_a_later() {
    let cluster = Cluster::with_node("one").await;
    cluster.declare("Network", "networks", "blue", json!({})).await;
    let told = keeper(&cluster, "one");
    told.send_replace(Told { results: result("Network/blue", 1, true), ..serving("one") });
    cluster.until(BLUE, READY, json!("True")).await;
    cluster.ask("PATCH", BLUE, json!({"spec": {"mtu": 1400}})).await;
    let later = json!({"type": "Ready", "status": "True", "reason": "Realized", "message": "of another node",
        "observedGeneration": 2, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    cluster.ask("PATCH", &format!("{BLUE}/status"), json!({"status": {"conditions": [later]}})).await;
    told.send_replace(Told { results: result("Network/blue", 1, false), ..serving("one") });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(cluster.get(BLUE).await["status"]["conditions"][0], later);
}

#[tokio::test(start_paused = true)]
async fn of_two_nodes_that_write_at_once_the_later_one_changes_nothing() {
    let cluster = Cluster::new();
    cluster.declare("Network", "networks", "blue", json!({})).await;
    let object = serde_json::from_value(cluster.get(BLUE).await).unwrap();
    let mut known = Known::default();
    known.declared.insert("Network/blue".into(), Standing::of(&object));
    let (now, soon) = (writer::now(), writer::now() + Duration::from_secs(1));
    for (node, is_ready) in [("one", true), ("two", false)] {
        let mut verdicts = verdict::Verdicts::new(node);
        verdicts.look(&result("Network/blue", 1, is_ready), &known, now);
        let (due, _) = verdicts.look(&result("Network/blue", 1, is_ready), &known, soon);
        assert_eq!(due.len(), 1);
        for due in due {
            verdicts.say(cluster.client(), due).await.unwrap();
        }
    }
    let status = cluster.get(BLUE).await["status"].clone();
    assert_eq!(
        (&status["conditions"][0]["status"], &status["observedGeneration"]),
        (&json!("True"), &json!(1))
    );
}
