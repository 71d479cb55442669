//! What nodes declare whose containers meet through a tunnel. Node N has the container `c` and the Tunnel `t`; what an
//! implementation beside Weft is given is called the far end.
//!
//! On a *segment* (VXLAN, GRETAP) all are on one Network: container N has 198.18.1.N and 2001:db8:1::N. On a *link*
//! (GRE, WireGuard) node N has a Network of its own behind a Router, 198.18.N.0/24 and 2001:db8:N::/64 with container
//! .10 and ::10, and is 198.18.9.N and 2001:db8:9::N itself.
//!
//! What every tunnel has to carry from one [`End`] to another is here as well, since it is the same for all of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::iperf3;
use crate::lab::{Lab, Place};
use crate::manifest::Manifest;
use crate::process::Output;
use crate::topology::PortKind;
use crate::wait::retry_until;
use crate::wire::Family;

/// The container of each node.
pub const CONTAINER: &str = "c";
/// The Tunnel of each node.
pub const TUNNEL: &str = "t";

/// The Network of each node's container.
pub const NETWORK: &str = "front";
/// The Router of each node, where there is one.
pub const ROUTER: &str = "main";

/// Container `number`'s address on a segment.
pub fn on_segment(number: u8, family: Family) -> String {
    match family {
        Family::V4 => format!("198.18.1.{number}"),
        Family::V6 => format!("2001:db8:1::{number}"),
    }
}

/// The address of node `number`'s container behind a link.
pub fn behind_link(number: u8, family: Family) -> String {
    match family {
        Family::V4 => format!("198.18.{number}.10"),
        Family::V6 => format!("2001:db8:{number}::10"),
    }
}

/// The address of node or far end `number` on the link itself.
pub fn on_link(number: u8, family: Family) -> String {
    match family {
        Family::V4 => format!("198.18.9.{number}"),
        Family::V6 => format!("2001:db8:9::{number}"),
    }
}

/// What is reached by node `number` over a link: its Network, and itself.
pub fn prefixes(number: u8) -> [String; 4] {
    [
        format!("198.18.{number}.0/24"),
        format!("2001:db8:{number}::/64"),
        on_link(number, Family::V4) + "/32",
        on_link(number, Family::V6) + "/128",
    ]
}

/// Node `number` on a segment of this MTU. `encapsulation` is called `kind` (`vxlan`, `gretap`) in the Tunnel's spec.
pub fn segment(number: u8, port: PortKind, mtu: u32, kind: &str, encapsulation: Value) -> Manifest {
    let network = json!({
        "mtu": mtu,
        "subnets": [{ "prefix": "198.18.1.0/24" }, { "prefix": "2001:db8:1::/64" }],
    });
    let addresses = [on_segment(number, Family::V4) + "/24", on_segment(number, Family::V6) + "/64"];
    Manifest::new()
        .namespace(CONTAINER)
        .network(NETWORK, network)
        .port(CONTAINER, container(number, port, &addresses))
        .resource("Tunnel", TUNNEL, json!({ "network": NETWORK, "mtu": mtu, kind: encapsulation }))
}

/// Node `number` at a link of this MTU. `encapsulation` is called `kind` (`gre`, `wireguard`) in the Tunnel's spec.
pub fn link(number: u8, port: PortKind, mtu: u32, kind: &str, encapsulation: Value) -> Manifest {
    let own = [on_link(number, Family::V4) + "/32", on_link(number, Family::V6) + "/128"];
    behind_a_router(number, port).with("Network", NETWORK, "mtu", json!(mtu)).resource(
        "Tunnel",
        TUNNEL,
        json!({ "router": ROUTER, "addresses": own, "mtu": mtu, kind: encapsulation }),
    )
}

