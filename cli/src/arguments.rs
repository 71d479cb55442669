//! The arguments of the command line, and their help.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use weft_proto::client::DEFAULT_ENDPOINT;
use weft_proto::v1::Kind;

pub use connectivity::{Agent, Connectivity};
pub use trace::{Block, Trace};
pub use tunnel::{Import, Rotate, TunnelCommand};

mod connectivity;
mod trace;
mod tunnel;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the request was refused or failed
  2  wrong usage
  3  the daemon or the agent cannot be reached, or went away
  4  an object does not exist
  5  applied, but something is not ready";

/// Controls a Weft daemon: declare namespaces, networks, ports, routers and tunnels, and see what they do.
#[derive(Debug, Parser)]
#[command(name = "weft", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Arguments {
    /// The daemon's socket: unix:///PATH or an absolute path
    #[arg(short, long, global = true, env = "WEFT_SOCKET", default_value = DEFAULT_ENDPOINT, value_name = "ENDPOINT")]
    pub socket: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make or change the resources of files, all or none
    Apply(Apply),
    /// Show resources
    Get(Get),
    /// Show everything about one resource
    Describe(Describe),
    /// Take resources away, all or none
    Delete(Delete),
    /// Show resources and then their changes, until interrupted
    Watch(Watch),
    /// Show packets, octets and drops
    Counters(Counters),
    /// Ask what would happen to a packet that enters at a port, or follow real ones with --live
    Trace(Trace),
    /// Show who moves how much, again and again
    Top(Top),
    /// Show the state of the daemon, and of the cluster if an agent runs
    Status(StatusArguments),
    /// Have the agent try whether pods, nodes and the outside reach each other
    Connectivity(Connectivity),
    /// Import tunnels from other programs, and change their keys
    Tunnel {
        /// What to do.
        #[command(subcommand)]
        command: TunnelCommand,
    },
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Arguments of `weft apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// A YAML or JSON file, a folder of them, or - for stdin; repeatable
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Tell what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also delete objects that have all the labels of -l and are not in the files
    #[arg(long, requires = "labels")]
    pub prune: bool,
    /// Labels for --prune: KEY=VALUE[,KEY=VALUE]
    #[arg(short, long, value_name = "LABELS", value_parser = labels, requires = "prune")]
    pub labels: Option<Labels>,
    /// Do not wait until the kernel has been configured
    #[arg(long)]
    pub no_wait: bool,
}

/// How `weft get` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns
    Table,
    /// More columns
    Wide,
    /// JSON: an object for one name, an array otherwise
    Json,
    /// YAML documents, as `weft apply` takes them
    Yaml,
    /// kind/name, one a line
    Name,
}

/// Arguments of `weft get`.
#[derive(Debug, Args)]
pub struct Get {
    /// namespaces (ns), networks (net), ports (po), routers (rt), tunnels (tun) or all
    #[arg(value_parser = scope)]
    pub kind: Scope,
    /// Only these; default all
    pub names: Vec<String>,
    /// Only objects with these labels: KEY=VALUE[,KEY=VALUE]
    #[arg(short, long, value_name = "LABELS", value_parser = labels, conflicts_with = "names")]
    pub labels: Option<Labels>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
}

/// Arguments of `weft describe`.
#[derive(Debug, Args)]
pub struct Describe {
    /// namespace (ns), network (net), port (po), router (rt) or tunnel (tun)
    #[arg(value_parser = kind)]
    pub kind: Kind,
    /// The object's name
    pub name: String,
}

/// Arguments of `weft delete`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["kind", "files"]).required(true))]
pub struct Delete {
    /// namespace (ns), network (net), port (po), router (rt) or tunnel (tun)
    #[arg(value_parser = kind, requires = "names")]
    pub kind: Option<Kind>,
    /// Names of the objects
    pub names: Vec<String>,
    /// Delete what a file, folder or - for stdin declares; repeatable
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Succeed when an object does not exist
    #[arg(long)]
    pub ignore_missing: bool,
    /// Do not wait until the kernel has been cleared
    #[arg(long)]
    pub no_wait: bool,
}

/// How `weft watch` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchFormat {
    /// A line for each event
    Table,
    /// A JSON object a line for each event
    Json,
    /// The event and kind/name
    Name,
}

/// Arguments of `weft watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// namespaces (ns), networks (net), ports (po), routers (rt), tunnels (tun) or all
    #[arg(value_parser = scope, default_value = "all")]
    pub kind: Scope,
    /// Only objects with these labels: KEY=VALUE[,KEY=VALUE]
    #[arg(short, long, value_name = "LABELS", value_parser = labels)]
    pub labels: Option<Labels>,
    /// How to print
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: WatchFormat,
}

/// How diagnostics print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextFormat {
    /// For people
    Text,
    /// JSON
    Json,
}

/// Arguments of `weft counters`.
#[derive(Debug, Args)]
pub struct Counters {
    /// Only this port
    pub port: Option<String>,
    /// Also counters that are zero
    #[arg(long)]
    pub all: bool,
    /// Only drops, by port and reason
    #[arg(long, conflicts_with = "all")]
    pub drops: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: TextFormat,
}

/// Arguments of `weft top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub interval: u32,
    /// Show one interval and end
    #[arg(long)]
    pub once: bool,
    /// The busiest ports, so many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    pub ports: usize,
    /// How to print; JSON is one object a line
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: TextFormat,
}

/// Arguments of `weft status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Where the agent is.
    #[command(flatten)]
    pub agent: Agent,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: TextFormat,
}

/// Labels to select by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(pub BTreeMap<String, String>);

/// One kind or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every kind.
    All,
    /// This one.
    Kind(Kind),
}

impl Scope {
    /// As the API says it: unspecified is all.
    pub fn kind(self) -> Kind {
        match self {
            Scope::All => Kind::Unspecified,
            Scope::Kind(kind) => kind,
        }
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    let expected = "a kind is namespace (ns), network (net), port (po), router (rt) or tunnel (tun)";
    Kind::from_any_name(text).ok_or_else(|| expected.to_owned())
}

fn scope(text: &str) -> Result<Scope, String> {
    match text {
        "all" => Ok(Scope::All),
        _ => kind(text).map(Scope::Kind).map_err(|expected| format!("{expected}, or all")),
    }
}

fn labels(text: &str) -> Result<Labels, String> {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("\"{pair}\" is not KEY=VALUE")),
    };
    text.split(',').map(pair).collect::<Result<_, _>>().map(Labels)
}

#[cfg(test)]
mod tests;
