//! The tables and states that people see.

use std::collections::BTreeMap;

use weft_proto::v1::{Condition, Metadata, Port, PortStatus, resource};

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
    assert!(text.contains("DROPS  MAC                MTU   VLAN  QUEUES  OFFLOADS   AGE\n"), "{text}");
    assert!(text.contains("3      02:00:00:00:00:01  1500  7     2       csum,tso4  -\n"), "{text}");
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
