//! Ports of the node that lead to containers, and what containers send to outside by way of the node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::process::Process;
use weft_testkit::raw::Capture;
use weft_testkit::topology::{self, A4, A6, FAR_B4, FAR_B6, PortKind};
use weft_testkit::wait::retry_until;
use weft_testkit::{Lab, Manifest, Place};

const SOON: Duration = Duration::from_secs(20);
/// Both ends of a conversation.
const TALK: &str = include_str!("node_nat/talk.py");
/// Prints a page.
const FETCH: &str =
    "import sys, urllib.request as it; print(it.urlopen(sys.argv[1], timeout=5).read().decode(), end='')";
const EXAMPLE: &str = include_str!("../../examples/node-access.yaml");
/// The node's addresses to the outside, and those of who is there.
const NODE4: &str = "192.0.2.1";
const NODE6: &str = "2001:db8:9::1";
const OUTSIDE4: &str = "192.0.2.2";
const OUTSIDE6: &str = "2001:db8:9::2";

/// A network beside the node, joined to it by a device that is none of Weft's, and somebody in it.
fn outside(lab: &Lab) -> Result<()> {
    for line in [
        "ip netns add outside",
        "ip link add uplink0 type veth peer name eth0 netns outside",
        "ip address add 192.0.2.1/24 dev uplink0",
        "ip address add 192.0.2.9/24 dev uplink0",
        "ip address add 2001:db8:9::1/64 dev uplink0 nodad",
        "ip link set uplink0 up",
    ] {
        lab.node().run(line)?.ok()?;
    }
    for line in [
        "ip link set lo up",
        "ip address add 192.0.2.2/24 dev eth0",
        "ip address add 2001:db8:9::2/64 dev eth0 nodad",
        "ip link set eth0 up",
    ] {
        lab.container("outside").run(line)?.ok()?;
    }
    retry_until(SOON, "the node from outside", || lab.container("outside").reaches(NODE6))
}

/// The node on `front`, `a` there and `b` on `back`, behind one Router that sends the rest to the node.
fn behind_the_node() -> Manifest {
    let routes = json!([
        { "prefix": "0.0.0.0/0", "nextHops": ["198.18.1.2"] },
        { "prefix": "::/0", "nextHops": ["2001:db8:1::2"] },
    ]);
    let node = json!({
        "network": "front", "type": "host", "device": "weft0", "sourceCheck": false,
        "addresses": ["198.18.1.2/24", "2001:db8:1::2/64"],
        "routes": [{ "prefix": "198.18.2.0/24" }, { "prefix": "2001:db8:2::/64" }],
    });
    topology::two_networks(PortKind::Tap, PortKind::Veth)
        .with("Router", "main", "routes", routes)
        .port("node", node)
}

fn mapping(protocol: &str, host_port: u16, container_port: u16) -> Value {
    json!({ "protocol": protocol, "hostPort": host_port, "containerPort": container_port })
}

/// `a` serves on 80, as 8080 of the node, `b` on 81, as 8081 of the node.
fn mapped() -> Manifest {
    let of =
        |host, container| json!(["tcp", "udp", "sctp"].map(|protocol| mapping(protocol, host, container)));
    let manifest = behind_the_node().with("Port", "a", "portMappings", of(8080, 80));
    manifest.with("Port", "b", "portMappings", of(8081, 81))
}

fn serve(place: &Place<'_>, protocol: &str, port: u16, name: &str) -> Result<Process> {
    let port = port.to_string();
    let mut process =
        place.spawn_with_input(&["python3", "-c", TALK, "serve", protocol, &port, name], None)?;
    process.wait_for("ready")?;
    Ok(process)
}

/// Both containers answer to both protocols.
fn serve_both(lab: &Lab) -> Result<Vec<Process>> {
    let mut servers = Vec::new();
    for protocol in ["tcp", "udp"] {
        servers.push(serve(&lab.container("a"), protocol, 80, "a")?);
        servers.push(serve(&lab.container("b"), protocol, 81, "b")?);
    }
    Ok(servers)
}

/// What is answered: the server's name, and whom it has seen.
fn ask(place: &Place<'_>, protocol: &str, address: &str, port: u16) -> Result<String> {
    let port = port.to_string();
    let asked = place
        .spawn_with_input(&["python3", "-c", TALK, "ask", protocol, address, &port], None)?
        .wait()?
        .ok()?;
    Ok(asked.trim().to_owned())
}

