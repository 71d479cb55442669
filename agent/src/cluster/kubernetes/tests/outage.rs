//! An API that is away for a while.

use super::*;

/// A way to the server that is cut while `cut` says so.
fn client(cluster: &Cluster, cut: watch::Receiver<bool>) -> Client {
    let server = cluster.0.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (server, cut) = (server.clone(), *cut.borrow());
        async move {
            if cut {
                return Err(tower::BoxError::from("no route to host"));
            }
            server.answer(request).await.map_err(tower::BoxError::from)
        }
    });
    Client::new(service, "default")
}

#[tokio::test(start_paused = true)]
async fn an_api_that_comes_back_and_has_nothing_new_answers_again() {
    let cluster = Cluster::with_node("one").await;
    let (cut, is_cut) = watch::channel(false);
    let mut line = start(client(&cluster, is_cut), "one", None);
    line.told.send_replace(serving("one"));
    cluster.until(OWN, READY, json!("True")).await;
    // It refuses everything, and then it is not there.
    for round in 0..2 {
        match round {
            0 => cluster.fault(json!({"status": 503, "count": 1_000_000})).await,
            _ => drop(cut.send_replace(true)),
        }
        cluster.fault(json!({"close_watches": true})).await;
        assert!(hears(&mut line, Event::Reached(false)).await, "round {round}");
        assert!(!hears(&mut line, Event::Reached(true)).await, "round {round}: it is still away");
        cluster.ask("DELETE", "/_faults", Value::Null).await;
        cut.send_replace(false);
        assert!(hears(&mut line, Event::Reached(true)).await, "round {round}: it is back");
        assert!(!hears(&mut line, Event::Reached(false)).await, "round {round}: it stays");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_given_up_says_nothing_of_the_api_any_more() {
    let cluster = Cluster::with_node("one").await;
    let mut line = start(cluster.client(), "one", None);
    line.told.send_replace(serving("one"));
    cluster.until(OWN, READY, json!("True")).await;
    cluster.fault(json!({"status": 503, "match": "ippools/pods", "count": 1_000_000})).await;
    line.told.send_modify(|told| told.claims = BTreeSet::from(["pods".to_owned()]));
    assert!(hears(&mut line, Event::Reached(false)).await);
    line.told.send_modify(|told| told.claims.clear());
    assert!(hears(&mut line, Event::Reached(true)).await);
}
