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
