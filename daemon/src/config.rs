//! The daemon's configuration: one TOML file, a few command line options on top.
//!
//! `weftd.toml` beside this crate is the file that ships; a test keeps it complete and equal to the defaults.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use weft_proto::detach_queue::DEFAULT_FOLDER;

use crate::error::{Error, Result};

/// Where the configuration is looked for when no file is named; it may be missing there.
pub const DEFAULT_PATH: &str = "/etc/weft/weftd.toml";

/// The longest path of a Unix socket, in bytes: `sun_path` without the closing zero.
const MAX_SOCKET_PATH: usize = 107;

/// The command line.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "weftd", version, about = "The Weft node daemon")]
pub struct Options {
    /// Configuration file [default: /etc/weft/weftd.toml, if it is there]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Check the configuration and exit
    #[arg(long)]
    pub check: bool,
    /// API socket
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Folder of the stored state
    #[arg(long, value_name = "PATH")]
    pub state_dir: Option<PathBuf>,
    /// Folder of what lives as long as the node is up
    #[arg(long, value_name = "PATH")]
    pub run_dir: Option<PathBuf>,
    /// Folder of the network namespaces that Weft makes
    #[arg(long, value_name = "PATH")]
    pub netns_dir: Option<PathBuf>,
    /// Mount namespace to work in, such as /proc/1/ns/mnt: in a container, the node's
    #[arg(long, value_name = "PATH")]
    pub mounts: Option<PathBuf>,
    /// Least severe log messages: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// API socket.
    pub socket: PathBuf,
    /// Folder of the stored state.
    pub state_dir: PathBuf,
    /// Folder of what lives as long as the node is up.
    pub run_dir: PathBuf,
    /// Folder of the network namespaces that Weft makes.
    pub netns_dir: PathBuf,
    /// Forwarding threads; 0: one a core.
    pub workers: u32,
    /// Longest busy-poll after the last packet, in microseconds.
    pub busy_poll_us: u32,
    /// Whether the kernel may forward between veth Ports what the stack has decided before.
    pub fast_path: bool,
    /// What is logged.
    pub log: LogConfig,
    /// How the kernel is kept in line.
    pub reconcile: ReconcileConfig,
    /// What container runtimes leave behind.
    pub endpoints: EndpointsConfig,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Least severe messages: error, warn, info, debug or trace.
    pub level: String,
    /// How a message looks.
    pub format: LogFormat,
}

/// How a log message looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How the kernel is kept in line.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconcileConfig {
    /// How long a kernel event waits for others before a pass, in milliseconds.
    pub debounce_ms: u32,
    /// Time between full looks at the kernel, in seconds.
    pub resync_seconds: u32,
    /// Longest time between retries of what failed, in seconds.
    pub retry_max_seconds: u32,
}

/// What container runtimes leave behind.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointsConfig {
    /// Where the CNI plugin leaves detachments while the daemon is down.
    pub detach_queue: PathBuf,
    /// How long a container's namespace has been gone before its attachments are taken away, in seconds; 0: they stay
    /// until the runtime asks.
    pub collect_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            socket: "/run/weft/weftd.sock".into(),
            state_dir: "/var/lib/weft".into(),
            run_dir: "/run/weft".into(),
            netns_dir: "/run/netns".into(),
            workers: 0,
            busy_poll_us: 200,
            fast_path: true,
            log: LogConfig::default(),
            reconcile: ReconcileConfig::default(),
            endpoints: EndpointsConfig::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { level: "info".to_owned(), format: LogFormat::Text }
    }
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        ReconcileConfig { debounce_ms: 5, resync_seconds: 300, retry_max_seconds: 30 }
    }
}

impl Default for EndpointsConfig {
    fn default() -> Self {
        EndpointsConfig { detach_queue: DEFAULT_FOLDER.into(), collect_seconds: 60 }
    }
}

