//! What people ask for by arguments: `install` and `uninstall`, help and version.
//!
//! Installing puts the plugin in place first, and the network configuration last, when the daemon can serve it: a
//! runtime starts containers as soon as it finds a configuration. How files get in place is [`place`]'s.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_proto::client::DEFAULT_ENDPOINT;
use weft_proto::v1::EndpointStatusRequest;

use crate::daemon;
use crate::settings::Access;
use place::{Done, PlaceError};

mod place;

/// The name of the plugin's file, and the `type` of configurations.
const PLUGIN: &str = "weft-cni";

const USAGE: &str = "\
The CNI plugin of Weft. Container runtimes run it without arguments (CNI_COMMAND says what to do).

Usage: weft-cni install --network NAME [OPTIONS]
       weft-cni install --plugin-only [--bin-dir DIR]
       weft-cni uninstall [OPTIONS]
       weft-cni --version | --help

Options:
  --bin-dir DIR       where the runtime looks for plugins [default: /opt/cni/bin]
  --conf-dir DIR      where it looks for network configurations [default: /etc/cni/net.d]
  --conf-name FILE    name of the configuration's file [default: 10-weft.conflist]

Options of install:
  --network NAME      the Weft Network that containers are attached to
  --plugin-only       no network configuration: somebody else writes it, when the daemon is ready
  --name NAME         name of the network configuration [default: weft]
  --port-type TYPE    veth or tap [default: veth]
  --mtu OCTETS        of the containers' devices [default: the Network's]
  --socket ENDPOINT   the daemon's socket [default: unix:///run/weft/weftd.sock]
  --wait SECONDS      how long the daemon may take to be ready [default: 60]
";

/// The exit code when the arguments are wrong.
const WRONG_USAGE: u8 = 2;
/// Pause between questions whether the daemon is ready.
const PAUSE: Duration = Duration::from_millis(200);

