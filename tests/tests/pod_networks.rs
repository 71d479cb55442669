//! Pods on further Networks, which their annotations name.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::Place;
use weft_testkit::agent::{Cluster, Pod, SOON};
use weft_testkit::raw::Capture;
use weft_testkit::wait::retry_until;

const STANDARD: &str = "k8s.v1.cni.cncf.io/networks";
const OWN: &str = "weft.dev/networks";

/// A Network of all nodes with addresses of a pool, on a VXLAN tunnel.
fn declare_blue(cluster: &Cluster) -> Result<()> {
    for (kind, spec) in [
        ("IPPool", json!({"cidr": "198.19.0.0/24", "blockSize": 28, "network": "blue"})),
        ("Network", json!({"subnets": [{"prefix": "198.19.0.0/24"}]})),
        ("Tunnel", json!({"network": "blue", "vxlan": {"vni": 7, "port": 4790}})),
    ] {
        cluster.api.apply(&json!({
            "apiVersion": "weft.dev/v1", "kind": kind, "metadata": {"name": "blue"}, "spec": spec,
        }))?;
    }
    for node in &cluster.nodes {
        retry_until(SOON, "the tunnel and the pool", || {
            let tunnel = node.node.get("tunnel", "blue")?;
            ensure!(tunnel["spec"]["vxlan"]["remotes"].as_array().map_or(0, Vec::len) == 1, "{tunnel:#}");
            let network = node.node.get("network", "blue")?;
            ensure!(network["spec"]["subnets"][0]["pool"]["ranges"].is_array(), "{network:#}");
            Ok(())
        })?;
    }
    Ok(())
}

fn declare_pod(cluster: &Cluster, node: &str, name: &str, annotation: &str, value: &str) -> Result<()> {
    cluster.api.apply(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": {annotation: value}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
    }))?;
    Ok(())
}

/// Addresses of IPv4 that a pod's device has.
fn addresses(cluster: &Cluster, node: usize, pod: &str, device: &str) -> Result<Vec<String>> {
    let text = cluster.nodes[node].node.must(&format!("ip -j -n {pod} -4 address show dev {device}"))?;
    let links: Value = serde_json::from_str(&text)?;
    let addresses = links[0]["addr_info"].as_array().context("no addresses")?;
    Ok(addresses.iter().filter_map(|it| Some(it["local"].as_str()?.to_owned())).collect())
}

fn ports(cluster: &Cluster, node: usize) -> Result<String> {
    cluster.nodes[node].node.weft(&["get", "ports"])?.ok()
}

#[test]
fn annotated_pods_reach_each_other_over_a_further_network() {
    Cluster::test(2, "[tunnel]\nmode = \"wireguard\"\n", |cluster| {
        cluster.settle()?;
        declare_blue(cluster)?;
        let before = [ports(cluster, 0)?.lines().count(), ports(cluster, 1)?.lines().count()];
        declare_pod(cluster, "node-1", "short", STANDARD, "default/blue")?;
        let json = json!([{"name": "blue", "interface": "data", "mac": "02:00:00:00:00:77"}]).to_string();
        declare_pod(cluster, "node-2", "long", OWN, &json)?;
        let first = cluster.nodes[0].pod("short")?;
        let second = cluster.nodes[1].pod("long")?;
        ensure!(first.addresses.len() == 3 && second.addresses.len() == 3, "{first:?} {second:?}");
        for (node, pod) in [(0, "short"), (1, "long")] {
            let main = addresses(cluster, node, pod, "eth0")?;
            ensure!(main[0].starts_with(&format!("198.18.{}.", node + 1)), "{main:?}");
            let routes = cluster.nodes[node].node.must(&format!("ip -n {pod} route show default"))?;
            ensure!(routes.lines().count() == 1 && routes.contains("dev eth0"), "{routes}");
        }
        let (net1, data) = (addresses(cluster, 0, "short", "net1")?, addresses(cluster, 1, "long", "data")?);
        ensure!(net1[0].starts_with("198.19.0.") && data[0].starts_with("198.19.0."), "{net1:?} {data:?}");
        let link = cluster.nodes[1].node.must("ip -n long link show dev data")?;
        ensure!(link.contains("02:00:00:00:00:77"), "{link}");
        for (node, pod, device, address) in [(0, "short", "net1", &data[0]), (1, "long", "data", &net1[0])] {
            let place = cluster.nodes[node].node.container(pod);
            let ping = format!("ping -n -c 1 -W 1 -I {device} {address}");
            retry_until(SOON, "the other pod on blue", || place.run(&ping)?.ok().map(drop))?;
        }
        let eth0 = addresses(cluster, 1, "long", "eth0")?;
        let place = cluster.nodes[0].node.container("short");
        retry_until(SOON, "the other pod on its first network", || place.reaches(&eth0[0]))?;
        cluster.nodes[0].remove_pod("short")?;
        cluster.nodes[1].remove_pod("long")?;
        let after = [ports(cluster, 0)?.lines().count(), ports(cluster, 1)?.lines().count()];
        ensure!(after == before, "{}\n{}", ports(cluster, 0)?, ports(cluster, 1)?);
        Ok(())
    });
}

