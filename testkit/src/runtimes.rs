//! What container runtimes need of a lab: folders of their own, control groups, and the configurations of the manual.
//!
//! What they write below `/etc`, `/opt` and `/var` stays in the lab, so that they can be configured as on any node.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::image;
use crate::lab::Lab;
use crate::wait::retry_until;

pub mod containerd;
pub mod cri;

pub use containerd::{Containerd, Pod};

/// The Kubernetes namespace of all pods that are made by runtimes.
pub const NAMESPACE: &str = "shop";
/// The manual, whose configurations are the ones that are run.
const MANUAL: &str = include_str!("../../docs/cni.md");
/// Where control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Longest time until what was killed is gone.
const END: Duration = Duration::from_secs(20);

/// Hides what is written, and the network configurations of the machine.
const PREPARE: &str = "set -e
for folder in etc opt var; do
  mkdir -p /run/lab/$folder/new /run/lab/$folder/work
  options=lowerdir=/$folder,upperdir=/run/lab/$folder/new,workdir=/run/lab/$folder/work
  mount -t overlay -o $options overlay /$folder
done
rm -rf /etc/cni/net.d /etc/containerd /etc/containers/containers.conf /var/lib/weft /var/lib/cni
mkdir -p /etc/cni/net.d /etc/containerd /opt/cni/bin /var/lib
mkdir -p -m 700 /run/lab/detach /var/lib/weft/cni
ln -s /run/lab/detach /var/lib/weft/cni/detach
ln -sf /usr/lib/cni/loopback /opt/cni/bin/loopback";

/// Makes folders for runtimes and the test's image (in `/run/lab`) in a lab, and gives the parent of all control groups.
pub fn prepare(lab: &Lab) -> Result<Arc<ControlGroup>> {
    lab.node().exec(&["sh", "-c", PREPARE])?.ok()?;
    image::write(&lab.node(), "/run/lab")?;
    Ok(Arc::new(ControlGroup { path: format!("/weft-{}", lab.holder_pid()) }))
}

/// The first TOML file below a heading of the manual.
pub fn documented(heading: &str) -> Result<&'static str> {
    let section = MANUAL.split_once(&format!("\n### {heading}\n")).context("a section of the manual")?.1;
    let text = section.split_once("```toml\n").context("a TOML file in the manual")?.1;
    Ok(text.split_once("```").context("its end")?.0)
}

/// The control group of a lab. It is made by whoever puts a process there, and removed with all below it when this
/// is dropped: there must be no process left then.
#[derive(Debug)]
pub struct ControlGroup {
    path: String,
}

impl ControlGroup {
    /// Its path, from the top of every hierarchy.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for root in roots() {
            let folder = root.join(self.path.trim_start_matches('/'));
            // The kernel needs a moment to forget processes that were killed.
            let _ = retry_until(END, "the end of a control group", || remove(&folder));
        }
    }
}

/// The tops of the hierarchies of control groups: one, or with version 1 many.
fn roots() -> Vec<PathBuf> {
    let below = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    below.chain([PathBuf::from(CGROUPS)]).collect()
}

/// Removes a control group and those below it.
fn remove(folder: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)?.flatten().filter(|entry| entry.path().is_dir()) {
        remove(&entry.path())?;
    }
    Ok(fs::remove_dir(folder)?)
}
