//! The chart's pod on a node, run by containerd as the kubelet would have it run, with an image of the programs under
//! test.

use std::collections::BTreeSet;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use weft_testkit::runtimes::Containerd;
use weft_testkit::runtimes::cri::{ContainerConfig, PodSandboxConfig};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, binaries};

use super::daemonset::DaemonSet;
use super::node::SOON;

/// What makes the image of programs.
const MAKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/image/archive");
/// What the image is called here.
const NAME: &str = concat!("weft.dev/weft:", env!("CARGO_PKG_VERSION"));
/// The variable that names an image to run instead of one of the programs under test.
const MADE: &str = "WEFT_IMAGE";
/// The programs in it.
const PROGRAMS: [&str; 4] = ["weftd", "weft", "weft-cni", "weft-agent"];
/// Value of a container's state.
const EXITED: i32 = 2;
/// The pod of the chart's DaemonSet on a node.
pub struct Release<'a> {
    lab: &'a Lab,
    containerd: &'a Containerd,
    /// What the chart says of it.
    pub daemonset: DaemonSet,
    config: PodSandboxConfig,
    /// Its sandbox.
    pub sandbox: String,
}

impl<'a> Release<'a> {
    /// The pod without its containers, where this containerd runs.
    pub fn new(lab: &'a Lab, containerd: &'a Containerd, daemonset: DaemonSet) -> Result<Release<'a>> {
        let config = daemonset.sandbox(containerd.wish("weft"))?;
        let sandbox = containerd.sandbox(config.clone())?;
        Ok(Release { lab, containerd, daemonset, config, sandbox })
    }

    /// Starts a container and gives its id.
    pub fn start(&self, wish: ContainerConfig) -> Result<String> {
        self.containerd.container(&self.sandbox, self.config.clone(), wish)
    }

    /// What a container has said.
    pub fn said(&self, name: &str) -> String {
        fs::read_to_string(self.lab.path(&format!("/run/lab/{name}.log"))).unwrap_or_default()
    }

    /// Runs a container to its end, and wants it to have succeeded.
    pub fn finish(&self, wish: ContainerConfig) -> Result<()> {
        let name = wish.metadata.clone().context("a name")?.name;
        let container = self.start(wish)?;
        let status = retry_until(SOON, "the end of a container", || {
            let status = self.containerd.status(&container)?;
            ensure!(status.state == EXITED, "{status:?}: {}", self.said(&name));
            Ok(status)
        })?;
        ensure!(status.exit_code == 0, "{status:?}: {}", self.said(&name));
        Ok(())
    }

    /// Starts the daemon and waits until it serves; that is asked as the kubelet does.
    pub fn serve(&self) -> Result<()> {
        let container = self.start(self.daemonset.container("daemon")?)?;
        let command = self.daemonset.startup("daemon")?;
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let serves = || self.containerd.exec_in(&container, &command);
        retry_until(SOON, "the daemon", serves).with_context(|| self.said("daemon")).map(drop)
    }
}

/// Imports the image that `make image` has made, if the environment names it, else one that is made here.
pub fn import(lab: &Lab, containerd: &Containerd) -> Result<()> {
    let archive = match env::var(MADE) {
        Ok(path) => fs::canonicalize(&path).with_context(|| path)?.display().to_string(),
        Err(_) => make(lab)?,
    };
    let said = containerd.ctr(&["images", "import", &archive])?;
    ensure!(said.contains(NAME), "{said}");
    Ok(())
}

/// Makes the image and gives its path. The programs under test are not static, because building them once more would take
/// minutes: the libraries that they need go in beside them. The image of `make image` has none.
fn make(lab: &Lab) -> Result<String> {
    let must = |command: &[&str]| lab.node().exec(command)?.ok().map(drop);
    must(&["mkdir", "/run/lab/programs"])?;
    let mut found = Vec::new();
    for program in PROGRAMS {
        let path = binaries::find(program)?.display().to_string();
        // The runtime copies them for each container, and lines of the source are most of them.
        must(&["strip", "--strip-debug", "-o", &format!("/run/lab/programs/{program}"), &path])?;
        found.push(path);
    }
    let libraries: Vec<String> = libraries(&found)?.iter().map(|path| format!("--add={path}")).collect();
    let mut words = vec![
        MAKER,
        "--programs=/run/lab/programs",
        "--output=/run/lab/weft.tar",
        concat!("--version=", env!("CARGO_PKG_VERSION")),
    ];
    words.extend(libraries.iter().map(String::as_str));
    words.extend(PROGRAMS);
    must(&words)?;
    Ok("/run/lab/weft.tar".to_owned())
}

/// The libraries that programs are loaded with.
fn libraries(programs: &[String]) -> Result<BTreeSet<String>> {
    let output = std::process::Command::new("ldd").args(programs).output().context("ldd")?;
    let said = String::from_utf8(output.stdout).context("what ldd says")?;
    let paths = said.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(paths.map(str::to_owned).collect())
}
