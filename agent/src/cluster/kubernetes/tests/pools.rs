//! Pools: claims, and what is heard of those of others.

use super::*;
use crate::cluster::block;

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

#[tokio::test(start_paused = true)]
async fn blocks_that_other_nodes_take_are_heard_of_seldom_and_ones_own_at_once() {
    let cluster = Cluster::with_node("one").await;
    cluster.declare("IPPool", "ippools", "pods", json!({"cidr": "198.18.0.0/16", "blockSize": 24})).await;
    let mut line = start(cluster.client(), "one", None);
    line.told.send_replace(Told { claims: BTreeSet::from(["pods".to_owned()]), ..serving("one") });
    let own = |event: &Event| match event {
        Event::Pools(pools) => pools.iter().any(|pool| !block::owned(pool, "one").is_empty()),
        _ => false,
    };
    let begin = tokio::time::Instant::now();
    while !own(&line.events.recv().await.unwrap()) {}
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // The Node changes meanwhile, after which a claim looks again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.requests().await;
    for node in 0..100 {
        let block = format!("198.18.{node}.128/25");
        let status = json!({"status": {"blocks": {block: format!("node-{node}")}}});
        cluster.ask("PATCH", &format!("{POOL}/status"), status).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let requests = cluster.requests().await;
    assert!(!requests.contains_key("get ippools"), "{requests:?}");
    let all = |event: &Event| match event {
        Event::Pools(pools) => pools.iter().any(|pool| pool.blocks.len() == 101),
        _ => false,
    };
    while !all(&line.events.recv().await.unwrap()) {}
    // A spec that changes is heard of at once, and a pool that is gone.
    cluster.ask("PATCH", POOL, json!({"spec": {"blockSize": 25}})).await;
    let begin = tokio::time::Instant::now();
    let changed = |event: &Event| matches!(event, Event::Pools(pools) if pools[0].block_size == 25);
    while !changed(&line.events.recv().await.unwrap()) {}
    cluster.ask("DELETE", POOL, Value::Null).await;
    assert!(hears(&mut line, Event::Pools(Vec::new())).await);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_gone_hears_at_once_who_has_its_blocks() {
    let cluster = Cluster::with_node("one").await;
    cluster.declare("IPPool", "ippools", "pods", json!({"cidr": "198.18.0.0/16", "blockSize": 24})).await;
    let blocks = |node: &str| json!({"status": {"blocks": {"198.18.0.0/24": node}}});
    cluster.ask("PATCH", &format!("{POOL}/status"), blocks("one")).await;
    let mut line = start(cluster.client(), "one", None);
    line.told.send_replace(serving("one"));
    cluster.until(OWN, READY, json!("True")).await;
    cluster.ask("DELETE", "/api/v1/nodes/one", Value::Null).await;
    cluster.ask("PATCH", &format!("{POOL}/status"), blocks("two")).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    cluster.add_node("one").await;
    let of_two = async {
        let is_of_two = |event: &Event| match event {
            Event::Pools(pools) => pools.iter().any(|pool| !block::owned(pool, "two").is_empty()),
            _ => false,
        };
        while !is_of_two(&line.events.recv().await.unwrap()) {}
    };
    let heard = tokio::time::timeout(Duration::from_secs(5), of_two).await;
    assert!(heard.is_ok(), "it goes by what it read before");
}
