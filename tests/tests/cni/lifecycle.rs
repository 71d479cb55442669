//! ADD, CHECK, DEL, GC and STATUS of the plugin alone.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::wait::retry_until;
use weft_testkit::{Manifest, binaries};

use super::runtime::{Runtime, SOON, addresses};

#[test]
fn containers_reach_their_gateway_and_each_other_when_add_returns() {
    for (version, kind) in [("0.3.1", "veth"), ("0.4.0", "tap"), ("1.0.0", "veth"), ("1.1.0", "tap")] {
        Runtime::test(|runtime| {
            runtime.version = version.into();
            runtime.plugins[0]["portType"] = kind.into();
            runtime.container("one")?;
            runtime.container("two")?;
            let first = runtime.add("one", "eth0")?;
            runtime.reaches("one", "198.18.1.1")?;
            runtime.reaches("one", "2001:db8:1::1")?;
            let second = runtime.add("two", "eth0")?;
            for address in addresses(&second, "eth0") {
                runtime.reaches("one", &address)?;
            }
            ensure!(addresses(&first, "eth0").len() == 2, "{first}");
            ensure!(first["cniVersion"] == version && first["ips"][0]["gateway"] == "198.18.1.1", "{first}");
            if version != "0.3.1" {
                runtime.check("one", "eth0")?.ok()?;
            }
            runtime.del("one", "eth0")?;
            runtime.del("two", "eth0")?;
            ensure!(runtime.ports()?.is_empty(), "{:?}", runtime.ports()?);
            let links = runtime.lab.container("one").run("ip -o link")?.ok()?;
            ensure!(!links.contains("eth0"), "{links}");
            Ok(())
        });
    }
}

#[test]
fn a_container_has_a_device_on_each_of_several_networks() {
    Runtime::test(|runtime| {
        runtime.container("one")?;
        runtime.add("one", "eth0")?;
        runtime.plugins[0]["network"] = "other".into();
        let second = runtime.add("one", "net1")?;
        ensure!(addresses(&second, "net1")[0].starts_with("198.18.2."), "{second}");
        runtime.reaches("one", "198.18.1.1")?;
        runtime.reaches("one", "198.18.2.1")?;
        runtime.check("one", "net1")?.ok()?;
        runtime.del("one", "net1")?;
        runtime.plugins[0]["network"] = "pods".into();
        runtime.reaches("one", "198.18.1.1")?;
        runtime.check("one", "eth0")?.ok().map(drop)
    });
}

#[test]
fn add_gives_what_was_asked_for() {
    Runtime::test(|runtime| {
        runtime.container("one")?;
        let plugin = &mut runtime.plugins[0];
        plugin["capabilities"] = json!({ "ips": true, "mac": true });
        plugin["mtu"] = 1400.into();
        plugin["routes"] = json!([{ "dst": "198.19.0.0/16", "gw": "198.18.1.99" }]);
        plugin["dns"] = json!({ "nameservers": ["192.0.2.53"] });
        runtime.capabilities.insert("ips".into(), json!(["198.18.1.77/24"]));
        runtime.capabilities.insert("mac".into(), "02:00:00:00:00:77".into());
        let result = runtime.add("one", "eth0")?;
        ensure!(addresses(&result, "eth0").contains(&"198.18.1.77".to_owned()), "{result}");
        ensure!(result["dns"]["nameservers"] == json!(["192.0.2.53"]), "{result}");
        let one = runtime.lab.container("one");
        let link = one.run("ip -o link show eth0")?.ok()?;
        ensure!(link.contains("02:00:00:00:00:77") && link.contains("mtu 1400"), "{link}");
        let routes = one.run("ip route")?.ok()?;
        ensure!(routes.contains("198.19.0.0/16 via 198.18.1.99"), "{routes}");
        ensure!(routes.contains("default via 198.18.1.1"), "{routes}");
        runtime.check("one", "eth0")?.ok().map(drop)
    });
}

#[test]
fn add_again_answers_the_same() {
    Runtime::test(|runtime| {
        runtime.container("one")?;
        let first = runtime.add("one", "eth0")?;
        ensure!(runtime.add("one", "eth0")? == first, "another answer");
        ensure!(runtime.ports()?.len() == 1, "{:?}", runtime.ports()?);
        Ok(())
    });
}

