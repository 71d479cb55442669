//! WireGuard's part of a Tunnel, but for the secrets, which are taken out before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU16;

use weft_proto::v1;
use weft_stack::Prefix;
use weft_stack::tunnel::wireguard::PublicKey;

use super::{prefixes, udp_port};
use crate::model::parse::unicast;
use crate::model::violation::Findings;
use crate::model::{Name, Peer, WireGuard};

/// What wg-quick's examples use, for want of an assigned one.
const LISTEN_PORT: NonZeroU16 = NonZeroU16::new(51820).unwrap();

/// What the peers read so far have taken.
#[derive(Default)]
struct Taken {
    keys: BTreeSet<PublicKey>,
    names: BTreeSet<Name>,
    /// With the position of the peer.
    allowed: BTreeMap<Prefix, usize>,
}

pub(super) fn parse(message: &v1::WireGuard, findings: &mut Findings<'_>) -> WireGuard {
    let listen_port = udp_port("spec.wireguard.listenPort", message.listen_port, LISTEN_PORT, findings);
    let mut taken = Taken::default();
    let peers = message.peers.iter().enumerate();
    let peers = peers.filter_map(|(index, message)| peer(index, message, &mut taken, findings)).collect();
    WireGuard { listen_port, peers }
}

fn peer(
    index: usize,
    message: &v1::WireGuardPeer,
    taken: &mut Taken,
    findings: &mut Findings<'_>,
) -> Option<Peer> {
    let path = |field: &str| format!("spec.wireguard.peers[{index}].{field}");
    let name = match message.name.as_str() {
        "" => None,
        text => findings.value(&path("name"), Name::new(text)),
    };
    if let Some(name) = name.as_ref().filter(|name| !taken.names.insert((*name).clone())) {
        findings.add(&path("name"), format_args!("\"{name}\" is given twice"));
    }
    let endpoint = match message.endpoint.as_str() {
        "" => None,
        text => findings.value(&path("endpoint"), endpoint(text)),
    };
    let allowed = prefixes(&path("allowedPrefixes"), &message.allowed_prefixes, findings);
    for (position, prefix) in allowed.iter().enumerate() {
        let before = *taken.allowed.entry(*prefix).or_insert(index);
        if before != index {
            let path = path(&format!("allowedPrefixes[{position}]"));
            findings
                .add(&path, format_args!("{prefix} is allowed to spec.wireguard.peers[{before}] already"));
        }
    }
    let seconds = message.persistent_keepalive_seconds;
    let keepalive =
        u16::try_from(seconds).map_err(|_| format!("{seconds} is out of range, 0 to 65535 expected"));
    let keepalive = findings.value(&path("persistentKeepaliveSeconds"), keepalive);
    let public_key = match message.public_key.as_str() {
        "" => {
            findings.add(&path("publicKey"), "not given, the key of the peer in Base64 expected");
            None
        }
        text => key(&path("publicKey"), text, taken, findings),
    };
    let next_public_key = match message.next_public_key.as_str() {
        "" => None,
        text => key(&path("nextPublicKey"), text, taken, findings),
    };
    let (public_key, keepalive) = (public_key?, keepalive?);
    Some(Peer { name, public_key, next_public_key, endpoint, allowed, keepalive })
}

/// A key that no other peer has.
fn key(path: &str, text: &str, taken: &mut Taken, findings: &mut Findings<'_>) -> Option<PublicKey> {
    let key = findings.value(path, text.parse::<PublicKey>())?;
    if !taken.keys.insert(key) {
        findings.add(path, format_args!("{key} is given twice"));
    }
    Some(key)
}

fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let Ok(endpoint) = text.parse::<SocketAddr>() else {
        let such = "ADDRESS:PORT or [ADDRESS]:PORT, such as 192.0.2.2:51820 or [2001:db8::2]:51820, expected";
        return Err(format!("\"{}\" is not an endpoint, {such}", text.escape_debug()));
    };
    unicast(&endpoint.ip().to_string())?;
    match endpoint.port() {
        0 => Err(format!("{endpoint} has no port, 1 to 65535 expected")),
        _ => Ok(endpoint),
    }
}