/// Arguments of both commands.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    bin_dir: PathBuf,
    conf_dir: PathBuf,
    conf_name: String,
    network: String,
    plugin_only: bool,
    name: String,
    port_type: String,
    mtu: Option<u32>,
    socket: String,
    wait: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Request {
    Install(Options),
    Uninstall(Options),
    Help,
    Version,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum InstallError {
    /// Words that cannot be understood.
    #[error("{0}; see `weft-cni --help`")]
    Usage(String),
    /// A file.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The plugin itself cannot be read.
    #[error("cannot read this program: {0}")]
    Myself(#[source] io::Error),
    /// The daemon.
    #[error("the daemon is not ready, so no configuration was written: {0}")]
    NotReady(String),
}

/// Does what the arguments say.
pub fn main(words: &[OsString]) -> ExitCode {
    let done = match parse(words) {
        Ok(Request::Help) => return tell(USAGE),
        Ok(Request::Version) => return tell(&format!("weft-cni {}\n", env!("CARGO_PKG_VERSION"))),
        Ok(Request::Install(options)) => install(&options),
        Ok(Request::Uninstall(options)) => uninstall(&options),
        Err(error) => Err(error),
    };
    match done {
        Ok(lines) => tell(&lines.concat()),
        Err(error) => {
            // When standard error is closed there is nobody left to tell.
            let _ = writeln!(io::stderr(), "weft-cni: {error}");
            let usage = matches!(error, InstallError::Usage(_));
            if usage { WRONG_USAGE.into() } else { ExitCode::FAILURE }
        }
    }
}

fn tell(text: &str) -> ExitCode {
    let mut out = io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn install(options: &Options) -> Result<Vec<String>, InstallError> {
    let plugin = options.bin_dir.join(PLUGIN);
    let configuration = options.conf_dir.join(&options.conf_name);
    // Both are looked at before anything is written.
    place::ours_or_none(&plugin, place::is_plugin)?;
    if !options.plugin_only {
        place::ours_or_none(&configuration, place::is_configuration)?;
    }
    let myself = env::current_exe().and_then(std::fs::read).map_err(InstallError::Myself)?;
    let mut lines = vec![line(&plugin, place::put(&plugin, &myself, 0o755)?)];
    if options.plugin_only {
        return Ok(lines);
    }
    wait_for_daemon(options)?;
    let text = format!("{:#}\n", conflist(options));
    lines.push(line(&configuration, place::put(&configuration, text.as_bytes(), 0o644)?));
    Ok(lines)
}

/// Takes the configuration away first: a runtime must not find it without the plugin.
fn uninstall(options: &Options) -> Result<Vec<String>, InstallError> {
    let plugin = options.bin_dir.join(PLUGIN);
    let configuration = options.conf_dir.join(&options.conf_name);
    place::ours_or_none(&plugin, place::is_plugin)?;
    place::ours_or_none(&configuration, place::is_configuration)?;
    let mut lines = Vec::new();
    for path in [configuration, plugin] {
        lines.push(line(&path, place::remove(&path)?));
    }
    Ok(lines)
}

fn line(path: &std::path::Path, done: Done) -> String {
    format!("{} {done}\n", path.display())
}

/// The network configuration: what old and new runtimes understand.
fn conflist(options: &Options) -> Value {
    let mut plugin = json!({
        "type": PLUGIN,
        "network": options.network,
        "portType": options.port_type,
        "capabilities": {
            "portMappings": true, "bandwidth": true, "ips": true, "mac": true, "dns": true, "ipRanges": true,
        },
    });
    if let Some(mtu) = options.mtu {
        plugin["mtu"] = mtu.into();
    }
    if options.socket != DEFAULT_ENDPOINT {
        plugin["socket"] = options.socket.as_str().into();
    }
    json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": options.name,
        "plugins": [plugin],
    })
}

/// Asks until Attach would be served.
fn wait_for_daemon(options: &Options) -> Result<(), InstallError> {
    let runtime = crate::runtime().map_err(|failure| InstallError::NotReady(failure.to_string()))?;
    let access = Access { socket: options.socket.clone(), call_timeout_seconds: 10, ..Access::default() };
    let start = Instant::now();
    loop {
        let reason = match runtime.block_on(ready(&access, &options.network)) {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        if start.elapsed() >= Duration::from_secs(options.wait) {
            return Err(InstallError::NotReady(reason));
        }
        std::thread::sleep(PAUSE);
    }
}

async fn ready(access: &Access, network: &str) -> Result<(), String> {
    let answer = daemon::call(access, Duration::ZERO, |mut client| {
        let request = EndpointStatusRequest { network: network.to_owned(), vlan: 0 };
        async move { client.status(request).await }
    });
    match answer.await {
        Ok(status) if status.ready => Ok(()),
        Ok(status) => Err(status.message),
        Err(unanswered) => Err(daemon::details(unanswered.status())),
    }
}

fn parse(words: &[OsString]) -> Result<Request, InstallError> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Request::Help);
    }
    match words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("--version" | "-V", [])) => Ok(Request::Version),
        Some(("help", [])) => Ok(Request::Help),
        Some(("install", rest)) => {
            let options = parse_options(rest)?;
            // Nobody shall wait for a configuration that does not come.
            if options.network.is_empty() != options.plugin_only {
                return Err(InstallError::Usage("install needs --network, or else --plugin-only".into()));
            }
            Ok(Request::Install(options))
        }
        Some(("uninstall", rest)) => {
            let options = parse_options(rest)?;
            if options.plugin_only {
                return Err(InstallError::Usage("--plugin-only is an option of install".into()));
            }
            Ok(Request::Uninstall(options))
        }
        _ => Err(InstallError::Usage(format!("\"{}\" is not understood", words.join(" ")))),
    }
}

fn parse_options(words: &[String]) -> Result<Options, InstallError> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--plugin-only" {
            options.plugin_only = true;
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value =
                    words.next().ok_or_else(|| InstallError::Usage(format!("{word} needs a value")))?;
                (word.as_str(), value.clone())
            }
        };
        options.set(name, value)?;
    }
    Ok(options)
}

