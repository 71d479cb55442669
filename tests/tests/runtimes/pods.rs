//! Pods as kubelet makes them, by containerd.

use std::fs;

use anyhow::ensure;
use weft_testkit::wait::retry_until;

use super::containerd::Containerd;
use super::node::SOON;

/// The gateways of the Network, of both families.
const GATEWAYS: [&str; 2] = ["198.18.1.1", "2001:db8:1::1"];

#[test]
fn pods_have_both_families_and_are_reached_as_soon_as_they_are_there() {
    Containerd::test(|containerd| {
        let one = containerd.pod("one")?;
        ensure!(one.addresses[0].starts_with("198.18.1."), "{one:?}");
        ensure!(one.addresses.len() == 2 && one.addresses[1].starts_with("2001:db8:1::1"), "{one:?}");
        let two = containerd.pod("two")?;
        containerd.pings(&two, &one.addresses)?;
        containerd.pings(&one, &two.addresses)?;
        containerd.pings(&one, &GATEWAYS)?;
        containerd.node.reaches(&one.addresses)?;
        let loopback = containerd.exec(&one, &["ip", "address", "show", "dev", "lo"])?;
        ensure!(loopback.contains("127.0.0.1/8"), "{loopback}");
        ensure!(containerd.owners()? == ["shop/one", "shop/two"], "{:?}", containerd.owners()?);
        for pod in [&one, &two] {
            containerd.remove(&pod.sandbox)?;
        }
        containerd.node.is_empty()
    });
}

#[test]
fn a_pod_serves_a_file_to_another_over_both_families() {
    Containerd::test(|containerd| {
        let serve = ["httpd", "-f", "-p", "80", "-h", "/bin"];
        let server = containerd.run(containerd.wish("server"), &serve)?;
        let client = containerd.pod("client")?;
        let urls = [
            format!("http://{}/busybox", server.addresses[0]),
            format!("http://[{}]/busybox", server.addresses[1]),
        ];
        for url in urls {
            let fetch = format!("wget -q -O /tmp/file {url} && cmp /tmp/file /bin/busybox");
            retry_until(SOON, "the file", || containerd.exec(&client, &["sh", "-c", &fetch]))?;
        }
        containerd.remove(&server.sandbox)?;
        containerd.remove(&client.sandbox)?;
        containerd.node.is_empty()
    });
}

#[test]
fn a_pod_that_is_made_anew_has_its_former_addresses() {
    Containerd::test(|containerd| {
        let first = containerd.pod("one")?;
        containerd.remove(&first.sandbox)?;
        let other = containerd.pod("two")?;
        ensure!(other.addresses != first.addresses, "{other:?}");
        let again = containerd.pod("one")?;
        ensure!(again.addresses == first.addresses, "{again:?}, formerly {first:?}");
        containerd.pings(&other, &again.addresses)
    });
}

#[test]
fn pods_outlive_the_daemon() {
    Containerd::test(|containerd| {
        let pods = [containerd.pod("one")?, containerd.pod("two")?];
        containerd.node.lab.kill_daemon();
        containerd.node.lab.restart()?;
        let three = containerd.pod("three")?;
        for pod in &pods {
            containerd.pings(pod, &pods[0].addresses)?;
            containerd.pings(pod, &three.addresses)?;
        }
        Ok(())
    });
}

#[test]
fn a_pod_can_be_removed_while_the_daemon_is_down() {
    Containerd::test(|containerd| {
        let one = containerd.pod("one")?;
        containerd.node.lab.kill_daemon();
        containerd.remove(&one.sandbox)?;
        ensure!(fs::read_dir(containerd.queue())?.count() == 1, "nothing is left to do for the daemon");
        containerd.node.lab.restart()?;
        retry_until(SOON, "the end of what was removed", || containerd.node.is_empty())?;
        ensure!(fs::read_dir(containerd.queue())?.count() == 0, "something is still left to do");
        Ok(())
    });
}

#[test]
fn a_pod_that_cannot_be_attached_says_why_and_leaves_nothing() {
    Containerd::test(|containerd| {
        containerd.node.install("small")?;
        let mut made = Vec::new();
        let refused = retry_until(SOON, "the end of the addresses", || {
            let name = format!("pod{}", made.len());
            match containerd.sandbox(containerd.wish(&name)) {
                Ok(sandbox) => {
                    made.push(sandbox);
                    anyhow::bail!("there are still addresses: {made:?}")
                }
                Err(refused) => Ok(refused),
            }
        })?;
        ensure!(refused.message().contains("Network/small has no address left"), "{refused:?}");
        ensure!(made.len() >= 2 && containerd.node.ports()?.len() == made.len(), "{made:?}");
        for sandbox in &made {
            containerd.remove(sandbox)?;
        }
        containerd.node.is_empty()
    });
}
