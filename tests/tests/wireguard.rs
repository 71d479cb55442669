//! WireGuard tunnels with wireguard-go as the far end, and between two nodes of Weft.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_testkit::peer::wireguard::{self, DEVICE, Keys, PORT, Peer, WireGuard};
use weft_testkit::tunnel::{self, CONTAINER, End, SOON, TUNNEL};
use weft_testkit::wait::retry_until;
use weft_testkit::{Family, Manifest, Node, Nodes, PortKind, Sniffer, Wire};

const MTU: u32 = 1420;
const FLOOD: &str = include_str!("handshake_flood.py");

/// What a node knows of another one.
struct Known<'a> {
    number: u8,
    public: &'a str,
    shared: Option<&'a str>,
    endpoint: Option<IpAddr>,
}

impl Known<'_> {
    fn spec(&self) -> Value {
        let mut peer = json!({ "publicKey": self.public, "allowedPrefixes": tunnel::prefixes(self.number) });
        if let Some(key) = self.shared {
            peer["presharedKey"] = json!(key);
        }
        if let Some(address) = self.endpoint {
            peer["endpoint"] = json!(SocketAddr::new(address, PORT));
        }
        peer
    }
}

/// Node `number` with these keys and a peer.
fn manifest(number: u8, keys: &Keys, peer: &Known<'_>) -> Manifest {
    let spec = json!({ "listenPort": PORT, "privateKey": keys.private, "peers": [peer.spec()] });
    tunnel::link(number, PortKind::Tap, MTU, "wireguard", spec)
}

/// Who tells whom where it is, and so begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Initiator {
    Weft,
    FarEnd,
}

/// Weft as node 1 and wireguard-go as far end 2.
struct Site<'a> {
    weft: &'a Node,
    wire: &'a Wire,
    peer: &'a Node,
    near: End<'a>,
    far: End<'a>,
    /// Weft's keys.
    own: &'a Keys,
    /// The far end's keys.
    theirs: &'a Keys,
    shared: Option<&'a str>,
}

impl Site<'_> {
    /// Weft's manifest, with where the far end is if that is for Weft to know.
    fn manifest(&self, endpoint: Option<IpAddr>) -> Manifest {
        let known = Known { number: 2, public: &self.theirs.public, shared: self.shared, endpoint };
        manifest(1, self.own, &known)
    }

    /// Tells the far end of Weft.
    fn introduce(&self, public: &str, endpoint: Option<IpAddr>, keepalive: u16) -> Result<()> {
        let prefixes = tunnel::prefixes(1);
        let allowed: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        let endpoint = endpoint.map(|address| SocketAddr::new(address, PORT));
        let peer =
            Peer { public_key: public, preshared_key: self.shared, endpoint, allowed: &allowed, keepalive };
        wireguard::set_peer(self.peer, &peer)
    }

    /// Makes the tunnel, with one of both knowing where the other is.
    fn connect(&self, family: Family, initiator: Initiator) -> Result<()> {
        let (of_peer, of_weft) = match initiator {
            Initiator::Weft => (Some(self.peer.address(family)), None),
            Initiator::FarEnd => (None, Some(self.weft.address(family))),
        };
        self.introduce(&self.own.public, of_weft, 0)?;
        self.weft.apply(&self.manifest(of_peer))?;
        match initiator {
            Initiator::Weft => self.near.meets(&self.far),
            Initiator::FarEnd => self.far.meets(&self.near),
        }
    }
}

