//! A private copy of a node, where a daemon and real programs run.
//!
//! A holder process keeps a network and a mount namespace with its own `/run` alive. Every program of the lab
//! is a child of the test that entered them, and dies with it (parent-death signal). The lab's files are seen
//! from outside below `/proc/<holder>/root`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries;
use crate::manifest::Manifest;
use crate::process::{Output, Process};
use crate::wait::{retry_until, wait_until};

/// Longest time that the daemon may take to start.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Makes the lab's own `/run` and waits until it is killed.
const HOLDER: &str = "mount -t tmpfs -o mode=0755 tmpfs /run && mkdir -p /run/netns /run/lab \
    && ip link set lo up && echo ready && exec sleep infinity";

/// Where the daemon's log is kept in the lab.
const LOG: &str = "/run/lab/weftd.log";

/// Where plugins leave detachments while the daemon is down.
pub const DETACH_QUEUE: &str = "/run/lab/detach";

/// Becomes the daemon, whose path is `$0`, with its log kept in the lab.
const DAEMON: &str = "exec \"$0\" --config /run/lab/weftd.toml >>/run/lab/weftd.log 2>&1";

/// How a lab's daemon is configured.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// What the lab is called in messages.
    pub name: String,
    /// Worker threads of the daemon.
    pub workers: u32,
    /// Level of the daemon's log.
    pub log_level: String,
    /// Format of the daemon's log: text or json.
    pub log_format: String,
    /// After how many seconds the attachments of a container are taken away whose namespace is gone.
    pub collect_seconds: u32,
    /// Whether the kernel may forward between veth Ports by itself.
    pub fast_path: bool,
    /// Variables of the daemon's environment.
    pub environment: Vec<(String, String)>,
}

impl LabOptions {
    /// The workers carry what goes between veth Ports, too.
    pub fn without_fast_path() -> LabOptions {
        LabOptions { fast_path: false, ..LabOptions::default() }
    }
}

impl Default for LabOptions {
    fn default() -> Self {
        LabOptions {
            name: "the node".into(),
            workers: 2,
            log_level: "info".into(),
            log_format: "text".into(),
            collect_seconds: 60,
            fast_path: true,
            environment: Vec::new(),
        }
    }
}

/// A private copy of a node.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: the daemon first, then what holds its namespaces.
    daemon: Option<Process>,
    holder: Process,
    environment: Vec<(String, String)>,
    name: String,
}

impl Lab {
    /// A lab with a running daemon.
    pub fn start() -> Result<Lab> {
        Lab::start_with(&LabOptions::default())
    }

    /// A lab with a running daemon that is configured so.
    pub fn start_with(options: &LabOptions) -> Result<Lab> {
        let mut lab = Lab::empty()?;
        lab.environment = options.environment.clone();
        lab.name = options.name.clone();
        let LabOptions { workers, log_level, log_format, collect_seconds, fast_path, .. } = options;
        let text = format!(
            "state_dir = \"/run/lab/state\"\nworkers = {workers}\nfast_path = {fast_path}\n\
             [log]\nlevel = \"{log_level}\"\nformat = \"{log_format}\"\n\
             [endpoints]\ndetach_queue = \"{DETACH_QUEUE}\"\ncollect_seconds = {collect_seconds}\n"
        );
        fs::write(lab.path("/run/lab/weftd.toml"), text).context("the daemon's configuration")?;
        lab.restart()?;
        Ok(lab)
    }

    /// Runs a test in a lab with a daemon; panics with the test's error, after the daemon's log.
    pub fn test(test: impl FnOnce(&mut Lab) -> Result<()>) {
        Lab::test_with(&LabOptions::default(), test);
    }

    /// Like [`Lab::test`], with a daemon that is configured so.
    pub fn test_with(options: &LabOptions, test: impl FnOnce(&mut Lab) -> Result<()>) {
        let mut lab = Lab::start_with(options).unwrap_or_else(|error| panic!("{error:#}"));
        if let Err(error) = test(&mut lab) {
            panic!("{error:#}");
        }
    }

