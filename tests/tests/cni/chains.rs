//! The reference plugins before and after Weft's, and giving its addresses.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::runtime::{Runtime, addresses};

/// Addresses that host-local regards as taken.
fn taken(runtime: &Runtime<'_>) -> Result<String> {
    Ok(runtime.lab.node().run("find /run/lab/ipam -name 198.*")?.stdout)
}

fn host_local() -> Value {
    json!({
        "type": "host-local", "dataDir": "/run/lab/ipam",
        "ranges": [[{ "subnet": "198.18.1.0/24", "rangeStart": "198.18.1.50", "gateway": "198.18.1.1" }],
                   [{ "subnet": "2001:db8:1::/64", "gateway": "2001:db8:1::1" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    })
}

#[test]
fn loopback_before_and_tuning_portmap_and_firewall_after() {
    for version in ["0.4.0", "1.0.0"] {
        Runtime::test(|runtime| {
            runtime.version = version.into();
            let weft = runtime.plugins[0].clone();
            runtime.plugins = vec![
                json!({ "type": "loopback" }),
                weft,
                json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.eth0.accept_redirects": "0" } }),
                json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
                json!({ "type": "firewall", "backend": "iptables" }),
            ];
            let mapping = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
            runtime.capabilities.insert("portMappings".into(), mapping);
            runtime.container("one")?;
            let result = runtime.add("one", "eth0")?;
            ensure!(result["interfaces"][0]["name"] == "lo", "{result}");
            ensure!(addresses(&result, "eth0").len() == 2, "{result}");
            runtime.reaches("one", "198.18.1.1")?;
            let sysctl = "cat /proc/sys/net/ipv4/conf/eth0/accept_redirects";
            ensure!(runtime.lab.container("one").run(sysctl)?.ok()?.trim() == "0", "tuning did nothing");
            let rules = runtime.lab.node().run("iptables-save -t nat")?.ok()?;
            let address = &addresses(&result, "eth0")[0];
            ensure!(rules.contains(&format!("--to-destination {address}:80")), "{rules}");
            // portmap 1.1.1 does not find its own rules again with nftables beneath iptables: it wants them as it wrote
            // them, with the container's address, and sees them with its subnet's.
            let all = runtime.plugins.clone();
            runtime.plugins.retain(|plugin| plugin["type"] != "portmap");
            runtime.check("one", "eth0")?.ok()?;
            runtime.plugins = all;
            runtime.del("one", "eth0")?;
            runtime.del("one", "eth0")?;
            let rules = runtime.lab.node().run("iptables-save")?.ok()?;
            ensure!(!rules.contains(address), "{rules}");
            ensure!(runtime.ports()?.is_empty(), "{:?}", runtime.ports()?);
            Ok(())
        });
    }
}

#[test]
fn check_tells_of_a_mac_address_that_tuning_changed() {
    Runtime::test(|runtime| {
        runtime.version = "1.0.0".into();
        runtime.plugins.push(json!({ "type": "tuning", "capabilities": { "mac": true } }));
        runtime.capabilities.insert("mac".into(), "02:00:00:00:00:66".into());
        runtime.container("one")?;
        let result = runtime.add("one", "eth0")?;
        ensure!(result["interfaces"][1]["mac"] == "02:00:00:00:00:66", "{result}");
        // The container may only send with its Port's address.
        let details = runtime.check("one", "eth0")?.fails_with(103)?;
        ensure!(details.contains("02:00:00:00:00:66"), "{details}");
        runtime.del("one", "eth0")?;
        // The same wish to Weft's plugin is served.
        runtime.plugins.truncate(1);
        runtime.plugins[0]["capabilities"] = json!({ "mac": true });
        runtime.add("one", "eth0")?;
        runtime.check("one", "eth0")?.ok()?;
        runtime.reaches("one", "198.18.1.1")
    });
}

#[test]
fn host_local_gives_the_addresses_and_gets_them_back() {
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        Runtime::test(|runtime| {
            runtime.version = version.into();
            runtime.plugins[0]["ipam"] = host_local();
            runtime.container("one")?;
            runtime.container("two")?;
            let first = runtime.add("one", "eth0")?;
            ensure!(addresses(&first, "eth0")[0] == "198.18.1.50", "{first}");
            runtime.add("two", "eth0")?;
            for address in addresses(&first, "eth0") {
                runtime.reaches("two", &address)?;
            }
            let routes = runtime.lab.container("one").run("ip route")?.ok()?;
            ensure!(routes.contains("default via 198.18.1.1"), "{routes}");
            if version != "0.3.1" {
                runtime.check("one", "eth0")?.ok()?;
            }
            runtime.one("ADD", "one")?.fails_with(100)?;
            runtime.del("one", "eth0")?;
            ensure!(!taken(runtime)?.contains("198.18.1.50"), "{}", taken(runtime)?);
            runtime.del("two", "eth0")?;
            ensure!(taken(runtime)?.is_empty(), "{}", taken(runtime)?);
            Ok(())
        });
    }
}

#[test]
fn an_address_outside_of_the_network_is_refused_and_given_back() {
    Runtime::test(|runtime| {
        runtime.version = "1.0.0".into();
        runtime.plugins[0]["ipam"] =
            json!({ "type": "host-local", "dataDir": "/run/lab/ipam", "subnet": "198.18.9.0/24" });
        runtime.container("one")?;
        let details = runtime.one("ADD", "one")?.fails_with(7)?;
        ensure!(details.contains("198.18.9."), "{details}");
        ensure!(taken(runtime)?.is_empty(), "{}", taken(runtime)?);
        ensure!(runtime.ports()?.is_empty(), "{:?}", runtime.ports()?);
        Ok(())
    });
}

#[test]
fn static_gives_addresses_and_routes() {
    Runtime::test(|runtime| {
        runtime.version = "1.0.0".into();
        runtime.plugins[0]["ipam"] = json!({
            "type": "static",
            "addresses": [{ "address": "198.18.1.88/24", "gateway": "198.18.1.1" }],
            "routes": [{ "dst": "198.18.2.0/24" }],
            "dns": { "nameservers": ["192.0.2.53"] },
        });
        runtime.container("one")?;
        let result = runtime.add("one", "eth0")?;
        ensure!(addresses(&result, "eth0") == ["198.18.1.88"], "{result}");
        ensure!(result["dns"]["nameservers"] == json!(["192.0.2.53"]), "{result}");
        runtime.reaches("one", "198.18.2.1")?;
        let routes = runtime.lab.container("one").run("ip route")?.ok()?;
        ensure!(!routes.contains("default"), "{routes}");
        runtime.check("one", "eth0")?.ok()?;
        runtime.del("one", "eth0")
    });
}