/// Runs a test beside wireguard-go, whose tunnel is not made yet.
fn beside_wireguard_go(wire: Result<Wire>, shared: bool, test: impl FnOnce(&Site<'_>) -> Result<()>) {
    Nodes::test(wire, 1, |nodes| {
        let (weft, wire) = (&nodes.nodes[0], &nodes.wire);
        let peer = Node::bare(wire)?;
        let (own, theirs) = (Keys::generate(&peer.node())?, Keys::generate(&peer.node())?);
        let shared = if shared { Some(wireguard::preshared_key(&peer.node())?) } else { None };
        let addresses = Family::BOTH.map(|family| tunnel::on_link(2, family));
        let [v4, v6] = addresses.each_ref();
        let running = WireGuard::start(&peer, &theirs, &[&format!("{v4}/32"), &format!("{v6}/128")])?;
        let site = Site {
            weft,
            wire,
            peer: &peer,
            near: End::behind_link(weft.container(CONTAINER), 1),
            far: End::on_link(peer.node(), 2),
            own: &own,
            theirs: &theirs,
            shared: shared.as_deref(),
        };
        test(&site).with_context(|| format!("wireguard-go says: {}", running.log()))
    });
}

#[test]
fn packets_go_to_wireguard_go_and_come_from_it_whoever_begins() {
    for family in Family::BOTH {
        for (initiator, shared) in [(Initiator::Weft, false), (Initiator::FarEnd, true)] {
            beside_wireguard_go(Wire::link(1500), shared, |site| {
                site.connect(family, initiator)?;
                tunnel::carries_packets(&site.near, &site.far, MTU)?;
                if shared { tunnel::carries_traffic(&site.near, &site.far, 1e7) } else { Ok(()) }
            });
        }
    }
}

#[test]
fn two_nodes_reach_each_other() {
    for family in Family::BOTH {
        with_two_nodes(family, |nodes, _| {
            let (near, far) = (container(&nodes[0], 1), container(&nodes[1], 2));
            tunnel::carries_packets(&near, &far, MTU)?;
            tunnel::carries_traffic(&near, &far, 1e7)
        });
    }
}

fn container(node: &Node, number: u8) -> End<'_> {
    End::behind_link(node.container(CONTAINER), number)
}

/// Runs a test with two nodes that know each other's endpoint; each end's keys come along.
fn with_two_nodes(family: Family, test: impl FnOnce(&mut [Node], &[Keys; 2]) -> Result<()>) {
    Nodes::test(Wire::link(1500), 2, |nodes| {
        let place = nodes.nodes[0].node();
        let keys = [Keys::generate(&place)?, Keys::generate(&place)?];
        for side in [0, 1] {
            let number = side as u8 + 1;
            let endpoint = Some(nodes.nodes[1 - side].address(family));
            let known = Known { number: 3 - number, public: &keys[1 - side].public, shared: None, endpoint };
            nodes.nodes[side].apply(&manifest(number, &keys[side], &known))?;
        }
        test(&mut nodes.nodes, &keys).with_context(|| format!("{family:?}"))
    });
}

#[test]
fn tshark_finds_no_fault_with_what_is_sent() {
    for family in Family::BOTH {
        beside_wireguard_go(Wire::link(1500), true, |site| {
            let sniffer = Sniffer::start(site.wire, site.weft, "udp port 51820")?;
            site.connect(family, Initiator::Weft)?;
            site.near.ping(&site.far.v4, "-s 4000")?.ok()?;
            tunnel::show_traffic(&site.near, &site.far)?;
            let recording = sniffer.finish()?;
            let weft = site.weft.address(family);
            recording.is_sound(&weft.to_string())?;
            let (version, marks) = match family {
                Family::V4 => ("ip", "ip.dsfield.dscp"),
                Family::V6 => ("ipv6", "ipv6.tclass.dscp"),
            };
            let initiations = recording.count(&format!("wg.type == 1 && {version}.src == {weft}"))?;
            let marked =
                recording.count(&format!("wg.type == 1 && {version}.src == {weft} && {marks} == 34"))?;
            ensure!(initiations > 0 && marked == initiations, "{marked} of {initiations} are marked AF41");
            let unmarked =
                recording.count(&format!("wg.type == 4 && {version}.src == {weft} && {marks} != 0"))?;
            ensure!(unmarked == 0, "{unmarked} packets of data show what is inside");
            Ok(())
        });
    }
}

#[test]
fn a_peer_with_another_key_gets_nothing_through_and_is_counted() {
    beside_wireguard_go(Wire::link(1500), false, |site| {
        let stranger = Keys::generate(&site.peer.node())?;
        wireguard::set_keys(site.peer, &stranger, PORT)?;
        site.introduce(&site.own.public, Some(site.weft.address(Family::V4)), 0)?;
        site.weft.apply(&site.manifest(None))?;
        site.far.misses(&site.near)?;
        tunnel::wait_for_drops(site.weft, "wireguard_peer_unknown")
    });
}

