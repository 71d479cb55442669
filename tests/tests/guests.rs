//! Guests that expect to be told: router advertisements and DHCP, to the kernel's and busybox's own clients.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use weft_testkit::Lab;
use weft_testkit::topology::{self, A4, FRONT_GATEWAY4, PortKind};
use weft_testkit::wait::retry_until;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_kernel_learns_its_default_route_and_makes_itself_an_address() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            let manifest = topology::one_network(a, b)
                .with("Network", "front", "mtu", json!(1400))
                .with("Network", "front", "routerAdvertisements", json!({ "autonomous": true }))
                .with("Port", "a", "addresses", json!([]))
                .with("Port", "a", "defaultRoute", json!(false));
            lab.apply(&manifest)?;
            let container = lab.container("a");
            retry_until(SOON, "what the gateway advertises", || {
                let routes = container.run("ip -6 route show default")?.ok()?;
                ensure!(routes.contains("via fe80::") && routes.contains("proto ra"), "routes: {routes}");
                let addresses = container.run("ip -6 address show dev eth0 scope global")?.ok()?;
                ensure!(
                    addresses.contains("inet6 2001:db8:1:") && addresses.contains("mngtmpaddr"),
                    "addresses: {addresses}"
                );
                Ok(())
            })?;
            container.reaches("2001:db8:1::1")?;
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

/// What udhcpc calls: prints what it was told.
const LEASE: &str = "#!/bin/sh\n[ \"$1\" = bound ] && echo \"bound $ip/$mask router $router dns $dns domain $domain \
    lease $lease mtu $mtu\"\nexit 0\n";

#[test]
fn a_dhcp_client_is_given_the_address_of_its_port() {
    Lab::test(|lab| {
        let script = lab.path("/run/lab/lease");
        std::fs::write(&script, LEASE)?;
        lab.node().run("chmod 0755 /run/lab/lease")?.ok()?;
        let dhcp = json!({ "dns": ["198.18.1.53"], "domain": "pods.example", "leaseSeconds": 600 });
        for (a, b) in PortKind::PAIRS {
            lab.apply(&topology::one_network(a, b).with("Network", "front", "dhcp", dhcp.clone()))?;
            let container = lab.container("a");
            container.run("ip address flush dev eth0")?.ok()?;
            let line = "busybox udhcpc -f -n -q -t 5 -T 1 -i eth0 -s /run/lab/lease -O mtu";
            let told = container.run(line)?.ok()?;
            let expected = format!(
                "bound {A4}/24 router {FRONT_GATEWAY4} dns 198.18.1.53 domain pods.example lease 600 mtu 1500"
            );
            ensure!(told.contains(&expected), "{expected} expected: {told}");
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}
