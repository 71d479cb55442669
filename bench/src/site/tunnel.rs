//! Two nodes on a wire with a tunnel between them, both of the same implementation, over IPv4.
//!
//! Traffic of a peer begins and ends on the tunnel's own device, so that it crosses as few devices as Weft's does, whose
//! container has a TAP device of the stack.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_testkit::peer::open_vswitch::{Gre, OpenVSwitch};
use weft_testkit::peer::vxlan;
use weft_testkit::peer::wireguard::{self, Keys, WireGuard};
use weft_testkit::tunnel::{self, CONTAINER};
use weft_testkit::{Family, Manifest, Node, Place, PortKind, Wire};

use crate::scenario::{Encapsulation, WireGuardProgram};
use crate::site::options;

/// The wire's MTU.
const UNDERLAY_MTU: u32 = 1500;
/// What every implementation uses for WireGuard by default.
const WIREGUARD_MTU: u32 = 1420;
const VXLAN_MTU: u32 = UNDERLAY_MTU - 50;
const VNI: u32 = 7;

/// Both nodes and what runs on them.
pub struct Nodes {
    // Programs end before the namespaces that they are in.
    _programs: Box<dyn Any>,
    ends: [Node; 2],
    /// The namespace on each node where traffic begins and ends; `None`: the node's own.
    container: Option<&'static str>,
    sink_host: String,
    _wire: Wire,
}

impl Nodes {
    /// The place where traffic begins (0) or ends (1).
    pub fn end(&self, side: usize) -> Place<'_> {
        match self.container {
            None => self.ends[side].node(),
            Some(name) => self.ends[side].container(name),
        }
    }

    /// The address of the sink inside the tunnel.
    pub fn sink_host(&self) -> &str {
        &self.sink_host
    }

    /// Weft on both nodes.
    pub fn weft(encapsulation: Encapsulation, port: PortKind) -> Result<Nodes> {
        let wire = Wire::link(UNDERLAY_MTU)?;
        let ends = [Node::start(&wire, &options())?, Node::start(&wire, &options())?];
        let keys = [Keys::generate(&ends[0].node())?, Keys::generate(&ends[1].node())?];
        for side in [0, 1] {
            let number = side as u8 + 1;
            let remote = ends[1 - side].address(Family::V4);
            let manifest = match encapsulation {
                Encapsulation::Vxlan => {
                    let vxlan = json!({ "vni": VNI, "remotes": [{ "address": remote }] });
                    tunnel::segment(number, port, VXLAN_MTU, "vxlan", vxlan)
                }
                Encapsulation::Gretap => {
                    let mtu = UNDERLAY_MTU - Gre::plain(remote).overhead();
                    tunnel::segment(number, port, mtu, "gretap", json!({ "remote": remote }))
                }
                Encapsulation::WireGuard => {
                    wireguard_manifest(number, port, remote, &keys[side], &keys[1 - side])
                }
            };
            ends[side].apply(&manifest)?;
        }
        let sink_host = match encapsulation {
            Encapsulation::WireGuard => tunnel::behind_link(2, Family::V4),
            Encapsulation::Vxlan | Encapsulation::Gretap => tunnel::on_segment(2, Family::V4),
        };
        Ok(Nodes { _programs: Box::new(()), ends, container: Some(CONTAINER), sink_host, _wire: wire })
    }

    /// The kernel's vxlan device on both nodes.
    pub fn kernel_vxlan() -> Result<Nodes> {
        let (wire, ends) = bare()?;
        for side in [0, 1] {
            let [local, remote] = [side, 1 - side].map(|end: usize| ends[end].address(Family::V4));
            let own = tunnel::on_segment(side as u8 + 1, Family::V4) + "/24";
            vxlan::add(&ends[side], VNI, local, &[remote], &[&own])?;
        }
        Ok(Nodes::of_peer(wire, ends, tunnel::on_segment(2, Family::V4), ()))
    }

    /// Open vSwitch with GRE on both nodes.
    pub fn open_vswitch() -> Result<Nodes> {
        let (wire, ends) = bare()?;
        let running = [OpenVSwitch::start(&wire, &ends[0])?, OpenVSwitch::start(&wire, &ends[1])?];
        for side in [0, 1] {
            let gre = Gre::plain(ends[1 - side].address(Family::V4));
            let own = tunnel::on_segment(side as u8 + 1, Family::V4) + "/24";
            running[side].gre(&ends[side], &gre, UNDERLAY_MTU, &[&own])?;
        }
        Ok(Nodes::of_peer(wire, ends, tunnel::on_segment(2, Family::V4), running))
    }

    /// A WireGuard program on both nodes.
    pub fn wireguard(program: &WireGuardProgram) -> Result<Nodes> {
        let path = find(program.file)?;
        let (wire, ends) = bare()?;
        let keys = [Keys::generate(&ends[0].node())?, Keys::generate(&ends[1].node())?];
        let own = |side: usize| tunnel::on_link(side as u8 + 1, Family::V4) + "/32";
        let start = |side: usize| {
            WireGuard::start_program(&ends[side], &path, program.options, &keys[side], &[&own(side)])
        };
        let running = [start(0)?, start(1)?];
        for side in [0, 1] {
            let remote = &ends[1 - side];
            let peer = wireguard::Peer {
                public_key: &keys[1 - side].public,
                endpoint: Some(SocketAddr::new(remote.address(Family::V4), wireguard::PORT)),
                allowed: &[&own(1 - side)],
                ..wireguard::Peer::default()
            };
            wireguard::set_peer(&ends[side], &peer)?;
            ends[side].must(&format!("ip link set {} mtu {WIREGUARD_MTU}", wireguard::DEVICE))?;
        }
        Ok(Nodes::of_peer(wire, ends, tunnel::on_link(2, Family::V4), running))
    }

    fn of_peer(wire: Wire, ends: [Node; 2], sink_host: String, programs: impl Any) -> Nodes {
        Nodes { _programs: Box::new(programs), ends, container: None, sink_host, _wire: wire }
    }
}

fn bare() -> Result<(Wire, [Node; 2])> {
    let wire = Wire::link(UNDERLAY_MTU)?;
    let ends = [Node::bare(&wire)?, Node::bare(&wire)?];
    Ok((wire, ends))
}

fn wireguard_manifest(number: u8, port: PortKind, remote: IpAddr, own: &Keys, other: &Keys) -> Manifest {
    let peer = json!({
        "publicKey": other.public,
        "endpoint": SocketAddr::new(remote, wireguard::PORT),
        "allowedPrefixes": tunnel::prefixes(3 - number),
    });
    let spec = json!({ "listenPort": wireguard::PORT, "privateKey": own.private, "peers": [peer] });
    tunnel::link(number, port, WIREGUARD_MTU, "wireguard", spec)
}

/// Where `scripts/bench-peers` puts programs.
pub fn folder() -> PathBuf {
    std::env::var_os("WEFT_BENCH_PEERS").map_or("target/bench/peers/bin".into(), PathBuf::from)
}

/// A program of `scripts/bench-peers`.
pub fn find(file: &str) -> Result<PathBuf> {
    let path = folder().join(file);
    ensure!(path.is_file(), "{} is missing; run scripts/bench-peers all", path.display());
    path.canonicalize().with_context(|| path.display().to_string())
}