#[test]
fn a_peer_with_another_preshared_key_gets_nothing_through_and_is_counted() {
    beside_wireguard_go(Wire::link(1500), true, |site| {
        let other = wireguard::preshared_key(&site.peer.node())?;
        let wrong = Known { number: 2, public: &site.theirs.public, shared: Some(&other), endpoint: None };
        site.introduce(&site.own.public, Some(site.weft.address(Family::V4)), 0)?;
        site.weft.apply(&manifest(1, site.own, &wrong))?;
        site.far.misses(&site.near)?;
        // Whoever gets the answer to a handshake is the one that finds the keys different.
        let endpoint = Some(site.peer.address(Family::V4));
        site.weft.apply(&manifest(1, site.own, &Known { endpoint, ..wrong }))?;
        site.near.misses(&site.far)?;
        tunnel::wait_for_drops(site.weft, "wireguard_unauthentic")?;
        // The right one is used from the next handshake on.
        site.weft.apply(&site.manifest(endpoint))?;
        site.near.meets(&site.far)
    });
}

#[test]
fn a_source_that_is_not_allowed_gets_nothing_through_and_is_counted() {
    beside_wireguard_go(Wire::link(1500), false, |site| {
        site.connect(Family::V4, Initiator::FarEnd)?;
        site.peer.must(&format!("ip address add 198.18.77.1/32 dev {DEVICE}"))?;
        let line = format!("ping -n -c 2 -i 0.1 -W 1 -I 198.18.77.1 {}", site.near.v4);
        ensure!(!site.peer.node().run(&line)?.success(), "a source that is not allowed is answered");
        tunnel::wait_for_drops(site.weft, "wireguard_source_not_allowed")
    });
}

/// Has a node that is flooded with handshakes, `burst` of them fifty times a second and from where the other node is, be
/// asked for a session by that node: it gets one when it brings the cookie that it was given.
fn gets_in_with_a_cookie(site: &Site<'_>, family: Family, initiator: Initiator, burst: u32) -> Result<()> {
    let (of_peer, of_weft) = match initiator {
        Initiator::Weft => (Some(site.peer.address(family)), None),
        Initiator::FarEnd => (None, Some(site.weft.address(family))),
    };
    site.introduce(&site.own.public, of_weft, 0)?;
    site.weft.apply(&site.manifest(of_peer))?;
    let (from, to, key, near, far) = match initiator {
        Initiator::Weft => (site.weft, site.peer, &site.theirs.public, &site.near, &site.far),
        Initiator::FarEnd => (site.peer, site.weft, &site.own.public, &site.far, &site.near),
    };
    let (asking, asked) = (from.address(family).to_string(), to.address(family).to_string());
    // The flood comes from other ports.
    let between = format!("udp src port {PORT} and udp dst port {PORT}");
    let sniffer = Sniffer::start(site.wire, site.weft, &between)?;
    let command = ["python3", "-c", FLOOD, key, &asked, &PORT.to_string(), &burst.to_string()];
    let mut flood = from.node().spawn_with_input(&command, None)?;
    flood.wait_for("loaded")?;
    near.meets(far)?;
    drop(flood);
    let recording = sniffer.finish()?;
    let version = if family == Family::V4 { "ip" } else { "ipv6" };
    let count = |what: &str, source: &str| recording.count(&format!("{version}.src == {source} && {what}"));
    let none = "00:".repeat(15) + "00";
    ensure!(count("wg.type == 3", &asked)? > 0, "no cookie was given");
    ensure!(
        count(&format!("wg.type == 1 && wg.mac2 == {none}"), &asking)? > 0,
        "none was begun without a cookie"
    );
    ensure!(count(&format!("wg.type == 1 && wg.mac2 != {none}"), &asking)? > 0, "the cookie was not brought");
    ensure!(count("wg.type == 2", &asked)? > 0, "there was no answer");
    Ok(())
}

#[test]
fn weft_gets_in_with_a_cookie_where_wireguard_go_is_flooded() {
    for family in Family::BOTH {
        beside_wireguard_go(Wire::link(1500), false, |site| {
            gets_in_with_a_cookie(site, family, Initiator::Weft, 600)
        });
    }
}

#[test]
fn wireguard_go_gets_in_with_a_cookie_where_weft_is_flooded() {
    for family in Family::BOTH {
        beside_wireguard_go(Wire::link(1500), false, |site| {
            gets_in_with_a_cookie(site, family, Initiator::FarEnd, 40)?;
            ensure!(tunnel::drops(site.weft, "wireguard_flood")? > 0, "nothing was refused");
            Ok(())
        });
    }
}

