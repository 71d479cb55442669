//! Probes, status and commands over HTTP, for this node alone.
//!
//! `GET /startupz`, `/livez` and `/readyz` answer 200 or 503, with a line that says why; `GET /status` answers JSON;
//! `GET /connectivity` tries what reaches what and answers JSON; `POST /rotate-key` changes the node's key.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::connectivity::{Query, Refused, Surveyor};
use crate::error::{Error, Result};
use crate::metrics;
use crate::status::Status;

/// What the agent is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Change the node's key.
    RotateKey(oneshot::Sender<std::result::Result<String, String>>),
}

/// What requests are answered from.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The agent's state.
    pub status: watch::Receiver<Status>,
    /// What the agent is asked to do.
    pub commands: mpsc::Sender<Command>,
    /// Who tries what reaches what.
    pub surveyor: Surveyor,
}

type Answer = Response<Full<Bytes>>;

/// Serves until the runtime ends.
pub async fn serve(address: SocketAddr, desk: Desk) -> Result<()> {
    listen(address, move |request| answer(desk.clone(), request)).await
}

/// Serves `GET /metrics`, and nothing else, until the runtime ends: this address others may reach.
pub async fn serve_metrics(address: SocketAddr, status: watch::Receiver<Status>) -> Result<()> {
    listen(address, move |request| {
        let body = (request.method() == Method::GET && request.uri().path() == "/metrics")
            .then(|| metrics::text(&status.borrow()));
        async move {
            Ok(match body {
                Some(body) => with_type(StatusCode::OK, body.into(), metrics::CONTENT_TYPE),
                None => text(StatusCode::NOT_FOUND, "not found\n".into()),
            })
        }
    })
    .await
}

async fn listen<F>(
    address: SocketAddr,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> Result<()>
where
    F: Future<Output = std::result::Result<Answer, Infallible>> + Send + 'static,
{
    let wrong = |source| Error::Listen { address: address.to_string(), source };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    tokio::spawn(async move {
        loop {
            // Out of descriptors: those that are open end at some time.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            };
            let service = service_fn(answer.clone());
            tokio::spawn(async move {
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                let _ = served.await;
            });
        }
    });
    Ok(())
}

async fn answer(desk: Desk, request: Request<Incoming>) -> std::result::Result<Answer, Infallible> {
    let probe = |check: std::result::Result<(), String>| match check {
        Ok(()) => text(StatusCode::OK, "ok\n".into()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    };
    let status = desk.status.borrow().clone();
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/startupz") => {
            let begun = status.begun || status.daemon_answers;
            probe(begun.then_some(()).ok_or_else(|| "weftd has not answered yet".into()))
        }
        (&Method::GET, "/livez") => probe(status.live()),
        (&Method::GET, "/readyz") => probe(status.serves()),
        (&Method::GET, "/status") => json(&status),
        (&Method::GET, "/connectivity") => survey(&desk, request.uri().query().unwrap_or_default()).await,
        (&Method::POST, "/rotate-key") => rotate(&desk).await,
        _ => text(StatusCode::NOT_FOUND, "not found\n".into()),
    })
}

async fn survey(desk: &Desk, query: &str) -> Answer {
    match Query::parse(query) {
        Err(wrong) => text(StatusCode::BAD_REQUEST, format!("{wrong}\n")),
        Ok(query) => match desk.surveyor.survey(&query).await {
            Ok(report) => json(&report),
            Err(refused @ Refused::Busy) => text(StatusCode::CONFLICT, format!("{refused}\n")),
            Err(refused) => text(StatusCode::BAD_REQUEST, format!("{refused}\n")),
        },
    }
}

async fn rotate(desk: &Desk) -> Answer {
    let (sender, receiver) = oneshot::channel();
    let sent = desk.commands.send(Command::RotateKey(sender)).await;
    match (sent, receiver.await) {
        (Ok(()), Ok(Ok(key))) => text(StatusCode::OK, format!("{key}\n")),
        (Ok(()), Ok(Err(why))) => text(StatusCode::CONFLICT, format!("{why}\n")),
        _ => text(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping\n".into()),
    }
}

fn json(value: &impl serde::Serialize) -> Answer {
    // Maps with names as keys, strings and numbers: this cannot fail.
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    with_type(StatusCode::OK, body.into(), "application/json")
}

fn text(code: StatusCode, body: String) -> Answer {
    with_type(code, body.into(), "text/plain; charset=utf-8")
}

fn with_type(code: StatusCode, body: Bytes, kind: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