impl Default for Options {
    fn default() -> Self {
        Options {
            bin_dir: "/opt/cni/bin".into(),
            conf_dir: "/etc/cni/net.d".into(),
            conf_name: "10-weft.conflist".into(),
            network: String::new(),
            plugin_only: false,
            name: "weft".into(),
            port_type: "veth".into(),
            mtu: None,
            socket: DEFAULT_ENDPOINT.into(),
            wait: 60,
        }
    }
}

impl Options {
    fn set(&mut self, name: &str, value: String) -> Result<(), InstallError> {
        let wrong = |expected: &str| InstallError::Usage(format!("{name}={value}: {expected} expected"));
        match name {
            "--bin-dir" => self.bin_dir = value.into(),
            "--conf-dir" => self.conf_dir = value.into(),
            "--conf-name"
                if value.contains('/') || !value.ends_with(".conflist") || value.starts_with('.') =>
            {
                return Err(wrong("the name of a file that ends in .conflist"));
            }
            "--conf-name" => self.conf_name = value,
            "--network" => self.network = value,
            "--name" if !crate::environment::is_name(&value) => {
                return Err(wrong("letters, digits, \"_\", \".\" and \"-\""));
            }
            "--name" => self.name = value,
            "--port-type" if value != "veth" && value != "tap" => return Err(wrong("veth or tap")),
            "--port-type" => self.port_type = value,
            "--mtu" => self.mtu = Some(value.parse().map_err(|_| wrong("a number"))?),
            "--socket" => self.socket = value,
            "--wait" => self.wait = value.parse().map_err(|_| wrong("seconds"))?,
            _ => return Err(InstallError::Usage(format!("{name} is not known"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Request, InstallError> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_in_both_forms() {
        let expected = Options {
            network: "front".into(),
            conf_name: "05-w.conflist".into(),
            mtu: Some(1400),
            wait: 3,
            ..Options::default()
        };
        let line = "install --network front --conf-name=05-w.conflist --mtu=1400 --wait 3";
        assert_eq!(words(line).unwrap(), Request::Install(expected));
        let alone = Options { plugin_only: true, bin_dir: "/host/bin".into(), ..Options::default() };
        assert_eq!(words("install --plugin-only --bin-dir /host/bin").unwrap(), Request::Install(alone));
        assert_eq!(words("uninstall").unwrap(), Request::Uninstall(Options::default()));
        assert_eq!(words("--version").unwrap(), Request::Version);
        assert_eq!(words("install --help").unwrap(), Request::Help);
    }

    #[test]
    fn wrong_words_are_told() {
        for line in [
            "remove",
            "install",
            "install --network",
            "install --network n --plugin-only",
            "uninstall --plugin-only",
            "install --network n --x y",
            "install --network n --port-type host",
            "install --network n --conf-name ../x.conflist",
            "install --network n --conf-name x.conf",
            "install --network n --wait long",
            "--version now",
        ] {
            assert!(matches!(words(line), Err(InstallError::Usage(_))), "{line}");
        }
    }

    #[test]
    fn the_configuration_serves_old_and_new_runtimes() {
        let options = Options { network: "front".into(), mtu: Some(1400), ..Options::default() };
        let value = conflist(&options);
        assert_eq!((&value["cniVersion"], &value["name"]), (&json!("1.0.0"), &json!("weft")));
        assert_eq!(value["cniVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
        let plugin = &value["plugins"][0];
        assert_eq!((&plugin["type"], &plugin["network"]), (&json!("weft-cni"), &json!("front")));
        assert_eq!((&plugin["mtu"], plugin.get("socket")), (&json!(1400), None));
        assert_eq!(plugin["capabilities"]["portMappings"], true);
        assert!(place::is_configuration(value.to_string().as_bytes()));
    }
}
