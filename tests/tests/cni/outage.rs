//! The plugin while the daemon is down, starts, or is killed.

use anyhow::ensure;
use weft_testkit::lab::DETACH_QUEUE;
use weft_testkit::wait::wait_until;

use super::runtime::{Runtime, SOON};

fn queued(runtime: &Runtime<'_>) -> usize {
    let entries = std::fs::read_dir(runtime.lab.path(DETACH_QUEUE)).into_iter().flatten();
    entries.count()
}

#[test]
fn add_waits_for_a_daemon_that_starts() {
    Runtime::test(|runtime| {
        runtime.plugins[0]["daemonWaitSeconds"] = 30.into();
        runtime.container("one")?;
        runtime.lab.kill_daemon();
        runtime.lab.launch_daemon()?;
        runtime.add("one", "eth0")?;
        runtime.reaches("one", "198.18.1.1")?;
        runtime.del("one", "eth0")
    });
}

#[test]
fn add_without_a_daemon_asks_to_be_tried_again() {
    Runtime::test(|runtime| {
        runtime.plugins[0]["daemonWaitSeconds"] = 0.into();
        runtime.container("one")?;
        runtime.lab.kill_daemon();
        runtime.one("ADD", "one")?.fails_with(11)?;
        runtime.lab.restart()?;
        runtime.add("one", "eth0")?;
        ensure!(queued(runtime) == 0, "a request is left");
        runtime.reaches("one", "198.18.1.1")
    });
}

#[test]
fn del_with_the_daemon_down_is_done_when_it_is_back() {
    Runtime::test(|runtime| {
        for name in ["one", "two"] {
            runtime.container(name)?;
            runtime.add(name, "eth0")?;
        }
        runtime.lab.kill_daemon();
        runtime.del("one", "eth0")?;
        runtime.del("one", "eth0")?;
        ensure!(queued(runtime) == 1, "{} requests", queued(runtime));
        runtime.lab.restart()?;
        wait_until(SOON, "the request to be carried out", || queued(runtime) == 0)?;
        wait_until(SOON, "the Port to go", || runtime.ports().is_ok_and(|ports| ports.len() == 1))?;
        runtime.check("two", "eth0")?.ok()?;
        runtime.reaches("two", "198.18.1.1")?;
        runtime.add("one", "eth0")?;
        runtime.reaches("one", "198.18.1.1")
    });
}

#[test]
fn an_add_after_a_del_that_was_kept_is_not_undone() {
    Runtime::test(|runtime| {
        runtime.plugins[0]["daemonWaitSeconds"] = 30.into();
        for _ in 0..3 {
            runtime.container("one")?;
            runtime.add("one", "eth0")?;
            runtime.lab.kill_daemon();
            runtime.del("one", "eth0")?;
            runtime.lab.node().run("ip netns del one")?.ok()?;
            runtime.container("one")?;
            runtime.lab.launch_daemon()?;
            runtime.add("one", "eth0")?;
            wait_until(SOON, "the queue to be empty", || queued(runtime) == 0)?;
            runtime.check("one", "eth0")?.ok()?;
            runtime.reaches("one", "198.18.1.1")?;
            runtime.del("one", "eth0")?;
            runtime.lab.node().run("ip netns del one")?.ok()?;
        }
        Ok(())
    });
}