#[test]
fn congestion_on_the_way_is_told_inside() {
    for family in Family::BOTH {
        beside_wireguard_go(Wire::link(1500), false, |site| {
            site.connect(family, Initiator::FarEnd)?;
            site.wire.congest(&site.weft.at)?;
            tunnel::tells_congestion(&site.far, &site.near, "eth0")?;
            tunnel::wait_for_drops(site.weft, "tunnel_congestion")
        });
    }
}

#[test]
fn an_underlay_that_comes_back_is_used_again() {
    for family in Family::BOTH {
        beside_wireguard_go(Wire::link(1500), false, |site| {
            site.connect(family, Initiator::Weft)?;
            site.wire.cut(&site.weft.at)?;
            site.near.misses(&site.far)?;
            site.wire.mend(&site.weft.at)?;
            site.near.meets(&site.far)?;
            // The node's own device, which then loses its addresses.
            site.weft.must("ip link set wire down")?;
            site.near.misses(&site.far)?;
            site.weft.must("ip link set wire up")?;
            site.wire.address(site.weft, &site.weft.at, "wire")?;
            site.near.meets(&site.far)
        });
    }
}

#[test]
fn a_narrow_way_is_told_to_the_container() {
    for (family, overhead) in [(Family::V4, 60), (Family::V6, 80)] {
        beside_wireguard_go(Wire::routed(), false, |site| {
            site.connect(family, Initiator::Weft)?;
            site.wire.narrow(1400)?;
            // The payload is padded to 16 octets, but not beyond what the way takes.
            let inside = 1400 - overhead;
            retry_until(SOON, "a too-big for the container", || {
                let told = site.near.ping(&site.far.v4, "-M do -s 1380")?.text();
                ensure!(told.contains(&format!("{inside}")), "an MTU of {inside} expected: {told}");
                Ok(())
            })?;
            // The far end, too, has to hear of the narrow way before an answer gets through.
            retry_until(SOON, "an answer", || {
                site.near.ping(&site.far.v4, &format!("-M do -s {}", inside - 28))?.ok()
            })?;
            tunnel::has_mtu(site.weft, inside)?;
            let status = site.weft.get("tunnel", TUNNEL)?["status"].clone();
            ensure!(status["remotes"][0]["pathMtu"] == inside, "the peer's own expected: {status}");
            Ok(())
        });
    }
}

#[test]
fn a_narrow_link_of_the_node_is_told_to_the_container() {
    for (family, overhead) in [(Family::V4, 60), (Family::V6, 80)] {
        beside_wireguard_go(Wire::link(1500), false, |site| {
            site.connect(family, Initiator::Weft)?;
            site.weft.must("ip link set wire mtu 1400")?;
            let inside = 1400 - overhead;
            retry_until(SOON, "a too-big for the container", || {
                let told = site.near.ping(&site.far.v4, "-M do -s 1380")?.text();
                ensure!(told.contains(&format!("{inside}")), "an MTU of {inside} expected: {told}");
                Ok(())
            })
        });
    }
}

#[test]
fn a_peer_that_moves_is_answered_where_it_is() {
    for family in Family::BOTH {
        beside_wireguard_go(Wire::link(1500), false, |site| {
            site.connect(family, Initiator::FarEnd)?;
            let moved = site.wire.readdress(site.peer, &site.peer.at)?;
            site.far.meets(&site.near)?;
            site.near.meets(&site.far)?;
            let status = site.weft.get("tunnel", TUNNEL)?;
            let endpoint = status["status"]["remotes"][0]["address"].as_str().unwrap_or_default().to_owned();
            let expected = SocketAddr::new(moved.address(family), PORT).to_string();
            ensure!(endpoint == expected, "the endpoint {expected} expected: {endpoint}");
            Ok(())
        });
    }
}

#[test]
fn a_node_that_moves_is_answered_where_it_is() {
    beside_wireguard_go(Wire::link(1500), false, |site| {
        site.connect(Family::V4, Initiator::Weft)?;
        let moved = site.wire.readdress(site.weft, &site.weft.at)?;
        site.near.meets(&site.far)?;
        let endpoint = wireguard::endpoint(site.peer, &site.own.public)?;
        ensure!(endpoint.ip() == IpAddr::from(moved.v4), "{endpoint} instead of {}", moved.v4);
        Ok(())
    });
}