#[test]
fn a_network_that_does_not_exist_keeps_the_pod_from_starting_and_leaves_nothing() {
    Cluster::test(1, "[tunnel]\nmode = \"wireguard\"\n", |cluster| {
        cluster.settle()?;
        let before = ports(cluster, 0)?;
        for (pod, value, expected) in [
            ("lost", "nope", "net1 on nope, for an annotation of pod default/lost: there is no Network/nope"),
            ("wrong", "a,,b", "annotation weft.dev/networks"),
            ("own", "pods", "is what Weft calls a part of its own"),
        ] {
            declare_pod(cluster, "node-1", pod, OWN, value)?;
            let error = cluster.nodes[0].pod(pod).err().context("it started")?;
            ensure!(format!("{error:#}").contains(expected), "{error:#}");
            // The daemon takes a device out of use at once, and away soon after.
            retry_until(SOON, "the device to go", || {
                let links = cluster.nodes[0].node.must(&format!("ip -n {pod} -br link"))?;
                ensure!(links.lines().count() == 1, "{links}");
                Ok(())
            })?;
        }
        ensure!(ports(cluster, 0)?.lines().count() == before.lines().count(), "{}", ports(cluster, 0)?);
        Ok(())
    });
}

#[test]
fn a_pod_that_was_heard_of_starts_while_the_api_server_is_away() {
    Cluster::test(1, "[tunnel]\nmode = \"wireguard\"\n", |cluster| {
        cluster.settle()?;
        cluster.api.apply(&json!({
            "apiVersion": "weft.dev/v1", "kind": "Network", "metadata": {"name": "green"},
            "spec": {"subnets": [{"prefix": "198.19.9.0/24"}]},
        }))?;
        declare_pod(cluster, "node-1", "late", STANDARD, "green")?;
        retry_until(SOON, "what was heard to be on disk", || {
            let node = &cluster.nodes[0].node;
            let pods = std::fs::read_to_string(node.path("/run/lab/agent/pods.json"))?;
            let known = std::fs::read_to_string(node.path("/run/lab/agent/cluster.json"))?;
            ensure!(pods.contains("default/late") && known.contains("green"), "{pods}");
            node.get("network", "green").map(drop)
        })?;
        cluster.api.kill();
        let node = &mut cluster.nodes[0];
        node.kill_agent();
        node.start_agent()?;
        node.wait_for_peers(0)?;
        let pod = node.pod("late")?;
        ensure!(pod.addresses.iter().any(|address| address.to_string().starts_with("198.19.9.")), "{pod:?}");
        Ok(())
    });
}

/// A cable between the nodes, beside the network that they share: `eth1` of both.
fn join_by_eth1(cluster: &Cluster) -> Result<()> {
    let other = cluster.nodes[1].node.holder_pid();
    cluster.nodes[0].node.must(&format!("ip link add eth1 type veth peer name eth1 netns {other}"))?;
    cluster.nodes.iter().try_for_each(|node| node.node.must("ip link set eth1 up").map(drop))
}

