//! Pods as kubelet makes them, by containerd.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_testkit::runtimes::cri::PortMapping;
use weft_testkit::runtimes::documented;
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
fn pods_that_come_and_go_at_once_do_not_meet() {
    Containerd::test(|containerd| {
        let here = &*containerd;
        let pods = thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|number| scope.spawn(move || here.pod(&format!("pod{number}")))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic")).collect::<Result<Vec<_>>>()
        })?;
        let addresses: BTreeSet<&String> = pods.iter().flat_map(|pod| &pod.addresses).collect();
        ensure!(addresses.len() == 2 * pods.len(), "{pods:?}");
        for address in addresses {
            here.pings(&pods[0], &[address])?;
        }
        thread::scope(|scope| {
            let ends: Vec<_> = pods.iter().map(|pod| scope.spawn(|| here.remove(&pod.sandbox))).collect();
            ends.into_iter().try_for_each(|end| end.join().expect("no panic"))
        })?;
        here.node.is_empty()
    });
}

#[test]
fn a_pod_that_is_made_anew_has_its_former_addresses_and_is_reached_there_at_once() {
    Containerd::test(|containerd| {
        let first = containerd.pod("one")?;
        let other = containerd.pod("two")?;
        containerd.pings(&other, &first.addresses)?;
        containerd.remove(&first.sandbox)?;
        let again = containerd.pod("one")?;
        ensure!(again.addresses == first.addresses, "{again:?}, formerly {first:?}");
        containerd.pings(&other, &again.addresses)
    });
}

#[test]
fn the_node_is_ready_while_the_plugin_is_installed() {
    Containerd::test(|containerd| {
        let one = containerd.pod("one")?;
        containerd.node.uninstall()?;
        retry_until(SOON, "the end of the network", || {
            let error = containerd.network_is_ready().err().context("the node is still ready")?;
            ensure!(error.to_string().contains("cni plugin not initialized"), "{error}");
            Ok(())
        })?;
        containerd.node.reaches(&one.addresses)?;
        containerd.node.install("pods")?;
        retry_until(SOON, "a network", || containerd.network_is_ready())?;
        containerd.pings(&containerd.pod("two")?, &one.addresses)
    });
}

#[test]
fn the_primary_address_is_in_the_first_subnet_where_the_plugin_may_say_so() {
    Containerd::test(|containerd| {
        let text = documented("containerd")?;
        containerd.node.install("six")?;
        containerd.configure(&text.replace("max_conf_num = 1", "max_conf_num = 1\n  ip_pref = \"cni\""))?;
        containerd.wait_for_network()?;
        let one = containerd.pod("one")?;
        ensure!(one.addresses[0].starts_with("2001:db8:3::") && one.addresses[1].contains('.'), "{one:?}");
        Ok(())
    });
}

#[test]
fn what_a_pod_asks_for_is_what_its_port_has() {
    Containerd::test(|containerd| {
        let mut wish = containerd.wish("one");
        wish.port_mappings.push(PortMapping { container_port: 80, host_port: 8080, ..Default::default() });
        wish.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "8M".into());
        wish.annotations.insert("kubernetes.io/egress-bandwidth".into(), "4M".into());
        containerd.run(wish, &["sleep", "infinity"])?;
        let name = containerd.node.ports()?.remove(0);
        let spec = containerd.node.lab.get("port", name.trim_start_matches("port/"))?["spec"].clone();
        ensure!(spec["portMappings"][0]["containerPort"] == 80, "{spec}");
        ensure!(spec["portMappings"][0]["hostPort"] == 8080, "{spec}");
        let rate = |bits: u64| json!({ "bitsPerSecond": bits });
        ensure!(
            spec["bandwidth"] == json!({ "ingress": rate(8_000_000), "egress": rate(4_000_000) }),
            "{spec}"
        );
        Ok(())
    });
}

#[test]
fn a_limited_pod_is_slow_from_the_first_octet_on() {
    Containerd::test(|containerd| {
        let mut wish = containerd.wish("server");
        wish.annotations.insert("kubernetes.io/egress-bandwidth".into(), "2M".into());
        let server = containerd.run(wish, &["httpd", "-f", "-p", "80", "-h", "/bin"])?;
        let client = containerd.pod("client")?;
        let size: u64 =
            containerd.exec(&server, &["stat", "-L", "-c", "%s", "/bin/busybox"])?.trim().parse()?;
        let fetch = format!("wget -q -O /tmp/file http://{}/busybox", server.addresses[0]);
        let started = Instant::now();
        retry_until(SOON, "the file", || containerd.exec(&client, &["sh", "-c", &fetch]))?;
        // 524288 bits may go at once.
        let least = Duration::from_secs_f64((size * 8 - 524_288) as f64 / 2e6);
        ensure!(started.elapsed() >= least, "{size} octets took {:?}", started.elapsed());
        Ok(())
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
