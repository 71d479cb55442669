//! Guests that expect to be told: router advertisements and DHCP, to the kernel's, ndisc6's and busybox's own clients;
//! and guests that take other Networks to be on their link, who ask for them by ARP.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use weft_testkit::Lab;
use weft_testkit::topology::{self, A4, B_MAC, FAR_B4, FRONT_GATEWAY4, PortKind};
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

#[test]
fn a_host_hears_all_that_is_told_and_when_it_ends() {
    Lab::test(|lab| {
        let silent = topology::one_network(PortKind::Tap, PortKind::Veth).with(
            "Port",
            "a",
            "defaultRoute",
            json!(false),
        );
        let told = json!({ "dns": ["2001:db8::53"], "search": ["lab.example.org"] });
        lab.apply(&silent.clone().with("Network", "front", "routerAdvertisements", told))?;
        let container = lab.container("a");
        let heard = container.run("rdisc6 -1 -w 5000 eth0")?.ok()?;
        for text in ["1800", "2001:db8:1::/64", "2001:db8::53", "lab.example.org", "1500"] {
            ensure!(heard.contains(text), "rdisc6 does not tell of {text}: {heard}");
        }
        for there in [true, false] {
            retry_until(SOON, "a default route that comes and goes", || {
                let routes = container.run("ip -6 route show default")?.ok()?;
                ensure!(routes.contains("proto ra") == there, "routes: {routes}");
                Ok(())
            })?;
            lab.apply(&silent)?;
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

#[test]
fn without_dhcp_nobody_answers() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Tap))?;
        let told = lab.container("a").run("busybox udhcpc -f -n -q -t 2 -T 1 -i eth0 -s /bin/true")?.text();
        ensure!(told.contains("no lease"), "udhcpc was answered: {told}");
        Ok(())
    });
}

#[test]
fn a_gateway_answers_for_other_networks_where_it_is_asked_to() {
    Lab::test(|lab| {
        let manifest = topology::two_networks(PortKind::Tap, PortKind::Veth);
        lab.apply(&manifest.clone().with("Network", "front", "proxyNeighbors", json!(true)))?;
        let a = lab.container("a");
        let status = lab.get("network", "front")?;
        let gateway = status["status"]["gatewayMac"].as_str().context("status.gatewayMac")?;
        let answer = a.run(&format!("arping -c 2 -w 5 -I eth0 {FAR_B4}"))?.text().to_lowercase();
        ensure!(answer.contains(gateway), "the gateway does not answer: {answer}");
        // The other Network is on its own link, for all that the host knows.
        a.run("ip route add 198.18.2.0/24 dev eth0")?.ok()?;
        a.reaches(FAR_B4)?;
        lab.apply(&manifest)?;
        let answer = a.run(&format!("arping -c 2 -w 2 -I eth0 {FAR_B4}"))?.text().to_lowercase();
        ensure!(!answer.contains(gateway), "the gateway still answers: {answer}");
        ensure!(!answer.contains(B_MAC), "somebody of another Network answers: {answer}");
        Ok(())
    });
}