#[test]
fn add_that_cannot_be_done_leaves_nothing() {
    Runtime::test(|runtime| {
        let details = runtime.one("ADD", "nobody")?.fails_with(3)?;
        ensure!(details.contains("/run/netns/nobody"), "{details}");
        runtime.container("one")?;
        runtime.lab.container("one").run("ip link add eth0 type veth peer name far")?.ok()?;
        let details = runtime.one("ADD", "one")?.fails_with(100)?;
        ensure!(details.contains("eth0"), "{details}");
        runtime.plugins[0]["network"] = "none".into();
        let details = runtime.one("ADD", "one")?.fails_with(7)?;
        ensure!(details.contains("none"), "{details}");
        ensure!(runtime.ports()?.is_empty(), "{:?}", runtime.ports()?);
        runtime.del("one", "eth0")?;
        let links = runtime.lab.container("one").run("ip -o link show eth0")?.ok()?;
        ensure!(links.contains("eth0"), "somebody else's device is gone");
        Ok(())
    });
}

#[test]
fn check_finds_what_is_not_as_the_result_says() {
    let other_route = json!({ "dst": "198.19.0.0/16", "gw": "198.18.1.1" });
    let differences = [
        ("/ips/0/address", json!("198.18.1.99/24"), "198.18.1.99/24"),
        ("/ips/1/address", json!("2001:db8:1::99/64"), "2001:db8:1::99/64"),
        ("/routes/0", other_route, "198.19.0.0/16"),
        ("/interfaces/1/mac", json!("02:00:00:00:00:99"), "02:00:00:00:00:99"),
    ];
    Runtime::test(|runtime| {
        runtime.container("one")?;
        runtime.add("one", "eth0")?;
        runtime.check("one", "eth0")?.ok()?;
        for (place, value, named) in differences {
            let right = runtime.alter("one", place, value)?;
            let details = runtime.check("one", "eth0")?.fails_with(103)?;
            ensure!(details.contains(named), "{details}");
            runtime.alter("one", place, right)?;
        }
        runtime.check("one", "eth0")?.ok()?;
        runtime.plugins[0]["network"] = "other".into();
        runtime.check("one", "eth0")?.fails_with(103)?;
        runtime.plugins[0]["network"] = "pods".into();
        runtime.lab.container("one").run("ip link set eth0 address 02:00:00:00:00:66")?.ok()?;
        let details = runtime.check("one", "eth0")?.fails_with(103)?;
        ensure!(details.contains("02:00:00:00:00:66"), "{details}");
        Ok(())
    });
}

#[test]
fn check_of_what_was_detached_says_so() {
    Runtime::test(|runtime| {
        runtime.container("one")?;
        runtime.add("one", "eth0")?;
        let plugin = runtime.plugins[0].clone();
        runtime.call("DEL", &plugin, "one", "eth0", &json!(null))?.ok()?;
        runtime.check("one", "eth0")?.fails_with(102).map(drop)
    });
}

#[test]
fn del_succeeds_without_a_namespace_repeated_and_for_what_never_was() {
    Runtime::test(|runtime| {
        runtime.container("one")?;
        runtime.add("one", "eth0")?;
        runtime.lab.node().run("ip netns del one")?.ok()?;
        for _ in 0..2 {
            runtime.del("one", "eth0")?;
        }
        runtime.del("never", "eth0")?;
        ensure!(runtime.ports()?.is_empty(), "{:?}", runtime.ports()?);
        Ok(())
    });
}

#[test]
fn a_device_that_del_did_not_wait_for_goes_by_itself() {
    for kind in ["veth", "tap"] {
        Runtime::test(|runtime| {
            runtime.plugins[0]["portType"] = kind.into();
            runtime.container("one")?;
            // Its name is free at once, again and again.
            for _ in 0..5 {
                runtime.add("one", "eth0")?;
                runtime.del("one", "eth0")?;
            }
            is_bare(runtime)?;
            let log = runtime.lab.log();
            ensure!(!log.contains("its removal is waited for"), "{log}");
            runtime.add("one", "eth0")?;
            runtime.del("one", "eth0")?;
            // Most of the time before the device is gone.
            runtime.lab.kill_daemon();
            runtime.lab.restart()?;
            is_bare(runtime)?;
            // The container has a device of the name that it would have meanwhile.
            runtime.add("one", "eth0")?;
            let taken = format!("weft{}", index(runtime, "eth0")?);
            runtime
                .lab
                .container("one")
                .run(&format!("ip link add {taken} type veth peer name far"))?
                .ok()?;
            runtime.del("one", "eth0")?;
            ensure!(runtime.devices("one")?.len() == 2, "{:?}", runtime.devices("one")?);
            index(runtime, &taken).map(drop)
        });
    }
}

/// The interface index of a device of the container.
fn index(runtime: &Runtime<'_>, device: &str) -> Result<u64> {
    let link = runtime.lab.container("one").run(&format!("ip -j link show {device}"))?.ok()?;
    let link: Value = serde_json::from_str(&link)?;
    link[0]["ifindex"].as_u64().context("an index")
}

