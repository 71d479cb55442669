//! Who reaches whom: within and across networks, in IPv4 and IPv6, over every pair of port kinds.

use anyhow::{Result, bail};
use serde_json::json;
use weft_testkit::topology::{
    self, A4, A6, B_MAC, FAR_B4, FAR_B6, FRONT_GATEWAY4, FRONT_GATEWAY6, NEAR_B4, NEAR_B6,
};
use weft_testkit::{Lab, Manifest, PortKind};

#[test]
fn containers_on_one_network_reach_each_other() {
    Lab::test(|lab| over_all_pairs(lab, topology::one_network, [NEAR_B4, NEAR_B6]));
}

#[test]
fn containers_on_two_networks_reach_each_other_through_the_router() {
    Lab::test(|lab| over_all_pairs(lab, topology::two_networks, [FAR_B4, FAR_B6]));
}

fn over_all_pairs(
    lab: &mut Lab,
    topology: impl Fn(PortKind, PortKind) -> Manifest,
    addresses_of_b: [&str; 2],
) -> Result<()> {
    for (a, b) in PortKind::PAIRS {
        let manifest = topology(a, b).label("set", "pair");
        lab.apply(&manifest)?;
        for address in addresses_of_b {
            lab.container("a").reaches(address)?;
        }
        for address in [A4, A6] {
            lab.container("b").reaches(address)?;
        }
        lab.weft_with_input(&["delete", "-f", "-"], Some(&manifest.to_string()))?.ok()?;
    }
    Ok(())
}

#[test]
fn the_gateway_answers_for_itself() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        for gateway in [FRONT_GATEWAY4, FRONT_GATEWAY6, "198.18.2.1", "2001:db8:2::1"] {
            lab.container("a").reaches(gateway)?;
            lab.container("b").reaches(gateway)?;
        }
        Ok(())
    });
}

#[test]
fn arping_finds_the_owner_of_an_address() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        let arping = |target: &str| lab.container("a").run(&format!("arping -c 2 -w 5 -I eth0 {target}"));
        let neighbor = arping(NEAR_B4)?.ok()?;
        if !neighbor.to_lowercase().contains(B_MAC) {
            bail!("{B_MAC} expected:\n{neighbor}");
        }
        let network = lab.get("network", "front")?;
        let gateway_mac = network["status"]["gatewayMac"].as_str().unwrap_or("no MAC").to_owned();
        let gateway = arping(FRONT_GATEWAY4)?.ok()?;
        if !gateway.to_lowercase().contains(&gateway_mac) {
            bail!("{gateway_mac} expected:\n{gateway}");
        }
        Ok(())
    });
}

#[test]
fn networks_without_a_router_stay_apart() {
    Lab::test(|lab| {
        let apart = |network: &str, prefix: &str, gateway: &str| {
            let spec = json!({ "subnets": [{ "prefix": prefix, "gateway": gateway }] });
            Manifest::new().network(network, spec)
        };
        lab.apply(
            &apart("front", "198.18.1.0/24", FRONT_GATEWAY4)
                .and(apart("back", "198.18.2.0/24", "198.18.2.1"))
                .namespace("a")
                .namespace("b")
                .port("a", topology::port("front", "a", PortKind::Tap, topology::A_MAC, &[A4]))
                .port("b", topology::port("back", "b", PortKind::Tap, B_MAC, &[FAR_B4])),
        )?;
        lab.container("a").does_not_reach(FAR_B4)
    });
}

#[test]
fn an_access_vlan_separates_ports_of_one_network() {
    Lab::test(|lab| {
        let member = |name: &str, mac: &str, address: &str, vlan: u32| {
            let spec = topology::port("front", name, PortKind::Tap, mac, &[address]);
            Manifest::new().namespace(name).port(name, spec).with("Port", name, "vlan", json!(vlan)).with(
                "Port",
                name,
                "defaultRoute",
                json!(false),
            )
        };
        lab.apply(
            &topology::front()
                .and(member("a", topology::A_MAC, A4, 10))
                .and(member("b", B_MAC, NEAR_B4, 10))
                .and(member("c", "02:00:00:00:00:0c", "198.18.1.12", 20)),
        )?;
        lab.container("a").reaches(NEAR_B4)?;
        lab.container("a").does_not_reach("198.18.1.12")?;
        lab.container("a").does_not_reach(FRONT_GATEWAY4)
    });
}

#[test]
fn the_node_reaches_its_containers_by_a_host_port() {
    Lab::test(|lab| {
        let host = json!({
            "network": "front",
            "type": "host",
            "device": "weft0",
            "addresses": ["198.18.1.2/24", "2001:db8:1::2/64"],
            "routes": [{ "prefix": "198.18.2.0/24" }],
        });
        lab.apply(&topology::two_networks(PortKind::Veth, PortKind::Tap).port("node", host))?;
        lab.node().reaches(A4)?;
        lab.node().reaches(A6)?;
        lab.node().reaches(FAR_B4)?;
        lab.container("b").reaches("198.18.1.2")
    });
}

#[test]
fn a_static_route_leads_behind_a_container() {
    Lab::test(|lab| {
        let routes = json!([
            { "prefix": "198.19.0.0/16", "nextHops": [FAR_B4] },
            { "prefix": "fd00:19::/32", "nextHops": [FAR_B6] },
        ]);
        let routed = topology::two_networks(PortKind::Tap, PortKind::Tap)
            .with("Router", "main", "routes", routes)
            .with("Port", "b", "sourceCheck", json!(false));
        lab.apply(&routed)?;
        let b = lab.container("b");
        b.run("ip address add 198.19.0.1/32 dev lo")?.ok()?;
        b.run("ip address add fd00:19::1/128 dev lo")?.ok()?;
        lab.container("a").reaches("198.19.0.1")?;
        lab.container("a").reaches("fd00:19::1")
    });
}

#[test]
fn ipv6_addresses_are_usable_at_once() {
    Lab::test(|lab| {
        lab.apply(&topology::one_network(PortKind::Tap, PortKind::Veth))?;
        for name in ["a", "b"] {
            let tentative =
                lab.container(name).run("ip -6 address show dev eth0 scope global tentative")?.ok()?;
            if !tentative.trim().is_empty() {
                bail!("{name} still checks for duplicates:\n{tentative}");
            }
        }
        Ok(())
    });
}

#[test]
fn device_attributes_are_as_wished() {
    Lab::test(|lab| {
        let manifest = topology::one_network(PortKind::Tap, PortKind::Veth);
        let manifest = ["a", "b"].iter().fold(manifest, |manifest, port| {
            manifest.with("Port", port, "mtu", json!(1400)).with("Port", port, "txqueuelen", json!(77))
        });
        lab.apply(&manifest)?;
        for name in ["a", "b"] {
            let link = lab.container(name).run("ip -details link show dev eth0")?.ok()?;
            let mac = if name == "a" { topology::A_MAC } else { B_MAC };
            for wanted in ["mtu 1400", "qlen 77", mac, "LOWER_UP"] {
                if !link.contains(wanted) {
                    bail!("{wanted} expected:\n{link}");
                }
            }
            let routes = lab.container(name).run("ip route show default")?.ok()?;
            if !routes.contains(FRONT_GATEWAY4) {
                bail!("a default route by {FRONT_GATEWAY4} expected: {routes}");
            }
        }
        Ok(())
    });
}