impl Config {
    /// Reads the file that the options name, or the default one if it is there, puts the options on top, and
    /// checks every value.
    pub fn load(options: &Options) -> Result<Config> {
        let mut config = match &options.config {
            Some(path) => Config::read(path)?,
            None => match Config::read(Path::new(DEFAULT_PATH)) {
                Err(Error::ConfigFile { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Config::default()
                }
                other => other?,
            },
        };
        config.override_by(options);
        config.check()?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Config> {
        let text =
            fs::read_to_string(path).map_err(|source| Error::ConfigFile { path: path.to_owned(), source })?;
        Config::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Config> {
        toml::from_str(text)
            .map_err(|error| Error::ConfigSyntax { path: path.to_owned(), message: located(text, &error) })
    }

    fn override_by(&mut self, options: &Options) {
        let paths = [
            (&mut self.socket, &options.socket),
            (&mut self.state_dir, &options.state_dir),
            (&mut self.run_dir, &options.run_dir),
            (&mut self.netns_dir, &options.netns_dir),
        ];
        for (value, option) in paths {
            if let Some(option) = option {
                value.clone_from(option);
            }
        }
        if let Some(level) = &options.log_level {
            self.log.level.clone_from(level);
        }
    }

    fn check(&self) -> Result<()> {
        let paths = [
            ("socket", &self.socket),
            ("state_dir", &self.state_dir),
            ("run_dir", &self.run_dir),
            ("netns_dir", &self.netns_dir),
            ("endpoints.detach_queue", &self.endpoints.detach_queue),
        ];
        for (field, path) in paths {
            expect(field, path.display(), path.is_absolute(), "an absolute path")?;
        }
        let length = self.socket.as_os_str().len();
        expect("socket", self.socket.display(), length <= MAX_SOCKET_PATH, "a path of at most 107 bytes")?;
        expect("workers", self.workers, self.workers <= 256, "0 to 256")?;
        expect("busy_poll_us", self.busy_poll_us, self.busy_poll_us <= 1_000_000, "0 to 1000000")?;
        let level = &self.log.level;
        let known = level.parse::<LevelFilter>().is_ok() && level.parse::<u32>().is_err();
        expect("log.level", level, known, "error, warn, info, debug, trace or off")?;
        let ReconcileConfig { debounce_ms, resync_seconds, retry_max_seconds } = self.reconcile;
        expect("reconcile.debounce_ms", debounce_ms, debounce_ms <= 10_000, "0 to 10000")?;
        let resync = (1..=86_400).contains(&resync_seconds);
        expect("reconcile.resync_seconds", resync_seconds, resync, "1 to 86400")?;
        let retry = (1..=3600).contains(&retry_max_seconds);
        expect("reconcile.retry_max_seconds", retry_max_seconds, retry, "1 to 3600")?;
        let collect = self.endpoints.collect_seconds;
        expect("endpoints.collect_seconds", collect, collect <= 86_400, "0 to 86400")
    }
}

fn expect(field: &'static str, value: impl fmt::Display, right: bool, expected: &'static str) -> Result<()> {
    if right { Ok(()) } else { Err(Error::ConfigValue { field, value: value.to_string(), expected }) }
}

/// The line of a syntax error, what stands there and what is wrong with it.
fn located(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return message };
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    format!("line {number}: `{line}`: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(Path::new("weftd.toml"), text)
    }

    #[test]
    fn the_file_that_ships_has_every_option_with_its_default() {
        let shipped: toml::Table = toml::from_str(include_str!("../weftd.toml")).unwrap();
        assert_eq!(shipped, toml::Table::try_from(Config::default()).unwrap());
    }

    #[test]
    fn an_empty_file_gives_the_defaults_and_they_are_right() {
        assert_eq!(parse("").unwrap(), Config::default());
        Config::default().check().unwrap();
    }

    #[test]
    fn wrong_files_are_refused_with_the_line() {
        let error = parse("workers = 1\nsokcet = \"/x\"\n").unwrap_err().to_string();
        assert!(
            error.starts_with(
                "configuration file weftd.toml: line 2: `sokcet = \"/x\"`: unknown field `sokcet`, expected"
            ),
            "{error}"
        );
        let error = parse("[log]\nformat = \"xml\"\n").unwrap_err().to_string();
        assert!(error.contains("line 2: `format = \"xml\"`: unknown variant `xml`"), "{error}");
        let error = parse("workers = -1").unwrap_err().to_string();
        assert!(error.contains("line 1: `workers = -1`"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_named_with_what_was_expected() {
        let wrong = |text: &str| parse(text).unwrap().check().unwrap_err().to_string();
        assert_eq!(wrong("workers = 257"), "configuration: workers: 257 is wrong, 0 to 256 expected");
        assert_eq!(
            wrong("socket = \"weftd.sock\""),
            "configuration: socket: weftd.sock is wrong, an absolute path expected"
        );
        assert_eq!(
            wrong("[log]\nlevel = \"loud\""),
            "configuration: log.level: loud is wrong, error, warn, info, debug, trace or off expected"
        );
        assert_eq!(
            wrong("[reconcile]\nresync_seconds = 0"),
            "configuration: reconcile.resync_seconds: 0 is wrong, 1 to 86400 expected"
        );
        let long = format!("socket = \"/{}\"", "x".repeat(107));
        assert!(wrong(&long).ends_with("a path of at most 107 bytes expected"));
    }

    #[test]
    fn options_win_over_the_file() {
        let options = Options::parse_from([
            "weftd",
            "--socket",
            "/tmp/s",
            "--log-level",
            "debug",
            "--state-dir",
            "/tmp/d",
        ]);
        let mut config = parse("socket = \"/a\"\nrun_dir = \"/b\"").unwrap();
        config.override_by(&options);
        assert_eq!(config.socket, Path::new("/tmp/s"));
        assert_eq!(config.state_dir, Path::new("/tmp/d"));
        assert_eq!(config.run_dir, Path::new("/b"));
        assert_eq!(config.log.level, "debug");
    }

    #[test]
    fn a_named_file_must_exist() {
        let options = Options { config: Some("/nonexistent/weftd.toml".into()), ..Options::default() };
        assert!(matches!(Config::load(&options), Err(Error::ConfigFile { .. })));
    }
}