/// Waits until all devices are gone that the container had from the plugin.
fn is_bare(runtime: &Runtime<'_>) -> Result<()> {
    retry_until(SOON, "the container's device to go", || {
        let devices = runtime.devices("one")?;
        ensure!(devices.is_empty(), "{devices:?}");
        Ok(())
    })
}

#[test]
fn gc_takes_away_what_the_runtime_does_not_list() {
    Runtime::test(|runtime| {
        for name in ["one", "two"] {
            runtime.container(name)?;
            runtime.add(name, "eth0")?;
        }
        runtime.whole("GC", &json!({}))?.ok()?;
        ensure!(runtime.ports()?.len() == 2, "{:?}", runtime.ports()?);
        let valid = json!([{ "containerID": "two", "ifname": "eth0" }]);
        runtime
            .whole("GC", &json!({ "cni.dev/valid-attachments": valid, "cni.dev/attachments": valid }))?
            .ok()?;
        runtime.check("one", "eth0")?.fails_with(102)?;
        runtime.check("two", "eth0")?.ok()?;
        runtime.reaches("two", "198.18.1.1")?;
        runtime.whole("GC", &json!({ "cni.dev/attachments": [] }))?.ok()?;
        ensure!(runtime.ports()?.is_empty(), "{:?}", runtime.ports()?);
        Ok(())
    });
}

#[test]
fn status_tells_why_add_would_not_be_served() {
    Runtime::test(|runtime| {
        runtime.whole("STATUS", &json!({}))?.ok()?;
        let details = runtime.whole("STATUS", &json!({ "network": "none" }))?.fails_with(50)?;
        ensure!(details.contains("none"), "{details}");
        runtime.lab.stop_daemon()?;
        let details = runtime.whole("STATUS", &json!({}))?.fails_with(51)?;
        ensure!(details.contains("weftd.sock"), "{details}");
        Ok(())
    });
}

#[test]
fn status_tells_of_a_pool_without_addresses_when_asked_to() {
    Runtime::test(|runtime| {
        let subnets = json!([{ "prefix": "198.18.3.0/24", "gateway": "198.18.3.1",
                               "pool": { "ranges": ["198.18.3.10"] } }]);
        runtime.lab.apply(&Manifest::new().network("small", json!({ "subnets": subnets })))?;
        runtime.plugins[0]["network"] = "small".into();
        let reporting = json!({ "statusReportsExhaustion": true });
        runtime.whole("STATUS", &reporting)?.ok()?;
        runtime.container("one")?;
        runtime.container("two")?;
        runtime.add("one", "eth0")?;
        let details = runtime.one("ADD", "two")?.fails_with(101)?;
        ensure!(details.contains("198.18.3.0/24"), "{details}");
        runtime.whole("STATUS", &json!({}))?.ok()?;
        let details = runtime.whole("STATUS", &reporting)?.fails_with(50)?;
        ensure!(details.contains("198.18.3.0/24"), "{details}");
        Ok(())
    });
}

#[test]
fn what_install_puts_in_place_attaches_containers() {
    Runtime::test(|runtime| {
        let program = binaries::find("weft-cni")?.display().to_string();
        let folders = "--bin-dir /run/lab/bin --conf-dir /run/lab/net.d";
        let refused =
            runtime.lab.node().run(&format!("{program} install --network none --wait 0 {folders}"))?;
        ensure!(refused.fails_with(1)?.contains("none"), "the Network is not named");
        ensure!(!runtime.lab.path("/run/lab/net.d").exists(), "a configuration that cannot work");
        runtime.lab.node().run(&format!("{program} install --network pods --wait 20 {folders}"))?.ok()?;
        let text = std::fs::read_to_string(runtime.lab.path("/run/lab/net.d/10-weft.conflist"))?;
        let conflist: Value = serde_json::from_str(&text)?;
        for version in ["0.4.0", "1.0.0", "1.1.0"] {
            ensure!(
                conflist["cniVersions"].as_array().is_some_and(|all| all.contains(&version.into())),
                "{text}"
            );
            runtime.version = version.into();
            runtime.plugins = conflist["plugins"].as_array().cloned().unwrap_or_default();
            runtime.container("one")?;
            runtime.add("one", "eth0")?;
            runtime.check("one", "eth0")?.ok()?;
            runtime.reaches("one", "198.18.1.1")?;
            runtime.del("one", "eth0")?;
            runtime.lab.node().run("ip netns del one")?.ok()?;
        }
        runtime.lab.node().run(&format!("{program} uninstall {folders}"))?.ok()?;
        ensure!(!runtime.lab.path("/run/lab/bin/weft-cni").exists(), "the plugin is left");
        Ok(())
    });
}
