//! `weft-agent`: the command line, and what is started.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing_subscriber::EnvFilter;
use weft_agent::cluster::{etcd, kubernetes};
use weft_agent::config::{Config, Keeper, LogFormat};
use weft_agent::connectivity::Surveyor;
use weft_agent::connectivity::name_server::NameServer;
use weft_agent::crd;
use weft_agent::http::{self, Desk};
use weft_agent::pods::Counter;
use weft_agent::status::Status;
use weft_agent::steward::{News, Steward};
use weft_proto::Client;

/// Tells the daemon of this node what the cluster is
#[derive(Debug, Parser)]
#[command(name = "weft-agent", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work until SIGTERM
    Run {
        /// Configuration file [default: /etc/weft/agent.toml, if it is there]
        #[arg(long, value_name = "PATH")]
        config: Option<PathBuf>,
        /// The name of this node in the cluster [default: the configuration's]
        #[arg(long, value_name = "NAME")]
        node_name: Option<String>,
        /// Least severe log messages: error, warn, info, debug or trace [default: the configuration's]
        #[arg(long, value_name = "LEVEL")]
        log_level: Option<String>,
        /// Check the configuration and exit
        #[arg(long)]
        check: bool,
    },
    /// Forget a node that is gone for good (etcd): others no longer reach its containers, and may take its addresses
    Forget {
        /// Its name
        node: String,
        /// Configuration file [default: /etc/weft/agent.toml, if it is there]
        #[arg(long, value_name = "PATH")]
        config: Option<PathBuf>,
    },
    /// Print the definitions of Weft's resources for Kubernetes
    Crds,
}

fn main() -> Result<()> {
    match Options::parse().command {
        Command::Crds => print_crds(),
        Command::Forget { node, config } => forget(&Config::load(config.as_deref())?, &node),
        Command::Run { config, node_name, log_level, check } => {
            let mut config = Config::load(config.as_deref())?;
            config.node_name = node_name.unwrap_or(config.node_name);
            config.log_level = log_level.unwrap_or(config.log_level);
            if check { Ok(()) } else { run(config) }
        }
    }
}

fn print_crds() -> Result<()> {
    let mut out = std::io::stdout();
    for definition in crd::definitions() {
        let text = format!("---\n{}", serde_yaml_ng::to_string(&definition)?);
        match out.write_all(text.as_bytes()) {
            // Whoever reads has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout)] // it is what was asked for
fn forget(config: &Config, node: &str) -> Result<()> {
    if config.cluster != Keeper::Etcd {
        anyhow::bail!(
            "cluster: \"etcd\" expected: in Kubernetes a node is forgotten when its Node is deleted"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(etcd::forget(config, node))?;
    println!("node {node} is forgotten");
    Ok(())
}

fn run(config: Config) -> Result<()> {
    start_log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        work(config, stop).await
    })
}

fn start_log(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(format!("{},kube_client=off,kube_runtime=off", config.log_level))
        .with_context(|| {
            format!("log_level: \"{}\", error, warn, info, debug or trace expected", config.log_level)
        })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Starts everything, and works until told to stop.
async fn work(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = config.node_name, mode = ?config.tunnel.mode, "weft-agent is up");
    let client = Client::connect(&config.daemon_socket)?;
    let (status, watched) = watch::channel(Status::new(&config.node_name, config.tunnel.mode));
    let (sender, commands) = mpsc::channel(8);
    if !config.http_address.is_empty() {
        let address: SocketAddr = config.http_address.parse().context("http_address")?;
        let surveyor = Surveyor::start(watched.clone(), api_server(&config), NameServer::of(&config))
            .context("the probe's thread")?;
        http::serve(address, Desk { status: watched.clone(), commands: sender, surveyor }).await?;
    }
    if !config.metrics_address.is_empty() {
        let address: SocketAddr = config.metrics_address.parse().context("metrics_address")?;
        http::serve_metrics(address, watched.clone()).await?;
    }
    let line = match config.cluster {
        Keeper::Kubernetes => {
            let counter = config.cni.secondary_networks.then(|| Counter::open(&config)).transpose()?;
            kubernetes::start(kubernetes::connect().await?, &config.node_name, counter)
        }
        Keeper::Etcd => etcd::start(&config)?,
    };
    let (sender, daemon) = mpsc::channel(64);
    tokio::spawn(weft_agent::daemon::listen(client.clone(), sender));
    let steward = Steward::new(config, &client, line.told, status)?;
    steward.run(News { events: line.events, daemon, commands }, stop).await;
    Ok(())
}

/// Where pods find the Kubernetes API, by the variables that Kubernetes sets: something outside of the pods' network.
fn api_server(config: &Config) -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (host, port) = (set("KUBERNETES_SERVICE_HOST")?, set("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    (config.cluster == Keeper::Kubernetes).then(|| format!("{host}:{port}"))
}
