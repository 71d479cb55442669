//! The arguments of `weft tunnel`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with tunnels.
#[derive(Debug, Subcommand)]
pub enum TunnelCommand {
    /// Make a WireGuard tunnel of a wg-quick configuration file
    Import(Import),
    /// Give a WireGuard tunnel another private key; peers that know it by the one before are let in until --finish
    Rotate(Rotate),
}

/// Arguments of `weft tunnel import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The file, such as /etc/wireguard/wg0.conf, or - for stdin
    pub file: PathBuf,
    /// The tunnel's name; default: the file's, without .conf
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The router that it joins; default: the only one that there is
    #[arg(long, value_name = "ROUTER")]
    pub router: Option<String>,
    /// Print the tunnel as YAML, without its secrets, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait until the tunnel is up
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `weft tunnel rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The tunnel's name
    pub name: String,
    /// Forget the keys before: peers that know the tunnel by them are no longer let in
    #[arg(long, conflicts_with = "private_key_file")]
    pub finish: bool,
    /// A file with the new key, as `wg genkey` writes it, or - for stdin; default: the daemon makes one
    #[arg(long, value_name = "FILE")]
    pub private_key_file: Option<PathBuf>,
}
