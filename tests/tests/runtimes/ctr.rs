//! Containers that ctr makes: no pods, and a namespace that is gone before the network is taken away.

use anyhow::{Result, ensure};
use weft_testkit::wait::retry_until;
use weft_testkit::{Kept, image};

use super::containerd::Containerd;
use super::node::SOON;

impl Containerd<'_, '_> {
    /// Starts `ctr run --cni`, which stays until the container ends unless `options` say otherwise.
    fn start(&self, name: &str, options: &[&str]) -> Result<Kept> {
        let group = format!("{}/{name}", self.node.cgroup.path());
        let run = ["ctr", "--namespace", "k8s.io", "run", "--cni", "--snapshotter", "native"];
        let words =
            [&run, &["--cgroup", &group][..], options, &[image::NAME, name, "sleep", "infinity"]].concat();
        Kept::start(&self.node.lab.node(), &words)
    }
}

#[test]
fn a_container_of_ctr_reaches_others_and_leaves_nothing() {
    Containerd::test(|containerd| {
        let pod = containerd.pod("one")?;
        let mut running = containerd.start("two", &["--rm"])?;
        retry_until(SOON, "a second Port", || {
            ensure!(containerd.node.ports()?.len() == 2, "{}", running.process().stderr());
            Ok(())
        })?;
        for address in pod.addresses.iter().map(String::as_str).chain(["198.18.1.1", "2001:db8:1::1"]) {
            let ping = ["task", "exec", "--exec-id", "ping", "two", "ping", "-c", "1", "-W", "5", address];
            // Its status tells whether it was answered: what it says may be lost, since `ctr` may end before it has copied
            // all of it.
            retry_until(SOON, "an answer", || containerd.ctr(&ping))?;
        }
        containerd.ctr(&["task", "kill", "--signal", "KILL", "two"])?;
        retry_until(SOON, "the end of ctr", || {
            ensure!(!running.process().is_running(), "{}", running.process().stderr());
            Ok(())
        })?;
        containerd.remove(&pod.sandbox)?;
        containerd.node.is_empty()
    });
}

#[test]
fn what_ctr_forgets_goes_by_itself() {
    Containerd::test(|containerd| {
        let started = containerd.start("one", &["--detach"])?;
        retry_until(SOON, "the container", || {
            containerd.ctr(&["task", "exec", "--exec-id", "look", "one", "ip", "link"])
        })?;
        ensure!(containerd.node.ports()?.len() == 1, "{:?}", containerd.node.ports()?);
        containerd.ctr(&["task", "kill", "--signal", "KILL", "one"])?;
        retry_until(SOON, "the end of the container", || containerd.ctr(&["task", "delete", "one"]))?;
        drop(started);
        retry_until(SOON, "the end of its network", || containerd.node.is_empty())
    });
}
