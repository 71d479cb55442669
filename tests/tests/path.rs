//! The path as its users see it: hops, MTU, too-big answers, fragments, and ICMP errors.

use anyhow::{Result, ensure};
use serde_json::json;
use weft_testkit::topology::{self, FAR_B4, FAR_B6, FRONT_GATEWAY4, FRONT_GATEWAY6};
use weft_testkit::{Lab, Manifest, Place, PortKind};

/// Runs a command that may fail and wants each of `words` in what it says.
fn says(place: &Place<'_>, line: &str, words: &[&str]) -> Result<()> {
    let output = place.run(line)?;
    for word in words {
        ensure!(output.text().contains(word), "{word:?} expected: {output}");
    }
    Ok(())
}

fn small_back(a: PortKind, b: PortKind) -> Manifest {
    topology::two_networks(a, b).with("Network", "back", "mtu", json!(1400))
}

#[test]
fn traceroute_shows_the_gateway_as_the_first_hop() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        let a = lab.container("a");
        let first4 = format!(" 1  {FRONT_GATEWAY4} ");
        let second4 = format!(" 2  {FAR_B4} ");
        says(&a, &format!("traceroute -n -q 1 -w 3 -m 4 {FAR_B4}"), &[&first4, &second4])?;
        let first6 = format!(" 1  {FRONT_GATEWAY6} ");
        let second6 = format!(" 2  {FAR_B6} ");
        says(&a, &format!("traceroute -6 -n -q 1 -w 3 -m 4 {FAR_B6}"), &[&first6, &second6])
    });
}

#[test]
fn tracepath_finds_the_smaller_mtu_behind_the_gateway() {
    Lab::test(|lab| {
        lab.apply(&small_back(PortKind::Tap, PortKind::Veth))?;
        let a = lab.container("a");
        says(&a, &format!("tracepath -n -m 5 {FAR_B4}"), &[FRONT_GATEWAY4, "pmtu 1400", "reached"])?;
        says(&a, &format!("tracepath -6 -n -m 5 {FAR_B6}"), &[FRONT_GATEWAY6, "pmtu 1400", "reached"])
    });
}

#[test]
fn a_packet_that_is_too_big_is_answered_with_the_mtu() {
    Lab::test(|lab| {
        for kind in [PortKind::Tap, PortKind::Veth] {
            lab.apply(&small_back(kind, PortKind::Tap))?;
            let a = lab.container("a");
            let from4 = format!("From {FRONT_GATEWAY4}");
            says(&a, &format!("ping -n -c 1 -W 5 -M do -s 1472 {FAR_B4}"), &[&from4, "mtu = 1400"])?;
            let from6 = format!("From {FRONT_GATEWAY6}");
            says(&a, &format!("ping -n -c 1 -W 5 -M do -s 1452 {FAR_B6}"), &[&from6, "mtu=1400"])?;
            ensure!(lab.drops("a", "packet_too_big")? >= 2, "packet_too_big is not counted at a");
            says(&a, &format!("ping -n -c 1 -W 5 -M do -s 1372 {FAR_B4}"), &["1 received"])?;
            says(&a, &format!("ping -n -c 1 -W 5 -M do -s 1352 {FAR_B6}"), &["1 received"])?;
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn a_packet_that_may_be_fragmented_is() {
    Lab::test(|lab| {
        lab.apply(&small_back(PortKind::Tap, PortKind::Veth))?;
        says(
            &lab.container("a"),
            &format!("ping -n -c 2 -i 0.1 -W 5 -M dont -s 1472 {FAR_B4}"),
            &["2 received"],
        )
    });
}

#[test]
fn tcp_finds_its_way_into_a_network_with_a_smaller_mtu() {
    Lab::test(|lab| {
        for (a, b) in PortKind::PAIRS {
            lab.apply(&small_back(a, b))?;
            for address in [FAR_B4, FAR_B6] {
                let server = lab.container("b").spawn("iperf3 --server --one-off")?;
                lab.container("b").wait_for_listener(5201)?;
                lab.container("a").run(&format!("iperf3 --client {address} --bytes 20M --json"))?.ok()?;
                server.wait()?.ok()?;
            }
            lab.weft(&["delete", "port", "a", "b"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn a_used_up_ttl_is_answered_by_the_gateway() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Veth, PortKind::Tap))?;
        let a = lab.container("a");
        let from4 = format!("From {FRONT_GATEWAY4}");
        says(&a, &format!("ping -n -c 1 -W 5 -t 1 {FAR_B4}"), &[&from4, "Time to live exceeded"])?;
        let from6 = format!("From {FRONT_GATEWAY6}");
        says(&a, &format!("ping -n -c 1 -W 5 -t 1 {FAR_B6}"), &[&from6, "Time exceeded: Hop limit"])?;
        ensure!(lab.drops("a", "ttl_expired")? == 2, "two ttl_expired expected at a");
        Ok(())
    });
}

#[test]
fn a_destination_without_a_route_is_answered() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Tap))?;
        let a = lab.container("a");
        says(&a, "ping -n -c 1 -W 5 198.19.7.7", &[FRONT_GATEWAY4, "Destination Net Unreachable"])?;
        says(&a, "ping -n -c 1 -W 5 2001:db8:99::7", &[FRONT_GATEWAY6, "Destination unreachable"])?;
        ensure!(lab.drops("a", "no_route")? >= 2, "no_route is not counted at a");
        Ok(())
    });
}

#[test]
fn a_neighbor_that_never_answers_is_reported_unreachable() {
    Lab::test(|lab| {
        lab.apply(&topology::two_networks(PortKind::Tap, PortKind::Veth))?;
        let a = lab.container("a");
        says(&a, "ping -n -c 1 -W 10 198.18.2.77", &[FRONT_GATEWAY4, "Destination Host Unreachable"])?;
        says(&a, "ping -n -c 1 -W 10 2001:db8:2::77", &[FRONT_GATEWAY6, "Address unreachable"])
    });
}
