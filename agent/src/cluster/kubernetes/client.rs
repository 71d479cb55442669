//! Connects to the API, with a bound on how long a server may be silent.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::timeout::TimeoutLayer;

use crate::error::{Error, Result};

/// How long the API may take to begin an answer. Lists come in pages, and a watch begins at once.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a connection may be silent in the middle of an answer. A watch ends after 290 seconds, kube-runtime's usual
/// `timeoutSeconds`, and waits for five seconds more: silence of that length is everyday where nothing happens.
const SILENCE: Duration = Duration::from_secs(310);

/// Connects to the API: that of `$KUBECONFIG`, or of the cluster that the agent runs in.
pub async fn connect() -> Result<Client> {
    let config = Config::infer().await.map_err(|error| Error::from(kube::Error::InferConfig(error)))?;
    bounded(config, ANSWER)
}

/// A client whose requests fail when no answer to them has begun after a while.
fn bounded(mut config: Config, answer: Duration) -> Result<Client> {
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(answer)).build())
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use k8s_openapi::api::core::v1::Node;
    use kube::Api;
    use kube::api::{ListParams, WatchEvent, WatchParams};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const BOUND: Duration = Duration::from_millis(100);
    const SILENT: Duration = Duration::from_millis(400);

    /// The API of a server that answers lists with nothing, and begins a watch at once, whose first event comes late.
    async fn nodes() -> Api<Node> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    let length = stream.read(&mut request).await.unwrap();
                    if String::from_utf8_lossy(&request[..length]).contains("watch=true") {
                        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
                        stream.write_all(head.as_bytes()).await.unwrap();
                        tokio::time::sleep(SILENT).await;
                        let event =
                            r#"{"type":"ADDED","object":{"metadata":{"name":"one","resourceVersion":"1"}}}"#;
                        stream.write_all(format!("{event}\n").as_bytes()).await.unwrap();
                    }
                    std::future::pending::<()>().await;
                });
            }
        });
        Api::all(bounded(Config::new(url.parse().unwrap()), BOUND).unwrap())
    }

    #[tokio::test]
    async fn a_server_that_takes_a_request_and_never_answers_is_not_waited_for() {
        let listed = tokio::time::timeout(SILENT * 20, nodes().await.list(&ListParams::default())).await;
        let error = listed.expect("it waits for ever").unwrap_err();
        assert!(matches!(error, kube::Error::Service(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_watch_in_which_nothing_happens_for_long_goes_on() {
        let mut watch = nodes().await.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        let Some(Ok(WatchEvent::Added(node))) = watch.next().await else { panic!("the watch ended") };
        assert_eq!(node.metadata.name.as_deref(), Some("one"));
        assert!(SILENCE > Duration::from_secs(295), "kube-runtime waits that long for a watch to end");
    }
}