fn expect(place: &Place<'_>, protocol: &str, address: &str, port: u16, answer: &str) -> Result<()> {
    let heard = ask(place, protocol, address, port)?;
    ensure!(heard == answer, "{answer:?} expected from {address} port {port} by {protocol}: {heard:?}");
    Ok(())
}

/// The daemon's table, or all there is when it has none.
fn ruleset(lab: &Lab) -> Result<String> {
    lab.node().run("nft list ruleset")?.ok()
}

fn wait_for_rules(lab: &Lab, wanted: &str) -> Result<()> {
    retry_until(SOON, "the node's table", || {
        let rules = ruleset(lab)?;
        ensure!(rules == wanted, "{wanted}\nexpected: {rules}");
        Ok(())
    })
}

#[test]
fn the_example_serves_the_outside_by_the_nodes_port() {
    Lab::test(|lab| {
        outside(lab)?;
        lab.try_apply(EXAMPLE)?.ok()?;
        std::fs::create_dir(lab.path("/run/lab/www"))?;
        std::fs::write(lab.path("/run/lab/www/index.html"), "hello from the container\n")?;
        let web = lab.container("web");
        let mut server =
            web.spawn_with_input(&["busybox", "httpd", "-f", "-vv", "-p", "80", "-h", "/run/lab/www"], None)?;
        web.wait_for_listener(80)?;
        for (place, url, seen) in [
            (lab.container("outside"), "http://192.0.2.1:8080/", OUTSIDE4),
            (lab.container("outside"), "http://[2001:db8:9::1]:8080/", OUTSIDE6),
            (lab.node(), "http://127.0.0.1:8080/", "198.18.1.2"),
            (lab.node(), "http://192.0.2.1:8080/", "198.18.1.2"),
            (lab.node(), "http://[2001:db8:9::1]:8080/", "2001:db8:1::2"),
            (web, "http://192.0.2.1:8080/", "198.18.1.2"),
        ] {
            let page = place.exec(&["python3", "-c", FETCH, url])?.ok()?;
            ensure!(page == "hello from the container\n", "{url}: {page:?}");
            server.wait_for(seen).with_context(|| format!("{url} as seen by the server"))?;
        }
        let told = lab.weft(&["describe", "port", "web"])?.ok()?;
        ensure!(told.contains("hostPort: 8080") && told.contains("a port of the node leads to it"), "{told}");
        let told = lab.weft(&["describe", "network", "pods"])?.ok()?;
        ensure!(told.contains("masquerade: {}") && told.contains("the node masquerades it"), "{told}");
        Ok(())
    });
}

#[test]
fn every_protocol_and_family_is_led_to_its_container() {
    Lab::test(|lab| {
        outside(lab)?;
        lab.apply(&mapped())?;
        let _servers = serve_both(lab)?;
        let _sctp = serve(&lab.container("a"), "sctp", 80, "a")?;
        let there = lab.container("outside");
        for protocol in ["tcp", "udp"] {
            for (address, seen) in [(NODE4, OUTSIDE4), (NODE6, OUTSIDE6), ("192.0.2.9", OUTSIDE4)] {
                expect(&there, protocol, address, 8080, &format!("a {seen}"))?;
                expect(&there, protocol, address, 8081, &format!("b {seen}"))?;
            }
        }
        expect(&there, "sctp", NODE4, 8080, &format!("a {OUTSIDE4}"))?;
        ensure!(ask(&there, "tcp", NODE4, 8082).is_err(), "a port that nobody maps leads somewhere");
        Ok(())
    });
}