/// Node `number` with its container on a Network of its own behind a Router, and no tunnel yet.
pub fn behind_a_router(number: u8, port: PortKind) -> Manifest {
    let [v4, v6, ..] = prefixes(number);
    let network = json!({
        "router": ROUTER,
        "subnets": [
            { "prefix": v4, "gateway": format!("198.18.{number}.1") },
            { "prefix": v6, "gateway": format!("2001:db8:{number}::1") },
        ],
    });
    let addresses = [behind_link(number, Family::V4) + "/24", behind_link(number, Family::V6) + "/64"];
    let mut port = container(number, port, &addresses);
    port["defaultRoute"] = json!(true);
    Manifest::new().namespace(CONTAINER).router(ROUTER).network(NETWORK, network).port(CONTAINER, port)
}

/// Its MAC address is its own: Weft would make the same one of the same name on each node.
fn container(number: u8, kind: PortKind, addresses: &[String]) -> Value {
    json!({
        "network": NETWORK,
        "namespace": CONTAINER,
        "type": kind.name(),
        "mac": format!("02:00:00:00:01:{number:02x}"),
        "addresses": addresses,
    })
}

/// Where traffic inside a tunnel begins and ends, and what it is reached by.
#[derive(Debug, Clone)]
pub struct End<'a> {
    /// The namespace.
    pub place: Place<'a>,
    /// Its IPv4 address.
    pub v4: String,
    /// Its IPv6 address.
    pub v6: String,
}