    /// A lab without a daemon.
    pub fn empty() -> Result<Lab> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--propagation", "private"]);
        command.args(["sh", "-c", HOLDER]);
        let mut holder = Process::spawn(command, "the lab's holder", None)?;
        holder.wait_for("ready").context("a lab needs root, to make namespaces")?;
        Ok(Lab { daemon: None, holder, environment: Vec::new(), name: "a lab".into() })
    }

    /// Where a file of the lab is found from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.holder.pid()))
    }

    /// The node itself: the namespace where the daemon runs.
    pub fn node(&self) -> Place<'_> {
        Place { lab: self, name: None }
    }

    /// A named network namespace of the lab.
    pub fn container(&self, name: &str) -> Place<'_> {
        Place { lab: self, name: Some(name.to_owned()) }
    }

    /// Starts the daemon, again if it was killed, and waits until it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.stop_daemon()?;
        self.launch_daemon()?;
        self.wait_for_daemon()
    }

    /// Starts the daemon without waiting for it.
    pub fn launch_daemon(&mut self) -> Result<()> {
        let program = binaries::find("weftd")?;
        let program = program.to_str().context("the path of weftd is not UTF-8")?;
        let mut command = Command::new("setpriv");
        self.node().enter(&mut command, &["sh", "-c", DAEMON, program]);
        command.env("RUST_BACKTRACE", "1").env_remove("RUST_LOG").envs(self.environment.iter().cloned());
        self.daemon = Some(Process::spawn(command, "weftd", None)?);
        Ok(())
    }

    /// Waits until the daemon answers, with a deadline.
    pub fn wait_for_daemon(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let output = self.weft(&["status"])?;
            if output.success() {
                return Ok(());
            }
            if !self.daemon.as_mut().is_some_and(Process::is_running) {
                bail!("weftd ended while it started:\n{}", self.log());
            }
            if start.elapsed() > START_DEADLINE {
                bail!("weftd does not answer: {output}\n{}", self.log());
            }
        }
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill_daemon(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }

    /// Ends the daemon with SIGTERM and gives its exit code; nothing is done when none runs.
    pub fn stop_daemon(&mut self) -> Result<()> {
        let Some(daemon) = self.daemon.take() else { return Ok(()) };
        daemon.signal("TERM")?;
        let output = daemon.wait()?;
        if output.success() { Ok(()) } else { bail!("weftd did not stop cleanly: {output}\n{}", self.log()) }
    }

    /// The daemon's process id, as seen outside of the lab.
    pub fn daemon_pid(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("no daemon runs in this lab")?.pid())
    }

    /// The id of a process in the node's namespace that lives as long as the lab.
    pub fn holder_pid(&self) -> u32 {
        self.holder.pid()
    }

    /// All that the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path(LOG)).unwrap_or_default()
    }

    /// Runs `weft` with these arguments.
    pub fn weft(&self, args: &[&str]) -> Result<Output> {
        self.weft_with_input(args, None)
    }

    /// Runs `weft` with `input` on its standard input.
    pub fn weft_with_input(&self, args: &[&str], input: Option<&str>) -> Result<Output> {
        self.weft_process(args, input)?.wait()
    }

    /// Starts `weft`, for commands that go on by themselves such as `watch`.
    pub fn weft_process(&self, args: &[&str], input: Option<&str>) -> Result<Process> {
        let program = binaries::find("weft")?;
        let program = program.to_str().context("the path of weft is not UTF-8")?;
        self.node().spawn_with_input(&[&[program], args].concat(), input)
    }

    /// Applies a manifest and wants all of it to be ready.
    pub fn apply(&self, manifest: &Manifest) -> Result<String> {
        self.try_apply(&manifest.to_string())?.ok()
    }

    /// Applies YAML text, however that ends.
    pub fn try_apply(&self, yaml: &str) -> Result<Output> {
        self.weft_with_input(&["apply", "-f", "-"], Some(yaml))
    }

    /// One object, as `weft get -o json` shows it.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.weft(&["get", kind, name, "-o", "json"])?.ok()?;
        serde_json::from_str(&text).with_context(|| format!("no JSON object: {text}"))
    }

    /// The drops of a port by reason, in either direction.
    pub fn drops(&self, port: &str, reason: &str) -> Result<u64> {
        let object = self.get("port", port)?;
        Ok(object["status"]["counters"]["drops"][reason].as_u64().unwrap_or(0))
    }

    /// Whether an object's Ready condition holds, its reason and its message.
    pub fn ready(&self, kind: &str, name: &str) -> Result<(bool, String, String)> {
        let object = self.get(kind, name)?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|c| c["type"] == "Ready").cloned().unwrap_or_default();
        let word = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        Ok((ready["status"] == true, word("reason"), word("message")))
    }

    /// Waits until an object is ready, or is not for `reason`.
    pub fn wait_for_state(&self, kind: &str, name: &str, ready: bool, reason: Option<&str>) -> Result<()> {
        retry_until(Duration::from_secs(20), &format!("{kind} {name} ready={ready} {reason:?}"), || {
            let (is, why, message) = self.ready(kind, name)?;
            if is == ready && reason.is_none_or(|r| r == why) {
                return Ok(());
            }
            bail!("{kind} {name}: ready={is} {why}: {message}")
        })
    }

    fn print_log(&self) {
        let log = self.log();
        let tail = log.lines().rev().take(200).collect::<Vec<_>>();
        eprintln!("--- the daemon's log of {}, at most its last 200 lines", self.name);
        tail.iter().rev().for_each(|line| eprintln!("{line}"));
    }

    /// The network namespaces by name, sorted.
    pub fn namespaces(&self) -> Result<Vec<String>> {
        names_in(&self.path("/run/netns"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() && self.path(LOG).exists() {
            self.print_log();
        }
    }
}

/// Somewhere in a lab where programs run: the node or a container's namespace.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    lab: &'a Lab,
    name: Option<String>,
}