#[test]
fn containers_and_the_node_itself_use_the_nodes_ports() {
    Lab::test(|lab| {
        outside(lab)?;
        lab.apply(&mapped())?;
        let _servers = serve_both(lab)?;
        let captured = Capture::start(&lab.container("a"), "eth0")?;
        for protocol in ["tcp", "udp"] {
            for (address, node) in [(NODE4, "198.18.1.2"), (NODE6, "2001:db8:1::2")] {
                for container in ["a", "b"] {
                    expect(&lab.container(container), protocol, address, 8080, &format!("a {node}"))?;
                    expect(&lab.container(container), protocol, address, 8081, &format!("b {node}"))?;
                }
                expect(&lab.node(), protocol, address, 8081, &format!("b {node}"))?;
            }
            expect(&lab.node(), protocol, "127.0.0.1", 8080, "a 198.18.1.2")?;
            expect(&lab.node(), protocol, "127.0.0.1", 8081, "b 198.18.1.2")?;
        }
        // Behind an IPv4 header without options: ICMP, a redirect. Behind an IPv6 header the same.
        let redirects = |frame: &[u8]| {
            frame.get(12..14) == Some(&[0x08, 0x00]) && frame.get(23) == Some(&1) && frame.get(34) == Some(&5)
                || frame.get(12..14) == Some(&[0x86, 0xdd])
                    && frame.get(20) == Some(&58)
                    && frame.get(54) == Some(&137)
        };
        captured.wait_for("the last answer", |frame| frame.get(12..14) == Some(&[0x86, 0xdd]))?;
        ensure!(!captured.frames().iter().any(|frame| redirects(frame)), "a container is sent a redirect");
        let refused = ask(&lab.node(), "tcp", "::1", 8080).err().context("::1 leads somewhere")?;
        ensure!(format!("{refused:#}").contains("refused"), "{refused:#}");
        Ok(())
    });
}

#[test]
fn the_nodes_loopback_is_not_reached_from_containers() {
    Lab::test(|lab| {
        outside(lab)?;
        lab.apply(&mapped())?;
        let mut server = serve(&lab.node(), "udp", 9999, "node")?;
        let a = lab.container("a");
        a.run("ip address del 127.0.0.1/8 dev lo")?.ok()?;
        a.run("sysctl -qw net.ipv4.conf.eth0.route_localnet=1")?.ok()?;
        a.run("ip route add 127.0.0.1 via 198.18.1.2 dev eth0 src 198.18.1.10")?.ok()?;
        ensure!(ask(&a, "udp", "127.0.0.1", 9999).is_err(), "the node's loopback answers a container");
        expect(&lab.node(), "udp", "127.0.0.1", 9999, "node 127.0.0.1")?;
        server.wait_for("127.0.0.1")?;
        ensure!(!server.stdout().contains(A4), "the node's loopback hears a container: {}", server.stdout());
        Ok(())
    });
}

#[test]
fn a_mapping_of_one_address_leaves_the_others_alone() {
    Lab::test(|lab| {
        outside(lab)?;
        let bound =
            |address: &str| json!([{ "hostPort": 8080, "containerPort": 80, "hostAddress": address }]);
        let manifest = behind_the_node().with("Port", "a", "portMappings", bound("192.0.2.9"));
        lab.apply(&manifest.with("Port", "b", "portMappings", bound(NODE6)))?;
        let _a = serve(&lab.container("a"), "tcp", 80, "a")?;
        let _b = serve(&lab.container("b"), "tcp", 80, "b")?;
        let there = lab.container("outside");
        expect(&there, "tcp", "192.0.2.9", 8080, &format!("a {OUTSIDE4}"))?;
        expect(&there, "tcp", NODE6, 8080, &format!("b {OUTSIDE6}"))?;
        ensure!(ask(&there, "tcp", NODE4, 8080).is_err(), "another address is mapped too");
        ensure!(ask(&lab.node(), "tcp", "127.0.0.1", 8080).is_err(), "127.0.0.1 is mapped too");
        Ok(())
    });
}

