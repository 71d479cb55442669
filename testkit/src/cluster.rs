//! A small API server of a cluster, for what really watches one: objects of any kind in memory, over HTTP.
//!
//! It speaks what clients of Kubernetes use: get, list in parts, watch with bookmarks, create, replace, four forms of
//! patch, delete, the status subresource, conflicts, and versions that expire. It knows no schemas, no access rights,
//! no discovery and no defaults. It refuses, hangs or forgets on a test's wish ([`fault`]).
//!
//! `weft-fake-cluster` runs it as a process of a lab, and [`ApiServer`] is that process for a test.

use std::sync::Arc;

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub mod answer;
pub mod api_server;
pub mod apply;
pub mod client;
mod contents;
pub mod fault;
pub mod history;
pub mod journal;
pub mod object;
pub mod ownership;
pub mod patch;
pub mod path;
pub mod refusal;
pub mod selector;
pub mod service;
pub mod store;
pub mod stream;

pub use api_server::ApiServer;
pub use service::Server;
pub use store::{Store, StoreOptions};

/// Serves a store's objects to whoever connects, until the listener fails.
pub async fn serve(listener: TcpListener, store: Arc<Store>) -> Result<()> {
    let server = Server::new(store);
    loop {
        let (stream, _) = listener.accept().await.context("a connection to the API server")?;
        // Events are small, and a client waits for each.
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        let server = server.clone();
        let service = service_fn(move |request| server.clone().answer(request));
        tokio::spawn(async move {
            // A client that goes away in the middle is everyday.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