#[test]
fn a_persistent_keepalive_begins_and_goes_on_without_traffic() {
    beside_wireguard_go(Wire::link(1500), false, |site| {
        let known = Known { number: 2, public: &site.theirs.public, shared: None, endpoint: None };
        let mut peer = known.spec();
        peer["endpoint"] = json!(SocketAddr::new(site.peer.address(Family::V4), PORT));
        peer["persistentKeepaliveSeconds"] = json!(1);
        let spec = json!({ "listenPort": PORT, "privateKey": site.own.private, "peers": [peer] });
        site.introduce(&site.own.public, None, 0)?;
        let sniffer = Sniffer::start(site.wire, site.weft, "udp port 51820")?;
        site.weft.apply(&tunnel::link(1, PortKind::Tap, MTU, "wireguard", spec))?;
        retry_until(SOON, "a handshake that nobody asked for", || {
            let last = wireguard::last_handshake(site.peer, &site.own.public)?;
            ensure!(last > 0, "no handshake yet");
            Ok(())
        })?;
        retry_until(SOON, "keepalives", || {
            let table = site.peer.must(&format!("wg show {DEVICE} transfer"))?;
            let received = table.split_whitespace().nth(1).and_then(|octets| octets.parse::<u64>().ok());
            // The handshake's 148 octets, and 32 for each.
            ensure!(received >= Some(148 + 3 * 32), "{table}");
            Ok(())
        })?;
        let recording = sniffer.finish()?;
        let weft = site.weft.address(Family::V4);
        let sent = recording.count(&format!("wg.type == 4 && ip.src == {weft} && udp.length == 40"))?;
        ensure!(sent >= 3, "{sent} keepalives were seen");
        Ok(())
    });
}

/// Pings every 10 ms until it is stopped, while `change` is made, and wants every answer.
fn without_a_loss(from: &End<'_>, to: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut ping = from.place.spawn(&format!("ping -n -i 0.01 -W 5 {to}"))?;
    ping.wait_for("icmp_seq=20 ")?;
    change()?;
    let seen = ping.stdout().lines().filter(|line| line.contains("icmp_seq=")).count();
    ping.wait_for(&format!("icmp_seq={} ", seen + 100))?;
    ping.signal("INT")?;
    let report = ping.wait()?.stdout;
    let summary = report.lines().find(|line| line.contains(" packet loss")).context("no summary of ping")?;
    // The last one may be on its way when ping ends.
    let numbers: Vec<u64> = summary.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    ensure!(numbers[0] - numbers[1] <= 1, "{summary}");
    Ok(())
}

#[test]
fn the_far_ends_key_is_changed_without_a_lost_packet() {
    beside_wireguard_go(Wire::link(1500), false, |site| {
        site.connect(Family::V4, Initiator::FarEnd)?;
        let next = Keys::generate(&site.peer.node())?;
        let known = Known { number: 2, public: &site.theirs.public, shared: None, endpoint: None };
        let mut peer = known.spec();
        peer["nextPublicKey"] = json!(next.public);
        let spec = json!({ "listenPort": PORT, "privateKey": site.own.private, "peers": [peer] });
        without_a_loss(&site.far, &site.near.v4, || {
            site.weft.apply(&tunnel::link(1, PortKind::Tap, MTU, "wireguard", spec))?;
            wireguard::set_keys(site.peer, &next, PORT)
        })?;
        let status = site.weft.get("tunnel", TUNNEL)?;
        let used = &status["status"]["remotes"][0]["publicKey"];
        ensure!(*used == json!(next.public), "the new key {} expected: {used}", next.public);
        let known = Known { public: &next.public, ..known };
        without_a_loss(&site.far, &site.near.v4, || site.weft.apply(&manifest(1, site.own, &known)).map(drop))
    });
}