impl Place<'_> {
    /// Runs a command line, split at white space, to its end.
    pub fn run(&self, line: &str) -> Result<Output> {
        self.spawn(line)?.wait()
    }

    /// Runs a program with arguments to its end.
    pub fn exec(&self, command: &[&str]) -> Result<Output> {
        self.spawn_with_input(command, None)?.wait()
    }

    /// Starts a command line, split at white space.
    pub fn spawn(&self, line: &str) -> Result<Process> {
        self.spawn_with_input(&line.split_whitespace().collect::<Vec<_>>(), None)
    }

    /// Starts a program with arguments, and `input` on its standard input.
    pub fn spawn_with_input(&self, command: &[&str], input: Option<&str>) -> Result<Process> {
        self.entrance().spawn(command, input)
    }

    /// Pings an address three times and wants every answer.
    pub fn reaches(&self, address: &str) -> Result<()> {
        let output = self.run(&format!("ping -n -c 3 -i 0.05 -W 5 {address}"))?;
        if output.stdout.contains("3 received") {
            Ok(())
        } else {
            bail!("{address} is not reached: {output}")
        }
    }

    /// Pings an address twice and wants no answer.
    pub fn does_not_reach(&self, address: &str) -> Result<()> {
        let output = self.run(&format!("ping -n -c 2 -i 0.05 -W 1 {address}"))?;
        let silent = output.stdout.contains(" 0 received") || output.text().contains("unreachable");
        if silent { Ok(()) } else { bail!("{address} is reached, and should not be: {output}") }
    }

    /// Waits until something listens on this TCP port.
    pub fn wait_for_listener(&self, port: u16) -> Result<()> {
        let filter = format!("ss -Hltn sport = :{port}");
        wait_until(Duration::from_secs(10), &format!("a listener on TCP port {port}"), || {
            self.run(&filter).is_ok_and(|output| output.stdout.contains("LISTEN"))
        })
    }

    /// The way into this place, for what outlives the borrow of its lab.
    pub(crate) fn entrance(&self) -> Entrance {
        let holder = self.lab.holder.pid();
        let net = match &self.name {
            None => format!("/proc/{holder}/ns/net"),
            Some(name) => format!("/proc/{holder}/root/run/netns/{name}"),
        };
        Entrance { mount: format!("/proc/{holder}/ns/mnt"), net }
    }

    fn enter(&self, command: &mut Command, arguments: &[&str]) {
        self.entrance().enter(command, arguments);
    }
}

/// The namespaces of a place, as paths.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    mount: String,
    net: String,
}

impl Entrance {
    /// Starts a program with arguments, and `input` on its standard input.
    pub(crate) fn spawn(&self, command: &[&str], input: Option<&str>) -> Result<Process> {
        let mut entered = Command::new("setpriv");
        self.enter(&mut entered, command);
        Process::spawn(entered, &command.join(" "), input)
    }

    fn enter(&self, command: &mut Command, arguments: &[&str]) {
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--mount={}", self.mount)).arg(format!("--net={}", self.net));
        command.arg("--").args(arguments).env("LC_ALL", "C").env("NO_COLOR", "1");
    }
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
