//! The arguments of `weft connectivity`, and where the agent is.

use clap::Args;

use super::TextFormat;
use crate::agent::DEFAULT_ADDRESS;

/// Where the agent of this node answers.
#[derive(Debug, Args)]
pub struct Agent {
    /// The agent of this node, http://ADDRESS:PORT
    #[arg(long, env = "WEFT_AGENT", default_value = DEFAULT_ADDRESS, value_name = "URL")]
    pub agent: String,
}

/// Arguments of `weft connectivity`.
#[derive(Debug, Args)]
pub struct Connectivity {
    /// Where the agent is.
    #[command(flatten)]
    pub agent: Agent,
    /// Something outside of the cluster that listens on TCP; default: the Kubernetes API, if the agent knows it
    #[arg(long, value_name = "HOST:PORT", value_parser = word)]
    pub outside: Option<String>,
    /// A name server that pods use
    #[arg(long, value_name = "ADDRESS", value_parser = word)]
    pub dns: Option<String>,
    /// The name that it is asked for [default: kubernetes.default.svc.cluster.local]
    #[arg(long, value_name = "NAME", requires = "dns", value_parser = word)]
    pub name: Option<String>,
    /// Only these other nodes, separated by commas
    #[arg(long, value_name = "NODES", conflicts_with = "all", value_parser = word)]
    pub nodes: Option<String>,
    /// All other nodes, and not 20 of them
    #[arg(long)]
    pub all: bool,
    /// Seconds that one try may take
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=30))]
    pub timeout: u32,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: TextFormat,
}

/// What can stand in a query as it is.
fn word(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".,:-_[]".contains(&byte);
    if text.is_empty() || !text.bytes().all(fits) {
        return Err("letters, digits and .,:-_[] expected".into());
    }
    Ok(text.to_owned())
}