impl<'a> End<'a> {
    /// The end of node `number` on a segment.
    pub fn on_segment(place: Place<'a>, number: u8) -> End<'a> {
        End { place, v4: on_segment(number, Family::V4), v6: on_segment(number, Family::V6) }
    }

    /// The container of node `number` behind a link.
    pub fn behind_link(place: Place<'a>, number: u8) -> End<'a> {
        End { place, v4: behind_link(number, Family::V4), v6: behind_link(number, Family::V6) }
    }

    /// The end of far end `number` on a link.
    pub fn on_link(place: Place<'a>, number: u8) -> End<'a> {
        End { place, v4: on_link(number, Family::V4), v6: on_link(number, Family::V6) }
    }

    /// Its address of this family.
    pub fn address(&self, family: Family) -> &str {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// One echo request with these options of ping.
    pub fn ping(&self, to: &str, options: &str) -> Result<Output> {
        self.place.run(&format!("ping -n -c 1 -W 2 {options} {to}"))
    }

    /// Waits until the other end answers.
    pub fn meets(&self, other: &End<'_>) -> Result<()> {
        for family in Family::BOTH {
            let to = other.address(family);
            retry_until(SOON, "the far end to answer", || self.ping(to, "")?.ok())?;
        }
        Ok(())
    }

    /// Wants no answer from the other end.
    pub fn misses(&self, other: &End<'_>) -> Result<()> {
        Family::BOTH.into_iter().try_for_each(|family| self.place.does_not_reach(other.address(family)))
    }
}

/// Longest time that a tunnel may take to come up, or to recover.
pub const SOON: Duration = Duration::from_secs(20);

/// Wants both ends to reach each other by small packets, by such that fit `mtu` exactly, and by fragments.
pub fn carries_packets(a: &End<'_>, b: &End<'_>, mtu: u32) -> Result<()> {
    a.meets(b)?;
    for (from, to) in [(a, b), (b, a)] {
        for (family, headers) in [(Family::V4, 28), (Family::V6, 48)] {
            let to = to.address(family);
            from.place.reaches(to)?;
            from.ping(to, &format!("-M do -s {}", mtu - headers))?
                .ok()
                .context("a packet as large as the MTU")?;
            from.ping(to, "-s 4000")?.ok().context("fragments")?;
        }
    }
    Ok(())
}

/// Wants streams and datagrams to arrive both ways over IPv4, of which some are sent as fragments, and a stream over IPv6;
/// streams faster than `bits`.
pub fn carries_traffic(a: &End<'_>, b: &End<'_>, bits: f64) -> Result<()> {
    iperf3::streams(&a.place, &b.place, &b.v4, bits)?;
    let rate = iperf3::run(&a.place, &b.place, &b.v6, "--time 1")?.rate()?;
    ensure!(rate > bits, "{}: only {rate} bit/s", b.v6);
    iperf3::datagrams(&a.place, &b.place, &b.v4, 4000)
}

/// Sends a megabyte by TCP each way, some of it in super-packets, and fragmented datagrams: for who looks on.
pub fn show_traffic(a: &End<'_>, b: &End<'_>) -> Result<()> {
    for options in ["--bytes 1M", "--bytes 1M --reverse", "--udp --bytes 100K --bitrate 10M --length 4000"] {
        iperf3::run(&a.place, &b.place, &b.v4, options)?;
    }
    iperf3::run(&a.place, &b.place, &b.v6, "--bytes 1M").map(drop)
}

/// Wants packets with a mark of congestion on the outside to tell so inside, where the sender understands it, and to be
/// dropped where not (RFC 6040 section 4.2). `marked` has to hear `from` with marks put on all on the way.
pub fn tells_congestion(from: &End<'_>, marked: &End<'_>, device: &str) -> Result<()> {
    for (family, filter) in [
        (Family::V4, "icmp[icmptype] == icmp-echo and ip[1] & 3 == 3"),
        (Family::V6, "icmp6[icmp6type] == icmp6-echo and ip6[1] & 0x30 == 0x30"),
    ] {
        let watch = ["tcpdump", "--immediate-mode", "-n", "-c", "1", "-i", device, filter];
        let mut watcher = marked.place.spawn_with_input(&watch, None)?;
        watcher.wait_for("listening on")?;
        let to = marked.address(family);
        from.ping(to, "-Q 2")?;
        watcher.wait()?.ok().with_context(|| format!("no mark of congestion came to {to}"))?;
        ensure!(!from.ping(to, "-Q 0")?.success(), "{to} answered what met congestion and cannot tell");
    }
    Ok(())
}

/// Wants the Tunnel to say that packets inside may have this many octets now.
pub fn has_mtu(lab: &Lab, mtu: u32) -> Result<()> {
    let status = lab.get("tunnel", TUNNEL)?["status"].clone();
    ensure!(status["mtu"] == mtu, "an MTU of {mtu} expected: {status}");
    Ok(())
}

/// Packets of the Tunnel that were dropped for this reason.
pub fn drops(lab: &Lab, reason: &str) -> Result<u64> {
    let object = lab.get("tunnel", TUNNEL)?;
    Ok(object["status"]["drops"][reason].as_u64().unwrap_or(0))
}

/// Waits until packets of the Tunnel were dropped for this reason.
pub fn wait_for_drops(lab: &Lab, reason: &str) -> Result<()> {
    retry_until(SOON, &format!("the counter {reason}"), || {
        ensure!(drops(lab, reason)? > 0, "{}", lab.get("tunnel", TUNNEL)?["status"]);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encapsulation_is_found_under_its_name() {
        let text = segment(2, PortKind::Tap, 1450, "vxlan", json!({ "vni": 7 })).to_string();
        let tunnel = text.lines().find(|line| line.contains("\"Tunnel\"")).unwrap();
        let tunnel: Value = serde_json::from_str(tunnel).unwrap();
        assert_eq!(tunnel["spec"], json!({ "network": "front", "mtu": 1450, "vxlan": { "vni": 7 } }));
        assert!(text.contains("198.18.1.2/24"), "{text}");
    }

    #[test]
    fn a_link_has_the_nodes_own_addresses_and_containers_behind_it() {
        let text = link(2, PortKind::Veth, 1420, "wireguard", json!({})).to_string();
        assert!(text.contains("198.18.9.2/32") && text.contains("2001:db8:2::10/64"), "{text}");
        assert_eq!(prefixes(2)[0], "198.18.2.0/24");
    }
}
