//! The testkit's API server as a program, and the little client that tests talk to it with.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::net::TcpListener;
use weft_testkit::cluster::{self, Store, StoreOptions, client};

const USAGE: &str = "usage: weft-fake-cluster --listen ADDRESS:PORT [--state FILE] [--history EVENTS]
       weft-fake-cluster request METHOD URL [BODY|- [CONTENT-TYPE]]
       weft-fake-cluster apply SERVER-URL <objects, one JSON text after the other>";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["request", method, url, rest @ ..] => request(method, url, rest).await,
        ["apply", server] => apply(server).await,
        options => serve(options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-fake-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: &[&str]) -> Result<()> {
    let mut listen = None;
    let mut store = StoreOptions::default();
    for option in options.chunks(2) {
        match option {
            ["--listen", address] => listen = Some(*address),
            ["--state", file] => store.state = Some(file.into()),
            ["--history", events] => store.history = events.parse().context("--history")?,
            _ => bail!("{USAGE}"),
        }
    }
    let listener = TcpListener::bind(listen.context(USAGE)?).await.context("cannot listen")?;
    cluster::serve(listener, Arc::new(Store::open(store)?)).await
}

async fn request(method: &str, url: &str, rest: &[&str]) -> Result<()> {
    let usual = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let (body, form) = match rest {
        [] => ("", usual),
        [body] => (*body, usual),
        [body, form] => (*body, *form),
        _ => bail!("{USAGE}"),
    };
    let body = if body == "-" { input()? } else { body.to_owned() };
    let reply = client::request(method, url, form, &body).await?;
    if !(200..300).contains(&reply.code) {
        bail!("{method} {url}: {} {}", reply.code, reply.body);
    }
    writeln!(std::io::stdout(), "{}", reply.body).context("standard output")
}

async fn apply(server: &str) -> Result<()> {
    let input = input()?;
    let mut connection = client::Connection::open(server).await?;
    for object in serde_json::Deserializer::from_str(&input).into_iter::<Value>() {
        connection.apply(&object.context("no JSON object")?).await?;
    }
    Ok(())
}

fn input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("standard input")?;
    Ok(text)
}