#[test]
fn a_nodes_key_is_rotated_without_a_lost_packet() {
    with_two_nodes(Family::V4, |nodes, keys| {
        let (near, far) = (container(&nodes[0], 1), container(&nodes[1], 2));
        near.meets(&far)?;
        let endpoint = Some(nodes[0].address(Family::V4));
        let known = Known { number: 1, public: &keys[0].public, shared: None, endpoint };
        let mut public = String::new();
        without_a_loss(&near, &far.v4, || {
            nodes[0].weft(&["tunnel", "rotate", TUNNEL])?.ok()?;
            let status = nodes[0].get("tunnel", TUNNEL)?;
            public = status["status"]["publicKey"].as_str().context("status.publicKey")?.to_owned();
            ensure!(public != keys[0].public, "the key is the same as before");
            let mut peer = known.spec();
            peer["nextPublicKey"] = json!(public);
            let spec = json!({ "listenPort": PORT, "privateKey": keys[1].private, "peers": [peer] });
            nodes[1].apply(&tunnel::link(2, PortKind::Tap, MTU, "wireguard", spec)).map(drop)
        })?;
        // Sessions go on as they are, so that the new key is used where one begins.
        nodes[0].kill_daemon();
        nodes[0].restart()?;
        let (near, far) = (container(&nodes[0], 1), container(&nodes[1], 2));
        retry_until(SOON, "the new key to be used", || {
            near.place.reaches(&far.v4)?;
            let status = nodes[1].get("tunnel", TUNNEL)?;
            let used = &status["status"]["remotes"][0]["publicKey"];
            ensure!(*used == json!(public), "{public} expected: {used}");
            Ok(())
        })?;
        let known = Known { public: &public, ..known };
        without_a_loss(&near, &far.v4, || {
            nodes[1].apply(&manifest(2, &keys[1], &known))?;
            nodes[0].weft(&["tunnel", "rotate", TUNNEL, "--finish"])?.ok().map(drop)
        })
    });
}

#[test]
fn a_private_key_is_never_shown() {
    with_two_nodes(Family::V4, |nodes, keys| {
        for output in ["json", "yaml"] {
            let shown = nodes[0].weft(&["get", "tunnel", TUNNEL, "-o", output])?.ok()?;
            ensure!(shown.contains(&keys[0].public), "{shown}");
            ensure!(!shown.contains(&keys[0].private), "the private key is shown");
        }
        ensure!(!nodes[0].log().contains(&keys[0].private), "the private key is logged");
        Ok(())
    });
}

#[test]
fn the_daemon_takes_its_tunnel_over_again_after_sigkill() {
    with_two_nodes(Family::V4, |nodes, _| {
        container(&nodes[0], 1).meets(&container(&nodes[1], 2))?;
        nodes[0].kill_daemon();
        nodes[0].restart()?;
        container(&nodes[0], 1).meets(&container(&nodes[1], 2))
    });
}

#[test]
fn frames_go_through_vxlan_inside_wireguard() {
    with_two_nodes(Family::V4, |nodes, keys| {
        for side in [0, 1] {
            let number = side as u8 + 1;
            let endpoint = Some(nodes[1 - side].address(Family::V4));
            let known = Known { number: 3 - number, public: &keys[1 - side].public, shared: None, endpoint };
            let mtu = MTU - 50;
            let network = json!({
                "mtu": mtu,
                "subnets": [{ "prefix": "198.18.77.0/24" }, { "prefix": "2001:db8:77::/64" }],
            });
            let addresses = [format!("198.18.77.{number}/24"), format!("2001:db8:77::{number}/64")];
            let mac = format!("02:00:00:00:02:{number:02x}");
            let mut port = json!({ "network": "stretched", "namespace": "d", "type": "tap", "mac": mac });
            port["addresses"] = json!(addresses);
            let vxlan = json!({
                "network": "stretched",
                "mtu": mtu,
                "carrier": { "router": "main" },
                "local": tunnel::on_link(number, Family::V4),
                "vxlan": { "vni": 7, "remotes": [{ "address": tunnel::on_link(3 - number, Family::V4) }] },
            });
            let manifest = manifest(number, &keys[side], &known)
                .namespace("d")
                .network("stretched", network)
                .port("d", port)
                .resource("Tunnel", "inner", vxlan);
            nodes[side].apply(&manifest)?;
        }
        let (near, far) = (stretched(&nodes[0], 1), stretched(&nodes[1], 2));
        tunnel::carries_packets(&near, &far, MTU - 50)?;
        tunnel::carries_traffic(&near, &far, 1e7)
    });
}

/// The container of node `number` on the segment inside WireGuard.
fn stretched(node: &Node, number: u8) -> End<'_> {
    let (v4, v6) = (format!("198.18.77.{number}"), format!("2001:db8:77::{number}"));
    End { place: node.container("d"), v4, v6 }
}