#[test]
fn the_outside_sees_the_node_except_where_it_shall_see_containers() {
    Lab::test(|lab| {
        outside(lab)?;
        let masqueraded = |except: Value| {
            behind_the_node().with("Network", "front", "masquerade", json!({ "except": except }))
        };
        lab.apply(&masqueraded(json!([])))?;
        let there = lab.container("outside");
        let _tcp = serve(&there, "tcp", 80, "outside")?;
        let _near = serve(&lab.container("b"), "tcp", 81, "b")?;
        let _node = serve(&lab.node(), "tcp", 82, "node")?;
        let a = lab.container("a");
        expect(&a, "tcp", OUTSIDE4, 80, &format!("outside {NODE4}"))?;
        expect(&a, "tcp", OUTSIDE6, 80, &format!("outside {NODE6}"))?;
        for (address, seen) in [(FAR_B4, A4), (FAR_B6, A6)] {
            expect(&a, "tcp", address, 81, &format!("b {seen}"))?;
        }
        expect(&a, "tcp", NODE4, 82, &format!("node {A4}"))?;
        // `back` is not masqueraded: nobody outside knows a way back.
        ensure!(ask(&lab.container("b"), "tcp", OUTSIDE4, 80).is_err(), "b is masqueraded as well");
        lab.apply(&masqueraded(json!(["192.0.2.0/24", "2001:db8:9::/64"])))?;
        there.run("ip route add 198.18.1.0/24 via 192.0.2.1")?.ok()?;
        there.run("ip route add 2001:db8:1::/64 via 2001:db8:9::1")?.ok()?;
        expect(&a, "tcp", OUTSIDE4, 80, &format!("outside {A4}"))?;
        expect(&a, "tcp", OUTSIDE6, 80, &format!("outside {A6}"))
    });
}

#[test]
fn what_others_do_to_the_table_is_put_right_and_theirs_is_left_alone() {
    Lab::test(|lab| {
        outside(lab)?;
        lab.apply(&mapped().with("Network", "front", "masquerade", json!({})))?;
        let _servers = serve_both(lab)?;
        let whole = ruleset(lab)?;
        let table = whole.split(' ').nth(2).context("the table's name")?.to_owned();
        ensure!(table.starts_with("weft-"), "{whole}");
        let element = "tcp . 8080 : 198.18.1.10 . 80";
        for line in [
            "nft flush ruleset".to_owned(),
            format!("nft delete table inet {table}"),
            format!("nft delete element inet {table} mappings-v4 {{ {element} }}"),
            format!("nft add element inet {table} mappings-v4 {{ tcp . 9090 : 198.18.1.10 . 90 }}"),
            format!("nft flush chain inet {table} to-outside"),
            format!("nft flush set inet {table} sources-v4"),
            format!("nft add chain inet {table} more"),
            format!("nft add element inet {table} sources-v4 {{ 10.0.0.0/8 }}"),
        ] {
            lab.node().run(&line)?.ok()?;
            wait_for_rules(lab, &whole).context(line)?;
            expect(&lab.container("outside"), "tcp", NODE4, 8080, &format!("a {OUTSIDE4}"))?;
        }
        for line in ["nft add table inet weft-others", "nft add chain inet weft-others postrouting"] {
            lab.node().run(line)?.ok()?;
        }
        lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        lab.apply(&behind_the_node())?;
        retry_until(SOON, "only the table of others", || {
            let rules = ruleset(lab)?;
            let tables: Vec<_> = rules.lines().filter(|line| line.starts_with("table")).collect();
            ensure!(tables == ["table inet weft-others {"], "{rules}");
            Ok(())
        })
    });
}

#[test]
fn two_ports_do_not_share_a_port_of_the_node() {
    Lab::test(|lab| {
        outside(lab)?;
        let one = behind_the_node().with("Port", "a", "portMappings", json!([mapping("tcp", 8080, 80)]));
        lab.apply(&one)?;
        let both = one.with("Port", "b", "portMappings", json!([mapping("tcp", 8080, 81)]));
        let told = lab.try_apply(&both.to_string())?;
        let text = told.text();
        ensure!(!told.success(), "a mapping that overlaps is taken: {text}");
        ensure!(
            text.contains("Port/b: spec.portMappings[0].hostPort: 8080/tcp is taken by Port/a"),
            "{text}"
        );
        lab.weft(&["delete", "port", "a"])?.ok()?;
        ensure!(!ruleset(lab)?.contains("weft-"), "the table stays: {}", ruleset(lab)?);
        let without_a =
            behind_the_node().with("Port", "b", "portMappings", json!([mapping("tcp", 8080, 81)]));
        lab.apply(&without_a)?;
        let _server = serve(&lab.container("b"), "tcp", 81, "b")?;
        expect(&lab.container("outside"), "tcp", NODE4, 8080, &format!("b {OUTSIDE4}"))
    });
}

