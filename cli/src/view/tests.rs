//! The tables and states that people see.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use weft_proto::v1::{Condition, Metadata, Port, PortStatus, Tunnel, TunnelRemote, TunnelStatus, resource};

use super::*;
use crate::output::tests::captured;

fn resources(text: &str) -> Vec<Resource> {
    weft_proto::manifest::parse(text, "-").unwrap()
}

fn port() -> Resource {
    let text = "{apiVersion: weft.dev/v1, kind: Port, metadata: {name: web}, spec: {network: blue, namespace: a, \
                type: tap, addresses: [198.18.1.10/24, '2001:db8:1::10/64'], vlan: 7}}";
    let mut resource = resources(text).remove(0);
    let Some(resource::Kind::Port(Port { status, .. })) = &mut resource.kind else { panic!() };
    *status = Some(PortStatus {
        conditions: vec![Condition { r#type: "Ready".into(), status: true, ..Default::default() }],
        device: "eth0".into(),
        mac: "02:00:00:00:00:01".into(),
        mtu: 1500,
        offloads: vec!["csum".into(), "tso4".into()],
        queues: 2,
        counters: Some(PortCounters {
            rx_packets: 1_234_567,
            tx_packets: 12,
            drops: BTreeMap::from([("a".into(), 1), ("b".into(), 2)]),
            ..Default::default()
        }),
        ..Default::default()
    });
    resource
}

fn printed(kind: Kind, resource: &Resource, wide: bool, qualified: bool) -> String {
    captured(false, |output| table(kind, &[resource], wide, qualified).write(output))
}

#[test]
fn a_port_is_seen_at_a_glance() {
    assert_eq!(
        printed(Kind::Port, &port(), false, false),
        "NAME  NETWORK  NAMESPACE  TYPE  DEVICE  ADDRESSES                         STATE  RX    TX  DROPS\n\
         web   blue     a          tap   eth0    198.18.1.10/24,2001:db8:1::10/64  Ready  1.2M  12  3\n"
    );
}

#[test]
fn a_wide_port_tells_its_device_too() {
    let text = printed(Kind::Port, &port(), true, false);
    assert!(
        text.contains("DROPS  CONTAINER  MAC                MTU   VLAN  QUEUES  OFFLOADS   AGE\n"),
        "{text}"
    );
    assert!(
        text.contains("3      -          02:00:00:00:00:01  1500  7     2       csum,tso4  -\n"),
        "{text}"
    );
}

#[test]
fn a_network_without_status_shows_its_wish_and_defaults() {
    let text = "{apiVersion: weft.dev/v1, kind: Network, metadata: {name: blue}, spec: {router: r, subnets: \
                [{prefix: 198.18.1.0/24, gateway: 198.18.1.1}, {prefix: '2001:db8:1::/64'}]}}";
    assert_eq!(
        printed(Kind::Network, &resources(text)[0], false, true),
        "NAME          ROUTER  SUBNETS                        GATEWAYS    MTU   PORTS  MACS  NEIGHBORS  STATE\n\
         network/blue  r       198.18.1.0/24,2001:db8:1::/64  198.18.1.1  1500  0      0     0          Pending\n"
    );
}

#[test]
fn every_kind_has_a_table() {
    for kind in Kind::ALL {
        let text = format!("{{apiVersion: weft.dev/v1, kind: {}, metadata: {{name: x}}}}", kind.name());
        for wide in [false, true] {
            assert_eq!(printed(kind, &resources(&text)[0], wide, false).lines().count(), 2);
        }
    }
}

#[test]
fn the_state_is_the_reason_when_something_is_wrong() {
    let mut resource = port();
    assert_eq!((state(&resource).0, not_ready(&resource)), ("Ready".into(), None));
    let Some(resource::Kind::Port(Port { status: Some(status), .. })) = &mut resource.kind else { panic!() };
    status.conditions[0] = Condition {
        r#type: "Ready".into(),
        reason: "NamespaceMissing".into(),
        message: "/proc/42/ns/net does not exist".into(),
        ..Default::default()
    };
    assert_eq!(state(&resource), ("NamespaceMissing".into(), Tone::Bad));
    assert_eq!(not_ready(&resource).unwrap(), "NamespaceMissing: /proc/42/ns/net does not exist");
    resource.metadata = Some(Metadata { deleting: Some(Default::default()), ..Default::default() });
    assert_eq!(state(&resource).0, "Deleting");
}

fn wireguard() -> Resource {
    let text =
        "{apiVersion: weft.dev/v1, kind: Tunnel, metadata: {name: wg}, spec: {router: core, wireguard: {}}}";
    let mut resource = resources(text).remove(0);
    let Some(resource::Kind::Tunnel(Tunnel { status, .. })) = &mut resource.kind else { panic!() };
    let half_an_hour_and = |days: u64| SystemTime::now() - Duration::from_secs(days * 86_400 + 1800);
    let end = |name: &str, days| TunnelRemote {
        name: name.into(),
        address: "192.0.2.2:51820".into(),
        last_handshake: Some(half_an_hour_and(days).into()),
        rx_bytes: 1024,
        tx_bytes: 7,
        ..Default::default()
    };
    *status = Some(TunnelStatus {
        conditions: vec![Condition { r#type: "Ready".into(), status: true, ..Default::default() }],
        mtu: 1440,
        listen_port: 51820,
        remotes: vec![
            end("far", 5),
            end("", 3),
            TunnelRemote { public_key: "0123456789".into(), ..Default::default() },
        ],
        ..Default::default()
    });
    resource
}

#[test]
fn a_tunnel_is_seen_at_a_glance() {
    assert_eq!(
        printed(Kind::Tunnel, &wireguard(), false, false),
        "NAME  KIND       JOINS        FAR-ENDS                      STATE  HANDSHAKE  RX     TX\n\
         wg    wireguard  router/core  far,192.0.2.2:51820,01234567  Ready  3d0h ago   2.0Ki  14\n"
    );
    let wide = printed(Kind::Tunnel, &wireguard(), true, false);
    assert!(wide.contains("MTU   LOCAL  PORT   PUBLIC-KEY  DROPS  AGE\n"), "{wide}");
}

#[test]
fn tunnels_are_called_by_what_tells_them_apart() {
    let told = |spec: &str| {
        let text =
            format!("{{apiVersion: weft.dev/v1, kind: Tunnel, metadata: {{name: t}}, spec: {{{spec}}}}}");
        let (spec, _) = tunnel(&resources(&text)[0]);
        format!("{} {}", word(&spec), joins(&spec))
    };
    assert_eq!(told("network: front, vlan: 7, vxlan: {vni: 0}"), "vxlan 0 network/front@7");
    assert_eq!(told("network: front, gretap: {}"), "gretap network/front");
    assert_eq!(told("router: core, gre: {key: 9}"), "gre 9 router/core");
    assert_eq!(told(""), " ");
}
