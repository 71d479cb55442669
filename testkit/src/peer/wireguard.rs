//! wireguard-go, configured by `wg`: a process and its TUN device.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::Place;
use crate::node::Node;
use crate::peer;
use crate::process::Process;
use crate::wait::wait_until;

/// The device in the peer's namespace.
pub const DEVICE: &str = "wg0";
/// The port that both ends listen on, unless a test wants another.
pub const PORT: u16 = 51820;

/// A private key and its public one, in base64.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Kept by its owner.
    pub private: String,
    /// Given to peers.
    pub public: String,
}

impl Keys {
    /// New keys, by `wg`.
    pub fn generate(place: &Place<'_>) -> Result<Keys> {
        let private = place.run("wg genkey")?.ok()?.trim().to_owned();
        let public = place.spawn_with_input(&["wg", "pubkey"], Some(&private))?.wait()?.ok()?;
        Ok(Keys { private, public: public.trim().to_owned() })
    }
}

/// A new preshared key in base64, by `wg`.
pub fn preshared_key(place: &Place<'_>) -> Result<String> {
    Ok(place.run("wg genpsk")?.ok()?.trim().to_owned())
}

/// What wireguard-go knows of a peer of its own.
#[derive(Debug, Clone, Default)]
pub struct Peer<'a> {
    /// The peer's public key.
    pub public_key: &'a str,
    /// A secret that both have.
    pub preshared_key: Option<&'a str>,
    /// Where it is; `None`: it speaks first.
    pub endpoint: Option<SocketAddr>,
    /// What it may send from, and what is sent to it.
    pub allowed: &'a [&'a str],
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
}

/// A running wireguard-go. Its namespace is that of the node that it was started on.
#[derive(Debug)]
pub struct WireGuard {
    process: Process,
}

impl WireGuard {
    /// Starts the program with this private key. The device gets `addresses`, with prefix lengths.
    pub fn start(node: &Node, keys: &Keys, addresses: &[&str]) -> Result<WireGuard> {
        WireGuard::start_program(node, Path::new("wireguard-go"), &["--foreground"], keys, addresses)
    }

    /// Starts another program that `wg` configures, such as another version of wireguard-go; the device's name follows
    /// `options`.
    pub fn start_program(
        node: &Node,
        program: &Path,
        options: &[&str],
        keys: &Keys,
        addresses: &[&str],
    ) -> Result<WireGuard> {
        let name = program.to_str().context("the program's path is not UTF-8")?;
        let mut process = node.node().spawn_with_input(&[&[name], options, &[DEVICE]].concat(), None)?;
        let socket = node.path(&format!("/run/wireguard/{DEVICE}.sock"));
        let there = wait_until(Duration::from_secs(10), "the WireGuard program to start", || {
            socket.exists() || !process.is_running()
        });
        there.and_then(|()| {
            ensure!(process.is_running(), "{name} ended: {}{}", process.stdout(), process.stderr());
            Ok(())
        })?;
        set_keys(node, keys, PORT)?;
        peer::address(node, DEVICE, addresses)?;
        Ok(WireGuard { process })
    }

    /// What it has said until now.
    pub fn log(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Sets the private key and the port.
pub fn set_keys(node: &Node, keys: &Keys, port: u16) -> Result<()> {
    let file = secret(node, "private", &keys.private)?;
    node.must(&format!("wg set {DEVICE} private-key {file} listen-port {port}")).map(drop)
}

/// Adds a peer, or changes it, and the routes to what it is allowed.
pub fn set_peer(node: &Node, peer: &Peer<'_>) -> Result<()> {
    let mut line = format!("wg set {DEVICE} peer {}", peer.public_key);
    if let Some(key) = peer.preshared_key {
        line += &format!(" preshared-key {}", secret(node, "preshared", key)?);
    }
    if let Some(endpoint) = peer.endpoint {
        line += &format!(" endpoint {endpoint}");
    }
    line += &format!(" persistent-keepalive {} allowed-ips {}", peer.keepalive, peer.allowed.join(","));
    node.must(&line)?;
    for prefix in peer.allowed {
        node.must(&format!("ip route replace {prefix} dev {DEVICE}"))?;
    }
    Ok(())
}

/// Seconds since the epoch of the last handshake with a peer; 0: none yet.
pub fn last_handshake(node: &Node, public_key: &str) -> Result<u64> {
    value(node, "latest-handshakes", public_key)?.parse().context("the time of a handshake")
}

/// Where a peer is, by the last word of it that was authentic.
pub fn endpoint(node: &Node, public_key: &str) -> Result<SocketAddr> {
    value(node, "endpoints", public_key)?.parse().context("an endpoint")
}

fn value(node: &Node, what: &str, public_key: &str) -> Result<String> {
    let table = node.must(&format!("wg show {DEVICE} {what}"))?;
    let line = table.lines().find_map(|line| line.strip_prefix(public_key));
    Ok(line.with_context(|| format!("no peer {public_key}: {table}"))?.trim().to_owned())
}

/// A file of the lab with a secret in it.
fn secret(node: &Node, name: &str, secret: &str) -> Result<String> {
    let file = format!("/run/lab/{name}.key");
    fs::write(node.path(&file), secret).with_context(|| file.clone())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iperf3;
    use crate::wire::{Family, Wire};

    #[test]
    fn two_wireguard_gos_reach_each_other_over_both_families() {
        for family in Family::BOTH {
            let wire = Wire::link(1500).unwrap();
            let [a, b] = [(); 2].map(|()| Node::bare(&wire).unwrap());
            let [keys_a, keys_b] = [&a, &b].map(|node| Keys::generate(&node.node()).unwrap());
            let shared = preshared_key(&a.node()).unwrap();
            let _at_a = WireGuard::start(&a, &keys_a, &["198.18.9.1/32", "2001:db8:9::1/128"]).unwrap();
            let _at_b = WireGuard::start(&b, &keys_b, &["198.18.9.2/32", "2001:db8:9::2/128"]).unwrap();
            let known = Peer { preshared_key: Some(&shared), ..Peer::default() };
            let endpoint = Some(SocketAddr::new(b.address(family), PORT));
            let allowed: &[&str] = &["198.18.9.2/32", "2001:db8:9::2/128"];
            set_peer(&a, &Peer { public_key: &keys_b.public, endpoint, allowed, ..known.clone() }).unwrap();
            let allowed: &[&str] = &["198.18.9.1/32", "2001:db8:9::1/128"];
            set_peer(&b, &Peer { public_key: &keys_a.public, allowed, ..known }).unwrap();
            for inner in ["198.18.9.2", "2001:db8:9::2"] {
                a.node().reaches(inner).unwrap();
                iperf3::streams(&a.node(), &b.node(), inner, 1e7).unwrap();
            }
            assert!(last_handshake(&b, &keys_a.public).unwrap() > 0);
            assert_eq!(
                super::endpoint(&b, &keys_a.public).unwrap(),
                SocketAddr::new(a.address(family), PORT)
            );
        }
    }

    #[test]
    fn a_program_that_ends_is_told_with_what_it_said() {
        let wire = Wire::link(1500).unwrap();
        let node = Node::bare(&wire).unwrap();
        let keys = Keys::generate(&node.node()).unwrap();
        let error = WireGuard::start_program(&node, Path::new("false"), &[], &keys, &[]).unwrap_err();
        assert!(error.to_string().contains("false ended"), "{error:#}");
    }
}