#[test]
fn a_udp_flow_follows_its_port_of_the_node_to_another_container() {
    Lab::test(|lab| {
        outside(lab)?;
        let only = |port: &str, to| {
            behind_the_node().with("Port", port, "portMappings", json!([mapping("udp", 53, to)]))
        };
        let there = lab.container("outside");
        // Always from the same port: to the kernel it is one connection.
        let ask = || -> Result<String> {
            let asked = there
                .spawn_with_input(&["python3", "-c", TALK, "ask", "udp", NODE4, "53", "40000"], None)?
                .wait()?
                .ok()?;
            Ok(asked.trim().to_owned())
        };
        lab.apply(&behind_the_node())?;
        let _a = serve(&lab.container("a"), "udp", 80, "a")?;
        let _b = serve(&lab.container("b"), "udp", 81, "b")?;
        let node = serve(&lab.node(), "udp", 53, "node")?;
        ensure!(ask()? == format!("node {OUTSIDE4}"), "the node itself answers first");
        node.kill();
        for (port, to) in [("a", 80), ("b", 81), ("a", 80)] {
            lab.apply(&only(port, to))?;
            let heard = ask()?;
            ensure!(heard == format!("{port} {OUTSIDE4}"), "{port} expected: {heard}");
        }
        Ok(())
    });
}

#[test]
fn a_daemon_that_was_killed_finds_its_table_again() {
    Lab::test(|lab| {
        outside(lab)?;
        lab.apply(&mapped().with("Network", "front", "masquerade", json!({})))?;
        lab.node().run("nft add table inet others")?.ok()?;
        let whole = ruleset(lab)?;
        let handles = |lab: &Lab| lab.node().run("nft -a list ruleset")?.ok();
        let before = handles(lab)?;
        lab.kill_daemon();
        lab.restart()?;
        lab.wait_for_state("port", "a", true, None)?;
        ensure!(handles(lab)? == before, "the table was made anew");
        lab.kill_daemon();
        let table = whole.split(' ').nth(2).context("the table's name")?;
        for line in [
            format!("nft delete element inet {table} mappings-v4 {{ tcp . 8080 : 198.18.1.10 . 80 }}"),
            format!("nft add element inet {table} mappings-v6 {{ tcp . 1 : 2001:db8::1 . 1 }}"),
        ] {
            lab.node().run(&line)?.ok()?;
        }
        lab.restart()?;
        wait_for_rules(lab, &whole)?;
        Ok(())
    });
}

#[test]
fn a_node_that_may_not_forward_is_told_what_to_set() {
    Lab::test(|lab| {
        outside(lab)?;
        lab.node().run("sysctl -qw net.ipv4.ip_forward=0")?.ok()?;
        lab.node().run("mount --bind /proc/sys /proc/sys")?.ok()?;
        lab.node().run("mount -o remount,bind,ro /proc/sys")?.ok()?;
        lab.kill_daemon();
        lab.restart()?;
        let told = lab.try_apply(&mapped().with("Network", "front", "masquerade", json!({})).to_string())?;
        ensure!(told.text().contains("set net.ipv4.ip_forward to 1"), "{told}");
        lab.wait_for_state("network", "front", false, Some("ForwardingOff"))?;
        lab.wait_for_state("port", "a", false, Some("ForwardingOff"))?;
        lab.container("a").reaches(FAR_B4)?;
        lab.node().run("umount /proc/sys")?.ok()?;
        lab.wait_for_state("network", "front", true, None)?;
        lab.wait_for_state("port", "a", true, None)?;
        let forwards = lab.node().run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding")?.ok()?;
        ensure!(forwards == "1\n1\n", "{forwards}");
        Ok(())
    });
}

#[test]
fn a_router_goes_on_to_listen_to_its_own_router() {
    Lab::test(|lab| {
        outside(lab)?;
        lab.node().run("sysctl -qw net.ipv6.conf.uplink0.accept_ra=1")?.ok()?;
        lab.apply(&mapped())?;
        let accepts = lab.node().run("sysctl -n net.ipv6.conf.uplink0.accept_ra")?.ok()?;
        ensure!(accepts.trim() == "2", "accept_ra is {accepts}");
        let fabric = lab.node().run("sysctl -n net.ipv6.conf.weft0.accept_ra")?.ok()?;
        ensure!(fabric.trim() != "2", "the node takes routes from the fabric: {fabric}");
        Ok(())
    });
}