/// Networks on devices of the nodes, and blocks of their addresses for each node; and waits until nodes have all of it.
fn declare_on_uplinks(cluster: &Cluster, networks: &[(&str, Value)]) -> Result<()> {
    for (name, spec) in networks {
        for subnet in spec["subnets"].as_array().context("no subnets")? {
            let cidr = subnet["prefix"].as_str().context("no prefix")?;
            let size = if cidr.contains(':') { 80 } else { 28 };
            let pool = format!("{name}-{}", cidr.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
            cluster.api.apply(&json!({
                "apiVersion": "weft.dev/v1", "kind": "IPPool", "metadata": {"name": pool},
                "spec": {"cidr": cidr, "blockSize": size, "network": name},
            }))?;
        }
        cluster.api.apply(&json!({
            "apiVersion": "weft.dev/v1", "kind": "Network", "metadata": {"name": name}, "spec": spec,
        }))?;
    }
    for node in &cluster.nodes {
        for (name, _) in networks {
            retry_until(SOON, "the uplink and the pools", || {
                let (ready, reason, message) = node.node.ready("port", &format!("{name}-uplink"))?;
                ensure!(ready, "{reason}: {message}");
                let network = node.node.get("network", name)?;
                let subnets = network["spec"]["subnets"].as_array().context("no subnets")?.clone();
                ensure!(subnets.iter().all(|it| it["pool"]["ranges"].is_array()), "{network:#}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// The addresses of a pod on its second network, and that it has one.
fn further(pod: &Pod) -> Vec<String> {
    pod.addresses[2..].iter().map(ToString::to_string).collect()
}

#[test]
fn a_network_of_several_vlans_has_pods_on_the_one_that_they_name() {
    Cluster::test(2, "[tunnel]\nmode = \"wireguard\"\n", |cluster| {
        cluster.settle()?;
        join_by_eth1(cluster)?;
        let subnets = json!([
            {"prefix": "198.19.20.0/24", "vlan": 20}, {"prefix": "fd00:20::/64", "vlan": 20},
            {"prefix": "198.19.30.0/24", "vlan": 30},
        ]);
        let office = json!({"uplink": {"device": "eth1"}, "subnets": subnets});
        declare_on_uplinks(cluster, &[("office", office)])?;
        let own = r#"[{"name": "office", "vlan": 20}]"#;
        let standard = r#"[{"name": "office", "cni-args": {"vlan": 20}}]"#;
        let third = r#"[{"name": "office", "vlan": 30, "ips": []}]"#;
        declare_pod(cluster, "node-1", "a20", OWN, own)?;
        declare_pod(cluster, "node-2", "b20", STANDARD, standard)?;
        declare_pod(cluster, "node-2", "b30", OWN, third)?;
        let (a, b, c) =
            (cluster.nodes[0].pod("a20")?, cluster.nodes[1].pod("b20")?, cluster.nodes[1].pod("b30")?);
        ensure!((further(&a).len(), further(&b).len(), further(&c).len()) == (2, 2, 1), "{a:?} {b:?} {c:?}");
        reaches_by_net1(cluster, (0, "a20"), &further(&b))?;
        for (name, value, expected) in [
            ("none", "office", "vlan: not given, one of Network/office's 20, 30 expected"),
            (
                "other",
                r#"[{"name": "office", "vlan": 40}]"#,
                "40 is no VLAN of Network/office, one of 20, 30",
            ),
        ] {
            declare_pod(cluster, "node-1", name, OWN, value)?;
            let error = cluster.nodes[0].pod(name).err().context("it started")?;
            ensure!(format!("{error:#}").contains(expected), "{error:#}");
        }
        Ok(())
    });
}

/// A Network that is a VLAN of `eth1`, with subnets of both families.
fn one_vlan(vlan: u16) -> Value {
    let prefixes = [format!("198.19.{vlan}.0/24"), format!("fd00:{vlan}::/64")];
    json!({"uplink": {"device": "eth1", "vlan": vlan}, "subnets": prefixes.map(|prefix| json!({"prefix": prefix}))})
}

#[test]
fn networks_that_are_vlans_of_one_device_reach_the_other_nodes_pods_and_not_each_other() {
    Cluster::test(2, "[tunnel]\nmode = \"wireguard\"\n", |cluster| {
        cluster.settle()?;
        join_by_eth1(cluster)?;
        declare_on_uplinks(cluster, &[("blue", one_vlan(20)), ("green", one_vlan(30))])?;
        let mut pods = Vec::new();
        for (node, pod, network) in
            [(0, "blue-1", "blue"), (1, "blue-2", "blue"), (0, "green-1", "green"), (1, "green-2", "green")]
        {
            declare_pod(cluster, &format!("node-{}", node + 1), pod, STANDARD, network)?;
            let made = cluster.nodes[node].pod(pod)?;
            ensure!(further(&made).len() == 2, "{made:?}");
            pods.push(made);
        }
        let line = "tcpdump --immediate-mode -l -n -e -i eth1 ip and icmp or vlan";
        let mut watcher = cluster.nodes[1].node.node().spawn(line)?;
        watcher.wait_for("listening on")?;
        reaches_by_net1(cluster, (0, "blue-1"), &further(&pods[1]))?;
        watcher.wait_for("vlan 20,")?;
        reaches_by_net1(cluster, (1, "green-2"), &further(&pods[2]))?;
        watcher.wait_for("vlan 30,")?;
        hears_its_own_vlan_alone(cluster)?;
        declare_pod(cluster, "node-1", "other", OWN, r#"[{"name": "blue", "vlan": 30}]"#)?;
        let error = cluster.nodes[0].pod("other").err().context("it started")?;
        ensure!(
            format!("{error:#}").contains("30 is no VLAN of Network/blue, one of 20 expected"),
            "{error:#}"
        );
        Ok(())
    });
}

/// Whether pods of VLAN 30 hear who is looked for there, and nothing of who is looked for on VLAN 20.
fn hears_its_own_vlan_alone(cluster: &Cluster) -> Result<()> {
    let place = |node: usize, pod: &str| cluster.nodes[node].node.container(pod);
    let (green_1, green_2) = (place(0, "green-1"), place(1, "green-2"));
    let at_blue = Capture::start(&place(1, "blue-2"), "net1")?;
    let (at_green_1, at_green_2) = (Capture::start(&green_1, "net1")?, Capture::start(&green_2, "net1")?);
    // Nobody has these addresses: the pod asks all of its VLAN for them.
    let asks = |from: &Place<'_>, [_, _, vlan, host]: [u8; 4]| {
        from.run(&format!("ping -n -c 1 -W 1 -I net1 198.19.{vlan}.{host}")).map(drop)
    };
    let names = |frame: &[u8], address: [u8; 4]| frame.windows(4).any(|octets| octets == address);
    let (blue, first, second) = ([198, 19, 20, 250], [198, 19, 30, 250], [198, 19, 30, 251]);
    asks(&place(0, "blue-1"), blue)?;
    at_blue.wait_for("the question on VLAN 20", |frame| names(frame, blue))?;
    asks(&green_1, first)?;
    at_green_2.wait_for("the question of the other node", |frame| names(frame, first))?;
    asks(&green_2, second)?;
    at_green_1.wait_for("the question of the other node", |frame| names(frame, second))?;
    let strangers = [at_green_1, at_green_2].map(|at| at.frames().iter().any(|frame| names(frame, blue)));
    ensure!(strangers == [false, false], "VLAN 30 hears VLAN 20: {strangers:?}");
    Ok(())
}

#[test]
fn a_vlan_that_another_network_has_is_refused_and_told() {
    Cluster::test(1, "[tunnel]\nmode = \"wireguard\"\n", |cluster| {
        cluster.settle()?;
        let first = json!({"uplink": {"device": "eth1", "vlan": 20}});
        for name in ["amber", "blue"] {
            cluster.api.apply(&json!({
                "apiVersion": "weft.dev/v1", "kind": "Network", "metadata": {"name": name}, "spec": first,
            }))?;
        }
        retry_until(SOON, "the condition", || {
            let blue = cluster.api.get("/apis/weft.dev/v1/networks/blue")?;
            let told = blue["status"]["conditions"][0]["message"].as_str().context("no message")?.to_owned();
            ensure!(told.contains("\"eth1\" is taken by Port/amber-uplink with VLAN 20"), "{told}");
            Ok(())
        })
    });
}

/// Whether a pod reaches these addresses by `net1`.
fn reaches_by_net1(cluster: &Cluster, (node, pod): (usize, &str), addresses: &[String]) -> Result<()> {
    let place = cluster.nodes[node].node.container(pod);
    addresses.iter().try_for_each(|address| {
        let ping = format!("ping -n -c 1 -W 1 -I net1 {address}");
        retry_until(SOON, "a pod of the same VLAN", || place.run(&ping)?.ok().map(drop))
    })
}
