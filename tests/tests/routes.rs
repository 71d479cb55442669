//! Routes that lead nowhere, routes by policy, and routes by weight.

use anyhow::{Result, ensure};
use serde_json::json;
use weft_testkit::topology::{self, FAR_B4, PortKind};
use weft_testkit::{Lab, Manifest};

/// `a` on `front`; `b` and `c` on `back`, both of which answer for 203.0.113.9.
fn fabric() -> Manifest {
    let c = topology::port("back", "c", PortKind::Veth, "02:00:00:00:00:0c", &["198.18.2.12"]);
    topology::two_networks(PortKind::Tap, PortKind::Tap)
        .namespace("c")
        .port("c", c)
        .with("Port", "b", "sourceCheck", json!(false))
        .with("Port", "c", "sourceCheck", json!(false))
}

#[test]
fn a_route_to_nowhere_tells_the_sender_as_it_says() {
    Lab::test(|lab| {
        let routes = json!([
            { "prefix": "203.0.113.0/26", "action": "blackhole" },
            { "prefix": "203.0.113.64/26", "action": "unreachable" },
            { "prefix": "203.0.113.128/26", "action": "prohibit" },
            { "prefix": "2001:db8:ffff::/48", "action": "prohibit" },
        ]);
        lab.apply(&fabric().with("Router", "main", "routes", routes))?;
        let ping = |address: &str| -> Result<String> {
            Ok(lab.container("a").run(&format!("ping -n -c 1 -W 1 {address}"))?.text())
        };
        let silent = ping("203.0.113.1")?;
        ensure!(silent.contains("100% packet loss") && !silent.contains("From"), "{silent}");
        ensure!(lab.drops("a", "route_blackhole")? == 1, "the blackhole counts what it swallows");
        let unreachable = ping("203.0.113.65")?;
        ensure!(unreachable.contains("Destination Host Unreachable"), "{unreachable}");
        for address in ["203.0.113.129", "2001:db8:ffff::1"] {
            let prohibited = ping(address)?;
            let told =
                prohibited.contains("Packet filtered") || prohibited.contains("Administratively prohibited");
            ensure!(told, "{prohibited}");
        }
        lab.container("a").reaches(FAR_B4)
    });
}

#[test]
fn a_rule_sends_some_by_another_way() {
    Lab::test(|lab| {
        let by_c = json!([{ "name": "by-c", "routes": [{ "prefix": "203.0.113.0/24", "nextHops": ["198.18.2.12"] }] }]);
        let main = json!([{ "prefix": "203.0.113.0/24", "nextHops": [FAR_B4] }]);
        let rules = json!([{ "priority": 10, "source": "198.18.1.128/25", "table": "by-c" }]);
        let manifest = fabric()
            .with("Router", "main", "routes", main)
            .with("Router", "main", "tables", by_c)
            .with("Router", "main", "rules", rules)
            .with("Port", "a", "addresses", json!(["198.18.1.10/24", "198.18.1.130/24"]));
        lab.apply(&manifest)?;
        for container in ["b", "c"] {
            lab.container(container).run("ip address add 203.0.113.9/32 dev lo")?.ok()?;
        }
        let received = |port: &str| -> Result<u64> {
            Ok(lab.get("port", port)?["status"]["counters"]["rxPackets"].as_u64().unwrap_or(0))
        };
        for (source, way) in [("198.18.1.10", "b"), ("198.18.1.130", "c")] {
            let before = (received("b")?, received("c")?);
            lab.container("a").run(&format!("ping -n -c 5 -i 0.05 -W 5 -I {source} 203.0.113.9"))?.ok()?;
            let answers = (received("b")? - before.0, received("c")? - before.1);
            let expected =
                if way == "b" { answers.0 >= 5 && answers.1 < 5 } else { answers.1 >= 5 && answers.0 < 5 };
            ensure!(expected, "from {source} by {way} expected, {answers:?} packets came from b and c");
        }
        Ok(())
    });
}
