//! A Tunnel's status as the API shows it: what is known by the wish, and what the packet side tells.

use std::time::SystemTime;

use weft_proto::v1;

use super::resource::named;
use crate::dataplane::{EndReport, TunnelReport};
use crate::model::{Tunnel, TunnelForm, TunnelKeys};

/// The status but for conditions and generation. `mtu` is what it was set up with.
pub(super) fn status(
    tunnel: &Tunnel,
    keys: Option<&TunnelKeys>,
    mtu: u32,
    report: Option<TunnelReport>,
) -> v1::TunnelStatus {
    let report = report.unwrap_or_default();
    let mut public = keys.map(|keys| keys.public().iter().map(ToString::to_string)).into_iter().flatten();
    let mut ends = report.ends.into_iter();
    let local = report.local.or(tunnel.local);
    v1::TunnelStatus {
        mtu: report.mtu.map_or(mtu, |known| known.min(mtu)),
        public_key: public.next().unwrap_or_default(),
        previous_public_keys: public.collect(),
        listen_port: listen_port(tunnel),
        local: local.map(|address| address.to_string()).unwrap_or_default(),
        drops: named(report.drops),
        remotes: wished(tunnel).into_iter().map(|wish| remote(wish, ends.next())).collect(),
        ..Default::default()
    }
}

fn listen_port(tunnel: &Tunnel) -> u32 {
    match &tunnel.form {
        TunnelForm::Vxlan { vxlan, .. } => vxlan.port.get().into(),
        TunnelForm::WireGuard { wireguard, .. } => wireguard.listen_port.get().into(),
        TunnelForm::Gre { .. } | TunnelForm::Gretap { .. } => 0,
    }
}

/// The far ends as far as the wish tells of them.
fn wished(tunnel: &Tunnel) -> Vec<v1::TunnelRemote> {
    let Some(wireguard) = tunnel.wireguard() else {
        let addresses = tunnel.remotes().into_iter().flatten();
        return addresses
            .map(|address| v1::TunnelRemote { address: address.to_string(), ..Default::default() })
            .collect();
    };
    let peers = wireguard.peers.iter().map(|peer| v1::TunnelRemote {
        name: peer.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        address: peer.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        public_key: peer.public_key.to_string(),
        ..Default::default()
    });
    peers.collect()
}

fn remote(wish: v1::TunnelRemote, report: Option<EndReport>) -> v1::TunnelRemote {
    let Some(report) = report else { return wish };
    v1::TunnelRemote {
        name: wish.name,
        address: report.endpoint.map_or(wish.address, |endpoint| endpoint.to_string()),
        public_key: report.public_key.map_or(wish.public_key, |key| key.to_string()),
        last_handshake: report.last_handshake.map(SystemTime::into),
        handshakes: report.handshakes,
        rx_packets: report.rx_packets,
        rx_bytes: report.rx_bytes,
        tx_packets: report.tx_packets,
        tx_bytes: report.tx_bytes,
        path_mtu: report.path_mtu.unwrap_or(0),
        drops: named(report.drops),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use weft_stack::tunnel::wireguard::PrivateKey;

    use super::*;
    use crate::fixture::{BASE, fabric, object};

    const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    const NEXT: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";

    fn tunnel(spec: &str) -> Tunnel {
        fabric(&format!("{BASE}{}", object("Tunnel", "t", spec))).tunnels["t"].spec.clone()
    }

    #[test]
    fn what_the_packet_side_tells_goes_before_the_wish() {
        let spec = format!(
            "  router: core\n  wireguard: {{listenPort: 7, peers: [{{name: a, publicKey: '{KEY}', endpoint: '192.0.2.2:1'}}]}}"
        );
        let tunnel = tunnel(&spec);
        let keys = TunnelKeys::new(PrivateKey::new([1; 32]), vec![PrivateKey::new([2; 32])], BTreeMap::new());
        let wished = status(&tunnel, Some(&keys), 1440, None);
        assert_eq!((wished.mtu, wished.listen_port, wished.local.as_str()), (1440, 7, ""));
        assert_eq!(wished.public_key, PrivateKey::new([1; 32]).public_key().to_string());
        assert_eq!(wished.previous_public_keys, [PrivateKey::new([2; 32]).public_key().to_string()]);
        let peer = &wished.remotes[0];
        assert_eq!((&*peer.name, &*peer.address, &*peer.public_key), ("a", "192.0.2.2:1", KEY));
        let end = EndReport {
            endpoint: Some("[2001:db8::9]:5".parse().unwrap()),
            public_key: Some(NEXT.parse().unwrap()),
            last_handshake: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7)),
            rx_bytes: 3,
            drops: vec![("replayed", 2)],
            ..Default::default()
        };
        let report = TunnelReport {
            mtu: Some(1300),
            local: Some("192.0.2.1".parse().unwrap()),
            ends: vec![end],
            drops: vec![("packet_too_big", 4)],
        };
        let told = status(&tunnel, None, 1440, Some(report));
        assert_eq!(told.drops["packet_too_big"], 4);
        assert_eq!((told.mtu, told.local.as_str(), told.public_key.as_str()), (1300, "192.0.2.1", ""));
        let peer = &told.remotes[0];
        assert_eq!((&*peer.name, &*peer.address, &*peer.public_key), ("a", "[2001:db8::9]:5", NEXT));
        assert_eq!((peer.last_handshake.unwrap().seconds, peer.rx_bytes, peer.drops["replayed"]), (7, 3, 2));
    }

    #[test]
    fn far_ends_of_other_tunnels_are_their_addresses() {
        let spec = "  network: front\n  local: 192.0.2.1\n  vxlan: {vni: 7, remotes: [{address: 192.0.2.2}, {address: 192.0.2.3}]}";
        let told = status(&tunnel(spec), None, 1450, None);
        let addresses: Vec<_> = told.remotes.iter().map(|it| it.address.as_str()).collect();
        assert_eq!(addresses, ["192.0.2.2", "192.0.2.3"]);
        assert_eq!((told.listen_port, told.local.as_str()), (4789, "192.0.2.1"));
    }
}
